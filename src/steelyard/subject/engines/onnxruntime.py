"""ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import in_pieces

__all__ = ["OnnxRunner", "load", "open_session", "signature"]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
}


def open_session(path: Path, *, profile_to: Path | None = None) -> Any:
    """An inference session whose threads stop spinning when a run ends, so that a resting process disturbs nobody."""
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnx", needed_for=f"running {path.name}") from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if profile_to is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile_to)
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises its own types, all straight from Exception
        raise InvalidInput(f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0][:300]}") from None


class OnnxRunner:
    """A session called on NumPy arrays."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session = open_session(path)
        self._input = self._session.get_inputs()[0].name
        self._batch = _fixed_batch(self._session)
        self._outputs = [self._session.get_outputs()[0].name]

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        if self._batch is not None and len(inputs) != self._batch:
            return in_pieces(self, inputs, self._batch)
        outputs: NDArray[Any] = self._session.run(self._outputs, {self._input: inputs})[0]
        return outputs

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:
        inputs = inputs if self._batch is None else np.resize(inputs, (self._batch, *inputs.shape[1:]))
        with tempfile.TemporaryDirectory() as folder:
            session = open_session(self._path, profile_to=Path(folder) / "profile")
            for _ in range(runs):
                session.run(self._outputs, {self._input: inputs})
            events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
        seconds: dict[str, float] = defaultdict(float)
        calls: dict[str, int] = defaultdict(int)
        for event in events:
            operator = event.get("args", {}).get("op_name")
            if event.get("cat") == "Node" and operator and event["name"].endswith("_kernel_time"):
                seconds[operator] += event["dur"] / 1e6 / runs
                calls[operator] += 1
        return {name: (seconds[name], round(calls[name] / runs)) for name in seconds}


def _fixed_batch(session: Any) -> int | None:
    shape = session.get_inputs()[0].shape
    return shape[0] if shape and isinstance(shape[0], int) else None


def load(artifact: Artifact) -> OnnxRunner:
    """Load an ONNX file."""
    return OnnxRunner(artifact.path)


def signature(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape of one example, dtype and number of classes of a model with one input and one output."""
    session = open_session(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1 or not outputs:
        raise InvalidInput(f"{path} has inputs {[i.name for i in inputs]}; models with exactly one input are supported")
    shape = inputs[0].shape[1:]
    if not shape or not all(isinstance(d, int) for d in shape):
        raise InvalidInput(
            f"{path}: input {inputs[0].name} has shape {inputs[0].shape}; only the batch axis may be open"
        )
    dtype = _DTYPES.get(inputs[0].type)
    if dtype is None:
        raise InvalidInput(
            f"{path}: input {inputs[0].name} is {inputs[0].type}; supported: {', '.join(_DTYPES.values())}"
        )
    classes = outputs[0].shape[-1] if outputs[0].shape and isinstance(outputs[0].shape[-1], int) else 0
    return tuple(shape), dtype, classes
