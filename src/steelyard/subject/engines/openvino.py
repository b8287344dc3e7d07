"""OpenVINO on the CPU: compiled for each batch size, inputs bound once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.privacy import decline_telemetry
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import in_pieces

__all__ = ["OpenVinoRunner", "load", "open_model", "signature"]

_DTYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "i64": "int64", "i32": "int32", "u8": "uint8"}
_KEPT = 4  # compiled batch sizes held at a time


def open_model(path: Path) -> Any:
    """An `openvino.Model` from IR or ONNX."""
    decline_telemetry()
    try:
        import openvino
    except ImportError:
        raise MissingExtra("openvino", needed_for=f"running {path.name}") from None
    try:
        return openvino.Core().read_model(path)
    except RuntimeError as error:
        raise InvalidInput(f"OpenVINO cannot read {path}: {_last_line(error)}") from None


class OpenVinoRunner:
    """A model compiled per batch size.

    A fixed batch lets the engine plan memory once, and an input tensor bound once saves the Python call a tenth of a
    millisecond of bookkeeping; on small models both are a visible part of the latency.
    """

    def __init__(self, artifact: Artifact) -> None:
        import openvino

        precision = artifact.options.get("precision", "f32")
        self._core = openvino.Core()
        self._model = open_model(artifact.path)
        self._config = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
        self._shape = self._model.input(0).partial_shape
        self._batch = self._shape[0].get_length() if self._shape.is_static else None
        self._bound: dict[int, tuple[Any, NDArray[Any], NDArray[Any]]] = {}
        # one example is the common case: compiling for it belongs to loading, not to somebody's first prediction
        self._bind(np.zeros((self._batch or 1, *artifact.contract.shape), dtype=artifact.contract.dtype))

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        if self._batch is not None and len(inputs) != self._batch:
            return in_pieces(self, inputs, self._batch)
        bound = self._bound.get(len(inputs)) or self._bind(inputs)
        np.copyto(bound[1], inputs)
        bound[0].infer()
        return bound[2].copy()

    def _bind(self, inputs: NDArray[Any]) -> tuple[Any, NDArray[Any], NDArray[Any]]:
        if len(self._bound) >= _KEPT:
            self._bound.pop(next(iter(self._bound)))
        request = self._compile(inputs, profiling=False).create_infer_request()
        request.infer([inputs])
        bound = (request, request.get_input_tensor(0).data, request.get_output_tensor(0).data)
        self._bound[len(inputs)] = bound
        return bound

    def _compile(self, inputs: NDArray[Any], *, profiling: bool) -> Any:
        model = self._model.clone()
        if self._shape.is_dynamic:
            model.reshape(list(inputs.shape))
        config = {**self._config, "PERF_COUNT": "YES"} if profiling else self._config
        return self._core.compile_model(model, "CPU", config)

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:
        inputs = inputs if self._batch is None else np.resize(inputs, (self._batch, *inputs.shape[1:]))
        request = self._compile(inputs, profiling=True).create_infer_request()
        seconds: dict[str, float] = defaultdict(float)
        calls: dict[str, int] = defaultdict(int)
        for _ in range(runs):
            request.infer([inputs])
            for node in request.get_profiling_info():
                if node.real_time.total_seconds() > 0:
                    seconds[node.node_type] += node.real_time.total_seconds() / runs
                    calls[node.node_type] += 1
        return {name: (seconds[name], round(calls[name] / runs)) for name in seconds}


def load(artifact: Artifact) -> OpenVinoRunner:
    """Load IR or ONNX; the option ``precision`` is ``f32`` or ``bf16``."""
    decline_telemetry()
    try:
        return OpenVinoRunner(artifact)
    except ImportError:
        raise MissingExtra("openvino", needed_for=f"running {artifact.file}") from None


def signature(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape of one example, dtype and number of classes of a model with one input and one output."""
    model = open_model(path)
    if len(model.inputs) != 1:
        raise InvalidInput(f"{path} has {len(model.inputs)} inputs; models with exactly one input are supported")
    shape = model.input(0).partial_shape
    if shape.rank.is_dynamic or len(shape) < 2 or any(d.is_dynamic for d in list(shape)[1:]):
        raise InvalidInput(f"{path}: input has shape {shape}; only the batch axis may be open")
    outputs = model.output(0).partial_shape
    if outputs.rank.is_dynamic or not len(outputs):
        raise InvalidInput(f"{path}: output has shape {outputs}; (n, classes) is needed")
    name = model.input(0).element_type.get_type_name()
    if name not in _DTYPES:
        raise InvalidInput(f"{path}: input is {name}; supported: {', '.join(_DTYPES)}")
    classes = list(outputs)[-1]
    return (
        tuple(d.get_length() for d in list(shape)[1:]),
        _DTYPES[name],
        0 if classes.is_dynamic else classes.get_length(),
    )


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
