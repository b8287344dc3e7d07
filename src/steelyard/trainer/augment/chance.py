"""Chance that belongs to an example and an epoch: the same whatever batch, process or day the example comes in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["generators", "uniforms"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_STREAM = 0x5DEECE66D  # sets these draws off from those that order the examples


def uniforms(seed: int, epoch: int, index: NDArray[np.int64], count: int) -> NDArray[np.float64]:
    """`count` draws from [0, 1) for each example, ``(n, count)``; more draws leave the first ones as they are.

    SplitMix64 (Steele, Lea and Flood 2014), whose state is a mixture of seed, epoch and position: a generator that
    needs no memory, so that thousands of examples are drawn for at once.

    >>> many, few = uniforms(7, 2, np.array([5, 3]), 3), uniforms(7, 2, np.array([3]), 2)
    >>> bool((many[1, :2] == few[0]).all()), bool((many >= 0).all() and (many < 1).all())
    (True, True)
    """
    state = _mixed(np.array([seed], dtype=np.uint64) ^ np.uint64(_STREAM))
    state = _mixed(state + _GOLDEN * np.array([epoch + 1], dtype=np.uint64))
    states = _mixed(state + _GOLDEN * (np.asarray(index).astype(np.uint64) + np.uint64(1)))
    draws = _mixed(states[:, None] + _GOLDEN * np.arange(1, count + 1, dtype=np.uint64))
    return (draws >> np.uint64(11)).astype(np.float64) * 2.0**-53


def generators(seed: int, epoch: int, index: NDArray[np.int64]) -> list[np.random.Generator]:
    """A NumPy generator for each example, where what is drawn depends on the example."""
    return [np.random.default_rng([_STREAM, seed, epoch, int(position)]) for position in index]


def _mixed(z: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """SplitMix64's output function: every bit of the state changes about half of the bits that come out.

    >>> [int(v) for v in _mixed(np.uint64(1234567) + _GOLDEN * np.arange(1, 3, dtype=np.uint64))]
    [6457827717110365317, 3203168211198807973]
    """
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))
