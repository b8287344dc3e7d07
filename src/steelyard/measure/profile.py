"""Where one inference's time goes: layers and operators by the engine's own profiler, beside inferences without it.

In one process, profiled and unprofiled inferences take turns, so that what profiling costs is known from the same minutes.
Times of layers come from the profiled ones; what their operators were asked for (MACs, bytes) is counted apart and joined by
name.
"""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.counts.macs import LayerCount, MacCount, canonical, flop_counter_macs, module_macs
from steelyard.counts.onnx_macs import executed_macs, onnx_macs
from steelyard.counts.openvino_macs import openvino_followers, openvino_macs, openvino_model_macs
from steelyard.errors import SteelyardError
from steelyard.measure.trace import Count, Span
from steelyard.measure.worker import Worker
from steelyard.probe.monitor import Monitor
from steelyard.records import Contract, LayerTime, Profiled, Sample, Scalar, Unavailable
from steelyard.subject.contract import prepare
from steelyard.subject.engines import Profiling, Slice
from steelyard.subject.splits import Split

__all__ = ["PROFILER", "Profile", "Profiler", "data_rate", "join_counts", "layer_times"]

Reading = Sample | Unavailable

PROFILER = "steelyard.measure.profile:Profiler"

TURNS = 8  # of each kind; the first of both is warm-up and not weighed
LEAST_TURNS = 3  # also where the time is over
LEAST_RUNS = 3  # inferences in one turn
MOST_RUNS = 25  # profiled in one turn: each leaves an event for each operator
TRACED = 3  # the last profiled inferences go into the trace
RATE_HZ = 20.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profile:
    """What a `Profiler` gives back: the record, further readings, and what a trace draws."""

    profiled: Profiled
    readings: tuple[Reading, ...]
    spans: tuple[Span, ...]
    counts: tuple[Count, ...]


