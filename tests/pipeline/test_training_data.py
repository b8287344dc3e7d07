"""The training split on disk, and the minutes that training a candidate will take."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import tiny_models
from steelyard.passes import PASSES
from steelyard.pipeline import prepare
from steelyard.pipeline.job import silent
from steelyard.pipeline.minutes import training_minutes
from steelyard.records import Environment, Measurement, Sample, SubjectSpec
from steelyard.subject.splits import read_split

HERE = Environment(
    machine="x", cpu="", cores=1, memory_bytes=1, instruction_sets=(), accelerators=(), platform="", python="",
    packages={}, time="",
)  # fmt: skip


class Usage(NamedTuple):
    total: int
    used: int
    free: int


def _measured(**readings: float) -> Measurement:
    samples = tuple(
        Sample(quantity=name, unit="", values=np.array([value]), conditions={"batch": 1})
        for name, value in readings.items()
    )
    return Measurement(subject="x", environment=HERE, readings=samples)


def test_the_training_split_is_written_once_for_a_model_that_can_be_trained(tmp_path: Path) -> None:
    spec = SubjectSpec(source=f"{tiny_models.write_subject(tmp_path / 'code')}:subject", data="digits")
    made = prepare.prepare_subject(spec, tmp_path / "run", silent, to_train=True)
    assert made.data is not None
    train = read_split(made.data, "train")
    np.testing.assert_array_equal(train.raw[:], tiny_models.data().train.raw[:])
    np.testing.assert_array_equal(train.labels, tiny_models.data().train.labels)
    assert isinstance(train.raw, np.memmap)
    written = (made.data / "train.raw.npy").stat().st_mtime_ns
    prepare.prepare_subject(spec, tmp_path / "run", silent, to_train=True)
    assert (made.data / "train.raw.npy").stat().st_mtime_ns == written
    (made.data / "train.labels.npy").unlink()  # a run that was killed while writing it
    prepare.prepare_subject(spec, tmp_path / "run", silent, to_train=True)
    np.testing.assert_array_equal(read_split(made.data, "train").labels, train.labels)


def test_it_is_not_written_for_a_file_nor_for_a_job_that_does_not_train(tmp_path: Path) -> None:
    declared = {"scale": "1/255", "mean": "0.3", "std": "0.35"}
    onnx = SubjectSpec(source=str(tiny_models.write_onnx(tmp_path / "m.onnx")), data="digits", options=declared)
    code = SubjectSpec(source=f"{tiny_models.write_subject(tmp_path / 'code')}:subject", data="digits")
    for name, spec, to_train in (("file", onnx, True), ("job", code, False)):
        made = prepare.prepare_subject(spec, tmp_path / name, silent, to_train=to_train)
        assert made.data is not None
        assert not list(made.data.glob("train.*"))
        assert (made.data / "validation.labels.npy").exists()


def test_a_disk_without_room_is_said_beforehand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(200_000, 80_000, 120_000))
    train = tiny_models.data().train  # 69 kB, more than half of what is free
    (warning,) = prepare._write_training(train, tmp_path)
    assert "no room to train: the training split takes" in warning
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(200_000, 0, 200_000))
    assert prepare._write_training(train, tmp_path) == ()
    assert len(read_split(tmp_path, "train")) == len(train)


def test_minutes_are_three_forward_passes_an_epoch_and_one_for_the_teacher() -> None:
    minutes = training_minutes(_measured(throughput_per_s=200.0, latency_s=0.02), 12_000, limit_s=1e6)
    assert minutes.keys() == {name for name, kind in PASSES.items() if getattr(kind, "trains", False)}
    assert {"prune", "sparsify", "factorise"} <= minutes.keys()
    assert minutes["prune"] == pytest.approx((3 * 5 + 1) * 12_000 / 200 / 60)
    alone = training_minutes(_measured(latency_s=0.02), 12_000, limit_s=1e6)
    assert alone["prune"] == pytest.approx((3 * 5 + 1) * 12_000 * 0.02 / 60)
    assert training_minutes(_measured(latency_s=0.02), 12_000, limit_s=600)["prune"] == pytest.approx(7)
    assert training_minutes(_measured(), 12_000, limit_s=600) == {}
    assert training_minutes(_measured(latency_s=0.02), 0, limit_s=600) == {}
