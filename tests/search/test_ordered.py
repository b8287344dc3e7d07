"""Which plan comes next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.records import Comparison, Plan, Prediction, Refusal, Step, Trial
from steelyard.search.ordered import (
    SPREAD,
    WORTHWHILE,
    Obtained,
    OrderedSearch,
    expected_improvement,
    gain_of,
    left_behind,
    obtained_latency,
    out_of_reach,
    out_of_time,
    skipped,
)


def _prediction(name: str, gain: float, minutes: float = 1.0, *, hopeless: bool = False) -> Prediction:
    """Of a plan whose steps are named in `name`, with spaces between."""
    plan = Plan(steps=tuple(Step(name=step) for step in name.split()))
    return Prediction(plan=plan, gain=gain, ceiling=gain, minutes=minutes, because="reasons", hopeless=hopeless)


def _obtained(prediction: Prediction, gain: float, wall_s: float | None = None) -> Trial:
    """A trial that took as long as predicted unless `wall_s` says otherwise."""
    seconds = np.full((1, 4, 2), [1.0, 1.0 / gain])
    comparison = Comparison(arms=("baseline", "x"), batch=1, seconds=seconds, order=np.zeros((1, 4, 2), np.int32))
    took = 60 * prediction.minutes if wall_s is None else wall_s
    return Trial(plan=prediction.plan, comparison=comparison, prediction=prediction, wall_s=took)


def _drain(search: OrderedSearch) -> list[str]:
    names = []
    while (prediction := search.ask()) is not None:
        names.append(" ".join(step.name for step in prediction.plan.steps))
        search.tell(Trial(plan=prediction.plan))
    return names


def _asked(predictions: Sequence[Prediction], told: Sequence[Trial], name: str) -> Prediction:
    """What is predicted of one plan after some trials: the others are told of as refused."""
    others = [p.plan for p in predictions if str(p.plan) != name and p.plan not in {t.plan for t in told}]
    asked = OrderedSearch(predictions, [*told, *(Trial(plan=plan) for plan in others)]).ask()
    assert asked is not None
    return asked


# --- order -----------------------------------------------------------------------------------------------


def test_the_strongest_comes_first_and_then_the_most_gain_per_minute() -> None:
    predictions = [
        _prediction("quick", 2.0, 0.5),
        _prediction("loss", 0.5, 1.0),
        _prediction("middling", 2.0, 1.0),
        _prediction("strong but slow", 4.0, 6.0),
        _prediction("slow", 3.0, 6.0),
    ]
    search = OrderedSearch(predictions)
    strongest = search.ask()
    assert strongest == predictions[3]
    search.tell(Trial(plan=strongest.plan))  # refused: the next strongest, whatever it takes
    second = search.ask()
    assert second == predictions[4]
    search.tell(_obtained(second, 1.0))
    assert _drain(search) == ["quick", "middling", "loss"]


def test_what_the_lead_has_left_behind_gives_way_to_what_can_still_win() -> None:
    first, cheap, strong = _prediction("a", 9.0), _prediction("b", 2.0, 0.2), _prediction("c", 6.0, 2.0)
    search = OrderedSearch([first, cheap, strong], [_obtained(first, 1.0)])
    assert search.ask() == cheap
    assert search.ask(lead=8.0) == strong


@given(st.floats(0.05, 50), st.floats(0.5, 20), st.floats(1.05, 5))
def test_expected_improvement_is_the_integral_that_it_stands_for(gain: float, lead: float, spread: float) -> None:
    """Over the logarithm of the gain, as far as twelve standard deviations above its mean."""
    start, mean, deviation = math.log(lead), math.log(gain), math.log(spread)
    x = np.linspace(start, max(start, mean) + 12 * deviation, 40_001)
    density = np.exp(-0.5 * ((x - mean) / deviation) ** 2) / (deviation * math.sqrt(2 * math.pi))
    found = np.trapezoid((x - start) * density, x)
    assert expected_improvement(gain, lead, spread) == pytest.approx(found, abs=1e-5, rel=1e-3)


# --- what was obtained corrects what is still to come --------------------------------------------------------


def test_int8_on_an_engine_is_predicted_from_what_the_engine_gave() -> None:
    engine, int8 = _prediction("openvino", 2.0), _prediction("openvino nncf_int8", 5.0)
    asked = _asked([engine, int8], [_obtained(engine, 3.0)], "openvino > nncf_int8")
    assert asked.gain == pytest.approx(5.0 * 3.0 / 2.0)
    assert "reasons; times 1.5 for what openvino gave" in asked.because


def test_the_nearest_relative_counts_and_no_stranger() -> None:
    engine, int8, mixed = (
        _prediction("openvino", 2.0),
        _prediction("openvino nncf_int8", 5.0),
        Prediction(
            plan=Plan(steps=(Step(name="openvino"), Step(name="nncf_int8", options=(("preset", "mixed"),)))),
            gain=5.0, ceiling=9.0, minutes=1.0, because="reasons",
        ),
    )  # fmt: skip
    other = _prediction("compile", 1.5)
    told = [_obtained(engine, 3.0), _obtained(int8, 2.5)]
    predictions = [engine, int8, mixed, other]
    assert _asked(predictions, told, str(mixed.plan)).gain == pytest.approx(2.5)  # as its sibling, not as the engine
    assert _asked(predictions, told, "compile") == other


def test_a_longer_plan_tells_half_of_its_error_of_the_half_that_is_shared() -> None:
    engine, int8 = _prediction("onnx", 2.0), _prediction("onnx quantize_static", 4.0)
    asked = _asked([engine, int8], [_obtained(int8, 1.0)], "onnx")
    assert asked.gain == pytest.approx(2.0 * math.sqrt(1.0 / 4.0))


def test_what_a_relative_has_shown_is_less_in_doubt() -> None:
    """Two plans with the same prediction and cost, both hopelessly behind: the one in more doubt is worth more."""
    told_of, stranger = _prediction("openvino", 2.0), _prediction("onnx", 2.0)
    sibling = Prediction(
        plan=Plan(steps=(Step(name="openvino", options=(("precision", "f16"),)),)),
        gain=2.0, ceiling=2.0, minutes=1.0, because="reasons",
    )  # fmt: skip
    search = OrderedSearch([told_of, sibling, stranger], [_obtained(told_of, 2.0)])
    assert search.ask(lead=4.0) == stranger
    assert SPREAD > 1


def test_minutes_follow_the_pace_so_far() -> None:
    first, second = _prediction("a", 3.0, 0.5), _prediction("b", 2.0, 2.0)
    assert _asked([first, second], [_obtained(first, 3.0, wall_s=90.0)], "b").minutes == pytest.approx(6.0)
    assert _asked([first, second], [Trial(plan=first.plan, wall_s=90.0)], "b").minutes == 2.0  # refused: no pace


def test_the_gain_of_a_comparison_is_how_many_times_faster_it_was() -> None:
    comparison = _obtained(_prediction("a", 2.0), 2.5).comparison
    assert comparison is not None
    assert gain_of(comparison) == pytest.approx(2.5)


# --- what is asked for and told ------------------------------------------------------------------------------


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


# --- other options, requirements and what stands built ---------------------------------------------------------


class _Proposes:
    """Proposes the same plans again and again, and notes what it is told."""

    def __init__(self, *plans: Plan) -> None:
        self.plans, self.told = plans, []

    def tell(self, plan: Plan, obtained: Obtained | None) -> None:
        self.told.append((plan, obtained))

    def propose(self, count: int) -> Sequence[Plan]:
        return self.plans[:count]


def _other(name: str, option: str = "b") -> Plan:
    *first, last = name.split()
    return Plan(steps=(*(Step(name=n) for n in first), Step(name=last, options=(("o", option),))))


def _foresees() -> Callable[[Plan], Prediction]:
    """A gain of three, a minute for each step, and a minute for weighing."""

    def predict(plan: Plan) -> Prediction:
        steps = len(plan.steps)
        return Prediction(plan=plan, gain=3.0, ceiling=99, minutes=1.0 + steps, because="r")

    return predict


def test_options_are_proposed_once_something_was_measured_and_take_their_turn() -> None:
    lead, other = _prediction("a", 3.0), _prediction("b", 1.01, 50.0)
    proposer = _Proposes(_other("a"))
    search = OrderedSearch([lead, other], proposer=proposer, predict=_foresees())
    assert search.ask() == lead
    search.tell(_obtained(lead, 3.0))
    assert [str(plan) for plan, _ in proposer.told] == ["a"]
    asked = search.ask(lead=3.0)
    assert asked is not None
    assert asked.plan == _other("a")
    assert asked.gain == pytest.approx(3.0)  # as the same technique gave
    meanwhile = search.ask(lead=3.0, busy=[asked.plan])
    assert meanwhile is not None
    assert meanwhile.plan == other.plan
    search.tell(_obtained(asked, 3.1))
    assert search.ask(lead=3.1) is not None  # the named one: what was proposed is told of


def test_a_proposal_that_could_hardly_improve_is_left_out() -> None:
    lead = _prediction("a", 3.0)
    search = OrderedSearch([lead], [_obtained(lead, 3.0)], proposer=_Proposes(_other("a")), predict=_foresees())
    assert search.ask(lead=3.0) is not None
    assert search.ask(lead=300.0) is None


def test_relatives_that_broke_a_requirement_make_a_plan_worth_less() -> None:
    """Two engines with the same prospect: the int8 of one broke the quality."""
    names = [_prediction(n, 4.0) for n in ("onnx int8", "openvino int8", "onnx int8 x", "openvino int8 x")]
    missed = {"onnx > int8": 1.0, "openvino > int8": 0.0}

    def read(trial: Trial) -> Obtained | None:
        found = obtained_latency(trial)
        return None if found is None else Obtained(gain=found.gain, missed=(missed[str(trial.plan)],))

    told = [_obtained(p, 4.0) for p in names[:2]]
    asked = OrderedSearch(names, told, obtained=read).ask(lead=2.0)
    assert asked is not None
    assert str(asked.plan) == "openvino > int8 > x"


def test_steps_that_stand_built_cost_nothing() -> None:
    predict = _foresees()
    plans = [
        Plan(steps=(Step(name="prune"), Step(name="onnx"))),
        Plan(steps=(Step(name="prune"), Step(name="openvino"))),
    ]
    search = OrderedSearch([predict(p) for p in plans], predict=predict)
    first = search.ask()
    assert first is not None
    assert first.minutes == 3.0
    search.tell(_obtained(first, 4.0, wall_s=180.0))
    second = search.ask()
    assert second is not None
    assert second.minutes == pytest.approx(2.0)  # weighing and one step: the pruned net is there
    search.tell(_obtained(second, 4.0, wall_s=120.0))  # as long as that takes: the pace stays
    third = predict(Plan(steps=(Step(name="factorise"),)))
    assert OrderedSearch([*map(predict, plans), third], search.trials, predict=predict).queue()[0].minutes == 2.0


def test_the_queue_is_what_would_be_asked_for() -> None:
    predictions = [_prediction("loss", 0.5), _prediction("quick", 2.0, 0.5), _prediction("strong", 6.0, 6.0)]
    predictions.append(_prediction("never", 9.0, hopeless=True))
    search = OrderedSearch(predictions)
    assert [str(p.plan) for p in search.queue()] == ["strong", "quick", "loss", "never"]
    assert search.queue()[0] == search.ask()
    assert OrderedSearch([]).queue() == ()


def test_the_improvement_of_a_plan_is_unbounded_until_something_is_known() -> None:
    first, second = _prediction("a", 3.0), _prediction("b", 2.0)
    search = OrderedSearch([first, second])
    assert search.improvement(second, 1.0) == math.inf
    search.tell(_obtained(first, 3.0))
    assert search.improvement(second, 3.0) == pytest.approx(expected_improvement(2.0, 3.0, SPREAD))
    assert search.improvement(second, 300.0) < WORTHWHILE


def test_refusals_say_why() -> None:
    prediction = _prediction("a", 2.0)
    beyond = out_of_reach(prediction, 4.2, Plan(steps=(Step(name="openvino"),))).refusal
    assert beyond is not None
    assert beyond.kind == "skipped"
    assert beyond.reason == "its ceiling of 2x lies below the 4.2x that openvino gives: it cannot win"
    behind = left_behind(prediction, 8.1).refusal
    assert behind is not None
    assert "8.1x in hand" in behind.reason