class Profiler(Worker):
    """A measuring process that also profiles. Its clock begins where it is told to load."""

    def profile(self, folder: str, inputs: str, batch: int, seconds: float) -> Profile:
        """Load, predict once, then let profiled and unprofiled inferences take turns for about `seconds`."""
        origin = time.perf_counter()
        spans: list[Span] = []
        with Monitor(rate_hz=RATE_HZ) as monitor:
            with _phase(spans, "load", origin):
                loading = self.load(folder, inputs)
            with _phase(spans, "first call", origin):
                loading |= self.first()
            batch = self._runner.fixed_batch or batch
            example = self._batch(batch)
            with _phase(spans, "warm-up", origin):
                plain_s = float(np.median(self.warm(batch, 0.1 * seconds)[-3:]))
            with _phase(spans, "profiler starts", origin):
                profiling = self._runner.profiling(example)
                trials = [profiling.turn(1)]
            began = time.perf_counter()
            with _phase(spans, "trial of the profiler", origin):  # what it costs with reading its events
                trials.append(profiling.turn(1))
            costs = (plain_s, time.perf_counter() - began)
            plain, profiled = self._turns(profiling, example, spans, origin, costs, 0.8 * seconds)
        slices = profiling.slices()
        count, notes = self._count(profiling, slices, batch)
        asked = self._asked(count, batch)
        if asked.total != count.total:
            notes = (
                *notes,
                f"the engine multiplies {count.total:,} times, the file asks for {asked.total:,}: it pads channels",
            )
        spans += _drawn(slices, np.concatenate([*trials, *profiled]), origin)
        weighed = _from_run(slices, sum(map(len, (*trials, profiled[0]))))
        found = self._profiled(batch, plain, profiled, weighed, (count, asked), notes)
        series = monitor.series()
        return Profile(
            profiled=found,
            readings=(*_readings(loading, found, asked), *_operator_seconds(weighed, len(found.profiled_s)), *series),
            spans=tuple(spans),
            counts=tuple(_counters(series)),
        )

    def _turns(
        self,
        profiling: Profiling,
        example: NDArray[Any],
        spans: list[Span],
        origin: float,
        costs: tuple[float, float],
        seconds: float,
    ) -> tuple[list[NDArray[np.float64]], list[NDArray[np.float64]]]:
        """Beginnings and ends of the inferences of each turn: those without the profiler, and those with it."""
        share = seconds / (2 * TURNS)
        calls, watched = (max(LEAST_RUNS, int(share / max(cost, 1e-7))) for cost in costs)
        plain: list[NDArray[np.float64]] = []
        profiled: list[NDArray[np.float64]] = []
        end = time.perf_counter() + 1.5 * seconds
        for turn in range(TURNS):
            if turn >= LEAST_TURNS and time.perf_counter() > end:
                break
            for watching in (False, True) if turn % 2 == 0 else (True, False):
                with _phase(spans, f"{'profiled' if watching else 'unprofiled'} turn {turn + 1}", origin):
                    if watching:
                        profiled.append(profiling.turn(min(watched, MOST_RUNS)))
                    else:
                        plain.append(_plain(self._runner, example, calls))
        return plain, profiled

    def _count(self, profiling: Profiling, slices: Sequence[Slice], batch: int) -> tuple[MacCount, tuple[str, ...]]:
        """What was asked for; a model that cannot be counted is no worse a model."""
        try:
            return self._counted(profiling, slices, batch), ()
        except (SteelyardError, RuntimeError, NotImplementedError) as error:
            words = " ".join(str(error).split())[:200]
            return MacCount(layers=()), (f"its MACs could not be counted: {words}",)

    def _counted(self, profiling: Any, slices: Sequence[Slice], batch: int) -> MacCount:
        path = self._artifact.path
        if self._artifact.engine == "openvino":
            return openvino_model_macs(self._runner.model, batch)  # type: ignore[attr-defined]
        if self._artifact.engine != "onnxruntime":
            return module_macs(self._runner.module, self._batch(batch), self._runner.node_layers)  # type: ignore[attr-defined]
        if profiling.optimised is None:
            return onnx_macs(path, batch)
        return executed_macs(profiling.optimised, {s.layer: s.shapes for s in slices}, batch)

    def _asked(self, executed: MacCount, batch: int) -> MacCount:
        """What the model asks for, where the engine was seen to run another graph."""
        if self._artifact.engine != "onnxruntime":
            return executed
        try:
            return onnx_macs(self._artifact.path, batch)
        except SteelyardError:
            return executed

    def _homes(self, slices: Iterable[Slice], count: MacCount) -> dict[str, Key]:
        """Where nodes went that the engine fused into others: by what it says, or, where it says nothing, by what follows."""
        homes = {name: (s.layer, canonical(s.name)) for s in slices for name in (*s.covers, s.layer)}
        if self._artifact.engine != "openvino":
            return homes
        followers = openvino_followers(self._runner.model)  # type: ignore[attr-defined]
        for layer in (part.layer for part in count.layers if part.layer not in homes):
            heir = next((f for f in _followed(layer, followers) if f in homes), None)
            if heir is not None:
                homes[layer] = homes[heir]
        return homes

    def _opinions(self, count: MacCount, batch: int) -> tuple[str, tuple[tuple[str, int, int], ...]]:
        """A second counter's MACs beside ours, operator by operator; without one, the reason."""
        try:
            by, theirs = self._second(batch)
        except (SteelyardError, RuntimeError, NotImplementedError, ImportError) as error:
            return f"none: {' '.join(str(error).split())[:200]}", ()
        if not theirs:
            return by, ()
        ours = _by_operator(count)
        return by, tuple((name, ours.get(name, 0), theirs.get(name, 0)) for name in dict.fromkeys([*ours, *theirs]))

    def _second(self, batch: int) -> tuple[str, dict[str, int]]:
        path = self._artifact.path
        if self._artifact.engine == "onnxruntime":
            return "OpenVINO's reading of the file", _by_operator(openvino_macs(path, batch))
        if self._artifact.engine == "openvino":
            return "none: nothing else reads OpenVINO IR", {}
        module = self._runner.module  # type: ignore[attr-defined]
        return "torch.utils.flop_counter", flop_counter_macs(module, self._batch(batch))

    def _profiled(
        self,
        batch: int,
        plain: list[NDArray[np.float64]],
        profiled: list[NDArray[np.float64]],
        slices: Sequence[Slice],
        counts: tuple[MacCount, MacCount],
        notes: tuple[str, ...],
    ) -> Profiled:
        count, asked = counts
        runs = sum(map(len, profiled[1:]))
        layers, lost = join_counts(layer_times(slices, runs), count, self._homes(slices, count))
        second, opinions = self._opinions(asked, batch)
        if lost:
            notes = (*notes, f"{lost:,} MACs belong to layers that the profiler did not show")
        return Profiled(
            engine=self._artifact.engine,
            device=getattr(self._runner, "device", "cpu"),
            batch=batch,
            layers=layers,
            profiled_s=np.concatenate([np.diff(turn)[:, 0] for turn in profiled[1:]]),
            plain_s=np.concatenate([np.diff(turn)[:, 0] for turn in plain[1:]]),
            blocks=_blocks(profiled[1:]),
            plain_blocks=_blocks(plain[1:]),
            unknown=tuple(sorted(count.uncounted.items())),
            second_counter=second,
            opinions=opinions,
            notes=notes,
        )


