"""fp16: half the bytes, and the arithmetic of processors that have it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.probe.host import environment
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["Fp16", "computes_fp16"]


@dataclass(frozen=True, slots=True)
class Fp16:
    """Half precision (5 bits of exponent, 10 of fraction); inputs and outputs stay float32.

    PyTorch and ONNX Runtime compute in it, OpenVINO stores the weights in it and computes as its precision says. Where a
    processor has no such arithmetic the numbers are widened first: the size halves, the time does not. Values end at 65,504;
    a model that leaves that range is refused.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch", "onnxruntime", "openvino"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "fp16"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the model in half precision."""
        write = {"onnxruntime": _onnx, "openvino": _openvino}.get(source.engine, _module)
        built = write(source, bench)
        if not np.abs(built.outputs).max() <= np.finfo(np.float16).max:  # an engine that widens may show no infinity
            raise CannotApply("fp16 ends at 65,504, and this model's outputs go beyond")
        if computes_fp16():
            return built
        note = "fp16: this processor widens it to fp32 before it computes, so the size halves and the time does not"
        return dataclasses.replace(
            built, artifact=dataclasses.replace(built.artifact, notes=(*built.artifact.notes, note))
        )


def computes_fp16() -> bool:
    """Whether this processor multiplies in half precision: x86 with AVX512-FP16 or AMX-FP16, ARM with half arithmetic."""
    return bool({"avx512_fp16", "amx_fp16", "fphp", "asimdhp"} & set(environment().instruction_sets))


def _module(source: Artifact, bench: Bench) -> Built:
    import torch

    from steelyard.passes.modules import Cast, module_of, save_module

    return save_module(Cast(module_of(source), torch.float16), source, bench, tolerance=2e-2)


def _onnx(source: Artifact, bench: Bench) -> Built:
    try:
        import onnx
        from onnxruntime.transformers.float16 import convert_float_to_float16
    except ImportError:
        raise MissingExtra("onnx", needed_for="converting to fp16") from None
    from steelyard.passes.onnx_graph import read_graph

    half = convert_float_to_float16(read_graph(source.path), keep_io_types=True)
    onnx.save(half, bench.folder / "model.onnx")
    return _reloaded(source, bench, "model.onnx")


def _openvino(source: Artifact, bench: Bench) -> Built:
    try:
        import openvino
    except ImportError:
        raise MissingExtra("openvino", needed_for="converting to fp16") from None
    openvino.save_model(openvino.Core().read_model(source.path), bench.folder / "model.xml", compress_to_fp16=True)
    return _reloaded(source, bench, "model.xml")


def _reloaded(source: Artifact, bench: Bench, file: str) -> Built:
    artifact = dataclasses.replace(source, folder=bench.folder, file=file)
    return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-3)
