"""Who proposes other options, and other chains: Optuna's sampler, and changes of the best plan of each chain.

Optuna's tree-structured Parzen estimator (Bergstra et al. 2011) is told every trial as a point of the typed space: at each
place of the chain the technique, and for each technique its options. A technique's options have one name wherever it
stands, so that what is learnt of ``nncf_int8.preset`` behind one pruned net serves behind the next. What is minimised is
the logarithm of the cost over the baseline's, under the requirements as constraints.

The study lives in memory. It is built again from the records of a run that goes on, so that there is no second truth beside them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from itertools import zip_longest
from typing import Any

from steelyard.errors import MissingExtra
from steelyard.records import Plan, Scalar
from steelyard.search.ordered import Obtained, Proposer
from steelyard.search.space import Space, coordinates, walk

__all__ = ["Neighbours", "Tuner", "proposer_for", "without_optuna"]

FIRST = 4  # trials before the sampler looks at what they gave
_DRAWS = 8  # for each set of proposals: the surer the sampler, the more often it draws the same
_CHAINS, _JUMPS = 12, 8  # chains whose best plan is changed, and how often all its options are drawn
_REFUSED = Obtained(gain=1.0, missed=(1.0,))  # could not be built or run


def without_optuna() -> str:
    """What is said where Optuna is not installed; empty where it is."""
    if find_spec("optuna") is not None:
        return ""
    return f"options are varied blindly: {MissingExtra('tune', needed_for='choosing them by Optuna')}"


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
    """Of each chain the best plan, those that kept the requirements first, with one option changed, or several by chance."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.told: dict[Plan, Obtained | None] = {}

    def tell(self, plan: Plan, obtained: Obtained | None) -> None:
        """Note what came of a plan."""
        self.told[plan] = obtained

    def propose(self, count: int) -> Sequence[Plan]:
        """So many that were not told of, one of each chain in turn, those of the best chain first."""
        chance = random.Random(len(self.told))  # noqa: S311  (nothing secret; the same trials give the same proposals)
        near = [(*neighbours(self._space, plan), *jumps(self._space, plan, chance)) for plan in self._best()]
        in_turn = (plan for row in zip_longest(*near) for plan in row if plan is not None and plan not in self.told)
        return tuple(dict.fromkeys(in_turn))[:count]

    def _best(self) -> list[Plan]:
        measured = [(plan, o) for plan, o in self.told.items() if o is not None]
        ranked = sorted(measured, key=lambda pair: (not pair[1].kept, -pair[1].gain))
        refused = [(plan, None) for plan, o in self.told.items() if o is None]  # with other options it may be built
        found: dict[str, Plan] = {}
        for plan, _ in (*ranked, *refused):
            found.setdefault(" > ".join(step.name for step in plan.steps), plan)
        return list(found.values())[:_CHAINS]


def neighbours(space: Space, plan: Plan) -> Iterator[Plan]:
    """The plans of the space that differ from `plan` in one option.

    >>> from steelyard.records import Step
    >>> plan = Plan(steps=(Step(name="openvino"), Step(name="nncf_int8")))
    >>> [str(near) for near in neighbours(Space("onnxruntime", ("int8",)), plan)][:1]
    ['openvino > nncf_int8(preset=mixed)']
    """
    point = coordinates(space, plan) or {}
    for changed, (value, values) in point.items():
        for other in (v for v in values if v != value) if "." in changed else ():
            near = _changed(space, point, {changed: other})
            if near is not None:
                yield near


def jumps(space: Space, plan: Plan, chance: random.Random) -> Iterator[Plan]:
    """`_JUMPS` plans of the same chain whose options are drawn by chance."""
    point = coordinates(space, plan) or {}
    for _ in range(_JUMPS):
        drawn = {name: chance.choice(values) for name, (_, values) in point.items() if "." in name}
        far = _changed(space, point, drawn)
        if far is not None:
            yield far


def _changed(
    space: Space, point: Mapping[str, tuple[Scalar, tuple[Scalar, ...]]], changes: Mapping[str, Scalar]
) -> Plan | None:
    """The plan at a point of the space, with some of its choices made otherwise."""
    answers = {name: chosen for name, (chosen, _) in point.items()} | dict(changes)

    def choose(name: str, values: tuple[Scalar, ...]) -> Scalar:
        return answers.get(name, values[0])

    return walk(space, choose)
