"""ONNX: the exchange format, run by ONNX Runtime with its graph optimisations (folding, fusion, layout)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import warnings
from dataclasses import dataclass
from typing import ClassVar

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.subject.artifact import Artifact

__all__ = ["Onnx"]


@dataclass(frozen=True, slots=True)
class Onnx:
    """Export to ONNX in float32 with an open batch axis."""

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "onnxruntime"
    kind: ClassVar[str] = "engine"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write ``model.onnx``."""
        try:
            import onnxscript  # noqa: F401  (torch's exporter needs it)
        except ImportError:
            raise MissingExtra("onnx", needed_for="exporting to ONNX") from None
        import torch

        from steelyard.passes.modules import export_program, module_of, outputs_of, where_used

        module = module_of(source)
        outputs = outputs_of(module, bench.examples)
        program = export_program(module, bench.examples)
        try:
            with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                exported = torch.onnx.export(program, dynamo=True, verbose=False)
        except torch.onnx.errors.OnnxExporterError as error:
            reason = _reason(error) + where_used(program, str(error))
            raise CannotApply(f"the ONNX exporter does not support this model: {reason}") from error
        assert exported is not None
        exported.save(bench.folder / "model.onnx")
        artifact = dataclasses.replace(
            source, folder=bench.folder, engine="onnxruntime", file="model.onnx", options={}, spec=None
        )
        return Built(artifact=artifact, outputs=outputs, tolerance=1e-3)


def _reason(error: BaseException) -> str:
    """What went wrong in the first place: the exporter wraps it in what it was doing and in advice to its developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).splitlines()[0][:250]
