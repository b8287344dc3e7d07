"""Which metric leads, for what a model is for: the profiles are data, in ``objectives.json`` beside this file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

from steelyard.errors import InvalidInput
from steelyard.records import Objective, Task

__all__ = ["choose", "profiles", "target_of"]

_USUAL: Mapping[Task, str] = {
    "binary": "balanced",
    "multiclass": "balanced",
    "multilabel": "balanced",
    "regression": "regression",
    "ranking": "ranking",
    "language": "language",
    "answers": "answers",
}


@cache
def profiles() -> Mapping[str, Any]:
    """Every profile by name.

    >>> sorted(profiles())[:3]
    ['answers', 'balanced', 'imbalanced']
    """
    found: dict[str, Any] = json.loads(
        files("steelyard.metrics").joinpath("objectives.json").read_text(encoding="utf-8")
    )
    return found


def choose(name: str | None, task: Task) -> Objective:
    """The profile of that name for a task; without a name, the task's usual one.

    Raises `InvalidInput`, with the nearest names, for one that is unknown or is not for this task.

    >>> choose("medical-screening", "binary").leads
    'recall'
    """
    known = profiles()
    word = name or _USUAL[task]
    if word not in known:
        near = get_close_matches(word, known, 2)
        hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(known)}"
        raise InvalidInput(f"there is no objective {word!r}; {hint}")
    profile = known[word]
    if task not in profile["tasks"]:
        fitting = [n for n, p in known.items() if task in p["tasks"]]
        raise InvalidInput(
            f"the objective {word!r} is for {' and '.join(profile['tasks'])} predictions, these are {task}: "
            f"choose among {', '.join(fitting)}"
        )
    return Objective(name=word, leads=profile["leads"][task], why=profile["why"], others=tuple(profile["others"][task]))


def target_of(objective: Objective) -> str | None:
    """What the decision threshold of this objective is to reach, such as ``recall >= 0.95``.

    >>> target_of(choose("spam-filter", "binary"))
    'precision >= 0.99'
    """
    found: str | None = profiles()[objective.name].get("target")
    return found
