"""Schedules against PyTorch's own."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim import lr_scheduler

from steelyard.trainer.recipe import Recipe
from steelyard.trainer.schedules import rate

STEPS, PER_EPOCH = 60, 6


def _torch(make: Callable[[torch.optim.Optimizer], Any], steps_each: int = 1) -> list[float]:
    """The rates of PyTorch's schedule at a rate of 1, a number for each of its steps."""
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    schedule = make(optimiser)
    rates = []
    for _ in range(STEPS // steps_each):
        rates.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        schedule.step()
    return rates


def _ours(**settings: Any) -> list[float]:
    recipe = Recipe(lr=1.0, epochs=STEPS / PER_EPOCH, **settings)
    return [rate(recipe, step, STEPS, PER_EPOCH) for step in range(STEPS)]


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({"schedule": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, STEPS)),
        ({"schedule": "one-cycle"}, lambda o: lr_scheduler.OneCycleLR(o, 1.0, STEPS, cycle_momentum=False)),
        ({"schedule": "step", "gamma": 0.2}, lambda o: lr_scheduler.MultiStepLR(o, [30, 45], 0.2)),
        ({"schedule": "constant"}, lambda o: lr_scheduler.ConstantLR(o, 1.0)),
        (
            {"schedule": "constant", "warmup": 2},
            lambda o: lr_scheduler.LinearLR(o, 1 / 12, 1.0, 11),
        ),
    ],
)
def test_schedules_are_pytorchs(settings: dict[str, Any], theirs: Callable[[torch.optim.Optimizer], Any]) -> None:
    assert _ours(**settings) == pytest.approx(_torch(theirs), abs=1e-9)


def test_hold_then_decay_multiplies_each_epoch_after_the_hold() -> None:
    rates = _ours(schedule="hold-then-decay", hold=3, decay=0.1)
    expected = [1.0 if epoch < 3 else math.exp(-0.1 * (epoch - 2)) for epoch in range(10) for _ in range(PER_EPOCH)]
    assert rates == pytest.approx(expected)


@given(
    schedule=st.sampled_from(["cosine", "step", "one-cycle", "hold-then-decay", "constant"]),
    total=st.integers(1, 300),
    warmup=st.floats(0, 5),
    per_epoch=st.integers(1, 50),
    data=st.data(),
)
def test_a_rate_is_never_below_nought_nor_above_the_recipes(
    schedule: Any, total: int, warmup: float, per_epoch: int, data: st.DataObject
) -> None:
    step = data.draw(st.integers(0, total - 1))
    recipe = Recipe(epochs=1, schedule=schedule, warmup=warmup)
    assert 0 <= rate(recipe, step, total, per_epoch) <= 1 + 1e-12


@pytest.mark.parametrize(
    ("settings", "theirs"),
    [
        ({"schedule": "cosine"}, lambda o: lr_scheduler.CosineAnnealingLR(o, 10)),
        ({"schedule": "step", "gamma": 0.2}, lambda o: lr_scheduler.MultiStepLR(o, [5, 8], 0.2)),
        ({"schedule": "hold-then-decay", "hold": 0}, lambda o: lr_scheduler.ExponentialLR(o, math.exp(-0.1))),
        ({"schedule": "constant", "warmup": 4}, lambda o: lr_scheduler.LinearLR(o, 1 / 4, 1.0, 3)),
        ({"schedule": "one-cycle"}, lambda o: lr_scheduler.OneCycleLR(o, 1.0, 10, cycle_momentum=False)),
    ],
)
def test_by_epoch_they_are_pytorchs_stepped_at_each_epoch(
    settings: dict[str, Any], theirs: Callable[[torch.optim.Optimizer], Any]
) -> None:
    expected = [factor for factor in _torch(theirs, PER_EPOCH) for _ in range(PER_EPOCH)]
    if settings["schedule"] == "hold-then-decay":  # decay begins with the epoch after the hold
        expected = [factor * math.exp(-0.1) for factor in expected]
    assert _ours(per="epoch", **settings) == pytest.approx(expected, abs=1e-9)


def test_the_rate_while_weights_are_averaged_is_constant() -> None:
    rates = _ours(schedule="cosine", swa=0.75, swa_lr=0.02)
    assert rates[:45] == pytest.approx(_ours(schedule="cosine")[:45])
    assert rates[45:] == [0.02] * 15
