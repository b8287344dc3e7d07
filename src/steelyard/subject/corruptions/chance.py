"""Chance that belongs to an example: the same seed damages it in the same way, whatever stands beside it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import numpy as np

__all__ = ["generators"]


def generators(examples: Iterable[bytes], seed: int) -> Iterator[np.random.Generator]:
    """One generator per example, from its own bytes and `seed`; neither batch, order nor severity plays a part.

    >>> one, other = (next(generators([b"picture"], seed)).integers(1000) for seed in (1, 2))
    >>> bool(one == other), bool(one == list(generators([b"first", b"picture"], 1))[1].integers(1000))
    (False, True)
    """
    for content in examples:
        digest = int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")
        yield np.random.default_rng([seed, digest])
