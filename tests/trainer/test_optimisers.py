"""Optimisers against PyTorch's own, SWATS against its formula, and rates by layer."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from small_training import net, some, weights
from steelyard.trainer.loop import fit
from steelyard.trainer.optimisers import AdamThenSGD, add_l1, make_optimiser, set_rates
from steelyard.trainer.recipe import Recipe


def _descend(model: nn.Module, optimiser: Any, steps: int, *, rates: Any = None) -> list[torch.Tensor]:
    """The same batches for everyone; the gradient of each step as one vector."""
    data, gradients = some(64).batch(torch.arange(64).numpy()), []
    model.train()
    for step in range(steps):
        if rates is not None:
            for group in optimiser.param_groups:
                group["lr"] = rates(step)
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(data.inputs), data.labels).backward()
        gradients.append(torch.cat([p.grad.flatten().clone() for p in model.parameters() if p.grad is not None]))
        optimiser.step()
    return gradients


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"optimiser": "sgd", "nesterov": True}, lambda p: torch.optim.SGD(p, 0.05, 0.9, 0, 1e-3, nesterov=True)),
        ({"optimiser": "sgd", "momentum": 0.0}, lambda p: torch.optim.SGD(p, 0.05, weight_decay=1e-3)),
        ({"optimiser": "adam"}, lambda p: torch.optim.Adam(p, 0.05, weight_decay=1e-3)),
        ({"optimiser": "adamw"}, lambda p: torch.optim.AdamW(p, 0.05, weight_decay=1e-3)),
        ({"optimiser": "rmsprop"}, lambda p: torch.optim.RMSprop(p, 0.05, momentum=0.9, weight_decay=1e-3)),
    ],
)
@pytest.mark.parametrize("fused", [False, True])
def test_a_step_is_pytorchs(settings: dict[str, Any], make: Any, fused: bool) -> None:
    ours, theirs = net(), net()
    recipe = Recipe(lr=0.05, weight_decay=1e-3, epochs=1, fused=fused, **settings)
    _descend(ours, make_optimiser(recipe, [{"params": list(ours.parameters()), "initial_lr": 0.05}]), 5)
    _descend(theirs, make(theirs.parameters()), 5)
    torch.testing.assert_close(weights(ours), weights(theirs), rtol=1e-5 if fused else 0, atol=1e-7 if fused else 0)


def test_after_the_switch_it_is_pytorchs_sgd_from_there() -> None:
    ours, theirs = net(), net()
    optimiser = AdamThenSGD(
        [{"params": list(ours.parameters()), "initial_lr": 0.01, "lr": 0.01}], 0.01, weight_decay=1e-3
    )
    _descend(ours, optimiser, 3)
    _descend(theirs, torch.optim.Adam(theirs.parameters(), 0.01, weight_decay=1e-3), 3)
    assert torch.equal(weights(ours), weights(theirs))
    optimiser.switch(0.2)
    _descend(ours, optimiser, 4)
    _descend(theirs, torch.optim.SGD(theirs.parameters(), 0.2, 0.9, weight_decay=1e-3), 4)
    assert torch.equal(weights(ours), weights(theirs))


def test_the_projected_rate_is_the_papers() -> None:
    """Keskar and Socher 2017, algorithm 1, lines 9 to 15, written out in double precision."""
    model = net()
    optimiser = AdamThenSGD([{"params": list(model.parameters()), "initial_lr": 0.01, "lr": 0.01}], 0.01)
    average, expected = 0.0, 0.0
    for step in range(1, 9):
        before = weights(model)
        (gradient,) = _descend(model, optimiser, 1)
        p, g = weights(model) - before, gradient.double()
        gamma = float(p @ p / -(p @ g))
        assert gamma > 0
        average = 0.999 * average + 0.001 * gamma
        expected = (1 - 0.9) * average / (1 - 0.999**step)
        assert optimiser.projected_lr == pytest.approx(expected, rel=1e-3)
    assert not optimiser.switched
    assert optimiser.switch() == pytest.approx(expected, rel=1e-3)


def test_where_the_projections_agree_it_switches_by_itself() -> None:
    """On a line f(x) = x, Adam steps by its rate whatever the gradient, so each gamma is the rate."""
    x = nn.Parameter(torch.tensor([0.0], dtype=torch.float64))
    optimiser = AdamThenSGD([{"params": [x], "initial_lr": 0.01, "lr": 0.01}], 0.01, momentum=0.5, by_itself=True)
    for step in range(1, 4):
        x.grad = torch.ones_like(x)
        optimiser.step()
        assert optimiser.switched == (step >= 2)
    assert optimiser.param_groups[0]["initial_lr"] == pytest.approx(0.01 * 0.5, rel=1e-5)


def test_a_switch_keeps_the_proportions_of_the_layers_rates_and_of_the_schedule() -> None:
    a, b = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    groups = [{"params": [p], "initial_lr": lr, "lr": lr} for p, lr in ((a, 0.01), (b, 0.02))]
    optimiser = AdamThenSGD(groups, 0.02)
    assert set_rates(optimiser, 0.5) == pytest.approx(0.01)
    optimiser.switch(0.4)
    assert [group["initial_lr"] for group in optimiser.param_groups] == pytest.approx([0.2, 0.4])
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([0.1, 0.2])


def test_the_loop_switches_where_the_recipe_says() -> None:
    history = fit(
        net(),
        some(),
        Recipe(optimiser="adam", lr=0.01, schedule="constant", steps=10, batch=64, switch=0.5, switch_lr=0.07),
    )
    assert history.learning_rate.tolist() == pytest.approx([0.01] * 5 + [0.07] * 5)
    assert history.said == ("step 6: sgd goes on where adam stood, at the rate 0.07",)


def test_l1_is_the_gradient_of_absolute_weights_and_leaves_biases_alone() -> None:
    by_hand, ours = net(), net()
    for model in (by_hand, ours):
        nn.functional.mse_loss(model(torch.ones(2, 1, 8, 8)), torch.zeros(2, 10)).backward()
    add_l1(ours.parameters(), 0.03)
    penalty = 0.03 * sum(p.abs().sum() for p in by_hand.parameters() if p.ndim > 1)
    penalty.backward()
    for a, b in zip(ours.parameters(), by_hand.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_l1_makes_small_weights() -> None:
    plain, pressed = net(), net()
    fit(plain, some(), Recipe(lr=0.05, epochs=4, batch=64))
    fit(pressed, some(), Recipe(lr=0.05, epochs=4, batch=64, l1=0.04))
    assert weights(pressed).abs().sum() < 0.7 * weights(plain).abs().sum()


@pytest.mark.slow
def test_moments_of_eight_bits_step_nearly_as_adam_and_take_a_quarter() -> None:
    torch.manual_seed(0)
    start = torch.randn(64, 256)
    ours, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    recipe = Recipe(optimiser="adamw", lr=1e-2, state_bits=8, epochs=1)
    small = make_optimiser(recipe, [{"params": [ours], "initial_lr": 1e-2}])
    plain = torch.optim.AdamW([theirs], 1e-2, weight_decay=0)
    for _ in range(5):
        for parameter, optimiser in ((ours, small), (theirs, plain)):
            parameter.grad = 2 * parameter.detach()
            set_rates(small, 0.5)
            plain.param_groups[0]["lr"] = 5e-3
            optimiser.step()
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.01)
    state = small.state[ours]["exp_avg"]
    assert state.codes.nbytes == theirs.nbytes / 4
