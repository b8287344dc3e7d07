"""`steelyard augment`: what a recipe makes of training examples, and whether they still are what their labels say."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.pipeline.job import Progress, silent
from steelyard.pipeline.prepare import with_labels
from steelyard.records import Contract, LabelCheck, SubjectSpec
from steelyard.subject.load import load_subject
from steelyard.subject.splits import Encoded, Split

if TYPE_CHECKING:
    from steelyard.trainer.augment.labels import Checker
    from steelyard.trainer.examples import Examples

__all__ = ["MODEL", "Previewed", "preview", "sheet_png"]

MODEL = "model"  # the checker that is the subject with its weights
_TEXTS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Previewed:
    """What augmentation does. ``sheet`` has a class and a PNG in base64 a row; ``rewrites`` texts before and after."""

    sheet: tuple[tuple[str, str], ...]
    rewrites: tuple[tuple[str, str], ...]
    checks: tuple[LabelCheck, ...]
    contract: Contract
    standardised: Contract | None  # by the training examples; None where they are no real numbers


def preview(
    spec: SubjectSpec,
    mapping: Mapping[str, Any],
    *,
    checker: str | None = None,
    count: int = 500,
    seed: int = 0,
    progress: Progress = silent,
) -> Previewed:
    """Change training examples as a training with these words would, and ask a checker about `count` of them.

    The checker is ``model``, the subject with its weights, or ``module:function`` or ``file.py:function`` from texts to classes.
    """
    from steelyard.trainer.augment import augmented, images
    from steelyard.trainer.augment.labels import check_labels
    from steelyard.trainer.examples import Examples

    if not mapping:
        raise InvalidInput(
            "there is no augmentation to look at: give words such as rotation=20, or a --recipe that has some"
        )
    progress("reading the subject", None)
    subject = load_subject(spec)
    splits = subject.splits()
    contract = with_labels(subject.contract, splits)
    plain = Examples.of(splits.train, contract)
    data, change = augmented(mapping, plain, seed=seed)
    checks: tuple[LabelCheck, ...] = ()
    if checker is not None:
        progress("asking the checker", None)
        checks = check_labels(mapping, plain, _checker(checker, subject.model, contract), count=count, seed=seed)
    return Previewed(
        sheet=() if change is None else images.sheet(plain, change),
        rewrites=_rewrites(data),
        checks=checks,
        contract=contract,
        standardised=_standardised(contract, splits.train),
    )


def sheet_png(sheet: tuple[tuple[str, str], ...], path: Path) -> None:
    """Write the rows of a sheet below each other as one PNG."""
    from PIL import Image

    rows = [Image.open(io.BytesIO(base64.b64decode(row))) for _, row in sheet]
    whole = Image.new(rows[0].mode, (rows[0].width, sum(row.height for row in rows)))
    at = 0
    for row in rows:
        whole.paste(row, (0, at))
        at += row.height
    whole.save(path, format="PNG")


def _checker(words: str, model: Any, contract: Contract) -> Checker:
    from steelyard.trainer.augment.labels import model_checker, text_checker
    from steelyard.trainer.augment.translate import named

    if words != MODEL:
        return text_checker(named(words), contract.labels)
    if isinstance(model, Path):
        raise InvalidInput(
            f"{model} is a program: give --checker module:function, or a model of PyTorch with --weights"
        )
    return model_checker(model)


def _rewrites(data: Examples) -> tuple[tuple[str, str], ...]:
    """Texts from all over the set, and what the first epoch makes of them."""
    if data.rewrite is None or not isinstance(data.raw, Encoded):
        return ()
    index = np.unique(np.linspace(0, len(data) - 1, _TEXTS).astype(np.int64))
    plain = [data.raw.texts[i] for i in index]
    return tuple(zip(plain, data.rewrite(plain, index, 0), strict=True))


def _standardised(contract: Contract, split: Split) -> Contract | None:
    from steelyard.trainer.augment.normalise import normalised

    if not contract.dtype.startswith("float") or isinstance(split.raw, Encoded):
        return None
    try:
        return normalised(contract, split, "standardise")
    except InvalidInput:  # a channel that never changes
        return None
