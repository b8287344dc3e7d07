"""What a measuring process does: load one artifact, run it, time it. Runs in a child (see `process`)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.counts.macs import coverage, module_macs
from steelyard.counts.onnx_macs import onnx_macs
from steelyard.counts.openvino_macs import openvino_macs
from steelyard.counts.parameters import module_parameters, onnx_parameters, openvino_parameters
from steelyard.errors import InvalidInput
from steelyard.measure.calls import time_calls
from steelyard.measure.health import health
from steelyard.probe.energy import read_counters
from steelyard.probe.host import clock_ghz
from steelyard.probe.memory import peak_rss_bytes, reset_peak, rss_bytes
from steelyard.records import Contract, Sample, Unavailable
from steelyard.subject.artifact import Artifact, read_artifact
from steelyard.subject.contract import prepare
from steelyard.subject.engines import Runner, load_runner
from steelyard.subject.splits import read_split

__all__ = ["Worker", "time_calls"]


class Worker:
    """Answers a parent's calls; times are seconds, sizes bytes."""

    def __init__(self) -> None:
        self._runner: Runner
        self._artifact: Artifact
        self._inputs: NDArray[Any]

    def load(self, folder: str, inputs: str) -> dict[str, float]:
        """Load the artifact and the example inputs; memory before and after, and the time it took."""
        self._artifact = read_artifact(Path(folder))
        self._inputs = np.load(inputs)
        reset_peak()
        before = rss_bytes()
        started = time.perf_counter()
        self._runner = load_runner(self._artifact)
        seconds = time.perf_counter() - started
        return {"load_s": seconds, "memory_before_load_bytes": before, "memory_loaded_bytes": rss_bytes()}

    def first(self) -> dict[str, float]:
        """The first prediction, checked for shape and finiteness."""
        started = time.perf_counter()
        outputs = self._runner(self._batch(1))
        seconds = time.perf_counter() - started
        _check_outputs(self._artifact.contract, outputs, 1)
        return {"first_prediction_s": seconds}

    def repeatable(self) -> bool:
        """Whether the same inputs give the same outputs twice, but for rounding."""
        inputs = self._batch(min(8, len(self._inputs)))
        first, second = self._runner(inputs), self._runner(inputs)
        return bool(np.allclose(first, second, rtol=1e-4, atol=1e-5))

    def predict(self, folder: str, split: str, batch: int, rows: NDArray[np.intp] | None = None) -> NDArray[np.float64]:
        """Raw outputs ``(n, classes)`` for a whole split, in its order, or for some of its `rows`."""
        data = read_split(Path(folder), split)
        wanted = np.arange(len(data)) if rows is None else rows
        parts = []
        for start in range(0, len(wanted), batch):
            inputs = prepare(self._artifact.contract, np.asarray(data.raw[wanted[start : start + batch]]))
            outputs = self._runner(inputs)
            _check_outputs(self._artifact.contract, outputs, len(inputs))
            parts.append(np.asarray(outputs, dtype=np.float64))
        return np.concatenate(parts)

    def run(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Outputs for given inputs."""
        return self._runner(inputs)

    def warm(self, batch: int, seconds: float) -> NDArray[np.float64]:
        """Times of every call from cold, for finding where warm-up ends."""
        return time_calls(self._runner, self._batch(batch), seconds)

    def slot(self, batch: int, seconds: float) -> NDArray[np.float64]:
        """Times of the calls in one turn, after one untimed call that brings caches back."""
        inputs = self._batch(batch)
        self._runner(inputs)
        return time_calls(self._runner, inputs, seconds)

    def sustained(self, batch: int, seconds: float) -> dict[str, Any]:
        """A longer run: every call's time, the processor time, energy counters around it, the clock, and the peak memory."""
        inputs = self._batch(batch)
        self._runner(inputs)
        reset_peak()
        before, cpu = read_counters(), time.process_time()
        times = time_calls(self._runner, inputs, seconds)
        cpu_s, after = time.process_time() - cpu, read_counters()
        return {
            "times": times,
            "cpu_s": cpu_s,
            "counters": (before, after),
            "clock_ghz": clock_ghz(),
            "peak_bytes": peak_rss_bytes(),
        }

    def peak(self) -> int | Unavailable:
        """Peak resident bytes since loading began."""
        return peak_rss_bytes()

    def operators(self, batch: int, runs: int) -> dict[str, tuple[float, int]]:
        """Per operator: seconds and calls per inference."""
        return dict(self._runner.operator_seconds(self._batch(batch), runs))

    def count(self, runs: int) -> tuple[Sample | Unavailable, ...]:
        """Parameters and MACs of the loaded model, and the share of operator time that the MACs cover."""
        path = self._artifact.path
        parameters: tuple[Sample, ...]
        if self._artifact.engine == "onnxruntime":
            parameters, macs = onnx_parameters(path), onnx_macs(path)
        elif self._artifact.engine == "openvino":
            parameters, macs = openvino_parameters(path), openvino_macs(path)
        elif self._artifact.engine == "tflite":
            raise InvalidInput("the operators of a .tflite file are not counted: count the model that it was made from")
        else:
            runner: Any = self._runner  # PyTorch's alone has a module, and names for its nodes
            inputs = self._batch(runner.fixed_batch or 1)
            parameters = module_parameters(runner.module)
            macs = module_macs(runner.module, inputs, runner.node_layers)
        seconds = {name: spent for name, (spent, _) in self.operators(1, runs).items()}
        covered: Sample | Unavailable = Unavailable(quantity="macs_coverage", reason="no operator times were read")
        if sum(seconds.values()) > 0:
            share = np.array([coverage(seconds, macs)])
            covered = Sample(quantity="macs_coverage", unit="fraction", values=share)
        return (*parameters, *macs.samples(), covered)

    def health(self) -> tuple[Sample, ...]:
        """What weights and units tell; see `steelyard.measure.health`."""
        return health(self._artifact, self._runner, self._batch(min(32, len(self._inputs))))

    def _batch(self, size: int) -> NDArray[Any]:
        index = np.arange(size) % len(self._inputs)
        return np.ascontiguousarray(self._inputs[index])


def _check_outputs(contract: Contract, outputs: NDArray[Any], count: int) -> None:
    expected = (count, len(contract.labels))
    if getattr(outputs, "shape", None) != expected and contract.labels:
        raise InvalidInput(
            f"the model gives outputs of shape {getattr(outputs, 'shape', type(outputs).__name__)} for {count} example(s); "
            f"expected {expected}: one column for each of the {len(contract.labels)} classes"
        )
    if not np.isfinite(outputs).all():
        raise InvalidInput("the model's outputs hold NaN or infinity")
