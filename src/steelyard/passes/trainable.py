"""Models that can be trained on, from the user's code and what passes have changed about its shape.

An exported program cannot be trained, so a pass that changes the model's shape keeps, in ``trainable/`` beside the
program, the words of the user's code or of a student, the layers taken apart or left out, every layer's sizes, and the
weights: numbers only, no pickled code. The next pass builds the module again from these. Imports torch, so passes import it only when applied.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes.bench import Bench, Built
from steelyard.passes.lowrank import take_apart
from steelyard.passes.modules import save_module
from steelyard.passes.separable import separate
from steelyard.passes.shallow import skip
from steelyard.passes.students import build_student
from steelyard.records import Contract, SubjectSpec
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines.eager import rebuild
from steelyard.subject.load import load_subject
from steelyard.subject.safe import load_weights, save_weights

__all__ = ["Shape", "origin", "save_trainable", "tied", "trainable"]

FOLDER = "trainable"
_SIZES = (
    "in_channels", "out_channels", "groups", "in_features", "out_features", "num_features", "num_channels",
    "num_groups", "num_parameters", "normalized_shape", "num_embeddings", "embedding_dim",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """What the user's code does not say of a changed model."""

    spec: SubjectSpec
    student: str = ""  # words of the net that took the place of the user's, see `build_student`
    skipped: Sequence[str] = ()  # blocks left out
    separable: Mapping[str, int] = dataclasses.field(default_factory=dict)  # kernels a channel of convolutions in two
    apart: Mapping[str, int] = dataclasses.field(default_factory=dict)  # ranks of layers that are two now
    sparse: bool = False  # zeros stay zeros when it is trained


def trainable(source: Artifact) -> tuple[nn.Module, Shape]:
    """A fresh module in evaluation mode. Raises `CannotApply` for a model that came without the code that makes it."""
    if source.engine == "eager":
        return rebuild(source), origin(source)
    document = _document(source)
    shape = origin(source)
    return _built(shape, source.contract, document["sizes"], source.folder / FOLDER / "weights.pt"), shape


def origin(source: Artifact) -> Shape:
    """What is known of a model's making, without making it. Raises `CannotApply` where the code is not known."""
    if source.spec is not None:
        return Shape(spec=source.spec)
    document = _document(source)
    del document["sizes"]
    return Shape(spec=SubjectSpec(**document.pop("spec")), **document)


def _document(source: Artifact) -> dict[str, Any]:
    path = source.folder / FOLDER / "shape.json"
    if not path.is_file():
        raise CannotApply(
            "this technique trains the model, and a program cannot be trained: it starts from file.py:function, "
            "or from a technique that keeps its model trainable"
        )
    document: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return document


def save_trainable(module: nn.Module, shape: Shape, source: Artifact, bench: Bench) -> Built:
    """The artifact of a changed module: the program, and what the next pass needs to train it further."""
    folder = bench.folder / FOLDER
    folder.mkdir(exist_ok=True)
    document = {**dataclasses.asdict(shape), "sizes": _sizes(module)}
    (folder / "shape.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    save_weights(module, folder / "weights.pt")
    return save_module(module, source, bench, tolerance=1e-3)


def tied(module: nn.Module) -> dict[str, str]:
    """Layers whose parameters another layer shares, with the parameter's name."""
    seen: dict[int, list[tuple[str, str]]] = {}
    for layer, child in module.named_modules():
        for name, parameter in child.named_parameters(recurse=False):
            seen.setdefault(id(parameter), []).append((layer, name))
    return {layer: name for owners in seen.values() if len(owners) > 1 for layer, name in owners}


def _sizes(module: nn.Module) -> dict[str, dict[str, Any]]:
    return {
        name: {key: value for key in _SIZES if (value := _whole(getattr(layer, key, None))) is not None}
        for name, layer in module.named_modules()
        if not list(layer.children())
    }


def _whole(value: Any) -> int | list[int] | None:
    """A size, or sizes; None for anything else that goes by such a name in the user's code."""
    if isinstance(value, int):
        return value
    return list(value) if isinstance(value, tuple) and all(isinstance(v, int) for v in value) else None


def _built(shape: Shape, contract: Contract, sizes: Mapping[str, Mapping[str, Any]], weights: Path) -> nn.Module:
    subject = load_subject(dataclasses.replace(shape.spec, weights=None))
    model = build_student(shape.student, subject, contract).model if shape.student else subject.model
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"{shape.spec.source} no longer gives a PyTorch module")
    for name in shape.skipped:
        skip(model, name)
    for name, filters in shape.separable.items():
        separate(model, name, filters)
    for name, rank in shape.apart.items():
        take_apart(model, name, rank)
    layers = dict(model.named_modules())
    for name, values in sizes.items():
        for key, value in values.items():
            setattr(layers[name], key, tuple(value) if isinstance(value, list) else value)
    _resize(model, torch.load(weights, map_location="cpu", weights_only=True))
    load_weights(model, weights)
    return model.eval()


def _resize(model: nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    """Make room for weights of other shapes; a tensor that two layers share stays one."""
    made: dict[int, Any] = {}
    for name, layer in model.named_modules(remove_duplicate=False):
        own = [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]
        for key, old in own:
            kept = state.get(f"{name}.{key}" if name else key)
            if kept is None or kept.shape == old.shape:
                continue
            empty = torch.empty(kept.shape, dtype=kept.dtype)
            new = made.setdefault(id(old), nn.Parameter(empty) if isinstance(old, nn.Parameter) else empty)
            made[id(new)] = new  # seen again under another layer's name, it is right already
            setattr(layer, key, new)
