"""What is studied: the words for it, and what the model takes and gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Contract", "Floats", "Overlap", "Scalar", "SubjectSpec", "Task"]

Floats = NDArray[np.float64]
Scalar = str | float | int | bool | None
Task = Literal[
    "binary", "multiclass", "multilabel", "regression", "ranking",
    "detection", "segmentation", "translation", "summary", "answers", "speech", "language",
]  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectSpec:
    """The user's words for a subject: enough for a fresh process to build the same one again."""

    source: str  # "file.py:function", "torchvision:NAME", or a path to .onnx, .xml or .pt2
    data: str | None = None
    weights: str | None = None
    seed: int = 0
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the model takes and gives, declared once.

    A raw example ``r`` becomes the input ``(r * scale - mean) / std``, with ``mean`` and ``std`` per
    channel (the axis that ``layout`` calls ``C``) or one value for all.
    """

    shape: tuple[int, ...]  # one example as the model takes it, without the batch axis
    layout: str = "CHW"  # one letter per axis of `shape`; "F" is a plain feature axis
    dtype: str = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Literal["crop", "stretch"] = "crop"  # how a picture of another size is fitted to `shape`
    outputs: Literal["logits", "probabilities"] = "logits"
    labels: tuple[str, ...] = ()  # class names, in the order of the output columns
    task: Literal["classification"] = "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Examples of one split that also stand in another: byte for byte, or nearly."""

    split: str
    other: str
    count: int
    examples: tuple[int, ...] = ()  # positions in `split`, the first few
    kind: Literal["exact", "near"] = "exact"
    pairs: tuple[tuple[int, int], ...] = ()  # (position in `split`, position in `other`), the first few
    method: str = ""  # how near ones were told
