"""Cold and warm loading: what is dropped, how many processes, and what is said where a file system keeps its pages."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny_models
from steelyard.measure import loading as room
from steelyard.measure.loading import LoadingSettings, _order, loading
from steelyard.measure.process import Limits
from steelyard.records import Sample, Unavailable

LIMITS = Limits(seconds=120)


def test_each_kind_comes_early_as_often_as_late() -> None:
    assert [_order(pair)[0] for pair in range(4)] == ["cold", "warm", "cold", "warm"]
    assert all(set(_order(pair)) == {"cold", "warm"} for pair in range(2))


def test_a_file_system_that_keeps_its_pages_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "resident_share", lambda files: 0.8)
    artifact, inputs = tiny_models.onnx_artifact(tmp_path / "m"), tiny_models.write_inputs(tmp_path / "i.npy")
    found = {
        (r.quantity, r.conditions["cache"]): r
        for r in loading(artifact, inputs, LoadingSettings(pairs=1, seconds=0.01), limits=LIMITS)
    }
    cold, warm = found["load_s", "cold"], found["load_s", "warm"]
    assert isinstance(cold, Unavailable)
    assert "keeps 80 % of the model's files in memory" in cold.reason
    assert isinstance(warm, Sample)
    assert warm.values.size == 1


def test_cold_and_warm_take_turns_and_the_time_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dropped: list[list[str]] = []
    monkeypatch.setattr(room, "drop_pages", lambda files: dropped.append([f.name for f in files]))
    monkeypatch.setattr(room, "resident_share", lambda files: 0.0)
    artifact, inputs = tiny_models.onnx_artifact(tmp_path / "m"), tiny_models.write_inputs(tmp_path / "i.npy")
    pairs: list[int] = []
    settings = LoadingSettings(pairs=2, seconds=1e9)
    found = loading(artifact, inputs, settings, limits=LIMITS, on_pair=pairs.append)
    assert pairs == [1, 2]
    assert dropped == [[artifact.file]] * 2
    assert {(r.quantity, r.conditions["cache"], r.values.size) for r in found if isinstance(r, Sample)} == {
        (q, c, 2) for q in ("load_s", "first_prediction_s") for c in ("cold", "warm")
    }
    assert all((r.values > 0).all() for r in found if isinstance(r, Sample))
