"""TensorFlow Lite, now LiteRT: the engine of phones and boards."""

from __future__ import annotations

import dataclasses
import warnings
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any, ClassVar

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact

__all__ = ["TfLite"]


@dataclass(frozen=True, slots=True)
class TfLite:
    """Convert to a .tflite file in float32 for one example at a time, by Google's LiteRT Torch, without TensorFlow.

    ``threads`` are those of one operator (0: one a core).
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "tflite"
    kind: ClassVar[str] = "engine"
    threads: int = 0

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise InvalidInput(f"tflite: threads must be 0 (one a core) or more, got {self.threads}")

    @staticmethod
    @cache
    def missing() -> str:
        """What this machine lacks, for the pass to be left out of the space; empty where it lacks nothing."""
        lacking = next((name for name in ("litert_torch", "ai_edge_litert") if find_spec(name) is None), "")
        return f"{lacking} is not installed: pip install 'steelyard[tflite]'" if lacking else ""

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write ``model.tflite``. Raises `CannotApply` with the converter's reason, naming the operator and its layer."""
        try:
            converter = import_module("litert_torch")
        except ImportError:
            raise MissingExtra("tflite", needed_for="converting to TensorFlow Lite") from None
        from steelyard.passes.modules import module_of, outputs_of

        module = module_of(source)
        outputs = outputs_of(module, bench.examples)
        converted = _convert(converter, module, bench)
        converted.export(str(bench.folder / "model.tflite"))
        options: dict[str, Scalar] = {"threads": self.threads} if self.threads else {}
        artifact = dataclasses.replace(
            source, folder=bench.folder, engine="tflite", file="model.tflite", options=options, spec=None
        )
        return Built(artifact=artifact, outputs=outputs, tolerance=1e-3)


def _convert(converter: Any, module: Any, bench: Bench) -> Any:
    import torch

    from steelyard.passes.modules import export_program, where_used

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return converter.convert(module, (torch.from_numpy(bench.examples[:1]),))
    except Exception as error:  # the converter raises what PyTorch, MLIR and itself raise
        where = where_used(export_program(module, bench.examples), str(error))
        reason = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise CannotApply(f"LiteRT Torch cannot convert this model: {reason[:250]}{where}") from error
