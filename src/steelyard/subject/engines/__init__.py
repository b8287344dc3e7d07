"""Engines: an artifact on disk becomes something that runs. One file per engine, one line in `ENGINES`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import Any, Protocol

from numpy.typing import NDArray

from steelyard.subject.artifact import Artifact

__all__ = ["ENGINES", "Runner", "load_runner"]


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
