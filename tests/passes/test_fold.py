"""Folding against PyTorch's own fusion of modules, and what cannot be folded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from steelyard.passes.fold import fold
from steelyard.passes.modules import export_program, outputs_of


def settled(module: Any) -> Any:
    """Statistics and weights of the normalisations that are none of the defaults."""
    generator = torch.Generator().manual_seed(0)
    for layer in module.modules():
        if hasattr(layer, "running_var"):
            layer.running_mean = torch.randn(layer.running_mean.shape, generator=generator)
            layer.running_var = torch.rand(layer.running_var.shape, generator=generator) + 0.5
            if layer.weight is not None:
                layer.weight.data = torch.randn(layer.weight.shape, generator=generator)
                layer.bias.data = torch.randn(layer.bias.shape, generator=generator)
    return module.eval()


def examples(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal((4, *shape)).astype(np.float32)


def folded(module: Any, inputs: Any) -> tuple[Any, list[str], list[str]]:
    program = export_program(module, inputs).module()
    done, left = fold(program)
    return program, done, left


def norms(program: Any) -> int:
    return sum("batch_norm" in str(node.target) for node in program.graph.nodes)


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([nn.Conv2d(3, 5, 3, stride=2, padding=1), nn.BatchNorm2d(5), nn.ReLU()], (3, 8, 8)),
        ([nn.Conv2d(4, 8, 3, groups=4, bias=False), nn.BatchNorm2d(8)], (4, 8, 8)),
        ([nn.Conv1d(2, 3, 3), nn.BatchNorm1d(3)], (2, 9)),
        ([nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4, affine=False)], (2, 8, 8)),
        ([nn.ConvTranspose2d(3, 5, 3, stride=2), nn.BatchNorm2d(5)], (3, 4, 4)),
        ([nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Tanh()], (6,)),
        ([nn.Linear(6, 4, bias=False), nn.BatchNorm1d(4, affine=False)], (6,)),
    ],
    ids=["conv2d", "depthwise", "conv1d", "plain", "transposed", "linear", "linear-plain"],
)
def test_it_is_the_same_function_with_no_normalisation_left(layers: list[Any], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    module, inputs = settled(nn.Sequential(*layers)), examples(*shape)
    program, done, left = folded(module, inputs)
    assert (len(done), left, norms(program)) == (1, [], 0)
    np.testing.assert_allclose(outputs_of(program, inputs), outputs_of(module, inputs), atol=1e-5)
    assert done[0].endswith("0"), "the layer is named"
    held = sum(p.numel() for p in (*program.parameters(), *program.buffers()))
    first = layers[0]
    assert held == first.weight.numel() + layers[1].num_features, "weights, a bias, and nothing that was folded"


def test_the_weights_are_those_of_pytorchs_own_fusion() -> None:
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    conv, norm = nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)
    module, inputs = settled(nn.Sequential(conv, norm)), examples(3, 8, 8)
    program, _, _ = folded(module, inputs)
    expected = fuse_conv_bn_eval(conv, norm)
    parameters = dict(program.named_parameters())
    torch.testing.assert_close(parameters["folded_0_weight"], expected.weight)
    torch.testing.assert_close(parameters["folded_0_bias"], expected.bias)


class Shared(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mixer, self.one, self.two = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2), nn.BatchNorm2d(2)
        self.last, self.three = nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3)

    def forward(self, inputs: Any) -> Any:
        return self.three(self.last(self.two(self.mixer(self.one(self.mixer(inputs))))))


class Forked(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)

    def forward(self, inputs: Any) -> Any:
        hidden = self.conv(inputs)
        return hidden + self.norm(hidden)


def test_a_layer_that_serves_twice_is_left_and_named() -> None:
    module, inputs = settled(Shared()), examples(2, 4, 4)
    program, done, left = folded(module, inputs)
    assert [name.rpartition(".")[2] for name in done] == ["last"]
    assert len(left) == 2
    assert all("mixer serve at 2 places" in said for said in left)
    np.testing.assert_allclose(outputs_of(program, inputs), outputs_of(module, inputs), atol=1e-5)


@pytest.mark.parametrize(
    ("module", "shape", "words"),
    [
        (Forked(), (2, 4, 4), "the output of conv goes elsewhere too"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(2)), (2, 4, 4), "it follows relu, which is no convolution"),
        (nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(5)), (5, 6), "gives a sequence"),
    ],
    ids=["forked", "after-relu", "sequence"],
)
def test_what_cannot_be_folded_is_said(module: Any, shape: tuple[int, ...], words: str) -> None:
    program, done, left = folded(settled(module), examples(*shape))
    assert (done, norms(program), len(left)) == ([], 1, 1)
    assert words in left[0].replace("the output of L['self'].conv", "the output of conv")


def test_a_normalisation_in_training_is_left() -> None:
    module = settled(nn.Sequential(nn.Conv2d(2, 2, 1), nn.BatchNorm2d(2)))
    module[1].train()
    _, done, left = folded(module, examples(2, 4, 4))
    assert not done
    assert "by the batch at hand, as in training" in left[0]
