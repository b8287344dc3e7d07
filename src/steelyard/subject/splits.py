"""Labelled examples and the three splits that keep a measurement honest."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, SteelyardError
from steelyard.records import Contract, Overlap
from steelyard.subject.contract import prepare

__all__ = [
    "Encode",
    "Encoded",
    "Rows",
    "Split",
    "Splits",
    "digests",
    "overlaps",
    "read_split",
    "stratified",
    "write_split",
]

Encode = Callable[[Sequence[str]], NDArray[Any]]  # n texts to an array whose first axis is n

_CHUNK = 256  # examples held in memory at a time when a split is read through


class Rows(Protocol):
    """Examples along the first axis: a NumPy array, or something that reads them when indexed."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any, /) -> NDArray[Any]: ...


class Encoded:
    """Texts as the model takes them: rows that the subject's `encode` makes when they are asked for."""

    def __init__(self, texts: Sequence[str], encode: Encode) -> None:
        self.texts, self.encode = tuple(texts), encode

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        return self.rows([self.texts[i] for i in np.atleast_1d(np.arange(len(self))[index])])

    def rows(self, wanted: Sequence[str]) -> NDArray[Any]:
        """These texts, encoded: they need not be of the split."""
        if not wanted:  # an encode need not know what to make of nothing
            return self.rows(self.texts[:1])[:0]
        try:
            rows = np.asarray(self.encode(wanted))
        except SteelyardError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InvalidInput(f"the subject's encode failed: {type(error).__name__}: {reason}") from error
        if rows.ndim < 2 or len(rows) != len(wanted) or rows.dtype.kind not in "biuf":
            raise InvalidInput(
                f"the subject's encode gave {rows.dtype} of shape {rows.shape} for {len(wanted)} text(s): "
                f"numbers of shape ({len(wanted)}, ...) are needed"
            )
        return rows


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Split:
    """Raw examples (before the contract's scaling) and their class indices.

    Where the examples are texts, ``raw`` is what they are encoded to, and ``texts`` keeps them for people to read.
    """

    raw: Rows
    labels: NDArray[np.int32]
    texts: tuple[str, ...] | None = None

    @classmethod
    def of_texts(cls, texts: Sequence[str], labels: NDArray[np.int32], encode: Encode) -> Split:
        """Labelled texts, encoded when they are asked for."""
        rows = Encoded(texts, encode)
        return cls(raw=rows, labels=labels, texts=rows.texts)

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: NDArray[np.int64]) -> Split:
        """The examples at these positions, in this order."""
        texts = None if self.texts is None else tuple(self.texts[i] for i in index)
        if texts is not None and isinstance(self.raw, Encoded):
            return Split.of_texts(texts, self.labels[index], self.raw.encode)
        raw = self.raw[index] if isinstance(self.raw, np.ndarray) else _Selected(self.raw, index)
        return Split(raw=raw, labels=self.labels[index], texts=texts)

    def inputs(self, contract: Contract) -> NDArray[Any]:
        """All examples as the model takes them, ``(n, *contract.shape)``, in memory at once."""
        return np.concatenate([prepare(contract, chunk) for chunk in self.chunks()])

    def chunks(self) -> Iterator[NDArray[Any]]:
        """The raw examples, some hundreds at a time."""
        for start in range(0, len(self), _CHUNK):
            yield np.asarray(self.raw[np.arange(start, min(start + _CHUNK, len(self)))])


class _Selected:
    """A reordered part of rows that are read only when asked for."""

    def __init__(self, rows: Rows, index: NDArray[np.int64]) -> None:
        self._rows, self._index = rows, index

    def __len__(self) -> int:
        return len(self._index)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        return self._rows[self._index[index]]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Splits:
    """Training, validation and test examples: fit on the first, choose on the second, judge on the third."""

    train: Split
    validation: Split
    test: Split
    labels: tuple[str, ...]  # class names
    method: str  # how the split came about, in words

    @classmethod
    def of(
        cls,
        train: Split,
        *,
        labels: tuple[str, ...],
        validation: Split | None = None,
        test: Split | None = None,
        seed: int = 0,
    ) -> Splits:
        """Complete what the data came with: 6:2:2 from one set; validation carved from training where a test set came.

        Carving is stratified by class and seeded. Raises `InvalidInput` for labels that are out of range or
        all of one class, and for a split of fewer than two examples.
        """
        given = [
            f"{name} as given" for name, split in (("validation", validation), ("test", test)) if split is not None
        ]
        carved = ""
        if len(train) < 2:
            raise InvalidInput(
                f"the data has {len(train)} training example(s); at least 2 are needed in each split: give more data"
            )
        if test is None:
            share = 5 if validation is None else 4  # a fifth of everything
            train, test = _carve(train, math.ceil(len(train) / share), seed)
            carved = "test"
        if validation is None:
            train, validation = _carve(train, min(len(test), math.ceil(len(train) / 4)), seed + 1)
            carved = "6:2:2" if carved else "validation"
        method = ", ".join([*given, f"{carved} stratified with seed {seed}"] if carved else given)
        splits = cls(train=train, validation=validation, test=test, labels=labels, method=method)
        splits.check()
        return splits

    def items(self) -> tuple[tuple[str, Split], ...]:
        """The splits with their names, training first."""
        return (("train", self.train), ("validation", self.validation), ("test", self.test))

    def check(self) -> None:
        """Raise `InvalidInput` for splits on which nothing can be measured."""
        for name, split in self.items():
            if len(split.raw) != len(split.labels):
                raise InvalidInput(f"the {name} split has {len(split.raw)} examples and {len(split.labels)} labels")
            if len(split) < 2:
                raise InvalidInput(
                    f"the {name} split has {len(split)} example(s); at least 2 are needed: give more data"
                )
            low, high = int(split.labels.min()), int(split.labels.max())
            if low < 0 or high >= len(self.labels):
                raise InvalidInput(
                    f"label {low if low < 0 else high} in the {name} split is outside 0..{len(self.labels) - 1}: "
                    f"the subject declares {len(self.labels)} classes"
                )
            if low == high:
                raise InvalidInput(
                    f"every label in the {name} split is {low} ({self.labels[low]!r}): quality cannot be measured on one class"
                )


