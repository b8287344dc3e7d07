"""A contract whose inputs are normalised by what the training examples are like, so that it holds wherever the model runs."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.subject.splits import Split

__all__ = ["How", "normalised"]

How = Literal["min-max", "standardise"]


def normalised(contract: Contract, split: Split, how: How) -> Contract:
    """The contract with the mean and std that bring `split` to 0 to 1, or to mean 0 and standard deviation 1, per channel.

    Normalisation is no augmentation: validation, test and use need it too. So it belongs in the contract, and into the
    subject. Raises `InvalidInput` for a channel that never changes.

    >>> split = Split(raw=np.array([[[[0, 10]]], [[[20, 50]]]], dtype=np.uint8), labels=np.zeros(2, dtype=np.int32))
    >>> normalised(Contract(shape=(1, 1, 2), scale=0.1), split, "min-max").std
    (5.0,)
    """
    if how not in get_args(How):
        raise InvalidInput(f"normalisation is {' or '.join(get_args(How))}, got {how!r}")
    axis = contract.layout.find("C")
    count, total, squares, low, high = 0, 0.0, 0.0, np.inf, -np.inf
    for chunk in split.chunks():
        values = (
            np.moveaxis(chunk, 1 + axis, 0).reshape(chunk.shape[1 + axis], -1) if axis >= 0 else chunk.reshape(1, -1)
        )
        values = values.astype(np.float64) * contract.scale
        count += values.shape[1]
        total, squares = total + values.sum(1), squares + np.square(values).sum(1)
        low, high = np.minimum(low, values.min(1)), np.maximum(high, values.max(1))
    mean = np.asarray(total) / count
    spread = np.sqrt(np.maximum(0, np.asarray(squares) / count - mean**2))
    middle, width = (low, high - low) if how == "min-max" else (mean, spread)
    if not np.all(width > 0):
        raise InvalidInput(
            f"channel {int(np.argmin(width))} never changes in the training examples: it cannot be normalised"
        )
    return dataclasses.replace(
        contract, mean=tuple(map(float, np.asarray(middle))), std=tuple(map(float, np.asarray(width)))
    )
