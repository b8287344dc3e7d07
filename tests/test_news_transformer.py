"""The Transformer of the examples: its shape, its stacking, and that it learns."""

from __future__ import annotations

import os
import runpy
from pathlib import Path

import numpy as np
import pytest

from steelyard.records import SubjectSpec
from steelyard.subject.load import load_subject

torch = pytest.importorskip("torch")
EXAMPLE = Path(__file__).parent.parent / "examples" / "news_transformer.py"


def test_it_has_the_shape_that_it_is_named_for() -> None:
    """6 layers: 4 w^2 + 4 w of attention, 8 w^2 + 5 w of the two linear layers, 4 w of the norms."""
    subject = load_subject(SubjectSpec(source=str(EXAMPLE), data="DIR"))
    width, length = 384, 32
    layer = 12 * width**2 + 13 * width
    around = 4096 * width + length * width + 2 * width + 10 * width + 10
    assert sum(p.numel() for p in subject.model.parameters()) == 6 * layer + around
    assert subject.contract.shape == (length,)
    codes = torch.from_numpy(subject.encode(["新闻", "x" * 40]))
    assert codes.shape == (2, length)
    assert (codes[0, 2:] == 0).all()
    with torch.inference_mode():
        assert subject.model.eval()(codes).shape == (2, len(subject.contract.labels))


def test_layers_are_stacked_as_copies() -> None:
    model = runpy.run_path(str(EXAMPLE))["NewsTransformer"]()
    model.depth = 2
    model.stack(6)
    for index in range(2, 6):
        one, other = model.layers[index].state_dict(), model.layers[index % 2].state_dict()
        assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.slow
@pytest.mark.needs_data
@pytest.mark.skipif("STEELYARD_DATA" not in os.environ, reason="STEELYARD_DATA names no data")
def test_the_loss_falls_on_a_few_titles() -> None:
    data = str(Path(os.environ["STEELYARD_DATA"]) / "thucnews")
    subject = load_subject(SubjectSpec(source=str(EXAMPLE), data=data))
    names = runpy.run_path(str(EXAMPLE))
    whole = subject.splits().train
    train = whole.take(np.random.default_rng(0).permutation(len(whole))[:1024])
    torch.manual_seed(0)
    labels = torch.from_numpy(train.labels).long()
    losses = list(names["train"](names["NewsTransformer"](), torch.from_numpy(train.inputs(subject.contract)), labels))
    assert len(losses) == 8 + 3
    assert losses[0] > 2.2
    assert np.mean(losses[5:8]) < losses[0] - 0.05  # then four layers more join, and need longer than three steps
