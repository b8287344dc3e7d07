"""Which plan comes next."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.records import Plan, Prediction, Refusal, Step, Trial
from steelyard.search.ordered import OrderedSearch, out_of_time, skipped
from steelyard.search.space import plans_for
from steelyard.subject.engines import ENGINES


def _prediction(name: str, gain: float, minutes: float = 1.0, *, hopeless: bool = False) -> Prediction:
    plan = Plan(steps=(Step(name=name),))
    return Prediction(plan=plan, gain=gain, ceiling=gain, minutes=minutes, because="reasons", hopeless=hopeless)


def _drain(search: OrderedSearch) -> list[str]:
    names = []
    while (prediction := search.ask()) is not None:
        names.append(str(prediction.plan))
        search.tell(Trial(plan=prediction.plan))
    return names


def test_the_best_gain_per_minute_comes_first() -> None:
    predictions = [
        _prediction("slow but sure", 4.0, 6.0),  # 0.5 a minute
        _prediction("quick", 2.0, 0.5),  # 2 a minute
        _prediction("loss", 0.8, 0.1),  # -2 a minute
        _prediction("middling", 2.0, 1.0),  # 1 a minute
    ]
    assert _drain(OrderedSearch(predictions)) == ["quick", "middling", "slow but sure", "loss"]


def test_what_is_hopeless_comes_last() -> None:
    predictions = [_prediction("hopeless", 9.0, 0.1, hopeless=True), _prediction("loss", 0.5)]
    assert _drain(OrderedSearch(predictions)) == ["loss", "hopeless"]


def test_plans_told_of_before_are_not_asked_again() -> None:
    predictions = [_prediction(name, gain) for name, gain in (("a", 3.0), ("b", 2.0), ("c", 1.5))]
    earlier = [Trial(plan=predictions[0].plan), skipped(predictions[1])]
    search = OrderedSearch(predictions, earlier)
    assert _drain(search) == ["c"]
    assert [str(t.plan) for t in search.trials] == ["a", "b", "c"]


def test_asking_twice_without_telling_gives_the_same_plan() -> None:
    search = OrderedSearch([_prediction("a", 2.0), _prediction("b", 3.0)])
    assert search.ask() == search.ask()


def test_a_plan_predicted_twice_is_tried_once() -> None:
    assert _drain(OrderedSearch([_prediction("a", 2.0), _prediction("a", 1.5)])) == ["a"]


def test_no_predictions_no_plans() -> None:
    assert OrderedSearch([]).ask() is None


@given(st.lists(st.tuples(st.floats(0.1, 100), st.floats(0, 10), st.booleans()), max_size=12))
def test_every_plan_is_asked_for_once_and_hopeless_ones_at_the_end(facts: list[tuple[float, float, bool]]) -> None:
    predictions = [_prediction(str(i), gain, minutes, hopeless=bad) for i, (gain, minutes, bad) in enumerate(facts)]
    names = _drain(OrderedSearch(predictions))
    assert sorted(names) == sorted(str(i) for i in range(len(facts)))
    hopeless = [facts[int(name)][2] for name in names]
    assert hopeless == sorted(hopeless)


def test_skipped_and_out_of_time_keep_their_reasons() -> None:
    prediction = _prediction("a", 2.0)
    assert skipped(prediction) == Trial(
        plan=prediction.plan,
        refusal=Refusal(kind="skipped", reason="will not help here: reasons"),
        prediction=prediction,
    )
    late = out_of_time(prediction).refusal
    assert late is not None
    assert late.kind == "budget"
    assert "--budget" in late.reason


@pytest.mark.parametrize("engine", ENGINES)
def test_every_plan_of_the_space_is_well_formed(engine: str) -> None:
    from steelyard.passes import to_pass

    plans = plans_for(engine)
    assert len(set(plans)) == len(plans) >= 4
    for plan in plans:
        assert plan.steps
        assert engine in to_pass(plan.steps[0]).takes
        for step in plan.steps:
            to_pass(step)
