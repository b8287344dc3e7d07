"""Which column is what, and the same evaluation from every format."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from sklearn.metrics import accuracy_score, f1_score, roc_auc_score

from steelyard.api import evaluate
from steelyard.errors import InvalidInput
from steelyard.pipeline.evaluation import evaluate as pipeline
from steelyard.report.evaluation.text import metrics_json
from steelyard.subject import columns

RNG = np.random.default_rng(2)
N = 120


@pytest.fixture(autouse=True)
def unrendered(monkeypatch):
    monkeypatch.setattr(pipeline, "render_evaluation", lambda _: "")


def write(path, table):
    if path.suffix == ".npz":
        np.savez(path, **{name: np.asarray(values) for name, values in table.items()})
    elif path.suffix == ".parquet":
        pq.write_table(pa.table({name: np.asarray(values) for name, values in table.items()}), path)
    else:
        cells = [
            [repr(v) if isinstance(v, float) else str(v) for v in np.asarray(values).tolist()]
            for values in table.values()
        ]
        ends = "\t" if path.suffix == ".tsv" else ","
        path.write_text("\n".join(ends.join(row) for row in [list(table), *zip(*cells, strict=True)]) + "\n")
    return path


def judged(path, **words):
    return evaluate(path, out=path.parent / "out", **words).evaluation


def value(found, name):
    return next(s.value for s in found.models[0].scores if s.quantity == name)


def bare(found):
    """All numbers of an evaluation, without what tells files apart."""
    plain = metrics_json(found)
    model = plain["models"][0]
    for name in ("name", "source", "digest"):
        model.pop(name, None)
    return json.dumps([plain["task"], plain["classes"], model], sort_keys=True)


def binary():
    y = RNG.integers(0, 2, N)
    return {
        "y": y,
        "p": (0.3 * y + 0.7 * RNG.random(N)),
        "site": RNG.choice(["a", "b c", ""], N),
        "age": RNG.integers(1, 90, N),
    }


def several():
    y = RNG.integers(0, 3, N)
    shares = RNG.dirichlet([1, 1, 1], N)
    return {"y": np.array(["cat_a", "cat_b", "dog"])[y]} | {
        f"p_{c}": shares[:, i] for i, c in enumerate(("cat_a", "cat_b", "dog"))
    }


TASKS = {
    "binary": (binary, {"slices": ("site", "age=3", "confidence=2")}),
    "multiclass": (several, {}),
    "multilabel": (
        lambda: {f"y_{c}": RNG.integers(0, 2, N) for c in "abc"} | {f"p_{c}": RNG.random(N) for c in "bca"},
        {"label": "y_*", "score": "p_*"},
    ),
    "regression": (lambda: {"target": RNG.normal(size=N), "prediction": RNG.normal(size=N)}, {"task": "regression"}),
    "ranking": (lambda: {"q": RNG.integers(0, 9, N), "relevance": RNG.integers(0, 3, N), "score": RNG.random(N)}, {"query": "q"}),
}  # fmt: skip


@pytest.mark.parametrize("task", TASKS)
def test_the_same_evaluation_from_every_format_and_reader(tmp_path, monkeypatch, task):
    make, words = TASKS[task]
    table = make()
    found = [judged(write(tmp_path / f"t.{suffix}", table), **words) for suffix in ("csv", "tsv", "parquet", "npz")]
    monkeypatch.setattr(columns, "find_spec", lambda _: None)
    found.append(judged(tmp_path / "t.csv", **words))
    assert found[0].task == task
    assert len({bare(f) for f in found}) == 1


@pytest.mark.parametrize("task", TASKS)
def test_the_order_of_rows_changes_no_number(tmp_path, task):
    make, words = TASKS[task]
    table = make()
    order = RNG.permutation(N)
    one = judged(write(tmp_path / "t.parquet", table), **words)
    other = judged(write(tmp_path / "t.parquet", {name: np.asarray(v)[order] for name, v in table.items()}), **words)
    assert one.models[0].scores == other.models[0].scores
    assert one.models[0].slices == other.models[0].slices
    assert one.models[0].per_class == other.models[0].per_class


# --- which column is what ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "words", "task"),
    [
        ("y,p", {}, "binary"), ("Label,Score", {}, "binary"), ("target,prob", {}, "binary"), ("y_true,y_score", {}, "binary"),
        ("a,b", {"label": "a", "score": "b"}, "binary"),
    ],
)  # fmt: skip
def test_plain_names_and_declared_ones(tmp_path, columns, words, task):
    y = RNG.integers(0, 2, N)
    p = RNG.random(N)
    names = columns.split(",")
    found = judged(write(tmp_path / "t.csv", dict(zip(names, (y, p), strict=True))), **words)
    assert found.task == task
    assert value(found, "roc_auc") == pytest.approx(roc_auc_score(y, p))


@pytest.mark.parametrize(
    "classes",
    [
        ("cat_small", "cat_big", "cat_tiny"),
        ("p_a", "p_b", "p_c"),
        ("a.b", "a.c", "b"),
        ("x-1", "x-2", "x-3"),
        ("1", "10", "11"),
    ],
)
def test_score_columns_named_after_classes_with_separators(tmp_path, classes):
    y = RNG.integers(0, 3, N)
    shares = RNG.dirichlet([1, 1, 1], N)
    table = {"y": np.array(classes)[y]} | {f"p_{c}": shares[:, i] for i, c in enumerate(classes)}
    found = judged(write(tmp_path / "t.csv", table), label="y", score=",".join(f"p_{c}" for c in classes))
    assert found.classes == classes
    assert value(found, "accuracy") == accuracy_score(y, shares.argmax(axis=1))
    found = judged(
        write(tmp_path / "t.csv", {"y": np.array(classes)[y]} | {c: shares[:, i] for i, c in enumerate(classes)}),
        label="y",
        score=",".join(classes),
    )
    assert found.classes == classes


def test_two_score_columns_of_two_classes(tmp_path):
    y = RNG.integers(0, 2, N)
    p = RNG.random(N)
    path = write(tmp_path / "t.csv", {"y": np.array(["no", "yes"])[y], "p_yes": p, "p_no": 1 - p})
    assert value(judged(path, task="binary"), "roc_auc") == pytest.approx(roc_auc_score(y, p))
    assert value(judged(path, task="binary", positive="no"), "roc_auc") == pytest.approx(roc_auc_score(1 - y, 1 - p))
    path = write(tmp_path / "u.csv", {"y": np.array(["no", "yes"])[y], "p_a": p, "p_b": 1 - p})
    with pytest.raises(InvalidInput, match="p_a and p_b are not named after the classes no and yes"):
        judged(path, task="binary")


@pytest.mark.parametrize("score", ["one array", "two columns"])
def test_arrays_of_an_npz(tmp_path, score):
    y = RNG.integers(0, 3, N)
    shares = RNG.dirichlet([1, 1, 1], N)
    names = np.array(["eel", "cat", "dog"])
    plain = judged(write(tmp_path / "t.npz", {"y": y, "p": shares}))
    assert plain.classes == ("0", "1", "2")
    for labels in (y, names[y]):
        named = judged(write(tmp_path / "t.npz", {"y": labels, "p": shares, "classes": names}))
        assert named.classes == tuple(names)
        assert value(named, "macro_f1") == pytest.approx(f1_score(y, shares.argmax(axis=1), average="macro"))
    flags = RNG.integers(0, 2, (N, 3))
    many = judged(write(tmp_path / "t.npz", {"y": flags, "p": RNG.random((N, 3))}))
    assert many.task == "multilabel"
    sliced = judged(
        write(tmp_path / "t.npz", {"y": y, "p": shares, "classes": names, "site": y % 2, "other": RNG.random((N, 4))}),
        slices=("auto",),
    )
    assert {s.conditions[0][0] for s in sliced.models[0].slices} == {"site"}


def test_float_labels_of_typed_files_are_whole_numbers(tmp_path):
    y = RNG.integers(0, 2, N).astype(float)
    for suffix in ("parquet", "npz"):
        assert judged(write(tmp_path / f"t.{suffix}", {"y": y, "p": RNG.random(N)})).classes == ("0", "1")


def test_numbers_that_are_no_classes_are_judged_as_numbers_and_that_is_said(tmp_path):
    found = judged(write(tmp_path / "t.csv", {"y": RNG.integers(0, 9, N), "p": RNG.random(N)}))
    assert found.task == "regression"
    assert any("--score 'p_*'" in note for note in found.models[0].notes)


def test_logits_that_tie_as_probabilities_rank_as_they_are(tmp_path):
    y = np.arange(N) % 2
    found = judged(write(tmp_path / "t.csv", {"y": y, "p": 40.0 + y}), outputs="logits")
    assert {s.quantity: s.value for s in found.models[0].scores if hasattr(s, "value")}["roc_auc"] == 1.0


def test_scores_that_only_rank_say_which_threshold_was_taken(tmp_path):
    found = judged(
        write(tmp_path / "t.csv", {"y": RNG.integers(0, 2, N), "p": RNG.normal(0, 100, N)}), outputs="scores"
    )
    assert any("0.5 was taken as their threshold" in note for note in found.models[0].notes)
    reasons = {s.quantity: s.reason for s in found.models[0].scores if hasattr(s, "reason")}
    assert set(reasons) == {"log_loss", "brier", "ece"}


def test_the_split_column_parts_rows_that_are_judged_from_those_that_help(tmp_path):
    table = binary() | {"split": np.array(["test", "Val", "train"])[np.arange(N) % 3]}
    found = judged(write(tmp_path / "t.csv", table)).models[0]
    rows = np.arange(N) % 3 == 0
    assert found.n == rows.sum()
    assert found.scores[0].value == pytest.approx(accuracy_score(table["y"][rows], table["p"][rows] >= 0.5))
    assert (found.gaps[0].seen, found.gaps[0].unseen) == ("train", "test")
    assert found.gaps[0].on_seen.n == (np.arange(N) % 3 == 2).sum()


@pytest.mark.parametrize(
    ("table", "words", "message"),
    [
        ({"y": ["a", ""] * 20, "p": [0.1, 0.2] * 20}, {}, "holds an empty cell in data row 2; a class is needed"),
        ({"y": ["a", "b"] * 20, "pred": ["a", ""] * 20}, {}, "holds an empty cell in data row 2; a class is needed"),
        ({"y": [0, 1] * 20, "p": [0.1, 0.2] * 20, "age": [1.0, np.nan] * 20}, {"slices": ("age=3",)}, "holds nan in data row 2, which no range"),
        ({"y": [0, 1] * 600, "p": [0.1, 0.2] * 600, "k": list(range(1200))}, {"slices": ("k",)}, "holds 1,200 values, too many to slice by"),
        ({"y": [0, 1] * 20, "p": [0.1, 0.2] * 20, "g": ["x"] * 40}, {"cluster": "g"}, "every row has the same 'g'"),
        ({"y": ["1.0", "0.0"] * 20, "pred": ["1", "0"] * 20}, {}, "'y' and 'pred' hold '0.0' and '0', one number written in two ways"),
        ({"y": ["1.0", "1"] * 20, "p": [0.1, 0.2] * 20}, {}, "'y' hold '1' and '1.0', one number written in two ways"),
        ({"y": [1e200, 1] * 20, "p": [0.1, 0.2] * 20}, {"task": "regression"}, "beyond 1e"),
    ],
)  # fmt: skip
def test_what_would_be_misread_is_refused(tmp_path, table, words, message):
    with pytest.raises(InvalidInput, match=message):
        judged(write(tmp_path / "t.csv", table), **words)


@pytest.mark.parametrize("decides", [{}, {"threshold": 0.4}, {"target": "f1"}])
def test_the_mean_cost_is_that_of_the_judged_examples_whatever_decides(tmp_path, decides):
    y = RNG.integers(0, 2, 400)
    p = np.clip(0.3 * y + 0.7 * RNG.random(400), 0, 1)
    split = np.where(np.arange(400) < 200, "validation", "test")
    found = judged(write(tmp_path / "t.csv", {"y": y, "p": p, "split": split}), costs="fp=1,fn=10", **decides)
    model = found.models[0]
    cost = next(s for s in model.scores if s.quantity == "mean_cost")
    counts = model.confusion
    assert counts.sum() == 200
    assert cost.value == pytest.approx((counts[0, 1] + 10 * counts[1, 0]) / 200)
    assert cost.low < cost.value < cost.high
    assert model.threshold.target.startswith("costs" if not decides else ("given" if "threshold" in decides else "f1"))


def test_costs_are_for_two_classes(tmp_path):
    path = write(tmp_path / "t.csv", {"y": np.arange(N) % 3, "pred": np.arange(N) % 3})
    with pytest.raises(InvalidInput, match="--costs are for two classes"):
        judged(path, costs="fp=1,fn=2", predicted="pred")


def test_slices_by_precision_say_what_moves_it(tmp_path):
    y = RNG.integers(0, 2, N)
    columns = {"y": y, "p": RNG.random(N), "g": np.where(np.arange(N) % 2, "a", "b")}
    notes = judged(write(tmp_path / "t.csv", columns), slices=("g",), objective="imbalanced").models[0].notes
    assert any("AUC-PR is lower where positives are rarer" in note for note in notes)
    notes = judged(write(tmp_path / "u.csv", columns), slices=("g",)).models[0].notes
    assert not any("rarer" in note for note in notes)
