"""Who proposes options: with Optuna and without, from what was told alone."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest

from steelyard.errors import MissingExtra
from steelyard.records import Plan, Step
from steelyard.search import tuner as module
from steelyard.search.ordered import Obtained
from steelyard.search.space import Space, coordinates, every
from steelyard.search.tuner import Neighbours, Tuner, neighbours, proposer_for, without_optuna

SPACE = Space("onnxruntime", ("quantize_static", "quantize_dynamic", "nncf_int8"))


def _gain(plan: Plan) -> float:
    """A truth that is a product over options: one value of each is better by a quarter."""
    point = coordinates(SPACE, plan)
    assert point is not None
    return math.prod(1.25 for name, (value, values) in point.items() if "." in name and value == values[-1]) * (
        2.0 if "nncf" in str(plan) else 1.0
    )


def test_without_optuna_one_option_is_changed_at_a_time() -> None:
    plan = Plan(steps=(Step(name="openvino"), Step(name="nncf_int8")))
    found = set(neighbours(SPACE, plan))
    assert found
    for near in found:
        assert [s.name for s in near.steps] == ["openvino", "nncf_int8"]
        assert sum(len(s.options) for s in near.steps) == 1
    asked = Neighbours(SPACE)
    assert asked.propose(3) == ()
    asked.tell(plan, Obtained(gain=2.0))
    proposed = asked.propose(100)
    assert found <= set(proposed)  # and others, with several options changed
    assert all([s.name for s in p.steps] == ["openvino", "nncf_int8"] for p in proposed)
    assert proposed == asked.propose(100)
    asked.tell(proposed[0], None)
    assert proposed[0] not in asked.propose(100)


def test_every_chain_has_its_turn_so_that_none_is_left_as_it_came() -> None:
    asked = Neighbours(SPACE)
    for name, gain in (("quantize_static", 3.0), ("quantize_dynamic", 1.0)):
        asked.tell(Plan(steps=(Step(name=name),)), Obtained(gain=gain))
    assert [p.steps[0].name for p in asked.propose(3)] == ["quantize_static", "quantize_dynamic", "quantize_static"]


def test_the_best_that_kept_the_requirements_has_its_neighbours_first() -> None:
    kept = Plan(steps=(Step(name="quantize_static"),))
    broke = Plan(steps=(Step(name="openvino"), Step(name="nncf_int8")))
    asked = Neighbours(SPACE)
    asked.tell(broke, Obtained(gain=9.0, missed=(0.5,)))
    asked.tell(kept, Obtained(gain=1.5))
    assert asked.propose(1)[0].steps[0].name == "quantize_static"


def test_optuna_finds_good_options_sooner_than_chance() -> None:
    pytest.importorskip("optuna")
    plans = tuple(every(SPACE))
    best = max(map(_gain, plans))
    asked = Tuner(SPACE, seed=1)
    found = 0.0
    for _ in range(25):
        plan = asked.propose(1)[0]
        found = max(found, _gain(plan))
        asked.tell(plan, Obtained(gain=_gain(plan)))
    by_chance = np.mean(
        [max(_gain(plans[i]) for i in np.random.default_rng(s).permutation(len(plans))[:25]) for s in range(50)]
    )
    assert found >= by_chance
    assert found >= 0.8 * best


def test_what_breaks_a_requirement_is_not_sought_however_fast() -> None:
    pytest.importorskip("optuna")
    asked = Tuner(SPACE, seed=0)
    told = list(every(SPACE))[::3]
    for plan in told:
        broke = plan.steps[-1].name == "nncf_int8"
        asked.tell(plan, Obtained(gain=9.0 if broke else 1.5, missed=(1.0 if broke else -0.5,)))
    asked.tell(Plan(steps=(Step(name="quantize_dynamic"),)), None)  # one that could not be run
    proposed = asked.propose(6)
    assert proposed
    assert not set(proposed) & set(told)
    assert sum(p.steps[-1].name == "nncf_int8" for p in proposed) <= len(proposed) / 2


def test_the_same_trials_give_the_same_proposals() -> None:
    """A run that goes on builds its study from the records."""
    pytest.importorskip("optuna")
    told = list(every(SPACE))[::5]
    asked = [Tuner(SPACE, seed=3) for _ in range(2)]
    for tuner in asked:
        for plan in told:
            tuner.tell(plan, Obtained(gain=_gain(plan)))
    assert asked[0].propose(5) == asked[1].propose(5)


def test_where_optuna_is_not_installed_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    assert "steelyard[tune]" in without_optuna()
    assert isinstance(proposer_for(SPACE), Neighbours)
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(MissingExtra, match="tune"):
        Tuner(SPACE)
