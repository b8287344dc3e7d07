"""Backbones, new classifiers, layers that are held, rates that fall towards the input, dropout."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from small_training import net, some, weights
from steelyard.errors import InvalidInput
from steelyard.trainer.examples import Batch
from steelyard.trainer.finetune import classifier_of, dropout_set, load_backbone, rate_groups
from steelyard.trainer.loop import fit
from steelyard.trainer.recipe import Recipe


def test_the_classifier_is_the_last_layer_with_outputs() -> None:
    from torchvision.models import mobilenet_v3_small, resnet18, squeezenet1_1

    with torch.device("meta"):
        assert classifier_of(resnet18()) == "fc"
        assert classifier_of(mobilenet_v3_small()) == "classifier.3"
        assert classifier_of(squeezenet1_1()) == "classifier.1"
    with pytest.raises(InvalidInput, match="not known which layer classifies"):
        classifier_of(nn.Sequential(nn.ReLU()))


def test_a_backbone_of_other_classes_leaves_the_classifier_as_it_was(tmp_path: Path) -> None:
    model, other = net(norm=True), net(norm=True)
    other[-1] = nn.Linear(72, 3)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.fill_(0.5)
    torch.save({f"module.{name}": tensor for name, tensor in other.state_dict().items()}, tmp_path / "b.pt")
    head = model[-1].weight.clone()
    assert load_backbone(model, tmp_path / "b.pt") == (
        f"7 of 9 tensors are from {tmp_path / 'b.pt'}; new: 5.weight, 5.bias"
    )
    assert torch.equal(model[-1].weight, head)
    assert (model[0].weight == 0.5).all()


def test_what_is_no_backbone_is_named_by_its_tensor(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Conv2d(1, 4, 3)).state_dict(), tmp_path / "b.pt")
    with pytest.raises(
        InvalidInput, match=r"no backbone of this model: 0\.weight \(8, 1, 3, 3\) has shape \(4, 1, 3, 3\)"
    ):
        load_backbone(net(), tmp_path / "b.pt")


def test_layers_are_held_for_the_epochs_that_the_recipe_says() -> None:
    model = net(norm=True, dropout=0.5)
    start = {name: value.clone() for name, value in model.state_dict().items()}
    seen: list[tuple[bool, bool, bool]] = []

    def objective(inner: nn.Module, batch: Batch) -> torch.Tensor:
        body = {n: v for n, v in inner.state_dict().items() if not n.startswith("5.")}
        same = all(torch.equal(value, start[name]) for name, value in body.items())
        seen.append((same, inner[1].training, inner[4].training))
        return nn.functional.cross_entropy(inner(batch.inputs), batch.labels)

    fit(model, some(), Recipe(lr=0.05, epochs=3, batch=100, freeze=2, weight_decay=0.1), objective=objective)
    assert seen[:6] == [(True, False, False)] * 6, "held body, with its norms and dropout as in evaluation"
    assert seen[6] == (True, True, True)
    assert not seen[-1][0]
    assert not torch.equal(model[5].weight, start["5.weight"])
    assert all(p.requires_grad for p in model.parameters())


def test_rates_fall_by_layer_and_a_norm_goes_with_its_layer() -> None:
    model = nn.Sequential(
        nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Sequential(nn.Conv2d(2, 2, 1)), nn.Flatten(), nn.Linear(2, 2)
    )
    groups = rate_groups(model, list(model.parameters()), 0.1, 0.5)
    assert [group["initial_lr"] for group in groups] == pytest.approx([0.025, 0.05, 0.1])
    assert [len(group["params"]) for group in groups] == [4, 2, 2]
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    model[0].requires_grad_(False)
    learned = [p for p in model.parameters() if p.requires_grad]
    assert [g["initial_lr"] for g in rate_groups(model, learned, 0.1, 0.5)] == pytest.approx([0.025, 0.05, 0.1])
    assert len(rate_groups(model, learned, 0.1, None)) == 1


def test_every_parameter_of_a_transformer_has_one_rate() -> None:
    model: Any = nn.Module()
    model.embed = nn.Embedding(5, 8)
    model.layers = nn.ModuleList(nn.TransformerEncoderLayer(8, 2, 16, norm_first=True) for _ in range(2))
    model.head = nn.Linear(8, 2)
    groups = rate_groups(model, list(model.parameters()), 1.0, 0.5)
    assert [group["initial_lr"] for group in groups] == [0.125, 0.25, 0.5, 1.0]
    assert sorted(id(p) for g in groups for p in g["params"]) == sorted(id(p) for p in model.parameters())


def test_layers_with_a_rate_of_their_own_move_by_it() -> None:
    """Plain SGD: a step is the rate times the gradient."""
    one, other = net(), net()
    fit(one, some(), Recipe(lr=0.1, steps=1, batch=300, momentum=0.0))
    fit(other, some(), Recipe(lr=0.1, steps=1, batch=300, momentum=0.0, layer_decay=0.25))
    start = net()
    for name, share in (("0.weight", 0.25), ("4.weight", 1.0)):
        before = start.state_dict()[name]
        torch.testing.assert_close(
            other.state_dict()[name] - before, share * (one.state_dict()[name] - before), rtol=1e-3, atol=1e-6
        )


# --- dropout ------------------------------------------------------------------------------------------------


def test_dropout_layers_that_are_there_are_set_for_the_training() -> None:
    model = net(dropout=0.1)
    with dropout_set(model, 0.6) as said:
        assert model[3].p == 0.6
        assert said == "dropout 0.6 in 1 layer(s) that were there"
    assert model[3].p == 0.1


def test_where_there_is_none_one_stands_before_the_classifier() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 1000, bias=False))
    nn.init.eye_(model[1].weight)
    names = list(model.state_dict())
    ones = torch.ones(4, 1, 8, 8)
    with dropout_set(model, 0.5) as said:
        assert said == "dropout 0.5 before 1, as the model has none of its own"
        torch.manual_seed(0)
        found = model.train()(ones)[:, :64]
        torch.manual_seed(0)
        expected = nn.functional.dropout(ones.flatten(1), 0.5)
        assert torch.equal(found, expected)
        assert torch.equal(model.eval()(ones)[:, :64], ones.flatten(1))
        assert list(model.state_dict()) == names
    assert torch.equal(model.train()(ones)[:, :64], ones.flatten(1))


def test_the_recipes_dropout_reaches_the_loop() -> None:
    plain, dropped = net(), net()
    fit(plain, some(), Recipe(lr=0.05, steps=3, batch=64))
    history = fit(dropped, some(), Recipe(lr=0.05, steps=3, batch=64, dropout=0.5))
    assert not torch.equal(weights(plain), weights(dropped))
    assert history.said == ("dropout 0.5 in 1 layer(s) that were there",)
    assert np.isfinite(history.loss).all()
