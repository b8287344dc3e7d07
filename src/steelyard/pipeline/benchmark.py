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
from steelyard.measure.loading import QUANTITIES, LoadingSettings, loading
from steelyard.measure.memory import weigh_memory
from steelyard.measure.process import Child
from steelyard.measure.stress import StressSettings, stress
from steelyard.measure.sweep import CellFailed, SweepSettings, cell_conditions, sweep
from steelyard.measure.weigh import WeighSettings, weigh_in
from steelyard.pipeline.asked import Asked, quantile
from steelyard.pipeline.begin import begin
from steelyard.pipeline.budget import Budget
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.pipeline.render import write_report
from steelyard.probe.peaks import measure_peaks
from steelyard.records import Environment, Measurement, Requirement, RunRecords, Sample, Scalar, Unavailable
from steelyard.search.space import Space, plans_for
from steelyard.store import RunFolder

__all__ = ["LOAD_WORKER", "benchmark", "under_stress"]

LOAD_WORKER = "steelyard.measure.load:LoadWorker"

Reading = Sample | Unavailable

# How the budget is shared: these parts, of the sum of those that take place.
PARTS = {"ceilings": 1.5, "warm": 1.0, "latency": 4.0, "sweep": 4.0, "rest": 7.0}  # memory, loading, the page
SCENARIO, STRESS = 1.5, 6.0
MOST_CEILINGS_S = 2.0
MONITOR_HZ = 10.0
SERVER_LOAD = 0.7  # of the capacity, where no rate is asked: a queue forms, and does not grow without end
REPORT_S = 1.0  # to write the page
RUN_S, MEMORY_CALLS = 0.3, 8  # of a batch size whose memory is looked at
MEMORY_STARTS = 1.5  # of a process, with the profiler that counts activations
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
    budget: Budget
    progress: Progress
    start_s: float = 0.0  # from starting a process to the model's first prediction in it

    def say(self, what: str) -> None:
        """Tell what is measured."""
        self.progress(f"measuring: {what}", None)

    @property
    def log(self) -> Path:
        return self.job.out / "workers.log"


def benchmark(job: Job, asked: Asked, progress: Progress = silent) -> RunRecords:
    """Weigh the model for `job.budget_s` seconds from now on. A benchmark of before in the same folder is replaced.

    What was asked for is read though it should take longer; what was not is left out where the budget does not reach it.
    """
    budget = Budget(seconds=job.budget_s, parts=_parts(asked))
    progress = budget.telling(progress)
    with RunFolder(job.out) as folder:
        _start_over(job, folder)
        prepared = prepare_subject(job.spec, job.out, progress, with_data=False)
        ceilings_s = min(MOST_CEILINGS_S, budget.take("ceilings"))
        run = begin(job, prepared, folder, "benchmark", progress, partial(measure_peaks, ceilings_s))
        bench = _Bench(job=job, asked=asked, prepared=prepared, host=run.environment, budget=budget, progress=progress)
        for measured in _measured(bench):
            folder.append(measured)  # at once, and again with what each phase adds: a killed run keeps what it read
        folder.append(diagnose(measured, run.peaks, plans_for(Space(prepared.baseline.engine), longest=2)))
        records = folder.records()
        assert records is not None
        write_report(job.out, records)
        return records


def _parts(asked: Asked) -> dict[str, float]:
    return PARTS | dict.fromkeys(asked.scenarios, SCENARIO) | ({"stress": STRESS} if asked.stress else {})


def _measured(bench: _Bench) -> Iterator[Measurement]:
    """The measurement as it grows."""
    asked = bench.asked
    with ExitStack() as stack:
        child = _child(bench, stack)
        measured = _weighed(bench, child)
        yield measured
        measured = _with(measured, _swept(bench, child))
        yield measured
        if asked.scenarios:
            measured = _with(measured, _scenarios(bench, _living(bench, stack, child), measured))
            yield measured
        if asked.stress:
            fit, seconds = _living(bench, stack, child), bench.budget.take("stress")
            measured = _with(measured, under_stress(fit, asked.target, measured, seconds, bench.say))
            yield measured
    for more in _rest(bench, measured):
        measured = _with(measured, more)
        yield measured


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
    began_s, seconds = bench.budget.left_s, bench.budget.take("warm", "latency")
    settings = WeighSettings(
        warm_s=seconds * PARTS["warm"] / (PARTS["warm"] + PARTS["latency"]),
        latency_s=seconds * PARTS["latency"] / (PARTS["warm"] + PARTS["latency"]),
        sweep=(),
        operator_runs=20,
        monitor_hz=MONITOR_HZ,
    )

    def step(what: str) -> None:
        if what == "timing":  # the model is loaded, and right
            bench.start_s = began_s - bench.budget.left_s
        bench.say(what)

    return weigh_in(child, bench.prepared.baseline, bench.prepared.inputs, settings, host=bench.host, on_step=step)


