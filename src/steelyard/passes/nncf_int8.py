"""INT8 through NNCF: post-training quantisation of an OpenVINO model, with bias correction."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from steelyard.errors import MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["NncfInt8"]


@dataclass(frozen=True, slots=True)
class NncfInt8:
    """Weights and activations in INT8, calibrated on training data.

    ``performance`` quantises activations symmetrically, ``mixed`` asymmetrically, which keeps more of the quality
    behind activations other than ReLU.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"openvino"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "int8"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"preset": ("performance", "mixed")}
    preset: Literal["performance", "mixed"] = "performance"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the quantised ``model.xml`` and ``model.bin``."""
        try:
            import nncf
            import openvino
        except ImportError:
            raise MissingExtra("openvino", needed_for="quantising with NNCF") from None
        inputs = bench.calibration(source.contract)
        nncf.set_log_level(logging.ERROR)
        quantised = nncf.quantize(
            openvino.Core().read_model(source.path),
            nncf.Dataset([row[None] for row in inputs]),
            preset=nncf.QuantizationPreset(self.preset),
            subset_size=len(inputs),
        )
        openvino.save_model(quantised, bench.folder / "model.xml", compress_to_fp16=False)
        artifact = dataclasses.replace(source, folder=bench.folder, file="model.xml")
        return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-3)
