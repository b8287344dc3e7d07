"""Words for techniques, as changes to a recipe or to the model before it is trained. Data, not code.

A technique is a word below, a change such as ``dropout=0.3``, a share of the MACs such as ``prune=0.25``, or several of
these with ``+`` between: ``optimiser=adam+lr=0.001``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from steelyard.errors import InvalidInput
from steelyard.records import Plan, Step, Technique
from steelyard.trainer.recipe import Recipe
from steelyard.trainer.recipe_file import read_recipe

__all__ = ["WORDS", "Base", "combined", "read_techniques"]

_HALF = 0.5  # of the MACs, where pruning is asked for without a share


def _fixed(*changes: str) -> Callable[[Recipe], tuple[str, ...]]:
    return lambda _recipe: changes


def _quarters(recipe: Recipe) -> tuple[str, ...]:
    """A quarter of the batch passes at once, the step stays what it was."""
    return (f"micro_batch={max(1, recipe.batch // 4)}",)


WORDS: Mapping[str, tuple[str, Callable[[Recipe], tuple[str, ...]]]] = {
    "amp": ("forward and backward pass in bf16", _fixed("amp=bf16")),
    "checkpoint": ("activations made again in the backward pass", _fixed("checkpointing=auto")),
    "accumulate": ("a step's examples in four passes", _quarters),
    "channels-last": ("channels last in memory", _fixed("channels_last=true")),
    "compile": ("the net by torch.compile", _fixed("compile=true")),
    "fused": ("the optimiser's step in one kernel", _fixed("fused=true")),
    "8bit": ("adam's moments in 8 bits", _fixed("state_bits=8")),
    "augment": ("pictures cropped and mirrored", _fixed("augment.crop=0.125", "augment.flip=true")),
    "ema": ("the weights' moving average", _fixed("ema=0.999")),
    "swa": ("the weights' mean over the last quarter", _fixed("swa=0.75")),
    "label-smoothing": ("a tenth of each label given to the others", _fixed("label_smoothing=0.1")),
    "dropout": ("dropout 0.5", _fixed("dropout=0.5")),
    "prune": ("half the MACs: channels taken out before the training", _fixed()),
}
"""Word: what it is, and the changes of the recipe that it stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The baseline's recipe, as it was said."""

    words: str | Path
    changes: tuple[str, ...] = ()

    def read(self, *further: str) -> Recipe:
        """The recipe, with further changes."""
        return read_recipe(self.words, (*self.changes, *further))


def read_techniques(words: Sequence[str], base: Base) -> tuple[Technique, ...]:
    """Each word as a technique. Raises `InvalidInput` for an unknown word, one said twice, or one that changes nothing.

    >>> [dict(t.changes) for t in read_techniques(["amp", "optimiser=adam+lr=0.001"], Base(words="classic"))]
    [{'amp': 'bf16'}, {'optimiser': 'adam', 'lr': 0.001}]
    """
    if len(set(words)) < len(words):
        raise InvalidInput(f"a technique is named twice: {', '.join(words)}")
    return tuple(_technique(word, base) for word in words)


def combined(techniques: Sequence[Technique]) -> Technique:
    """All of them at once; where two change one field, the first wins.

    >>> combined([Technique(name="a", changes={"lr": 1}), Technique(name="b", changes={"lr": 2, "ema": 0.9})]).changes
    {'lr': 1, 'ema': 0.9}
    """
    changes: dict[str, Any] = {}
    for technique in reversed(techniques):
        changes |= technique.changes
    steps = {step: None for technique in techniques for step in technique.plan.steps}
    ordered = {name: changes[name] for t in techniques for name in t.changes}
    return Technique(name="combined", changes=ordered, plan=Plan(steps=tuple(steps)))


def _technique(word: str, base: Base) -> Technique:
    recipe = base.read()
    parts = word.split("+")
    changed = base.read(*(change for part in parts for change in _changes(part, recipe)))
    before, after = recipe.plain(), changed.plain()
    steps = tuple(step for part in parts for step in _passes(part))
    changes = {name: value for name, value in after.items() if value != before[name]}
    if not changes and not steps:
        raise InvalidInput(f"the technique {word!r} changes nothing: the recipe has it already; leave it out")
    return Technique(name=word, changes=changes, plan=Plan(steps=steps))


def _passes(part: str) -> tuple[Step, ...]:
    """What is done to the net before it is trained."""
    name, _, share = part.partition("=")
    if name != "prune":
        return ()
    try:
        macs = float(share or _HALF)
    except ValueError:
        raise InvalidInput(f"prune keeps a share of the MACs, such as prune=0.25; got {part!r}") from None
    if not 0 < macs < 1:
        raise InvalidInput(f"prune keeps a share of the MACs above 0 and below 1, such as prune=0.25; got {part!r}")
    return (Step(name="prune", options=(("macs", macs), ("epochs", 0.0))),)


def _changes(part: str, recipe: Recipe) -> tuple[str, ...]:
    """Changes of the recipe that one part of a technique stands for."""
    if part.partition("=")[0] == "prune":
        return ()
    if part in WORDS:
        return WORDS[part][1](recipe)
    if "=" in part:
        return (part,)
    near = get_close_matches(part, WORDS, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(WORDS)}, and changes such as dropout=0.3"
    raise InvalidInput(f"no such technique: {part!r}; {hint}")
