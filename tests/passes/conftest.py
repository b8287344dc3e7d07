"""The tiny net as a source in every engine's form, and nets to train, built once; frameworks' own settings are put back afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import tiny_models
import trained_models
from steelyard.passes import to_pass
from steelyard.passes.bench import Bench
from steelyard.records import Step
from steelyard.subject.artifact import Artifact, write_manifest


@pytest.fixture(autouse=True)
def _log_level() -> Iterator[None]:
    """Quantisers quieten the root logger, which is right in a child and not here."""
    root = logging.getLogger()
    level = root.level
    yield
    root.setLevel(level)


@pytest.fixture(scope="session")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """The tiny net for ``eager``, ``torch``, ``onnxruntime`` or ``openvino``."""
    root = tmp_path_factory.mktemp("sources")
    made: dict[str, Artifact] = {}

    def source(engine: str) -> Artifact:
        if engine not in made:
            made[engine] = _make(engine, root)
        return made[engine]

    def _make(engine: str, root: Path) -> Artifact:
        folder = root / engine
        if engine == "eager":
            return tiny_models.eager_artifact(folder)
        if engine == "onnxruntime":
            return tiny_models.onnx_artifact(folder)
        folder.mkdir()
        step = Step(name="export" if engine == "torch" else "openvino")
        start = source("eager" if engine == "torch" else "onnxruntime")
        built = to_pass(step).apply(start, Bench(folder=folder, examples=tiny_models.examples()))
        write_manifest(built.artifact)
        return built.artifact

    return source


@pytest.fixture(scope="session")
def calibration(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with training examples and nothing else: validation and test are not there to be looked at."""
    return tiny_models.write_data(tmp_path_factory.mktemp("data"), ("calibration", "train"))


@pytest.fixture(scope="module")
def nets(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Artifact]:
    """The nets of `trained_models` as artifacts, each made once."""
    root = tmp_path_factory.mktemp("nets")
    made: dict[str, Artifact] = {}

    def net(name: str) -> Artifact:
        if name not in made:
            made[name] = trained_models.artifact(root / name, name)
        return made[name]

    return net
