"""What holds for every pass. A new pass gets these tests by inheriting `PassContract` and naming its own facts."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny_models
from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes import PASSES, to_pass
from steelyard.passes.bench import Bench, Built
from steelyard.passes.build import Builder
from steelyard.records import Plan, Scalar, Step
from steelyard.subject.artifact import Artifact, read_artifact, write_manifest
from steelyard.subject.engines import ENGINES, load_runner

Sources = Callable[[str], Artifact]


class PassContract:
    """Inherit, and set the class variables."""

    name: ClassVar[str]  # in PASSES
    options: ClassVar[tuple[tuple[str, Scalar], ...]] = ()
    source: ClassVar[str]  # an engine that it takes
    gives: ClassVar[str]  # the engine of what it makes
    needs_data: ClassVar[bool] = False
    loss: ClassVar[float] = 1e-5  # root mean square change of the outputs, as a share of their standard deviation
    across_batches: ClassVar[float] = 1e-3  # the largest that an output may depend on the batch it is in

    @pytest.fixture(scope="class")
    @classmethod
    def built(cls, sources: Sources, calibration: Path, tmp_path_factory: pytest.TempPathFactory) -> Built:
        folder = tmp_path_factory.mktemp(cls.name)
        source = sources(cls.source)
        before = _contents(source.folder)
        built = cls._apply(source, folder, calibration if cls.needs_data else None)
        assert _contents(source.folder) == before, "the source must stay as it was, byte for byte"
        write_manifest(built.artifact)
        return built

    @classmethod
    def _step(cls) -> Step:
        return Step(name=cls.name, options=cls.options)

    @classmethod
    def _apply(cls, source: Artifact, folder: Path, data: Path | None) -> Built:
        bench = Bench(folder=folder, examples=tiny_models.examples(), data=data, teacher=source)
        return to_pass(cls._step()).apply(source, bench)

    def test_the_artifact_is_complete_and_of_the_engine_named(self, built: Built) -> None:
        assert built.artifact.engine == self.gives
        assert built.artifact.path.is_file()
        again = read_artifact(built.artifact.folder)
        assert again.engine == self.gives
        assert again.contract == tiny_models.CONTRACT
        assert again.options == dict(built.artifact.options)

    def test_reloaded_it_gives_the_outputs_it_was_saved_with(self, built: Built) -> None:
        runner = load_runner(read_artifact(built.artifact.folder))
        outputs = runner(tiny_models.examples())
        assert _difference(outputs, built.outputs) <= built.tolerance

    def test_it_agrees_with_the_net_written_in_numpy(self, built: Built) -> None:
        examples = tiny_models.examples()
        assert built.outputs.shape == (len(examples), 10)
        expected = tiny_models.logits(examples)
        assert np.sqrt(np.square(built.outputs - expected).mean()) <= self.loss * expected.std()

    def test_any_batch_size_gives_the_same(self, built: Built) -> None:
        runner = load_runner(read_artifact(built.artifact.folder))
        examples = tiny_models.examples(6)
        together = runner(examples)
        singly = np.concatenate([runner(examples[i : i + 1]) for i in range(6)])
        assert _difference(singly, together) <= self.across_batches

    def test_the_predicted_classes_stay(self, built: Built) -> None:
        before = tiny_models.logits(tiny_models.examples()).argmax(axis=1)
        assert (built.outputs.argmax(axis=1) == before).mean() >= 0.9

    def test_the_config_is_frozen_hashable_and_equal_to_itself(self) -> None:
        technique = to_pass(self._step())
        assert type(technique) is PASSES[self.name]
        assert technique == to_pass(self._step())
        assert hash(technique) == hash(to_pass(self._step()))
        assert technique.__dataclass_params__.frozen  # type: ignore[attr-defined]
        assert self._step() in {self._step()}
        assert to_pass(Step(name=self.name, options=_options_of(technique))) == technique

    def test_an_unknown_option_is_refused(self) -> None:
        with pytest.raises(InvalidInput, match=self.name):
            to_pass(Step(name=self.name, options=(("bitz", 3),)))

    def test_it_names_engines_that_exist(self) -> None:
        takes = to_pass(self._step()).takes
        assert takes <= set(ENGINES)
        assert self.source in takes

    def test_a_source_of_another_engine_is_refused(self, sources: Sources, tmp_path: Path) -> None:
        takes = to_pass(self._step()).takes
        for engine in sorted({"eager", "onnxruntime"} - takes):
            source = sources(engine)
            with pytest.raises(CannotApply, match=f"{self.name} starts from .*, not from {engine}"):
                _build(source, Plan(steps=(self._step(),)), tmp_path, None)

    def test_without_data_it_works_or_says_that_it_needs_some(self, sources: Sources, tmp_path: Path) -> None:
        if not self.needs_data:
            return  # it was built without any
        with pytest.raises(CannotApply, match="needs training data"):
            self._apply(sources(self.source), tmp_path, None)


def _build(source: Artifact, plan: Plan, root: Path, data: Path | None) -> Path:
    examples = tiny_models.write_inputs(root / "inputs.npy")
    folder = str(source.folder)
    return Path(
        Builder().build(folder, str(root / "artifacts"), plan, str(examples), None if data is None else str(data))
    )


def _options_of(technique: object) -> tuple[tuple[str, Scalar], ...]:
    return tuple((f.name, getattr(technique, f.name)) for f in dataclasses.fields(technique))  # type: ignore[arg-type]


def _contents(folder: Path) -> dict[str, bytes]:
    files = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return {str(p.relative_to(folder)): p.read_bytes() for p in files}


def _difference(outputs: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """The largest, as a share of the expected outputs' standard deviation."""
    return float(np.abs(outputs - expected).max() / expected.std())
