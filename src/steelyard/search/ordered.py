"""Ask and tell: the plan that is expected to improve most on the lead comes next.

A plan's gain is not known before it is measured. It is taken as log-normal around the predicted gain, off by a factor of
`SPREAD` one time in three. What was obtained corrects what is still to come: a plan takes over the error that was made
on its nearest relatives, those among the trials that share most of its steps, and is the surer the more it shares. So
once ``openvino`` is measured, ``openvino > nncf_int8`` is predicted from that and from what INT8 should add, and not
from a rule of thumb for engines. Minutes follow the pace of the trials so far, and steps that were built before cost none.

What a plan is worth is its expected improvement (Jones, Schonlau and Welch 1998) of the logarithm of the lead's gain, times
the chance that it keeps the requirements (constrained expected improvement: Schonlau 1997; Gardner et al. 2014). A plan is
taken for as safe as the riskiest of its steps and options, by the share of the trials with it that kept them; who broke
them in riskier company is not held to it.
Until something has been measured the plan that is worth most comes first, whatever it takes: a budget too short for a
second plan shall not have gone to a weak one. From then on worth counts per minute: cheap looks at engines, then what can still
win, and last what the lead has left behind.

The diagnosis names chains with their options as they are by default. Other options come from a proposer, once there is
something to learn from (`steelyard.search.tuner`), and stand in the same queue (docs/adr/0024).
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from steelyard.measure.turns import log_ratios
from steelyard.records import Comparison, Plan, Prediction, Refusal, Step, Trial
from steelyard.search.effects import OptionEffects, values_of

__all__ = [
    "SPREAD",
    "WORTHWHILE",
    "Obtained",
    "OrderedSearch",
    "Proposer",
    "expected_improvement",
    "gain_of",
    "left_behind",
    "obtained_latency",
    "out_of_reach",
    "out_of_time",
    "skipped",
]

SPREAD = 2.0  # the factor that an uncorrected prediction is typically off by, either way
WORTHWHILE = 1e-4  # expected improvement, in logs, below which a plan is not worth its time
PROPOSED = 64  # plans with other options that stand in the queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Obtained:
    """What came of a trial: the baseline's cost over the candidate's, and how far each requirement is missed."""

    gain: float
    missed: tuple[float, ...] = ()  # relative to the limit; 0 or less: kept

    @property
    def kept(self) -> bool:
        """Whether every requirement was."""
        return all(miss <= 0 for miss in self.missed)


class Proposer(Protocol):
    """Who proposes plans with other options."""

    def tell(self, plan: Plan, obtained: Obtained | None, /) -> None:
        """Note what came of a plan; None: it could not be measured."""
        ...

    def propose(self, count: int, /) -> Sequence[Plan]:
        """So many plans, or fewer, that were not told of."""
        ...


def obtained_latency(trial: Trial) -> Obtained | None:
    """The gain in latency of a trial that was timed."""
    return None if trial.comparison is None else Obtained(gain=gain_of(trial.comparison))


class OrderedSearch:
    """Hands out plans best prospect first and remembers what came of them.

    ``ask`` gives the next prediction or None when the space is exhausted; ``tell`` takes the trial. Trials of an
    earlier, interrupted run are told first, and their plans are not asked for again. ``obtained`` reads a trial, and
    ``predict`` foresees what a ``proposer`` comes up with; without them plans are those of `predictions`.
    """

    def __init__(
        self,
        predictions: Sequence[Prediction],
        told: Sequence[Trial] = (),
        *,
        obtained: Callable[[Trial], Obtained | None] = obtained_latency,
        proposer: Proposer | None = None,
        predict: Callable[[Plan], Prediction] | None = None,
    ) -> None:
        self._predictions = {p.plan: p for p in predictions}
        self._read, self._proposer, self._predict = obtained, proposer, predict
        self._told: list[Trial] = []
        self._results: list[_Result] = []
        self._near: dict[Plan, tuple[int, tuple[int, int], tuple[_Result, ...]]] = {}
        self._effects: OptionEffects | None = None
        self._safety: dict[object, float] | None = None
        self._built: set[tuple[Step, ...]] = set()
        self._took = self._planned = 0.0  # minutes of all that was measured
        self._proposed: dict[Plan, Prediction] | None = None
        for trial in told:
            self.tell(trial)

    def ask(self, lead: float = 1.0, busy: Collection[Plan] = ()) -> Prediction | None:
        """The plan not told of and not `busy` that is worth most against a `lead`, the best gain in hand; predicted anew."""
        waiting = self._waiting(busy)
        measured = bool(self._results)
        if measured:
            gone = {trial.plan for trial in self._told} | set(busy)
            others = [self._prospect(p) for p in self._variants().values() if p.plan not in gone]
            waiting += [found for found in others if found.improvement(lead) >= WORTHWHILE]
        worth = [found.worth(lead, per_minute=measured) for found in waiting]
        return waiting[worth.index(max(worth))].said() if waiting else None

    def queue(self, lead: float = 1.0) -> tuple[Prediction, ...]:
        """The named plans not told of as they would be asked for if nothing more were learnt: the first, then by worth per minute."""
        waiting = self._waiting()
        if not waiting:
            return ()
        first = max(waiting, key=lambda found: found.worth(lead, per_minute=bool(self._results)))
        others = (found for found in waiting if found is not first)
        ranked = sorted(others, key=lambda found: -found.worth(lead, per_minute=True))
        return tuple(found.said() for found in (first, *ranked))

    def improvement(self, prediction: Prediction, lead: float) -> float:
        """What is expected of a plan that was asked for, in logs of the gain; infinite before anything was measured."""
        known = self._predictions.get(prediction.plan) or self._variants().get(prediction.plan, prediction)
        return self._prospect(known).improvement(lead) if self._results else math.inf

    def tell(self, trial: Trial) -> None:
        """Note what came of a plan."""
        self._told.append(trial)
        obtained = self._read(trial)
        prediction = self._predictions.get(trial.plan) or self._foreseen(trial)
        if obtained is not None and prediction is not None:
            self._results.append(_Result(plan=trial.plan, prediction=prediction, obtained=obtained))
            self._effects = self._safety = None
            self._took += trial.wall_s / 60
            self._planned += max(prediction.minutes - self._spared(trial.plan), 0.0)
            self._built |= {trial.plan.steps[: n + 1] for n in range(len(trial.plan.steps))}
        if trial.refusal is None or trial.refusal.kind not in _NOT_TRIED:
            self._proposed = None
            if self._proposer is not None:
                self._proposer.tell(trial.plan, obtained)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All that was told, in order."""
        return tuple(self._told)

    def _waiting(self, busy: Collection[Plan] = ()) -> list[_Prospect]:
        gone = {trial.plan for trial in self._told} | set(busy)
        return [self._prospect(p) for p in self._predictions.values() if p.plan not in gone]

    def _foreseen(self, trial: Trial) -> Prediction | None:
        return None if self._predict is None or trial.comparison is None else self._predict(trial.plan)

    def _variants(self) -> Mapping[Plan, Prediction]:
        """What the proposer comes up with, the same until something is tried."""
        if self._proposed is None:
            plans = self._proposer.propose(PROPOSED) if self._proposer is not None else ()
            predict = self._predict
            made = [] if predict is None else [predict(plan) for plan in plans if plan not in self._predictions]
            self._proposed = {p.plan: p for p in made if not p.hopeless}
        return self._proposed

    def _prospect(self, prediction: Prediction) -> _Prospect:
        """The prediction under what was obtained, the factor that it may still be off by, and the chance that it will do."""
        minutes = self._minutes(prediction)
        most, relatives = self._relatives(prediction.plan)
        if not relatives or prediction.hopeless:
            return _Prospect(prediction=prediction, minutes=minutes)
        log_factor = sum(r.error * most / len(r.plan.steps) for r in relatives) / len(relatives)
        spread = SPREAD ** ((1 + len(prediction.plan.steps) - most) / (1 + len(prediction.plan.steps)))
        if _names(relatives[0].plan) == _names(prediction.plan):
            shift, deviation = self._learnt().shift(prediction.plan, [r.plan for r in relatives])
            log_factor, spread = log_factor + shift, math.exp(deviation)
        return _Prospect(
            prediction=prediction,
            minutes=minutes,
            factor=math.exp(log_factor),
            spread=spread,
            chance=self._chance(prediction.plan),
            relatives=relatives,
        )

    def _learnt(self) -> OptionEffects:
        """What options do, by all that was told."""
        if self._effects is None:
            self._effects = OptionEffects([(r.plan, r.error) for r in self._results])
        return self._effects

    def _chance(self, plan: Plan) -> float:
        """That the requirements are kept: as safe as its riskiest part."""
        if self._safety is None:
            self._safety = _safety([(_parts(r.plan), r.obtained.kept) for r in self._results])
        return min((self._safety.get(part, 1.0) for part in _parts(plan)), default=1.0)

    def _relatives(self, plan: Plan) -> tuple[int, tuple[_Result, ...]]:
        """How many steps the nearest results share with `plan`, and these: most steps, and of these most options."""
        seen, most, found = self._near.get(plan, (0, (1, 0), ()))
        for result in self._results[seen:]:
            shared = _shared(plan, result.plan)
            found = (*found, result) if shared == most else (result,) if shared > most else found
            most = max(most, shared)
        self._near[plan] = (len(self._results), most, found)
        return most[0], found

    def _minutes(self, prediction: Prediction) -> float:
        """At the pace of all trials together, without the steps that a trial has built."""
        pace = self._took / self._planned if self._planned > 0 else 1.0
        return pace * max(prediction.minutes - self._spared(prediction.plan), 0.0)

    def _spared(self, plan: Plan) -> float:
        """Predicted minutes of the longest beginning of `plan` that stands built, weighing apart."""
        count = max((n + 1 for n in range(len(plan.steps)) if plan.steps[: n + 1] in self._built), default=0)
        if count == 0 or self._predict is None:
            return 0.0
        return self._predict(Plan(steps=plan.steps[:count])).minutes - self._predict(Plan()).minutes


