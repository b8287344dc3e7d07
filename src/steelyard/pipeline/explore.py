"""The search: candidates best prospect first, while the budget leaves time to prove the best of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from steelyard.pipeline.job import Progress, share_done
from steelyard.pipeline.prove import FINALISTS, ROUNDS, SLOTS
from steelyard.records import Finding, Prediction, Trial
from steelyard.search.attempt import Rival, Workshop, attempt
from steelyard.search.ordered import OrderedSearch, out_of_time, skipped
from steelyard.search.space import plans_for
from steelyard.store import RunFolder
from steelyard.subject.artifact import read_artifact

__all__ = ["explore", "proof_s"]


def explore(
    shop: Workshop,
    folder: RunFolder,
    findings: Sequence[Finding],
    earlier: Sequence[Trial],
    deadline: float,
    budget_s: float,
    progress: Progress,
) -> tuple[Trial, ...]:
    """Try plans until they or the search's part of the budget run out; every trial is on disk when the next begins."""
    expected = {p.plan: p for finding in findings for p in finding.predictions}
    search = OrderedSearch(list(expected.values()) or _unpredicted(shop), earlier)
    slowest = max((t.wall_s for t in earlier), default=0.0)
    with Rival(shop) as rival:
        rival.child()
        stop = deadline - proof_s(rival.start_s)
        while (prediction := search.ask()) is not None:
            left = stop - time.monotonic()
            if prediction.hopeless:
                trial = skipped(prediction)
            elif slowest > left and any(t.comparison for t in search.trials):
                trial = out_of_time(prediction)
            else:
                done = share_done(deadline - time.monotonic(), budget_s)
                say = _named(progress, str(prediction.plan), done)
                trial = attempt(prediction.plan, shop, rival, expected.get(prediction.plan), say)
                slowest = max(slowest, trial.wall_s)
            folder.append(trial)
            search.tell(trial)
    return search.trials


def _unpredicted(shop: Workshop) -> list[Prediction]:
    """Every plan, for a model that could not be diagnosed: nothing is known of them, which is no reason not to try."""
    because = "the model could not be diagnosed, so nothing is predicted"
    return [
        Prediction(plan=plan, gain=1.0, ceiling=1.0, minutes=1.0, because=because)
        for plan in plans_for(read_artifact(shop.baseline).engine)
    ]


def proof_s(start_s: float) -> float:
    """Seconds that the proof will take: every round starts baseline, control and finalists afresh, two at a time."""
    per_round = start_s * (1 + 0.25 * FINALISTS) + SLOTS * (2 + FINALISTS) * 0.035
    return ROUNDS * per_round + (1 + FINALISTS) * start_s


def _named(progress: Progress, plan: str, done: float) -> Callable[[str], None]:
    return lambda step: progress(f"{plan}: {step}", done)
