"""The subject's way from texts to inputs, as files that travel with a deployed folder.

They are code, so they travel only where the subject names them (`Subject.encode_files`), and they are run only by those who
say that they trust the folder.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.subject.load import run_file
from steelyard.subject.splits import Encode, Encoded
from steelyard.subject.subject import Subject

__all__ = ["carried", "carry", "read_encode", "travelling"]

HOME, _WORDS = "encode", "encode.json"
_TRIED = ("", "a", "Some words, 10 % of them.", "一些词")


def carry(subject: Subject, out: Path) -> None:
    """Keep a subject's ``encode_files`` in a run folder, once they are seen to encode as its ``encode`` does.

    Raises `InvalidInput` where they do not, or where a file is missing.
    """
    if not subject.encode_files:
        return
    files = [Path(path) for path in subject.encode_files]
    lacking = next((path for path in files if not path.is_file()), None)
    if lacking is not None or files[0].suffix != ".py" or subject.encode is None:
        raise InvalidInput(
            f"encode_files names {lacking or files[0]}: give the Python file that holds the subject's encode, then the files that it reads"
        )
    folder = out / HOME
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, folder / path.name)
    words = f"{files[0].name}:{getattr(subject.encode, '__name__', '')}"
    _check_alike(subject.encode, read_encode(out, words), files[0])
    (out / _WORDS).write_text(json.dumps(words), encoding="utf-8")


def travelling(run: Path, folder: Path) -> str | None:
    """Copy what `carry` kept into a deployed folder; ``FILE:FUNCTION``, or None where nothing travels."""
    if not (run / _WORDS).exists():
        return None
    shutil.copytree(run / HOME, folder / HOME, ignore=shutil.ignore_patterns("__pycache__"))
    words: str = json.loads((run / _WORDS).read_text(encoding="utf-8"))
    return words


def carried(folder: Path) -> list[Path]:
    """The files in a deployed folder that encode texts."""
    return sorted(path for path in (folder / HOME).glob("*") if path.is_file())


def read_encode(folder: Path, words: str) -> Encode:
    """The function ``FILE:FUNCTION`` of a folder's ``encode/``; the file is run."""
    file, _, name = words.partition(":")
    found = getattr(run_file(folder / HOME / file), name, None)
    if not callable(found):
        raise InvalidInput(
            f"{folder / HOME / file} has no function {name!r}: encode must be one at the top of its file"
        )
    encode: Callable[[Sequence[str]], np.ndarray] = found
    return encode


def _check_alike(encode: Encode, other: Encode, file: Path) -> None:
    mine, theirs = (Encoded(_TRIED, how)[:] for how in (encode, other))
    if mine.shape != theirs.shape or not np.array_equal(mine, theirs):
        raise InvalidInput(
            f"{file} encodes otherwise than the subject's encode: it must not rest on what the subject set up"
        )
