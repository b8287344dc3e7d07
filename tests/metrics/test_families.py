"""Every metric of the table by its public name, against scikit-learn or its formula written out."""

import math
import re
from collections import Counter

import numpy as np
import pytest
import sklearn.metrics as skm

from steelyard.errors import InvalidInput
from steelyard.metrics import table
from steelyard.metrics.examples import answers, binary, language, multiclass, multilabel, ranking, regression
from steelyard.metrics.rows import STATIC
from steelyard.records import Estimate, Unavailable

RNG = np.random.default_rng(7)
N = 300


def reliability_gap(confidence, right, bins=15):
    """The expected calibration error over bins (low, high] of equal width, by its definition."""
    total = 0.0
    for place in range(bins):
        low, high = place / bins, (place + 1) / bins
        inside = (confidence > low) & (confidence <= high) if place else confidence <= high
        if inside.any():
            total += inside.sum() / len(confidence) * abs(right[inside].mean() - confidence[inside].mean())
    return total


# --- two classes ---------------------------------------------------------------------------------------

y2 = RNG.random(N) < 0.3
p2 = np.clip(0.35 * y2 + 0.6 * RNG.random(N), 0.01, 0.99).round(2)  # with ties
g2 = p2 >= 0.5
BINARY = {
    "accuracy": skm.accuracy_score(y2, g2),
    "error_rate": skm.zero_one_loss(y2, g2),
    "balanced_accuracy": skm.balanced_accuracy_score(y2, g2),
    **{
        f"{average}_{name}": score(y2, g2, average=average)
        for average in ("macro", "weighted", "micro")
        for name, score in (("precision", skm.precision_score), ("recall", skm.recall_score), ("f1", skm.f1_score))
    },
    "mcc": skm.matthews_corrcoef(y2, g2),
    "precision": skm.precision_score(y2, g2),
    "recall": skm.recall_score(y2, g2),
    "f1": skm.f1_score(y2, g2),
    "specificity": skm.recall_score(y2, g2, pos_label=0),
    "roc_auc": skm.roc_auc_score(y2, p2),
    "average_precision": skm.average_precision_score(y2, p2),
    "log_loss": skm.log_loss(y2, p2),
    "brier": skm.brier_score_loss(y2, p2),
    "ece": reliability_gap(p2, y2),
    "f0.5": skm.fbeta_score(y2, g2, beta=0.5),
    "f2": skm.fbeta_score(y2, g2, beta=2),
    "macro_f2": skm.fbeta_score(y2, g2, beta=2, average="macro"),
    "weighted_f0.5": skm.fbeta_score(y2, g2, beta=0.5, average="weighted"),
    "recall[no]": skm.recall_score(y2, g2, pos_label=0),
    "precision[no]": skm.precision_score(y2, g2, pos_label=0),
    "f1[yes]": skm.f1_score(y2, g2),
    "specificity[no]": skm.recall_score(y2, g2),
}

# --- several classes -----------------------------------------------------------------------------------

CLASSES = ("cat", "dog", "eel", "fox", "gnu")
yk = RNG.choice(5, N, p=[0.4, 0.3, 0.2, 0.05, 0.05])
pk = RNG.dirichlet(np.ones(5), N) * 0.6 + 0.4 * np.eye(5)[np.where(RNG.random(N) < 0.5, yk, RNG.integers(0, 5, N))]
gk = pk.argmax(axis=1)
MULTICLASS = {
    "accuracy": skm.accuracy_score(yk, gk),
    "error_rate": skm.zero_one_loss(yk, gk),
    "balanced_accuracy": skm.balanced_accuracy_score(yk, gk),
    **{
        f"{average}_{name}": score(yk, gk, average=average)
        for average in ("macro", "weighted", "micro")
        for name, score in (("precision", skm.precision_score), ("recall", skm.recall_score), ("f1", skm.f1_score))
    },
    "mcc": skm.matthews_corrcoef(yk, gk),
    "macro_roc_auc": skm.roc_auc_score(yk, pk, multi_class="ovr", average="macro"),
    "macro_average_precision": skm.average_precision_score(np.eye(5)[yk], pk, average="macro"),
    "log_loss": skm.log_loss(yk, pk),
    "brier": ((pk - np.eye(5)[yk]) ** 2).sum(axis=1).mean(),
    "ece": reliability_gap(pk.max(axis=1), gk == yk),
    "f1": skm.f1_score(yk, gk, average="macro"),
    "macro_f0.5": skm.fbeta_score(yk, gk, beta=0.5, average="macro"),
    "f2": skm.fbeta_score(yk, gk, beta=2, average="macro"),
    "weighted_f2": skm.fbeta_score(yk, gk, beta=2, average="weighted"),
    "top3_accuracy": skm.top_k_accuracy_score(yk, pk, k=3),
    "top2": skm.top_k_accuracy_score(yk, pk, k=2),
    "recall[cat]": skm.recall_score(yk, gk, labels=[0], average="macro"),
    "precision[gnu]": skm.precision_score(yk, gk, labels=[4], average="macro"),
    "f1[dog]": skm.f1_score(yk, gk, labels=[1], average="macro"),
    "specificity[eel]": skm.recall_score(yk == 2, gk == 2, pos_label=False),
}

