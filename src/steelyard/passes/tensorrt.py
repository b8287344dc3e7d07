"""TensorRT: NVIDIA's graph compiler, through ONNX Runtime's execution provider."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import ClassVar, Literal

from steelyard.errors import CannotApply
from steelyard.passes.bench import Bench, Built
from steelyard.passes.onnx_optimise import copy_model
from steelyard.passes.options import check_words
from steelyard.probe.engines import provider
from steelyard.records import Scalar, Unavailable
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["TensorRt"]


@dataclass(frozen=True, slots=True)
class TensorRt:
    """Compile at load time for the GPU that is there, and keep the engine beside the model where the folder may be written.

    ``fp16`` lets it compute in half precision. A graph whose weights and activations are quantised already, symmetrically and
    with signs (`QuantizeStatic` with ``activations=int8, symmetric=True``), runs in INT8. What TensorRT cannot take runs by
    CUDA, and what CUDA cannot on the processor.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "compile"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"precision": ("fp32", "fp16")}
    precision: Literal["fp32", "fp16"] = "fp32"

    def __post_init__(self) -> None:
        check_words("tensorrt", self)

    @staticmethod
    @cache
    def missing() -> str:
        """What this machine lacks, for the pass to be left out of the space; empty where it lacks nothing."""
        found = provider("tensorrt")
        return found.reason if isinstance(found, Unavailable) else ""

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write ``model.onnx``, marked for TensorRT, and compile it once. Raises `CannotApply` without an NVIDIA GPU."""
        found = provider("tensorrt")
        if isinstance(found, Unavailable):
            raise CannotApply(found.reason)
        options: dict[str, Scalar] = {
            **source.options,
            "provider": found,
            "trt_fp16_enable": self.precision == "fp16",
            "trt_int8_enable": _is_quantised(source),
        }
        artifact = copy_model(source, bench, options)
        outputs = load_runner(artifact)(bench.examples)
        return Built(artifact=artifact, outputs=outputs, tolerance=5e-2 if self.precision == "fp16" else 1e-2)


def _is_quantised(source: Artifact) -> bool:
    import onnx

    graph = onnx.load(source.path, load_external_data=False).graph
    return any(node.op_type == "QuantizeLinear" for node in graph.node)
