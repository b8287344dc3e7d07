"""The typed space of plans: which technique may follow which, and with which options.

A plan is a walk over the places of `steelyard.passes.KINDS`, from the first to the last. At each place one technique that
takes what the walk has made so far is chosen, or none; then its options. The choices are made by whoever walks: one who
tries every answer lists the space, a sampler draws from it, and one who looks the answers up in a plan writes that
plan in the space's own coordinates. So no two of them can differ about what a plan is.

Conditions: the engine of what was made is one that the technique takes; places rise; what trains starts from the user's own
code or from what was trained before, and two in a chain at most; the last engine is one of those asked for.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from steelyard.errors import InvalidInput
from steelyard.passes import KINDS, PASSES, to_pass, trains
from steelyard.records import Plan, Scalar, Step
from steelyard.subject.engines import ENGINES

__all__ = ["NOTHING", "Choose", "Space", "checked", "coordinates", "every", "plans_for", "walk"]

NOTHING = "none"
MOST_TRAINED = 2  # each takes minutes, and a third finds little that two have left
_PLAIN = frozenset({"export"})  # the way to deploy a baseline, and no technique
_PLACES = tuple(sorted(set(KINDS.values())))
_WORDS = {place: kind for kind, place in reversed(tuple(KINDS.items()))} | {KINDS["int8"]: "numbers"}

Choose = Callable[[str, tuple[Scalar, ...]], Scalar]
"""Given the name of a choice and the values it has, one of the values."""


@dataclass(frozen=True, slots=True)
class Space:
    """Plans that start from a baseline of this engine, made of some techniques, for some engines; empty: any.

    ``techniques`` are words of `KINDS` and names of passes. Changing the engine is always allowed, unless an engine's pass
    is named.
    """

    engine: str
    techniques: tuple[str, ...] = ()
    engines: tuple[str, ...] = ()

    def allows(self, kind: str, name: str = "") -> bool:
        """Whether the words allow a technique of this kind and name."""
        if not self.techniques or kind in self.techniques or name in self.techniques:
            return True
        return kind == "engine" and not any(
            word in PASSES and PASSES[word].kind == "engine" for word in self.techniques
        )

    def ends_in(self, engine: str) -> bool:
        """Whether a plan may end in this engine; PyTorch is one, by whatever name its programs go."""
        return not self.engines or ("torch" if engine in ("eager", "final") else engine) in self.engines


def checked(techniques: Iterable[str], engines: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The words as a `Space` takes them. Raises `InvalidInput` for one that is not known, with the nearest.

    >>> checked(["Int8", "prune"], ["pytorch"])
    (('int8', 'prune'), ('torch',))
    """
    known = {name for name in PASSES if name not in _PLAIN} | set(KINDS)
    places = {"pytorch": "torch", "eager": "torch", **{name: name for name in ENGINES if name != "eager"}}
    names = tuple(dict.fromkeys(_known(w, "technique", {k: k for k in known}) for w in techniques))
    return names, tuple(dict.fromkeys(_known(w, "engine", places) for w in engines))


def _known(word: str, what: str, names: Mapping[str, str]) -> str:
    plain = word.strip().lower()
    if plain not in names:
        near = get_close_matches(plain, names, 3, 0.5)
        hint = f"nearest: {', '.join(near)}" if near else f"known: {', '.join(sorted(names))}"
        raise InvalidInput(f"there is no {what} {word!r}; {hint}")
    return names[plain]


def plans_for(space: Space, longest: int | None = None) -> tuple[Plan, ...]:
    """Every chain of the space, of `longest` steps at most, its options as they are by default, shortest first.

    An option whose value is a technique of its own, such as ``precision="bf16"``, makes a chain of its own.

    >>> [str(plan) for plan in plans_for(Space("onnxruntime", ("quantize_static", "nncf_int8")))]
    ['quantize_static', 'openvino', 'openvino > nncf_int8']
    """
    chains = sorted(every(space, vary=False), key=lambda plan: len(plan.steps))
    return tuple(plan for plan in chains if longest is None or len(plan.steps) <= longest)


