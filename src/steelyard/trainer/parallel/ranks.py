"""Which of the processes this is, its part of a batch, and the few numbers that they must agree on."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray

from steelyard.errors import InvalidInput

__all__ = ["Ranks", "join", "leave"]

Index = NDArray[np.int64]
Device = Literal["cpu", "cuda"]

_PATIENCE_S = 1800.0  # for another rank, before a collective gives up; whoever launched them looks for deaths by itself


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process among `count`; alone it is rank 0 of 1, and nothing is sent."""

    rank: int = 0
    count: int = 1

    @classmethod
    def here(cls) -> Ranks:
        """What `join` made of this process."""
        if not dist.is_available() or not dist.is_initialized():
            return cls()
        return cls(dist.get_rank(), dist.get_world_size())

    @property
    def lead(self) -> bool:
        """Whether this one writes files and speaks."""
        return self.rank == 0

    @property
    def device(self) -> torch.device:
        """Where this rank computes."""
        cuda = self.count > 1 and dist.get_backend() == "nccl"
        return torch.device("cuda" if cuda else "cpu")

    def part(self, index: Index) -> Index:
        """This rank's share of a batch; the parts of all ranks are the batch, each example once, and some may be empty.

        >>> [Ranks(r, 2).part(np.array([5, 3, 8])).tolist() for r in range(2)]
        [[5, 3], [8]]
        """
        return np.array_split(index, self.count)[self.rank]

    def work(self, index: Index) -> tuple[Index, int]:
        """What this rank computes of a batch, and how many of these examples count.

        Where its part is empty it is one example that does not: every rank has to take part in what all do together.
        """
        own = self.part(index)
        return (own, len(own)) if len(own) else (index[:1], 0)

    def totals(self, values: Sequence[float]) -> list[float]:
        """Each value summed over the ranks; NaN on one of them is NaN on all."""
        if self.count == 1:
            return list(values)
        tensor = self._tensor(values)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def first(self, value: float) -> float:
        """Rank 0's value, on every rank: clocks differ, and what follows from them must not."""
        if self.count == 1:
            return value
        tensor = self._tensor([value])
        dist.broadcast(tensor, 0)
        return float(tensor.item())

    def gathered(self, value: Any) -> list[Any]:
        """Every rank's value, on every rank."""
        if self.count == 1:
            return [value]
        values: list[Any] = [None] * self.count
        dist.all_gather_object(values, value)
        return values

    def _tensor(self, values: Sequence[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float64, device=self.device)


def join(rank: int, count: int, meeting: str, *, device: Device = "cpu", limit_s: float = _PATIENCE_S) -> Ranks:
    """Meet the other ranks at a file: NCCL on accelerators, one each; gloo on the processor.

    Accelerate finds the group that this makes. Raises `InvalidInput` where there are fewer accelerators than ranks.
    """
    if device == "cuda":
        if torch.cuda.device_count() < count:
            raise InvalidInput(
                f"{count} processes need {count} accelerators, and there are {torch.cuda.device_count()}"
            )
        torch.cuda.set_device(rank)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE=str(count),
        LOCAL_WORLD_SIZE=str(count),
        ACCELERATE_USE_CPU=str(device == "cpu").lower(),
    )
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # or Accelerate takes its own and warns
    dist.init_process_group(
        "nccl" if device == "cuda" else "gloo",
        init_method=f"file://{meeting}",
        rank=rank,
        world_size=count,
        timeout=timedelta(seconds=limit_s),
    )
    return Ranks(rank, count)


def leave() -> None:
    """Part from the other ranks."""
    if dist.is_initialized():
        dist.destroy_process_group()