def _from_run(slices: Iterable[Slice], first: int) -> list[Slice]:
    """Without what came before run `first`, which becomes 0: warm-up."""
    return [replace(s, run=s.run - first) for s in slices if s.run >= first]


def _plain(call: Callable[[NDArray[Any]], object], example: NDArray[Any], calls: int) -> NDArray[np.float64]:
    from steelyard.subject.engines import timed

    return timed(lambda: call(example), calls)


def _blocks(turns: Sequence[NDArray[np.float64]]) -> NDArray[np.int32]:
    return np.repeat(np.arange(len(turns), dtype=np.int32), [len(turn) for turn in turns])


def _by_operator(count: MacCount) -> dict[str, int]:
    grouped: Counter[str] = Counter()
    for layer in count.layers:
        grouped[canonical(layer.operator)] += layer.macs
    return dict(grouped)


# --- readings ----------------------------------------------------------------------------------------


def _readings(loading: Mapping[str, float], found: Profiled, count: MacCount) -> Iterator[Reading]:
    """Loading, latency at the profiled batch size, throughput there, and what was counted."""
    for name, value in loading.items():
        yield _one(name, "s" if name.endswith("_s") else "byte", [value])
    at: dict[str, Scalar] = {"batch": found.batch}
    yield _one("latency_s", "s", found.plain_s, at)
    yield _one("throughput_per_s", "1/s", found.batch / found.plain_s, at)
    if not count.layers:
        yield Unavailable(
            quantity="macs", reason=(*found.notes, "no operator with multiply-accumulates was counted")[0]
        )
        return
    for sample in count.samples():
        each = found.batch if sample.quantity in ("macs", "operator_macs") else 1  # of one example
        yield replace(sample, values=sample.values / each)
    yield _one("macs_coverage", "fraction", [_coverage(found)])
    if found.device == "cpu":
        yield Unavailable(quantity="transfer_s", reason="one process on the processor moves nothing between devices")


def _coverage(found: Profiled) -> float:
    """The share of the layers' time in those whose MACs were counted."""
    times = np.array([float(np.median(row.seconds)) for row in found.layers])
    counted = np.array([row.macs > 0 for row in found.layers])
    return float(times[counted].sum() / max(times.sum(), 1e-12))