def every(space: Space, *, vary: bool = True) -> Iterator[Plan]:
    """All plans of the space, each once; without `vary` only options that are techniques take more than one value."""
    seen: set[Plan] = set()
    path: list[int] = []
    while True:
        taken: list[tuple[int, int]] = []  # which value of how many
        plan = walk(space, _following(path, taken), vary=vary)
        if plan is not None and plan not in seen:
            seen.add(plan)
            yield plan
        while taken and taken[-1][0] + 1 == taken[-1][1]:
            taken.pop()
        if not taken:
            return
        path = [at for at, _ in taken]
        path[-1] += 1


def _following(path: list[int], taken: list[tuple[int, int]]) -> Choose:
    """Answers along `path`, then the first value of each further choice; notes what was answered."""

    def choose(_name: str, values: tuple[Scalar, ...]) -> Scalar:
        at = path[len(taken)] if len(taken) < len(path) else 0
        taken.append((at, len(values)))
        return values[at]

    return choose


def walk(space: Space, choose: Choose, *, vary: bool = True) -> Plan | None:
    """The plan that `choose` makes; None where it is empty, ends in an engine that was not asked for, or cannot be made."""
    steps: tuple[Step, ...] = ()
    engine, last = space.engine, -1
    for place in _PLACES:
        names = _possible(space, place, engine, steps) if place > last else ()
        name = choose(f"{_WORDS[place]} from {engine}", (NOTHING, *names)) if names else NOTHING
        if name != NOTHING:
            options = _options(space, str(name), choose, vary=vary)
            steps = (*steps, _step(str(name), options))
            engine = PASSES[str(name)].gives or engine
            last = max([place, *(KINDS[v] for v in options.values() if isinstance(v, str) and v in KINDS)])
    return Plan(steps=steps) if steps and space.ends_in(engine) and all(map(_can_be_made, steps)) else None


def coordinates(space: Space, plan: Plan) -> dict[str, tuple[Scalar, tuple[Scalar, ...]]] | None:
    """Each choice that makes `plan`: its name, the value and the values there were; None for a plan of another space."""
    made: dict[str, tuple[Scalar, tuple[Scalar, ...]]] = {}
    options = {f"{s.name}.{key}": value for s in plan.steps for key, value in s.options}
    names = {step.name for step in plan.steps}

    def look_up(name: str, values: tuple[Scalar, ...]) -> Scalar:
        chosen = options.get(name, values[0]) if "." in name else next((v for v in values if v in names), NOTHING)
        made[name] = (chosen if chosen in values else values[0], values)
        return made[name][0]

    return made if walk(space, look_up) == plan else None


def _possible(space: Space, place: int, engine: str, steps: tuple[Step, ...]) -> tuple[str, ...]:
    """The passes of a place that can follow what was made so far."""
    return tuple(
        name
        for name, kind in PASSES.items()
        if KINDS[kind.kind] == place
        and name not in _PLAIN
        and engine in kind.takes
        and space.allows(kind.kind, name)
        and (not getattr(kind, "trains", False) or _can_train(space, steps))
        and not getattr(kind, "missing", str)()
    )


def _can_train(space: Space, steps: tuple[Step, ...]) -> bool:
    return space.engine == "eager" and len(steps) < MOST_TRAINED and all(map(trains, steps))


def _options(space: Space, name: str, choose: Choose, *, vary: bool) -> dict[str, Scalar]:
    """A value for each option that has several; values that are techniques of their own are chosen even if none varies."""
    chosen: dict[str, Scalar] = {}
    choices: Mapping[str, tuple[Scalar, ...]] = getattr(PASSES[name], "choices", {})
    for option, values in choices.items():
        allowed = tuple(v for v in values if not _is_kind(v) or v == values[0] or space.allows(str(v)))
        varied = allowed if vary else tuple(v for v in allowed if v == values[0] or _is_kind(v))
        chosen[option] = choose(f"{name}.{option}", varied) if len(varied) > 1 else varied[0]
    return chosen


def _is_kind(value: Scalar) -> bool:
    return isinstance(value, str) and value in KINDS


def _step(name: str, options: Mapping[str, Scalar]) -> Step:
    """The step with the options that differ from the defaults."""
    choices: Mapping[str, tuple[Any, ...]] = getattr(PASSES[name], "choices", {})
    return Step(name=name, options=tuple((k, v) for k, v in options.items() if v != choices[k][0]))


@functools.cache
def _can_be_made(step: Step) -> bool:
    """Whether the pass takes its options together."""
    try:
        to_pass(step)
    except InvalidInput:
        return False
    return True
