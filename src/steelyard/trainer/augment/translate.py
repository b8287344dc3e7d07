"""Back-translation (Sennrich et al. 2016) with translators that the user names: there and back again, kept on disk."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from steelyard.errors import InvalidInput, SteelyardError
from steelyard.subject.load import run_file

__all__ = ["RoundTrip", "named", "round_trip"]

Translate = Callable[[list[str]], Sequence[str]]

_BATCH = 32  # texts handed to a translator together
_FOLDER = Path("runs") / "translations"


class RoundTrip:
    """Texts translated there and back, each once: what was made is appended to a file at once and found there again."""

    def __init__(self, there: Translate, back: Translate, path: Path, *, batch: int = _BATCH) -> None:
        self._there, self._back, self._path, self._batch = there, back, path, batch
        self._known = _read(path)

    def __call__(self, texts: Sequence[str]) -> list[str]:
        """Each text as it came back, in order."""
        wanted = list(dict.fromkeys(text for text in texts if text not in self._known))
        for start in range(0, len(wanted), self._batch):
            part = wanted[start : start + self._batch]
            back = _translated(self._back, _translated(self._there, part, "there"), "back")
            self._keep(dict(zip(part, back, strict=True)))
        return [self._known[text] for text in texts]

    def _keep(self, made: Mapping[str, str]) -> None:
        self._known.update(made)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(pair) + "\n" for pair in made.items())


def round_trip(mapping: Mapping[str, Any]) -> RoundTrip:
    """From a recipe's words ``there``, ``back`` and ``cache``."""
    words = [mapping.get(word) for word in ("there", "back")]
    if not all(isinstance(word, str) for word in words):
        raise InvalidInput(
            "augment: back_translation needs two translators: give there: module:function and back: module:function"
        )
    there, back = (named(str(word)) for word in words)
    name = hashlib.sha256("\n".join(map(str, words)).encode()).hexdigest()[:16]
    return RoundTrip(there, back, Path(str(mapping.get("cache", _FOLDER))) / f"{name}.jsonl")


def named(words: str) -> Callable[..., Any]:
    """The function that ``module:function`` or ``file.py:function`` names. Its module is run."""
    place, colon, name = words.rpartition(":")
    if not colon or not place:
        raise InvalidInput(f"{words!r} names no function: give module:function or file.py:function")
    try:
        module = run_file(Path(place)) if place.endswith(".py") else import_module(place)
    except SteelyardError:
        raise
    except Exception as error:
        raise InvalidInput(f"cannot import {place}: {type(error).__name__}: {error}") from None
    function = getattr(module, name, None)
    if not callable(function):
        raise InvalidInput(f"{place} has no function {name!r}")
    return function  # type: ignore[no-any-return]


def _translated(translate: Translate, texts: list[str], which: str) -> list[str]:
    try:
        made = list(translate(texts))
    except SteelyardError:
        raise
    except Exception as error:
        raise InvalidInput(f"augment: the translator {which} failed: {type(error).__name__}: {error}") from error
    if len(made) != len(texts) or not all(isinstance(text, str) for text in made):
        raise InvalidInput(
            f"augment: the translator {which} gave {len(made)} answers for {len(texts)} texts: a string for each is needed"
        )
    return made


def _read(path: Path) -> dict[str, str]:
    """What was kept; a last line that a crash cut short is left out."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    known = {}
    for line in lines:
        try:
            text, back = json.loads(line)
        except ValueError:
            continue
        known[text] = back
    return known
