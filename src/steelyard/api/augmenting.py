"""Augmentation looked at before a training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.api.words import spec_of
from steelyard.errors import InvalidInput
from steelyard.pipeline.job import Progress, silent
from steelyard.records import Scalar

if TYPE_CHECKING:
    from steelyard.pipeline.augment import Previewed

__all__ = ["augment"]

_ANY = "warmup-cosine"  # the rest of a recipe, which plays no part


def augment(
    source: str | Path,
    *changes: str,
    data: str | Path | None = None,
    recipe: str | Path | None = None,
    checker: str | None = None,
    examples: int = 500,
    weights: str | Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
    **options: Scalar,
) -> Previewed:
    """What augmentation makes of a subject's training examples; see ``steelyard augment --help`` for the words.

    `changes` are words such as ``"rotation=20"``, beside those of `recipe` if there is one. Running ``file.py`` runs that file's code.
    Raises `InvalidInput` for anything that cannot be understood.
    """
    from steelyard.pipeline.augment import preview
    from steelyard.trainer.recipe_file import read_recipe

    for change in changes:
        if "=" not in change:
            raise InvalidInput(f"cannot read {change!r}: words of augmentation are written rotation=20")
    asked = read_recipe(recipe or _ANY, [f"augment.{change}" for change in changes])
    return preview(
        spec_of(source, data, weights, seed, options),
        asked.augment,
        checker=checker,
        count=examples,
        seed=seed,
        progress=progress,
    )
