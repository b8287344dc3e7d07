"""`steelyard train --processes 2` against the same training by one process, from words to weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import steelyard
from steelyard.report import together
from steelyard.subject.safe import read_weights

MODEL = """
import torch
import steelyard
def subject():
    n = torch.nn
    model = n.Sequential(n.Conv2d(1, 8, 3, stride=2), n.BatchNorm2d(8), n.ReLU(), n.Flatten(), n.Linear(72, 10))
    contract = steelyard.Contract(shape=(1, 8, 8), scale=1 / 16, labels=tuple("0123456789"))
    return steelyard.Subject(model=model, contract=contract, data="digits")
"""
WORDS = ("optimiser=sgd", "lr=0.05", "epochs=2", "batch=100", "augment.rotation=10", "augment.mixup=0.2")


@pytest.mark.slow
def test_two_processes_train_what_one_trains(tmp_path: Path) -> None:
    source = tmp_path / "digits_net.py"
    source.write_text(MODEL, encoding="utf-8")
    one = steelyard.train(source, *WORDS, out=tmp_path / "one")
    two = steelyard.train(source, *WORDS, out=tmp_path / "two", processes=2)
    here, there = read_weights(one.weights), read_weights(two.weights)
    for name, tensor in here.items():
        np.testing.assert_allclose(there[name].numpy(), tensor.numpy(), rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(two.run.loss, one.run.loss, rtol=1e-4)
    assert two.run.validation.tolist() == one.run.validation.tolist()
    assert [len(p.labels) for p in two.run.predictions] == [len(p.labels) for p in one.run.predictions]
    assert together.lines(one.run) == ()
    [said] = together.lines(two.run)
    assert said.startswith("2 processes: each sends")
    assert any(words.startswith("times, memory and energy are those of the first process") for words in two.run.said)
    assert {log.name for log in (two.folder / "ranks").iterdir()} == {"rank0.log", "rank1.log"}
    assert [check.word for check in two.run.label_checks] == ["rotation"]
    assert len(two.run.sheet) == 8
    assert "What the net sees" in two.report.read_text(encoding="utf-8")
