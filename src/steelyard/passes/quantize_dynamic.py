"""INT8 weights, with activation ranges taken while running (ONNX Runtime)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.passes.options import check_words, names_in
from steelyard.passes.quantize_static import narrow_note, narrows
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["QuantizeDynamic"]


@dataclass(frozen=True, slots=True)
class QuantizeDynamic:
    """Matrix products in INT8 without calibration; for models of linear layers and attention.

    ``exclude`` names layers, with commas between, that stay in fp32; ``narrow`` is as in `QuantizeStatic`.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "int8"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"per_channel": (True, False)}
    per_channel: bool = True
    narrow: Literal["auto", "on", "off"] = "auto"
    exclude: str = ""

    def __post_init__(self) -> None:
        check_words("quantize_dynamic", self)

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the quantised ``model.onnx``."""
        try:
            import onnx
            from onnxruntime import quantization as quant
        except ImportError:
            raise MissingExtra("onnx", needed_for="ONNX Runtime quantisation") from None
        from steelyard.passes.onnx_graph import read_graph

        model = read_graph(source.path)
        if not {"MatMul", "Gemm"} & {node.op_type for node in model.graph.node}:
            raise CannotApply("dynamic quantisation acts on matrix products, and this model has none")
        logging.getLogger().setLevel(logging.ERROR)
        names = [node.name for node in model.graph.node]
        graph, target = bench.folder / "named.onnx", bench.folder / "model.onnx"
        del model.graph.value_info[:]  # PyTorch's exporter gives weights a shape, which the quantiser transposes
        onnx.save(model, str(graph))
        quant.quantize_dynamic(
            str(graph),
            str(target),
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=self.per_channel,
            reduce_range=narrows(self.narrow),
            weight_type=quant.QuantType.QInt8,
            nodes_to_exclude=list(names_in("quantize_dynamic", self.exclude, names)),
        )
        graph.unlink()
        notes = (*source.notes, narrow_note(narrows(self.narrow)))
        artifact = dataclasses.replace(source, folder=bench.folder, file=target.name, notes=notes)
        return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-3)
