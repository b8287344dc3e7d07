"""Examples changed while a model trains on them, by the words of a recipe: pictures, texts, and two examples in one."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

from steelyard.errors import InvalidInput
from steelyard.subject.splits import Encoded
from steelyard.trainer.augment import images, texts
from steelyard.trainer.examples import Batch, Examples

__all__ = ["augmented"]


def augmented(
    mapping: Mapping[str, Any], examples: Examples, *, seed: int = 0
) -> tuple[Examples, Callable[[Batch], Batch] | None]:
    """The examples and what changes their batches, for the loop, by a recipe's words.

    Texts are rewritten before they are encoded, so the examples come back with that; pictures are changed as batches. Raises
    `InvalidInput` for words that are not known or do not fit the examples.
    """
    if not mapping:
        return examples, None
    if isinstance(examples.raw, Encoded):
        return dataclasses.replace(examples, rewrite=texts.build(mapping, seed=seed)), None
    wordy = sorted(set(mapping) & set(texts.WORDS))
    if wordy:
        raise InvalidInput(
            f"augment: {wordy[0]!r} changes texts, and these examples are not texts that the subject encodes: "
            f"for pictures there are {', '.join(images.WORDS)}"
        )
    return examples, images.build(mapping, examples, seed=seed)
