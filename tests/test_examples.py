"""The examples do what they say."""

from __future__ import annotations

import csv
import os
import runpy
from pathlib import Path

import numpy as np
import pytest

from steelyard.records import Estimate, SubjectSpec
from steelyard.store import read_evaluations
from steelyard.subject.load import load_subject

torch = pytest.importorskip("torch")
EXAMPLES = Path(__file__).parent.parent / "examples"


@pytest.mark.slow
def test_digits_trains_to_a_sane_baseline() -> None:
    subject = load_subject(SubjectSpec(source=str(EXAMPLES / "digits.py")))
    splits = subject.splits()
    assert [len(split) for _, split in splits.items()] == [1077, 360, 360]
    subject.fit(subject.model, splits)
    subject.model.eval()
    with torch.inference_mode():
        outputs = subject.model(torch.from_numpy(splits.test.inputs(subject.contract))).numpy()
    assert outputs.shape == (360, len(subject.contract.labels))
    assert np.mean(outputs.argmax(axis=1) == splits.test.labels) > 0.95


def test_fashion_mnist_is_a_resnet18_for_grey_pictures() -> None:
    subject = load_subject(SubjectSpec(source=str(EXAMPLES / "fashion_mnist.py"), data="DIR"))
    assert subject.data == "DIR"
    assert sum(p.numel() for p in subject.model.parameters()) == 11_175_370
    subject.model.eval()
    with torch.inference_mode():
        assert subject.model(torch.zeros(2, *subject.contract.shape)).shape == (2, len(subject.contract.labels))


def test_saved_predictions_are_judged_and_compared_from_python(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sklearn_metrics = pytest.importorskip("sklearn.metrics")
    runpy.run_path(str(EXAMPLES / "evaluate_predictions.py"))["main"](tmp_path)
    (found,) = read_evaluations(tmp_path / "evaluation")
    assert [model.name for model in found.models] == ["logistic", "forest"]
    for model in found.models:
        with (tmp_path / f"{model.name}.csv").open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if row["split"] == "test"]
        truth = [row["label"] == "malignant" for row in rows]
        area = sklearn_metrics.roc_auc_score(truth, [float(row["p"]) for row in rows])
        said = [model.threshold is not None and float(row["p"]) >= model.threshold.value for row in rows]
        scores = {score.quantity: score for score in model.scores if isinstance(score, Estimate)}
        assert model.n == len(rows)
        assert scores["roc_auc"].value == pytest.approx(area)
        assert scores["recall"].value == pytest.approx(sklearn_metrics.recall_score(truth, said))
    assert {d.metric for d in found.differences} == {m.name for m in found.metrics}
    printed = capsys.readouterr().out
    assert "forest: undecided  needs about" in printed
    assert printed.strip().endswith("report.html")


@pytest.mark.needs_data
@pytest.mark.skipif("STEELYARD_DATA" not in os.environ, reason="STEELYARD_DATA names no data")
def test_fashion_mnist_reads_its_files() -> None:
    data = str(Path(os.environ["STEELYARD_DATA"]) / "fashion-mnist")
    splits = load_subject(SubjectSpec(source=str(EXAMPLES / "fashion_mnist.py"), data=data)).splits()
    assert [len(split) for _, split in splits.items()] == [50_000, 10_000, 10_000]
    assert np.bincount(splits.validation.labels).tolist() == [1000] * 10
