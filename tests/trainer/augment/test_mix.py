"""Mixing against the papers' formulas written out, and the shares against their Beta distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats
from torch import nn

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.trainer.augment import augmented, images
from steelyard.trainer.augment.chance import uniforms
from steelyard.trainer.augment.mix import partners
from steelyard.trainer.examples import Batch, Examples
from steelyard.trainer.objectives import cross_entropy, supervised

N = 40
CONTRACT = Contract(shape=(3, 12, 10), scale=1 / 255, labels=("a", "b", "c"))
RNG = np.random.default_rng(0)
DATA = Examples(RNG.integers(0, 256, (N, 3, 12, 10), dtype=np.uint8), RNG.integers(0, 3, N), CONTRACT)
ALL = np.arange(N)


def mixed(words: dict[str, float], index: np.ndarray = ALL, epoch: int = 0) -> Batch:
    return images.build(words, DATA, seed=9)(DATA.batch(index, epoch))


def test_mixup_is_its_formula() -> None:
    found, u = mixed({"mixup": 0.4}), uniforms(9 + 1, 0, ALL, 5)
    share = torch.from_numpy(stats.beta(0.4, 0.4).ppf(u[:, 2])).float()
    own, other = DATA.batch(ALL), DATA.batch(partners(u[:, 0], ALL, N))
    x = share[:, None, None, None] * own.inputs + (1 - share)[:, None, None, None] * other.inputs
    y = share[:, None] * F.one_hot(own.labels, 3) + (1 - share)[:, None] * F.one_hot(other.labels, 3)
    assert torch.allclose(found.inputs, x, atol=1e-5)
    assert torch.allclose(found.labels, y, atol=1e-5)


def test_cutmix_pastes_a_box_and_counts_its_pixels() -> None:
    found, u = mixed({"cutmix": 1.0}), uniforms(9 + 1, 0, ALL, 5)
    own, other = DATA.batch(ALL), DATA.batch(partners(u[:, 0], ALL, N))
    for i in range(N):
        side = np.sqrt(1 - u[i, 2])  # Beta(1, 1) is uniform
        box = np.zeros((12, 10), dtype=bool)
        y, x = u[i, 3] * 12, u[i, 4] * 10
        top, bottom = (int(np.clip(np.floor(y + s * side * 6), 0, 12)) for s in (-1, 1))
        left, right = (int(np.clip(np.floor(x + s * side * 5), 0, 10)) for s in (-1, 1))
        box[top:bottom, left:right] = True
        expected = torch.where(torch.from_numpy(box), other.inputs[i], own.inputs[i])
        assert torch.allclose(found.inputs[i], expected)
        share = 1 - box.mean()
        soft = share * F.one_hot(own.labels[i], 3) + (1 - share) * F.one_hot(other.labels[i], 3)
        assert torch.allclose(found.labels[i], soft.float(), atol=1e-5)


def test_both_take_turns_and_an_example_is_mixed_alike_in_every_batch() -> None:
    words = {"mixup": 0.5, "cutmix": 1.0, "flip": True, "colour": 0.2}
    whole, some = mixed(words, epoch=2), np.array([31, 4])
    part = mixed(words, some, epoch=2)
    assert torch.equal(part.inputs, whole.inputs[some])
    assert torch.equal(part.labels, whole.labels[some])
    assert torch.allclose(whole.labels.sum(1), torch.ones(N))


def test_partners_are_all_the_others_alike() -> None:
    u = uniforms(0, 0, np.arange(9000), 1)[:, 0]
    index = np.zeros(9000, dtype=np.int64) + 3
    found = np.bincount(partners(u, index, 10), minlength=10)
    assert found[3] == 0
    assert stats.chisquare(np.delete(found, 3)).pvalue > 1e-3


def test_soft_labels_pass_through_the_loops_objective() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(360, 3))
    batch = mixed({"mixup": 1.0})
    loss = supervised(cross_entropy(label_smoothing=0.1))(model, batch)
    logs = F.log_softmax(model(batch.inputs), dim=1)
    smooth = 0.9 * batch.labels + 0.1 / 3
    assert loss.item() == pytest.approx(-(smooth * logs).sum(1).mean().item(), rel=1e-5)


def test_real_valued_labels_and_features_are_mixed_too() -> None:
    contract = Contract(shape=(4,), layout="F")
    data = Examples(RNG.random((N, 4)).astype(np.float32), RNG.random(N).astype(np.float32), contract)
    made = augmented({"mixup": 0.4}, data, seed=9)[1]
    assert made is not None
    batch = made(data.batch(ALL))
    u = uniforms(9 + 1, 0, ALL, 5)
    share = stats.beta(0.4, 0.4).ppf(u[:, 2])
    other = partners(u[:, 0], ALL, N)
    expected = share * data.labels + (1 - share) * data.labels[other]
    assert np.allclose(batch.labels.numpy(), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "contract", "teacher", "said"),
    [
        ({"cutmix": 1}, Contract(shape=(360,), layout="F", labels=("a", "b")), None, "cutmix cuts pictures"),
        ({"mixup": 1}, Contract(shape=(3, 12, 10)), None, "number of classes"),
        ({"mixup": 1}, Contract(shape=(3, 12, 10), dtype="uint8", labels=("a", "b")), None, "only real numbers"),
        ({"mixup": 1}, CONTRACT, np.zeros((N, 3)), "a stored teacher"),
    ],
)
def test_what_cannot_be_mixed_is_refused(words, contract, teacher, said) -> None:  # type: ignore[no-untyped-def]
    data = Examples(np.zeros((N, *contract.shape), dtype=np.uint8), DATA.labels, contract, teacher)
    with pytest.raises(InvalidInput, match=said):
        images.build(words, data)
