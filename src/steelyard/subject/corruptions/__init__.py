"""Damage that data may meet in use, at five severities: the ground of the robustness curves (Q16).

A corruption is a pure function of examples, severity and seed. Severity 0 changes nothing, and an example is damaged in the
same way whatever stands beside it, so splitting work into batches changes no number. More severity only adds
damage of the same kind to the same places.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.records import Contract, Unavailable
from steelyard.subject.corruptions import images
from steelyard.subject.corruptions.chance import generators
from steelyard.subject.corruptions.texts import NOISES
from steelyard.subject.splits import Encoded, Split

__all__ = ["CORRUPTIONS", "Corruption", "corrupted", "corruptions_for", "feature_noise"]

_VALUES_AT_ONCE = 8_000_000  # pixels made worse together
_SPREADS = (0.05, 0.10, 0.20, 0.35, 0.50)
_LOOKED_AT = 500  # texts that tell which noises fit a language
_REACHED = 0.5  # share of texts in which a noise must find something to strike


@dataclass(frozen=True, slots=True, kw_only=True)
class Corruption:
    """One kind of damage. ``severity`` says in words what the five ``strengths`` are."""

    name: str
    kind: Literal["image", "text", "features"]
    function: Callable[[Any, int, int], Any]
    severity: str
    strengths: tuple[float, ...]

    def __call__(self, raw: Any, severity: int, seed: int = 0, *, layout: str = "CHW") -> Any:
        """The examples, damaged; what comes in is left alone.

        Pictures are uint8 of shape ``(n, *layout)``, where `layout` orders ``H``, ``W`` and perhaps ``C``; texts are a
        sequence of strings; features are ``(n, columns)``. Raises `InvalidInput` for a severity outside 0 to 5, and for
        examples that this damage is not defined for.
        """
        if severity not in range(6):
            raise InvalidInput(f"severity must be a whole number from 0 to 5, got {severity}")
        if seed < 0:
            raise InvalidInput(f"the seed must be 0 or more, got {seed}")
        if self.kind == "text":
            texts = _strings(raw)
            return texts if severity == 0 else self.function(texts, severity, seed)
        rows = np.asarray(raw)
        reason = _no_pictures(rows, layout) if self.kind == "image" else _no_features(rows)
        if reason:
            raise InvalidInput(f"cannot apply {self.name}: {reason}")
        if severity == 0 or not len(rows):
            return rows.copy()
        change = self._pictures if self.kind == "image" else self._features
        return change(rows, severity, seed, layout)

    def _pictures(self, rows: NDArray[np.uint8], severity: int, seed: int, layout: str) -> NDArray[np.uint8]:
        order = [1 + layout.index(axis) for axis in "HWC" if axis in layout]
        upright = rows.transpose(0, *order).reshape(len(rows), *(rows.shape[axis] for axis in order[:2]), -1)
        size = max(1, _VALUES_AT_ONCE // max(1, rows[0].size))
        parts = [
            self.function(np.ascontiguousarray(upright[start : start + size]), severity, seed)
            for start in range(0, len(rows), size)
        ]
        back = np.concatenate(parts).reshape(len(rows), *(rows.shape[axis] for axis in order))
        return np.ascontiguousarray(back.transpose(0, *(1 + np.argsort(order))))

    def _features(self, rows: NDArray[Any], severity: int, seed: int, _: str) -> NDArray[Any]:
        changed: NDArray[Any] = self.function(rows, severity, seed)
        return changed


_MEANINGS = {
    "gaussian_noise": "standard deviation, as a share of the range",
    "shot_noise": "photons counted where a pixel is white",
    "impulse_noise": "share of values set to black or white",
    "gaussian_blur": "standard deviation beyond 0.3 pixels, as a share of the shorter side",
    "motion_blur": "path beyond 1 pixel, as a share of the shorter side",
    "brightness": "added, as a share of the range",
    "contrast": "share of the distance from the mean that is kept",
    "jpeg": "JPEG quality",
    "rotation": "degrees",
    "pixelate": "side of a box beyond 1 pixel, as a share of the shorter side",
}

CORRUPTIONS: Mapping[str, Corruption] = {
    **{
        name: Corruption(
            name=name,
            kind="image",
            function=getattr(images, name),
            severity=meaning,
            strengths=images.STRENGTHS[name],
        )
        for name, meaning in _MEANINGS.items()
    },
    **{
        name: Corruption(
            name=name,
            kind="text",
            function=noise,
            severity=f"share of {noise.strikes} that are {noise.done}",
            strengths=noise.shares,
        )
        for name, noise in NOISES.items()
    },
}


def feature_noise(reference: NDArray[Any]) -> Corruption:
    """Normal noise on every column, measured by the spread of that column in `reference` ``(n, columns)``, usually training.

    A column that never changes there stays as it is. Columns that hold codes or whole numbers become broken numbers
    like any other: the noise knows nothing of what they mean.
    """
    rows = np.asarray(reference)
    reason = _no_features(rows) or ("" if len(rows) else "the reference holds no examples")
    if reason:
        raise InvalidInput(f"cannot measure the spread of columns: {reason}")
    spread = rows.std(axis=0, dtype=np.float64)

    def function(raw: NDArray[Any], severity: int, seed: int) -> NDArray[Any]:
        if raw.shape[1] != len(spread):
            raise InvalidInput(f"examples have {raw.shape[1]} columns, the spread was measured on {len(spread)}")
        noise = [chance.standard_normal(raw.shape[1]) for chance in generators((r.tobytes() for r in raw), seed)]
        return np.asarray(raw + _SPREADS[severity - 1] * spread * np.stack(noise), dtype=raw.dtype)

    return Corruption(
        name="feature_noise",
        kind="features",
        function=function,
        severity="standard deviation, as a share of each column's own",
        strengths=_SPREADS,
    )


def corruptions_for(
    split: Split, contract: Contract, *, reference: Split | None = None
) -> tuple[Corruption, ...] | Unavailable:
    """The corruptions that fit a split's examples, or why none does.

    Texts get the noises that find something to strike in at least half of them, so that Chinese noise is not
    called harmless on English. `reference` is the split whose columns' spread measures the noise on features.
    """
    if split.texts is not None:
        return _for_texts(split.texts[:_LOOKED_AT])
    first = np.asarray(split.raw[np.arange(min(1, len(split)))])
    not_pictures, not_features = _no_pictures(first, contract.layout), _no_features(first)
    if not not_pictures:
        return tuple(c for c in CORRUPTIONS.values() if c.kind == "image")
    if not not_features:
        return (feature_noise(np.concatenate(list((reference or split).chunks()))),)
    reason = not_pictures if {"H", "W"} <= set(contract.layout) else not_features
    return Unavailable(quantity="robustness", reason=reason)


def _for_texts(texts: Sequence[str]) -> tuple[Corruption, ...] | Unavailable:
    fitting = tuple(CORRUPTIONS[name] for name, noise in NOISES.items() if noise.reach(texts) >= _REACHED)
    if not fitting:
        return Unavailable(
            quantity="robustness", reason="the texts hold no characters that the known noises can strike"
        )
    return fitting


def corrupted(split: Split, corruption: Corruption, severity: int, *, contract: Contract, seed: int = 0) -> Split:
    """A split of the same labels whose examples are damaged when they are read; texts are encoded anew.

    Raises `InvalidInput` for texts that were read back from disk, where nothing says how they are encoded.
    """
    if corruption.kind != "text":
        rows = _Corrupted(split, corruption, severity, seed, contract.layout)
        return Split(raw=rows, labels=split.labels, texts=split.texts)
    if not isinstance(split.raw, Encoded):
        raise InvalidInput(
            "these examples have no texts with an encode to read them again: use the subject's own splits"
        )
    texts = corruption(split.raw.texts, severity, seed)
    return Split(raw=Encoded(texts, split.raw.encode), labels=split.labels, texts=texts)


class _Corrupted:
    """Rows damaged when they are asked for."""

    def __init__(self, split: Split, corruption: Corruption, severity: int, seed: int, layout: str) -> None:
        self._rows, self._corruption = split.raw, corruption
        self._severity, self._seed, self._layout = severity, seed, layout

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: Any, /) -> NDArray[Any]:
        rows = np.asarray(self._rows[index])
        changed: NDArray[Any] = self._corruption(rows, self._severity, self._seed, layout=self._layout)
        return changed


def _strings(raw: Any) -> tuple[str, ...]:
    if isinstance(raw, str) or not all(isinstance(text, str) for text in raw):
        raise InvalidInput(f"text noise needs a sequence of strings, got {type(raw).__name__}")
    return tuple(raw)


def _no_pictures(rows: NDArray[Any], layout: str) -> str:
    """Why these are no pictures that can be damaged; empty where they are."""
    if sorted(layout) not in (["C", "H", "W"], ["H", "W"]) or rows.ndim != 1 + len(layout):
        return f"examples of shape {rows.shape[1:]} ({layout}) are no pictures"
    if rows.dtype != np.uint8:
        return (
            f"the pictures are {rows.dtype}, and damage is defined on pixels of 0-255: "
            "give uint8 pictures and let the contract's scale, mean and std make the inputs"
        )
    channels = rows.shape[1 + layout.index("C")] if "C" in layout else 1
    return "" if channels in (1, 3) else f"the pictures have {channels} channels; grey (1) or colour (3) is needed"


def _no_features(rows: NDArray[Any]) -> str:
    """Why these are no feature vectors; empty where they are."""
    if not np.issubdtype(rows.dtype, np.floating):
        return f"the examples are {rows.dtype} codes, and nothing says what damage to a code would mean: give texts with an encode"
    if rows.ndim != 2:
        return f"examples of shape {rows.shape[1:]} are no feature vectors"
    return "" if np.isfinite(rows).all() else "the examples hold NaN or infinity"
