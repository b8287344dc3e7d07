"""Answers of a deployed model for many examples, as a table that `steelyard evaluate` reads at once."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.pipeline.job import Progress, silent
from steelyard.subject.columns import SUFFIXES, Table, class_order, open_table
from steelyard.subject.contract import read_picture
from steelyard.subject.data import PICTURES
from steelyard.subject.deployed import Model
from steelyard.subject.text import class_indices

__all__ = ["Predicted", "predict"]

BATCH = 64
_LABELS = ("label", "labels", "y", "target", "class", "y_true", "truth")
_KEYS = ("id", "key", "example", "example_id")
_TEXTS = ("text", "texts", "sentence", "title", "review", "content")


@dataclass(frozen=True, slots=True, kw_only=True)
class Predicted:
    """What was written: where (None: standard output), how many rows, and whether they carry their true labels."""

    path: Path | None
    examples: int
    labelled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Raw examples that are read when asked for, a slice at a time, and what their rows are called."""

    keys: Sequence[str]
    read: Callable[[slice], NDArray[Any]]  # (n, *contract.shape)
    labels: Sequence[str] | None = None
    texts: Sequence[str] | None = None


def predict(
    model: Model, source: Path, out: Path | None, label: str | None = None, progress: Progress = silent
) -> Predicted:
    """Write one row an example: ``id``, ``label`` and ``text`` where they are known, ``pred``, and the probabilities.

    Two classes have one column ``p``, of the class that `evaluate` takes for the positive one; more have ``p_CLASS`` each.
    """
    examples = _examples(model, source, label)
    with _opened(out) as file:
        table = csv.writer(file, lineterminator="\n")
        for start in range(0, len(examples.keys), BATCH):
            progress(f"predicting {source.name}", start / len(examples.keys))
            part = slice(start, min(start + BATCH, len(examples.keys)))
            shares = model.probabilities(examples.read(part))
            names = model.names(shares.shape[1])
            if not start:
                table.writerow(_header(examples, names))
            table.writerows(_rows(examples, names, shares, start))
    return Predicted(path=out, examples=len(examples.keys), labelled=examples.labels is not None)


@contextmanager
def _opened(out: Path | None) -> Iterator[TextIO]:
    """A file that stands under its name only once it is whole, or standard output."""
    if out is None:
        yield sys.stdout
        return
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(out.name + ".part")
    try:
        with part.open("w", newline="", encoding="utf-8") as file:
            yield file
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    part.replace(out)


def _header(examples: Examples, names: Sequence[str]) -> list[str]:
    known = ["label"] if examples.labels is not None else []
    known += ["text"] if examples.texts is not None else []
    return ["id", *known, "pred", *(["p"] if len(names) == 2 else [f"p_{name}" for name in names])]


def _rows(examples: Examples, names: Sequence[str], shares: NDArray[np.float64], start: int) -> Iterator[list[str]]:
    shown = shares[:, [_positive(names)]] if len(names) == 2 else shares
    for i, (share, row) in enumerate(zip(shares, shown, strict=True), start):
        known = [column[i] for column in (examples.labels, examples.texts) if column is not None]
        yield [examples.keys[i], *known, names[int(share.argmax())], *(f"{p:.9g}" for p in row)]


def _positive(names: Sequence[str]) -> int:
    """The class that `steelyard evaluate` takes for the positive one of two: the last in order."""
    return list(names).index(class_order(names)[-1])


# --- examples ----------------------------------------------------------------------------------------------


def _examples(model: Model, source: Path, label: str | None) -> Examples:
    if source.is_dir():
        return _pictures(model, source)
    if source.suffix in SUFFIXES:
        return _table(model, open_table(source), label)
    if not source.exists():
        raise InvalidInput(f"no such file or folder: {source}")
    raise InvalidInput(
        f"cannot tell what {source} is: give a picture, a folder of them, or a table ({', '.join(SUFFIXES)})"
    )


