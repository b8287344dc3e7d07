"""What is minimised among the plans that keep every requirement, and how a trial stands by its point estimates."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steelyard.metrics.table import quality
from steelyard.passes import PASSES
from steelyard.records import (
    Comparison,
    Measurement,
    Prediction,
    Requirement,
    RunRecords,
    Step,
    Trial,
)
from steelyard.search.ordered import Obtained
from steelyard.verify.judge import Case, point

__all__ = ["BEST", "Goal", "foreseen_gain", "goal_of", "promises", "promising", "ratio_of"]

BEST: Mapping[str, str] = {
    "latency": "the fastest",
    "energy": "the most frugal",
    "size": "the smallest",
    "memory": "the lightest in memory",
}
"""What can be minimised, and what the plan is called that has least of it."""

SHRINKS: Mapping[str, float] = {
    "int8": 4.0, "weight-only": 4.0, "bf16": 2.0, "fp16": 2.0, "prune": 2.0, "low-rank": 1.5, "distill": 3.0,
}  # fmt: skip
"""By kind of technique, what is stored before over what is stored afterwards: rules of thumb, there to order the plans."""

_NO_LIMIT = 1e-3  # of a limit of 0, the part that a miss is taken relative to


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Goal:
    """Requirements, and the quantity to minimise, against one baseline; quality is that on the validation split."""

    before: Measurement
    requirements: tuple[Requirement, ...]
    labels: tuple[str, ...] = ()
    minimise: str = "latency"

    def case(self, after: Measurement, comparison: Comparison) -> Case:
        """A candidate against the baseline, as verdicts are made."""
        return Case(
            before=self.before, after=after, comparison=comparison, arm=1, split="validation", labels=self.labels
        )

    def gain(self, after: Measurement, comparison: Comparison) -> float:
        """The baseline's cost over the candidate's; 0 where one of them was not read."""
        ratio = ratio_of(self.case(after, comparison), self.minimise)
        return 0.0 if ratio is None else 1 / ratio

    def gain_of(self, trial: Trial) -> float:
        """The gain of a trial; 0 where it was not weighed."""
        return 0.0 if trial.after is None or trial.comparison is None else self.gain(trial.after, trial.comparison)

    def obtained(self, trial: Trial) -> Obtained | None:
        """What came of a trial that was timed. One shown to be hopeless by a sample misses by as much as its limit."""
        if trial.comparison is None:
            return None
        if trial.after is None:
            ratio = (
                ratio_of(self.case(self.before, trial.comparison), "latency") if self.minimise == "latency" else None
            )
            return Obtained(gain=1 / (ratio or 1.0), missed=(1.0,))
        case, gain = self.case(trial.after, trial.comparison), self.gain_of(trial)
        read = trial.after.on("validation") is not None  # one left behind early was not asked for its quality
        missed = tuple(_missed(case, r) for r in self.requirements if read or quality(r.quantity) is None)
        return Obtained(gain=gain, missed=missed) if gain > 0 else None

    def promising(self, trials: Sequence[Trial]) -> list[Trial]:
        """The trials whose point estimates promise every requirement, those of the largest gain first."""
        return promising(self.before, trials, self.requirements, self.labels, self.minimise)


def goal_of(records: RunRecords) -> Goal:
    """The goal of a run whose baseline was weighed."""
    assert records.baseline is not None
    run = records.run
    return Goal(
        before=records.baseline, requirements=run.requirements, labels=run.contract.labels, minimise=run.minimise
    )


def promising(
    baseline: Measurement,
    trials: Sequence[Trial],
    requirements: Sequence[Requirement],
    labels: tuple[str, ...] = (),
    minimise: str = "latency",
) -> list[Trial]:
    """The trials whose point estimates on validation data promise every requirement, the least costly first."""
    goal = Goal(before=baseline, requirements=tuple(requirements), labels=labels, minimise=minimise)
    passing = []
    for trial in trials:
        if trial.after is None or trial.comparison is None:
            continue
        case = goal.case(trial.after, trial.comparison)
        ratio = ratio_of(case, minimise)
        if ratio is not None and all(promises(case, r) for r in requirements):
            passing.append((ratio, trial))
    return [trial for _, trial in sorted(passing, key=lambda pair: pair[0])]


def ratio_of(case: Case, quantity: str) -> float | None:
    """A cost of the candidate over the baseline's; None where it was not read of both."""
    found = point(case, Requirement(quantity=quantity, kind="max_ratio", limit=1.0, text=f"{quantity} <= 1x"))
    return found if found is not None and math.isfinite(found) and found > 0 else None


def promises(case: Case, requirement: Requirement) -> bool:
    """Whether the point estimate keeps the requirement; the proof is another matter."""
    return _missed(case, requirement) <= 0


def _missed(case: Case, requirement: Requirement) -> float:
    """How far the point estimate is beyond the limit, relative to it; 0 or less where it is kept, 1 where it was not read."""
    value, limit = point(case, requirement), requirement.limit
    if value is None:
        return 1.0
    sign = -1 if requirement.kind in ("min", "min_ratio") else 1
    return sign * (value - limit) / max(abs(limit), _NO_LIMIT)


def foreseen_gain(prediction: Prediction, minimise: str) -> Prediction:
    """The prediction in terms of what is minimised. Energy follows time; size and memory follow what is stored."""
    if minimise in ("latency", "energy"):
        return prediction
    gain = math.prod(_shrinks(step) for step in prediction.plan.steps)
    because = f"about {gain:.3g}x less is stored" if gain > 1 else f"it does not lessen the {minimise}"
    return dataclasses.replace(prediction, gain=gain, ceiling=math.inf, because=because, hopeless=False)


def _shrinks(step: Step) -> float:
    if step.name == "prune":
        return 1 / float(dict(step.options).get("macs") or 1 / SHRINKS["prune"])
    return SHRINKS.get(PASSES[step.name].kind, 1.0) if step.name in PASSES else 1.0