# --- several labels ------------------------------------------------------------------------------------

yl = (RNG.random((N, 4)) < [0.6, 0.4, 0.3, 0.1]).astype(int)
yl[:, 0] |= ~yl.any(axis=1)  # every example has a label, so that scikit-learn's mean over examples is ours
pl = np.clip(0.3 * yl + 0.7 * RNG.random((N, 4)), 0.01, 0.99)
gl = (pl >= 0.5).astype(int)
MULTILABEL = {
    "subset_accuracy": skm.accuracy_score(yl, gl),
    "hamming_loss": skm.hamming_loss(yl, gl),
    **{
        f"{average}_{name}": score(yl, gl, average=average)
        for average in ("macro", "weighted", "micro")
        for name, score in (("precision", skm.precision_score), ("recall", skm.recall_score), ("f1", skm.f1_score))
    },
    "samples_f1": skm.f1_score(yl, gl, average="samples"),
    "macro_roc_auc": skm.roc_auc_score(yl, pl, average="macro"),
    "macro_average_precision": skm.average_precision_score(yl, pl, average="macro"),
    "log_loss": np.mean([skm.log_loss(yl[:, j], pl[:, j]) for j in range(4)]),
    "macro_f2": skm.fbeta_score(yl, gl, beta=2, average="macro"),
    "micro_f0.5": skm.fbeta_score(yl, gl, beta=0.5, average="micro"),
}

# --- numbers -------------------------------------------------------------------------------------------

yr = RNG.normal(3, 2, N)
pr = yr + RNG.normal(0.1, 1, N)
REGRESSION = {
    "rmse": skm.root_mean_squared_error(yr, pr),
    "mae": skm.mean_absolute_error(yr, pr),
    "mse": skm.mean_squared_error(yr, pr),
    "r2": skm.r2_score(yr, pr),
    "mape": skm.mean_absolute_percentage_error(yr, pr),
}

# --- rankings: 20 queries of 15 documents, without ties ------------------------------------------------

rel = RNG.choice(4, (20, 15), p=[0.6, 0.2, 0.1, 0.1])
rel[:, 3] = 1  # every query has a relevant document
sc = RNG.permuted(np.arange(15.0)[None].repeat(20, 0), axis=1)
hits = np.take_along_axis(rel, np.argsort(-sc, axis=1), axis=1) > 0
first = hits.argmax(axis=1)
RANKING = {
    "ndcg": skm.ndcg_score(2**rel - 1, sc),
    "ndcg@10": skm.ndcg_score(2**rel - 1, sc, k=10),
    "ndcg@3": skm.ndcg_score(2**rel - 1, sc, k=3),
    "map": skm.label_ranking_average_precision_score(rel > 0, sc),
    "mrr": np.mean(1 / (1 + first)),
    "mrr@2": np.mean(np.where(first < 2, 1 / (1 + first), 0)),
    "recall@5": np.mean(hits[:, :5].sum(axis=1) / hits.sum(axis=1)),
    "precision@5": hits[:, :5].mean(),
}

# --- language ------------------------------------------------------------------------------------------

logs, sizes = np.log(RNG.uniform(0.05, 1, N)), RNG.integers(1, 6, N)
LANGUAGE = {"perplexity": math.exp(-logs.mean()), "bits_per_byte": -logs.sum() / math.log(2) / sizes.sum()}
right = ["The cat", "a blue whale", "42", "no one", "red"] * 8
said = ["cat", "blue fish", "42!", "anyone at all", "green"] * 8


def words(text):
    return [w for w in re.sub(r"[^\w\s]", "", text.lower()).split() if w not in ("a", "an", "the")]


def overlap(one, other):
    common = sum((Counter(words(one)) & Counter(words(other))).values())
    return 2 * common / (len(words(one)) + len(words(other)))


ANSWERS = {
    "exact_match": np.mean([words(a) == words(b) for a, b in zip(right, said, strict=True)]),
    "token_f1": np.mean([overlap(a, b) for a, b in zip(right, said, strict=True)]),
}

MADE = {
    "binary": (binary(y2, p2, classes=("no", "yes")), BINARY),
    "multiclass": (multiclass(yk, pk, classes=CLASSES), MULTICLASS),
    "multilabel": (multilabel(yl, pl), MULTILABEL),
    "regression": (regression(yr, pr), REGRESSION),
    "ranking": (ranking(rel.ravel(), sc.ravel(), np.repeat(np.arange(20), 15)), RANKING),
    "language": (language(logs, sizes), LANGUAGE),
    "answers": (answers(right, said), ANSWERS),
}


