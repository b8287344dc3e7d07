"""A suite in a YAML file: models x data x engines x batches, checked with the offending line and the cure.

::

    name: nightly
    budget: 20s                     # of one cell
    batches: [1, 8]
    engines: [as-is, onnxruntime]   # as-is | torch | onnxruntime | openvino
    data: [digits]                  # for every model that names none of its own
    stress: p99 <= 35 ms            # raise the load until that breaks; true: until ten median latencies break
    models:
      cnn: digits.py                # paths are relative to this file
      mlp: {source: models.py:mlp, data: digits}
      zoo: {source: resnet18.onnx, scale: 1/255, mean: 0.5, std: 0.25}
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from steelyard.errors import InvalidInput
from steelyard.pipeline.asked import latency_limit
from steelyard.records import Requirement, Scalar, SubjectSpec

__all__ = ["DEFAULT", "Cell", "Definition", "Engine", "as_json", "read_definition"]

DEFAULT = Path(__file__).with_name("default.yaml")
"""The suite that runs where no file is named: two small nets on scikit-learn's digits."""

Engine = Literal["as-is", "torch", "onnxruntime", "openvino"]
_NAME = r"^\w[\w.+\-]*$"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One model on one data set by one engine at one batch size."""

    model: str
    data: str  # "" for cost alone
    engine: Engine
    batch: int
    spec: SubjectSpec
    stress: bool = False  # load raised until it breaks, at batch size 1

    @property
    def key(self) -> str:
        """The name under which two suites find the same cell."""
        what = "stress" if self.stress else f"batch-{self.batch}"
        return f"{self.model}/{self.data or 'no-data'}/{self.engine}/{what}"

    @property
    def folder(self) -> str:
        """The run folder that cells of one model on one data set share: what is trained is trained once."""
        return re.sub(r"[^\w.+\-]", "_", f"{self.model}-{self.data}" if self.data else self.model)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Model(_Strict):
    source: Annotated[str, Field(min_length=1)]
    data: str | None = None
    weights: str | None = None
    scale: str | float | None = None
    mean: str | float | None = None
    std: str | float | None = None
    outputs: Literal["logits", "probabilities"] | None = None
    labels: str | None = None
    label: str | None = None
    classes: Annotated[int, Field(ge=2)] | None = None
    size: Annotated[int, Field(ge=1)] | None = None


class Definition(_Strict):
    """What a suite's file may say."""

    name: Annotated[str, Field(pattern=_NAME)]
    models: Annotated[dict[Annotated[str, Field(pattern=_NAME)], _Model], Field(min_length=1)]
    data: tuple[str, ...] = ()
    engines: Annotated[tuple[Engine, ...], Field(min_length=1)] = ("as-is",)
    batches: Annotated[tuple[Annotated[int, Field(ge=1, le=65536)], ...], Field(min_length=1)] = (1,)
    budget: str | float = "20s"
    stress: bool | str | None = None

    @field_validator("models", mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        """``cnn: digits.py`` is short for ``cnn: {source: digits.py}``."""
        if not isinstance(value, dict):
            return value
        return {str(name): {"source": said} if isinstance(said, str) else said for name, said in value.items()}

    @field_validator("data", "engines", "batches", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> Any:
        return value if isinstance(value, list | tuple) else (value,)

    @field_validator("stress", mode="before")
    @classmethod
    def _limit(cls, value: Any) -> Any:
        try:
            return value if isinstance(value, bool | None) else latency_limit(str(value), "it").text
        except InvalidInput as error:
            raise ValueError(str(error)) from None

    @property
    def target(self) -> Requirement | None:
        """The latency that rising load is to break, where one was said."""
        return latency_limit(self.stress, "it") if isinstance(self.stress, str) else None

    def cells(self, folder: Path) -> tuple[Cell, ...]:
        """Every cell, in the order in which they are read; paths are relative to `folder`."""
        return tuple(
            Cell(model=name, data=data, engine=engine, batch=batch, spec=_spec(model, data, folder), stress=stress)
            for name, model in self.models.items()
            for data in ((model.data,) if model.data is not None else self.data or ("",))
            for engine in dict.fromkeys(self.engines)
            for batch, stress in (*((b, False) for b in dict.fromkeys(self.batches)), *((1, True),) * bool(self.stress))
        )


def read_definition(path: Path) -> Definition:
    """Read a suite's file. Raises `InvalidInput` with file, line, what is wrong there and the cure."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read {path}: {getattr(error, 'strerror', None) or 'it is no text'}") from None
    document, lines = _parsed(path, text)
    try:
        return Definition.model_validate(document)
    except ValidationError as error:
        raise InvalidInput(_said(path, error, lines)) from None


def _spec(model: _Model, data: str, folder: Path) -> SubjectSpec:
    declared = ("scale", "mean", "std", "outputs", "labels", "label", "classes", "size")
    options: dict[str, Scalar] = {name: getattr(model, name) for name in declared if getattr(model, name) is not None}
    numbers = {name: str(value) for name, value in options.items() if isinstance(value, float)}
    return SubjectSpec(
        source=_beside(model.source, folder),
        data=_beside(data, folder) if data else None,
        weights=_beside(model.weights, folder) if model.weights else None,
        options={**options, **numbers},
    )


def _beside(words: str, folder: Path) -> str:
    """A path beside the suite's file where there is one; else the words as they are: ``digits``, ``torchvision:resnet18``."""
    path, colon, function = words.partition(":")
    return f"{folder / path}{colon}{function}" if (folder / path).exists() else words


# --- YAML with lines -------------------------------------------------------------------------------------

_Lines = Mapping[tuple[str | int, ...], int]


def _parsed(path: Path, text: str) -> tuple[Any, _Lines]:
    """The document in plain types, and the line that each key or item stands on."""
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark is not None else ""
        raise InvalidInput(f"{path}{where}: no YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{path}: a suite begins with `name: ...` and `models:`; see {DEFAULT}")
    lines: dict[tuple[str | int, ...], int] = {}
    for place, line in _walk(node, ()):
        if place in lines:
            raise InvalidInput(
                f"{path}, line {line}: {place[-1]!r} stands here again, first in line {lines[place]}: keep one"
            )
        lines[place] = line
    return document, lines


def _walk(node: Any, place: tuple[str | int, ...]) -> Iterator[tuple[tuple[str | int, ...], int]]:
    """Every key and item with its place in the document and its line, counted from 1."""
    children = node.value if isinstance(node.value, list) else []
    for number, child in enumerate(children):
        key, value = child if isinstance(child, tuple) else (None, child)
        here = (*place, key.value if key is not None else number)
        yield here, (key or value).start_mark.line + 1
        yield from _walk(value, here)


def _said(path: Path, error: ValidationError, lines: _Lines) -> str:
    """The error to mend first: where, what, and the nearest name or an example."""
    first = min(error.errors(), key=lambda e: e["type"] != "extra_forbidden")  # a misspelt word also leaves one missing
    place = tuple(part for part in first["loc"] if part != "[key]")
    line = next((lines[place[:n]] for n in range(len(place), 0, -1) if place[:n] in lines), None)
    where = f"{path}, line {line}" if line is not None else str(path)
    shown = ".".join(map(str, place))
    return f"{where}: {shown}: {_reason(first, place)}"


def _reason(first: Any, place: tuple[str | int, ...]) -> str:
    kind, word = first["type"], str(place[-1]) if place else ""
    if kind == "value_error":
        return str(first["ctx"]["error"])
    if kind == "extra_forbidden":
        known = tuple((_Model if place[0] == "models" else Definition).model_fields)
        near = get_close_matches(word, known, 1)
        return f"no such word; did you mean {near[0]!r}?" if near else f"no such word; known: {', '.join(known)}"
    if kind == "missing":
        return "is missing: " + {"models": "name at least one, such as `models: {cnn: digits.py}`"}.get(
            word, f"write `{word}: ...`"
        )
    if kind == "literal_error":
        known = tuple(re.findall(r"'([^']+)'", str(first["ctx"]["expected"])))
        near = get_close_matches(str(first["input"]), known, 1, 0.4)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return f"{first['input']!r} is none of {first['ctx']['expected']}{hint}"
    if kind == "model_type":
        return f"write `{word}: digits.py`, or `{word}: {{source: digits.py, data: digits}}`"
    return f"{first['msg'][:1].lower()}{first['msg'][1:]}; got {first['input']!r}"


def as_json(definition: Definition) -> str:
    """The definition as it is recorded: two suites with the same one ask for the same."""
    return definition.model_dump_json(exclude_none=True)
