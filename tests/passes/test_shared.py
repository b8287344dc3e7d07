"""Artifacts shared between runs: found again under the same origin, and under no other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from steelyard.passes import shared as module
from steelyard.passes.build import Builder
from steelyard.passes.shared import Shared, origin, shared_folder
from steelyard.records import Plan, Step
from steelyard.subject.artifact import Artifact, read_artifact

PLAN = Plan(steps=(Step(name="openvino"),))
Sources = Callable[[str], Artifact]


def _artifact(folder: Path, content: bytes = b"weights") -> Path:
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(content)
    (folder / "manifest.json").write_text("{}")
    return folder


def test_what_took_long_is_found_again_by_the_same_origin_alone(tmp_path: Path) -> None:
    pool = Shared(tmp_path / "shared", "origin")
    made = _artifact(tmp_path / "made")
    pool.keep(PLAN, made, took_s=60.0)
    assert pool.fetch(PLAN, tmp_path / "found")
    assert (tmp_path / "found/model.bin").read_bytes() == b"weights"
    assert not Shared(tmp_path / "shared", "another").fetch(PLAN, tmp_path / "not")
    assert not pool.fetch(Plan(steps=(*PLAN.steps, Step(name="nncf_int8"))), tmp_path / "not")
    assert not (tmp_path / "not").exists()
    (tmp_path / "found/model.bin").write_bytes(b"changed")
    assert pool.fetch(PLAN, tmp_path / "again")
    assert (tmp_path / "again/model.bin").read_bytes() == b"weights"  # nobody's changes are anybody else's


def test_what_is_quick_to_build_or_has_no_folder_is_not_kept(tmp_path: Path) -> None:
    made = _artifact(tmp_path / "made")
    Shared(tmp_path / "shared", "origin").keep(PLAN, made, took_s=0.5)
    Shared().keep(PLAN, made, took_s=60.0)
    assert not (tmp_path / "shared").exists()
    assert not Shared().fetch(PLAN, tmp_path / "found")


def test_what_was_not_needed_for_longest_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_BYTES", 2_500)
    pool = Shared(tmp_path / "shared", "origin")
    plans = [Plan(steps=(Step(name=name),)) for name in "abc"]
    for age, plan in zip((300, 200, 100), plans, strict=True):
        pool.keep(plan, _artifact(tmp_path / str(plan), bytes(1000)), took_s=60.0)
        place = pool._place(plan)
        assert place is not None
        if place.exists():
            os.utime(place, (1e9 - age, 1e9 - age))
    assert [pool.fetch(plan, tmp_path / f"found-{plan}") for plan in plans] == [False, True, True]


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    Shared(tmp_path / "file", "origin").keep(PLAN, _artifact(tmp_path / "made"), took_s=60.0)


def test_the_origin_is_of_everything_a_plan_is_made_from(sources: Sources, tmp_path: Path) -> None:
    artifact = sources("onnxruntime")
    inputs = tiny_models.write_inputs(tmp_path / "inputs.npy")
    data = tiny_models.write_data(tmp_path / "data", ("calibration",))
    first = origin(artifact, inputs, data, 60.0)
    assert origin(artifact, inputs, data, 60.0) == first
    other = tmp_path / "other.npy"
    np.save(other, np.load(inputs) + 1)
    more = tiny_models.write_data(tmp_path / "more", ("calibration", "train"))
    scaled = dataclasses.replace(artifact, contract=dataclasses.replace(artifact.contract, scale=0.5))
    others = [
        origin(artifact, other, data, 60.0),
        origin(artifact, inputs, more, 60.0),
        origin(artifact, inputs, None, 60.0),
        origin(artifact, inputs, data, 90.0),
        origin(scaled, inputs, data, 60.0),
        origin(dataclasses.replace(artifact, engine="openvino"), inputs, data, 60.0),
    ]
    assert len({first, *others}) == 7


def test_a_second_run_takes_what_the_first_has_built(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SLOW_S", 0.0)
    inputs = tiny_models.write_inputs(tmp_path / "inputs.npy")
    baseline = str(sources("onnxruntime").folder)
    words = {"plan": PLAN, "examples": str(inputs), "data": None, "shared": str(tmp_path / "shared")}
    first = Path(Builder().build(baseline, str(tmp_path / "one"), **words))
    monkeypatch.setattr("steelyard.passes.build._apply", lambda *_: pytest.fail("built again"))
    second = Path(Builder().build(baseline, str(tmp_path / "two"), **words))
    assert second != first
    assert read_artifact(second).fingerprint() == read_artifact(first).fingerprint()
    assert read_artifact(second).plan == PLAN


def test_where_it_lies_is_the_users_to_say(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STEELYARD_CACHE", str(tmp_path))
    assert shared_folder() == tmp_path
    monkeypatch.setenv("STEELYARD_CACHE", "off")
    assert shared_folder() is None
    monkeypatch.delenv("STEELYARD_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert shared_folder() == tmp_path / "cache/steelyard/artifacts"
