"""The search: candidates best prospect first, while the budget leaves time to prove the best of them."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence

from steelyard.pipeline.job import Progress, share_done
from steelyard.pipeline.prove import FINALISTS, Cost, cost_of, promising, proof_s
from steelyard.records import Comparison, Finding, Prediction, RunRecords, Trial
from steelyard.search.attempt import Rival, Workshop, attempt
from steelyard.search.ordered import OrderedSearch, gain_of, out_of_time, skipped
from steelyard.search.space import plans_for
from steelyard.store import RunFolder
from steelyard.subject.artifact import read_artifact

__all__ = ["explore"]

MOST_KEPT = 0.5  # of the budget, for the proof; a longer one overruns, for it must have something to prove
SLOWER = 1.25  # a candidate slower than the last finalist by this factor in one round will not become one


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
    known = folder.records()  # run and baseline are on disk before the search begins
    assert known is not None
    assert known.baseline is not None
    expected = {p.plan: p for finding in findings for p in finding.predictions}
    search = OrderedSearch(list(expected.values()) or _unpredicted(shop), earlier)
    best = promising(known.baseline, earlier, known.run.requirements, known.run.contract.labels)[:FINALISTS]
    with Rival(shop) as rival:
        rival.child()
        while (prediction := search.ask(lead=max([1.0, *_gains(best)]))) is not None:
            kept_s = min(proof_s(_arms(known, best, rival)), MOST_KEPT * budget_s)
            left_s = deadline - time.monotonic() - kept_s
            if prediction.hopeless:
                trial = skipped(prediction)
            elif 60 * prediction.minutes > left_s and any(t.comparison for t in search.trials):
                trial = out_of_time(prediction)
            else:
                say = _named(progress, str(prediction.plan), share_done(deadline - time.monotonic(), budget_s))
                noted = prediction if prediction.plan in expected else None
                trial = attempt(prediction.plan, shop, rival, noted, say, _contends(best))
            folder.append(trial)
            search.tell(trial)
            best = _fastest(
                [*best, *promising(known.baseline, [trial], known.run.requirements, known.run.contract.labels)]
            )
    return search.trials


def _unpredicted(shop: Workshop) -> list[Prediction]:
    """Every plan, for a model that could not be diagnosed: nothing is known of them, which is no reason not to try."""
    because = "the model could not be diagnosed, so nothing is predicted"
    return [
        Prediction(plan=plan, gain=1.0, ceiling=1.0, minutes=1.0, because=because)
        for plan in plans_for(read_artifact(shop.baseline).engine)
    ]


def _fastest(trials: Sequence[Trial]) -> list[Trial]:
    """Those that would be the finalists now."""
    ranked = sorted(zip(_gains(trials), trials, strict=True), key=lambda pair: -pair[0])
    return [trial for _, trial in ranked[:FINALISTS]]


def _gains(trials: Sequence[Trial]) -> list[float]:
    return [gain_of(t.comparison) for t in trials if t.comparison is not None]


def _contends(best: Sequence[Trial]) -> Callable[[Comparison], bool]:
    """Whether a candidate, by its round against the baseline, may still become one of the finalists."""
    if len(best) < FINALISTS:
        return lambda _: True
    least = min(_gains(best)) / SLOWER
    return lambda comparison: gain_of(comparison) > least


def _arms(known: RunRecords, best: Sequence[Trial], rival: Rival) -> list[Cost]:
    """The costs of the proof's arms, as far as they are known; finalists not yet found are taken for as slow as the baseline."""
    assert known.baseline is not None
    examples = known.run.splits["test"]
    baseline = dataclasses.replace(cost_of(known.baseline, examples), start_s=rival.start_s)
    found = [cost_of(t.after, examples) for t in best if t.after is not None]
    return [baseline, *found, *[baseline] * (FINALISTS - len(found))]


def _named(progress: Progress, plan: str, done: float) -> Callable[[str], None]:
    return lambda step: progress(f"{plan}: {step}", done)
