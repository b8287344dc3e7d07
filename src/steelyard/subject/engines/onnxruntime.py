"""ONNX Runtime, on the processor or where one of its execution providers runs."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import Slice, in_pieces, operator_totals, timed

__all__ = ["OnnxProfiling", "OnnxRunner", "load", "open_session", "signature"]

_DTYPES = {
    "tensor(float)": "float32",
    "tensor(float16)": "float16",
    "tensor(double)": "float64",
    "tensor(int64)": "int64",
    "tensor(int32)": "int32",
    "tensor(uint8)": "uint8",
}


_CPU = "CPUExecutionProvider"
_LEVELS = {
    "none": "ORT_DISABLE_ALL", "basic": "ORT_ENABLE_BASIC", "extended": "ORT_ENABLE_EXTENDED", "all": "ORT_ENABLE_ALL",
}  # fmt: skip
_NO_OPTIONS: Mapping[str, Scalar] = {}


def open_session(
    path: Path,
    *,
    options: Mapping[str, Scalar] = _NO_OPTIONS,
    profile_to: Path | None = None,
    write_to: Path | None = None,
) -> Any:
    """An inference session whose threads stop spinning when a run ends, so that a resting process disturbs nobody.

    The artifact's `options`: ``level`` of the graph's optimisation, ``threads`` of an operator, ``provider`` by ONNX Runtime's
    own name, and ``trt_...`` for TensorRT. It can be profiled into a file that begins as `profile_to`, and write the graph that
    it runs, optimised, to `write_to`. Raises `InvalidInput` where the provider is not there or does not start.
    """
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnx", needed_for=f"running {path.name}") from None
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    settings.intra_op_num_threads = int(options.get("threads") or 0)
    level = _LEVELS[str(options.get("level") or "all")]
    settings.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
    if profile_to is not None:
        settings.enable_profiling = True
        settings.profile_file_prefix = str(profile_to)
    if write_to is not None:
        settings.optimized_model_filepath = str(write_to)
    providers = _providers(path, options, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(str(path), settings, providers=providers)
    except Exception as error:  # onnxruntime raises its own types, all straight from Exception
        raise InvalidInput(f"ONNX Runtime cannot load {path}: {str(error).splitlines()[0][:300]}") from None
    wanted = str(options.get("provider") or _CPU)
    if wanted not in session.get_providers():  # it says so in its log alone, and goes on with the next
        raise InvalidInput(
            f"{wanted} does not start here, so {path} would run elsewhere: is there a device and its driver?"
        )
    return session


def _providers(path: Path, options: Mapping[str, Scalar], have: list[str]) -> list[Any]:
    """The execution providers to ask for, the wanted one first; TensorRT leaves to CUDA what it cannot take."""
    wanted = str(options.get("provider") or _CPU)
    if wanted not in have:
        raise InvalidInput(
            f"{path} runs by {wanted}, which this ONNX Runtime lacks (it has {', '.join(have)}): install the build that has it"
        )
    if wanted == _CPU:
        return [_CPU]
    if wanted != "TensorrtExecutionProvider":
        return [wanted, _CPU]
    own = {key: str(value) for key, value in options.items() if key.startswith("trt_")}
    if os.access(path.parent, os.W_OK):
        own |= {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(path.parent / "engine_cache")}
    return [(wanted, own), *(p for p in ("CUDAExecutionProvider",) if p in have), _CPU]


class OnnxRunner:
    """A session called on NumPy arrays."""

    def __init__(self, path: Path, options: Mapping[str, Scalar] = _NO_OPTIONS) -> None:
        self._path, self._options = path, options
        self._session = open_session(path, options=options)
        self._input = self._session.get_inputs()[0].name
        self._batch = _fixed_batch(self._session)
        self._outputs = [self._session.get_outputs()[0].name]

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        if self._batch is not None and len(inputs) != self._batch:
            return in_pieces(self, inputs, self._batch)
        outputs: NDArray[Any] = self._session.run(self._outputs, {self._input: inputs})[0]
        return outputs

    @property
    def fixed_batch(self) -> int | None:
        return self._batch

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:
        profiling = self.profiling(inputs, graph=False)
        profiling.turn(runs)
        return operator_totals(profiling.slices(), runs)

    def profiling(self, inputs: NDArray[Any], /, *, graph: bool = True) -> OnnxProfiling:
        """See `Runner.profiling`; with `graph` the optimised graph is there to be counted."""
        inputs = inputs if self._batch is None else np.resize(inputs, (self._batch, *inputs.shape[1:]))
        feed = {self._input: inputs}
        return OnnxProfiling(self._path, self._outputs, feed, graph=graph, options=self._options)


class OnnxProfiling:
    """A second session of the same file, with ONNX Runtime's profiler on.

    ``optimised`` is the graph that the session runs, whose nodes are those of the profile; None where it was not asked for
    or is too large to be written. It goes when this object goes.
    """

    def __init__(
        self,
        path: Path,
        outputs: list[str],
        feed: dict[str, NDArray[Any]],
        *,
        graph: bool,
        options: Mapping[str, Scalar] = _NO_OPTIONS,
    ) -> None:
        folder = Path(tempfile.mkdtemp(prefix="steelyard-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        small = path.stat().st_size < _MOST_WRITTEN
        self.optimised: Path | None = folder / "optimised.onnx" if graph and small else None
        self._session = open_session(path, options=options, profile_to=folder / "profile", write_to=self.optimised)
        self._outputs, self._feed = outputs, feed

    def turn(self, calls: int) -> NDArray[np.float64]:
        return timed(lambda: self._session.run(self._outputs, self._feed), calls)

    def slices(self) -> tuple[Slice, ...]:
        events = json.loads(Path(self._session.end_profiling()).read_text(encoding="utf-8"))
        nodes = [e for e in events if e.get("cat") == "Node" and e["name"].endswith(_NODE) and "op_name" in e["args"]]
        runs = sorted((e["ts"], e["ts"] + e["dur"]) for e in events if e["name"] == "model_run")
        return tuple(_slices(sorted(nodes, key=lambda e: (e["ts"], -e["dur"])), runs))


_MOST_WRITTEN = 1 << 30  # bytes of a file whose optimised graph is written out; protobuf ends at 2 GiB
_NODE = "_kernel_time"
_SPELLED = {
    "float": "fp32", "float16": "fp16", "bfloat16": "bf16", "double": "fp64", "uint8": "int8", "int8": "int8",
}  # fmt: skip


def _slices(nodes: list[dict[str, Any]], runs: list[tuple[int, int]]) -> Iterator[Slice]:
    """Of node events in order of their start; a node within another (a branch of If, say) was called by it."""
    ends: list[tuple[int, int]] = []  # (end, index in `found`) of the nodes that are open
    inner = [0] * len(nodes)
    outermost = [True] * len(nodes)
    for i, node in enumerate(nodes):
        while ends and ends[-1][0] <= node["ts"]:
            ends.pop()
        if ends:
            inner[ends[-1][1]] += node["dur"]
            outermost[i] = False
        ends.append((node["ts"] + node["dur"], i))
    starts = np.array([start for start, _ in runs])
    for i, node in enumerate(nodes):
        run = max(0, int(np.searchsorted(starts, node["ts"], side="right")) - 1)
        kinds = [kind for value in node["args"].get("input_type_shape", ()) for kind in value]
        yield Slice(
            name=node["args"]["op_name"],
            layer=node["name"].removesuffix(_NODE),
            run=run,
            start_s=(node["ts"] - runs[run][0]) / 1e6,
            seconds=node["dur"] / 1e6,
            self_s=max(0, node["dur"] - inner[i]) / 1e6,
            outermost=outermost[i],
            dtype=next((_SPELLED[kind] for kind in kinds if kind in _SPELLED), ""),
            shapes=tuple(tuple(s) for v in node["args"].get("output_type_shape", ()) for s in v.values()),
        )


def _fixed_batch(session: Any) -> int | None:
    shape = session.get_inputs()[0].shape
    return shape[0] if shape and isinstance(shape[0], int) else None


def load(artifact: Artifact) -> OnnxRunner:
    """Load an ONNX file; see `open_session` for the options."""
    return OnnxRunner(artifact.path, artifact.options)


def signature(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape of one example, dtype and number of classes of a model with one input and one output."""
    session = open_session(path)
    inputs, outputs = session.get_inputs(), session.get_outputs()
    if len(inputs) != 1:
        raise InvalidInput(f"{path} has inputs {[i.name for i in inputs]}; models with exactly one input are supported")
    if len(outputs) != 1:
        names = [o.name for o in outputs]
        raise InvalidInput(f"{path} has outputs {names}; models with exactly one output, the logits, are supported")
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
