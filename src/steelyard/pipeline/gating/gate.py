"""`steelyard gate`: a baseline and a candidate, what must hold, and whether a change may pass.

Where both can be run they are measured afresh, taking turns with an A/A control; else stored readings of independent
processes are compared, which is weaker and said to be. A cost that comes out broken fails the gate only when a second
stage, measured on its own, says so too.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from steelyard import __version__
from steelyard.errors import InvalidInput
from steelyard.measure.process import Limits
from steelyard.measure.turns import log_ratios
from steelyard.pipeline.gating.answers import answers_to
from steelyard.pipeline.gating.processes import slim, with_processes
from steelyard.pipeline.gating.request import GateJob, is_cost, is_time
from steelyard.pipeline.gating.scales import Scales, scales_for
from steelyard.pipeline.gating.sides import read_contender
from steelyard.pipeline.job import Progress, silent
from steelyard.probe.host import environment
from steelyard.records import ControlReading, GateReport, GateStage, Requirement, Run, SavedBaseline, Verdict
from steelyard.stats.sequence import noise_floor
from steelyard.store import (
    RunFolder,
    append_control,
    holds_gates,
    kind_of,
    read_controls,
    read_gates,
    write_baseline,
)

__all__ = ["gate", "save_baseline"]


def gate(job: GateJob, progress: Progress = silent) -> GateReport:
    """Judge the candidate against the baseline. Raises `InvalidInput` for what cannot be compared or was not recorded."""
    began = time.monotonic()
    _check_words(job)
    progress("reading both sides", None)
    before, after = read_contender(job.baseline), read_contender(job.candidate)
    with tempfile.TemporaryDirectory(prefix="steelyard-gate-") as aside:
        scales = scales_for(job, before, after, Path(aside), progress)
        stopped = _stopped(job, scales)
        floor = _floor(job, scales) if stopped is None else stopped.noise_floor
        began -= 0.0 if stopped is None else stopped.wall_s
        requirements = tuple(_above_the_floor(r, floor) for r in job.requirements)
        stages = [scales.stage(requirements, seed=0)] if stopped is None else list(stopped.stages)
        verdicts = stages[0].verdicts
        suspects = tuple(v.requirement for v in verdicts if v.outcome == "broken" and is_cost(v.requirement))
        if suspects and scales.repeatable:
            if stopped is None:
                _keep(job, _report(scales, floor, stages, verdicts, suspects, time.monotonic() - began))
            progress("broken in the first stage: measuring again to confirm", None)
            stages.append(scales.stage(suspects, seed=1))
            verdicts = _confirmed(verdicts, stages[1].verdicts)
    report = _report(scales, floor, stages, verdicts, suspects, time.monotonic() - began)
    _keep(job, report)
    if job.history:
        _remember(report)
    return report


def _report(
    scales: Scales,
    floor: float,
    stages: Sequence[GateStage],
    verdicts: Sequence[Verdict],
    suspects: Sequence[Requirement],
    wall_s: float,
) -> GateReport:
    """What there is to say after so many stages: with suspects and a second stage to come, nothing is broken yet."""
    job, waits = scales.job, bool(suspects) and len(stages) == 1 and scales.repeatable
    found = [_waiting(v) if waits and v.requirement in suspects else v for v in verdicts]
    return GateReport(
        baseline=scales.before.record(),
        candidate=scales.after.record(),
        how="turns" if scales.why_stored == "" else "stored",
        stages=tuple(stages),
        verdicts=tuple(_in_the_users_words(v, job.requirements) for v in found),
        undecided=job.undecided,
        noise_floor=floor,
        unlike=scales.unlike,
        notes=tuple(_notes(scales, stages, suspects)),
        command=job.command,
        environment=environment(),
        wall_s=wall_s,
        time=_now(),
        version=__version__,
        asked=_asked(job),
        open=waits,
    )


def _keep(job: GateJob, report: GateReport) -> None:
    if job.out is not None:
        with RunFolder(job.out) as folder:
            folder.append(report)


def _stopped(job: GateJob, scales: Scales) -> GateReport | None:
    """The report of the same gate, stopped in this folder between its stages; a model or a machine that changed begins anew."""
    if job.out is None or not holds_gates(job.out):
        return None
    last = read_gates(job.out)[-1]
    here = (_asked(job), scales.before.record(), scales.after.record(), environment().machine)
    there = (last.asked, last.baseline, last.candidate, "" if last.environment is None else last.environment.machine)
    return last if last.open and here == there else None


def _asked(job: GateJob) -> tuple[str, ...]:
    words = (str(job.baseline), str(job.candidate), *(r.text for r in job.requirements), f"{job.budget_s:g} s")
    flags = ("stored" * job.stored, "unlike" * job.allow_unlike_machines, str(job.noise_floor), str(job.data))
    return (*words, *flags)


def _waiting(verdict: Verdict) -> Verdict:
    said = "broken in the first stage, which the second was to confirm: the same command goes on with it"
    return dataclasses.replace(verdict, outcome="undecided", advice=said)


def save_baseline(
    run: Path,
    path: Path,
    *,
    data: str | None = None,
    budget_s: float = 60.0,
    scores: bool = False,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> SavedBaseline:
    """Write what a later gate must know of a run into one small file, for the repository.

    A run whose readings come from one process alone is timed again, in ten. ``data`` names what to judge quality on
    where the run did not. ``scores`` keeps the probabilities of all
    classes, which areas under curves need; without them labels, predicted classes and the true class's probability.
    """
    side, limits = read_contender(run), limits or Limits()
    with tempfile.TemporaryDirectory(prefix="steelyard-gate-") as aside:
        measured = with_processes(side, Path(aside), budget_s, 0, limits, progress, "timing ten processes")
        if measured is None:
            raise InvalidInput(f"{run} holds no readings and no inputs to take them with: give a run folder")
        if data is not None:
            made = answers_to(data, side, Path(aside), limits, progress)
            measured = dataclasses.replace(measured, predictions=(made,))
    saved = SavedBaseline(
        name=run.name or str(run.resolve().name),
        source=side.spec.source if side.spec else "",
        plan=side.plan,
        measured=slim(measured, scores=scores),
        labels=side.labels,
        time=_now(),
        version=__version__,
    )
    write_baseline(path, saved)
    return saved


# --- words ---------------------------------------------------------------------------------------------


def _check_words(job: GateJob) -> None:
    if not job.requirements:
        raise InvalidInput("say what must hold, such as --require 'latency <= 1.02x' --require 'accuracy drop <= 0.2%'")
    if job.baseline.resolve() == job.candidate.resolve():
        raise InvalidInput(f"baseline and candidate are both {job.baseline}: give two that differ")
    if job.candidate.is_file() and job.baseline.is_dir():
        raise InvalidInput(
            f"the baseline comes first: steelyard gate {job.candidate} --against {job.baseline} judges {job.baseline.name} by that file"
        )
    if job.out is not None and kind_of(job.out) not in (None, GateReport, Run):
        raise InvalidInput(f"{job.out} holds records of another kind: give another --out")
    if job.noise_floor is not None and not 0 <= job.noise_floor < math.inf:
        raise InvalidInput(f"a noise floor is a log-ratio from 0 on, such as 0.01; got {job.noise_floor}")


def _floor(job: GateJob, scales: Scales) -> float:
    """The log-ratio that this machine "finds" between a model and itself; 0 where that is not known or does not apply."""
    if job.noise_floor is not None:
        return job.noise_floor
    if scales.why_stored or not job.history:
        return 0.0
    known = [r.log_ratio for r in read_controls(environment().machine) if r.kind == "models"]
    return math.log1p(noise_floor(known) or 0.0)


def _remember(report: GateReport) -> None:
    """The control of the first stage, in the machine's history."""
    found = report.stages[0].comparison
    if found is None or report.environment is None:
        return
    readings = log_ratios(found, "control")
    append_control(
        ControlReading(
            machine=report.environment.machine,
            kind="models",
            log_ratio=float(readings.mean()),
            spread=float(log_ratios(found, "candidate").std(ddof=1)),
            rounds=len(readings),
            slots=found.seconds.shape[1],
            time=report.time,
        )
    )