@pytest.mark.parametrize(("task", "name"), [(task, name) for task, (_, truth) in MADE.items() for name in truth])
def test_a_metric_by_its_name_has_the_value_of_its_oracle(task, name):
    examples, truth = MADE[task]
    (got,) = table.estimates(examples, [name])
    assert isinstance(got, Estimate)
    assert got.value == pytest.approx(truth[name], rel=1e-9, abs=1e-12)
    assert got.low < got.value < got.high


@pytest.mark.parametrize("task", MADE)
def test_every_metric_of_a_task_has_an_oracle(task):
    assert set(STATIC[task]) <= set(MADE[task][1])


@pytest.mark.parametrize("task", MADE)
def test_a_paired_drop_is_the_difference_of_the_values(task):
    examples, truth = MADE[task]
    rows = [table.find(name, task, examples.classes) for name in truth]
    order = np.random.default_rng(1).permutation(len(examples))
    if task == "ranking":
        order = np.arange(len(examples))
    before = examples.take(order)
    worse = _hurt(before)
    both = table.pair(before, worse, rows)
    values = [table.estimates(side, list(truth)) for side in (before, worse)]
    for row, one, other in zip(rows, *values, strict=True):
        got = table.drop_estimate(both, row)
        assert isinstance(got, Estimate)
        sign = 1 if row.higher_is_better else -1
        if row.name != "ece":  # whose drop is that of debiased errors: tests/metrics/test_calibration.py
            assert got.value == pytest.approx(sign * (one.value - other.value), abs=1e-12)
        assert got.low < got.value < got.high


def _hurt(examples):
    """The same examples, every seventh of which another one's answer was given to."""
    rows = np.arange(len(examples))
    moved = rows[::7]
    rows[moved] = np.roll(moved, 1)
    taken = examples.take(rows)
    kept = {name: getattr(taken, name) for name in ("scores", "predicted")}
    import dataclasses

    return dataclasses.replace(examples, **{name: value for name, value in kept.items() if value is not None})


@pytest.mark.parametrize(
    ("task", "name"),
    [
        ("binary", "top3_accuracy"), ("binary", "f0"), ("binary", "f1" + "0" * 400), ("binary", "recall[maybe]"),
        ("multiclass", "top0_accuracy"), ("multiclass", "top" + "9" * 30), ("multilabel", "macro_f0"),
        ("ranking", "ndcg@0"), ("ranking", "recall@" + "9" * 30), ("ranking", "accuracy"), ("regression", "auc"),
    ],
)  # fmt: skip
def test_names_that_mean_nothing_are_refused_in_one_line(task, name):
    with pytest.raises(InvalidInput) as said:
        table.find(name, task, MADE[task][0].classes)
    assert "\n" not in str(said.value)


def test_a_class_may_be_called_anything():
    names = ("a\nb", "x]", " lead", "</script>")
    made = multiclass([0, 1, 2, 3, 0], predicted=[0, 1, 2, 0, 1], classes=names)
    for name in names:
        assert isinstance(table.estimates(made, [f"recall[{name}]"])[0], Estimate)


@pytest.mark.parametrize(
    ("made", "name", "reason"),
    [
        (binary([0, 0], [0.1, 0.2]), "roc_auc", "0 positives"),
        (binary([1, 1], [0.1, 0.2]), "roc_auc", "0 negatives"),
        (binary([0, 0], [0.1, 0.2]), "recall", "0 positives"),
        (binary([1, 1], [0.1, 0.2]), "specificity", "0 negatives"),
        (binary([0, 1], [0.1, 0.2]), "precision", "0 predicted positives"),
        (binary([0, 0], [0.1, 0.2]), "f1", "0 positives and 0 predicted positives"),
        (binary([0, 0], [0.1, 0.2]), "mcc", "of one class"),
        (binary([0, 1], predicted=[0, 1]), "roc_auc", "needs the scores"),
        (binary([0, 1], [3.0, 4.0], outputs="scores"), "ece", "rank only"),
        (multiclass([0, 0], [[0.5, 0.5]] * 2), "macro_roc_auc", "no class has both"),
        (multilabel([[0, 1]] * 3, [[0.5, 0.5]] * 3), "macro_average_precision", "no class has both"),
        (regression([2.0, 2.0], [1.0, 2.0]), "r2", "all targets are equal"),
        (regression([0.0, 2.0], [1.0, 2.0]), "mape", "1 of 2 targets are 0"),
        (ranking([0, 0], [1, 2], [1, 1]), "map", "none of the 1 queries has a relevant document"),
        (language([-1.0], [0.0]), "bits_per_byte", "0 bytes"),
    ],
)
def test_undefined_is_said_with_its_reason(made, name, reason):
    (got,) = table.estimates(made, [name])
    assert isinstance(got, Unavailable)
    assert reason in got.reason
