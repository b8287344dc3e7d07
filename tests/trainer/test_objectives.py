"""Losses against their formulas, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, softmax
from torch import nn

from steelyard.errors import CannotApply, InvalidInput
from steelyard.records import Contract
from steelyard.trainer.examples import Batch, Examples
from steelyard.trainer.loop import fit
from steelyard.trainer.objectives import (
    FeatureDistillation,
    attention_map,
    attention_transfer,
    cross_entropy,
    distilled,
    hint,
    soft_targets,
    supervised,
)
from steelyard.trainer.recipe import Recipe

RNG = np.random.default_rng(0)
STUDENT, TEACHER = RNG.standard_normal((6, 5)), 2 * RNG.standard_normal((6, 5))
LABELS = RNG.integers(0, 5, 6)


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.asarray(array))


def _batch(inputs: torch.Tensor, teacher: torch.Tensor | None = None) -> Batch:
    return Batch(inputs, _tensor(LABELS), teacher, np.arange(len(inputs)))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 7.5])
def test_soft_targets_are_hintons(temperature: float) -> None:
    p = softmax(TEACHER / temperature, axis=1)
    q = softmax(STUDENT / temperature, axis=1)
    expected = temperature**2 * (p * np.log(p / q)).sum(axis=1).mean()
    assert float(soft_targets(_tensor(STUDENT), _tensor(TEACHER), temperature)) == pytest.approx(expected)


def test_hot_soft_targets_have_the_gradient_of_matched_logits() -> None:
    """Hinton et al. 2015, equation 4: at a high temperature, (z - v) / N for logits of zero mean; T^2 cancels the rest."""
    student = _tensor(STUDENT - STUDENT.mean(axis=1, keepdims=True)).requires_grad_()
    teacher = _tensor(TEACHER - TEACHER.mean(axis=1, keepdims=True))
    soft_targets(student, teacher, 1e3).backward()
    expected = (student - teacher).detach().numpy() / 5 / len(STUDENT)
    np.testing.assert_allclose(student.grad, expected, rtol=0.02, atol=1e-4)


def test_distillation_mixes_labels_and_teacher() -> None:
    model = nn.Identity()
    made = distilled(cross_entropy(), weight=0.3, temperature=2.0)(model, _batch(_tensor(STUDENT), _tensor(TEACHER)))
    hard = -log_softmax(STUDENT, axis=1)[np.arange(6), LABELS].mean()
    soft = float(soft_targets(_tensor(STUDENT), _tensor(TEACHER), 2.0))
    assert float(made) == pytest.approx(0.7 * hard + 0.3 * soft)


def test_probabilities_and_logits_give_one_loss() -> None:
    given = softmax(STUDENT, axis=1)
    by_logits = distilled(cross_entropy(), weight=0.5, temperature=3.0)
    by_shares = distilled(cross_entropy("probabilities"), weight=0.5, temperature=3.0, outputs="probabilities")
    one = by_logits(nn.Identity(), _batch(_tensor(STUDENT), _tensor(TEACHER)))
    other = by_shares(nn.Identity(), _batch(_tensor(given), _tensor(softmax(TEACHER, axis=1))))
    assert float(one) == pytest.approx(float(other))


def test_label_smoothing_spreads_the_label() -> None:
    target = np.full((6, 5), 0.1 / 5)
    target[np.arange(6), LABELS] += 0.9
    expected = -(target * log_softmax(STUDENT, axis=1)).sum(axis=1).mean()
    assert float(cross_entropy(label_smoothing=0.1)(_tensor(STUDENT), _tensor(LABELS))) == pytest.approx(expected)


def test_hints_are_half_the_squared_distance() -> None:
    expected = 0.5 * np.square(STUDENT - TEACHER).mean()
    assert float(hint(_tensor(STUDENT), _tensor(TEACHER))) == pytest.approx(expected)


def test_attention_is_the_normed_sum_of_squares_over_channels() -> None:
    student, teacher = RNG.standard_normal((3, 4, 5, 5)), RNG.standard_normal((3, 7, 5, 5))

    def attention(maps: np.ndarray) -> np.ndarray:
        summed = np.square(maps).sum(axis=1).reshape(len(maps), -1)
        return summed / np.linalg.norm(summed, axis=1, keepdims=True)

    np.testing.assert_allclose(attention_map(_tensor(student)), attention(student))
    expected = np.linalg.norm(attention(student) - attention(teacher), axis=1).mean()
    assert float(attention_transfer(_tensor(student), _tensor(teacher))) == pytest.approx(expected)


def test_tokens_attend_over_their_last_axis() -> None:
    tokens = RNG.standard_normal((2, 6, 8))
    expected = np.square(tokens).sum(axis=2)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(attention_map(_tensor(tokens)), expected)


def _net(width: int) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(16 * width, 5))


@pytest.mark.parametrize("kind", ["hint", "attention"])
def test_features_come_nearer_to_the_teachers(kind: str) -> None:
    teacher, student = _net(8), _net(3)
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    pictures = RNG.standard_normal((64, 1, 4, 4)).astype(np.float32)
    data = Examples(pictures, RNG.integers(0, 5, 64), Contract(shape=(1, 4, 4), labels=tuple("abcde")))
    objective = FeatureDistillation(
        lambda model, batch: 0.0 * model(batch.inputs).sum(), teacher, {"0": "0"}, weight=1.0, kind=kind
    ).prepare(student, torch.from_numpy(pictures[:2]))
    history = fit(student, data, Recipe(optimiser="adam", lr=0.02, epochs=20, batch=32), objective=objective)
    assert history.epoch_loss[-1] < 0.8 * history.epoch_loss[0]
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert sum(p.numel() for p in objective.parameters()) == (24 if kind == "hint" else 0)
    assert not student[0]._forward_hooks


def test_the_hint_adds_its_weight_times_the_distance_through_the_projection() -> None:
    teacher, student = _net(8), _net(3)
    inputs = torch.from_numpy(RNG.standard_normal((6, 1, 4, 4)).astype(np.float32))
    base = supervised(cross_entropy())
    objective = FeatureDistillation(base, teacher, {"0": "0"}, weight=2.5, kind="hint").prepare(student, inputs)
    projected = objective.projections["0"](student[0](inputs))
    expected = base(student, _batch(inputs)) + 2.5 * 0.5 * (projected - teacher[0](inputs)).square().mean()
    assert objective(student, _batch(inputs)).item() == pytest.approx(expected.item(), rel=1e-5)


def test_what_cannot_be_distilled_is_refused() -> None:
    with pytest.raises(InvalidInput, match="needs the teacher's outputs"):
        distilled(cross_entropy(), weight=0.5, temperature=1.0)(nn.Identity(), _batch(_tensor(STUDENT)))
    with pytest.raises(InvalidInput, match=r"temperature above 0, got 0\.5 and 0"):
        distilled(cross_entropy(), weight=0.5, temperature=0)
    with pytest.raises(InvalidInput, match="no layer 'body'; it has 0, 1, 2, 3"):
        FeatureDistillation(supervised(cross_entropy()), _net(8), {"body": "0"}, weight=1, kind="hint").prepare(
            _net(3), torch.zeros(2, 1, 4, 4)
        )
    with pytest.raises(CannotApply, match="pair like with like"):
        FeatureDistillation(supervised(cross_entropy()), _net(8), {"0": "3"}, weight=1, kind="hint").prepare(
            _net(3), torch.zeros(2, 1, 4, 4)
        )
    with pytest.raises(InvalidInput, match=r"the loss gave \(6,\): one number"):
        supervised(nn.CrossEntropyLoss(reduction="none"))(nn.Identity(), _batch(_tensor(STUDENT)))
