"""Records as lines of JSON, with the schema's version."""

from __future__ import annotations

import base64
import dataclasses
import json
import types
import zlib
from collections.abc import Iterable, Mapping
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from steelyard.errors import InvalidInput, SchemaTooNew
from steelyard.records import (
    comparisons,
    evaluations,
    gates,
    ledger,
    plans,
    profiles,
    readings,
    runs,
    studied,
    training,
)

__all__ = ["SCHEMA", "decode", "encode"]

SCHEMA = 2

_HOMES = (studied, readings, plans, profiles, runs, evaluations, gates, comparisons, training, ledger)
_TYPES: dict[str, type] = {
    cls.__name__: cls
    for home in _HOMES
    for cls in vars(home).values()
    if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == home.__name__
}


def encode(record: object) -> str:
    """One line of JSON for a record, with the schema's version.

    >>> from steelyard.records.plans import Step
    >>> encode(Step(name="bf16"))
    '{"schema":2,"record":{"type":"Step","name":"bf16","options":[]}}'
    """
    return json.dumps({"schema": SCHEMA, "record": _plain(record)}, separators=(",", ":"), allow_nan=True)


def decode(line: str) -> Any:
    """The record in one line of JSON.

    Raises `SchemaTooNew` for a newer schema and `InvalidInput` for anything that is not a record.

    >>> from steelyard.records.plans import Step
    >>> decode(encode(Step(name="bf16")))
    Step(name='bf16', options=())
    """
    try:
        document = json.loads(line)
        schema, body = document["schema"], document["record"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput(f"not a Steelyard record: {line[:60]!r} ({error})") from None
    if not isinstance(schema, int) or schema > SCHEMA:
        raise SchemaTooNew(
            f"records have schema {schema}, this Steelyard reads up to {SCHEMA}: upgrade it (pip install -U steelyard)"
        )
    try:
        return _live(body, Any)
    except (KeyError, TypeError, ValueError, zlib.error, RecursionError) as error:
        raise InvalidInput(f"damaged record: {error}") from None


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        packed = base64.b64encode(zlib.compress(np.ascontiguousarray(value).tobytes(), 6)).decode()
        return {"type": "array", "dtype": value.dtype.str, "shape": list(value.shape), "zlib": packed}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Iterable):
        return [_plain(v) for v in value]
    raise TypeError(f"cannot record a {type(value).__name__}")


def _live(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(_live(v, _item_hint(hint)) for v in value)
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind == "array" and "zlib" in value:
        dtype = np.dtype(value["dtype"])
        if dtype.hasobject:
            raise ValueError("object arrays are not allowed")
        array = np.frombuffer(zlib.decompress(base64.b64decode(value["zlib"])), dtype=dtype)
        return array.reshape(value["shape"]).copy()
    if kind is None or not _expects_record(hint):
        return {k: _live(v, Any) for k, v in value.items()}
    cls = _TYPES.get(kind)
    if cls is None:
        raise ValueError(f"unknown record type {kind!r}")
    hints = _hints(cls)
    unknown = value.keys() - hints.keys() - {"type"}
    if unknown:
        raise ValueError(f"{kind} has unknown fields {sorted(unknown)}")
    return cls(**{k: _live(v, hints[k]) for k, v in value.items() if k != "type"})


def _hints(cls: type) -> dict[str, Any]:
    cached = _HINTS.get(cls)
    if cached is None:
        cached = _HINTS[cls] = get_type_hints(cls)
    return cached


_HINTS: dict[type, dict[str, Any]] = {}


def _expects_record(hint: Any) -> bool:
    """A mapping field may hold a key called "type"; only where a record is expected is it a tag."""
    return get_origin(hint) is not Mapping


def _item_hint(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next((a for a in get_args(hint) if get_origin(a) is tuple), Any)
    arguments = get_args(hint)
    return arguments[0] if get_origin(hint) is tuple and arguments else Any
