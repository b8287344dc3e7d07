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
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from steelyard import __version__
from steelyard.errors import InvalidInput
from steelyard.measure.process import Limits
from steelyard.measure.turns import Turns, TurnSettings, take_turns
from steelyard.measure.weigh import WeighSettings, predict_split, weigh
from steelyard.metrics.table import quality
from steelyard.pipeline.job import Progress, silent
from steelyard.pipeline.prove import ROUNDS, SLOTS, Cost, cost_of
from steelyard.pipeline.sides import Side, read_side, why_not_afresh
from steelyard.probe.host import environment
from steelyard.records import (
    GateReport,
    GateStage,
    Measurement,
    Predictions,
    Requirement,
    Sample,
    SavedBaseline,
    Unavailable,
    Verdict,
)
from steelyard.store import RunFolder, write_baseline
from steelyard.subject.artifact import Artifact
from steelyard.subject.load import load_subject
from steelyard.subject.splits import write_split
from steelyard.verify.judge import Case, control_ratio, judge

__all__ = ["GateJob", "gate", "save_baseline", "slim"]

JUDGED = ("latency_s", "memory_running_bytes", "stored_bytes", "energy_j", "throughput_per_s")
"""What a gate reads of a model."""

MOST_CALLS = 300  # kept of one process in a baseline file, spread evenly over it
MOST_SLOTS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class GateJob:
    """What a gate is asked. `noise_floor` is a log-ratio: no limit on a ratio of times is set closer to 1."""

    baseline: Path
    candidate: Path
    requirements: tuple[Requirement, ...]
    budget_s: float = 120.0
    data: str | None = None
    stored: bool = False  # do not measure, though both could be run
    allow_unlike_machines: bool = False
    undecided: Literal["pass", "fail"] = "pass"
    noise_floor: float = 0.0
    out: Path | None = None
    limits: Limits = field(default_factory=Limits)
    command: tuple[str, ...] = ()


def gate(job: GateJob, progress: Progress = silent) -> GateReport:
    """Judge the candidate against the baseline. Raises `InvalidInput` for what cannot be compared or was not recorded."""
    began = time.monotonic()
    _check_words(job)
    progress("reading both sides", None)
    before, after = read_side(job.baseline), read_side(job.candidate)
    requirements = tuple(_above_the_floor(r, job.noise_floor) for r in job.requirements)
    with tempfile.TemporaryDirectory(prefix="steelyard-gate-") as aside:
        scales = _scales(job, before, after, Path(aside), progress)
        stages = [scales.stage(requirements, seed=0)]
        verdicts = stages[0].verdicts
        suspects = tuple(v.requirement for v in verdicts if v.outcome == "broken" and _noisy(v.requirement))
        if suspects and scales.repeatable:
            progress("broken in the first stage: measuring again to confirm", None)
            stages.append(scales.stage(suspects, seed=1))
            verdicts = _confirmed(verdicts, stages[1].verdicts)
    report = GateReport(
        baseline=before.record(),
        candidate=after.record(),
        how="turns" if scales.why_stored == "" else "stored",
        stages=tuple(stages),
        verdicts=tuple(_in_the_users_words(v, job.requirements) for v in verdicts),
        undecided=job.undecided,
        noise_floor=job.noise_floor,
        unlike=scales.unlike,
        notes=tuple(_notes(scales, stages, suspects)),
        command=job.command,
        environment=environment(),
        wall_s=time.monotonic() - began,
        time=_now(),
        version=__version__,
    )
    if job.out is not None:
        with RunFolder(job.out) as folder:
            folder.append(report)
    return report


