"""How soon the search finds what trying everything would: replayed on tables of trials whose truth is known.

    python -m benchmarks.search --worlds 40 --first 1000
    python -m benchmarks.search --run RUN

A table says of every plan of a space how long each of its steps takes, what it gains and whether it keeps the requirements.
`--worlds` draws tables (see `World`): what the diagnosis predicts is off by a factor of two one time in three, options change
gains by some per cent and may break the quality, and some plans cannot be built. `--run` reads the table of a real run folder in which
every plan was tried. The exhaustive grid and each way of searching pay for the same steps once, and the best of the
grid is the best of all plans that keep the requirements. Tables 0 to 39 were looked at while the search was made; figures
to quote are of tables from 1000 on.

Writes `results/search.md` and `results/search.json`.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from steelyard.diagnose.findings import BUILD_MINUTES
from steelyard.passes import KINDS, PASSES
from steelyard.pipeline.objective import goal_of
from steelyard.records import Comparison, Plan, Prediction, Refusal, Step, Trial
from steelyard.search.ordered import Obtained, OrderedSearch, Proposer
from steelyard.search.space import Space, every, plans_for
from steelyard.search.tuner import Neighbours, Tuner
from steelyard.store import read_records

RESULTS = Path(__file__).parent / "results"
SHARES = (0.01, 0.02, 0.05, 0.10, 0.25)
CLOSE = 0.95  # of the grid's best gain
TRUE_GAIN = {
    "engine": 2.5, "compile": 1.8, "int8": 2.2, "bf16": 1.3, "fp16": 1.0, "prune": 1.7, "low-rank": 1.3, "distill": 2.0,
    "layout": 1.1, "fold": 1.1, "sparse": 1.0, "weight-only": 1.2,
}  # fmt: skip
BREAKS = {"int8": 0.3, "prune": 0.35, "low-rank": 0.3, "distill": 0.5, "sparse": 0.2, "weight-only": 0.2, "bf16": 0.05}
WEIGH = 0.4  # minutes


@dataclass(frozen=True)
class Table:
    """Everything known of the plans of a space."""

    space: Space
    gains: Mapping[Plan, float]
    kept: Mapping[Plan, bool]
    built: Mapping[Plan, bool]
    predicted: Callable[[Plan], float]
    minutes: Callable[[Step], float]

    @property
    def best(self) -> float:
        """The largest gain of all that can be built and keep the requirements."""
        return max([1.0, *(g for p, g in self.gains.items() if self.kept[p] and self.built[p])])


@dataclass
class Clock:
    """Minutes spent, where each beginning of a chain is built once."""

    table: Table
    spent: float = 0.0
    made: set[tuple[Step, ...]] = field(default_factory=set)

    def take(self, plan: Plan) -> float:
        """Minutes that this plan takes now."""
        took = WEIGH
        for count, step in enumerate(plan.steps, 1):
            if plan.steps[:count] not in self.made:
                self.made.add(plan.steps[:count])
                took += self.table.minutes(step)
        self.spent += took
        return took


class World:
    """A truth that was drawn: a gain for each technique, each of its options, and each plan; and what breaks."""

    def __init__(self, space: Space, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._factors: dict[object, float] = {}
        plans = tuple(every(space))
        gains = {p: self._gain(p) for p in plans}
        broken = {key for p in plans for key in self._keys(p) if self._chance(key) < self._breaks(key)}
        kept = {p: not broken & set(self._keys(p)) for p in plans}
        built = {p: self._chance(("built", p)) > 0.03 for p in plans}
        self._misjudged = {name: math.exp(self._rng.normal(0, math.log(2))) for name in PASSES}
        self.table = Table(space, gains, kept, built, self._predicted, self._minutes)

    def _gain(self, plan: Plan) -> float:
        logs = [math.log(self._drawn(key, self._centre(key))) for key in self._keys(plan)]
        return math.exp(sum(logs) + self._rng.normal(0, 0.04))

    def _keys(self, plan: Plan) -> list[object]:
        return [k for s in plan.steps for k in (s.name, *((s.name, *option) for option in s.options))]

    def _centre(self, key: object) -> tuple[float, float]:
        return (TRUE_GAIN[PASSES[key].kind], 0.3) if isinstance(key, str) else (1.0, 0.12)

    def _drawn(self, key: object, around: tuple[float, float]) -> float:
        if key not in self._factors:
            self._factors[key] = math.exp(math.log(around[0]) + self._rng.normal(0, around[1]))
        return self._factors[key]

    def _chance(self, key: object) -> float:
        return self._factors.setdefault(("chance", key), float(self._rng.random()))

    def _breaks(self, key: object) -> float:
        kind = PASSES[key if isinstance(key, str) else key[0]].kind  # type: ignore[index]
        return BREAKS.get(kind, 0.0) * (1.0 if isinstance(key, str) else 0.5)

    def _predicted(self, plan: Plan) -> float:
        return math.exp(sum(math.log(TRUE_GAIN[PASSES[s.name].kind] * self._misjudged[s.name]) for s in plan.steps))

    def _minutes(self, step: Step) -> float:
        return BUILD_MINUTES.get(step.name, 1.0)


# --- ways of searching -------------------------------------------------------------------------------------


def searched(table: Table, proposer: Proposer, until: float) -> Iterator[tuple[float, float]]:
    """(minutes spent, best gain that keeps the requirements) after each trial of the search."""
    search = OrderedSearch(
        [_prediction(table, p) for p in plans_for(table.space)],
        obtained=lambda trial: _obtained(table, trial),
        proposer=proposer,
        predict=lambda plan: _prediction(table, plan),
    )
    clock, lead = Clock(table), 1.0
    while clock.spent < until and (asked := search.ask(lead)) is not None:
        plan = asked.plan
        took = clock.take(plan)
        if table.built[plan] and table.kept[plan]:
            lead = max(lead, table.gains[plan])
        search.tell(_trial(table, plan, took))
        yield clock.spent, lead


def in_turn(table: Table, plans: Sequence[Plan], until: float) -> Iterator[tuple[float, float]]:
    """The same for plans in a given order."""
    clock, lead = Clock(table), 1.0
    for plan in plans:
        if clock.spent >= until:
            return
        clock.take(plan)
        if table.built[plan] and table.kept[plan]:
            lead = max(lead, table.gains[plan])
        yield clock.spent, lead


def drawn_by_optuna(table: Table, until: float, seed: int) -> Iterator[tuple[float, float]]:
    """Optuna's sampler alone, which knows neither predictions nor minutes."""
    tuner, clock, lead = Tuner(table.space, seed), Clock(table), 1.0
    while clock.spent < until and (plans := tuner.propose(1)):
        trial = _trial(table, plans[0], clock.take(plans[0]))
        found = _obtained(table, trial)
        lead = max(lead, found.gain if found is not None and found.kept else 1.0)
        tuner.tell(plans[0], found)
        yield clock.spent, lead


