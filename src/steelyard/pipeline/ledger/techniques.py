"""Words for techniques, as changes to a recipe or to the model before it is trained. Data, not code.

A technique is a word below, or changes of its own with ``+`` between: ``optimiser=adam+lr=0.001``.
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

_PRUNED = Plan(steps=(Step(name="prune", options=(("macs", 0.5), ("epochs", 0.0))),))


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
    changed = base.read(*_changes(word, recipe))
    before, after = recipe.plain(), changed.plain()
    plan = _PRUNED if word == "prune" else Plan()
    changes = {name: value for name, value in after.items() if value != before[name]}
    if not changes and not plan.steps:
        raise InvalidInput(f"the technique {word!r} changes nothing: the recipe has it already; leave it out")
    return Technique(name=word, changes=changes, plan=plan)


def _changes(word: str, recipe: Recipe) -> tuple[str, ...]:
    if word in WORDS:
        return WORDS[word][1](recipe)
    if "=" in word:
        return tuple(word.split("+"))
    near = get_close_matches(word, WORDS, 1, 0.5)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(WORDS)}, and changes such as dropout=0.3"
    raise InvalidInput(f"no such technique: {word!r}; {hint}")
