"""What data parallel ranks send: bytes of gradients, and how long their sums are on the way."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist

__all__ = ["Traffic", "covered"]


class Traffic:
    """Sums gradients for `DistributedDataParallel`, as its own default does, and notes bytes and seconds of each step.

    Seconds are those in which at least one sum was under way, most of them behind the backward pass; on an accelerator only
    its own clock could tell, so there are none.
    """

    def __init__(self, count: int, *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._count, self._clock = count, clock
        self._bytes = 0
        self._spans: list[tuple[float, float]] = []
        self.steps: list[tuple[int, float]] = []  # bytes and seconds of each step

    def sum(self, bucket: Any) -> torch.futures.Future[torch.Tensor]:
        """The mean over the ranks of a bucket of gradients."""
        gradients = bucket.buffer().div_(self._count)
        self._bytes += gradients.numel() * gradients.element_size()
        began = self._clock()

        def arrived(future: torch.futures.Future[Any]) -> torch.Tensor:
            self._spans.append((began, self._clock()))
            made: torch.Tensor = future.value()[0]
            return made

        sums = dist.all_reduce(gradients, async_op=True)
        return sums.get_future().then(arrived)

    def step(self) -> None:
        """A step of the optimiser is over."""
        self.steps.append((self._bytes, covered(self._spans)))
        self._bytes, self._spans = 0, []


def covered(spans: list[tuple[float, float]]) -> float:
    """Seconds that lie within at least one span.

    >>> covered([(0.0, 2.0), (1.0, 3.0), (5.0, 6.0)])
    4.0
    """
    total, until = 0.0, float("-inf")
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, until))
        until = max(until, end)
    return total
