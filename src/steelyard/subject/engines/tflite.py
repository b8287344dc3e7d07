"""TensorFlow Lite, now LiteRT: its interpreter on the processor, one example at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import Slice, in_pieces, timed

__all__ = ["TfLiteProfiling", "TfLiteRunner", "load", "open_interpreter"]


def open_interpreter(path: Path, threads: int = 0) -> Any:
    """An interpreter with its tensors in place; `threads` of 0 are as many as there are cores to run on."""
    try:
        interpreters = import_module("ai_edge_litert.interpreter")
    except ImportError:
        raise MissingExtra("tflite", needed_for=f"running {path.name}") from None
    try:
        interpreter = interpreters.Interpreter(model_path=str(path), num_threads=threads or None)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise InvalidInput(f"LiteRT cannot load {path}: {str(error).splitlines()[0][:300]}") from None
    return interpreter


class TfLiteRunner:
    """An interpreter for each thread that calls: one serves a single call at a time."""

    def __init__(self, path: Path, threads: int = 0) -> None:
        self._path, self._threads = path, threads
        self._own = threading.local()
        first = self._interpreter()
        taken, given = first.get_input_details()[0], first.get_output_details()[0]
        self._batch, self._in, self._out = int(taken["shape"][0]), taken["index"], given["index"]

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        if len(inputs) != self._batch:
            return in_pieces(self, inputs, self._batch)
        interpreter = self._interpreter()
        interpreter.set_tensor(self._in, inputs)
        interpreter.invoke()
        outputs: NDArray[Any] = interpreter.get_tensor(self._out)
        return outputs

    def _interpreter(self) -> Any:
        if not hasattr(self._own, "interpreter"):
            self._own.interpreter = open_interpreter(self._path, self._threads)
        return self._own.interpreter

    @property
    def fixed_batch(self) -> int | None:
        return self._batch

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:  # noqa: ARG002
        """Nothing: LiteRT's interpreter has no profiler in Python."""
        return {}

    def profiling(self, inputs: NDArray[Any], /) -> TfLiteProfiling:
        return TfLiteProfiling(lambda: self(np.resize(inputs, (self._batch, *inputs.shape[1:]))))


class TfLiteProfiling:
    """Times of whole calls; LiteRT's interpreter shows no operators in Python."""

    def __init__(self, call: Callable[[], object]) -> None:
        self._call = call

    def turn(self, calls: int) -> NDArray[np.float64]:
        return timed(self._call, calls)

    def slices(self) -> tuple[Slice, ...]:
        return ()


def load(artifact: Artifact) -> TfLiteRunner:
    """Load a .tflite file; the option ``threads`` is how many threads an operator may use."""
    return TfLiteRunner(artifact.path, int(artifact.options.get("threads") or 0))