def save_baseline(
    run: Path,
    path: Path,
    *,
    budget_s: float = 60.0,
    scores: bool = False,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> SavedBaseline:
    """Write what a later gate must know of a run into one small file, for the repository.

    A run whose readings come from one process alone is timed again, in ten. ``scores`` keeps the probabilities of all
    classes, which areas under curves need; without them labels, predicted classes and the true class's probability.
    """
    side = read_side(run)
    with tempfile.TemporaryDirectory(prefix="steelyard-gate-") as aside:
        measured = _with_processes(side, Path(aside), budget_s, 0, limits or Limits(), progress, "timing ten processes")
    if measured is None:
        raise InvalidInput(f"{run} holds no readings and no inputs to take them with: give a run folder")
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


def slim(measured: Measurement, *, scores: bool = False) -> Measurement:
    """What a gate reads of a model, no larger than it must be: some calls of each process, spread evenly over it."""
    readings = tuple(_thinned(r) for r in measured.readings if r.quantity in JUDGED)
    made = tuple(p if scores else dataclasses.replace(p, scores=None) for p in measured.predictions)
    return dataclasses.replace(measured, readings=readings, predictions=made)


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
    if job.noise_floor < 0 or not math.isfinite(job.noise_floor):
        raise InvalidInput(f"a noise floor is a log-ratio from 0 on, such as 0.01; got {job.noise_floor}")


def _is_time(quantity: str) -> bool:
    return quantity == "latency" or (quantity.startswith("p") and quantity[1:2].isdigit())


def _noisy(requirement: Requirement) -> bool:
    """Whether measuring again can change the verdict."""
    return requirement.quantity != "size" and quality(requirement.quantity) is None


def _above_the_floor(requirement: Requirement, floor: float) -> Requirement:
    """A ratio of times may not be asked to stay closer to 1 than this machine can tell a model from itself."""
    lifts = (
        requirement.kind == "max_ratio" and _is_time(requirement.quantity) and 1 <= requirement.limit < math.exp(floor)
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


# --- two ways to weigh -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Scales:
    """Both sides and how they are compared; ``stage`` measures and judges once."""

    job: GateJob
    before: Side
    after: Side
    predictions: tuple[Predictions | None, Predictions | None]
    aside: Path
    progress: Progress
    why_stored: str  # empty: measured afresh
    unlike: str

    @property
    def repeatable(self) -> bool:
        """Whether a second stage would be a new measurement."""
        return not self.why_stored or (self.after.inputs is not None and not self.job.stored)

    @property
    def stage_s(self) -> float:
        """Half of the budget is kept for the second stage."""
        return self.job.budget_s / 2

    def stage(self, requirements: Sequence[Requirement], seed: int) -> GateStage:
        if self.why_stored:
            return _independent(self, requirements, seed)
        return _in_turns(self, requirements, seed)


def _scales(job: GateJob, before: Side, after: Side, aside: Path, progress: Progress) -> _Scales:
    why = "asked for with --stored" if job.stored else why_not_afresh(before, after)
    if why:
        _check_at_hand(before, after, why)
    unlike = _unlike(before, after) if why else ""
    if unlike and not job.allow_unlike_machines:
        raise InvalidInput(
            f"the two were measured on unlike machines ({unlike}): measure both on one, or add --allow-unlike-machines and read "
            "costs with that in mind"
        )
    wanted = any(quality(r.quantity) is not None for r in job.requirements)
    made = _predictions(job, before, after, aside, progress, afresh=not why) if wanted else (None, None)
    return _Scales(
        job=job,
        before=before,
        after=after,
        predictions=made,
        aside=aside,
        progress=progress,
        why_stored=why,
        unlike=unlike,
    )


def _check_at_hand(before: Side, after: Side, why: str) -> None:
    """Raise where a side has neither stored readings nor a way to take them."""
    for side in (before, after):
        if side.measured is None and (side is before or side.inputs is None):
            raise InvalidInput(
                f"{side.word} holds no readings of its own, and the two cannot be measured now ({why}): give the run folder it came "
                "from, or a baseline file"
            )


def _unlike(before: Side, after: Side) -> str:
    """How the machines of two stored readings differ, or nothing."""
    here = environment()
    one, other = before.environment or here, after.environment or here
    if one.machine == other.machine:
        return ""
    return f"{one.cpu}, {one.cores} cores, and {other.cpu}, {other.cores} cores"


def _in_turns(scales: _Scales, requirements: Sequence[Requirement], seed: int) -> GateStage:
    """Baseline, control and candidate afresh, in rounds of fresh processes."""
    arms = [_artifact(side) for side in (scales.before, scales.after)]
    inputs = _common_inputs(scales)
    looks = [
        _look(a, inputs, requirements, scales, s.word) for a, s in zip(arms, (scales.before, scales.after), strict=True)
    ]
    _check_recorded(scales, looks[0], looks[1], requirements)
    settings = _settings([cost_of(looks[i], 0) for i in (0, 0, 1)], scales.stage_s, seed)
    folders = {"baseline": arms[0].folder, "control": arms[0].folder, "candidate": arms[1].folder}
    turns = _turns(folders, inputs, settings, scales.job.limits, scales.progress, f"stage {seed + 1}: taking turns")
    before, after = (_renewed(looks[i], turns.readings[arm]) for i, arm in ((0, 0), (1, 2)))
    control, alarm = control_ratio(turns.comparison, 1)
    widen = max(abs(math.log(control.low)), abs(math.log(control.high))) if alarm else 0.0
    case = Case(before=before, after=after, comparison=turns.comparison, arm=2, widen=widen, labels=scales.after.labels)
    return GateStage(
        before=before,
        after=after,
        verdicts=judge([case], requirements)[0],
        comparison=turns.comparison,
        control=control,
        control_alarm=alarm,
    )


def _independent(scales: _Scales, requirements: Sequence[Requirement], seed: int) -> GateStage:
    """Stored readings; a candidate at hand whose spread between processes is not known is timed now, by itself."""
    job = scales.job
    timed = any(r.quantity == "memory" or _is_time(r.quantity) for r in requirements)
    after = scales.after.measured
    if timed and not job.stored and scales.after.inputs is not None and (seed or not _has_processes(after)):
        here = environment().machine
        known = scales.before.environment
        if known is None or known.machine == here or job.allow_unlike_machines:
            after = _with_processes(
                scales.after, scales.aside, scales.stage_s, seed, job.limits, scales.progress,
                f"stage {seed + 1}: timing the candidate", again=True,
            )  # fmt: skip
    assert scales.before.measured is not None
    assert after is not None
    sides = [
        dataclasses.replace(slim(m, scores=True), predictions=() if made is None else (made,))
        for m, made in zip((scales.before.measured, after), scales.predictions, strict=True)
    ]
    _check_recorded(scales, sides[0], sides[1], requirements)
    case = Case(before=sides[0], after=sides[1], labels=scales.after.labels)
    verdicts = judge([case], requirements)[0]
    if scales.unlike:
        verdicts = tuple(_on_unlike(v) for v in verdicts)
    return GateStage(before=sides[0], after=sides[1], verdicts=verdicts)


def _on_unlike(verdict: Verdict) -> Verdict:
    """A verdict on readings of two machines says so itself."""
    if quality(verdict.requirement.quantity) is not None or verdict.requirement.quantity == "size":
        return verdict
    said = "between unlike machines: part of the ratio is theirs"
    return dataclasses.replace(verdict, advice="; ".join(filter(None, (verdict.advice, said))))


# --- measuring -------------------------------------------------------------------------------------------


def _artifact(side: Side) -> Artifact:
    assert side.artifact is not None
    return side.artifact


def _common_inputs(scales: _Scales) -> Path:
    """One file of inputs that both models take. Raises `InvalidInput` where they take unlike ones."""
    path = scales.aside / "inputs.npy"
    if path.exists():
        return path
    contracts = [_artifact(side).contract for side in (scales.before, scales.after)]
    takes = [(c.shape, c.dtype) for c in contracts]
    if takes[0] != takes[1]:
        raise InvalidInput(
            f"the two take unlike inputs: {scales.before.word} {takes[0][1]} {takes[0][0]}, {scales.after.word} {takes[1][1]} "
            f"{takes[1][0]}; a gate compares models of one contract"
        )
    assert scales.before.inputs is not None
    np.save(path, scales.before.inputs())
    return path


def _look(
    artifact: Artifact, inputs: Path, requirements: Sequence[Requirement], scales: _Scales, word: str
) -> Measurement:
    """What a fresh process tells: that the model loads and is right, its size, and energy and throughput where asked for."""
    asked = {r.quantity for r in requirements}
    longer = bool(asked & {"energy", "throughput"})
    settings = WeighSettings(
        warm_s=0.2,
        latency_s=max(1.0, scales.stage_s / 20) if longer else 0.3,
        sweep=(1, 4, 16) if "throughput" in asked else (),
        sweep_s=max(0.3, scales.stage_s / 50),
        operator_runs=1,
        count=False,
    )
    scales.progress(f"loading {word}", None)
    weighed = weigh(artifact, inputs, settings, limits=scales.job.limits, log=_log(scales.aside))
    side = 0 if word == scales.before.word else 1
    made = scales.predictions[side]
    return dataclasses.replace(weighed, predictions=() if made is None else (made,))


def _with_processes(
    side: Side,
    aside: Path,
    seconds: float,
    seed: int,
    limits: Limits,
    progress: Progress,
    what: str,
    *,
    again: bool = False,
) -> Measurement | None:
    """A side's readings with times of ten fresh processes, taken now where there are none yet, or `again`."""
    if side.artifact is None or side.inputs is None or (_has_processes(side.measured) and not again):
        return side.measured
    inputs = aside / "inputs.npy"
    np.save(inputs, side.inputs())
    measured = side.measured
    if measured is None or measured.environment.machine != environment().machine:
        progress(f"weighing {side.word}", None)
        measured = weigh(
            side.artifact, inputs, WeighSettings(operator_runs=1, count=False), limits=limits, log=_log(aside)
        )
        made = side.on_test
        measured = dataclasses.replace(measured, predictions=() if made is None else (made,))
    settings = _settings([cost_of(measured, 0)], seconds, seed)
    turns = _turns({"model": side.artifact.folder}, inputs, settings, limits, progress, what)
    return dataclasses.replace(_renewed(measured, turns.readings[0]), environment=environment())


def _has_processes(measured: Measurement | None) -> bool:
    """Whether times of more than one process were kept apart."""
    latency = None if measured is None else measured.get("latency_s", batch=1)
    return isinstance(latency, Sample) and latency.blocks is not None and len(np.unique(latency.blocks)) > 1


def _turns(
    folders: dict[str, Path], inputs: Path, settings: TurnSettings, limits: Limits, progress: Progress, what: str
) -> Turns:
    def say(done: int) -> None:
        progress(f"{what}, round {done} of {settings.rounds}", done / settings.rounds)

    return take_turns(folders, inputs, settings, limits=limits, log=_log(inputs.parent), on_round=say)


def _settings(arms: Sequence[Cost], seconds: float, seed: int) -> TurnSettings:
    """Ten rounds, with as many slots as the time has room for; a slow model takes longer than it was given."""
    round_s = seconds / ROUNDS - sum(arm.start_s for arm in arms) / 2
    slots = int(np.clip(round_s / sum(arm.turn_s for arm in arms), SLOTS, MOST_SLOTS))
    return TurnSettings(rounds=ROUNDS, slots=slots - slots % 2, seed=seed)


def _log(aside: Path) -> Path:
    return aside / "workers.log"


def _renewed(measured: Measurement, newer: Sequence[Sample | Unavailable]) -> Measurement:
    """What a gate judges, with some of it read again."""
    names = {r.quantity for r in newer}
    kept = (r for r in measured.readings if r.quantity in JUDGED and r.quantity not in names)
    return dataclasses.replace(measured, readings=(*newer, *kept))


def _thinned(reading: Sample | Unavailable) -> Sample | Unavailable:
    if isinstance(reading, Unavailable) or reading.quantity not in ("latency_s", "throughput_per_s"):
        return reading
    blocks = np.zeros(len(reading.values), dtype=np.int32) if reading.blocks is None else reading.blocks
    rows = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    chosen = np.concatenate([r[np.linspace(0, len(r) - 1, min(len(r), MOST_CALLS)).round().astype(int)] for r in rows])
    kept = None if reading.blocks is None else reading.blocks[chosen]
    return dataclasses.replace(reading, values=reading.values[chosen], blocks=kept)


# --- quality -------------------------------------------------------------------------------------------


def _predictions(
    job: GateJob, before: Side, after: Side, aside: Path, progress: Progress, *, afresh: bool
) -> tuple[Predictions | None, Predictions | None]:
    """Answers of both on the same test examples: stored ones where they are, else made now, else each side's own."""
    stored = before.on_test, after.on_test
    if job.data is None and stored[0] and stored[1] and np.array_equal(stored[0].labels, stored[1].labels):
        return stored
    if not afresh:
        return stored
    data = _written(job.data, before, after, aside, progress) if job.data else before.data or after.data
    if data is None:
        return stored
    made: list[Predictions] = []
    for side in (before, after):
        progress(f"predicting the test split with {side.word}", None)
        inputs = aside / f"inputs-{len(made)}.npy"
        assert side.inputs is not None
        np.save(inputs, side.inputs())
        made.append(predict_split(_artifact(side), inputs, data, "test", limits=job.limits, log=_log(aside)))
    return made[0], made[1]


def _written(words: str, before: Side, after: Side, aside: Path, progress: Progress) -> Path:
    """The test split of the data that --data names, on disk."""
    spec = before.spec or after.spec
    if spec is None:
        raise InvalidInput("--data needs a run folder on one side, which knows how its model takes data")
    progress("reading the data", None)
    write_split(load_subject(dataclasses.replace(spec, data=words)).splits().test, aside / "data", "test")
    return aside / "data"


# --- what was read ---------------------------------------------------------------------------------------


def _check_recorded(scales: _Scales, before: Measurement, after: Measurement, asked: Sequence[Requirement]) -> None:
    """Raise `InvalidInput`, with the cure, where a requirement names what a side does not hold."""
    for requirement in asked:
        both = requirement.kind in ("max_ratio", "min_ratio", "max_drop")
        for side, measured in ((scales.before, before), (scales.after, after))[0 if both else 1 :]:
            reason = _absent(measured, requirement.quantity)
            if reason:
                raise InvalidInput(
                    f"{requirement.text!r}: {side.word} has no {requirement.quantity} ({reason}); {_cure(requirement, side)}"
                )


def _absent(measured: Measurement, quantity: str) -> str:
    if quality(quantity) is not None:
        return "" if measured.on("test") is not None else "no predictions on test data"
    if quantity == "throughput":
        return "" if measured.all("throughput_per_s") else "no batches were swept"
    name, conditions = _READINGS.get(quantity, ("latency_s", {"batch": 1}))
    found = measured.get(name, **conditions)
    return found.reason if isinstance(found, Unavailable) else ""


_READINGS: dict[str, tuple[str, dict[str, int]]] = {
    "size": ("stored_bytes", {}),
    "memory": ("memory_running_bytes", {}),
    "energy": ("energy_j", {"batch": 1}),
}


def _cure(requirement: Requirement, side: Side) -> str:
    if quality(requirement.quantity) is None:
        return "measure it again with this version, or leave the requirement out"
    if side.kind == "file":
        return f"save {side.word} again, from a run with labelled data"
    return "give --data, or runs of optimize, which keep their test data"


# --- two stages ------------------------------------------------------------------------------------------


def _confirmed(first: Sequence[Verdict], second: Sequence[Verdict]) -> tuple[Verdict, ...]:
    """The first stage's verdicts; those it found broken are so only if the second says so by itself."""
    again = {v.requirement.text: v for v in second}
    return tuple(_joint(v, again[v.requirement.text]) if v.requirement.text in again else v for v in first)


def _joint(first: Verdict, second: Verdict) -> Verdict:
    assert first.estimate is not None
    shown = f"{first.estimate.value:.3g}{first.estimate.unit}"
    if second.outcome == "broken":
        advice = "; ".join(filter(None, (second.advice, f"confirmed: the first stage had {shown}")))
        return dataclasses.replace(second, advice=advice)
    said = f"the first stage found it broken ({shown}), the second did not confirm: a longer --budget would decide"
    return dataclasses.replace(second, outcome="undecided", advice=said)


def _notes(scales: _Scales, stages: Sequence[GateStage], suspects: Sequence[Requirement]) -> list[str]:
    """What a reader must know beside the verdicts."""
    notes = []
    if scales.why_stored:
        notes.append(
            f"the two never ran together ({scales.why_stored}): what the machine did in between is in every ratio of a cost"
        )
    if suspects and len(stages) == 1:
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


def _package_notes(scales: _Scales) -> list[str]:
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
