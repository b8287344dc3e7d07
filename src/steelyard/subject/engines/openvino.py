"""OpenVINO: compiled for each batch size, inputs bound once; on the processor unless the artifact says otherwise."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.privacy import decline_telemetry
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import Slice, in_pieces, operator_totals, timed

__all__ = ["OpenVinoProfiling", "OpenVinoRunner", "load", "open_model", "signature"]

_DTYPES = {"f32": "float32", "f16": "float16", "f64": "float64", "i64": "int64", "i32": "int32", "u8": "uint8"}
_KEPT = 8  # compiled batch sizes held at a time: a sweep visits six in turn


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

        self._core = openvino.Core()
        self._model = open_model(artifact.path)
        self._device, self._config = str(artifact.options.get("device") or "CPU"), _config(artifact.options)
        self._shape = self._model.input(0).partial_shape
        self._batch = self._shape[0].get_length() if self._shape.is_static else None
        self._compiled: dict[int, Any] = {}  # by batch size, for all threads
        self._own = threading.local()  # an infer request serves one call at a time, so each thread has its own
        self._lock = threading.Lock()
        # one example is the common case: compiling for it belongs to loading, not to somebody's first prediction
        self._bind(np.zeros((self._batch or 1, *artifact.contract.shape), dtype=artifact.contract.dtype))

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        if self._batch is not None and len(inputs) != self._batch:
            return in_pieces(self, inputs, self._batch)
        bound = self._requests().get(len(inputs)) or self._bind(inputs)
        np.copyto(bound[1], inputs)
        bound[0].infer()
        return bound[2].copy()

    def _requests(self) -> dict[int, tuple[Any, NDArray[Any], NDArray[Any]]]:
        """This thread's infer requests, by batch size."""
        own: dict[int, tuple[Any, NDArray[Any], NDArray[Any]]] = self._own.__dict__.setdefault("requests", {})
        return own

    def _bind(self, inputs: NDArray[Any]) -> tuple[Any, NDArray[Any], NDArray[Any]]:
        request = self._kept(inputs).create_infer_request()
        request.infer([inputs])
        bound = (request, request.get_input_tensor(0).data, request.get_output_tensor(0).data)
        _make_room(self._requests())[len(inputs)] = bound
        return bound

    def _kept(self, inputs: NDArray[Any]) -> Any:
        """The model compiled for this batch size."""
        with self._lock:
            if len(inputs) not in self._compiled:
                _make_room(self._compiled)[len(inputs)] = self._compile(inputs, profiling=False)
            return self._compiled[len(inputs)]

    def _compile(self, inputs: NDArray[Any], *, profiling: bool) -> Any:
        model = self._model.clone()
        if self._shape.is_dynamic:
            model.reshape(list(inputs.shape))
        config = {**self._config, "PERF_COUNT": "YES"} if profiling else self._config
        try:
            return self._core.compile_model(model, self._device, config)
        except RuntimeError as error:
            have = ", ".join(self._core.available_devices)
            raise InvalidInput(
                f"OpenVINO cannot run this model on {self._device} (it finds {have}): {_last_line(error)}"
            ) from None

    def executed(self, inputs: NDArray[Any]) -> Any:
        """The graph that runs for this batch size, with its order of execution, as an `openvino.Model`."""
        inputs = inputs if self._batch is None else np.resize(inputs, (self._batch, *inputs.shape[1:]))
        return self._compile(inputs, profiling=False).get_runtime_model()

    @property
    def fixed_batch(self) -> int | None:
        return self._batch

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:
        profiling = self.profiling(inputs)
        profiling.turn(runs)
        return operator_totals(profiling.slices(), runs)

    def profiling(self, inputs: NDArray[Any], /) -> OpenVinoProfiling:
        inputs = inputs if self._batch is None else np.resize(inputs, (self._batch, *inputs.shape[1:]))
        return OpenVinoProfiling(lambda: self._compile(inputs, profiling=True), inputs)

    @property
    def model(self) -> Any:
        """A copy of the model as it was read, whose nodes have the names that a profile shows."""
        return self._model.clone()


