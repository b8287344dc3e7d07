"""Peak memory by role, in a fresh process: weights, activations, workspace, runtime, and what the allocator keeps.

Three accounts that know nothing of each other are put together. The kernel tells which pages are resident and what file
each maps (``/proc/self/smaps``), and the peak (VmHWM). The C library tells the bytes it has handed out and those it keeps
(``mallinfo2``), read some thousand times a second while the model runs. The engine tells how many bytes of activations
are alive at once (`activations`). Roles come from the last two and the map; their sum is held against the kernel's peak,
and what is missing or too much stands beside it (`steelyard.report.derive`).

==============  =======================================================================================
weights         PyTorch: every tensor alive between two calls. Others: the heap's growth by loading, packed
                copies included, and the model's own files where they are mapped into memory
activations     alive at once in one inference, with inputs and outputs
workspace       what else was in use at the peak of a call: scratch memory, rounding of arenas, copies for a batch size
runtime         interpreter, libraries, engine: resident before the model, library pages touched since, and
                for PyTorch whatever loading took beside tensors
freed           given back by the model and kept by the C library's allocator
==============  =======================================================================================
"""

from __future__ import annotations

import gc
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.activations import activation_bytes
from steelyard.measure.process import Child, Limits
from steelyard.probe.gpu import Gpu, open_gpus, process_bytes
from steelyard.probe.memory import Heap, MemoryMap, heap, memory_map, peak_rss_bytes, reset_peak
from steelyard.probe.monitor import Monitor, resident_source
from steelyard.records import Sample, Scalar, Unavailable
from steelyard.subject.artifact import Artifact, read_artifact
from steelyard.subject.engines import Runner, load_runner

__all__ = [
    "MEMORY_WORKER",
    "ROLES",
    "GpuMemory",
    "MemoryReadings",
    "MemoryWorker",
    "Stage",
    "gpu_memory",
    "gpu_roles",
    "roles",
    "weigh_memory",
]

MEMORY_WORKER = "steelyard.measure.memory:MemoryWorker"
ROLES = ("weights", "activations", "workspace", "runtime", "freed")

_PACKAGES = {"eager": "torch", "torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino"}
_TICK_S = 2e-4  # between two looks at the heap
_LEAST_CALLS = 3
_TIMELINE_HZ = 50.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The two accounts at one moment between calls."""

    heap: Heap
    map: MemoryMap


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuMemory:
    """What PyTorch's caching allocator and the driver tell of all CUDA devices, in bytes."""

    between_bytes: int  # allocated between two calls
    most_allocated_bytes: int  # over the calls
    most_reserved_bytes: int  # taken from the driver, over the calls
    process_bytes: int | Unavailable  # by the driver's count, context included


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryReadings:
    """All that one process tells about one batch size, in bytes."""

    engine: str
    batch: int
    before: Stage  # engine imported, no model
    loaded: Stage
    ready: Stage  # after the first calls
    peak_bytes: int | Unavailable  # the kernel's, over the calls after those
    most_used_bytes: int  # of the heap, over the same calls
    most_held_bytes: int  # used and free together
    activations: int | Unavailable
    input_bytes: int
    tensor_bytes: int = 0  # PyTorch: alive between calls
    laid_out_bytes: int = 0  # OpenVINO: room for activations that loading made
    gpu: GpuMemory | None = None  # where the model runs on a CUDA device


def roles(found: MemoryReadings) -> dict[str, float]:
    """Bytes of each of `ROLES` at the peak of a call.

    Anonymous memory that was asked for and never written is not resident. It is taken off the workspace, because arenas
    round up, and what is left of it off the runtime, whose reserves are no other role's.
    """
    before, ready = found.before, found.ready
    activations = 0 if isinstance(found.activations, Unavailable) else found.activations
    weights, beside, used = (_torch if _PACKAGES[found.engine] == "torch" else _packed)(found, activations)
    untouched = ready.map.untouched_bytes - before.map.untouched_bytes
    workspace = max(0, used - before.heap.used_bytes - weights - beside - activations)
    spared = min(workspace, max(0, untouched))
    libraries = ready.map.library_bytes - before.map.library_bytes
    others = _beside_heap(ready) - _beside_heap(before) - (untouched - spared)
    return {
        "weights": weights + ready.map.model_bytes,
        "activations": activations,
        "workspace": workspace - spared,
        "runtime": before.map.resident_bytes - before.heap.free_bytes + libraries + beside + others,
        "freed": max(0, found.most_held_bytes - used),
    }


