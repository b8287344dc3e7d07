"""`steelyard doctor --self-test`: what the comparison says here and now where the truth is known (V7).

One comparison has four arms: fixed work, the same again, exactly 2 % more of it, and exactly 5 % more. Each is judged
against the first by the code that `compare` uses, at every look, and stops as `compare` would. The second arm gives
false alarms, the others the share of known slow-downs that are found.

A slow-down of 2 % under a band of 2 % lies on the band's edge, where "slower" and "equivalent" are both half right. The
self-test therefore judges with a band of 1 %: whoever calls 2 % equivalent is wrong.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from steelyard.measure import workload
from steelyard.measure.arms import CALLABLE, Arm
from steelyard.measure.process import Limits
from steelyard.measure.turns import TurnSettings, rounds
from steelyard.metrics.examples import from_predictions
from steelyard.metrics.table import find, pair
from steelyard.pipeline.job import Progress, share_done, silent
from steelyard.pipeline.quality import difference
from steelyard.records import Comparison, Predictions
from steelyard.stats.paired import TimeOutcome
from steelyard.stats.sequence import FIRST
from steelyard.verify.compare import decided_at

__all__ = [
    "BAND",
    "INJECTED",
    "Found",
    "SelfTest",
    "Tally",
    "arms",
    "found",
    "one_comparison",
    "quality_tallies",
    "self_test",
]

BAND = 0.01
MOST_ROUNDS = 40  # a verdict that has not come by then counts as undecided
INJECTED = {"again": 0.0, "two": 0.02, "five": 0.05}
_FUNCTIONS = {"base": "base", "again": "base", "two": "two_percent_more", "five": "five_percent_more"}
# Many short turns: other tenants of a processor come and go within tens of milliseconds, and what alternates faster than
# that meets them alike. The work runs in no threads that must rest.
SETTINGS = TurnSettings(slots=60, slot_s=0.001, warm_s=0.05, rest_s=0.001)

DROPS = (0.0, 0.02, 0.05)
EXAMPLES, SIMULATED = 2_000, 200
_ACCURACY, _CHURN = 0.9, 0.02  # of the first model; examples that change for the better, and as many for the worse


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """One verdict: what was injected, what was said, after how many rounds and seconds."""

    arm: str
    outcome: TimeOutcome
    rounds: int
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Verdicts on one injected change: a slow-down of the time or a drop of accuracy, both fractions."""

    injected: float
    outcomes: tuple[str, ...]
    seconds: tuple[float, ...] = ()

    def count(self, *outcomes: str) -> int:
        """How many of the verdicts are one of these."""
        return sum(outcome in outcomes for outcome in self.outcomes)


@dataclass(frozen=True, slots=True, kw_only=True)
class SelfTest:
    """All verdicts of a self-test."""

    times: tuple[Tally, ...]  # nothing injected, 2 %, 5 %
    drops: tuple[Tally, ...]  # of accuracy, simulated
    wall_s: float
    flagged: int  # rounds, of `rounds`
    rounds: int


def self_test(budget_s: float, progress: Progress = silent, *, settings: TurnSettings = SETTINGS) -> SelfTest:
    """As many comparisons as the budget allows, at least one, and simulated drops of quality."""
    began = time.perf_counter()
    made: list[Comparison] = []
    while not made or (time.perf_counter() - began) * (1 + 1 / len(made)) <= budget_s:
        left = share_done(budget_s - (time.perf_counter() - began), budget_s)
        progress(f"comparison {len(made) + 1}", left)
        made.append(one_comparison(len(made), settings))
    progress("simulating drops of quality", 1.0)
    return SelfTest(
        times=tally([f for comparison in made for f in found(comparison)]),
        drops=quality_tallies(SIMULATED),
        wall_s=time.perf_counter() - began,
        flagged=sum(len({flag.partition(":")[0] for flag in c.flags}) for c in made),
        rounds=sum(len(c.seconds) for c in made),
    )


# --- times -----------------------------------------------------------------------------------------------


def arms() -> dict[str, Arm]:
    """Base, base again, 2 % more work, 5 % more."""
    file = str(Path(workload.__file__).resolve())
    return {name: Arm(worker=CALLABLE, load={"file": file, "name": word}) for name, word in _FUNCTIONS.items()}


def one_comparison(number: int, settings: TurnSettings = SETTINGS, *, most: int = MOST_ROUNDS) -> Comparison:
    """Rounds of all four arms until each has its verdict, or `most` of them; `number` makes the order of turns its own."""
    seeded = TurnSettings(
        slots=settings.slots, slot_s=settings.slot_s, warm_s=settings.warm_s, rest_s=settings.rest_s, seed=number
    )
    further = rounds(arms(), seeded, limits=Limits(seconds=60))
    made = next(further)
    while len(made.seconds) < most and (
        len(made.seconds) < FIRST or any(f.outcome == "undecided" for f in found(made))
    ):
        made = made.with_more(next(further))
    return made


def found(comparison: Comparison) -> Iterator[Found]:
    """The verdict on each arm, with the rounds and seconds after which one who stops at the first clear look has it.

    The arm that has nothing injected stands alone; the others have it as their control.
    """
    assert comparison.ended_s is not None
    for arm in INJECTED:
        outcome, after = decided_at(comparison, arm, None if arm == "again" else "again", band=BAND)
        yield Found(arm=arm, outcome=outcome, rounds=after, seconds=float(comparison.ended_s[after - 1]))


def tally(verdicts: Sequence[Found]) -> tuple[Tally, ...]:
    """Verdicts by what was injected."""
    return tuple(
        Tally(
            injected=injected,
            outcomes=tuple(f.outcome for f in verdicts if f.arm == arm),
            seconds=tuple(f.seconds for f in verdicts if f.arm == arm),
        )
        for arm, injected in INJECTED.items()
    )


# --- quality ---------------------------------------------------------------------------------------------


def quality_tallies(times: int, *, seed: int = 0) -> tuple[Tally, ...]:
    """Paired verdicts on simulated predictions of two models, the second worse by a known drop of accuracy."""
    rng = np.random.default_rng(seed)
    return tuple(Tally(injected=d, outcomes=tuple(_quality(rng, d) for _ in range(times))) for d in DROPS)


def _quality(rng: np.random.Generator, drop: float) -> str:
    """The verdict on one draw: better, worse, equivalent or undecided."""
    labels = rng.integers(0, 2, EXAMPLES).astype(np.int32)
    shares = (
        _ACCURACY - _CHURN - drop,
        _CHURN + drop,
        _CHURN,
        1 - _ACCURACY - _CHURN,
    )  # both right, lost, won, both wrong
    fates = rng.choice(4, EXAMPLES, p=shares)
    first, second = (from_predictions(_predictions(labels, np.isin(fates, right))) for right in ((0, 1), (0, 2)))
    metric = find("accuracy", first.task, first.classes)
    judged = difference(pair(first, second, [metric]), metric, ("first", "second"), 0.95)
    if judged.outcome == "equivalent" or judged.p_value is None or judged.p_value > 0.05:
        return judged.outcome
    return "worse" if getattr(judged.drop, "value", 0.0) > 0 else "better"


def _predictions(labels: np.ndarray, right: np.ndarray) -> Predictions:
    predicted = np.where(right, labels, 1 - labels).astype(np.int32)
    return Predictions(
        split="test", labels=labels, predicted=predicted, p_true=np.where(right, 0.9, 0.1).astype(np.float32), classes=2
    )
