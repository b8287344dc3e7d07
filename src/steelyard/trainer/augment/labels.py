"""Whether changed examples still are what their labels say: what a checker that knew them before says of them now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard.errors import InvalidInput
from steelyard.records import LabelCheck
from steelyard.subject.splits import Encoded
from steelyard.trainer.augment import augmented, images, texts
from steelyard.trainer.augment.images import picture_png
from steelyard.trainer.examples import Batch, Examples

__all__ = ["Checker", "check_labels", "model_checker", "text_checker"]

Index = NDArray[np.int64]
Checker = Callable[[Batch, Sequence[str] | None], NDArray[np.int64]]  # examples, and their texts, to class indices

_HELPS = ("share", "synonyms", "there", "back", "cache", "fill", "interpolation")  # words that change nothing alone
_MIXES = ("mixup", "cutmix")  # whose labels say themselves how much of what they are
_BATCH = 64
_SHOWN = 3


def check_labels(
    mapping: Mapping[str, Any], examples: Examples, checker: Checker, *, count: int = 500, seed: int = 0
) -> tuple[LabelCheck, ...]:
    """For each word of a recipe alone: how many labels the checker disputes, of those that it agreed with before.

    `count` examples from all over the set are looked at, each changed once; ``share`` is left out, so that every text is. Mixing is
    passed over.
    """
    index = np.unique(np.linspace(0, len(examples) - 1, count).astype(np.int64))
    agreed = index[_answers(examples, lambda batch: batch, checker, index, 0) == examples.labels[index]]
    helps = {word: value for word, value in mapping.items() if word in _HELPS and word != "share"}
    words = [word for word, value in mapping.items() if word not in (*_HELPS, *_MIXES) and value]
    return tuple(_check_word(word, mapping[word], helps, examples, checker, agreed, len(index), seed) for word in words)


def _check_word(
    word: str,
    value: Any,
    helps: Mapping[str, Any],
    examples: Examples,
    checker: Checker,
    agreed: Index,
    looked: int,
    seed: int,
) -> LabelCheck:
    data, change = augmented(_alone(word, value, helps, examples), examples, seed=seed)
    change = change or (lambda batch: batch)
    said = _answers(data, change, checker, agreed, 1)
    moved = _moved(examples, data, change, agreed)
    disputed = agreed[moved & (said != examples.labels[agreed])]
    answers = dict(zip(agreed.tolist(), said.tolist(), strict=True))
    return LabelCheck(
        word=word,
        value=value,
        examples=looked,
        agreed=len(agreed),
        changed=int(moved.sum()),
        disputed=len(disputed),
        shown=tuple(_shown(data, change, int(i), answers[int(i)]) for i in disputed[:_SHOWN]),
    )


def _alone(word: str, value: Any, helps: Mapping[str, Any], examples: Examples) -> dict[str, Any]:
    known = texts.WORDS if isinstance(examples.raw, Encoded) else images.WORDS
    return {word: value, **{help_: given for help_, given in helps.items() if help_ in known}}


def _answers(
    data: Examples, change: Callable[[Batch], Batch], checker: Checker, index: Index, epoch: int
) -> NDArray[np.int64]:
    """The checker's class of each example."""
    answers = []
    for start in range(0, len(index), _BATCH):
        part = index[start : start + _BATCH]
        said = np.asarray(checker(change(data.batch(part, epoch)), _texts(data, part, epoch)))
        if said.shape != (len(part),):
            raise InvalidInput(f"the checker gave {said.shape} for {len(part)} examples: a class for each is needed")
        answers.append(said)
    return np.concatenate(answers) if answers else np.zeros(0, dtype=np.int64)


def _texts(data: Examples, index: Index, epoch: int) -> Sequence[str] | None:
    if not isinstance(data.raw, Encoded):
        return None
    plain = [data.raw.texts[i] for i in index]
    return plain if data.rewrite is None else data.rewrite(plain, index, epoch)


def _moved(plain: Examples, data: Examples, change: Callable[[Batch], Batch], index: Index) -> NDArray[np.bool_]:
    """Which examples are other ones now."""
    moved = []
    for start in range(0, len(index), _BATCH):
        part = index[start : start + _BATCH]
        before, after = _texts(plain, part, 1), _texts(data, part, 1)
        if before is not None and after is not None:
            moved += [a != b for a, b in zip(before, after, strict=True)]
        else:
            made = change(data.batch(part, 1)).inputs
            moved += (made != plain.batch(part, 1).inputs).flatten(1).any(1).tolist()
    return np.array(moved, dtype=np.bool_)


def _shown(data: Examples, change: Callable[[Batch], Batch], example: int, said: int) -> tuple[str, str, str, str]:
    """Before and after, texts or PNGs in base64, the label and what the checker said."""
    index = np.array([example])
    if isinstance(data.raw, Encoded):
        pair = data.raw.texts[example], (_texts(data, index, 1) or [""])[0]
    else:
        before, after = data.batch(index, 1), change(data.batch(index, 1))
        pair = picture_png(before, data.contract), picture_png(after, data.contract)
    return (*pair, _name(data, int(data.labels[example])), _name(data, said))


def _name(data: Examples, label: int) -> str:
    names = data.contract.labels
    return names[label] if 0 <= label < len(names) else str(label)


def model_checker(model: nn.Module) -> Checker:
    """A trained model, such as the baseline."""

    def checker(batch: Batch, _texts: Sequence[str] | None) -> NDArray[np.int64]:
        with torch.no_grad():
            answers: NDArray[np.int64] = model.eval()(batch.inputs).argmax(-1).numpy(force=True)
        return answers

    return checker


def text_checker(function: Callable[[list[str]], Sequence[Any]], labels: Sequence[str]) -> Checker:
    """The user's function from texts to class names or indices."""
    places = {name: i for i, name in enumerate(labels)}

    def checker(_batch: Batch, texts: Sequence[str] | None) -> NDArray[np.int64]:
        if texts is None:
            raise InvalidInput("this checker reads texts, and the examples are none: give trained weights instead")
        try:
            said = list(function(list(texts)))
            return np.array([places.get(str(answer), answer) for answer in said], dtype=np.int64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(f"the checker must give a class name or index for each text: {error}") from None

    return checker
