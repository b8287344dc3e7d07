"""Columns of a saved table, read when they are asked for and in the form they are asked for: numbers or words.

Nothing is guessed: a column that is asked for as numbers holds numbers or is refused with the first cell that is none,
and words are compared as text. CSV is read by PyArrow where it is installed (the extra ``tables``), else by the
standard library; both give the same columns.
"""

from __future__ import annotations

import csv
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra

__all__ = ["Table", "Words", "class_order", "open_table"]

Floats = NDArray[np.float64]
Codes = NDArray[np.signedinteger[Any]]

_CHUNK = 1 << 16  # rows recoded at once, so that they stay in the cache
SUFFIXES = (".csv", ".tsv", ".parquet", ".npz")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Words:
    """A column of words: ``levels[codes[i]]`` is the word of row i. Levels are distinct and in `class_order`."""

    codes: Codes
    levels: tuple[str, ...]

    @classmethod
    def of(cls, values: Sequence[str] | NDArray[Any]) -> Words:
        """From one word a row.

        >>> Words.of(["10", "9", "10"]).levels
        ('9', '10')
        """
        places: dict[str, int] = {}  # not np.unique: an array of words is as wide as the longest of them
        codes = np.fromiter((places.setdefault(str(word), len(places)) for word in values), np.int64, len(values))
        return _ordered(codes, list(places))

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, row: int) -> str:
        return self.levels[int(self.codes[row])]

    def take(self, rows: NDArray[np.int64]) -> Words:
        """The words of these rows, in this order."""
        return Words(codes=self.codes[rows], levels=self.levels)

    def mapped(self, places: Sequence[int]) -> Codes:
        """``places[codes[i]]`` of each row i, in the smallest type of whole numbers that holds them all.

        >>> Words.of(["b", "a"]).mapped([3, -1])
        array([-1,  3], dtype=int8)
        """
        ends = (min(-1, *places), -1 - max(places))
        return _recoded(self.codes, np.array(places, dtype=np.result_type(*map(np.min_scalar_type, ends))))


def _ordered(codes: Codes, levels: Sequence[str]) -> Words:
    order = class_order(levels)
    if order == tuple(levels) and codes.dtype == np.int32:
        return Words(codes=codes, levels=order)
    place = {word: i for i, word in enumerate(order)}
    return Words(codes=_recoded(codes, np.array([place[word] for word in levels] or [0], dtype=np.int32)), levels=order)


def _recoded(codes: Codes, turn: Codes) -> Codes:
    """``turn[codes]`` of whole rows ``(n,)``, without an index array of eight bytes a row."""
    found = np.empty(len(codes), dtype=turn.dtype)
    for start in range(0, len(codes), _CHUNK):
        part = slice(start, start + _CHUNK)
        found[part] = turn[codes[part]]
    return found


def class_order(names: Sequence[str]) -> tuple[str, ...]:
    """Distinct names sorted, numbers by their value: 10 comes after 9.

    >>> class_order(["b", "a"]), class_order(["10", "9"])
    (('a', 'b'), ('9', '10'))
    """
    distinct = set(names)
    if all(map(is_number, distinct)):
        return tuple(sorted(distinct, key=lambda name: (float(name), name)))
    return tuple(sorted(distinct))


def is_number(cell: str) -> bool:
    """Whether a cell reads as a finite number."""
    try:
        return bool(np.isfinite(float(cell)))
    except ValueError:
        return False


# --- tables ------------------------------------------------------------------------------------------


