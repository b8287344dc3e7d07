"""Which learning rate: a range test, in which the rate climbs on a logarithmic scale until the loss runs away (Smith 2017)."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from torch import nn

from steelyard.records import Floats, RateSearch
from steelyard.trainer.examples import Examples
from steelyard.trainer.loop import Augment, fit
from steelyard.trainer.objectives import Objective
from steelyard.trainer.recipe import Recipe

__all__ = ["find_rate", "suggest"]

_SMOOTHING = 0.9
_RUNAWAY = 4.0  # times the lowest smoothed loss: the test stops
_SETTLED = 5  # steps before the average says anything


def find_rate(
    model: nn.Module,
    data: Examples,
    recipe: Recipe,
    *,
    objective: Objective | None = None,
    augment: Augment | None = None,
    low: float = 1e-6,
    high: float = 10.0,
    steps: int = 100,
    tell: Callable[[int, float], None] | None = None,
) -> RateSearch:
    """Train for some steps at rates from `low` to `high`, say which would do, and put the model back as it was."""
    before = {name: value.detach().clone() for name, value in model.state_dict().items()}
    training = model.training
    test = dataclasses.replace(
        recipe, lr=high, steps=steps, epochs=None, seconds=None, ema=None, swa=None, swa_lr=None, switch=None,
        switch_lr=None, patience=None, freeze=0,
    )  # fmt: skip
    try:
        history = fit(
            model,
            data,
            test,
            objective=objective,
            augment=augment,
            tell=tell,
            schedule=_climb(low, high),
            until=_runaway(),
        )
    finally:
        model.load_state_dict(before)
        model.train(training)
    return suggest(history.learning_rate, history.loss)


def suggest(rates: Floats, losses: Floats) -> RateSearch:
    """What the losses ``(steps,)`` at climbing rates say: the lower of the steepest fall and a tenth of where they ran away.

    >>> rates = np.geomspace(1e-4, 1, 50)
    >>> found = suggest(rates, np.where(rates < 0.1, 2 - np.tanh(2 + np.log10(rates)), 50.0))
    >>> found.diverged is not None and found.suggested < 0.02
    True
    """
    smoothed = _smoothed(losses)
    fell = len(losses) > 2 * _SETTLED and smoothed.min() < 0.98 * smoothed[_SETTLED]
    lowest = np.minimum.accumulate(smoothed)
    away = np.flatnonzero(smoothed > _RUNAWAY * lowest)
    diverged = float(rates[away[0]]) if len(away) else None
    if not fell:
        note = "the loss did not fall at any rate: more steps, a wider range or another optimiser may"
        return RateSearch(
            rates=rates, losses=losses, smoothed=smoothed, steepest=None, diverged=diverged, suggested=None, note=note
        )
    ends = int(smoothed[_SETTLED:].argmin()) + _SETTLED + 1  # after the lowest loss nothing is learned
    slopes = np.gradient(smoothed[:ends], np.log10(rates[:ends]))
    steepest = float(rates[_SETTLED + int(slopes[_SETTLED:].argmin())])
    suggested = steepest if diverged is None else min(steepest, diverged / 10)
    return RateSearch(
        rates=rates, losses=losses, smoothed=smoothed, steepest=steepest, diverged=diverged, suggested=suggested
    )


def _climb(low: float, high: float) -> Callable[[Recipe, int, int, int], float]:
    """A schedule from ``low / high`` to 1, by equal factors."""

    def factor(_recipe: Recipe, step: int, total: int, _per_epoch: int) -> float:
        return float((low / high) ** (1 - step / max(1, total - 1)))

    return factor


def _runaway() -> Callable[[float], bool]:
    """Told each loss: whether the average of those so far is far above its lowest."""
    average, lowest, count = 0.0, math.inf, 0

    def stop(loss: float) -> bool:
        nonlocal average, lowest, count
        count += 1
        average = _SMOOTHING * average + (1 - _SMOOTHING) * loss
        corrected = average / (1 - _SMOOTHING**count)
        lowest = min(lowest, corrected)
        return count > _SETTLED and corrected > _RUNAWAY * lowest

    return stop


def _smoothed(losses: Floats) -> Floats:
    """Exponential average, freed of the bias of its start (as in Adam: Kingma and Ba 2015, section 3)."""
    steps = np.arange(1, len(losses) + 1)
    ages = steps[:, None] - steps[None, :]
    weights = np.where(ages >= 0, _SMOOTHING ** np.maximum(ages, 0), 0.0) * (1 - _SMOOTHING)
    averaged: Floats = weights @ losses / (1 - _SMOOTHING**steps)
    return averaged