def _prediction(table: Table, plan: Plan) -> Prediction:
    minutes = WEIGH + sum(map(table.minutes, plan.steps))
    return Prediction(plan=plan, gain=table.predicted(plan), ceiling=math.inf, minutes=minutes, because="drawn")


def _trial(table: Table, plan: Plan, took: float) -> Trial:
    if not table.built[plan]:
        return Trial(plan=plan, refusal=Refusal(kind="cannot-apply", reason="drawn"), wall_s=60 * took)
    seconds = np.full((1, 4, 2), [1.0, 1 / table.gains[plan]])
    comparison = Comparison(arms=("baseline", "x"), batch=1, seconds=seconds, order=np.zeros((1, 4, 2), np.int32))
    return Trial(plan=plan, comparison=comparison, wall_s=60 * took)


def _obtained(table: Table, trial: Trial) -> Obtained | None:
    if trial.comparison is None:
        return None
    return Obtained(gain=table.gains[trial.plan], missed=(0.0 if table.kept[trial.plan] else 1.0,))


# --- tables of real runs -----------------------------------------------------------------------------------


def recorded(folder: Path) -> Table:
    """The table of a run folder: the plans that were tried, and the minutes of their steps by the pace of the whole."""
    records = read_records(folder)
    goal = goal_of(records)
    found = {
        t.plan: goal.obtained(t)
        for t in records.trials
        if t.refusal is None or t.refusal.kind not in ("skipped", "budget")
    }
    foreseen = {p.plan: p for finding in records.findings for p in finding.predictions}
    planned = sum(BUILD_MINUTES.get(s.name, 1.0) for p in found for s in p.steps) + WEIGH * len(found)
    pace = sum(t.wall_s for t in records.trials) / 60 / planned
    return Table(
        Space("eager" if any("prune" in str(p) for p in found) else "onnxruntime"),
        {p: o.gain if o is not None else 0.0 for p, o in found.items()},
        {p: o is not None and o.kept for p, o in found.items()},
        {p: o is not None for p, o in found.items()},
        lambda plan: foreseen[plan].gain if plan in foreseen else 1.0,
        lambda step: pace * BUILD_MINUTES.get(step.name, 1.0),
    )


