"""A recipe's augmentation words, checked before anything runs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from steelyard.errors import InvalidInput

__all__ = ["among", "number", "only"]


def only(mapping: Mapping[str, Any], known: Iterable[str]) -> None:
    """Raise `InvalidInput` for a word that is not known, with those nearest to it.

    >>> only({"rotate": 20}, ["rotation", "shift"])
    Traceback (most recent call last):
    ...
    steelyard.errors.InvalidInput: augment has no word 'rotate'; nearest: rotation
    """
    names = tuple(known)
    for word in mapping:
        if word not in names:
            near = get_close_matches(str(word), names, 3, 0.5)
            raise InvalidInput(
                f"augment has no word {word!r}; "
                + (f"nearest: {', '.join(near)}" if near else f"it knows {', '.join(names)}")
            )


def number(word: str, value: Any, low: float, high: float) -> float:
    """The value as a number from `low` to `high`, or `InvalidInput`."""
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not math.isfinite(value)
        or not low <= value <= high
    ):
        raise InvalidInput(f"augment: {word} must be a number from {low:g} to {high:g}, got {value!r}")
    return float(value)


def among(word: str, value: Any, choices: tuple[Any, ...]) -> Any:
    """The value, one of `choices`, or `InvalidInput`."""
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in choices):
        shown = ", ".join("true" if c is True else "false" if c is False else str(c) for c in choices)
        raise InvalidInput(f"augment: {word} must be one of {shown}, got {value!r}")
    return value