_NOT_TRIED = ("skipped", "budget")
_NAMED = 3  # relatives that a reason names


@dataclass(frozen=True, slots=True, kw_only=True)
class _Result:
    plan: Plan
    prediction: Prediction
    obtained: Obtained

    @property
    def error(self) -> float:
        """In logs: by how much more was obtained than predicted."""
        return math.log(self.obtained.gain / self.prediction.gain)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Prospect:
    """A plan that waits: what was predicted, and what its nearest relatives say of that."""

    prediction: Prediction
    minutes: float
    factor: float = 1.0  # on the gain
    spread: float = SPREAD
    chance: float = 1.0  # that the requirements are kept
    relatives: tuple[_Result, ...] = ()

    def improvement(self, lead: float) -> float:
        return self.chance * expected_improvement(self.prediction.gain * self.factor, lead, self.spread)

    def worth(self, lead: float, *, per_minute: bool) -> float:
        """Expected improvement, in all or per minute; what is hopeless comes last."""
        if self.prediction.hopeless:
            return -math.inf
        return self.improvement(lead) / (max(self.minutes, 1e-3) if per_minute else 1.0)

    def said(self) -> Prediction:
        """The prediction as corrected, and by what."""
        if not self.relatives:
            return dataclasses.replace(self.prediction, minutes=self.minutes)
        names = [str(r.plan) for r in self.relatives[:_NAMED]]
        names += [f"{len(self.relatives) - _NAMED} more"] if len(self.relatives) > _NAMED else []
        because = f"{self.prediction.because}; times {self.factor:.2g} for what {' and '.join(names)} gave"
        gain = self.prediction.gain * self.factor
        return dataclasses.replace(self.prediction, gain=gain, minutes=self.minutes, because=because)


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