class Table:
    """A file of columns. `read` takes those it needs in one pass; the words and numbers read are kept."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        self.path = path
        self.names = tuple(names)
        twice = next((name for name, count in Counter(self.names).items() if count > 1), None)
        if twice is not None:
            raise InvalidInput(f"{path} has two columns called {twice!r}: rename one")
        self._numbers: dict[str, Floats] = {}
        self._words: dict[str, Words] = {}

    def read(self, *, numbers: Sequence[str] = (), words: Sequence[str] = ()) -> None:
        """Read these columns now, together. Raises `InvalidInput` for a name that is not there or a cell that is bad."""
        for name in (*numbers, *words):
            self.check(name)
        new = [n for n in dict.fromkeys(numbers) if n not in self._numbers]
        texts = [n for n in dict.fromkeys(words) if n not in self._words]
        if new or texts:
            found, coded = self._read(new, texts)
            self._numbers |= found
            self._words |= coded

    def numbers(self, name: str) -> Floats:
        """A column as float64 ``(n,)`` (NPZ: of any shape)."""
        self.read(numbers=[name])
        return self._numbers[name]

    def words(self, name: str) -> Words:
        """A column as words."""
        self.read(words=[name])
        return self._words[name]

    def wide(self, name: str) -> bool:
        """Whether one name stands for several columns: an array ``(n, m)`` of an NPZ."""
        self.check(name)
        return False

    def has_rows(self, name: str, rows: int) -> bool:
        """Whether the column holds one value for each of so many rows: arrays of an NPZ need not."""
        self.check(name)
        return rows >= 0

    def check(self, name: str) -> None:
        """Raise `InvalidInput`, with the nearest names, unless there is such a column."""
        if name not in self.names:
            near = get_close_matches(name, self.names, 3, 0.5)
            shown = ", ".join(self.names[:12]) + (", ..." if len(self.names) > 12 else "")
            hint = f"nearest: {', '.join(near)}" if near else f"it has {shown}"
            raise InvalidInput(f"{self.path} has no column {name!r}; {hint}")

    def _read(self, numbers: Sequence[str], words: Sequence[str]) -> tuple[dict[str, Floats], dict[str, Words]]:
        raise NotImplementedError


def open_table(path: Path) -> Table:
    """The table in a .csv, .tsv, .parquet or .npz file; nothing but its names is read yet.

    Raises `InvalidInput` for a file that is missing, empty, damaged or of another kind.
    """
    if not path.is_file():
        raise InvalidInput(f"no such file: {path}")
    if path.suffix not in SUFFIXES:
        raise InvalidInput(f"cannot tell what table {path} is: give a .csv, .tsv, .parquet or .npz file")
    if path.stat().st_size == 0:
        raise InvalidInput(f"{path} is empty")
    if path.suffix == ".npz":
        return _Npz(path)
    if path.suffix == ".parquet":
        return _Parquet(path)
    return _ArrowCsv(path) if find_spec("pyarrow") else _PlainCsv(path)


# --- NPZ ---------------------------------------------------------------------------------------------


_BROKEN_NPZ = (  # what NumPy and zipfile raise for damaged, encrypted or absurdly sized archives
    OSError, ValueError, TypeError, EOFError, KeyError, MemoryError, OverflowError, RuntimeError, SyntaxError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip


class _Npz(Table):
    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as content, np.lib.npyio.NpzFile(content, allow_pickle=False) as file:
                self._arrays = {name: file[name] for name in file.files}
        except _BROKEN_NPZ as error:
            raise InvalidInput(f"cannot read {path} as NPZ: {_line(error)}") from None
        super().__init__(path, tuple(self._arrays))

    def wide(self, name: str) -> bool:
        self.check(name)
        return bool(self._arrays[name].ndim == 2)

    def has_rows(self, name: str, rows: int) -> bool:
        self.check(name)
        return bool(self._arrays[name].shape == (rows,))

    def _read(self, numbers: Sequence[str], words: Sequence[str]) -> tuple[dict[str, Floats], dict[str, Words]]:
        asked = list(dict.fromkeys((*numbers, *words)))
        for name in asked:
            if self._arrays[name].ndim == 0:
                raise InvalidInput(f"{self.path}: {name!r} is a single value, not one per example")
        rows = {name: len(self._arrays[name]) for name in asked}
        if not any(rows.values()):
            raise InvalidInput(f"{self.path} has arrays and no rows")
        odd = next((name for name in asked if rows[name] != rows[asked[0]]), None)
        if odd is not None:
            raise InvalidInput(
                f"{self.path}: {asked[0]!r} has {rows[asked[0]]:,} rows and {odd!r} {rows[odd]:,}: one for each example is needed"
            )
        return {n: self._number(n) for n in numbers}, {n: self._word(n) for n in words}

    def _number(self, name: str) -> Floats:
        array = self._arrays[name]
        try:
            if array.dtype.kind not in "biufSU":  # complex numbers and dates would be cast, to something else
                raise ValueError
            with np.errstate(over="ignore"):  # of wider floats: infinity is refused where it matters
                return array.astype(np.float64)
        except (ValueError, TypeError):
            raise InvalidInput(f"{self.path}: {name!r} holds {array.dtype}, numbers are needed") from None

    def _word(self, name: str) -> Words:
        array = self._arrays[name]
        if array.ndim != 1:
            raise InvalidInput(f"{self.path}: {name!r} has shape {array.shape}, one value per example is needed")
        if array.dtype.kind == "S":
            array = np.char.decode(array, "utf-8", "replace")
        if array.dtype.kind not in "biufU":
            raise InvalidInput(f"{self.path}: {name!r} holds {array.dtype}, words or numbers are needed")
        return _spelled(self.path, name, array)


def _spelled(path: Path, name: str, array: NDArray[Any]) -> Words:
    """Values as Python writes them."""
    if array.dtype.kind == "f":
        _check_nan(path, name, array)
        array = _whole(array)
    found, codes = np.unique(array, return_inverse=True)
    return _ordered(codes.astype(np.int64), [str(word) for word in found.tolist()])


def _whole(array: NDArray[Any]) -> NDArray[Any]:
    """Whole numbers as integers, so that class 1.0 is called 1; others, and those beyond an integer, as they are."""
    whole = (np.abs(array) < 2.0**63).all() and (array == np.trunc(array)).all()
    return array.astype(np.int64) if whole else array


def _check_nan(path: Path, name: str, array: NDArray[Any]) -> None:
    bad = np.flatnonzero(~np.isfinite(array))
    if len(bad):
        raise InvalidInput(f"{path}: column {name!r} holds {array[bad[0]]} in data row {bad[0] + 1}: clean it first")


# --- CSV without PyArrow -------------------------------------------------------------------------------


class _PlainCsv(Table):
    def __init__(self, path: Path) -> None:
        super().__init__(path, next(self.rows_of(path), []))
        _check_header(path, self.names)

    @staticmethod
    def rows_of(path: Path) -> Iterator[list[str]]:
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                yield from (row for row in csv.reader(file, delimiter=_delimiter(path)) if row)
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"cannot read {path}: byte {error.start} of a block is not UTF-8: save the file as UTF-8"
            ) from None
        except (OSError, csv.Error) as error:
            raise InvalidInput(f"cannot read {path}: {_line(error)}") from None

    def _read(self, numbers: Sequence[str], words: Sequence[str]) -> tuple[dict[str, Floats], dict[str, Words]]:
        rows = list(self.rows_of(self.path))[1:]
        _check_rows(self.path, len(rows))
        ragged = next((i for i, row in enumerate(rows) if len(row) != len(self.names)), None)
        if ragged is not None:
            raise InvalidInput(
                f"{self.path}: data row {ragged + 1} has {len(rows[ragged])} fields, the header has {len(self.names)}"
            )
        place = {name: i for i, name in enumerate(self.names)}
        cells = {n: [row[place[n]] for row in rows] for n in (*numbers, *words)}
        return {n: self._number(n, cells[n]) for n in numbers}, {n: Words.of(cells[n]) for n in words}

    def _number(self, name: str, cells: Sequence[str]) -> Floats:
        try:
            return np.array(cells, dtype=np.float64)
        except ValueError:
            row = next(i for i, cell in enumerate(cells) if not is_number(cell))
            raise _not_a_number(self.path, name, cells[row], row) from None


def _delimiter(path: Path) -> str:
    return "\t" if path.suffix == ".tsv" else ","


def _check_header(path: Path, names: Sequence[str]) -> None:
    if names and all(map(is_number, names)):
        raise InvalidInput(
            f"{path} has no header: its first line holds numbers ({', '.join(names[:4])}); name the columns"
        )


def _check_rows(path: Path, rows: int) -> None:
    if not rows:
        raise InvalidInput(f"{path} has a header and no rows")


def _not_a_number(path: Path, name: str, cell: str | None, row: int) -> InvalidInput:
    shown = "an empty cell" if not cell else repr(cell[:40])
    return InvalidInput(f"{path}: column {name!r} holds {shown} in data row {row + 1}; numbers are needed")


# --- PyArrow -------------------------------------------------------------------------------------------


class _Arrow(Table):
    """What CSV and Parquet share once PyArrow has read them."""

    def _columns(
        self, table: Any, numbers: Sequence[str], words: Sequence[str]
    ) -> tuple[dict[str, Floats], dict[str, Words]]:
        _check_rows(self.path, table.num_rows)
        found = {n: self._number(n, table.column(n)) for n in numbers}
        return found, {n: self._word(n, table.column(n)) for n in words}

    def _number(self, name: str, column: Any) -> Floats:
        import pyarrow as pa

        if column.type != pa.float64():
            column = self._cast(name, column)
        if column.null_count:
            row = int(np.flatnonzero(column.is_null().to_numpy())[0])
            raise _not_a_number(self.path, name, None, row)
        return _array(column)

    def _cast(self, name: str, column: Any) -> Any:
        import pyarrow as pa

        try:
            return column.cast(pa.float64(), safe=False)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            values = column.to_pylist()
            row = next((i for i, v in enumerate(values) if not is_number(str(v))), 0)
            raise _not_a_number(self.path, name, str(values[row]), row) from None

    def _word(self, name: str, column: Any) -> Words:
        import pyarrow as pa

        if pa.types.is_floating(column.type):
            return _spelled(self.path, name, self._number(name, column))
        if pa.types.is_boolean(column.type):
            from pyarrow import compute

            column = compute.if_else(column, "True", "False")  # as NumPy and Python write them
        if pa.types.is_integer(column.type):
            column = column.dictionary_encode()  # as numbers: each of their words is written once
        elif not pa.types.is_dictionary(column.type):
            try:
                column = column.cast(pa.string()).dictionary_encode()
            except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
                raise InvalidInput(f"{self.path}: column {name!r} holds {column.type}, words are needed") from None
        one = column.unify_dictionaries().combine_chunks()
        if isinstance(one, pa.ChunkedArray):
            one = one.chunk(0)
        levels = [str(word) for word in one.dictionary.to_pylist()]
        codes: NDArray[Any] = np.from_dlpack(one.indices.fill_null(len(levels)) if one.null_count else one.indices)
        names = [*levels, ""]  # which may repeat: a missing word and an empty one are both empty
        used = np.flatnonzero(_used(codes, len(names)))
        if len(used) == len(levels) and not one.null_count:
            return _ordered(codes, levels)
        turn = np.zeros(len(names), dtype=np.int32)
        turn[used] = np.arange(len(used))
        return _ordered(_recoded(codes, turn), [names[i] for i in used])


def _array(column: Any) -> NDArray[Any]:
    """The numbers of a column without empty cells; one chunk is not copied. (Arrow's own way would import pandas.)"""
    parts = [np.from_dlpack(chunk) for chunk in column.chunks]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _used(codes: Codes, levels: int) -> NDArray[np.bool_]:
    """Which of the levels ``(levels,)`` occur: the dictionary of a Parquet file may hold others."""
    found = np.zeros(levels, dtype=np.bool_)
    for start in range(0, len(codes), _CHUNK):
        found[codes[start : start + _CHUNK]] = True
    return found


class _Parquet(_Arrow):
    def __init__(self, path: Path) -> None:
        if not find_spec("pyarrow"):
            raise MissingExtra("tables", needed_for=f"reading {path.name}")
        import pyarrow.parquet as pq

        with _reading(path, "Parquet"):
            super().__init__(path, pq.read_schema(path).names)

    def _read(self, numbers: Sequence[str], words: Sequence[str]) -> tuple[dict[str, Floats], dict[str, Words]]:
        import pyarrow.parquet as pq

        with _reading(self.path, "Parquet"), pq.ParquetFile(self.path) as file:  # which brings no more than it needs
            content = file.read(columns=list(dict.fromkeys((*numbers, *words))))
        return self._columns(content, numbers, words)


class _ArrowCsv(_Arrow):
    def __init__(self, path: Path) -> None:
        super().__init__(path, next(_PlainCsv.rows_of(path), []))
        _check_header(path, self.names)

    def _read(self, numbers: Sequence[str], words: Sequence[str]) -> tuple[dict[str, Floats], dict[str, Words]]:
        both = [n for n in words if n in numbers]
        if both:  # one column cannot be read as two types at once
            found, rest = self._read(numbers, [n for n in words if n not in numbers])
            return found, rest | self._read([], both)[1]
        import pyarrow as pa

        try:
            return self._columns(self._content(numbers, words), numbers, words)
        except (OSError, pa.ArrowException):  # the plain reader reads it after all, or says in which row it fails
            plain = _PlainCsv(self.path)
            plain.read(numbers=numbers, words=words)
            return {n: plain.numbers(n) for n in numbers}, {n: plain.words(n) for n in words}

    def _content(self, numbers: Sequence[str], words: Sequence[str]) -> Any:
        import pyarrow as pa
        from pyarrow import csv as arrow_csv

        types: dict[str, Any] = dict.fromkeys(numbers, pa.float64())
        types |= dict.fromkeys(words, pa.dictionary(pa.int32(), pa.string()))
        convert = arrow_csv.ConvertOptions(
            column_types=types, include_columns=list(types), strings_can_be_null=False, null_values=[""]
        )
        parse = arrow_csv.ParseOptions(delimiter=_delimiter(self.path))
        return arrow_csv.read_csv(self.path, parse_options=parse, convert_options=convert)


@contextmanager
def _reading(path: Path, kind: str) -> Iterator[None]:
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, ValueError) as error:
        raise InvalidInput(f"cannot read {path} as {kind}: {_line(error)}") from None


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
