"""Activation checkpointing: the same outputs, gradients, dropout and running statistics, from fewer activations."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import nn

from small_training import some, weights
from steelyard.errors import InvalidInput
from steelyard.trainer.loop import fit
from steelyard.trainer.recipe import Recipe
from steelyard.trainer.recompute import blocks_of, checkpointed


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x)


def blocks() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Sequential(Residual(), Residual()), nn.Flatten(), nn.Linear(4 * 36, 10))


def plain() -> nn.Module:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(6):
        layers += [nn.Conv2d(1, 1, 3, padding=1), nn.BatchNorm2d(1), nn.Hardswish(inplace=True), nn.Dropout(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64, 10))


def _pass(model: nn.Module) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Outputs, gradients, and bytes that autograd keeps, of one pass."""
    kept = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal kept
        kept += tensor.nbytes
        return tensor

    torch.manual_seed(7)
    inputs = torch.randn(8, 1, 8, 8)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
        outputs = model.train()(inputs)
    outputs.square().mean().backward()
    gradients = torch.cat([p.grad.flatten() for p in model.parameters()])  # type: ignore[union-attr]
    return outputs.detach(), gradients, kept


@pytest.mark.parametrize("make", [blocks, plain])
def test_outputs_gradients_and_statistics_are_the_same_from_less(make: Any) -> None:
    theirs, ours = make(), make()
    expected = _pass(theirs)
    with checkpointed(ours, "auto"):
        found = _pass(ours)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(weights(ours), weights(theirs)), "running statistics moved once"
    assert found[2] < 0.6 * expected[2]
    assert "forward" not in vars(ours) and list(ours.state_dict()) == list(theirs.state_dict())  # noqa: PT018


def test_what_repeats_is_found() -> None:
    assert blocks_of(blocks()) == ("1.0", "1.1")
    assert blocks_of(plain()) == ("",)
    from torchvision.models import resnet18, vit_b_16

    assert len(blocks_of(resnet18())) == 8
    with torch.device("meta"):
        assert len(blocks_of(vit_b_16())) == 12


def test_a_copy_is_checkpointed_by_itself() -> None:
    model = blocks()
    with checkpointed(model, ("1.0",)):
        other = copy.deepcopy(model)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
        assert _pass(other)[0].abs().sum() > 0


def test_in_evaluation_nothing_is_made_again() -> None:
    model = blocks().eval()
    inputs = torch.randn(2, 1, 8, 8)
    expected = model(inputs)
    with checkpointed(model, "auto"):
        assert torch.equal(model(inputs), expected)


@pytest.mark.parametrize(
    ("make", "names", "words"),
    [
        (blocks, ("layer9",), "checkpointing: no layer 'layer9'; it has 0, 1"),
        (lambda: nn.Linear(2, 2), "auto", "no repeated block is found: name layers"),
    ],
)
def test_what_cannot_be_checkpointed_is_bad_input(make: Any, names: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words), checkpointed(make(), names):
        pass


@pytest.mark.parametrize("settings", [{}, {"amp": "bf16"}, {"ema": 0.5}])
def test_a_training_is_the_same_with_it(settings: dict[str, Any]) -> None:
    plainly, ours = blocks(), blocks()
    fit(plainly, some(64), Recipe(lr=0.05, epochs=2, batch=32, **settings))
    history = fit(ours, some(64), Recipe(lr=0.05, epochs=2, batch=32, checkpointing="auto", **settings))
    assert torch.equal(weights(ours), weights(plainly))
    assert history.said == ("activations of 2 block(s) are made again: 1.0, 1.1",)
