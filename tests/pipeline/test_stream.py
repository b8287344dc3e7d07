"""`--stream` says the same as reading everything, within the bound that it prints."""

import csv
import json

import numpy as np
import pytest

from steelyard import api
from steelyard.errors import InvalidInput
from steelyard.metrics.streaming import StreamingAreas
from steelyard.pipeline.evaluation import from_stream


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    labels = rng.random(4000) < 0.1
    scores = 1 / (1 + np.exp(-(rng.normal(size=4000) + 3 * labels - 3)))
    path = tmp_path / "preds.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "y", "p"])
        writer.writerows(
            (i, "yes" if y else "no", repr(float(p))) for i, (y, p) in enumerate(zip(labels, scores, strict=True))
        )
    return path


def scores_of(found):
    return found.metrics["models"][0]["metrics"]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_it_says_what_reading_everything_says(table, tmp_path, suffix, monkeypatch):
    if suffix == ".parquet":
        import pyarrow.csv
        import pyarrow.parquet

        path = table.with_suffix(".parquet")
        pyarrow.parquet.write_table(pyarrow.csv.read_csv(table), path)
        table = path
    names = [*from_stream.COUNTED, *from_stream.AREAS]
    whole = scores_of(api.evaluate(table, metrics=tuple(names), out=tmp_path / "whole"))
    passed = scores_of(api.evaluate(table, stream=True, out=tmp_path / "passed"))
    for name in from_stream.COUNTED:
        assert passed[name]["value"] == whole[name]["value"]
        assert passed[name]["low"] == pytest.approx(whole[name]["low"], abs=2e-3)
    for name in from_stream.AREAS:
        bound = float(passed[name]["method"].rpartition(" ")[2])
        assert abs(passed[name]["value"] - whole[name]["value"]) <= bound * 1.05
        assert passed[name]["low"] == pytest.approx(whole[name]["low"], abs=5e-3)
        assert passed[name]["low"] < passed[name]["value"] < passed[name]["high"]
    assert json.loads((tmp_path / "passed" / "metrics.json").read_text())["models"][0]["n"] == 4000


def test_logits_and_their_probabilities_agree(tmp_path):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 2, 2000)
    logits = rng.normal(size=2000) + labels
    for name, values in (("logits", logits), ("probabilities", 1 / (1 + np.exp(-logits)))):
        rows = "\n".join(f"{y},{v!r}" for y, v in zip(labels, values.tolist(), strict=True))
        (tmp_path / f"{name}.csv").write_text(f"y,p\n{rows}\n")
    one, other = (
        scores_of(api.evaluate(tmp_path / f"{name}.csv", stream=True, outputs=name, out=tmp_path / name))
        for name in ("logits", "probabilities")
    )
    assert one["accuracy"] == other["accuracy"]
    assert one["roc_auc"]["value"] == pytest.approx(other["roc_auc"]["value"], abs=2e-4)


def test_the_auc_interval_is_that_of_all_examples_widened_by_the_bound():
    from steelyard.stats.auc import auc_interval
    from steelyard.stats.ranked import ranked

    rng = np.random.default_rng(2)
    labels = rng.random(5000) < 0.05
    scores = rng.beta(1, 40, 5000) * (1 + labels)
    areas = StreamingAreas("probabilities")
    areas.update(labels, np.clip(scores, 0, 1))
    low, high = areas.interval()
    value, exact_low, exact_high = auc_interval(ranked(labels, np.clip(scores, 0, 1)))
    assert low <= value <= high
    assert (low, high) == pytest.approx((exact_low, exact_high), abs=2e-4)


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        ("y,p\n0,0.1\n1,0.9\n2,0.5\n", {}, "3 class"),
        ("y,p\n0,0.1\n1,nan\n", {}, "is not"),
        ("y,p\n0,0.1\n1,1.5\n", {}, "not a probability"),
        ("y,p\n0,0.1\n1,\n", {}, "empty cell"),
        ("y,p\n0,0.1\n1,x\n", {}, "cannot read"),
        ("y,p\n", {}, "no rows"),
        ("y,p\n0,0.1\n1,0.9\n", {"slices": ("y",)}, "--slice needs all examples"),
        ("y,p\n0,0.1\n1,0.9\n", {"outputs": "scores"}, "probabilities or logits"),
        ("y,p\n0,0.1\n1,0.9\n", {"positive": "maybe"}, "not among"),
    ],
)
def test_bad_input_is_one_line(tmp_path, content, words, message):
    path = tmp_path / "p.csv"
    path.write_text(content)
    with pytest.raises(InvalidInput, match=message) as refused:
        api.evaluate(path, stream=True, out=tmp_path / "out", **words)
    assert "\n" not in str(refused.value)
