"""The decision threshold of each model: chosen for a target or for costs on examples that are then not judged (Q19)."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics.examples import Examples
from steelyard.metrics.objectives import target_of
from steelyard.metrics.threshold import Costs, Target, choose_threshold, parse_costs, parse_target
from steelyard.pipeline.evaluation.from_table import read_answers
from steelyard.pipeline.evaluation.request import Answers, Request
from steelyard.records import Estimate, Objective, Threshold

__all__ = ["decided", "goal_of"]

Rows = NDArray[np.int64]


def goal_of(request: Request, objective: Objective | None) -> Target | Costs | None:
    """What chooses the threshold: costs do so where nothing else decides."""
    free = request.threshold is None and request.predicted is None
    if request.costs and free and not request.target:
        return parse_costs(request.costs)
    text = request.target or (target_of(objective) if objective is not None and free else None)
    return parse_target(text) if text else None


def decided(
    models: list[Answers], objective: Objective, request: Request
) -> tuple[list[Answers], list[Threshold | None], list[str]]:
    """Each model's threshold, chosen on validation examples; its own answers are decided by it."""
    goal = goal_of(request, objective)
    if goal is None:
        given = None if request.threshold is None else request.threshold
        fixed = [None if given is None else Threshold(value=given, target="given", chosen_on="the command", n=0)] * len(
            models
        )
        return [_with_validation(model, request) for model in models], list(fixed), []
    chosen, thresholds, warnings = [], [], []
    rows: tuple[Rows, Rows] | None = None
    for model in models:
        if model.examples.task != "binary" or model.examples.scores is None:
            raise InvalidInput(
                f"a threshold for {goal.text!r} needs two classes and a score; {model.source} has {model.examples.task} answers"
                + (" without scores" if model.examples.scores is None else "")
            )
        ready = _with_validation(model, request)
        if ready.validation is None:
            if rows is None:
                rows = _halves(ready.examples, request.seed)
                warnings.append(
                    f"the threshold was chosen on a random half of the examples ({len(rows[0]):,}) and judged on the other: give "
                    "--validation FILE, or a column 'split', to judge on all"
                )
            ready = _halved(ready, rows)
        decided, threshold, warning = _decide(ready, goal)
        chosen.append(decided)
        thresholds.append(threshold)
        warnings += warning
    return chosen, list(thresholds), warnings


def _with_validation(model: Answers, request: Request) -> Answers:
    if request.validation is None:
        return model
    other = read_answers(Path(request.validation), dataclasses.replace(request, slices=(), split=None))
    if other.examples.classes != model.examples.classes:
        raise InvalidInput(f"{request.validation} has other classes than {model.source}")
    return dataclasses.replace(model, validation=other.examples, validation_name=request.validation)


def _halves(examples: Examples, seed: int) -> tuple[Rows, Rows]:
    """Two random halves with the same share of each class; whole clusters where there are some."""
    rng = np.random.default_rng(seed)
    if examples.clusters is not None:
        names = rng.permutation(np.unique(examples.clusters))
        first = np.isin(examples.clusters, names[: len(names) // 2])
        return np.flatnonzero(first), np.flatnonzero(~first)
    own = [rng.permutation(np.flatnonzero(examples.labels == value)) for value in np.unique(examples.labels)]
    fit = np.sort(np.concatenate([rows[: len(rows) // 2] for rows in own]))
    return fit, np.setdiff1d(np.arange(len(examples)), fit)


def _halved(model: Answers, rows: tuple[Rows, Rows]) -> Answers:
    fit, judge = rows
    return dataclasses.replace(
        model.take(judge), validation=model.examples.take(fit), validation_name="a random half of the examples"
    )


def _decide(model: Answers, goal: Target | Costs) -> tuple[Answers, Threshold, list[str]]:
    fitted = model.validation
    assert fitted is not None
    if fitted.scores is None:
        raise InvalidInput(f"{model.validation_name} holds no scores to choose a threshold on")
    choice = choose_threshold(fitted.labels, fitted.scores, goal)
    warnings = []
    if not choice.kept and isinstance(goal, Target):
        warnings.append(
            f"{model.name}: no threshold reaches {goal.text} on {model.validation_name}; the nearest, {choice.threshold:.4g}, reaches "
            f"{choice.reached:.4g}"
        )
    reached = Estimate(
        quantity=goal.metric if isinstance(goal, Target) else "mean_cost",
        unit="fraction" if isinstance(goal, Target) else "cost",
        value=choice.reached, low=choice.reached, high=choice.reached, level=0.0,
        method="on the examples that chose it", n=len(fitted),
    )  # fmt: skip
    threshold = Threshold(
        value=choice.threshold, target=goal.text, chosen_on=model.validation_name, n=len(fitted), reached=reached
    )
    scores = model.examples.scores
    assert scores is not None
    predicted = (scores >= choice.threshold).astype(np.int8)
    return (
        dataclasses.replace(model, examples=dataclasses.replace(model.examples, predicted=predicted)),
        threshold,
        warnings,
    )
