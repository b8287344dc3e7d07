"""The threshold is chosen on examples that are then not judged."""

import numpy as np
import pytest

from steelyard.api import evaluate
from steelyard.errors import InvalidInput
from steelyard.metrics.examples import binary
from steelyard.metrics.threshold import choose_threshold, parse_target
from steelyard.pipeline.evaluation import evaluate as pipeline
from steelyard.pipeline.evaluation.decide import _halves

N = 240


@pytest.fixture(autouse=True)
def unrendered(monkeypatch):
    monkeypatch.setattr(pipeline, "render_evaluation", lambda _: "")


def scored(seed=0, n=N):
    rng = np.random.default_rng(seed)
    labels = (rng.random(n) < 0.3).astype(int)
    return {"y": labels, "p": np.clip(0.3 * labels + 0.7 * rng.random(n), 0, 1)}


def judged(folder, table, name="t", **words):
    np.savez(folder / f"{name}.npz", **table)
    return evaluate(folder / f"{name}.npz", out=folder / "out", **words).evaluation


@pytest.mark.parametrize("seed", [0, 1])
def test_halves_share_no_example_and_hold_the_same_share_of_each_class(seed):
    table = scored()
    fit, judge = _halves(binary(table["y"], table["p"]), seed)
    assert sorted([*fit, *judge]) == list(range(N))
    assert abs(table["y"][fit].sum() - table["y"][judge].sum()) <= 1
    assert (_halves(binary(table["y"], table["p"]), seed)[0] == fit).all()


def test_halves_keep_clusters_whole():
    table = scored()
    clusters = np.arange(N) // 7
    fit, judge = _halves(binary(table["y"], table["p"], clusters=clusters), 0)
    assert not set(clusters[fit]) & set(clusters[judge])


def test_what_is_judged_has_not_chosen_the_threshold(tmp_path):
    table = scored()
    found = judged(tmp_path, table, target="recall >= 0.9")
    model = found.models[0]
    fit, judge = _halves(binary(table["y"], table["p"]), 0)
    chosen = choose_threshold(table["y"][fit], table["p"][fit], parse_target("recall >= 0.9"))
    assert model.threshold.value == chosen.threshold
    assert (model.n, model.threshold.n) == (len(judge), len(fit))
    recall = next(s for s in model.scores if s.quantity == "recall")
    true, called = table["y"][judge] == 1, table["p"][judge] >= chosen.threshold
    assert recall.value == pytest.approx((true & called).sum() / true.sum())
    assert "random half" in found.warnings[0]


def test_two_models_are_judged_on_the_same_half(tmp_path):
    first, second = scored(), scored()
    second["p"] = np.clip(second["p"] + np.random.default_rng(3).normal(0, 0.1, N), 0, 1)
    np.savez(tmp_path / "b.npz", **second)
    found = judged(tmp_path, first, target="f1", compare=tmp_path / "b.npz")
    assert [m.n for m in found.models] == [N // 2] * 2 or abs(found.models[0].n - N // 2) <= 1
    assert found.models[0].threshold.value != found.models[1].threshold.value
    assert all(d.n == found.models[0].n for d in found.differences)


def test_a_target_out_of_reach_is_said(tmp_path):
    table = {"y": np.arange(N) % 2, "p": np.where(np.arange(N) % 4 < 2, 0.2, 0.8)}
    found = judged(tmp_path, table, target="precision >= 0.99")
    assert any("no threshold reaches precision >= 0.99" in warning for warning in found.warnings)


def test_an_objective_brings_its_target_unless_the_decision_is_given(tmp_path):
    table = scored()
    assert judged(tmp_path, table, objective="medical-screening").models[0].threshold.target == "recall >= 0.95"
    given = judged(tmp_path, table, objective="medical-screening", threshold=0.4).models[0].threshold
    assert (given.value, given.chosen_on) == (0.4, "the command")
    guess = {"y": table["y"], "p": table["p"], "pred": (table["p"] >= 0.3).astype(int)}
    assert judged(tmp_path, guess, objective="medical-screening", predicted="pred").models[0].threshold is None


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"y": [0, 1] * 20, "pred": [0, 1] * 20}, "needs two classes and a score"),
        ({"y": [0, 1, 2] * 20, "pred": [0, 1, 2] * 20}, "needs two classes and a score; .* has multiclass answers"),
        ({"y": [0] * 39 + [1], "p": [0.5] * 40}, "cannot be chosen on 0 positives and 19 negatives: both are needed"),
    ],
)
def test_where_no_threshold_can_be_chosen(tmp_path, table, message):
    with pytest.raises(InvalidInput, match=message):
        judged(tmp_path, {name: np.array(values) for name, values in table.items()}, target="recall >= 0.9")


def test_validation_answers_of_other_classes_are_refused(tmp_path):
    table = scored()
    np.savez(tmp_path / "v.npz", y=np.array(["no", "yes"])[table["y"]], p=table["p"])
    with pytest.raises(InvalidInput, match="has other classes than"):
        judged(tmp_path, table, target="f1", validation=str(tmp_path / "v.npz"))


def test_validation_answers_choose_the_threshold_and_none_of_the_judged_do(tmp_path):
    table, other = scored(), scored(seed=9, n=500)
    np.savez(tmp_path / "v.npz", **other)
    model = judged(tmp_path, table, target="recall >= 0.8", validation=str(tmp_path / "v.npz")).models[0]
    assert model.threshold.value == choose_threshold(other["y"], other["p"], parse_target("recall >= 0.8")).threshold
    assert (model.n, model.threshold.n, model.temperature.n) == (N, 500, 500)