def _pictures(model: Model, folder: Path) -> Examples:
    """Of a folder, or of one folder a class; those of other names than the classes say nothing about labels."""
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in PICTURES)
    if not files:
        raise InvalidInput(f"{folder} holds no picture ({', '.join(sorted(PICTURES))})")
    classes = [path.relative_to(folder).parts[0] for path in files]
    return Examples(
        keys=[str(path.relative_to(folder)) for path in files],
        read=lambda part: np.stack([read_picture(model.contract, path) for path in files[part]]),
        labels=classes if set(classes) <= set(model.contract.labels) else None,
    )


def _table(model: Model, table: Table, label: str | None) -> Examples:
    if label is not None:
        table.check(label)
    truth = label or _named(table, _LABELS)
    key = _named(table, _KEYS)
    if model.takes_texts:
        return _texts(model, table, truth, key)
    if table.path.suffix == ".npz":
        return _arrays(model, table, truth, key)
    return _features(model, table, truth, key)


def _texts(model: Model, table: Table, truth: str | None, key: str | None) -> Examples:
    name = _named(table, _TEXTS)
    if name is None:
        raise InvalidInput(
            f"{table.path} has no column called {', '.join(_TEXTS)}: rename that of the texts (it has {', '.join(table.names[:12])})"
        )
    words = table.words(name)
    texts = [words[i] for i in range(len(words))]
    return Examples(
        keys=_words(table, key) or _numbered(len(texts)),
        read=lambda part: model.encode(texts[part]),
        labels=_labels(model, table, truth),
        texts=texts,
    )


def _features(model: Model, table: Table, truth: str | None, key: str | None) -> Examples:
    """All columns that are nothing else, in their order; one too many is the label, as in the data of a run."""
    names = [n for n in table.names if n not in (truth, key, "split")]
    wanted = int(np.prod(model.contract.shape))
    if len(names) == wanted + 1 and truth is None:
        truth = names.pop()
    if len(names) != wanted:
        raise InvalidInput(
            f"{table.path} has {len(names)} columns of features ({', '.join(names[:6])}{' ...' if len(names) > 6 else ''}), the model takes "
            f"{wanted}: leave out the others, or call the label and the key 'label' and 'id'"
        )
    table.read(numbers=names, words=[n for n in (truth, key) if n is not None])
    raw = np.stack([table.numbers(n) for n in names], axis=1).astype(np.float32).reshape(-1, *model.contract.shape)
    return Examples(
        keys=_words(table, key) or _numbered(len(raw)), read=raw.__getitem__, labels=_labels(model, table, truth)
    )


def _arrays(model: Model, table: Table, truth: str | None, key: str | None) -> Examples:
    """An NPZ: raw examples in ``x``, or in the test part of a data set, ``x_test``."""
    name = next((n for n in ("x", "x_test", "inputs") if n in table.names), None)
    if name is None:
        raise InvalidInput(f"{table.path} holds {', '.join(table.names)}: raw examples are looked for in x or x_test")
    with np.load(table.path, allow_pickle=False) as arrays:
        raw = arrays[name]
    other = "y_test" if name == "x_test" and "y_test" in table.names else None
    return Examples(
        keys=_words(table, key) or _numbered(len(raw)),
        read=raw.__getitem__,
        labels=_labels(model, table, other or truth),
    )


def _named(table: Table, names: Sequence[str]) -> str | None:
    lower = {n.lower(): n for n in reversed(table.names)}
    return next((lower[name] for name in names if name in lower), None)


def _words(table: Table, name: str | None) -> list[str] | None:
    if name is None:
        return None
    words = table.words(name)
    return [words[i] for i in range(len(words))]


def _labels(model: Model, table: Table, name: str | None) -> list[str] | None:
    """True classes by name, also where the table numbers them."""
    cells, names = _words(table, name), model.contract.labels
    if cells is None or not names:
        return cells
    return [names[i] for i in class_indices(table.path, cells, names)]


def _numbered(count: int) -> list[str]:
    return [str(i) for i in range(count)]
