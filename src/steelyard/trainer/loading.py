"""Examples without the wait: kept after the first reading, or made by threads while the step before still runs."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from steelyard.errors import InvalidInput
from steelyard.trainer.examples import Batch, Examples, Index

__all__ = ["Ahead", "Cached"]


class Cached(Dataset[Any]):
    """A PyTorch data set whose examples are read once: all later epochs find them in memory that loader processes share.

    An example is a tensor, an array or a number, or a tuple of these, each of one shape and type throughout. With `folder` they
    lie in memory-mapped files there, for sets larger than memory. What is random in the examples (augmentation) would be kept
    as it first came: put it behind the cache. Raises `InvalidInput` for examples that do not fit.
    """

    def __init__(self, examples: Dataset[Any], folder: str | Path | None = None) -> None:
        self._examples, self._count = examples, len(examples)  # type: ignore[arg-type]
        if not self._count:
            raise InvalidInput("there are no examples to keep")
        first = examples[0]
        self._single = not isinstance(first, list | tuple)
        parts = [_tensor(part) for part in ([first] if self._single else first)]
        self._rooms = [self._room(part, None if folder is None else Path(folder), i) for i, part in enumerate(parts)]
        self._filled = _shared(torch.zeros(self._count, dtype=torch.bool))

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Any:
        if not self._filled[index]:
            self._keep(index)
        parts = [room[index].clone() for room in self._rooms]  # what the caller changes is the caller's own
        return parts[0] if self._single else tuple(parts)

    def _keep(self, index: int) -> None:
        example = self._examples[index]
        for room, part in zip(self._rooms, [example] if self._single else example, strict=True):
            made = _tensor(part)
            if made.shape != room.shape[1:] or made.dtype != room.dtype:
                raise InvalidInput(
                    f"example {index} is {tuple(made.shape)} {made.dtype}, the first {tuple(room.shape[1:])} {room.dtype}: "
                    "a cache needs examples of one shape and type; resize them before it"
                )
            room[index] = made
        self._filled[index] = True

    def _room(self, part: torch.Tensor, folder: Path | None, number: int) -> torch.Tensor:
        shape = (self._count, *part.shape)
        if folder is None:
            return _shared(torch.empty(shape, dtype=part.dtype))
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"examples-{number}.bin"
        try:
            return torch.from_file(str(path), shared=True, size=int(np.prod(shape)), dtype=part.dtype).reshape(shape)
        except RuntimeError as error:
            raise InvalidInput(f"cannot map {path}: {' '.join(str(error).split())[:120]}") from None


def _shared(tensor: torch.Tensor) -> torch.Tensor:
    """In memory that loader processes share."""
    tensor.share_memory_()  # type: ignore[no-untyped-call]
    return tensor


def _tensor(part: Any) -> torch.Tensor:
    try:
        return torch.as_tensor(part)
    except (TypeError, ValueError, RuntimeError):
        raise InvalidInput(
            f"a cache keeps tensors, arrays and numbers; got a {type(part).__name__}: put the transform before it"
        ) from None


@dataclass(slots=True)
class _Shelf:
    """Batches under way, by their examples and epoch."""

    depth: int
    pool: ThreadPoolExecutor
    coming: list[tuple[int, Index]] = field(default_factory=list)
    made: dict[tuple[int, bytes], Future[Batch]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Ahead(Examples):
    """Examples whose next batches are made by threads beforehand, once `expect` has told which.

    The batches are the same, in the same order; one that was not expected is made when it is asked for. Threads pay where making
    a batch waits for a disk, or spends its time in code that lets other threads run (decoding, NumPy).
    """

    shelf: _Shelf = field(default_factory=lambda: _Shelf(2, ThreadPoolExecutor(1)))

    @classmethod
    def over(cls, examples: Examples, *, workers: int, depth: int = 2) -> Ahead:
        """`workers` threads, `depth` batches ahead for each."""
        if workers < 1 or depth < 1:
            raise InvalidInput(f"making batches ahead needs 1 worker and 1 batch or more; got {workers} and {depth}")
        shelf = _Shelf(workers * depth, ThreadPoolExecutor(workers, thread_name_prefix="steelyard-batches"))
        return cls(examples.raw, examples.labels, examples.contract, examples.teacher, examples.rewrite, shelf)

    def expect(self, order: Sequence[Index], epoch: int = 0) -> None:
        """These batches are the next, in this order; what was expected before is forgotten."""
        for late in self.shelf.made.values():
            late.cancel()
        self.shelf.made.clear()
        self.shelf.coming[:] = [(epoch, index) for index in reversed(order)]
        self._begin()

    def batch(self, index: Index, epoch: int = 0) -> Batch:
        """As `Examples.batch`."""
        begun = self.shelf.made.pop((epoch, index.tobytes()), None)
        self._begin()
        return Examples.batch(self, index, epoch) if begun is None else begun.result()

    def close(self) -> None:
        """Let the threads go."""
        self.shelf.pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        shelf = self.shelf
        while shelf.coming and len(shelf.made) < shelf.depth:
            epoch, index = shelf.coming.pop()
            shelf.made[epoch, index.tobytes()] = shelf.pool.submit(Examples.batch, self, index, epoch)
