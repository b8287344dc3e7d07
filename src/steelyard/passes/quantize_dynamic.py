"""INT8 weights, with activation ranges taken while running (ONNX Runtime)."""

from __future__ import annotations

import dataclasses
import logging
from dataclasses import dataclass
from typing import ClassVar

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.passes.quantize_static import saturates
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["QuantizeDynamic"]


@dataclass(frozen=True, slots=True)
class QuantizeDynamic:
    """Matrix products in INT8 without calibration; for models of linear layers and attention."""

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "int8"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the quantised ``model.onnx``."""
        try:
            import onnx
            from onnxruntime import quantization as quant
        except ImportError:
            raise MissingExtra("onnx", needed_for="ONNX Runtime quantisation") from None
        operators = {node.op_type for node in onnx.load(source.path, load_external_data=False).graph.node}
        if not operators & {"MatMul", "Gemm"}:
            raise CannotApply("dynamic quantisation acts on matrix products, and this model has none")
        logging.getLogger().setLevel(logging.ERROR)
        target = bench.folder / "model.onnx"
        quant.quantize_dynamic(
            str(source.path),
            str(target),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=saturates(),
            weight_type=quant.QuantType.QInt8,
        )
        artifact = dataclasses.replace(source, folder=bench.folder, file=target.name, options={})
        return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-3)