# --- what came of it ---------------------------------------------------------------------------------------


def reached(table: Table, way: Iterator[tuple[float, float]], whole: float) -> list[float]:
    """The best gain after each of `SHARES` of the grid's time, over the grid's best."""
    found = [(0.0, 1.0), *way]
    return [max(lead for spent, lead in found if spent <= share * whole) / table.best for share in SHARES]


def compare(table: Table, seed: int, *, optuna: bool) -> dict[str, list[float]]:
    """Each way of searching on one table; those with `optuna` take longer to replay."""
    plans = tuple(table.gains)
    grid = Clock(table)
    for plan in plans:
        grid.take(plan)
    whole = grid.spent
    until = max(SHARES) * whole
    shuffled = [plans[i] for i in np.random.default_rng(seed).permutation(len(plans))]
    drawn = {
        "Steelyard with Optuna": searched(table, Tuner(table.space, seed), until),
        "Optuna alone": drawn_by_optuna(table, until, seed),
    }
    ways = {
        **(drawn if optuna else {}),
        "Steelyard without Optuna": searched(table, Neighbours(table.space), until),
        "random order": in_turn(table, shuffled, until),
        "grid order": in_turn(table, plans, until),
    }
    return {name: reached(table, way, whole) for name, way in ways.items()}


def page(results: Sequence[dict[str, list[float]]], plans: int, minutes: float) -> str:
    """The table in Markdown."""
    heads = " | ".join(f"{share:.0%}" for share in SHARES)
    lines = [
        "# Search against the exhaustive grid",
        "",
        f"{len(results)} tables of {plans:,} plans; the whole grid takes {minutes:,.0f} minutes on average, each step built once.",
        "Best gain found over the grid's best: median over the tables, and in brackets how many of them are within 5 %.",
        f"Spaces have {len(KINDS)} kinds of techniques. `{' '.join(['python -m benchmarks.search', *sys.argv[1:]])}`",
        "",
        f"| share of the grid's time | {heads} |",
        f"|---|{'---|' * len(SHARES)}",
    ]
    for name in results[0]:
        rows = np.array([r[name] for r in results if name in r])
        cells = [f"{np.median(c):.3f} ({np.mean(c >= CLOSE):.0%})" for c in rows.T]
        on = "" if len(rows) == len(results) else f", on {len(rows)} of the tables"
        lines.append(f"| {name}{on} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Draw or read tables, search them, write what came of it."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--worlds", type=int, default=40)
    words.add_argument("--first", type=int, default=1000, help="seed of the first world")
    words.add_argument("--optuna", type=int, help="in so many of the worlds Optuna draws too (all)")
    words.add_argument("--engine", default="eager")
    words.add_argument("--techniques", default="prune,quantize_static,nncf_int8,bf16,layout")
    words.add_argument("--run", type=Path, help="a run folder in which every plan was tried")
    asked = words.parse_args()
    space = Space(asked.engine, tuple(asked.techniques.split(",")))
    tables: Sequence[Callable[[], Table]] = (
        [lambda: recorded(asked.run)]
        if asked.run
        else [lambda seed=seed: World(space, seed).table for seed in range(asked.first, asked.first + asked.worlds)]
    )
    results, minutes, plans = [], [], 0
    for number, make in enumerate(tables):
        began, table = time.monotonic(), make()
        clock = Clock(table)
        for plan in table.gains:
            clock.take(plan)
        minutes.append(clock.spent)
        plans = len(table.gains)
        results.append(compare(table, asked.first + number, optuna=asked.optuna is None or number < asked.optuna))
        print(f"table {number + 1} of {len(tables)}: {time.monotonic() - began:.0f} s", flush=True)
    written = page(results, plans, float(np.mean(minutes)))
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "search.md").write_text(written, encoding="utf-8")
    (RESULTS / "search.json").write_text(json.dumps({"shares": SHARES, "tables": results}) + "\n", encoding="utf-8")
    print(written)


if __name__ == "__main__":
    main()
