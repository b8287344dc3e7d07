"""How to train, as a frozen value: it names a training for good, so that what it made can be cached by it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from steelyard.errors import InvalidInput

__all__ = ["Recipe"]

Optimiser = Literal["sgd", "adam", "adamw", "rmsprop"]
Schedule = Literal["cosine", "step", "one-cycle", "hold-then-decay", "constant"]
Amp = Literal["none", "bf16", "fp16"]

_ABOVE_0 = (
    "lr", "epochs", "steps", "seconds", "batch", "accumulation", "micro_batch", "memory_gb", "clip_norm", "patience",
    "gamma", "least_gain", "switch_lr", "swa_lr", "layer_decay",
)  # fmt: skip
_BELOW_1 = ("momentum", "label_smoothing", "ema", "swa", "dropout", "switch")
_NOT_NEGATIVE = ("weight_decay", "l1", "warmup", "hold", "decay", "freeze")


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
    switch: float | Literal["swats"] | None = None  # adam to sgd, after this share of the training
    switch_lr: float | None = None  # sgd's rate then; None: the one that adam's steps project to
    weight_decay: float = 0.0  # L2; adamw's is decoupled from the gradient
    l1: float = 0.0  # times the sum of the absolute weights; biases and norms are left alone
    schedule: Schedule = "cosine"
    per: Literal["step", "epoch"] = "step"  # how often the rate moves
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
    micro_batch: int | Literal["auto"] | None = None  # that pass the net at once; auto: what fits
    memory_gb: float | None = None  # that the training may hold, for micro_batch auto; None: what there is
    label_smoothing: float = 0.0
    dropout: float | None = None  # of every dropout layer, or of a new one before the classifier
    clip_norm: float | None = None  # the gradient's largest norm
    ema: float | None = None  # decay of the weights' moving average, which then takes the weights' place
    swa: float | None = None  # share of the training after which each epoch's weights are averaged equally
    swa_lr: float | None = None  # constant rate from then on; None: the schedule's
    least_gain: float | None = None  # points of validation score a kilojoule, over two epochs; with less it ends
    patience: int | None = None  # epochs without a better validation score before it stops
    keep: Literal["best", "last"] = "best"  # which epoch's weights stay, where there is a validation score
    amp: Amp = "none"
    channels_last: bool = False
    compile: bool = False  # the net, by torch.compile
    fused: bool = False  # the optimiser's step in one kernel
    state_bits: Literal[8, 32] = 32  # of adam's moments
    checkpointing: Literal["none", "auto"] | tuple[str, ...] = "none"  # layers whose activations are made again
    freeze: int = 0  # epochs in which the classifier alone is trained
    layer_decay: float | None = None  # each layer's rate over that of the layer after it
    augment: Mapping[str, Any] = field(default_factory=dict)  # see steelyard.trainer.augment
    deterministic: bool = False  # no operation whose sum depends on chance
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for a recipe that no training could follow."""
        for name, kind in (("optimiser", Optimiser), ("schedule", Schedule), ("amp", Amp)):
            _one_of(name, getattr(self, name), get_args(kind))
        _one_of("keep", self.keep, ("best", "last"))
        _one_of("per", self.per, ("step", "epoch"))
        _one_of("state_bits", self.state_bits, (8, 32))
        if self.epochs is None and self.steps is None and self.seconds is None:
            raise InvalidInput("the recipe does not say when to stop: give epochs, steps or seconds")
        for name in _ABOVE_0:
            self._check(name, "above 0", lambda value: math.isfinite(value) and value > 0)
        for name in _BELOW_1:
            self._check(name, "at least 0 and below 1", lambda value: 0 <= value < 1)
        for name in _NOT_NEGATIVE:
            self._check(name, "0 or more", lambda value: math.isfinite(value) and value >= 0)
        self._check_pairs()

    def plain(self) -> dict[str, Any]:
        """Every field, in plain values."""
        return dataclasses.asdict(self)

    def _check(self, name: str, words: str, holds: Any) -> None:
        value = getattr(self, name)
        if value is not None and not isinstance(value, str) and not holds(value):
            raise InvalidInput(f"{name} must be {words}, got {value}")

    def _check_pairs(self) -> None:
        """Words that only go with others."""
        adam = self.optimiser in ("adam", "adamw")
        refused = (
            (self.nesterov and (self.optimiser != "sgd" or self.momentum == 0),
             "nesterov is a kind of sgd's momentum: give optimiser sgd and a momentum above 0"),
            (self.switch is not None and self.optimiser != "adam", "switch goes from adam to sgd: give optimiser adam"),
            (self.switch_lr is not None and not isinstance(self.switch, int | float),
             "switch_lr is the rate after a switch at a share of the training: give switch, such as 0.5"),
            (self.state_bits == 8 and (not adam or self.switch is not None),
             "state_bits 8 is of adam's moments: give optimiser adam or adamw, without a switch"),
            (self.state_bits == 8 and self.fused, "state_bits 8 has no fused step: give one of the two"),
            (self.ema is not None and self.swa is not None, "ema and swa both average the weights: give one of the two"),
            (self.swa_lr is not None and self.swa is None, "swa_lr is the rate while weights are averaged: give swa, such as 0.75"),
            (self.memory_gb is not None and self.micro_batch != "auto", "memory_gb is what micro_batch auto keeps: give micro_batch auto"),
        )  # fmt: skip
        for wrong, words in refused:
            if wrong:
                raise InvalidInput(words)


def _one_of(name: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise InvalidInput(f"{name} must be {', '.join(map(str, known[:-1]))} or {known[-1]}, got {value!r}")
