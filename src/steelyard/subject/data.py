"""From the user's words to labelled splits: built-in digits, files, folders, tables or a Dataset.

Each reader returns :class:`Splits` of raw examples in the model's layout. Pictures stay uint8 (0-255), so
the contract's ``scale``, ``mean`` and ``std`` say how they become inputs. A PyTorch Dataset gives tensors that
are used as they come: there the contract's normalisation only describes what the Dataset already did, and should
be left at its neutral default unless `predict` is to start from pictures. Texts are kept as they were written, beside
what the subject's ``encode`` makes of them (see `steelyard.subject.text`).
"""

from __future__ import annotations

import csv
import gzip
import struct
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.records import Contract, Scalar
from steelyard.subject.columns import class_order
from steelyard.subject.contract import read_picture
from steelyard.subject.splits import Encode, Split, Splits
from steelyard.subject.text import (
    class_indices,
    holds_texts,
    is_number,
    text_column,
    text_file,
    text_folder,
)

__all__ = ["dataset", "digits", "idx", "image_folder", "npz", "read_data", "table"]

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".webp", ".gif", ".tif", ".tiff"}


def read_data(
    words: str,
    contract: Contract,
    *,
    seed: int = 0,
    options: Mapping[str, Scalar] | None = None,
    encode: Encode | None = None,
) -> Splits:
    """The splits that `words` name: ``digits``, a folder, an .npz, .csv, .parquet, .tsv or .txt file.

    A folder holds idx files (MNIST, Fashion-MNIST), files of texts (``train.tsv`` or ``train.txt``), or one folder of
    pictures per class, directly or under ``train`` and ``val``/``test``. With `encode`, the subject's way from texts to
    inputs, a table is one of texts. Raises `InvalidInput` where nothing readable is there.
    """
    options = options or {}
    if words == "digits":
        return digits(seed=seed)
    path = Path(words)
    if not path.exists():
        raise InvalidInput(f"no such data: {words} (give 'digits', a folder, or an .npz, .csv or .parquet file)")
    if path.is_dir():
        return _folder(path, contract, seed, encode)
    return _file(path, contract, seed, options, encode)


def _folder(path: Path, contract: Contract, seed: int, encode: Encode | None) -> Splits:
    if any(path.glob("*-images-idx3-ubyte*")):
        return idx(path, labels=contract.labels, seed=seed)
    if holds_texts(path):
        return text_folder(path, encode=encode, labels=contract.labels, seed=seed)
    return image_folder(path, contract, seed=seed)


def _file(path: Path, contract: Contract, seed: int, options: Mapping[str, Scalar], encode: Encode | None) -> Splits:
    if path.suffix == ".npz":
        return npz(path, labels=contract.labels, seed=seed)
    if path.suffix in (".csv", ".parquet"):
        label, text = options.get("label"), options.get("text")
        return table(path, label=label, text=text, labels=contract.labels, seed=seed, encode=encode)
    if path.suffix in (".tsv", ".txt"):
        return text_file(path, encode=encode, labels=contract.labels, seed=seed)
    raise InvalidInput(f"cannot read data from {path}: give a folder, or an .npz, .csv or .parquet file")