def out_of_reach(prediction: Prediction, lead: float, plan: Plan) -> Trial:
    """A trial for a plan whose ceiling lies below what was already obtained."""
    reason = f"its ceiling of {prediction.ceiling:.3g}x lies below the {lead:.3g}x that {plan} gives: it cannot win"
    return Trial(plan=prediction.plan, refusal=Refusal(kind="skipped", reason=reason), prediction=prediction)


def left_behind(prediction: Prediction, lead: float) -> Trial:
    """A trial for a plan that is not expected to improve on the lead by anything that counts."""
    reason = f"expected to improve on the {lead:.3g}x in hand by less than {WORTHWHILE:.2%}: not worth its time"
    return Trial(plan=prediction.plan, refusal=Refusal(kind="skipped", reason=reason), prediction=prediction)


def _shared(one: Plan, other: Plan) -> tuple[int, int]:
    """How many steps two plans have in common, whatever their options; and how many with the same options."""
    names = {step.name for step in one.steps} & {step.name for step in other.steps}
    return len(names), len(set(one.steps) & set(other.steps))


def _names(plan: Plan) -> list[str]:
    return [step.name for step in plan.steps]


def _parts(plan: Plan) -> list[object]:
    """Its techniques, and their options that are not the defaults."""
    return [*_names(plan), *values_of(plan)]


def _safety(trials: Sequence[tuple[Sequence[object], bool]]) -> dict[object, float]:
    """By part the share of its trials that kept the requirements, one more taken for granted.

    A trial that broke them is held against the part alone that looks riskiest over all: the others were in its company.
    """
    looks = _shares(trials)
    blamed = [(parts if kept else [min(parts, key=lambda p: looks[p])], kept) for parts, kept in trials if parts]
    return _shares(blamed)


def _shares(trials: Sequence[tuple[Sequence[object], bool]]) -> dict[object, float]:
    counts: dict[object, list[int]] = {}
    for parts, kept in trials:
        for part in parts:
            count = counts.setdefault(part, [1, 1])
            count[0] += kept
            count[1] += 1
    return {part: kept / count for part, (kept, count) in counts.items()}
