"""Engines: an artifact on disk becomes something that runs. One file per engine, one line in `ENGINES`."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steelyard.subject.artifact import Artifact

__all__ = ["ENGINES", "Profiling", "Runner", "Slice", "in_pieces", "load_runner", "operator_totals", "timed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One stretch of an inference, as the engine's own profiler saw it. Times in seconds.

    ``start_s`` counts from the beginning of its run. ``seconds`` holds what it called, ``self_s`` does not. A slice of kind
    ``layer`` is a module's call; those of kind ``operator`` that no other operator called are ``outermost``.
    """

    name: str  # the operator, or for a layer its name
    layer: str  # the module or node it belongs to
    run: int  # which inference, from 0
    start_s: float
    seconds: float
    self_s: float
    kind: str = "operator"  # operator | layer | kernel (on the accelerator)
    outermost: bool = True
    device_s: float = 0.0  # time on the accelerator of what it launched
    dtype: str = ""
    detail: str = ""  # which kernel the engine chose
    shapes: tuple[tuple[int, ...], ...] = ()  # of its outputs
    covers: tuple[str, ...] = ()  # names of the model's nodes that were fused into it


class Profiling(Protocol):
    """An engine at work under its own profiler."""

    def turn(self, calls: int) -> NDArray[np.float64]:
        """Beginning and end of each of so many profiled inferences, ``(calls, 2)``, on the clock of `time.perf_counter`."""
        ...

    def slices(self) -> tuple[Slice, ...]:
        """What was seen in all turns; ends the profiling. The runs are numbered in the order they were made."""
        ...


class Runner(Protocol):
    """A loaded model. Inputs and outputs are C-contiguous NumPy arrays with the batch axis first."""

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        """Outputs ``(n, classes)`` for model-ready inputs ``(n, *contract.shape)``; the array is the caller's to keep."""
        ...

    @property
    def fixed_batch(self) -> int | None:
        """The only batch size that the file takes; None where any will do."""
        ...

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:
        """Per operator type: seconds per inference by the engine's own profiler, and calls per inference."""
        ...

    def profiling(self, inputs: NDArray[Any], /) -> Profiling:
        """The model under the engine's own profiler, beside the runner, which goes on unprofiled."""
        ...


ENGINES: Mapping[str, str] = {
    "eager": "steelyard.subject.engines.eager",
    "torch": "steelyard.subject.engines.torch",
    "onnxruntime": "steelyard.subject.engines.onnxruntime",
    "openvino": "steelyard.subject.engines.openvino",
    "tflite": "steelyard.subject.engines.tflite",
}


def load_runner(artifact: Artifact) -> Runner:
    """Load an artifact with its engine. Raises `MissingExtra` where the engine is not installed."""
    runner: Runner = import_module(ENGINES[artifact.engine]).load(artifact)
    return runner


def timed(call: Callable[[], object], calls: int) -> NDArray[np.float64]:
    """Beginning and end of each of so many calls, ``(calls, 2)``."""
    times = []
    for _ in range(calls):
        start = time.perf_counter()
        call()
        times.append((start, time.perf_counter()))
    return np.array(times)


def operator_totals(slices: Iterable[Slice], runs: int) -> Mapping[str, tuple[float, int]]:
    """Per operator: seconds of its own per inference, and calls per inference."""
    seconds: dict[str, float] = defaultdict(float)
    calls: dict[str, int] = defaultdict(int)
    for found in slices:
        if found.kind == "operator" and found.self_s > 0:
            seconds[found.name] += found.self_s / runs
            calls[found.name] += 1
    return {name: (seconds[name], round(calls[name] / runs)) for name in seconds}


def in_pieces(run: Callable[[NDArray[Any]], NDArray[Any]], inputs: NDArray[Any], size: int) -> NDArray[Any]:
    """Outputs of a model whose batch axis is fixed at `size`; the last piece is filled up with its last example.

    >>> in_pieces(lambda x: 2 * x, np.arange(5), size=2).tolist()
    [0, 2, 4, 6, 8]
    """
    filler = np.repeat(inputs[-1:], -len(inputs) % size, axis=0)
    filled = np.concatenate([inputs, filler])
    outputs = np.concatenate([run(filled[start : start + size]) for start in range(0, len(filled), size)])
    return outputs[: len(inputs)]