def _swept(bench: _Bench, child: Child) -> Sequence[Reading]:
    bench.say("throughput")
    settings = SweepSettings(
        batches=bench.asked.batches,
        concurrency=bench.asked.concurrency,
        seconds=bench.budget.take("sweep"),
        budget_s=bench.job.budget_s,
    )
    return _or_why("throughput_per_s", lambda: _cells(bench, child, settings))


def _cells(bench: _Bench, child: Child, settings: SweepSettings) -> Sequence[Reading]:
    """The sweep; a batch size that kills the process costs only itself and what is larger."""
    try:
        return sweep(child, settings, on_pass=lambda _: bench.say("throughput"))
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


def _driven(child: Child, scenario: Scenario, folder: Path) -> Iterable[Reading]:
    return readings(scenario, child.call("scenario", folder=str(folder), **dataclasses.asdict(scenario)))


def _scenario(name: Name, bench: _Bench, measured: Measurement) -> Scenario:
    """The server is loaded to 70 % of what callers of batch 1 got answered, offline gets the best batch size."""
    single, best = _capacity(measured, batch=1), _capacity(measured)
    target = bench.asked.target
    return Scenario(
        name=name,
        seconds=bench.budget.take(name),
        callers={"server": single.callers, "offline": best.callers}.get(name, 1),
        batch=best.batch,
        rate_per_s=best.per_s if name == "offline" else SERVER_LOAD * single.per_s,
        call_s=1 / single.per_s,
        limit_s=NO_LIMIT_S if target is None else target.limit,
        quantile=None if target is None else quantile(target),
    )


def under_stress(
    child: Child, target: Requirement | None, measured: Measurement, seconds: float, say: Callable[[str], None]
) -> Sequence[Reading]:
    """Readings of load that rises until `target` breaks, by a child that runs `LOAD_WORKER` and has loaded the model."""
    capacity, limit = _capacity(measured, batch=1), _limit(target, measured)
    if isinstance(limit, Unavailable):
        return (limit,)
    settings = StressSettings(
        limit_s=limit.value,
        quantile=float(limit.conditions["percentile"] or 0) / 100,
        capacity_per_s=capacity.per_s,
        callers=capacity.callers,
        seconds=seconds,
    )
    return (limit, *_or_why("request_latency_s", lambda: stress(child, settings, on_phase=say)))


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


def _rest(bench: _Bench, measured: Measurement) -> Iterator[Sequence[Reading]]:
    """Memory by role, and loading: in processes of their own, so they take long, and only where the budget reaches them."""
    batches = sorted({min(bench.asked.batches), max(bench.asked.batches)})
    memory_s = MEMORY_STARTS * bench.start_s + sum(RUN_S + MEMORY_CALLS * _call_s(measured, batch) for batch in batches)
    loading_s = 2 * bench.start_s
    all_s = memory_s + loading_s + REPORT_S
    if why := bench.budget.too_short(memory_s + REPORT_S, all_s):
        yield (Unavailable(quantity="memory_role_bytes", reason=why),)
    else:
        yield _remembered(bench, batches)
        all_s -= memory_s
    if why := bench.budget.too_short(loading_s + REPORT_S, all_s):
        yield tuple(Unavailable(quantity=q, reason=why, conditions={"cache": "cold"}) for q in QUANTITIES)
    else:
        yield _loaded(bench)


def _remembered(bench: _Bench, batches: Sequence[int]) -> Sequence[Reading]:
    """Peak memory by role at the smallest and the largest batch size."""
    bench.say("memory by role")
    work = partial(weigh_memory, bench.prepared.baseline, bench.prepared.inputs, batches, seconds=RUN_S)
    return _or_why("memory_role_bytes", lambda: work(limits=bench.job.limits, log=bench.log))


def _loaded(bench: _Bench) -> Sequence[Reading]:
    """Loading with the model's files in memory and not, in pairs of processes."""
    bench.say("loading, cold and warm")
    settings = LoadingSettings(seconds=bench.budget.take("rest") - REPORT_S)
    work = partial(loading, bench.prepared.baseline, bench.prepared.inputs, settings)
    say = partial(bench.say, "loading, cold and warm")
    return _or_why("load_s", lambda: work(limits=bench.job.limits, log=bench.log, on_pair=lambda _: say()))


def _or_why(
    quantity: str, phase: Callable[[], Iterable[Reading]], conditions: Mapping[str, Scalar] | None = None
) -> Sequence[Reading]:
    """What a phase reads; a phase that fails costs no other phase's readings."""
    try:
        return tuple(phase())
    except WorkerFailed as failure:
        return (Unavailable(quantity=quantity, reason=f"{failure.kind}: {failure}", conditions=conditions or {}),)


def _call_s(measured: Measurement, batch: int) -> float:
    """Of one caller at a batch size that was swept; else by the examples, from the latency of one."""
    rate = measured.get("throughput_per_s", batch=batch)
    return batch / (rate.value if isinstance(rate, Sample) else _capacity(measured, batch=1).per_s)


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
