"""Options of passes, checked where a pass is made: words by the `Literal` that a field is declared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, Literal, get_args, get_origin, get_type_hints

from steelyard.errors import InvalidInput

__all__ = ["check_words", "names_in"]


def check_words(technique: str, config: Any) -> None:
    """Raise `InvalidInput` for an option that is none of the values its `Literal` allows, with the nearest of them.

    >>> @dataclasses.dataclass
    ... class Config:
    ...     bits: Literal[8, 4] = 8
    >>> check_words("weight_only", Config(bits=3))
    Traceback (most recent call last):
    steelyard.errors.InvalidInput: weight_only: bits must be 8 or 4, got 3
    """
    hints = get_type_hints(type(config))
    for field in dataclasses.fields(config):
        allowed, value = get_args(hints[field.name]), getattr(config, field.name)
        if get_origin(hints[field.name]) is Literal and value not in allowed:
            near = get_close_matches(str(value), map(str, allowed), 1)
            hint = f"; nearest: {near[0]}" if near else ""
            raise InvalidInput(f"{technique}: {field.name} must be {_either(allowed)}, got {value!r}{hint}")


def names_in(technique: str, listed: str, known: Iterable[str]) -> tuple[str, ...]:
    """The layers in a list with commas. Raises `InvalidInput` for one that the model lacks, with the nearest.

    >>> names_in("quantize_static", "a, c", ["a", "b", "c"])
    ('a', 'c')
    """
    wanted = tuple(name.strip() for name in listed.split(",") if name.strip())
    layers = list(known)
    for name in wanted:
        if name not in layers:
            near = get_close_matches(name, layers, 3, 0.3) or layers[:3]
            raise InvalidInput(f"{technique}: the model has no layer {name!r} to leave out; nearest: {', '.join(near)}")
    return wanted


def _either(allowed: tuple[Any, ...]) -> str:
    return " or ".join(map(str, allowed))
