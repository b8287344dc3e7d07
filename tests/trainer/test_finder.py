"""The range test on losses of known shape, and on a net that is left as it was."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from small_training import net, some, weights
from steelyard.trainer.finder import find_rate, suggest
from steelyard.trainer.recipe import Recipe

RATES = np.geomspace(1e-6, 10, 200)


def test_the_steepest_fall_of_a_sigmoid_is_its_middle() -> None:
    """A loss that falls from 2 to 1 around a rate of 0.001; smoothing lags by at most some steps."""
    losses = 2 - 1 / (1 + np.exp(-6 * (np.log10(RATES) + 3)))
    found = suggest(RATES, losses)
    assert found.diverged is None
    assert found.suggested == found.steepest == pytest.approx(1e-3, rel=1.5)


def test_a_tenth_of_where_it_runs_away_is_never_exceeded() -> None:
    losses = np.where(RATES < 0.1, 2 - 0.1 * (np.log10(RATES) + 6), 1e6)
    found = suggest(RATES, losses)
    assert found.diverged == pytest.approx(0.1, rel=0.2)
    assert found.suggested is not None
    assert found.suggested <= found.diverged / 10


def test_smoothing_is_adams_corrected_average() -> None:
    losses = np.random.default_rng(0).normal(size=200)
    average, expected = 0.0, []
    for step, loss in enumerate(losses, 1):
        average = 0.9 * average + 0.1 * loss
        expected.append(average / (1 - 0.9**step))
    np.testing.assert_allclose(suggest(RATES, losses).smoothed, expected)


def test_a_loss_that_never_falls_gives_no_rate_and_says_so() -> None:
    found = suggest(RATES, np.ones(200))
    assert found.suggested is None
    assert "did not fall at any rate" in found.note
    assert suggest(RATES[:3], np.ones(3)).suggested is None


@pytest.mark.parametrize(
    "recipe", [Recipe(epochs=1, batch=32), Recipe(epochs=1, batch=32, optimiser="adam", switch=0.5, ema=0.9)]
)
def test_the_net_is_left_as_it_was_and_the_rate_trains_it(recipe: Recipe) -> None:
    model = net(norm=True)
    before = weights(model)
    found = find_rate(model, some(), recipe, steps=60)
    assert torch.equal(weights(model), before)
    assert model.training
    assert found.suggested is not None
    assert 1e-4 < found.suggested < 1
    assert np.allclose(np.diff(np.log(found.rates)), np.diff(np.log(found.rates))[0]), "equal factors"
    assert len(found.rates) == len(found.losses) <= 60


def test_it_stops_where_the_loss_runs_away() -> None:
    found = find_rate(net(), some(), Recipe(epochs=1, batch=32, momentum=0.9), high=1000.0, steps=120)
    assert len(found.losses) < 120
