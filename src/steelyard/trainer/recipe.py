"""How to train, as a frozen value: it names a training for good, so that what it made can be cached by it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

from steelyard.errors import InvalidInput

__all__ = ["Recipe", "rate"]

Optimiser = Literal["sgd", "adam", "adamw", "rmsprop"]
Schedule = Literal["cosine", "step", "one-cycle", "hold-then-decay", "constant"]
Amp = Literal["none", "bf16", "fp16"]

_ONE_CYCLE_RISE = 0.3  # of the steps; these three are the defaults of torch.optim.lr_scheduler.OneCycleLR
_ONE_CYCLE_START = 1 / 25
_ONE_CYCLE_END = _ONE_CYCLE_START / 1e4


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the loop does. The first of ``epochs``, ``steps`` and ``seconds`` to be reached ends it; one must be given.

    A step takes ``batch * accumulation`` examples. Where ``seconds`` are fewer than the rest needs, the schedule is
    drawn together so that the rate still runs its whole course.
    """

    optimiser: Optimiser = "sgd"
    lr: float = 0.1
    momentum: float = 0.9  # of sgd and rmsprop
    nesterov: bool = False
    weight_decay: float = 0.0
    schedule: Schedule = "cosine"
    warmup: float = 0.0  # epochs in which the rate climbs in equal steps
    milestones: tuple[float, ...] = (0.5, 0.75)  # step: shares of the training after which the rate is cut
    gamma: float = 0.1  # step: what it is multiplied by
    hold: int = 10  # hold-then-decay: epochs at the full rate
    decay: float = 0.1  # hold-then-decay: each later epoch multiplies it by exp(-decay)
    epochs: float | None = None
    steps: int | None = None
    seconds: float | None = None
    batch: int = 128
    accumulation: int = 1
    label_smoothing: float = 0.0
    clip_norm: float | None = None  # the gradient's largest norm
    ema: float | None = None  # decay of the weights' moving average, which then takes the weights' place
    patience: int | None = None  # epochs without a better validation score before it stops
    keep: Literal["best", "last"] = "best"  # which epoch's weights stay, where there is a validation score
    amp: Amp = "none"
    channels_last: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for a recipe that no training could follow."""
        _one_of("optimiser", self.optimiser, get_args(Optimiser))
        _one_of("schedule", self.schedule, get_args(Schedule))
        _one_of("amp", self.amp, get_args(Amp))
        _one_of("keep", self.keep, ("best", "last"))
        if self.epochs is None and self.steps is None and self.seconds is None:
            raise InvalidInput("the recipe does not say when to stop: give epochs, steps or seconds")
        for name in ("lr", "epochs", "steps", "seconds", "batch", "accumulation", "clip_norm", "patience", "gamma"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0):
                raise InvalidInput(f"{name} must be above 0, got {value}")
        for name in ("momentum", "label_smoothing", "ema"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise InvalidInput(f"{name} must be at least 0 and below 1, got {value}")
        for name in ("weight_decay", "warmup", "hold", "decay"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InvalidInput(f"{name} must be 0 or more, got {getattr(self, name)}")
        if self.nesterov and (self.optimiser != "sgd" or self.momentum == 0):
            raise InvalidInput("nesterov is a kind of sgd's momentum: give optimiser sgd and a momentum above 0")


def _one_of(name: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InvalidInput(f"{name} must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}")


def rate(recipe: Recipe, step: int, total: int, per_epoch: int) -> float:
    """The factor on the recipe's rate at a step, counted from 0, of a training of `total` steps.

    Cosine (Loshchilov and Hutter 2017) and one-cycle (Smith 2018) are PyTorch's, without the cycle of the momentum. A
    linear warm-up stands before any schedule but one-cycle, which has its own, and takes its steps from the whole.

    >>> recipe = Recipe(epochs=10, schedule="cosine")
    >>> [round(rate(recipe, step, 100, 10), 3) for step in (0, 50, 99)]
    [1.0, 0.5, 0.0]
    """
    if recipe.schedule == "one-cycle":
        return _one_cycle(step, total)
    warm = min(round(recipe.warmup * per_epoch), total - 1)
    if step < warm:
        return (step + 1) / warm
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
