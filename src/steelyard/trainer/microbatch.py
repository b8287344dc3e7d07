"""Smaller passes where memory ends: a batch goes through the net in parts, and the step stays the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.trainer.recipe import Recipe

__all__ = ["MicroBatch", "OutOfMemory", "is_out_of_memory", "parts", "peak_bytes"]

_WORDS = ("out of memory", "can't allocate memory", "alloc_cpu", "failed to allocate")
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class OutOfMemory(Exception):
    """More memory was held than the recipe allows."""


class MicroBatch:
    """How many examples pass the net at once; fewer after every time that memory ended.

    `peak` gives the bytes that were held at most since it was last called.
    """

    def __init__(self, recipe: Recipe, peak: Callable[[], int]) -> None:
        given, self._batch = recipe.micro_batch, recipe.batch
        self.size = min(given, recipe.batch) if isinstance(given, int) else recipe.batch
        self.adapts = given == "auto"
        self._limit = None if recipe.memory_gb is None else recipe.memory_gb * 1e9
        self._peak = peak

    def parts(self, index: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        """What of a batch passes the net at once."""
        return [index] if self.size >= self._batch else parts(index, self.size)

    def begin(self) -> None:
        """A step begins."""
        if self._limit is not None:
            self._peak()

    def check(self) -> None:
        """Raise `OutOfMemory` where the step held more than it may."""
        if self._limit is not None and (held := self._peak()) > self._limit:
            raise OutOfMemory(f"{held / 1e9:.3g} GB were held, {self._limit / 1e9:.3g} are allowed")

    def halve(self, why: BaseException) -> str:
        """Go on with half, in words. Raises `InvalidInput` where a single example does not fit."""
        if self.size == 1:
            reason = " ".join(str(why).split())[:120]
            raise InvalidInput(
                f"even one example at a time is too much memory ({reason}): take a smaller model or input"
            )
        before, self.size = self.size, self.size // 2
        return (
            f"memory ended: {self.size} examples pass the net at once instead of {before}, and the step stays the same"
        )


def parts(index: NDArray[np.int64], size: int) -> list[NDArray[np.int64]]:
    """A batch in parts of `size` at most, as even as can be.

    >>> [len(part) for part in parts(np.arange(10), 4)]
    [4, 3, 3]
    """
    return np.array_split(index, -(-len(index) // size))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ended: CUDA's, the processor's, or what the recipe allows."""
    if isinstance(error, OutOfMemory | MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def peak_bytes() -> int:
    """Held at most since the last call: by tensors on the accelerator, or by this process."""
    if torch.cuda.is_available():
        held = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        return int(held)
    lines = _STATUS.read_text().splitlines()
    _CLEAR.write_text("5")  # proc(5): the high-water mark falls to what is held now
    return 1024 * int(next(line for line in lines if line.startswith("VmHWM")).split()[1])
