"""ONNX Runtime on the CPU."""

from __future__ import annotations

import json
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
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


def open_session(path: Path, *, profile_to: Path | None = None, write_to: Path | None = None) -> Any:
    """An inference session whose threads stop spinning when a run ends, so that a resting process disturbs nobody.

    It can be profiled into a file that begins as `profile_to`, and write the graph that it runs, optimised, to `write_to`.
    """
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
    if write_to is not None:
        options.optimized_model_filepath = str(write_to)
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
        return OnnxProfiling(self._path, self._outputs, {self._input: inputs}, graph=graph)


class OnnxProfiling:
    """A second session of the same file, with ONNX Runtime's profiler on.

    ``optimised`` is the graph that the session runs, whose nodes are those of the profile; None where it was not asked for
    or is too large to be written. It goes when this object goes.
    """

    def __init__(self, path: Path, outputs: list[str], feed: dict[str, NDArray[Any]], *, graph: bool) -> None:
        folder = Path(tempfile.mkdtemp(prefix="steelyard-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        small = path.stat().st_size < _MOST_WRITTEN
        self.optimised: Path | None = folder / "optimised.onnx" if graph and small else None
        self._session = open_session(path, profile_to=folder / "profile", write_to=self.optimised)
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