def gpu_roles(found: GpuMemory) -> dict[str, float | Unavailable]:
    """Bytes by role on the GPU: activations stand with the workspace, which lives among them in one allocator.

    The context, kernels and libraries are what the driver counts beyond the allocator's; containers often hide that count.
    """
    runtime: float | Unavailable = Unavailable(
        quantity="gpu_memory_role_bytes", reason="the driver tells no process's share"
    )
    if isinstance(found.process_bytes, int):
        runtime = max(0, found.process_bytes - found.most_reserved_bytes)
    return {
        "weights": found.between_bytes,
        "activations": found.most_allocated_bytes - found.between_bytes,
        "freed": found.most_reserved_bytes - found.most_allocated_bytes,
        "runtime": runtime,
    }


def _torch(found: MemoryReadings, activations: int) -> tuple[int, int, int]:
    """Tensors on the heap; what loading took beside them (modules, graphs, generated code); the most in use in a call.

    Activations come and go within a call, so a look at the heap may miss the peak; their count does not.
    """
    tensors = max(0, found.tensor_bytes - found.ready.map.model_bytes)
    ready = found.ready.heap.used_bytes
    beside = max(0, ready - found.before.heap.used_bytes - found.input_bytes - tensors)
    return tensors, beside, max(found.most_used_bytes, ready + activations - found.input_bytes)


def _packed(found: MemoryReadings, _activations: int) -> tuple[int, int, int]:
    """Growth of the heap by loading, but for room made for activations; nothing beside it; the most in use."""
    growth = found.loaded.heap.used_bytes - found.before.heap.used_bytes
    return max(0, growth - found.laid_out_bytes), 0, found.most_used_bytes


def _beside_heap(stage: Stage) -> int:
    """Anonymous memory that is not the heap's: the interpreter's own objects, stacks, generated code."""
    return stage.map.anonymous_bytes + stage.map.untouched_bytes - stage.heap.used_bytes - stage.heap.free_bytes


# --- in the parent -----------------------------------------------------------------------------------


def weigh_memory(
    artifact: Artifact,
    inputs: Path,
    batches: Sequence[int],
    *,
    seconds: float = 0.3,
    limits: Limits | None = None,
    log: Path | None = None,
) -> tuple[Sample | Unavailable, ...]:
    """Peak memory by role at each batch size, and resident bytes over time, from one fresh process.

    ``memory_role_bytes`` with conditions ``role`` and ``batch``; ``memory_peak_bytes`` with ``batch``, the kernel's peak that
    they should add up to; ``memory_resident_bytes``, a series; ``memory_phase_s``, when each phase of it began and ended.
    """
    with Child(MEMORY_WORKER, limits=limits, log=log) as child:
        child.call("begin", folder=str(artifact.folder), inputs=str(inputs))
        phases: dict[str, tuple[float, float]] = {}
        readings: list[Sample | Unavailable] = []
        with Monitor(child.pid, rate_hz=_TIMELINE_HZ, sources=[resident_source(child.pid)]) as monitor:
            phases["load"] = _timed(monitor, lambda: readings.append(child.call("load")))
            for batch in batches:
                phases[f"first call, batch {batch}"] = _timed(monitor, lambda: child.call("first", batch=batch))  # noqa: B023
                phases[f"batch {batch}"] = _timed(
                    monitor,
                    lambda: readings.extend(_at(batch, child.call("run", seconds=seconds))),  # noqa: B023
                )
        return (*readings, *_timeline(monitor, phases))


def _timed(monitor: Monitor, work: Callable[[], object]) -> tuple[float, float]:
    start = monitor.elapsed_s
    work()
    return start, monitor.elapsed_s


