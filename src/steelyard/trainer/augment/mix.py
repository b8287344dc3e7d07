"""Two examples in one: mixup (Zhang et al. 2018) and CutMix (Yun et al. 2019), with labels that say how much of each.

An example's partner is drawn from the whole set rather than from its batch, so that what the net sees does not depend on the
size of a batch, on its parts or on the number of processes. It costs reading the partner.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy.special import betaincinv

from steelyard.errors import InvalidInput
from steelyard.trainer.augment.chance import uniforms
from steelyard.trainer.examples import Batch, Examples

__all__ = ["mixing", "partners"]

Floats = NDArray[np.float64]
Change = Callable[[Batch], Batch]

_STREAM = 1  # beside the seed: these draws are others than those of the pictures


def mixing(mixup: float, cutmix: float, examples: Examples, change: Change, *, seed: int) -> Change:
    """What mixes every example with a partner that `change` has changed too, by shares drawn from Beta(a, a).

    `mixup` and `cutmix` are the a; 0 leaves that way out, and where both are given each example draws one. Class indices become
    shares ``(n, classes)``; labels that are numbers are mixed as they are. Raises `InvalidInput` where that makes no sense.
    """
    _check(examples, cutmix)
    layout, classes = examples.contract.layout, len(examples.contract.labels)

    def mixed(batch: Batch) -> Batch:
        u = uniforms(seed + _STREAM, batch.epoch, batch.index, 5)
        partner = partners(u[:, 0], batch.index, len(examples))
        other = change(examples.batch(partner, batch.epoch).to(batch.inputs.device))
        cut = u[:, 1] * ((mixup > 0) + (cutmix > 0)) < (cutmix > 0)
        share = np.where(cut, _beta(u[:, 2], cutmix), _beta(u[:, 2], mixup))
        weight = torch.from_numpy(share).to(batch.inputs)[(...,) + (None,) * (batch.inputs.ndim - 1)]
        if cut.any():
            boxes = _boxes(share, u[:, 3:], [examples.contract.shape[layout.index(axis)] for axis in "HW"])
            share = np.where(cut, 1 - boxes.mean(axis=(1, 2)), share)
            kept = _along(torch.from_numpy(~boxes).to(batch.inputs), layout)
            weight = torch.where(torch.from_numpy(cut).to(weight.device).view_as(weight), kept, weight)
        inputs = weight * batch.inputs + (1 - weight) * other.inputs
        labels = _soft(batch.labels, other.labels, share, classes)
        return Batch(inputs, labels, None, batch.index, batch.epoch)

    return mixed


def partners(u: Floats, index: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The example that each is mixed with: any but itself, of `count`.

    >>> partners(np.array([0.0, 0.5, 0.99]), np.array([0, 0, 2]), 3).tolist()
    [1, 2, 1]
    """
    return np.asarray((index + 1 + np.floor(u * (count - 1)).astype(np.int64)) % count)


def _check(examples: Examples, cutmix: float) -> None:
    contract = examples.contract
    if examples.teacher is not None:
        raise InvalidInput("augment: a stored teacher has not seen mixed examples: leave out mixup and cutmix")
    if not contract.dtype.startswith("float"):
        raise InvalidInput(f"augment: the model takes {contract.dtype}, and only real numbers can be mixed")
    if cutmix and not {"H", "W"} <= set(contract.layout):
        raise InvalidInput(f"augment: cutmix cuts pictures, and the model's inputs are {contract.layout!r}: use mixup")
    if examples.labels.dtype.kind in "iu" and len(contract.labels) < 2:
        raise InvalidInput("augment: mixed labels need the number of classes: declare labels=... in the contract")


def _beta(u: Floats, a: float) -> Floats:
    """Draws from Beta(a, a), by the inverse of its distribution."""
    return np.asarray(betaincinv(a, a, u)) if a else np.ones_like(u)


def _boxes(share: Floats, place: Floats, size: list[int]) -> NDArray[np.bool_]:
    """The part ``(n, H, W)`` that the partner takes: sides by sqrt(1 - share), the middle anywhere (Yun et al., equation 2)."""
    sides = np.sqrt(1 - share)
    inside = []
    for axis, length in enumerate(size):
        middle = place[:, axis] * length
        low = np.clip(np.floor(middle - sides * length / 2), 0, length)[:, None]
        high = np.clip(np.floor(middle + sides * length / 2), 0, length)[:, None]
        at = np.arange(length)[None, :]
        inside.append((at >= low) & (at < high))
    return np.asarray(inside[0][:, :, None] & inside[1][:, None, :])


def _along(masks: torch.Tensor, layout: str) -> torch.Tensor:
    """Masks ``(n, H, W)`` with their axes where the inputs ``(n, *layout)`` have them."""
    if layout.index("H") > layout.index("W"):
        masks = masks.transpose(1, 2)
    for axis in (i for i, letter in enumerate(layout) if letter not in "HW"):
        masks = masks.unsqueeze(1 + axis)
    return masks


def _soft(labels: torch.Tensor, others: torch.Tensor, share: Floats, classes: int) -> torch.Tensor:
    if not labels.is_floating_point():
        labels, others = (F.one_hot(one, classes).to(torch.float32) for one in (labels, others))
    weight = torch.from_numpy(share).to(labels)[(...,) + (None,) * (labels.ndim - 1)]
    return weight * labels + (1 - weight) * others
