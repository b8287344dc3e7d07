"""What can be said before any candidate is built: predictions, their order, and requirements or budgets out of reach."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence

from steelyard.diagnose.findings import diagnose
from steelyard.pipeline.minutes import training_minutes
from steelyard.pipeline.objective import foreseen_gain
from steelyard.records import Finding, Measurement, Plan, Prediction, Requirement, Run, Sample
from steelyard.report import numbers

__all__ = ["Predict", "foresee", "forewarnings", "in_order", "predictor", "trimmed", "unpredicted"]

Predict = Callable[[Plan], Prediction]


def foresee(baseline: Measurement, run: Run, plans: Sequence[Plan], limit_s: float) -> tuple[Finding, ...]:
    """The diagnosis, each plan predicted in terms of what is minimised, and what is out of reach."""
    hints = training_minutes(baseline, run.splits.get("train", 0), limit_s)
    first, *others = diagnose(baseline, run.peaks, plans, hints)
    predictions = in_order(trimmed([foreseen_gain(p, run.minimise) for p in first.predictions]))
    found = dataclasses.replace(first, predictions=predictions)
    return (found, *others, *forewarnings(baseline, run, predictions))


def predictor(baseline: Measurement, run: Run, limit_s: float) -> Predict:
    """What the diagnosis predicts of any plan."""
    hints = training_minutes(baseline, run.splits.get("train", 0), limit_s)

    @functools.cache
    def predict(plan: Plan) -> Prediction:
        predictions = diagnose(baseline, run.peaks, [plan], hints)[0].predictions
        return foreseen_gain(predictions[0] if predictions else unpredicted(plan), run.minimise)

    return predict


def unpredicted(plan: Plan) -> Prediction:
    """Of a model that could not be diagnosed: nothing is known of its plans, which is no reason not to try them."""
    because = "the model could not be diagnosed, so nothing is predicted"
    return Prediction(plan=plan, gain=1.0, ceiling=float("inf"), minutes=1.0, because=because)


def trimmed(predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """Without the hopeless plans that hold all of a shorter hopeless one: its reason is theirs."""
    hopeless = [frozenset(p.plan.steps) for p in predictions if p.hopeless]
    return tuple(
        p for p in predictions if not (p.hopeless and any(shorter < set(p.plan.steps) for shorter in hopeless))
    )


def in_order(predictions: Sequence[Prediction]) -> tuple[Prediction, ...]:
    """Most gain per minute first, and what is hopeless last."""
    return tuple(sorted(predictions, key=lambda p: (p.hopeless, -(p.gain - 1) / max(p.minutes, 1e-3))))


def forewarnings(baseline: Measurement, run: Run, predictions: Sequence[Prediction]) -> Iterator[Finding]:
    """Requirements that no plan's ceiling reaches, and a budget too short for one candidate."""
    hopeful = [p for p in predictions if not p.hopeless]
    if not hopeful:
        return
    ceiling = max(p.ceiling for p in hopeful)
    for requirement in run.requirements:
        needed = _needed_gain(baseline, requirement)
        if needed is not None and run.minimise in ("latency", "energy") and needed > ceiling:
            claim = (
                f"{requirement.text} asks for {numbers.significant(needed)} times the baseline's speed, and the highest ceiling of any plan is "
                f"{numbers.significant(ceiling)}: expect a frontier and no winner"
            )
            yield Finding(name="out of reach", claim=claim, evidence={"needed_gain": needed, "ceiling": ceiling})
    quickest_s = 60 * min(p.minutes for p in hopeful)
    if quickest_s > run.budget_s:
        claim = (
            f"building and weighing one candidate takes about {numbers.seconds(quickest_s)}, more than the whole budget of "
            f"{numbers.seconds(run.budget_s)}: one is tried all the same, and the run takes longer"
        )
        yield Finding(name="short budget", claim=claim, evidence={"candidate_s": quickest_s, "budget_s": run.budget_s})


def _needed_gain(baseline: Measurement, requirement: Requirement) -> float | None:
    """How many times faster a candidate must be; None where the requirement is about something else."""
    if requirement.quantity not in ("latency", "p50") or requirement.limit <= 0:
        return None
    if requirement.kind == "max_ratio":
        return 1 / requirement.limit
    latency = baseline.get("latency_s", batch=1)
    return latency.value / requirement.limit if isinstance(latency, Sample) else None