def _at(batch: int, found: MemoryReadings | Unavailable) -> Iterator[Sample | Unavailable]:
    where: dict[str, Scalar] = {"batch": batch}
    if isinstance(found, Unavailable):
        yield Unavailable(quantity="memory_role_bytes", reason=found.reason, conditions=where)
        return
    if isinstance(found.peak_bytes, Unavailable):
        yield Unavailable(quantity="memory_peak_bytes", reason=found.peak_bytes.reason, conditions=where)
    else:
        yield _bytes("memory_peak_bytes", found.peak_bytes, where)
    for role, size in roles(found).items():
        conditions = {"role": role, **where}
        if role == "activations" and isinstance(found.activations, Unavailable):
            yield Unavailable(quantity="memory_role_bytes", reason=found.activations.reason, conditions=conditions)
        else:
            yield _bytes("memory_role_bytes", size, conditions)
    if found.gpu is not None:
        yield from _on_gpu(found.gpu, where)


def _on_gpu(found: GpuMemory, where: Mapping[str, Scalar]) -> Iterator[Sample | Unavailable]:
    for role, size in gpu_roles(found).items():
        conditions = {"role": role, **where}
        if isinstance(size, Unavailable):
            yield Unavailable(quantity=size.quantity, reason=size.reason, conditions=conditions)
        else:
            yield _bytes("gpu_memory_role_bytes", size, conditions)


def _timeline(monitor: Monitor, phases: Mapping[str, tuple[float, float]]) -> Iterator[Sample]:
    for series in monitor.series():
        if isinstance(series, Sample) and series.quantity == "resident_bytes":
            yield Sample(quantity="memory_resident_bytes", unit="byte", values=series.values, times_s=series.times_s)
    for phase, span in phases.items():
        yield Sample(quantity="memory_phase_s", unit="s", values=np.array(span), conditions={"phase": phase})


def _bytes(quantity: str, size: float, conditions: Mapping[str, Any]) -> Sample:
    return Sample(quantity=quantity, unit="byte", values=np.array([float(size)]), conditions=conditions)


# --- in the child ------------------------------------------------------------------------------------


class MemoryWorker:
    """Loads one artifact and tells the accounts of its memory; its times mean nothing."""

    def __init__(self) -> None:
        self._artifact: Artifact
        self._runner: Runner
        self._examples: NDArray[Any]
        self._inputs: NDArray[Any]
        self._stages: dict[str, Stage | Unavailable] = {}

    def begin(self, folder: str, inputs: str) -> None:
        """Read what belongs to nobody's role, and import the engine."""
        self._artifact = read_artifact(Path(folder))
        self._examples = np.load(inputs)
        with suppress(ImportError):  # loading the model says which extra is missing
            _wake(self._artifact.engine)
        self._stages["before"] = self._stage()

    def load(self) -> Sample | Unavailable:
        """Load the model; the peak of loading it."""
        refused = reset_peak()
        self._runner = load_runner(self._artifact)
        peak = refused or peak_rss_bytes()
        self._stages["loaded"] = self._stage()
        if isinstance(peak, Unavailable):
            return Unavailable(quantity="memory_load_peak_bytes", reason=peak.reason)
        return _bytes("memory_load_peak_bytes", peak, {})

    def first(self, batch: int) -> None:
        """The first calls of a batch size, after which its memory is laid out."""
        self._inputs = np.ascontiguousarray(self._examples[np.arange(batch) % len(self._examples)])
        for _ in range(_LEAST_CALLS):
            self._runner(self._inputs)
        self._stages["ready"] = self._stage()

    def run(self, seconds: float) -> MemoryReadings | Unavailable:
        """Call for `seconds` while a thread looks at the heap, then count activations, which costs memory of its own."""
        missing = next((s for s in self._stages.values() if isinstance(s, Unavailable)), None)
        if missing is not None:
            return missing
        stages = {name: stage for name, stage in self._stages.items() if isinstance(stage, Stage)}
        refused = reset_peak()
        cuda = _cuda()
        for device in range(cuda.device_count()) if cuda else ():
            cuda.reset_peak_memory_stats(device)
        used, held = _watched(lambda: self._runner(self._inputs), seconds)
        peak = refused or peak_rss_bytes()
        gpu = cuda and gpu_memory(cuda, open_gpus())
        return MemoryReadings(
            engine=self._artifact.engine,
            batch=len(self._inputs),
            before=stages["before"],
            loaded=stages["loaded"],
            ready=stages["ready"],
            peak_bytes=peak,
            most_used_bytes=used,
            most_held_bytes=held,
            activations=activation_bytes(self._artifact, self._runner, self._inputs),
            input_bytes=self._inputs.nbytes,
            tensor_bytes=_tensor_bytes(),
            laid_out_bytes=self._laid_out(),
            gpu=gpu,
        )

    def _laid_out(self) -> int:
        """OpenVINO compiles for one example when it loads, and keeps room for that example's activations."""
        if self._artifact.engine != "openvino":
            return 0
        found = activation_bytes(self._artifact, self._runner, self._examples[:1])
        return 0 if isinstance(found, Unavailable) else found

    def _stage(self) -> Stage | Unavailable:
        gc.collect()
        now, pages = heap(), memory_map(self._artifact.folder)
        if isinstance(now, Unavailable):
            return now
        return pages if isinstance(pages, Unavailable) else Stage(heap=now, map=pages)


