"""Who proposes other options, and other chains: Optuna's sampler, or without it one change of the best at a time.

Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) is told every trial as a point of the typed space: at each
place of the chain the technique, and for each technique its options. A technique's options have one name wherever it
stands, so that what is learnt of ``nncf_int8.preset`` behind one pruned net serves behind the next. What is minimised is
the logarithm of the cost over the baseline's, under the requirements as constraints.

The study lives in memory. It is built again from the records of a run that goes on, so that there is no second truth beside them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from typing import Any

from steelyard.errors import MissingExtra
from steelyard.records import Plan, Scalar
from steelyard.search.ordered import Obtained, Proposer
from steelyard.search.space import Space, coordinates, walk

__all__ = ["Neighbours", "Tuner", "proposer_for", "without_optuna"]

FIRST = 4  # trials before the sampler looks at what they gave
_DRAWS = 16  # for each set of proposals: the surer the sampler, the more often it draws the same
_REFUSED = Obtained(gain=1.0, missed=(1.0,))  # could not be built or run


def without_optuna() -> str:
    """What is said where Optuna is not installed; empty where it is."""
    if find_spec("optuna") is not None:
        return ""
    return f"options are varied one at a time: {MissingExtra('tune', needed_for='choosing them by Optuna')}"


def proposer_for(space: Space, seed: int = 0) -> Proposer:
    """Optuna's where it is installed."""
    return Neighbours(space) if without_optuna() else Tuner(space, seed)


class Tuner:
    """Plans drawn by Optuna where good ones are dense and bad ones are not. Raises `MissingExtra` where it is not installed."""

    def __init__(self, space: Space, seed: int = 0) -> None:
        try:
            import optuna
        except ImportError:
            raise MissingExtra("tune", needed_for="choosing options by Optuna") from None
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._optuna, self._space = optuna, space
        sampler = optuna.samplers.TPESampler(n_startup_trials=FIRST, seed=seed)
        self._study = optuna.create_study(direction="minimize", sampler=sampler)
        self._near = Neighbours(space)

    def tell(self, plan: Plan, obtained: Obtained | None) -> None:
        """Add the plan's point to the study, or what could not be measured as one that misses everything."""
        self._near.tell(plan, obtained)
        point = coordinates(self._space, plan)
        if point is None:
            return
        found = obtained or _REFUSED
        kind = self._optuna.distributions.CategoricalDistribution
        self._study.add_trial(
            self._optuna.trial.create_trial(
                value=-math.log(found.gain),
                params={name: value for name, (value, _) in point.items()},
                distributions={name: kind(values) for name, (_, values) in point.items()},
                constraints={str(i): miss for i, miss in enumerate(found.missed)},
            )
        )

    def propose(self, count: int) -> Sequence[Plan]:
        """Plans that were not told of: those drawn, then neighbours of the best."""
        fresh: dict[Plan, None] = {}
        for _ in range(_DRAWS):
            plan = self._draw()
            if plan is not None and plan not in self._near.told:
                fresh[plan] = None
            if len(fresh) == count:
                break
        return tuple(fresh | dict.fromkeys(self._near.propose(count)))[:count]

    def _draw(self) -> Plan | None:
        trial = self._study.ask()
        plan = walk(self._space, lambda name, values: _suggested(trial, name, values))
        self._study.tell(trial, state=self._optuna.trial.TrialState.FAIL)  # what comes of it is told by its plan
        return plan


def _suggested(trial: Any, name: str, values: tuple[Scalar, ...]) -> Scalar:
    chosen: Scalar = trial.suggest_categorical(name, values)
    return chosen


class Neighbours:
    """The best plan that kept the requirements, with one option changed; then the next best."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.told: dict[Plan, Obtained | None] = {}

    def tell(self, plan: Plan, obtained: Obtained | None) -> None:
        """Note what came of a plan."""
        self.told[plan] = obtained

    def propose(self, count: int) -> Sequence[Plan]:
        """So many neighbours that were not told of, those of the best first."""
        found: dict[Plan, None] = {}
        for plan in self._ranked():
            found |= dict.fromkeys(n for n in neighbours(self._space, plan) if n not in self.told)
        return tuple(found)[:count]

    def _ranked(self) -> list[Plan]:
        measured = [(plan, o) for plan, o in self.told.items() if o is not None]
        return [plan for plan, o in sorted(measured, key=lambda pair: (not pair[1].kept, -pair[1].gain))]


def neighbours(space: Space, plan: Plan) -> Iterator[Plan]:
    """The plans of the space that differ from `plan` in one option.

    >>> from steelyard.records import Step
    >>> plan = Plan(steps=(Step(name="openvino"), Step(name="nncf_int8")))
    >>> [str(near) for near in neighbours(Space("onnxruntime", ("int8",)), plan)][:1]
    ['openvino > nncf_int8(preset=mixed)']
    """
    point = coordinates(space, plan) or {}
    for changed, (value, values) in point.items():
        others = (v for v in values if v != value) if "." in changed else ()
        for other in others:
            answers = {name: chosen for name, (chosen, _) in point.items()} | {changed: other}
            near = walk(space, lambda name, values, answers=answers: answers.get(name, values[0]))
            if near is not None:
                yield near
