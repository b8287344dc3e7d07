"""Readers of labelled texts: lines of text, tab, label, and the text column of a table.

Texts stay as they were written; the subject's ``encode`` makes the model's inputs from them (see
:class:`steelyard.subject.splits.Encoded`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.subject.columns import class_order
from steelyard.subject.splits import Encode, Split, Splits

__all__ = ["class_indices", "holds_texts", "is_number", "text_column", "text_file", "text_folder"]

_PARTS = {"train": ("train",), "validation": ("dev", "validation", "valid", "val"), "test": ("test",)}
_SUFFIXES = (".tsv", ".txt")
_CLASSES = ("class.txt", "classes.txt", "labels.txt")
_HEADINGS = {"label", "labels", "class", "category", "target", "y"}

Lines = tuple[list[str], list[str]]  # texts and their labels


def holds_texts(folder: Path) -> bool:
    """Whether a folder holds ``train.tsv`` or ``train.txt``."""
    return _part(folder, "train") is not None


def text_folder(folder: Path, *, encode: Encode | None, labels: Sequence[str] = (), seed: int = 0) -> Splits:
    """``train``, ``dev`` (or ``val``) and ``test`` as .tsv or .txt: text, tab, class name or index on each line.

    Names of indices may stand in ``class.txt``, one a line. What is missing of the three is carved as in `Splits.of`;
    a set with one held-out part is judged on it. Raises `InvalidInput` for lines of another form.
    """
    files = {name: path for name in _PARTS if (path := _part(folder, name)) is not None}
    listed = next((folder / name for name in _CLASSES if (folder / name).is_file()), None)
    return _splits(files, encode, labels, () if listed is None else _named(listed), seed)


def text_file(path: Path, *, encode: Encode | None, labels: Sequence[str] = (), seed: int = 0) -> Splits:
    """One file of text, tab, class name or index on each line, split 6:2:2."""
    return _splits({"train": path}, encode, labels, (), seed)


def _part(folder: Path, name: str) -> Path | None:
    paths = (folder / f"{stem}{suffix}" for stem in _PARTS[name] for suffix in _SUFFIXES)
    return next((path for path in paths if path.is_file()), None)


def _splits(
    files: Mapping[str, Path], encode: Encode | None, labels: Sequence[str], listed: Sequence[str], seed: int
) -> Splits:
    if encode is None:
        raise InvalidInput(f"{files['train']} holds texts, and the subject has no encode=... to make inputs from them")
    lines = {name: _lines(path) for name, path in files.items()}
    names = tuple(labels) or tuple(listed) or class_order([label for _, found in lines.values() for label in found])
    parts = {
        name: Split.of_texts(texts, class_indices(files[name], found, names, listed), encode)
        for name, (texts, found) in lines.items()
    }
    validation, test = parts.get("validation"), parts.get("test")
    if test is None and validation is not None:  # a set with one held-out part: it is the judge, not the guide
        validation, test = None, validation
    return Splits.of(parts["train"], validation=validation, test=test, labels=names, seed=seed)


def _lines(path: Path) -> Lines:
    """Texts and labels of a file; a first line whose label is called "label" or the like is a heading."""
    texts, labels = [], []
    for number, line in enumerate(_read(path).split("\n"), start=1):  # texts may hold other line separators
        if not line.strip():
            continue
        text, tab, label = line.rstrip("\r").rpartition("\t")
        if not tab or not text.strip() or not label.strip():
            raise InvalidInput(f"{path}: line {number} must be text, tab, label; it reads {line[:40]!r}")
        texts.append(text)
        labels.append(label.strip())
    if labels and labels[0].lower() in _HEADINGS:
        del texts[0], labels[0]
    if not labels:
        raise InvalidInput(f"{path} holds no texts")
    return texts, labels


def _named(path: Path) -> tuple[str, ...]:
    return tuple(line.strip() for line in _read(path).splitlines() if line.strip())


def _read(path: Path) -> str:
    try:
        return path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"cannot read {path}: byte {error.start} is not UTF-8: save the file as UTF-8") from None
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error}") from None


def text_column(path: Path, columns: Mapping[str, Sequence[str]], *, label: str, text: str | None = None) -> str:
    """The name of the column of texts: the one asked for, or the only one besides the label that is not numbers."""
    others = [name for name in columns if name not in (label, "split")]
    if text is not None:
        if text not in others:
            raise InvalidInput(f"{path} has no column {text!r} besides the label; it has {', '.join(others)}")
        return text
    wordy = [name for name in others if not all(map(is_number, columns[name]))]
    if len(wordy) != 1:
        found = f"{len(wordy)} ({', '.join(wordy)})" if wordy else "none"
        raise InvalidInput(
            f"{path}: one column of texts is needed besides the label {label!r}, found {found}: give text=NAME"
        )
    return wordy[0]


def class_indices(
    path: Path, cells: Sequence[str], names: Sequence[str], listed: Sequence[str] = ()
) -> NDArray[np.int32]:
    """Class index of each cell: its place among `names`, or the index that it is itself.

    `listed` are the names that indices stand for in the data, where it says so; they decide if `names` hold them in
    another order.

    >>> class_indices(Path("d.tsv"), ["1", "0"], ["bad", "good"]).tolist()
    [1, 0]
    >>> class_indices(Path("d.tsv"), ["1", "0"], ["good", "bad"], ["bad", "good"]).tolist()
    [0, 1]
    """
    place = {name: i for i, name in enumerate(names)}
    if listed and set(listed) <= set(names):
        place = {**{str(i): place[name] for i, name in enumerate(listed)}, **place}
    if any(cell not in place for cell in cells):
        place = {**{str(i): i for i in range(len(names))}, **place}
    unknown = next((cell for cell in cells if cell not in place), None)
    if unknown is not None:
        raise InvalidInput(f"{path}: label {unknown!r} is not among the declared classes {', '.join(names)}")
    return np.array([place[cell] for cell in cells], dtype=np.int32)


def is_number(cell: str) -> bool:
    """Whether a cell reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
