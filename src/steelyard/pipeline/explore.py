"""The search: candidates best prospect first, while the budget leaves time to prove the best of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from steelyard.pipeline.foresee import Predict, trimmed
from steelyard.pipeline.job import Progress, share_done
from steelyard.pipeline.objective import Goal, goal_of
from steelyard.pipeline.prove import FINALISTS, Cost, cost_of, proof_s
from steelyard.records import Finding, Plan, Prediction, RunRecords, Trial
from steelyard.search.attempt import Contends, Rival, Workshop
from steelyard.search.bounds import allowance, quality_bounds
from steelyard.search.crew import Errand, crew_for
from steelyard.search.ordered import (
    WORTHWHILE,
    OrderedSearch,
    left_behind,
    out_of_reach,
    out_of_time,
    skipped,
)
from steelyard.search.space import Space, plans_for
from steelyard.search.tuner import proposer_for
from steelyard.store import RunFolder

__all__ = ["explore"]

MOST_KEPT = 0.5  # of the budget, for the proof; a longer one overruns, for it must have something to prove
SLOWER = 1.25  # a candidate costlier than the last finalist by this factor in one round will not become one


def explore(
    shop: Workshop,
    folder: RunFolder,
    space: Space,
    findings: Sequence[Finding],
    predict: Predict,
    earlier: Sequence[Trial],
    deadline: float,
    budget_s: float,
    progress: Progress,
    ray: str | None = None,
) -> tuple[Trial, ...]:
    """Try plans until they or the search's part of the budget run out; every trial is on disk when the next begins."""
    known = folder.records()  # run and baseline are on disk before the search begins
    assert known is not None
    goal = goal_of(known)
    foreseen = {p.plan: p for finding in findings for p in finding.predictions}
    named = {p.plan: p for p in trimmed([foreseen.get(plan) or predict(plan) for plan in plans_for(space)])}
    search = OrderedSearch(
        list(named.values()), earlier, obtained=goal.obtained, proposer=proposer_for(space), predict=predict
    )
    best = goal.promising(earlier)[:FINALISTS]
    with ExitStack() as stack:
        rival = stack.enter_context(Rival(shop))
        rival.child()
        crew = crew_for(shop, rival, ray, stack)
        untried: list[Trial] = []  # many at once, written together
        while (found := search.ask(_lead(goal, best), crew.busy) if crew.free else None) is not None or crew.busy:
            left_s = deadline - time.monotonic()
            kept_s = min(proof_s(_arms(known, best, rival)), MOST_KEPT * budget_s)
            trial = None if found is None else _untried(found, search, goal, best, left_s - kept_s)
            if trial is not None:
                untried += [trial] if trial.plan in named else []  # a proposal that was not tried is no news
                search.tell(trial)
                continue
            if found is not None:
                say = _told(progress, found.plan, goal, best, share_done(left_s, budget_s))
                crew.start(_errand(found, goal, best, say, noted=bool(foreseen)))
                if crew.free:
                    continue
            trial = crew.finish()
            folder.append(*untried, trial)
            untried.clear()
            search.tell(trial)
            best = goal.promising([*best, trial])[:FINALISTS]
        folder.append(*untried)
    return search.trials


def _untried(
    prediction: Prediction, search: OrderedSearch, goal: Goal, best: Sequence[Trial], left_s: float
) -> Trial | None:
    """A trial for a plan that is not worth trying, or that there is no time for, with the reason; None for the others."""
    lead = _lead(goal, best)
    if prediction.hopeless:
        return skipped(prediction)
    if best and goal.minimise == "latency" and prediction.ceiling * allowance(search.trials) < lead:
        return out_of_reach(prediction, lead, best[0].plan)
    if best and search.improvement(prediction, lead) < WORTHWHILE:
        return left_behind(prediction, lead)
    if 60 * prediction.minutes > left_s and any(t.comparison for t in search.trials):
        return out_of_time(prediction)
    return None


def _errand(
    prediction: Prediction, goal: Goal, best: Sequence[Trial], say: Callable[[str], None], *, noted: bool
) -> Errand:
    made = goal.before.on("validation")
    return Errand(
        plan=prediction.plan,
        prediction=prediction if noted else None,
        contends=_contends(goal, best),
        bounds=quality_bounds(goal.requirements, None if made is None else made.correct),
        say=say,
    )


def _lead(goal: Goal, best: Sequence[Trial]) -> float:
    """The best gain in hand; that of the baseline where nothing is."""
    return max([1.0, *map(goal.gain_of, best)])


def _contends(goal: Goal, best: Sequence[Trial]) -> Contends:
    """Whether a candidate, by its round against the baseline, may still become one of the finalists."""
    if len(best) < FINALISTS:
        return lambda *_: True
    least = min(map(goal.gain_of, best)) / SLOWER
    return lambda after, comparison: goal.gain(after, comparison) > least


def _arms(known: RunRecords, best: Sequence[Trial], rival: Rival) -> list[Cost]:
    """The costs of the proof's arms, as far as they are known; finalists not yet found are taken for as slow as the baseline."""
    assert known.baseline is not None
    examples = known.run.splits["test"]
    baseline = dataclasses.replace(cost_of(known.baseline, examples), start_s=rival.start_s)
    found = [cost_of(t.after, examples) for t in best if t.after is not None]
    return [baseline, *found, *[baseline] * (FINALISTS - len(found))]


def _told(progress: Progress, plan: Plan, goal: Goal, best: Sequence[Trial], done: float) -> Callable[[str], None]:
    so_far = f" (so far {goal.gain_of(best[0]):.3g}x by {best[0].plan})" if best else ""
    return lambda step: progress(f"{plan}: {step}{so_far}", done)