def _above_the_floor(requirement: Requirement, floor: float) -> Requirement:
    """A ratio of times may not be asked to stay closer to 1 than this machine can tell a model from itself."""
    lifts = (
        requirement.kind == "max_ratio" and is_time(requirement.quantity) and 1 <= requirement.limit < math.exp(floor)
    )
    return dataclasses.replace(requirement, limit=math.exp(floor)) if lifts else requirement


def _in_the_users_words(verdict: Verdict, asked: Sequence[Requirement]) -> Verdict:
    """The verdict; where its limit was lifted to the noise floor, that is said."""
    wanted = next(r for r in asked if r.text == verdict.requirement.text)
    if verdict.requirement.limit == wanted.limit:
        return verdict
    said = f"judged at {verdict.requirement.limit:.3f}x, the noise floor of this machine"
    return dataclasses.replace(verdict, advice="; ".join(filter(None, (said, verdict.advice))))


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


# --- two stages ------------------------------------------------------------------------------------------


def _confirmed(first: Sequence[Verdict], second: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The first stage's verdicts; those it found broken are so only if the second says so by itself."""
    again = {v.requirement.text: v for v in second}
    return tuple(_joint(v, again[v.requirement.text]) if v.requirement.text in again else v for v in first)


def _joint(first: Verdict, second: Verdict) -> Verdict:
    assert first.estimate is not None
    shown = f"{first.estimate.value:.4g}{first.estimate.unit}"
    if second.outcome == "broken":
        advice = "; ".join(filter(None, (second.advice, f"confirmed: the first stage had {shown}")))
        return dataclasses.replace(second, advice=advice)
    said = f"the first stage found it broken ({shown}), the second did not confirm: a longer --budget would decide"
    return dataclasses.replace(second, outcome="undecided", advice=said)


def _notes(scales: Scales, stages: Sequence[GateStage], suspects: Sequence[Requirement]) -> list[str]:
    """What a reader must know beside the verdicts."""
    notes = []
    if scales.why_stored:
        notes.append(
            f"the two never ran together ({scales.why_stored}): what the machine did in between is in every ratio of a cost"
        )
    if suspects and len(stages) == 1 and not scales.repeatable:
        notes.append("nothing could be measured again, so what is broken stands on one stage")
    if scales.unlike:
        notes.append(f"unlike machines: {scales.unlike}")
    notes += _package_notes(scales)
    if any(stage.control_alarm for stage in stages):
        notes.append(
            "the A/A control found a difference between the baseline and itself: times were widened by as much"
        )
    flags = [flag for stage in stages if stage.comparison is not None for flag in stage.comparison.flags]
    if flags:
        notes.append(f"{len(flags)} round(s) were disturbed and kept: {flags[0]}" + (" ..." if len(flags) > 1 else ""))
    made = scales.predictions
    if made[0] is not None and made[1] is not None and not np.array_equal(made[0].labels, made[1].labels):
        notes.append(
            "the two were judged on other test examples: quality is compared unpaired, which needs many more of them"
        )
    return notes


def _package_notes(scales: Scales) -> list[str]:
    """Versions that changed between two stored readings: the model may not be what changed."""
    one, other = scales.before.environment, scales.after.environment
    if not scales.why_stored or one is None or other is None:
        return []
    changed = [
        f"{name} {one.packages[name]} to {other.packages[name]}"
        for name in sorted(one.packages.keys() & other.packages.keys())
        if one.packages[name] != other.packages[name]
    ]
    return [f"versions changed between the two: {', '.join(changed)}"] if changed else []
