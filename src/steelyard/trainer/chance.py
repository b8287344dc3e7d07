"""Random states: seeded for a training, kept in its checkpoints, and the caller's left as they were."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

__all__ = ["deterministic", "put_states", "seeded", "states"]

_CUBLAS = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS sums in one order only with this set


def states() -> dict[str, Any]:
    """The states of PyTorch's, NumPy's and Python's generators, in tensors and plain numbers."""
    _, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)  # noqa: NPY002 - what a user's own code may draw from
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": (torch.from_numpy(np.array(keys, dtype=np.int64)), int(position), int(has_gauss), float(gauss)),
        "python": random.getstate(),
    }


def put_states(kept: dict[str, Any]) -> None:
    """Put every generator where `states` found it."""
    torch.set_rng_state(kept["torch"])
    if kept["cuda"]:
        torch.cuda.set_rng_state_all(kept["cuda"])
    keys, position, has_gauss, gauss = kept["numpy"]
    np.random.set_state(("MT19937", keys.numpy().astype(np.uint32), position, has_gauss, gauss))  # noqa: NPY002
    random.setstate(kept["python"])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """All generators begin at `seed` in the block, and go on from where they were after it."""
    before = states()
    torch.manual_seed(seed)
    np.random.seed(seed % 2**32)  # noqa: NPY002
    random.seed(seed)
    try:
        yield
    finally:
        put_states(before)


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """In the block an operation that has no reproducible form raises, where that is `wanted`."""
    if not wanted:
        yield
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark, os.environ.get(_CUBLAS)
    os.environ.setdefault(_CUBLAS, ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
        if before[2] is None:
            os.environ.pop(_CUBLAS, None)