def _operator_seconds(slices: Iterable[Slice], runs: int) -> Iterator[Sample]:
    """Each operator's own seconds in each inference, those that take longest first."""
    found: dict[str, list[Slice]] = defaultdict(list)
    for one in slices:
        if one.kind == "operator" and one.self_s > 0:
            found[one.name].append(one)
    for name, parts in sorted(found.items(), key=lambda item: -sum(s.self_s for s in item[1])):
        where: dict[str, Scalar] = {"operator": name}
        seconds = np.bincount([s.run for s in parts], weights=[s.self_s for s in parts], minlength=runs)
        yield _one("operator_s", "s", seconds, where)
        yield _one("operator_calls", "count", [round(len(parts) / runs)], where)


def _one(quantity: str, unit: str, values: Any, conditions: Mapping[str, Scalar] | None = None) -> Sample:
    return Sample(
        quantity=quantity, unit=unit, values=np.asarray(values, dtype=np.float64), conditions=conditions or {}
    )


# --- layers ----------------------------------------------------------------------------------------

Key = tuple[str, str]  # layer, canonical operator


def layer_times(slices: Iterable[Slice], runs: int) -> tuple[LayerTime, ...]:
    """One row for each kind of operator in each layer, with its seconds in each of `runs` inferences.

    The outermost operators count, with all that they called: `conv2d` holds the kernel that it ends in. On an accelerator it
    is the time that their kernels took there.
    """
    own = [s for s in slices if s.kind == "operator" and s.outermost]
    found: dict[Key, list[Slice]] = defaultdict(list)
    for one in sorted(own, key=lambda s: (s.run, s.start_s)):
        found[one.layer, canonical(one.name)].append(one)
    on_device = any(s.device_s > 0 for s in own)
    return tuple(_row(key, parts, runs, on_device=on_device) for key, parts in found.items())


def _row(key: Key, parts: Sequence[Slice], runs: int, *, on_device: bool) -> LayerTime:
    seconds = [part.device_s if on_device else part.seconds for part in parts]
    return LayerTime(
        layer=key[0],
        operator=key[1],
        names=tuple(dict.fromkeys(part.name for part in parts)),
        seconds=np.bincount([part.run for part in parts], weights=seconds, minlength=runs).astype(np.float64),
        calls=len(parts) / runs,
        dtype=next((part.dtype for part in parts if part.dtype), ""),
        kernel=next((part.detail for part in parts if part.detail), ""),
    )


def _followed(name: str, followers: Mapping[str, str], steps: int = 3) -> Iterator[str]:
    """The next few operations behind one, nearest first."""
    for _ in range(steps):
        if name not in followers:
            return
        name = followers[name]
        yield name


def join_counts(
    rows: Sequence[LayerTime], count: MacCount, homes: Mapping[str, Key] | None = None
) -> tuple[tuple[LayerTime, ...], int]:
    """The rows with what was counted for them, and the MACs that found no row.

    A count goes to the row of its own layer and operator; else to the one that covers its node (`homes`); else to the same
    operator of an enclosing layer; else, if it has MACs, to an operator of an enclosing layer that stands for a whole part of
    a model, such as PyTorch's encoder layer in one call. Without MACs it goes to an operator of its layer that is spelled
    like it (``batch_norm`` for ``native_batch_norm``), or that is the only one there.
    """
    places = {(row.layer, row.operator): i for i, row in enumerate(rows)}
    parts: dict[int, list[LayerCount]] = defaultdict(list)
    lost = 0
    for part in (*count.layers, *count.others):
        place = _place(part, places, homes or {})
        if place is None:
            lost += part.macs
        else:
            parts[place].append(part)
    unknown = {canonical(name) for name in count.uncounted}
    return tuple(_with_counts(row, parts[i], unknown) for i, row in enumerate(rows)), lost


_WHOLE = ("transformerencoderlayerfwd", "attention", "recurrent")  # operators that do the work of several


def _place(part: LayerCount, places: Mapping[Key, int], homes: Mapping[str, Key]) -> int | None:
    operator = canonical(part.operator)
    wanted = [(part.layer, operator), homes.get(part.layer, ("", "")), *((a, operator) for a in _above(part.layer))]
    if part.macs:
        wanted += [(above, whole) for above in (part.layer, *_above(part.layer)) for whole in _WHOLE]
    else:
        own = [key for key in places if part.layer and key[0] == part.layer]
        wanted = [*wanted[:2], *(key for key in own if _alike(key[1], operator) or len(own) == 1)]
    return next((places[key] for key in wanted if key in places), None)


