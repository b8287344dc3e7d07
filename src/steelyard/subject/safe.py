"""Reading files from strangers: weights without running code."""

from __future__ import annotations

import io
import json
import pickle
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.errors import InvalidInput, UnsafeFile

if TYPE_CHECKING:
    from torch import nn

__all__ = ["check_program", "load_weights", "read_weights", "save_weights"]

_ARITHMETIC = re.compile(r"[\w\s+\-*/%(),.<>=&|~]*")
_SAFE_WAY = (
    "save the weights with safetensors.torch.save_file(model.state_dict(), 'model.safetensors') and give that file"
)


def read_weights(path: Path) -> dict[str, Any]:
    """A state dict from a .safetensors file, or from a PyTorch file read with ``weights_only=True``.

    Raises `UnsafeFile` for a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise InvalidInput(f"no such weights file: {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        import torch

        content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error) or "weights_only" in str(error).lower():
            raise UnsafeFile(f"{path} could run code when opened, so it was not: {_SAFE_WAY}") from None
        raise InvalidInput(f"{path} is not a weights file: {str(error).splitlines()[0]}") from None
    except Exception as error:
        raise InvalidInput(f"cannot read weights from {path}: {str(error).splitlines()[0][:200]}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(hasattr(v, "shape") for v in content.values()):
        raise InvalidInput(f"{path} holds a {type(content).__name__}, not a state dict of tensors: {_SAFE_WAY}")
    return content


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights in `path` into `model`; every name and shape must match."""
    weights = read_weights(path)
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        raise InvalidInput(
            f"{path} does not fit the model: {len(missing)} names missing {missing[:2]}, {len(extra)} unknown {extra[:2]}"
        )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise InvalidInput(
                f"{path} does not fit the model: {name} has shape {tuple(weights[name].shape)}, "
                f"the model's is {tuple(tensor.shape)}"
            )
    model.load_state_dict(weights)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the model's state dict; `read_weights` reads it back with ``weights_only=True``."""
    import torch

    torch.save(model.state_dict(), path)


def check_program(path: Path) -> None:
    """Raise `UnsafeFile` unless a .pt2 archive holds tensors and a graph only.

    `torch.export.load` unpickles some payloads without restriction and evaluates the graph's shape expressions, so
    both are looked through first: pickled payloads must pass the restricted unpickler, expressions must be arithmetic.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            for name in _pickled(archive, names):
                _check_pickle(path, name, archive.read(name))
            for name in (n for n in names if "/models/" in n and n.endswith(".json")):
                _check_expressions(path, json.loads(archive.read(name)))
    except (OSError, zipfile.BadZipFile, ValueError, KeyError) as error:
        raise InvalidInput(f"cannot read {path} as an exported program (.pt2): {error}") from None


def _pickled(archive: zipfile.ZipFile, names: list[str]) -> Iterator[str]:
    """Members that `torch.export.load` would unpickle."""
    for name in names:
        folder, _, base = name.rpartition("/")
        if base.startswith(("custom_obj", "opaque_obj")) or base.endswith((".pt", ".pkl")):
            yield name
        elif base.endswith("_config.json"):
            entries = json.loads(archive.read(name)).get("config", {})
            yield from (f"{folder}/{e['path_name']}" for e in entries.values() if e.get("use_pickle"))


def _check_pickle(path: Path, name: str, content: bytes) -> None:
    import torch

    try:
        torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError):
        raise _unsafe(path, f"its part {name} is a pickle of more than tensors") from None


def _check_expressions(path: Path, node: Any) -> None:
    if isinstance(node, dict):
        expression = node.get("expr_str")
        if isinstance(expression, str) and (not _ARITHMETIC.fullmatch(expression) or "__" in expression):
            raise _unsafe(path, f"a shape expression reads {expression[:40]!r}")
        for value in node.values():
            _check_expressions(path, value)
    elif isinstance(node, list):
        for value in node:
            _check_expressions(path, value)


def _unsafe(path: Path, what: str) -> UnsafeFile:
    return UnsafeFile(
        f"{path} could run code when opened ({what}), so it was not: "
        "give ONNX, or file.py:function with weights in safetensors"
    )
