"""Both sides on the scales: measured afresh where that can be done, else by what is stored of them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.measure.weigh import WeighSettings, weigh
from steelyard.metrics.table import quality
from steelyard.pipeline.gating.answers import answers_of_both
from steelyard.pipeline.gating.processes import (
    has_processes,
    log_of,
    renewed,
    slim,
    turn_settings,
    turns_of,
    with_processes,
)
from steelyard.pipeline.gating.request import GateJob, is_time
from steelyard.pipeline.gating.sides import Contender, why_not_afresh
from steelyard.pipeline.job import Progress
from steelyard.pipeline.prove import cost_of
from steelyard.probe.host import environment
from steelyard.records import GateStage, Measurement, Predictions, Requirement, Unavailable, Verdict
from steelyard.subject.artifact import Artifact
from steelyard.verify.judge import Case, control_ratio, judge

__all__ = ["Scales", "scales_for"]


# --- two ways to weigh -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scales:
    """Both sides and how they are compared; ``stage`` measures and judges once."""

    job: GateJob
    before: Contender
    after: Contender
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


def scales_for(job: GateJob, before: Contender, after: Contender, aside: Path, progress: Progress) -> Scales:
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
    made: tuple[Predictions | None, Predictions | None] = (None, None)
    if wanted:
        made = answers_of_both(before, after, job.data, aside, job.limits, progress, afresh=not why)
    return Scales(
        job=job,
        before=before,
        after=after,
        predictions=made,
        aside=aside,
        progress=progress,
        why_stored=why,
        unlike=unlike,
    )


def _check_at_hand(before: Contender, after: Contender, why: str) -> None:
    """Raise where a side has neither stored readings nor a way to take them."""
    for side in (before, after):
        if side.measured is None and (side is before or side.inputs is None):
            raise InvalidInput(
                f"{side.word} holds no readings of its own, and the two cannot be measured now ({why}): give the run folder it came "
                "from, or a baseline file"
            )


def _unlike(before: Contender, after: Contender) -> str:
    """How the machines of two stored readings differ, or nothing."""
    here = environment()
    one, other = before.environment or here, after.environment or here
    if one.machine == other.machine:
        return ""
    return f"{one.cpu}, {one.cores} cores, and {other.cpu}, {other.cores} cores"


def _in_turns(scales: Scales, requirements: Sequence[Requirement], seed: int) -> GateStage:
    """Baseline, control and candidate afresh, in rounds of fresh processes."""
    arms = [_artifact(side) for side in (scales.before, scales.after)]
    inputs = _common_inputs(scales)
    looks = [
        _look(a, inputs, requirements, scales, s.word) for a, s in zip(arms, (scales.before, scales.after), strict=True)
    ]
    _check_recorded(scales, looks[0], looks[1], requirements)
    settings = turn_settings([cost_of(looks[i], 0) for i in (0, 0, 1)], scales.stage_s, seed)
    folders = {"baseline": arms[0].folder, "control": arms[0].folder, "candidate": arms[1].folder}
    turns = turns_of(folders, inputs, settings, scales.job.limits, scales.progress, f"stage {seed + 1}: taking turns")
    before, after = (renewed(looks[i], turns.readings[arm]) for i, arm in ((0, 0), (1, 2)))
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


def _independent(scales: Scales, requirements: Sequence[Requirement], seed: int) -> GateStage:
    """Stored readings; a candidate at hand whose spread between processes is not known is timed now, by itself."""
    job = scales.job
    timed = any(r.quantity == "memory" or is_time(r.quantity) for r in requirements)
    after = scales.after.measured
    if timed and not job.stored and scales.after.inputs is not None and (seed or not has_processes(after)):
        here = environment().machine
        known = scales.before.environment
        if known is None or known.machine == here or job.allow_unlike_machines:
            after = with_processes(
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


def _artifact(side: Contender) -> Artifact:
    assert side.artifact is not None
    return side.artifact


def _common_inputs(scales: Scales) -> Path:
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
    artifact: Artifact, inputs: Path, requirements: Sequence[Requirement], scales: Scales, word: str
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
    weighed = weigh(artifact, inputs, settings, limits=scales.job.limits, log=log_of(scales.aside))
    side = 0 if word == scales.before.word else 1
    made = scales.predictions[side]
    return dataclasses.replace(weighed, predictions=() if made is None else (made,))


# --- what was read ---------------------------------------------------------------------------------------


def _check_recorded(scales: Scales, before: Measurement, after: Measurement, asked: Sequence[Requirement]) -> None:
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


def _cure(requirement: Requirement, side: Contender) -> str:
    if quality(requirement.quantity) is None:
        return "measure it again with this version, or leave the requirement out"
    if side.kind == "file":
        return f"save {side.word} again with --data"
    return "give --data, or runs of optimize, which keep their test data"