def stratified(labels: NDArray[np.int32], count: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Positions of the examples that stay, and of `count` drawn so that each class keeps its share.

    Classes get the whole part of their share and the largest remainders get the rest, so the drawn classes
    differ from proportional by less than one example each.

    >>> stay, drawn = stratified(np.array([0, 0, 0, 0, 1, 1], dtype=np.int32), 3, seed=0)
    >>> len(stay), np.bincount(np.array([0, 0, 0, 0, 1, 1])[drawn]).tolist()
    (3, [2, 1])
    """
    rng = np.random.default_rng(seed)
    classes, sizes = np.unique(labels, return_counts=True)
    share = sizes * (count / len(labels))
    take = np.floor(share).astype(np.int64)
    for extra in np.argsort(take - share, kind="stable")[: count - int(take.sum())]:
        take[extra] += 1
    drawn = np.concatenate(
        [rng.permutation(np.flatnonzero(labels == c))[:n] for c, n in zip(classes, take, strict=True)]
    )
    stay = np.setdiff1d(np.arange(len(labels)), drawn)
    return stay, np.sort(drawn)


def _carve(split: Split, count: int, seed: int) -> tuple[Split, Split]:
    stay, drawn = stratified(split.labels, count, seed)
    return split.take(stay), split.take(drawn)


def overlaps(splits: Splits, *, shown: int = 10) -> tuple[Overlap, ...]:
    """Exact duplicates of later splits in earlier ones (Q13): a test example seen in training proves nothing."""
    known = {name: digests(split) for name, split in splits.items()}
    found = []
    for later, earlier in (("validation", "train"), ("test", "train"), ("test", "validation")):
        positions = np.flatnonzero(np.isin(known[later], known[earlier]))
        if len(positions):
            found.append(
                Overlap(
                    split=later,
                    other=earlier,
                    count=len(positions),
                    examples=tuple(int(p) for p in positions[:shown]),
                )
            )
    return tuple(found)


def digests(split: Split) -> NDArray[np.uint64]:
    """One 64-bit digest per example; also the place where NaN in the data is met. Texts count as they read, not as encoded."""
    if split.texts is not None:
        contents = (text.encode("utf-8", "surrogatepass") for text in split.texts)
        return np.fromiter((_digest(content) for content in contents), dtype=np.uint64, count=len(split))
    found = np.empty(len(split), dtype=np.uint64)
    at = 0
    for chunk in split.chunks():
        if np.issubdtype(chunk.dtype, np.floating) and not np.isfinite(chunk).all():
            bad = at + int(np.flatnonzero(~np.isfinite(chunk).all(axis=tuple(range(1, chunk.ndim))))[0])
            raise InvalidInput(
                f"example {bad} of the data holds NaN or infinity: clean the data before measuring on it"
            )
        for row in np.ascontiguousarray(chunk):
            found[at] = _digest(row.tobytes())
            at += 1
    return found


def _digest(content: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "little")


def write_split(split: Split, folder: Path, name: str) -> None:
    """Write raw examples and labels as two .npy files that other processes map into memory, and texts as JSON beside them."""
    folder.mkdir(parents=True, exist_ok=True)
    target = None
    at = 0
    for chunk in split.chunks():
        if target is None:
            shape = (len(split), *chunk.shape[1:])
            target = np.lib.format.open_memmap(folder / f"{name}.raw.npy", mode="w+", dtype=chunk.dtype, shape=shape)
        target[at : at + len(chunk)] = chunk
        at += len(chunk)
    if target is not None:
        target.flush()
    np.save(folder / f"{name}.labels.npy", split.labels)
    if split.texts is not None:
        (folder / f"{name}.texts.json").write_text(json.dumps(split.texts), encoding="utf-8")


def read_split(folder: Path, name: str) -> Split:
    """A split written by `write_split`, mapped and not read into memory."""
    raw = np.load(folder / f"{name}.raw.npy", mmap_mode="r")
    kept = folder / f"{name}.texts.json"
    texts = tuple(json.loads(kept.read_text(encoding="utf-8"))) if kept.exists() else None
    return Split(raw=raw, labels=np.load(folder / f"{name}.labels.npy"), texts=texts)
