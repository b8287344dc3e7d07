"""Weights in 8 or 4 bits, activations and arithmetic as they were: for models whose weights are what moves."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.passes.options import check_words
from steelyard.privacy import decline_telemetry
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["WeightOnly"]

GROUP = 32  # weights that share a scale where none is given and blocks are needed


@dataclass(frozen=True, slots=True)
class WeightOnly:
    """Store weights as integers with a scale for each ``group`` of inputs (0: one for each output where the engine can).

    OpenVINO takes convolutions and matrix products (NNCF), ONNX Runtime matrix products (MatMulNBits), PyTorch linear layers
    in 8 bits (torchao). The integers are widened as they are read, so what becomes faster is reading them.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "onnxruntime", "openvino"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "weight-only"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"bits": (8, 4)}
    bits: Literal[8, 4] = 8
    group: int = 0

    def __post_init__(self) -> None:
        check_words("weight_only", self)
        if self.group and (self.group < 16 or self.group & (self.group - 1)):
            raise InvalidInput(f"weight_only: group must be 0 or a power of two from 16, got {self.group}")

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the model with its weights compressed. Raises `CannotApply` where it has none that can be."""
        return {"openvino": self._openvino, "onnxruntime": self._onnx}.get(source.engine, self._module)(source, bench)

    def _openvino(self, source: Artifact, bench: Bench) -> Built:
        decline_telemetry()
        try:
            import nncf
            import openvino
        except ImportError:
            raise MissingExtra("openvino", needed_for="compressing weights with NNCF") from None
        nncf.set_log_level(logging.ERROR)
        modes = nncf.CompressWeightsMode
        four: dict[str, Any] = {"group_size": self.group or GROUP, "all_layers": True, "ratio": 1.0}
        model = openvino.Core().read_model(source.path)
        try:
            compressed = nncf.compress_weights(
                model, mode=modes.INT8_ASYM if self.bits == 8 else modes.INT4_ASYM, **(four if self.bits == 4 else {})
            )
        except Exception as error:  # nncf raises its own kinds
            raise CannotApply(f"NNCF cannot compress these weights: {str(error).splitlines()[0][:250]}") from error
        openvino.save_model(compressed, bench.folder / "model.xml", compress_to_fp16=False)
        return _reloaded(source, bench, "model.xml")

    def _onnx(self, source: Artifact, bench: Bench) -> Built:
        try:
            import onnx
            from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer
        except ImportError:
            raise MissingExtra("onnx", needed_for="weights in blocks") from None
        from steelyard.passes.onnx_graph import products_only, read_graph

        logging.getLogger().setLevel(logging.ERROR)
        quantiser = MatMulNBitsQuantizer(
            products_only(read_graph(source.path)), bits=self.bits, block_size=self.group or GROUP, is_symmetric=False
        )
        quantiser.process()
        if not any(node.op_type == "MatMulNBits" for node in quantiser.model.model.graph.node):
            raise CannotApply("ONNX Runtime keeps weights of matrix products in few bits, and this model has none")
        onnx.save(quantiser.model.model, bench.folder / "model.onnx")
        return _reloaded(source, bench, "model.onnx")

    def _module(self, source: Artifact, bench: Bench) -> Built:
        if self.bits == 4:
            raise CannotApply(
                "torchao's kernels for 4-bit weights are for GPUs: on a processor use weight_only after onnx or openvino"
            )
        try:
            from torchao.quantization import Int8WeightOnlyConfig, quantize_
        except ImportError:
            raise MissingExtra("train", needed_for="8-bit weights in PyTorch (torchao)") from None
        from torch import nn

        from steelyard.passes.modules import Packed, module_of, save_module

        module = module_of(source)
        linear = [name for name, layer in module.named_modules() if type(layer) is nn.Linear]
        if not linear:
            raise CannotApply("torchao keeps the weights of linear layers in 8 bits, and this model has none")
        quantize_(module, Int8WeightOnlyConfig(set_inductor_config=False))
        for name in linear:
            module.set_submodule(name, Packed(module.get_submodule(name)))
        return save_module(module, source, bench, tolerance=1e-3)


def _reloaded(source: Artifact, bench: Bench, file: str) -> Built:
    artifact = dataclasses.replace(source, folder=bench.folder, file=file)
    return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-3)
