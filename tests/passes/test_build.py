"""Chains of passes: prefixes are reused, and a build that ends early leaves nothing half-made under its name."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest

import tiny_models
from steelyard import passes
from steelyard.errors import CannotApply, InvalidInput, WorkerFailed
from steelyard.measure.process import Child, Limits
from steelyard.passes.bench import Bench, Built
from steelyard.passes.build import Builder, artifact_folder
from steelyard.records import Plan, Step
from steelyard.subject.artifact import Artifact, read_artifact
from steelyard.subject.engines import load_runner

Sources = Callable[[str], Artifact]


@dataclasses.dataclass(frozen=True, slots=True)
class Copy:
    """Writes the source again, and counts how often."""

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    calls: ClassVar[list[str]] = []
    note: str = ""

    def apply(self, source: Artifact, bench: Bench) -> Built:
        self.calls.append(self.note)
        (bench.folder / source.file).write_bytes(source.path.read_bytes())
        artifact = dataclasses.replace(source, folder=bench.folder)
        return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-6)


@dataclasses.dataclass(frozen=True, slots=True)
class Breaks:
    """Writes half a model and fails."""

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    healed: ClassVar[bool] = False

    def apply(self, source: Artifact, bench: Bench) -> Built:
        assert not list(bench.folder.iterdir()), "a bench is empty"
        if self.healed:
            return Copy(note="healed").apply(source, bench)
        (bench.folder / "model.onnx").write_bytes(b"half")
        raise CannotApply("half-way")


@pytest.fixture(autouse=True)
def _known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "PASSES", {**passes.PASSES, "copy": Copy, "breaks": Breaks})
    monkeypatch.setattr(Copy, "calls", [])


@pytest.fixture
def build(sources: Sources, tmp_path: Path) -> Callable[..., Path]:
    inputs = tiny_models.write_inputs(tmp_path / "inputs.npy")

    def built(*steps: Step, data: Path | None = None) -> Path:
        source, root = str(sources("onnxruntime").folder), str(tmp_path / "artifacts")
        return Path(Builder().build(source, root, Plan(steps=steps), str(inputs), data and str(data)))

    return built


A, B = Step(name="copy", options=(("note", "a"),)), Step(name="copy", options=(("note", "b"),))


def _ages(folder: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_a_second_build_changes_nothing_on_disk(build: Callable[..., Path]) -> None:
    folder = build(A, B)
    before = _ages(folder.parent)
    assert build(A, B) == folder
    assert _ages(folder.parent) == before
    assert Copy.calls == ["a", "b"]


def test_chains_share_their_prefixes(build: Callable[..., Path]) -> None:
    build(A)
    build(A, B)
    build(A, B, A)
    assert Copy.calls == ["a", "b", "a"]


def test_other_options_or_another_order_are_another_artifact(build: Callable[..., Path]) -> None:
    assert len({build(A), build(B), build(A, B), build(B, A)}) == 4


def test_another_baseline_is_another_artifact(tmp_path: Path) -> None:
    plan = Plan(steps=(A,))
    one, other = (artifact_folder(tmp_path, weights, plan) for weights in ("0" * 16, "1" * 16))
    assert one != other
    assert one.name.startswith("copy-")
    assert artifact_folder(tmp_path, "0" * 16, plan) == one


def test_the_artifact_carries_its_plan_and_the_outputs_it_was_saved_with(build: Callable[..., Path]) -> None:
    folder = build(A, B)
    artifact = read_artifact(folder)
    assert artifact.plan == Plan(steps=(A, B))
    with np.load(folder / "parity.npz") as saved:
        np.testing.assert_array_equal(saved["inputs"], tiny_models.examples())
        np.testing.assert_allclose(saved["outputs"], tiny_models.logits(saved["inputs"]), atol=1e-4)
        assert float(saved["tolerance"]) == 1e-6


def test_a_pass_that_fails_leaves_nothing_under_its_name(
    build: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = Step(name="breaks")
    kept = build(A)
    with pytest.raises(CannotApply, match="half-way"):
        build(A, broken)
    assert [p for p in kept.parent.iterdir() if p.suffix != ".part"] == [kept]
    monkeypatch.setattr(Breaks, "healed", True)  # what the failure left behind is out of the way of the next try
    assert read_artifact(build(A, broken)).plan == Plan(steps=(A, broken))
    assert not list(kept.parent.glob("*.part"))
    assert Copy.calls == ["a", "healed"]


def test_an_unfinished_folder_is_built_again(build: Callable[..., Path]) -> None:
    folder = build(A)
    (folder / "manifest.json").unlink()
    (folder / "model.onnx").write_bytes(b"half")
    assert build(A) == folder
    assert Copy.calls == ["a", "a"]
    assert load_runner(read_artifact(folder))(tiny_models.examples(2)).shape == (2, 10)


def test_a_step_that_does_not_take_the_form_before_it_says_so(build: Callable[..., Path]) -> None:
    with pytest.raises(CannotApply, match="nncf_int8 starts from openvino, not from onnxruntime"):
        build(A, Step(name="nncf_int8"))


def test_an_unknown_step_is_bad_input(build: Callable[..., Path]) -> None:
    with pytest.raises(InvalidInput, match="unknown technique 'prun'"):
        build(Step(name="prun"))


@pytest.mark.slow
def test_a_build_that_is_killed_leaves_nothing_under_its_name(
    sources: Sources, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources("onnxruntime")
    plan = Plan(steps=(Step(name="quantize_static"),))
    words = {
        "baseline": str(source.folder),
        "root": str(tmp_path / "artifacts"),
        "plan": plan,
        "examples": str(tiny_models.write_inputs(tmp_path / "inputs.npy")),
        "data": str(calibration),
    }
    target = artifact_folder(tmp_path / "artifacts", source.fingerprint(), plan)
    with Child("steelyard.passes.build:Builder", limits=Limits(seconds=120)) as child:
        child.start("build", **words)
        while not target.with_name(target.name + ".part").exists():
            assert child._process.poll() is None
        child.close()
    assert not target.exists()
    with Child("steelyard.passes.build:Builder", limits=Limits(seconds=120)) as child:
        assert Path(child.call("build", **words)) == target
        with pytest.raises(WorkerFailed):
            child.call("build")  # and a call without its arguments is an error, not the end
    assert read_artifact(target).plan == plan
    assert not target.with_name(target.name + ".part").exists()
