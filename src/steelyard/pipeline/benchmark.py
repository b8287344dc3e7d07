"""`steelyard benchmark`: what a model costs, with no data and nothing changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from steelyard.diagnose.findings import diagnose
from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.measure.loadgen import NO_LIMIT_S, Name, Scenario, readings
from steelyard.measure.loading import LoadingSettings, loading
from steelyard.measure.memory import weigh_memory
from steelyard.measure.process import Child
from steelyard.measure.stress import StressSettings, stress
from steelyard.measure.sweep import CellFailed, SweepSettings, cell_conditions, sweep
from steelyard.measure.weigh import WeighSettings, weigh_in
from steelyard.pipeline.asked import Asked, quantile
from steelyard.pipeline.begin import begin
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.pipeline.render import write_report
from steelyard.records import Environment, Measurement, Requirement, RunRecords, Sample, Scalar, Unavailable
from steelyard.search.space import plans_for
from steelyard.store import RunFolder

__all__ = ["benchmark"]

LOAD_WORKER = "steelyard.measure.load:LoadWorker"

Reading = Sample | Unavailable

# How the budget is shared: these parts, of the sum of those that take place.
WARM, LATENCY, SWEEP, LOADING, SCENARIO, STRESS = 1.0, 4.0, 4.0, 4.0, 1.5, 6.0
MONITOR_HZ = 10.0
SERVER_LOAD = 0.7  # of the capacity, where no rate is asked: a queue forms, and does not grow without end
UNASKED_LIMIT = 10.0  # median latencies, where stress is asked without a target


class _Capacity(NamedTuple):
    """The best cell of a sweep."""

    per_s: float
    batch: int
    callers: int


@dataclass(slots=True, kw_only=True)
class _Bench:
    """What the phases share while they work."""

    job: Job
    asked: Asked
    prepared: Prepared
    host: Environment
    progress: Progress
    spent: float = 0.0  # parts of the budget that are behind

    def seconds(self, part: float) -> float:
        """The time of a phase."""
        return self.job.budget_s * part / self._parts

    @property
    def _parts(self) -> float:
        loads = SCENARIO * len(self.asked.scenarios) + STRESS * self.asked.stress
        return WARM + LATENCY + SWEEP + LOADING + loads

    def say(self, what: str, done: float = 0.0) -> None:
        """Tell what is measured; `done` parts of the phase are behind."""
        self.progress(f"measuring: {what}", min(1.0, (self.spent + done) / self._parts))

    @property
    def log(self) -> Path:
        return self.job.out / "workers.log"


def benchmark(job: Job, asked: Asked, progress: Progress = silent) -> RunRecords:
    """Weigh the model for about `job.budget_s` seconds. A benchmark of before in the same folder is replaced."""
    with RunFolder(job.out) as folder:
        _start_over(job, folder)
        prepared = prepare_subject(job.spec, job.out, progress, with_data=False)
        run = begin(job, prepared, folder, "benchmark", progress)
        bench = _Bench(job=job, asked=asked, prepared=prepared, host=run.environment, progress=progress)
        for measured in _measured(bench):
            folder.append(measured)  # at once, and again with what each phase adds: a killed run keeps what it read
        folder.append(diagnose(measured, run.peaks, plans_for(prepared.baseline.engine)))
        records = folder.records()
        assert records is not None
        write_report(job.out, records)
        return records


def _measured(bench: _Bench) -> Iterator[Measurement]:
    """The measurement as it grows."""
    with ExitStack() as stack:
        child = _child(bench, stack)
        measured = _weighed(bench, child)
        yield measured
        measured = _with(measured, _swept(bench, child))
        yield measured
        if bench.asked.scenarios:
            measured = _with(measured, _scenarios(bench, _living(bench, stack, child), measured))
            yield measured
        if bench.asked.stress:
            measured = _with(measured, _stressed(bench, _living(bench, stack, child), measured))
            yield measured
    measured = _with(measured, _loaded(bench))
    yield measured
    yield _with(measured, _remembered(bench))


def _child(bench: _Bench, stack: ExitStack) -> Child:
    return stack.enter_context(Child(LOAD_WORKER, limits=bench.job.limits, log=bench.log))


def _living(bench: _Bench, stack: ExitStack, child: Child) -> Child:
    """The child, or where it died another with the model loaded."""
    if child.alive:
        return child
    fresh = _child(bench, stack)
    _load(bench, fresh)
    return fresh


def _load(bench: _Bench, child: Child) -> None:
    child.call("load", folder=str(bench.prepared.baseline.folder), inputs=str(bench.prepared.inputs))


def _with(measured: Measurement, more: Iterable[Reading]) -> Measurement:
    return dataclasses.replace(measured, readings=(*measured.readings, *more))


def _weighed(bench: _Bench, child: Child) -> Measurement:
    settings = WeighSettings(
        warm_s=bench.seconds(WARM),
        latency_s=bench.seconds(LATENCY),
        sweep=(),
        operator_runs=20,
        monitor_hz=MONITOR_HZ,
    )
    measured = weigh_in(
        child, bench.prepared.baseline, bench.prepared.inputs, settings, host=bench.host, on_step=bench.say
    )
    bench.spent += WARM + LATENCY
    return measured


def _swept(bench: _Bench, child: Child) -> Sequence[Reading]:
    bench.say("throughput")
    settings = SweepSettings(
        batches=bench.asked.batches,
        concurrency=bench.asked.concurrency,
        seconds=bench.seconds(SWEEP),
        budget_s=bench.job.budget_s,
    )
    found = _or_why("throughput_per_s", lambda: _cells(bench, child, settings))
    bench.spent += SWEEP
    return found


def _cells(bench: _Bench, child: Child, settings: SweepSettings) -> Sequence[Reading]:
    """The sweep; a batch size that kills the process costs only itself and what is larger."""
    try:
        return sweep(child, settings, on_pass=lambda done: bench.say("throughput", done * SWEEP))
    except CellFailed as failure:
        batch, _ = failure.cell
        why = f"{failure.kind} at batch {batch}: {failure}"
        lost = [
            Unavailable(quantity="throughput_per_s", reason=why, conditions=cell_conditions(cell))
            for cell in settings.cells
            if cell[0] >= batch
        ]
        smaller = tuple(b for b in settings.batches if b < batch)
        if not smaller:
            return lost
        with ExitStack() as stack:
            fresh = _child(bench, stack)
            _load(bench, fresh)
            return [*lost, *_cells(bench, fresh, dataclasses.replace(settings, batches=smaller))]


def _scenarios(bench: _Bench, child: Child, measured: Measurement) -> Iterator[Reading]:
    for name in bench.asked.scenarios:
        bench.say(f"scenario {name}")
        scenario = _scenario(name, bench, measured)
        folder = bench.job.out / "loadgen" / name
        yield from _or_why("scenario_latency_s", partial(_driven, child, scenario, folder), {"scenario": name})
        bench.spent += SCENARIO


def _driven(child: Child, scenario: Scenario, folder: Path) -> Iterable[Reading]:
    return readings(scenario, child.call("scenario", folder=str(folder), **dataclasses.asdict(scenario)))


def _scenario(name: Name, bench: _Bench, measured: Measurement) -> Scenario:
    """The server is loaded to 70 % of what callers of batch 1 got answered, offline gets the best batch size."""
    single, best = _capacity(measured, batch=1), _capacity(measured)
    target = bench.asked.target
    return Scenario(
        name=name,
        seconds=bench.seconds(SCENARIO),
        callers={"server": single.callers, "offline": best.callers}.get(name, 1),
        batch=best.batch,
        rate_per_s=best.per_s if name == "offline" else SERVER_LOAD * single.per_s,
        call_s=1 / single.per_s,
        limit_s=NO_LIMIT_S if target is None else target.limit,
        quantile=None if target is None else quantile(target),
    )


def _stressed(bench: _Bench, child: Child, measured: Measurement) -> Sequence[Reading]:
    capacity, limit = _capacity(measured, batch=1), _limit(bench.asked.target, measured)
    if isinstance(limit, Unavailable):
        return (limit,)
    settings = StressSettings(
        limit_s=limit.value,
        quantile=float(limit.conditions["percentile"] or 0) / 100,
        capacity_per_s=capacity.per_s,
        callers=capacity.callers,
        seconds=bench.seconds(STRESS),
    )
    found = _or_why("request_latency_s", lambda: stress(child, settings, on_phase=bench.say))
    bench.spent += STRESS
    return (limit, *found)


def _limit(target: Requirement | None, measured: Measurement) -> Reading:
    """The latency that load must not break: the target, or ten times the median at p99."""
    if target is not None:
        share = {"percentile": round(100 * quantile(target), 6)}
        return _one("latency_limit_s", "s", target.limit, share, f"asked: {target.text}")
    latency = measured.get("latency_s", batch=1)
    if isinstance(latency, Unavailable):
        return dataclasses.replace(latency, quantity="latency_limit_s")
    words = f"no --target was given: {UNASKED_LIMIT:g} times the median latency"
    return _one("latency_limit_s", "s", UNASKED_LIMIT * latency.value, {"percentile": 99.0}, words)


def _loaded(bench: _Bench) -> Sequence[Reading]:
    bench.say("loading, cold and warm")
    settings = LoadingSettings(seconds=bench.seconds(LOADING))
    found = _or_why(
        "load_s",
        lambda: loading(
            bench.prepared.baseline,
            bench.prepared.inputs,
            settings,
            limits=bench.job.limits,
            log=bench.log,
            on_pair=lambda n: bench.say("loading, cold and warm", LOADING * n / settings.pairs),
        ),
    )
    bench.spent += LOADING
    return found


def _remembered(bench: _Bench) -> Sequence[Reading]:
    """Peak memory by role at the smallest and the largest batch size, in a process of its own."""
    bench.say("memory by role")
    batches = sorted({min(bench.asked.batches), max(bench.asked.batches)})
    work = partial(weigh_memory, bench.prepared.baseline, bench.prepared.inputs, batches)
    return _or_why("memory_role_bytes", lambda: work(limits=bench.job.limits, log=bench.log))


def _or_why(
    quantity: str, phase: Callable[[], Iterable[Reading]], conditions: Mapping[str, Scalar] | None = None
) -> Sequence[Reading]:
    """What a phase reads; a phase that fails costs no other phase's readings."""
    try:
        return tuple(phase())
    except WorkerFailed as failure:
        return (Unavailable(quantity=quantity, reason=f"{failure.kind}: {failure}", conditions=conditions or {}),)


def _capacity(measured: Measurement, batch: int | None = None) -> _Capacity:
    """The best cell of the sweep, of one batch size or of all; without a sweep, what the latency promises."""
    cells = [
        _Capacity(
            per_s=s.value, batch=int(s.conditions["batch"] or 1), callers=int(s.conditions.get("concurrency") or 1)
        )
        for s in measured.all("throughput_per_s")
        if batch is None or s.conditions["batch"] == batch
    ]
    latency = measured.get("latency_s", batch=1)
    fallback = 1.0 if isinstance(latency, Unavailable) else 1 / latency.value
    return max(cells, default=_Capacity(per_s=fallback, batch=1, callers=1))


def _one(quantity: str, unit: str, value: float, conditions: dict[str, float], note: str) -> Sample:
    return Sample(
        quantity=quantity, unit=unit, values=np.array([value]), conditions=conditions, provenance="stated", note=note
    )


def _start_over(job: Job, folder: RunFolder) -> None:
    """A benchmark is quick to repeat: the one before gives way, but no other kind of run does."""
    known = folder.records()
    if known is not None and known.run.command != "benchmark":
        raise InvalidInput(f"{job.out} holds a run of {known.run.command}: give another --out, or remove the folder")
    folder.clear()