def _wake(engine: str) -> None:
    """Import the engine, and for OpenVINO the plug-in for the processor: neither is the model's doing."""
    package = import_module(_PACKAGES[engine])
    if engine == "openvino":
        package.Core().get_property("CPU", "FULL_DEVICE_NAME")


def _watched(call: Callable[[], object], seconds: float) -> tuple[int, int]:
    """The most bytes in use, and the most in use and free together, that the heap had while `call` was repeated."""
    over = threading.Event()
    seen: list[Heap] = []

    def watch() -> None:
        while not over.wait(_TICK_S):
            now = heap()
            if isinstance(now, Heap):
                seen.append(now)

    watcher = threading.Thread(target=watch, name="steelyard-heap")
    watcher.start()
    try:
        _repeat(call, seconds)
    finally:
        over.set()
        watcher.join()
    used = max((h.used_bytes for h in seen), default=0)
    return used, max((h.used_bytes + h.free_bytes for h in seen), default=0)


def _repeat(call: Callable[[], object], seconds: float) -> None:
    end = time.monotonic() + seconds
    calls = 0
    while calls < _LEAST_CALLS or time.monotonic() < end:
        call()
        calls += 1


def _cuda() -> Any:
    """``torch.cuda`` where the model has begun to use it, else None."""
    torch = sys.modules.get("torch")
    return torch.cuda if torch is not None and torch.cuda.is_initialized() else None


def gpu_memory(cuda: Any, gpus: tuple[Gpu, ...] | Unavailable) -> GpuMemory:
    """Sums over devices; `cuda` is ``torch.cuda``, its peaks begun afresh before the calls."""
    devices = range(cuda.device_count())
    return GpuMemory(
        between_bytes=sum(cuda.memory_allocated(device) for device in devices),
        most_allocated_bytes=sum(cuda.max_memory_allocated(device) for device in devices),
        most_reserved_bytes=sum(cuda.max_memory_reserved(device) for device in devices),
        process_bytes=gpus if isinstance(gpus, Unavailable) else process_bytes(gpus),
    )


def _tensor_bytes() -> int:
    """Bytes of all PyTorch tensors alive on the CPU, storages once; fake tensors of the compiler hold none."""
    torch = sys.modules.get("torch")
    if torch is None:
        return 0
    kinds = (torch.Tensor, torch.nn.Parameter)
    found = [thing for thing in gc.get_objects() if type(thing) in kinds and thing.device.type == "cpu"]
    packed: int = sum(t.numel() * t.element_size() for t in found if t.layout is not torch.strided)
    storages = [t.untyped_storage() for t in found if t.layout is torch.strided]
    strided: int = sum({s.data_ptr(): s.nbytes() for s in storages}.values())
    return packed + strided
