"""Requirements on any metric of classes: read, judged, and refused before any work where a class does not exist."""

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.pipeline.begin import _check_classes
from steelyard.pipeline.job import Job
from steelyard.records import Comparison, Environment, Measurement, Predictions, SubjectSpec, Unavailable
from steelyard.verify.judge import Case, judge, point
from steelyard.verify.requirements import parse_requirement

HOST = Environment(
    machine="m", cpu="c", cores=2, memory_bytes=1, instruction_sets=(), accelerators=(), platform="l", python="3",
    packages={}, time="t",
)  # fmt: skip


def measurement(scores, labels):
    made = Predictions(
        split="test",
        labels=labels.astype(np.int32),
        predicted=scores.argmax(axis=1).astype(np.int32),
        p_true=scores[np.arange(len(labels)), labels].astype(np.float32),
        classes=scores.shape[1],
        scores=scores.astype(np.float32),
    )
    return Measurement(subject="s", environment=HOST, readings=(), predictions=(made,))


def case(classes=3, n=900, seed=0):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, classes, n)
    logits = rng.normal(size=(n, classes))
    logits[np.arange(n), labels] += 2
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    times = np.ones((10, 2, 2))
    comparison = Comparison(arms=("baseline", "after"), batch=1, seconds=times, order=times.astype(np.int32))
    before, after = measurement(shares, labels), measurement(shares[:, ::-1][:, ::-1], labels)
    names = ("cat", "dog", "bird")[:classes]
    return Case(before=before, after=after, comparison=comparison, arm=1, labels=names)


@pytest.mark.parametrize(
    "text",
    ["macro_roc_auc >= 0.5", "ece <= 0.9", "brier drop <= 0.5", "top2_accuracy >= 0.5", "recall[bird] >= 0.1", "mcc >= 0.1",
     "macro_average_precision drop <= 10%", "weighted_f1 >= 0.1", "f2 drop <= 0.2"],
)  # fmt: skip
def test_every_metric_of_classes_may_be_required(text):
    (row,) = judge([case()], [parse_requirement(text)])
    assert row[0].outcome == "met"
    assert row[0].estimate.low <= row[0].estimate.value <= row[0].estimate.high


def test_two_classes_have_metrics_of_the_second():
    found = point(case(classes=2), parse_requirement("recall >= 0.5"))
    labels = case(classes=2).after.on("test").labels
    predicted = case(classes=2).after.on("test").predicted
    assert found == pytest.approx((predicted[labels == 1] == 1).mean())
    assert 0.5 < point(case(classes=2), parse_requirement("roc_auc >= 0.5")) < 1


def test_a_metric_that_needs_what_was_not_kept_says_so():
    whole = case()
    bare = Measurement(
        subject="s", environment=HOST, readings=(),
        predictions=tuple(
            Predictions(split=p.split, labels=p.labels, predicted=p.predicted, p_true=p.p_true, classes=3)
            for p in whole.after.predictions
        ),
    )  # fmt: skip
    (row,) = judge([Case(before=bare, after=bare, comparison=whole.comparison, arm=1)], [parse_requirement("ece <= 1")])
    assert row[0].outcome == "unavailable"
    assert "needs the scores of all classes" in row[0].advice
    assert not isinstance(point(whole, parse_requirement("log_loss <= 3")), Unavailable)


def test_a_class_that_is_not_there_is_refused_before_the_work(tmp_path):
    def job(text):
        return Job(spec=SubjectSpec(source="m.py"), out=tmp_path, requirements=(parse_requirement(text),))

    _check_classes(job("recall[cat] >= 0.5"), ("cat", "dog", "bird"))
    with pytest.raises(InvalidInput, match=r"recall\[fish\]: there is no class 'fish'; classes: cat, dog, bird"):
        _check_classes(job("recall[fish] >= 0.5"), ("cat", "dog", "bird"))
