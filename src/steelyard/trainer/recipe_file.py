"""A recipe from a YAML file or a ready one's name, and from words such as ``lr=0.05``."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from steelyard.errors import InvalidInput
from steelyard.trainer.recipe import Recipe

__all__ = ["READY", "read_recipe", "recipe_yaml"]

READY = (
    "warmup-cosine", "classic", "augment-light", "augment-strong", "adam-then-sgd", "hold-then-decay", "low-memory",
    "fast-cpu", "fast-gpu", "transfer",
)  # fmt: skip

_WORDS = {  # pydantic's in the user's
    "a valid number": "a number",
    "a valid integer": "a whole number",
    "a valid boolean": "true or false",
    "a valid dictionary": "words with values, such as {rotation: 20}",
    "a valid string": "names of layers, such as [layer1, layer2]",
    "a valid tuple": "a list, such as [a, b]",
}

_Said = dict[str, tuple[Any, str]]  # a value, and where it was said


def read_recipe(words: str | Path = "warmup-cosine", changes: Sequence[str] = ()) -> Recipe:
    """The recipe in a file or of a ready name, with `changes` such as ``lr=0.05`` or ``augment.rotation=10``.

    Raises `InvalidInput` that names file and line, the value and the cure.

    >>> read_recipe("hold-then-decay", ["lr=1e-2", "seed=3"]).lr
    0.01
    """
    said = _of_file(*_text(words))
    for change in changes:
        _change(said, change)
    types = get_type_hints(Recipe)
    for name, (_, where) in said.items():
        if name not in types:
            raise InvalidInput(f"{where}: no such word {name!r}; {_nearest(name, types)}")
    values = {name: _typed(name, value, types[name], where) for name, (value, where) in said.items()}
    try:
        return Recipe(**values)
    except InvalidInput as error:
        _, where = said.get(str(error).partition(" ")[0], ("", str(words)))
        raise InvalidInput(f"{where}: {error}") from None


def recipe_yaml(recipe: Recipe) -> str:
    """The recipe as a file that `read_recipe` reads back: what differs from the defaults."""
    import yaml

    defaults = Recipe(epochs=1).plain() | {"epochs": None}
    plain = {name: value for name, value in recipe.plain().items() if value != defaults[name]}
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in plain.items()}
    return yaml.safe_dump(listed, sort_keys=False, allow_unicode=True)


def _text(words: str | Path) -> tuple[str, str]:
    """A recipe's text, and what to call it."""
    if str(words) in READY:
        ready = resources.files("steelyard.trainer").joinpath(f"recipes/{words}.yaml")
        return ready.read_text(encoding="utf-8"), str(words)
    path = Path(words)
    if not path.is_file():
        near = get_close_matches(str(words), READY, 1, 0.5)
        hint = f"did you mean {near[0]}?" if near else f"ready ones: {', '.join(READY)}"
        raise InvalidInput(f"no recipe {str(words)!r}: give a YAML file or a ready one's name; {hint}")
    try:
        return path.read_text(encoding="utf-8"), str(path)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None


def _of_file(text: str, name: str) -> _Said:
    """Keys of the document with their values and lines."""
    import yaml

    try:
        node, document = yaml.compose(text, Loader=yaml.SafeLoader), yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # a date that there is not is a ValueError
        mark = getattr(error, "problem_mark", None)
        where = f"{name}, line {mark.line + 1}" if mark is not None else name
        raise InvalidInput(f"{where}: no YAML: {getattr(error, 'problem', None) or error}") from None
    if node is None or not isinstance(document, dict):
        raise InvalidInput(f"{name}: a recipe is lines such as `lr: 0.1`")
    said: _Said = {}
    for key, _ in node.value:
        where = f"{name}, line {key.start_mark.line + 1}"
        if key.value in said:
            raise InvalidInput(
                f"{where}: {key.value!r} stands here again, first in {said[key.value][1].rpartition(', ')[2]}: keep one"
            )
        said[key.value] = (document.get(key.value), where)
    return said


def _change(said: _Said, change: str) -> None:
    """Put ``name=value`` or ``name.part=value`` in the place of what the file says."""
    import yaml

    name, equals, words = change.partition("=")
    if not equals or not name:
        raise InvalidInput(f"cannot read {change!r}: changes of the recipe are written lr=0.05")
    try:
        value = yaml.safe_load(words)
    except (yaml.YAMLError, ValueError):
        raise InvalidInput(f"cannot read the value in {change!r}: write a number, a word, or [a, b]") from None
    whole, _, part = name.partition(".")
    if part:
        before = said.get(whole, ({}, ""))[0]
        value = {**(before if isinstance(before, Mapping) else {}), part: value}
    said[whole] = (value, change)


def _typed(name: str, value: Any, kind: Any, where: str) -> Any:
    """A value as its field's type; YAML leaves ``1e-3`` a word, which is a number here."""
    from pydantic import TypeAdapter, ValidationError

    try:
        if isinstance(value, bool) and kind is not bool:
            raise InvalidInput(f"{where}: {name} must be no yes or no; got {value}")
        return TypeAdapter(kind, config={"coerce_numbers_to_str": True}).validate_python(value)  # layers are named 0, 1
    except ValidationError as error:
        needed = (_needed(e["type"], e["msg"]) for e in error.errors())
        words = " or ".join(dict.fromkeys(needed))
        raise InvalidInput(f"{where}: {name} must be {words}; got {value!r}") from None


def _needed(kind: str, said: str) -> str:
    """What pydantic says should be there, in the user's words."""
    wanted = said.removeprefix("Input should be ")
    if kind == "literal_error":
        return wanted
    plain = wanted.partition(",")[0]
    return _WORDS.get(plain, plain)


def _nearest(name: str, known: Mapping[str, Any]) -> str:
    near = get_close_matches(name, [field.name for field in dataclasses.fields(Recipe)], 3, 0.5)
    return f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}"
