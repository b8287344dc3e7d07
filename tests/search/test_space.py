"""The typed space: its conditions hold for every plan, and its coordinates lead back to the plan."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.passes import KINDS, PASSES, to_pass, trains
from steelyard.records import Plan, Scalar, Step
from steelyard.search.space import MOST_TRAINED, NOTHING, Space, checked, coordinates, every, plans_for, walk

ENGINES = ("eager", "torch", "onnxruntime", "openvino")


def _engine_after(space: Space, plan: Plan) -> str:
    engine = space.engine
    for step in plan.steps:
        assert engine in PASSES[step.name].takes, (str(plan), engine)
        engine = PASSES[step.name].gives or engine
    return engine


@pytest.mark.parametrize("engine", ENGINES)
def test_every_chain_keeps_the_conditions(engine: str) -> None:
    space = Space(engine)
    plans = plans_for(space)
    assert len(set(plans)) == len(plans) >= 4
    for plan in plans:
        _engine_after(space, plan)
        places = [KINDS[PASSES[s.name].kind] for s in plan.steps]
        assert places == sorted(set(places)), str(plan)
        trained = [trains(s) for s in plan.steps]
        assert sum(trained[:-1]) <= MOST_TRAINED
        if any(trained):  # it starts from the user's code, and nothing that cannot be trained on comes between
            assert engine == "eager"
            assert all(trained[: max(i for i, t in enumerate(trained) if t)])
        for step in plan.steps:
            to_pass(step)


def test_quantising_comes_after_exporting_and_training_before() -> None:
    words = {str(plan) for plan in plans_for(Space("eager"))}
    assert {"onnx", "onnx > quantize_static", "prune > openvino > nncf_int8", "channels_last > compile"} <= words
    assert not words & {
        "quantize_static > onnx",
        "onnx > prune",
        "onnx > openvino",
        "compile > onnx",
        "bf16 > openvino",
    }
    assert "openvino(precision=bf16)" in words
    assert "openvino(precision=bf16) > nncf_int8" not in words  # numbers are changed once


@pytest.mark.parametrize(
    ("techniques", "engines", "all_in"),
    [
        (("int8",), (), {"engine", "int8"}),
        (("prune", "int8"), ("openvino",), {"engine", "prune", "int8"}),
        (("prune", "quantize_static", "openvino"), (), {"engine", "prune", "int8"}),
    ],
)
def test_words_restrict_what_plans_are_made_of(
    techniques: tuple[str, ...], engines: tuple[str, ...], all_in: set[str]
) -> None:
    space = Space("eager", techniques, engines)
    plans = plans_for(space)
    assert plans
    assert {PASSES[s.name].kind for p in plans for s in p.steps} <= all_in
    if engines:
        assert {_engine_after(space, p) for p in plans} == set(engines)
    if "openvino" in techniques:  # an engine's pass that is named restricts engines
        assert {s.name for p in plans for s in p.steps} <= {"prune", "quantize_static", "openvino"}
    assert not any(dict(s.options).get("precision") == "bf16" for p in plans for s in p.steps)


def test_pytorch_is_one_engine_by_whatever_name() -> None:
    (names, engines) = checked(["Compile", "layout"], ["PyTorch"])
    plans = plans_for(Space("eager", names, engines))
    assert {str(p) for p in plans} == {"channels_last", "compile", "channels_last > compile"}


@pytest.mark.parametrize(
    ("techniques", "engines", "message"),
    [
        (["prun"], [], "there is no technique 'prun'; nearest: prune"),
        ([], ["openvin"], "there is no engine 'openvin'; nearest: openvino"),
        (["xyzzy"], [], "known: "),
        (["export"], [], "there is no technique 'export'"),
    ],
)
def test_unknown_words_are_refused_with_the_nearest(techniques: list[str], engines: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        checked(techniques, engines)
    assert "\n" not in str(caught.value)


def test_all_options_are_the_grid_of_each_chain() -> None:
    """Counted apart: for two chains of known options the plans are the product of their values, less those that cannot be."""
    space = Space("onnxruntime", ("quantize_dynamic", "quantize_static"))
    plans = set(every(space))
    for name in ("quantize_dynamic", "quantize_static"):
        choices = getattr(PASSES[name], "choices", {})
        grid = [dict(zip(choices, values, strict=True)) for values in itertools.product(*choices.values())]
        made = [options for options in grid if _can_be(name, options)]
        assert sum(p.steps[-1].name == name for p in plans) == len(made)


def _can_be(name: str, options: dict[str, Scalar]) -> bool:
    try:
        to_pass(Step(name=name, options=tuple(options.items())))
    except InvalidInput:
        return False
    return True


@given(st.sampled_from(ENGINES), st.randoms(use_true_random=False))
def test_coordinates_lead_back_to_the_plan(engine: str, random: object) -> None:
    space = Space(engine)
    plan = walk(space, lambda _name, values: random.choice(values))  # type: ignore[attr-defined]
    if plan is None:
        return
    point = coordinates(space, plan)
    assert point is not None
    assert all(value in values for value, values in point.values())
    assert walk(space, lambda name, _values: point[name][0]) == plan
    assert sum(value not in (NOTHING,) for name, (value, _) in point.items() if "." not in name) == len(plan.steps)


def test_a_plan_of_another_space_has_no_coordinates() -> None:
    plan = Plan(steps=(Step(name="openvino"), Step(name="nncf_int8")))
    assert coordinates(Space("onnxruntime"), plan) is not None
    assert coordinates(Space("onnxruntime", ("bf16",)), plan) is None
    trained = Plan(steps=(Step(name="prune"), *plan.steps))
    assert coordinates(Space("eager"), trained) is not None
    assert coordinates(Space("torch"), trained) is None  # a program cannot be trained
