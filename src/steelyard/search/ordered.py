"""Ask and tell: the plan that is expected to improve most on the lead comes next.

A plan's gain is not known before it is measured. It is taken as log-normal around the predicted gain, off by a factor of
`SPREAD` one time in three. What was obtained corrects what is still to come: a plan takes over the error that was made
on its nearest relatives, those among the trials that share most of its steps, and is the surer the more it shares. So
once ``openvino`` is measured, ``openvino > nncf_int8`` is predicted from that and from what INT8 should add, and not
from a rule of thumb for engines. Minutes follow the pace of the trials so far.

What a plan is worth is its expected improvement (Jones, Schonlau and Welch 1998) of the logarithm of the lead's gain.
Until something has been measured the plan that is worth most comes first, whatever it takes: a budget too short for a
second plan shall not have gone to a weak one. From then on worth counts per minute: cheap looks at engines, then what can still
win, and last what the lead has left behind.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

from steelyard.measure.turns import log_ratios
from steelyard.records import Comparison, Plan, Prediction, Refusal, Trial

__all__ = ["SPREAD", "OrderedSearch", "expected_improvement", "gain_of", "out_of_time", "skipped"]

SPREAD = 2.0  # the factor that an uncorrected prediction is typically off by, either way


class OrderedSearch:
    """Hands out plans best prospect first and remembers what came of them.

    ``ask`` gives the next prediction or None when the space is exhausted; ``tell`` takes the trial. Trials of an
    earlier, interrupted run are told first, and their plans are not asked for again.
    """

    def __init__(self, predictions: Sequence[Prediction], told: Sequence[Trial] = ()) -> None:
        self._predictions = {p.plan: p for p in predictions}
        self._told = list(told)

    def ask(self, lead: float = 1.0) -> Prediction | None:
        """The plan not yet told of that is worth most against a `lead`, the best gain in hand; predicted anew."""
        done = {trial.plan for trial in self._told}
        waiting = [
            _corrected(p, self._predictions, self._told) for p in self._predictions.values() if p.plan not in done
        ]
        measured = any(trial.comparison is not None for trial in self._told)
        worth = [_worth(p, spread, lead, per_minute=measured) for p, spread in waiting]
        return waiting[worth.index(max(worth))][0] if waiting else None

    def tell(self, trial: Trial) -> None:
        """Note what came of a plan."""
        self._told.append(trial)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All that was told, in order."""
        return tuple(self._told)


def gain_of(comparison: Comparison) -> float:
    """Baseline latency divided by the candidate's, arm 1."""
    return math.exp(-float(log_ratios(comparison, 1).mean()))


def expected_improvement(gain: float, lead: float, spread: float) -> float:
    """Mean of max(0, log G - log lead) for a gain G that is log-normal around `gain`, off by a factor of `spread`.

    >>> round(expected_improvement(4.0, lead=2.0, spread=2.0), 3)  # a factor of two more, and as much in doubt
    0.751
    >>> expected_improvement(2.0, lead=4.0, spread=1.1) < 1e-6
    True
    """
    ahead, deviation = math.log(gain / lead), math.log(spread)
    z = ahead / deviation
    density = math.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    return ahead * 0.5 * math.erfc(-z / math.sqrt(2)) + deviation * density


def skipped(prediction: Prediction) -> Trial:
    """A trial for a plan that the diagnosis calls hopeless: the reason is kept, the time is not spent (D4)."""
    refusal = Refusal(kind="skipped", reason=f"will not help here: {prediction.because}")
    return Trial(plan=prediction.plan, refusal=refusal, prediction=prediction)


def out_of_time(prediction: Prediction) -> Trial:
    """A trial for a plan that the budget did not reach."""
    refusal = Refusal(kind="budget", reason="the budget ended before its turn; give a longer --budget")
    return Trial(plan=prediction.plan, refusal=refusal, prediction=prediction)


def _worth(prediction: Prediction, spread: float, lead: float, *, per_minute: bool) -> float:
    """Expected improvement, in all or per minute; what is hopeless comes last."""
    if prediction.hopeless:
        return float("-inf")
    return expected_improvement(prediction.gain, lead, spread) / (max(prediction.minutes, 1e-3) if per_minute else 1.0)


def _corrected(
    prediction: Prediction, predictions: Mapping[Plan, Prediction], told: Sequence[Trial]
) -> tuple[Prediction, float]:
    """The prediction under what was obtained, and the factor that it may still be off by."""
    known = [(t, predictions[t.plan]) for t in told if t.comparison is not None and t.plan in predictions]
    minutes = prediction.minutes * _pace(known)
    most = max((_shared(prediction.plan, t.plan) for t, _ in known), default=0)
    if most == 0 or prediction.hopeless:
        return dataclasses.replace(prediction, minutes=minutes), SPREAD
    relatives = [(t, p) for t, p in known if _shared(prediction.plan, t.plan) == most]
    factor = math.exp(sum(_error(t, p) * most / len(t.plan.steps) for t, p in relatives) / len(relatives))
    because = (
        f"{prediction.because}; times {factor:.2g} for what {' and '.join(str(t.plan) for t, _ in relatives)} gave"
    )
    steps = len(prediction.plan.steps)
    spread = SPREAD ** ((1 + steps - most) / (1 + steps))
    return dataclasses.replace(prediction, gain=prediction.gain * factor, minutes=minutes, because=because), spread


def _pace(known: Sequence[tuple[Trial, Prediction]]) -> float:
    """Minutes taken over minutes predicted, of all trials together."""
    predicted = sum(p.minutes for _, p in known)
    return sum(t.wall_s for t, _ in known) / 60 / predicted if predicted > 0 else 1.0


def _shared(one: Plan, other: Plan) -> int:
    """How many steps two plans have in common, whatever their options."""
    return len({step.name for step in one.steps} & {step.name for step in other.steps})


def _error(trial: Trial, prediction: Prediction) -> float:
    """In logs: by how much more was obtained than predicted."""
    assert trial.comparison is not None
    return math.log(gain_of(trial.comparison) / prediction.gain)
