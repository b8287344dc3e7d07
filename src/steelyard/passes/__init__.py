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
from steelyard.passes.export import Export
from steelyard.passes.factorise import Factorise
from steelyard.passes.nncf_int8 import NncfInt8
from steelyard.passes.onnx import Onnx
from steelyard.passes.openvino import OpenVino
from steelyard.passes.prune import Prune
from steelyard.passes.quantize_dynamic import QuantizeDynamic
from steelyard.passes.quantize_static import QuantizeStatic
from steelyard.passes.sparsify import Sparsify
from steelyard.records import Step
from steelyard.subject.artifact import Artifact

__all__ = ["PASSES", "Pass", "to_pass", "trains"]


class Pass(Protocol):
    """A technique and its options. One that trains says so in a class variable ``trains``, for its minutes to be counted."""

    takes: ClassVar[frozenset[str]]  # engines whose artifacts it can start from

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
    "prune": Prune,
    "sparsify": Sparsify,
    "factorise": Factorise,
}


def to_pass(step: Step) -> Pass:
    """The pass that a recorded step names.

    >>> to_pass(Step(name="openvino", options=(("precision", "bf16"),)))
    OpenVino(precision='bf16')
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
