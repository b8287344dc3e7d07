"""Hypotheses and references as text: what translation, summaries and speech read.

Two formats: files with one sentence a line (one of hypotheses, one or more of references), and tables (``.csv``,
``.tsv`` or ``.jsonl``) with a column for each. All are UTF-8. Lines end at a line feed only: other separators of
Unicode, such as U+2028, stay within their sentence, so that no file falls out of step with another.
"""

from __future__ import annotations

import csv
import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from steelyard.errors import InvalidInput

__all__ = ["Texts", "check", "check_same", "read_lines", "read_table"]

_DELIMITERS = {".csv": ",", ".tsv": "\t"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Texts:
    """One hypothesis per sentence and its references: ``references[r][i]`` is reference r of sentence i.

    A speech transcript or a summary is a sentence here, whatever its length. ``clusters``, where present, has one label
    per sentence: the document or speaker it comes from.
    """

    hypotheses: tuple[str, ...]
    references: tuple[tuple[str, ...], ...]
    clusters: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.hypotheses)


def check(texts: Texts) -> None:
    """Raise `InvalidInput` for no sentences, unequal numbers of lines, a value that is no text or an empty reference."""
    if not texts.hypotheses or not texts.references:
        raise InvalidInput("there are no sentences to score: pass at least one hypothesis and its reference")
    for which, column in enumerate((texts.hypotheses, *texts.references)):
        _check_column("hypothesis" if which == 0 else "reference", column, len(texts))
    if texts.clusters and len(texts.clusters) != len(texts):
        raise InvalidInput(f"{len(texts.clusters)} cluster labels for {len(texts)} sentences: pass one per sentence")


def _check_column(what: str, column: Sequence[str], n: int) -> None:
    if len(column) != n:
        raise InvalidInput(f"{n} hypotheses but {len(column)} references: both need one line per sentence")
    for i, sentence in enumerate(column):
        if not isinstance(sentence, str):
            raise InvalidInput(f"{what} {i + 1} is {type(sentence).__name__}, not text")
        if what == "reference" and not sentence.strip():
            raise InvalidInput(
                f"reference {i + 1} is empty: a score needs something to compare with; drop that sentence"
            )


def check_same(before: Texts, after: Texts) -> None:
    """Raise `InvalidInput` unless both are of the same sentences in the same order."""
    if before.references != after.references or before.clusters != after.clusters:
        raise InvalidInput(
            f"a paired comparison needs the same references in the same order; got {len(before)} sentences and "
            f"{len(after)} other ones"
        )


# --- files -----------------------------------------------------------------------------------------


def read_lines(hypotheses: str | Path, *references: str | Path) -> Texts:
    """Texts from files with one sentence a line: one of hypotheses and one or more of references.

    Raises `InvalidInput` for a missing file, bytes that are not UTF-8, unequal numbers of lines or an empty reference.
    """
    texts = Texts(hypotheses=_lines(Path(hypotheses)), references=tuple(_lines(Path(path)) for path in references))
    check(texts)
    return texts


def read_table(
    path: str | Path,
    *,
    hypothesis: str = "hypothesis",
    references: Sequence[str] = ("reference",),
    cluster: str | None = None,
) -> Texts:
    """Texts from the columns of a ``.csv`` or ``.tsv`` file with a header, or the keys of a ``.jsonl`` file.

    Raises `InvalidInput`, naming the line, for what cannot be read, and offers the nearest name for a missing column.
    """
    columns = (hypothesis, *references, *([cluster] if cluster else []))
    rows = list(_rows(Path(path), columns))
    by_column = list(zip(*rows, strict=True)) or [()] * len(columns)
    texts = Texts(
        hypotheses=by_column[0],
        references=tuple(by_column[1 : 1 + len(references)]),
        clusters=by_column[-1] if cluster else (),
    )
    check(texts)
    return texts


def _lines(path: Path) -> tuple[str, ...]:
    try:
        with path.open(encoding="utf-8-sig", newline="\n") as file:
            return tuple(line.rstrip("\r\n") for line in file)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path} is not UTF-8 text (byte {error.start}): convert it, or check that it is text"
        ) from None


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    if path.suffix == ".jsonl":
        return _json_rows(path, columns)
    if path.suffix in _DELIMITERS:
        return _separated_rows(path, columns)
    raise InvalidInput(f"{path} is not a .csv, .tsv or .jsonl table; text with one sentence a line needs two files")


def _json_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            raise InvalidInput(f"{path}, line {number}: not JSON: {line[:40]!r}") from None
        if not isinstance(row, dict):
            raise InvalidInput(f"{path}, line {number}: not an object with the keys {', '.join(columns)}")
        _check_names(path, number, columns, list(row))
        yield tuple(_text(path, number, name, row[name]) for name in columns)


def _separated_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[str, ...]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=_DELIMITERS[path.suffix], strict=True)
            header = next(reader, [])
            _check_names(path, 1, columns, header)
            places = [header.index(name) for name in columns]
            for row in reader:
                if row:
                    _check_width(path, reader.line_num, row, header)
                    yield tuple(row[place] for place in places)
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InvalidInput(
            f"{path} is not UTF-8 text (byte {error.start}): convert it, or check that it is text"
        ) from None
    except csv.Error as error:
        raise InvalidInput(f"{path}, line {reader.line_num}: {error}: check the quotes") from None


def _check_width(path: Path, number: int, row: Sequence[str], header: Sequence[str]) -> None:
    if len(row) != len(header):
        raise InvalidInput(
            f"{path}, line {number}: {len(row)} fields under {len(header)} columns: quote text that holds the separator"
        )


def _check_names(path: Path, number: int, wanted: Sequence[str], names: Sequence[str]) -> None:
    for name in wanted:
        if names.count(name) == 1:
            continue
        if name in names:
            raise InvalidInput(f"{path}, line {number}: column {name!r} stands twice in the header")
        near = difflib.get_close_matches(name, [str(n) for n in names], n=3, cutoff=0.5) or list(names)[:6]
        raise InvalidInput(
            f"{path}, line {number}: no column {name!r}; there are {', '.join(map(str, near)) or 'none'}"
        )


def _text(path: Path, number: int, name: str, value: object) -> str:
    if not isinstance(value, str):
        raise InvalidInput(f"{path}, line {number}: {name} is {value!r:.40}, not text")
    return value
