"""Techniques: one file each, a frozen config with `apply`, and one line in `PASSES`.

A pass never changes its source: it writes a new artifact folder. Frameworks are imported when a pass is applied, in
a child process, so that naming and ordering passes stays free.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol

from steelyard.errors import InvalidInput
from steelyard.passes.bench import Bench, Built
from steelyard.passes.bf16 import Bf16
from steelyard.passes.channels_last import ChannelsLast
from steelyard.passes.compile import Compile
from steelyard.passes.distill import Distill
from steelyard.passes.export import Export
from steelyard.passes.factorise import Factorise
from steelyard.passes.fold import Fold
from steelyard.passes.fp16 import Fp16
from steelyard.passes.mixed import Mixed
from steelyard.passes.nncf_int8 import NncfInt8
from steelyard.passes.onnx import Onnx
from steelyard.passes.onnx_optimise import OnnxOptimise
from steelyard.passes.openvino import OpenVino
from steelyard.passes.prune import Prune
from steelyard.passes.qat import Qat
from steelyard.passes.quantize_dynamic import QuantizeDynamic
from steelyard.passes.quantize_static import QuantizeStatic
from steelyard.passes.sparsify import Sparsify
from steelyard.passes.tensorrt import TensorRt
from steelyard.passes.tflite import TfLite
from steelyard.passes.weight_only import WeightOnly
from steelyard.records import Step
from steelyard.subject.artifact import Artifact

__all__ = ["KINDS", "PASSES", "Pass", "to_pass", "trains"]

KINDS: Mapping[str, int] = {
    "distill": 0,
    "low-rank": 1,
    "prune": 2,
    "sparse": 3,
    "engine": 4,
    "fold": 5,
    "layout": 6,
    "bf16": 7,
    "fp16": 7,
    "int8": 7,
    "weight-only": 7,
    "compile": 8,
}
"""The words of ``--techniques``, by their place in a chain: places rise from step to step, so that each kind comes at most
once, what trains comes before what exports, and one change of numbers (place 7) is the last but for compiling."""


class Pass(Protocol):
    """A technique and its options; what a plan may hold is read from the class variables.

    Beside those below, one that trains says so in ``trains``, for its minutes to be counted, and one that has options
    for the search to vary lists them in ``choices: ClassVar[Mapping[str, tuple[Scalar, ...]]]``, the default first. A
    combination that the constructor refuses with `InvalidInput` is not of the space, and a value that is itself a word of
    `KINDS`, such as ``precision="bf16"``, counts as that kind too. One that most machines cannot run says what is missing in
    a static method ``missing() -> str``, empty where nothing is: else it is not of the space.
    """

    takes: ClassVar[frozenset[str]]  # engines whose artifacts it can start from
    gives: ClassVar[str]  # the engine of what it makes; "" where that is the one it took; "final": nothing may follow
    kind: ClassVar[str]  # a word of `KINDS`

    def apply(self, source: Artifact, bench: Bench, /) -> Built:
        """Write the new artifact into ``bench.folder``. Raises `CannotApply` where the technique does not fit."""
        ...


PASSES: Mapping[str, type[Any]] = {
    "export": Export,
    "channels_last": ChannelsLast,
    "bf16": Bf16,
    "compile": Compile,
    "onnx": Onnx,
    "quantize_static": QuantizeStatic,
    "quantize_dynamic": QuantizeDynamic,
    "openvino": OpenVino,
    "nncf_int8": NncfInt8,
    "mixed": Mixed,
    "weight_only": WeightOnly,
    "fp16": Fp16,
    "fold": Fold,
    "onnx_optimise": OnnxOptimise,
    "tensorrt": TensorRt,
    "tflite": TfLite,
    "prune": Prune,
    "sparsify": Sparsify,
    "factorise": Factorise,
    "distill": Distill,
    "qat": Qat,
}


def to_pass(step: Step) -> Pass:
    """The pass that a recorded step names.

    >>> to_pass(Step(name="weight_only", options=(("bits", 4),)))
    WeightOnly(bits=4, group=0)
    """
    kind = PASSES.get(step.name)
    if kind is None:
        raise InvalidInput(f"unknown technique {step.name!r}; known: {', '.join(PASSES)}")
    try:
        made: Pass = kind(**dict(step.options))
    except TypeError as error:
        raise InvalidInput(f"{step.name}: {error}") from None
    return made


def trains(step: Step) -> bool:
    """Whether a step trains the model, which takes minutes and needs the training split.

    >>> trains(Step(name="prune")), trains(Step(name="onnx"))
    (True, False)
    """
    return bool(getattr(PASSES.get(step.name), "trains", False))
