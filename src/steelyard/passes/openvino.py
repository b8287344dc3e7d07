"""OpenVINO: Intel's engine, with its own graph compiler."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["OpenVino"]


@dataclass(frozen=True, slots=True)
class OpenVino:
    """Convert to OpenVINO IR, computing in ``f32`` or ``bf16``; weights are stored in float32 either way."""

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch", "onnxruntime", "openvino"})
    gives: ClassVar[str] = "openvino"
    kind: ClassVar[str] = "engine"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"precision": ("f32", "bf16")}
    precision: Literal["f32", "bf16"] = "f32"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write ``model.xml`` and ``model.bin``."""
        try:
            import openvino
        except ImportError:
            raise MissingExtra("openvino", needed_for="converting to OpenVINO") from None
        model = _convert(source, bench)
        openvino.save_model(model, bench.folder / "model.xml", compress_to_fp16=False)
        artifact = dataclasses.replace(
            source,
            folder=bench.folder,
            engine="openvino",
            file="model.xml",
            options={"precision": self.precision},
            spec=None,
        )
        reference = load_runner(source if self.precision == "f32" else artifact)
        tolerance = 1e-3 if self.precision == "f32" else 5e-2
        return Built(artifact=artifact, outputs=reference(bench.examples), tolerance=tolerance)


def _convert(source: Artifact, bench: Bench) -> Any:
    import openvino

    if source.engine in ("onnxruntime", "openvino"):
        return openvino.Core().read_model(source.path)
    from steelyard.passes.modules import export_program, module_of

    try:
        model = openvino.convert_model(export_program(module_of(source), bench.examples))
        model.reshape([-1, *source.contract.shape])  # the converter opens every axis; only the batch is open
    except (openvino.frontend.OpConversionFailure, RuntimeError) as error:
        raise CannotApply(f"OpenVINO cannot convert this model: {str(error).splitlines()[-1][:250]}") from error
    return model
