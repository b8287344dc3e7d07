"""The engines called directly, the way their own documentation shows; arms for `engines.py`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.worker import Worker

Call = Callable[[NDArray[Any]], NDArray[Any]]


def eager(arm: dict[str, Any]) -> Call:
    import torch

    model = _module(arm)

    def call(inputs: NDArray[Any]) -> NDArray[Any]:
        with torch.inference_mode():
            return model(torch.from_numpy(inputs)).numpy()

    return call


def compiled(arm: dict[str, Any]) -> Call:
    import torch

    model = torch.compile(_module(arm))

    def call(inputs: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            return model(torch.from_numpy(inputs)).numpy()

    return call


def onnxruntime(arm: dict[str, Any]) -> Call:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.add_session_config_entry("session.force_spinning_stop", "1")  # or its threads would disturb the other arms
    session = ort.InferenceSession(arm["model"], options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda inputs: session.run(None, {name: inputs})[0]


def openvino(arm: dict[str, Any]) -> Call:
    import openvino as ov

    config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": arm["precision"]}
    model = ov.Core().compile_model(arm["model"], "CPU", config)
    return lambda inputs: model(inputs)[0]


def steelyard(arm: dict[str, Any]) -> Call:
    import steelyard

    return steelyard.load(arm["model"])


KINDS = {f.__name__: f for f in (eager, compiled, onnxruntime, openvino, steelyard)}


class DirectWorker(Worker):
    """A worker whose artifact is a JSON file naming one of the calls above."""

    def load(self, folder: str, inputs: str) -> dict[str, float]:
        arm = json.loads(Path(folder).read_text())
        self._inputs = np.load(inputs)
        self._runner = KINDS[arm["kind"]](arm)  # type: ignore[assignment]
        return {}

    def first(self) -> dict[str, float]:
        self._runner(self._batch(1))
        return {}

    def outputs(self, inputs: str, batch: int) -> NDArray[Any]:
        """Outputs for a whole file of model-ready inputs."""
        everything = np.load(inputs, mmap_mode="r")
        parts = [
            self._runner(np.ascontiguousarray(everything[i : i + batch])) for i in range(0, len(everything), batch)
        ]
        return np.concatenate([np.array(p) for p in parts])


def _module(arm: dict[str, Any]) -> Any:
    from steelyard.subject.artifact import read_artifact
    from steelyard.subject.engines.eager import rebuild

    return rebuild(read_artifact(Path(arm["model"])))
