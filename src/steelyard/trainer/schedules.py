"""The learning rate over a training: factors on the recipe's rate, from the step's number alone.

Being functions of the step they have no state: a training that goes on from a checkpoint meets the same rates. Sources:
Loshchilov and Hutter 2017 (cosine), Smith 2018 (one cycle), Goyal et al. 2017 (linear warm-up), Izmailov et al. 2018 (a
constant rate while weights are averaged). Formulas are those of `torch.optim.lr_scheduler`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from steelyard.trainer.recipe import Recipe

__all__ = ["Schedule", "rate"]

Schedule = Callable[[Recipe, int, int, int], float]  # recipe, step, steps in all, steps an epoch: as `rate`

_ONE_CYCLE_RISE = 0.3  # of the steps; these three are the defaults of torch.optim.lr_scheduler.OneCycleLR
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4


def rate(recipe: Recipe, step: int, total: int, per_epoch: int) -> float:
    """The factor on the recipe's rate at a step, counted from 0, of a training of `total` steps.

    One-cycle is PyTorch's, without the cycle of the momentum. A linear warm-up stands before any schedule but one-cycle,
    which has its own, and takes its steps from the whole. By epoch, every step of an epoch has the rate of its first.

    >>> recipe = Recipe(epochs=10, schedule="cosine")
    >>> [round(rate(recipe, step, 100, 10), 3) for step in (0, 50, 99)]
    [1.0, 0.5, 0.0]
    >>> [round(rate(Recipe(epochs=2, schedule="cosine", per="epoch"), step, 20, 10), 3) for step in (0, 9, 10)]
    [1.0, 1.0, 0.5]
    """
    if recipe.swa is not None and recipe.swa_lr is not None and step >= recipe.swa * total:
        return recipe.swa_lr / recipe.lr
    if recipe.per == "epoch":
        step, total, per_epoch = step // per_epoch, math.ceil(total / per_epoch), 1
    if recipe.schedule == "one-cycle":
        return _one_cycle(step, total)
    warm = min(round(recipe.warmup * per_epoch), total - 1)
    if step < warm:
        return (step + 1) / warm
    return _after_warmup(recipe, step, warm, total, per_epoch)


def _after_warmup(recipe: Recipe, step: int, warm: int, total: int, per_epoch: int) -> float:
    if recipe.schedule == "cosine":
        return 0.5 * (1 + math.cos(math.pi * (step - warm) / (total - warm)))
    if recipe.schedule == "step":
        return float(recipe.gamma ** sum(step >= share * total for share in recipe.milestones))
    if recipe.schedule == "hold-then-decay":
        return math.exp(-recipe.decay * max(0, step // per_epoch - recipe.hold + 1))
    return 1.0


def _one_cycle(step: int, total: int) -> float:
    top, end = _ONE_CYCLE_RISE * total - 1, total - 1
    if step <= top:
        return _along(_ONE_CYCLE_START, 1.0, step / top)
    return _along(1.0, _ONE_CYCLE_END, (step - top) / (end - top))


def _along(start: float, end: float, share: float) -> float:
    """From one value to another on half a cosine."""
    return end + (start - end) / 2 * (1 + math.cos(math.pi * min(share, 1.0)))
