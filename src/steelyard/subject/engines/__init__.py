"""Engines: an artifact on disk becomes something that runs. One file per engine, one line in `ENGINES`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steelyard.subject.artifact import Artifact

__all__ = ["ENGINES", "Runner", "in_pieces", "load_runner"]


class Runner(Protocol):
    """A loaded model. Inputs and outputs are C-contiguous NumPy arrays with the batch axis first."""

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        """Outputs ``(n, classes)`` for model-ready inputs ``(n, *contract.shape)``; the array is the caller's to keep."""
        ...

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:
        """Per operator type: seconds per inference by the engine's own profiler, and calls per inference."""
        ...


ENGINES: Mapping[str, str] = {
    "eager": "steelyard.subject.engines.eager",
    "torch": "steelyard.subject.engines.torch",
    "onnxruntime": "steelyard.subject.engines.onnxruntime",
    "openvino": "steelyard.subject.engines.openvino",
}


def load_runner(artifact: Artifact) -> Runner:
    """Load an artifact with its engine. Raises `MissingExtra` where the engine is not installed."""
    runner: Runner = import_module(ENGINES[artifact.engine]).load(artifact)
    return runner


def in_pieces(run: Callable[[NDArray[Any]], NDArray[Any]], inputs: NDArray[Any], size: int) -> NDArray[Any]:
    """Outputs of a model whose batch axis is fixed at `size`; the last piece is filled up with its last example.

    >>> in_pieces(lambda x: 2 * x, np.arange(5), size=2).tolist()
    [0, 2, 4, 6, 8]
    """
    filler = np.repeat(inputs[-1:], -len(inputs) % size, axis=0)
    filled = np.concatenate([inputs, filler])
    outputs = np.concatenate([run(filled[start : start + size]) for start in range(0, len(filled), size)])
    return outputs[: len(inputs)]
