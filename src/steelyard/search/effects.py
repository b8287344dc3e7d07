"""What options do, learnt within chains: by how much each value changes the gain, wherever its technique stands.

Trials of one chain differ in their options alone. So the logarithms of their gains over what was predicted, less the mean
of their chain, are taken for a sum of one effect for each value that is not the default, and noise. With normal priors
the effects are a Bayesian linear regression (Bishop 2006, section 3.3), which says of a plan not yet tried by how
much it should differ from its relatives, and how sure that is.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Plan, Scalar

__all__ = ["OptionEffects", "values_of"]

EFFECT, NOISE = 0.10, 0.04  # standard deviations, in logs: of one value's effect, and of a trial

Value = tuple[str, str, Scalar]  # technique, option, value
Floats = NDArray[np.float64]


def values_of(plan: Plan) -> frozenset[Value]:
    """The options of a plan that are not the defaults."""
    return frozenset((step.name, key, value) for step in plan.steps for key, value in step.options)


class OptionEffects:
    """The effects as `trials` show them: plans, and the logarithm of what each gave over what was predicted of it.

    >>> from steelyard.records import Step
    >>> plain, other = (Plan(steps=(Step(name="int8", options=o),)) for o in ((), (("narrow", True),)))
    >>> mean, spread = OptionEffects([(plain, 0.0), (other, 0.2)]).shift(other, [plain])
    >>> round(mean, 3), round(spread, 3)
    (0.152, 0.063)
    """

    def __init__(self, trials: Sequence[tuple[Plan, float]]) -> None:
        chains = [list(group) for _, group in groupby(sorted(trials, key=_chain), key=_chain)]
        several = [group for group in chains if len(group) > 1]
        self._places = {
            v: i for i, v in enumerate({v: None for group in several for p, _ in group for v in values_of(p)})
        }
        rows = [self._row(plan) for group in several for plan, _ in group]
        x = np.array(rows).reshape(len(rows), len(self._places))
        y = np.array([error for group in several for _, error in group])
        starts = np.cumsum([0, *map(len, several)])
        for begin, end in pairwise(starts):
            x[begin:end] -= x[begin:end].mean(axis=0)
            y[begin:end] -= y[begin:end].mean()
        precision = np.eye(len(self._places)) / EFFECT**2 + x.T @ x / NOISE**2
        self._covariance = np.linalg.inv(precision)
        self._means = self._covariance @ (x.T @ y) / NOISE**2

    def shift(self, plan: Plan, relatives: Sequence[Plan]) -> tuple[float, float]:
        """By how much a plan's logarithm should lie above the mean of plans of its chain, and the standard deviation of that."""
        others = [values_of(other) for other in relatives]
        apart = {v: sum(v in o for o in others) / len(others) for o in others for v in o}
        change = {v: (v in values_of(plan)) - apart.get(v, 0.0) for v in {*values_of(plan), *apart}}
        known = np.array([change.get(v, 0.0) for v in self._places])
        unseen = EFFECT**2 * sum(c * c for v, c in change.items() if v not in self._places)
        variance = float(known @ self._covariance @ known) + unseen + NOISE**2
        return float(self._means @ known), float(np.sqrt(variance))

    def _row(self, plan: Plan) -> Floats:
        found = values_of(plan)
        return np.array([float(v in found) for v in self._places])


def _chain(trial: tuple[Plan, float]) -> str:
    return " > ".join(step.name for step in trial[0].steps)