def digits(*, seed: int = 0) -> Splits:
    """scikit-learn's 1,797 digits as pictures of 1x8x8, grey levels 0-255, split 6:2:2."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingExtra("torch", needed_for="the built-in digits") from None
    raw, labels = load_digits(return_X_y=True)
    pixels = np.round(raw.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    everything = Split(raw=pixels, labels=labels.astype(np.int32))
    return Splits.of(everything, labels=tuple("0123456789"), seed=seed)


def idx(folder: Path, *, labels: Sequence[str] = (), seed: int = 0) -> Splits:
    """MNIST's file format (``train-images-idx3-ubyte[.gz]`` and its three companions) as pictures of 1xHxW.

    The set's own test split is kept; validation is carved from training. With only one pair of files the whole is
    split 6:2:2.
    """
    parts = {name: _idx_pair(folder, stem) for name, stem in (("train", "train"), ("test", "t10k"))}
    train, test = parts["train"], parts["test"]
    first = test if train is None else train
    if first is None:
        raise InvalidInput(f"no complete pair of idx files in {folder}: images and labels must stand together")
    names = tuple(labels) or _positions(*(s for s in (train, test) if s is not None))
    return Splits.of(first, test=None if train is None else test, labels=names, seed=seed)


def _idx_pair(folder: Path, stem: str) -> Split | None:
    images, labels = (
        _idx_file(folder, f"{stem}-{kind}-ubyte", n) for kind, n in (("images-idx3", 3), ("labels-idx1", 1))
    )
    if images is None or labels is None:
        return None
    if len(images) != len(labels):
        raise InvalidInput(f"{folder}: {len(images)} {stem} images but {len(labels)} labels")
    return Split(raw=images[:, None], labels=labels.astype(np.int32))


def _idx_file(folder: Path, name: str, dimensions: int) -> NDArray[np.uint8] | None:
    path = next((p for p in (folder / name, folder / f"{name}.gz") if p.exists()), None)
    if path is None:
        return None
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if content[:4] != bytes((0, 0, 8, dimensions)):
            raise ValueError(f"it does not begin as one of bytes in {dimensions} dimension(s)")
        shape = struct.unpack(f">{dimensions}I", content[4 : 4 + 4 * dimensions])
        return np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * dimensions).reshape(shape)
    except (OSError, EOFError, ValueError, zlib.error, struct.error) as error:
        raise InvalidInput(f"cannot read {path} as an idx file: {error}") from None


class _Pictures:
    """Picture files decoded when they are asked for."""

    def __init__(self, files: Sequence[Path], contract: Contract) -> None:
        self._files, self._contract = files, contract

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        return np.stack([read_picture(self._contract, self._files[int(i)]) for i in np.atleast_1d(index)])


def image_folder(folder: Path, contract: Contract, *, seed: int = 0) -> Splits:
    """One folder of pictures per class, directly or under ``train`` and ``val``/``test``."""
    train = folder / "train" if (folder / "train").is_dir() else folder
    held_out = {n: folder / n for n in ("val", "validation", "test") if train != folder and (folder / n).is_dir()}
    names = tuple(sorted(p.name for p in train.iterdir() if p.is_dir()))
    if len(names) < 2:
        raise InvalidInput(
            f"{train} holds {len(names)} class folder(s); at least 2 are needed, one folder of pictures per class"
        )
    if contract.labels and set(contract.labels) == set(names):
        names = contract.labels  # the order of the model's outputs
    elif contract.labels and len(contract.labels) != len(names):
        raise InvalidInput(
            f"{train} holds {len(names)} class folders, the subject declares {len(contract.labels)} classes"
        )
    parts = {name: _class_folders(path, names, contract) for name, path in {"train": train, **held_out}.items()}
    validation = parts.get("val", parts.get("validation"))
    test = parts.get("test")
    if test is None and validation is not None:  # a set with one held-out part: it is the judge, not the guide
        validation, test = None, validation
    return Splits.of(parts["train"], validation=validation, test=test, labels=names, seed=seed)


def _class_folders(folder: Path, names: Sequence[str], contract: Contract) -> Split:
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(names):
        found = sorted(p for p in (folder / name).rglob("*") if p.suffix.lower() in PICTURES)
        files += found
        labels += [label] * len(found)
    return Split(raw=_Pictures(files, contract), labels=np.array(labels, dtype=np.int32))


def npz(path: Path, *, labels: Sequence[str] = (), seed: int = 0) -> Splits:
    """Arrays ``x``, ``y`` (split 6:2:2) or ``x_train``, ``y_train``, ``x_test``, ``y_test`` and, if given, ``x_val``, ``y_val``."""
    try:
        with path.open("rb") as content, np.lib.npyio.NpzFile(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InvalidInput(f"cannot read {path} as NPZ: {error}") from None
    named = {n: (f"x_{n}", f"y_{n}") for n in ("train", "val", "test") if f"x_{n}" in arrays}
    parts = {"train": ("x", "y")} if "x" in arrays else named
    if "train" not in parts:
        raise InvalidInput(f"{path} holds {sorted(arrays)}: expected x and y, or x_train, y_train, x_test, y_test")
    missing = [y for _, y in parts.values() if y not in arrays]
    if missing:
        raise InvalidInput(f"{path} holds {sorted(arrays)} but not {missing[0]}: every x needs its y")
    splits = {n: _arrays(path, arrays[x], arrays[y]) for n, (x, y) in parts.items()}
    return Splits.of(
        splits["train"],
        validation=splits.get("val"),
        test=splits.get("test"),
        labels=tuple(labels) or _positions(*splits.values()),
        seed=seed,
    )


def _arrays(path: Path, x: NDArray[Any], y: NDArray[Any]) -> Split:
    if not np.issubdtype(y.dtype, np.integer) or y.ndim != 1:
        raise InvalidInput(f"{path}: labels are {y.dtype} of shape {y.shape}; class indices (whole numbers) are needed")
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise InvalidInput(f"{path}: examples are {x.dtype} of shape {x.shape}; numbers of shape (n, ...) are needed")
    if len(x) != len(y):
        raise InvalidInput(f"{path}: {len(x)} examples but {len(y)} labels")
    return Split(raw=x, labels=_class_indices(str(path), y))


def _class_indices(where: str, labels: NDArray[Any]) -> NDArray[np.int32]:
    """Labels as int32, which must not wrap round."""
    outside = labels[(labels < 0) | (labels > np.iinfo(np.int32).max)]
    if len(outside):
        raise InvalidInput(f"{where}: label {outside[0]} is no class index: number the classes from 0")
    return labels.astype(np.int32)


def _positions(*splits: Split) -> tuple[str, ...]:
    """Class names where the data has none: 0, 1, 2 ... up to the largest label."""
    return tuple(str(i) for i in range(max((int(s.labels.max()) for s in splits if len(s)), default=-1) + 1))


def table(
    path: Path,
    *,
    label: Scalar = None,
    text: Scalar = None,
    labels: Sequence[str] = (),
    seed: int = 0,
    encode: Encode | None = None,
) -> Splits:
    """A CSV or Parquet file: one label column (default: the last) and numeric features, or one column of texts to `encode`.

    A first CSV row that holds a number is data, not a header; columns are then named by position. A column called
    ``split`` with the values train, validation (or val) and test decides the split. Among texts, a column called
    ``label`` is the label wherever it stands.
    """
    columns = _parquet(path) if path.suffix == ".parquet" else _csv(path)
    names = [n for n in columns if n != "split"]
    name = _label_column(columns, names, encode is not None) if label is None else str(label)
    if name not in columns:
        raise InvalidInput(f"{path} has no column {name!r}; it has {', '.join(names)}")
    classes = tuple(labels) or class_order(columns[name])
    features = [n for n in names if n != name]
    if not features:
        raise InvalidInput(f"{path} has no column but the label {name!r}: features are needed")
    if encode is not None:
        texts = columns[text_column(path, columns, label=name, text=None if text is None else str(text))]
        everything = Split.of_texts(texts, class_indices(path, columns[name], classes), encode)
    else:
        everything = _features(path, columns, features, name, classes)
    if "split" not in columns:
        return Splits.of(everything, labels=classes, seed=seed)
    parts = _named_splits(path, everything, columns["split"])
    return Splits.of(
        parts["train"], validation=parts.get("validation"), test=parts.get("test"), labels=classes, seed=seed
    )


def _label_column(columns: Mapping[str, Sequence[str]], names: Sequence[str], texts: bool) -> str:
    """The last column; among texts the one called label, or the first of two where the last alone holds words."""
    if not texts:
        return names[-1]
    if "label" in names:
        return "label"
    numeric = [all(map(is_number, columns[name])) for name in names]
    return names[0] if numeric == [True, False] else names[-1]


def _features(
    path: Path, columns: Mapping[str, Sequence[str]], features: Sequence[str], label: str, classes: Sequence[str]
) -> Split:
    index = {c: i for i, c in enumerate(classes)}
    unknown = next((v for v in columns[label] if v not in index), None)
    if unknown is not None:
        raise InvalidInput(f"{path}: label {unknown!r} is not among the declared classes {', '.join(classes)}")
    return Split(
        raw=np.stack([_numbers(path, n, columns[n]) for n in features], axis=1),
        labels=np.array([index[v] for v in columns[label]], dtype=np.int32),
    )


def _named_splits(path: Path, everything: Split, named: Sequence[str]) -> dict[str, Split]:
    kinds = np.array(["validation" if v == "val" else v for v in named])
    strange = set(kinds.tolist()) - {"train", "validation", "test"}
    if strange or "train" not in kinds:
        raise InvalidInput(
            f"{path}: column 'split' must hold train, validation and test, got {sorted(set(kinds.tolist()))}"
        )
    return {str(k): everything.take(np.flatnonzero(kinds == k)) for k in np.unique(kinds)}


def _csv(path: Path) -> dict[str, list[str]]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file)
            lines = [(reader.line_num, row) for row in reader if row]
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"cannot read {path} as CSV: byte {error.start} is not UTF-8: save the file as UTF-8"
        ) from None
    except (OSError, csv.Error) as error:
        raise InvalidInput(f"cannot read {path} as CSV: {error}") from None
    if not lines:
        raise InvalidInput(f"{path} is empty")
    rows = [row for _, row in lines]
    width = len(rows[0])
    ragged = next(((n, row) for n, row in lines if len(row) != width), None)
    if ragged is not None:
        raise InvalidInput(f"{path}: line {ragged[0]} has {len(ragged[1])} fields, the first has {width}")
    headless = any(is_number(cell) for cell in rows[0])
    names = [str(i) for i in range(width)] if headless else rows[0]
    body = rows if headless else rows[1:]
    if len(set(names)) < width:
        twice = next(n for n in names if names.count(n) > 1)
        raise InvalidInput(f"{path} has two columns called {twice!r}: rename one")
    return {n: [row[i] for row in body] for i, n in enumerate(names)}


def _parquet(path: Path) -> dict[str, list[str]]:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import read_table
    except ImportError:
        raise MissingExtra("tables", needed_for=f"reading {path.name}") from None
    try:
        content = read_table(path)
    except (OSError, ArrowException) as error:
        raise InvalidInput(f"cannot read {path} as Parquet: {error}") from None
    return {n: [str(v) for v in content.column(n).to_pylist()] for n in content.column_names}


def _numbers(path: Path, name: str, cells: Sequence[str]) -> NDArray[np.float32]:
    try:
        return np.array(cells, dtype=np.float32)
    except ValueError:
        row = next(i for i, cell in enumerate(cells) if not is_number(cell))
        raise InvalidInput(
            f"{path}: column {name!r} holds {cells[row]!r} in data row {row + 1}; features must be numbers"
        ) from None


class _Items:
    """The inputs of a PyTorch Dataset, stacked when asked for."""

    def __init__(self, items: Any) -> None:
        self._items = items

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        return np.stack([np.asarray(self._items[int(i)][0]) for i in np.atleast_1d(index)])


def dataset(source: Any, *, labels: Sequence[str] = (), seed: int = 0, encode: Encode | None = None) -> Splits:
    """Splits from a map-style PyTorch Dataset of ``(input, class index)``, or a tuple of two or three of them.

    Inputs that are strings are texts to `encode`. One Dataset is split 6:2:2; two are (train, test); three are (train, validation, test).
    """
    if isinstance(source, Splits):
        source.check()
        return source
    parts = list(source) if isinstance(source, tuple | list) else [source]
    if len(parts) > 3 or not all(hasattr(p, "__len__") and hasattr(p, "__getitem__") for p in parts):
        raise InvalidInput(
            f"the data function returned {type(source).__name__}: return a Dataset with a length, or (train, [validation,] test)"
        )
    splits = [_items(p, encode) for p in parts]
    return Splits.of(
        splits[0],
        validation=splits[1] if len(splits) == 3 else None,
        test=splits[-1] if len(splits) > 1 else None,
        labels=tuple(labels) or _positions(*splits),
        seed=seed,
    )


def _items(items: Any, encode: Encode | None) -> Split:
    targets = getattr(items, "targets", None)  # torchvision's sets know their labels without decoding
    try:
        if targets is None:
            targets = [items[i][1] for i in range(len(items))]
        labels = np.asarray(targets).reshape(-1)
    except (TypeError, IndexError, KeyError, ValueError) as error:
        raise InvalidInput(f"the Dataset's items must be (input, class index) pairs: {error}") from None
    if len(labels) != len(items) or (len(labels) and labels.dtype.kind not in "iu"):
        raise InvalidInput(
            f"the Dataset has {len(items)} items and {len(labels)} labels of type {labels.dtype}: one class index each is needed"
        )
    indices = _class_indices("the Dataset", labels)
    if encode is not None and len(items) and isinstance(items[0][0], str):
        return Split.of_texts([items[i][0] for i in range(len(items))], indices, encode)
    return Split(raw=_Items(items), labels=indices)


DataSource = str | Callable[[], Any]
