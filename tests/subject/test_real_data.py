"""Real sets, as published: counts, shapes and one published accuracy."""

import numpy as np
import pytest

from steelyard.records import Contract
from steelyard.subject.artifact import Artifact
from steelyard.subject.contract import prepare
from steelyard.subject.data import read_data
from steelyard.subject.engines import load_runner
from steelyard.subject.engines.onnxruntime import signature
from steelyard.subject.splits import overlaps

pytestmark = pytest.mark.needs_data


@pytest.fixture
def folder(real_data, request):
    """The set that the test names; a test whose set is not there is skipped."""
    path = real_data / request.param
    if not path.exists():
        pytest.skip(f"{path} is not there")
    return path


def sizes(splits):
    return [len(s) for _, s in splits.items()]


@pytest.mark.parametrize("folder", ["fashion-mnist"], indirect=True)
def test_fashion_mnist(folder):
    splits = read_data(str(folder), Contract(shape=(1, 28, 28)))
    assert sizes(splits) == [50_000, 10_000, 10_000]
    assert splits.test.raw.shape == (10_000, 1, 28, 28)
    assert splits.test.raw.dtype == np.uint8
    assert np.bincount(splits.test.labels).tolist() == [1000] * 10
    assert np.bincount(splits.validation.labels).tolist() == [1000] * 10
    pixels = np.concatenate([splits.train.raw, splits.validation.raw])
    assert pixels.mean() / 255 == pytest.approx(0.2860, abs=1e-4)
    assert pixels.std() / 255 == pytest.approx(0.3530, abs=1e-4)


@pytest.mark.parametrize("folder", ["hymenoptera"], indirect=True)
def test_hymenoptera(folder):
    contract = Contract(shape=(3, 64, 64))
    splits = read_data(str(folder), contract)
    assert splits.labels == ("ants", "bees")
    assert len(splits.train) + len(splits.validation) == 245
    assert np.bincount(splits.test.labels).tolist() == [70, 83]
    pictures = splits.test.raw[np.arange(4)]
    assert pictures.shape == (4, 3, 64, 64)
    assert pictures.std() > 20


@pytest.mark.parametrize("folder", ["mammography/mammography.csv"], indirect=True)
def test_mammography(folder):
    splits = read_data(str(folder), Contract(shape=(6,), layout="F"))
    assert sum(sizes(splits)) == 11_183
    assert splits.labels == ("'-1'", "'1'")
    for split in dict(splits.items()).values():
        assert split.raw.shape[1:] == (6,)
        assert split.labels.mean() == pytest.approx(260 / 11_183, abs=5e-4)
    assert any(o.count for o in overlaps(splits))  # the set is known to repeat rows


@pytest.mark.parametrize("folder", ["mnist"], indirect=True)
def test_mnist_8_gives_its_published_accuracy(folder):
    """The ONNX model zoo's network, whose batch axis is fixed at 1, on the 10,000 pictures with values 0-255."""
    pytest.importorskip("onnxruntime")
    assert signature(folder / "mnist-8.onnx") == ((1, 28, 28), "float32", 10)
    contract = Contract(shape=(1, 28, 28), labels=tuple("0123456789"))
    runner = load_runner(Artifact(folder=folder, engine="onnxruntime", file="mnist-8.onnx", contract=contract))
    splits = read_data(str(folder), contract)
    assert sizes(splits) == [6000, 2000, 2000]
    right = sum(
        int((runner(prepare(contract, chunk)).argmax(axis=1) == labels).sum())
        for split in dict(splits.items()).values()
        for chunk, labels in zip(split.chunks(), np.split(split.labels, range(256, len(split), 256)), strict=True)
    )
    assert right == 9891
