"""What a net that knows something already needs: its weights, a new classifier, layers held, slower rates below.

Sources: Howard and Ruder 2018 (rates that differ by layer, gradual unfreezing), Hinton et al. 2012 (dropout).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from steelyard.errors import InvalidInput
from steelyard.subject.safe import read_weights

__all__ = ["classifier_of", "dropout_set", "hold_body", "load_backbone", "rate_groups"]


def classifier_of(model: nn.Module) -> str:
    """The name of the layer that makes the outputs: the last linear one, or the last convolution.

    Raises `InvalidInput` where there is neither.
    """
    for kind in (nn.Linear, nn.Conv2d):
        names: list[str] = [name for name, layer in model.named_modules() if isinstance(layer, kind)]
        if names:
            return names[-1]
    raise InvalidInput("the model has no linear layer nor convolution: it is not known which layer classifies")


def load_backbone(model: nn.Module, path: Path) -> str:
    """Take the weights that fit from a file, and leave the rest as they are; in words, which.

    Raises `InvalidInput` where a tensor below the classifier does not fit.
    """
    given = {name.removeprefix("module."): tensor for name, tensor in read_weights(path).items()}
    own = model.state_dict()
    fitting = {name: given[name] for name, tensor in own.items() if name in given and given[name].shape == tensor.shape}
    new = [name for name in own if name not in fitting]
    head = classifier_of(model)
    strange = next((name for name in new if name.rpartition(".")[0] != head), None)
    if strange is not None:
        reason = f"has shape {tuple(given[strange].shape)} there" if strange in given else "is missing there"
        raise InvalidInput(
            f"{path} is no backbone of this model: {strange} {tuple(own[strange].shape)} {reason}; only the classifier "
            f"{head!r} may differ"
        )
    model.load_state_dict(fitting, strict=False)
    return f"{len(fitting)} of {len(own)} tensors are from {path}" + (f"; new: {', '.join(new)}" if new else "")


@contextmanager
def dropout_set(model: nn.Module, probability: float | None) -> Iterator[str]:
    """In the block, every dropout layer drops with this probability; where there is none, one stands before the classifier.

    That one is a hook, so that the weights keep their names. Gives what was done, in words.
    """
    if probability is None:
        yield ""
        return
    layers = [layer for layer in model.modules() if isinstance(layer, _DropoutNd)]
    before = [layer.p for layer in layers]
    for layer in layers:
        layer.p = probability
    if layers:
        yield f"dropout {probability:g} in {len(layers)} layer(s) that were there"
    else:
        yield from _before_classifier(model, probability)
    for layer, old in zip(layers, before, strict=True):
        layer.p = old


def _before_classifier(model: nn.Module, probability: float) -> Iterator[str]:
    name = classifier_of(model)

    def drop(layer: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return F.dropout(inputs[0], probability, layer.training), *inputs[1:]

    hook = model.get_submodule(name).register_forward_pre_hook(drop)
    try:
        yield f"dropout {probability:g} before {name or 'the net'}, as the model has none of its own"
    finally:
        hook.remove()


def hold_body(model: nn.Module, learned: Sequence[nn.Parameter], *, held: bool) -> None:
    """Hold all but the classifier, with its norms and dropout as in evaluation; or let it learn again."""
    head = model.get_submodule(classifier_of(model))
    own = {id(parameter) for parameter in head.parameters()}
    for parameter in learned:
        parameter.requires_grad_(not held or id(parameter) in own)
    for layer in model.modules():
        if held and layer is not head and not any(True for _ in layer.children()):
            layer.eval()


def rate_groups(
    model: nn.Module, learned: Sequence[nn.Parameter], lr: float, layer_decay: float | None
) -> list[dict[str, Any]]:
    """The optimiser's groups: one, or a group for each layer whose rate is `layer_decay` times that of the layer after it."""
    if layer_decay is None:
        return [{"params": list(learned), "initial_lr": lr}]
    own = {id(parameter) for parameter in learned}
    layers: dict[str, list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        layers.setdefault(_layer(model, name), []).append(parameter)
    groups: list[list[nn.Parameter]] = []
    for held in layers.values():
        if groups and all(parameter.ndim < 2 for parameter in held):  # a norm goes with what it normalises
            groups[-1] += held
        else:
            groups.append(held)
    known = {id(p) for p in model.parameters()}
    groups[-1] += [p for p in learned if id(p) not in known]  # the objective's own
    depth = len(groups) - 1
    rated = [([p for p in group if id(p) in own], lr * layer_decay ** (depth - at)) for at, group in enumerate(groups)]
    return [{"params": group, "initial_lr": rate} for group, rate in rated if group]


def _layer(model: nn.Module, name: str) -> str:
    """The layer a parameter is of: the member of the outermost sequence, or the net's own part.

    >>> net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.Linear(2, 2)))
    >>> [_layer(net, name) for name, _ in net.named_parameters()]
    ['0', '0', '1', '1']
    """
    parts = name.split(".")[:-1]
    inner: nn.Module = model
    for at, part in enumerate(parts):
        if isinstance(inner, nn.Sequential | nn.ModuleList):
            return ".".join(parts[: at + 1])
        inner = inner.get_submodule(part)
    return ".".join(parts[:1])