def _config(options: Mapping[str, Scalar]) -> dict[str, Any]:
    """OpenVINO's properties for an artifact's options; numbers that are 0 or absent are left to the engine."""
    config: dict[str, Any] = {
        "PERFORMANCE_HINT": str(options.get("hint") or "latency").upper(),
        "INFERENCE_PRECISION_HINT": options.get("precision", "f32"),
    }
    counts = {"NUM_STREAMS": options.get("streams"), "INFERENCE_NUM_THREADS": options.get("threads")}
    return config | {name: int(count) for name, count in counts.items() if count}


class OpenVinoProfiling:
    """The model compiled anew for each turn, with OpenVINO's performance counters on.

    The counters give each node's mean since the model was compiled, in microseconds. So a turn has a model of its own, the
    first inference is taken out again, and every inference of a turn is given the turn's mean. They give durations in the
    order of execution and no times of day, so slices are laid end to end.
    """

    def __init__(self, compile_model: Callable[[], Any], inputs: NDArray[Any]) -> None:
        self._compile, self._inputs = compile_model, inputs
        self._seen: list[Slice] = []
        self._runs = 0

    def turn(self, calls: int) -> NDArray[np.float64]:
        compiled = self._compile()
        request = compiled.create_infer_request()
        request.infer([self._inputs])
        np.copyto(request.get_input_tensor(0).data, self._inputs)
        first = _means(request)
        times = timed(request.infer, calls)
        self._read(request, first, calls, _covered(compiled))
        return times

    def _read(
        self, request: Any, first: Mapping[str, float], calls: int, covered: Mapping[str, tuple[str, ...]]
    ) -> None:
        nodes = request.get_profiling_info()
        for run in range(self._runs, self._runs + calls):
            elapsed = 0.0
            for node in nodes:
                if node.status != node.Status.EXECUTED:
                    continue
                whole = node.real_time.total_seconds() * (calls + 1) - first.get(node.node_name, 0.0)
                seconds = round(max(0.0, whole) / calls, 9)
                self._seen.append(self._slice(node, run, elapsed, seconds, covered.get(node.node_name, ())))
                elapsed += seconds
        self._runs += calls

    def _slice(self, node: Any, run: int, start_s: float, seconds: float, covers: tuple[str, ...]) -> Slice:
        return Slice(
            name=node.node_type,
            layer=node.node_name,
            run=run,
            start_s=start_s,
            seconds=seconds,
            self_s=seconds,
            dtype=_SPELLED.get(node.exec_type.rpartition("_")[2].lower(), ""),
            detail=node.exec_type,
            covers=covers,
        )

    def slices(self) -> tuple[Slice, ...]:
        return tuple(self._seen)


def _means(request: Any) -> dict[str, float]:
    """Mean seconds of each node so far."""
    return {node.node_name: node.real_time.total_seconds() for node in request.get_profiling_info()}


def _covered(compiled: Any) -> dict[str, tuple[str, ...]]:
    """The nodes of the model that each node of the compiled graph stands for."""
    ops = compiled.get_runtime_model().get_ordered_ops()
    return {op.get_friendly_name(): tuple(filter(None, str(_rt(op, "originalLayersNames")).split(","))) for op in ops}


_SPELLED = {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "i8": "int8", "u8": "int8"}


def _rt(op: Any, name: str) -> Any:
    """A value of an operation's run-time information, "" where it has none."""
    known = op.get_rt_info()
    return known[name].value if name in known else ""


def _make_room(kept: dict[int, Any]) -> dict[int, Any]:
    """The same dictionary with a place free: the oldest entry goes."""
    if len(kept) >= _KEPT:
        kept.pop(next(iter(kept)))
    return kept


def load(artifact: Artifact) -> OpenVinoRunner:
    """Load IR or ONNX; options are ``precision``, ``hint``, ``streams``, ``threads`` and ``device``."""
    decline_telemetry()
    try:
        return OpenVinoRunner(artifact)
    except ImportError:
        raise MissingExtra("openvino", needed_for=f"running {artifact.file}") from None


def signature(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape of one example, dtype and number of classes of a model with one input and one output."""
    model = open_model(path)
    if len(model.inputs) != 1:
        raise InvalidInput(f"{path} has inputs {_names(model.inputs)}; models with exactly one input are supported")
    if len(model.outputs) != 1:
        names = _names(model.outputs)
        raise InvalidInput(f"{path} has outputs {names}; models with exactly one output, the logits, are supported")
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


def _names(ports: Any) -> list[str]:
    return [next(iter(sorted(port.names)), port.node.get_friendly_name()) for port in ports]


def _last_line(error: BaseException) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
