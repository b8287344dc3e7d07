"""The end of a training by what it gains a kilojoule."""

import itertools

import pytest

from small_training import held, net, some
from steelyard.errors import InvalidInput
from steelyard.trainer import loop
from steelyard.trainer.recipe import Recipe
from steelyard.trainer.worth import Worth, gain_per_kj, joules_meter


def test_gain_is_the_best_score_s_rise_over_what_was_spent() -> None:
    """Two epochs, 0.62 - 0.60 in 3 kJ."""
    assert gain_per_kj([0.5, 0.6, 0.55, 0.62], [1e3, 2e3, 3e3, 5e3]) == pytest.approx(2 / 3)
    assert gain_per_kj([0.5, 0.6], [1e3, 2e3]) is None


def test_a_training_is_over_when_it_gains_less_than_it_should() -> None:
    worth = Worth(1.0, meter=map(float, itertools.count(1000, 1000)).__next__)
    assert [worth.over(score) for score in (0.5, 0.6, 0.7, 0.71, 0.71)] == [False, False, False, False, True]


def test_where_energy_is_not_known_nothing_is_ended() -> None:
    worth = Worth(100.0, meter=lambda: None)
    assert not any(worth.over(0.5) for _ in range(5))


def test_the_meter_counts_up() -> None:
    meter = joules_meter()
    first, second = meter(), meter()
    assert first is None or second is None or second >= first >= 0


def test_the_loop_ends_by_it_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    spent = itertools.count(1000, 1000)
    monkeypatch.setattr(loop, "Worth", lambda least: Worth(least, meter=lambda: float(next(spent))))
    recipe = Recipe(lr=1e-9, epochs=20, least_gain=0.5, schedule="constant")
    history = loop.fit(net(), some(), recipe, validation=held())
    assert (history.ended, len(history.validation)) == ("gain", 3)


def test_a_gain_that_is_not_above_0_is_refused() -> None:
    with pytest.raises(InvalidInput, match="least_gain must be above 0"):
        Recipe(epochs=1, least_gain=0.0)
