"""What options do: the regression against one written out, and the truth found again."""

from __future__ import annotations

import math

import numpy as np
import pytest

from steelyard.records import Plan, Scalar, Step
from steelyard.search.effects import EFFECT, NOISE, OptionEffects, values_of


def _plan(chain: str, **options: Scalar) -> Plan:
    *first, last = chain.split()
    return Plan(steps=(*(Step(name=n) for n in first), Step(name=last, options=tuple(options.items()))))


def test_the_effects_are_those_of_a_ridge_regression() -> None:
    """One chain, two options: least squares with the penalty, noise over prior, as further rows that ask for effects of 0."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, (12, 2)).astype(float)
    y = x @ [0.1, -0.2] + rng.normal(0, 0.03, 12)
    plans = [_plan("int8", **{k: True for k, on in zip("ab", row, strict=True) if on}) for row in x]
    effects = OptionEffects(list(zip(plans, y, strict=True)))
    rows = np.vstack([x - x.mean(axis=0), NOISE / EFFECT * np.eye(2)])
    expected_effects, *_ = np.linalg.lstsq(rows, np.concatenate([y - y.mean(), np.zeros(2)]))
    plain = _plan("int8")
    for name, expected in zip("ab", expected_effects, strict=True):
        assert effects.shift(_plan("int8", **{name: True}), [plain])[0] == pytest.approx(expected)


def test_what_is_learnt_behind_one_net_serves_behind_another() -> None:
    told = [(_plan("int8"), 0.0), (_plan("int8", narrow=True), 0.2)] * 5 + [(_plan("prune int8"), 0.7)]
    mean, spread = OptionEffects(told).shift(_plan("prune int8", narrow=True), [_plan("prune int8")])
    assert mean == pytest.approx(0.2, abs=0.02)
    assert spread < 0.06


def test_what_nobody_has_tried_may_do_anything_of_the_usual_size() -> None:
    effects = OptionEffects([(_plan("int8"), 0.0)])
    mean, spread = effects.shift(_plan("int8", a=1, b=2), [_plan("int8")])
    assert mean == 0
    assert spread == pytest.approx(math.sqrt(2 * EFFECT**2 + NOISE**2))
    assert effects.shift(_plan("int8"), [_plan("int8")]) == (0.0, pytest.approx(NOISE))


def test_chains_that_differ_as_a_whole_say_nothing_of_their_options() -> None:
    told = [(_plan("int8"), 0.0), (_plan("prune int8", narrow=True), 5.0)]
    assert OptionEffects(told).shift(_plan("int8", narrow=True), [_plan("int8")])[0] == 0


def test_defaults_are_no_values() -> None:
    assert values_of(_plan("prune int8")) == frozenset()
    assert values_of(_plan("prune int8", narrow=True)) == {("int8", "narrow", True)}