def _alike(one: str, other: str) -> bool:
    return one in other or other in one


def _above(layer: str) -> Iterator[str]:
    """The layers that enclose one, nearest first.

    >>> list(_above("encoder.0.norm"))
    ['encoder.0', 'encoder', '']
    """
    while layer:
        layer = layer.rpartition(".")[0]
        yield layer


def _with_counts(row: LayerTime, parts: Sequence[LayerCount], unknown: set[str]) -> LayerTime:
    macs = sum(part.macs for part in parts)
    state: Literal["counted", "zero", "unknown"] = (
        "counted" if macs else "unknown" if row.operator in unknown else "zero"
    )
    return replace(
        row,
        macs=macs,
        moved_bytes=sum(part.moved_bytes for part in parts),
        weight_bytes=sum(part.weight_bytes for part in parts),
        dtype=row.dtype or next((part.dtype for part in parts if part.dtype), ""),
        state=state,
    )


# --- the trace -------------------------------------------------------------------------------------


class _phase:  # noqa: N801 - read as the statement it stands in
    """Time a block as a span of the track of phases."""

    def __init__(self, spans: list[Span], name: str, origin: float) -> None:
        self._spans, self._name, self._origin = spans, name, origin

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        now = time.perf_counter()
        start_s = self._start - self._origin
        self._spans.append(Span(track="phases", name=self._name, start_s=start_s, seconds=now - self._start))


def _drawn(slices: Sequence[Slice], runs: NDArray[np.float64], origin: float) -> Iterator[Span]:
    """The last inferences under the profiler: each as a span, and its slices within it."""
    first = max(0, len(runs) - TRACED)
    for run in range(first, len(runs)):
        start, end = runs[run]
        yield Span(track="inference", name=f"inference {run + 1}", start_s=start - origin, seconds=end - start)
    for s in slices:
        if s.run >= first:
            yield _drawn_slice(s, float(runs[s.run][0] - origin))


def _drawn_slice(found: Slice, start_s: float) -> Span:
    known = {"layer": found.layer, "type": found.dtype, "kernel": found.detail, "outputs": str(found.shapes or "")}
    return Span(
        track="accelerator" if found.kind == "kernel" else "inference",
        name=found.name or "model",
        start_s=start_s + found.start_s,
        seconds=found.seconds,
        category=found.kind,
        details={name: value for name, value in known.items() if value},
    )


def _counters(series: Iterable[Any]) -> Iterator[Count]:
    for sample in series:
        if isinstance(sample, Sample) and sample.times_s is not None:
            where = "".join(f" {name} {value}" for name, value in sample.conditions.items())
            for at, value in zip(sample.times_s, sample.values, strict=True):
                if np.isfinite(value):
                    yield Count(name=sample.quantity + where, time_s=float(at), value=float(value))


# --- data ------------------------------------------------------------------------------------------


def data_rate(
    split: Split, contract: Contract, batch: int, seconds: float, clock: Callable[[], float] = time.perf_counter
) -> Sample:
    """Examples per second that the subject's data gives: read, decoded and scaled in batches, by one process.

    A reading is one batch; reading ends after `seconds` or with the data.
    """
    rates: list[float] = []
    end = clock() + seconds
    for start in range(0, len(split), batch):
        began = clock()
        index = np.arange(start, min(start + batch, len(split)))
        prepare(contract, np.asarray(split.raw[index]))
        now = clock()
        rates.append(len(index) / max(now - began, 1e-9))
        if now >= end:
            break
    return Sample(
        quantity="data_examples_per_s",
        unit="1/s",
        values=np.array(rates),
        conditions={"batch": batch},
        note="read, decoded and scaled by one process",
    )
