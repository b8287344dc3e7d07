"""Two models on the same examples: matched by key, and judged as statsmodels and Tango's equation do."""

import math

import numpy as np
import pytest
from statsmodels.stats.contingency_tables import mcnemar

from steelyard.api import evaluate
from steelyard.pipeline.evaluation import evaluate as pipeline
from steelyard.records import Estimate
from steelyard.stats.multiple import holm


@pytest.fixture(autouse=True)
def unrendered(monkeypatch):
    monkeypatch.setattr(pipeline, "render_evaluation", lambda _: "")


def tables(folder, n=300, seed=0, better=0.05):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, n)
    found = {}
    for name, right in (("a", 0.8), ("b", 0.8 + better)):
        noise = np.where(rng.random(n) < right, labels, rng.integers(0, 3, n))
        shares = rng.dirichlet([1, 1, 1], n) * 0.4 + 0.6 * np.eye(3)[noise]
        found[name] = {"id": [f"k{i}" for i in range(n)], "y": labels, "site": labels % 2 + rng.integers(0, 2, n)}
        found[name] |= {f"p_{c}": shares[:, c] for c in range(3)}
        write(folder / f"{name}.csv", found[name])
    return found


def write(path, columns):
    rows = zip(*columns.values(), strict=True)
    path.write_text("\n".join([",".join(columns), *(",".join(map(str, row)) for row in rows)]) + "\n")


def compared(folder, second="b", **words):
    return evaluate(folder / "a.csv", compare=folder / f"{second}.csv", out=folder / "out", **words).evaluation


def guesses(columns):
    return np.stack([columns[f"p_{c}"] for c in range(3)], axis=1).argmax(axis=1)


def whole(found, metric):
    return next(d for d in found.differences if d.metric == metric and not d.conditions)


def tango_score(b, c, n, delta):
    """Tango (1998), the score of a difference of two shares on the same examples, from the restricted estimate."""
    first, second = 2 * n, -b - c + (2 * n - b + c) * delta
    q = (math.sqrt(second**2 + 4 * first * c * delta * (1 - delta)) - second) / (2 * first)
    return (b - c - n * delta) / math.sqrt(n * (2 * q + delta * (1 - delta)))


def test_accuracy_agrees_with_statsmodels_and_tango(tmp_path):
    made = tables(tmp_path)
    found = whole(compared(tmp_path), "accuracy")
    right = [guesses(made[name]) == made[name]["y"] for name in "ab"]
    table = [[int((x & y).sum()) for y in (right[1], ~right[1])] for x in (right[0], ~right[0])]
    b, c = table[0][1], table[1][0]
    assert dict(found.tests)["McNemar, exact"] == pytest.approx(mcnemar(table, exact=True).pvalue)
    middle = mcnemar(table, exact=True).pvalue - math.comb(b + c, b) / 2 ** (b + c)
    assert dict(found.tests)["McNemar, mid-p"] == pytest.approx(middle)
    assert isinstance(found.drop, Estimate)
    assert found.drop.value == pytest.approx((b - c) / 300)
    assert tango_score(b, c, 300, found.drop.low) == pytest.approx(1.959964, abs=1e-4)
    assert tango_score(b, c, 300, found.drop.high) == pytest.approx(-1.959964, abs=1e-4)


@pytest.mark.parametrize("suffix", ["csv", "npz"])
def test_rows_in_another_order_are_matched_by_their_keys(tmp_path, suffix):
    made = tables(tmp_path)
    order = np.random.default_rng(5).permutation(300)
    if suffix == "npz":
        np.savez(tmp_path / "c.npz", **{name: np.asarray(values)[order] for name, values in made["b"].items()})
    else:
        write(tmp_path / "c.csv", {name: np.asarray(values)[order] for name, values in made["b"].items()})
    plain = compared(tmp_path, key="id", slices=("site",)).differences
    shuffled = evaluate(
        tmp_path / "a.csv", compare=tmp_path / f"c.{suffix}", key="id", slices=("site",), out=tmp_path / "o2"
    )
    for mine, theirs in zip(plain, shuffled.evaluation.differences, strict=True):
        assert (mine.metric, mine.conditions, mine.n, mine.outcome) == (
            theirs.metric, theirs.conditions, theirs.n, theirs.outcome,
        )  # fmt: skip
        assert (mine.drop, mine.p_value, mine.adjusted, mine.tests) == (
            theirs.drop, theirs.p_value, theirs.adjusted, theirs.tests,
        )  # fmt: skip


def test_holm_goes_over_the_metrics_and_over_the_slices(tmp_path):
    tables(tmp_path, better=0.15)
    found = compared(tmp_path, slices=("site",)).differences
    for part in ([d for d in found if not d.conditions], [d for d in found if d.conditions]):
        claims = holm([d.p_value for d in part], 0.05)
        assert [d.adjusted for d in part] == pytest.approx([c.adjusted for c in claims])
        for difference, claim in zip(part, claims, strict=True):
            if difference.outcome != "equivalent":
                assert (difference.outcome in ("better", "worse")) == claim.rejected


def test_the_same_answers_are_no_difference_and_not_proof_of_none(tmp_path):
    tables(tmp_path, n=100)
    (tmp_path / "c.csv").write_text((tmp_path / "a.csv").read_text())
    for difference in compared(tmp_path, "c").differences:
        assert isinstance(difference.drop, Estimate)
        assert difference.drop.value == 0
        assert difference.drop.low < 0 < difference.drop.high
        assert difference.p_value == pytest.approx(1, abs=1e-5)
        assert difference.outcome == "undecided"
        assert "no difference was seen on 100 examples" in difference.advice


def test_a_difference_inside_the_band_is_equivalent(tmp_path):
    tables(tmp_path)
    (tmp_path / "c.csv").write_text((tmp_path / "a.csv").read_text())
    assert whole(compared(tmp_path, "c", band=0.05), "accuracy").outcome == "equivalent"


def test_the_number_of_examples_that_would_decide_decides(tmp_path):
    """A gap of the same shares on so many examples is found to be one, and on a fifth fewer it is not."""

    def drop(times):
        rows = np.arange(120)
        labels = rows % 2
        for name, wrong in (("a", rows < 12), ("b", (rows >= 12) & (rows < 18))):
            guess = np.where(wrong, 1 - labels, labels)
            write(tmp_path / f"{name}.csv", {"y": np.tile(labels, times), "pred": np.tile(guess, times)})
        return whole(compared(tmp_path, metrics=("accuracy",)), "accuracy")

    found = drop(1)
    needed = int(found.advice.split("about ")[1].split(" ")[0].replace(",", ""))
    assert found.advice == f"needs about {needed} examples to show b ahead at this gap; there are 120"
    assert drop(math.ceil(needed / 120)).drop.high < 0
    assert drop(math.floor(0.8 * needed / 120)).drop.high > 0


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    tables(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.csv").write_text((tmp_path / "b.csv").read_text())
    found = evaluate(tmp_path / "a.csv", compare=tmp_path / "other" / "a.csv", out=tmp_path / "out").evaluation
    assert [m.name for m in found.models] == [str(tmp_path / "a.csv"), str(tmp_path / "other" / "a.csv")]
