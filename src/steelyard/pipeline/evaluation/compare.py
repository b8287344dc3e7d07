"""Two models on the same examples: matched by key, compared metric by metric and slice by slice."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.metrics.families import Drop, Pair
from steelyard.metrics.slices import LEAST, Cut, cuts
from steelyard.metrics.table import Metric, drop, drop_estimate, pair
from steelyard.pipeline.evaluation.request import Answers, Request
from steelyard.records import Difference, Estimate, Unavailable
from steelyard.stats.multiple import holm
from steelyard.stats.proportion import mcnemar, mcnemar_midp

__all__ = ["aligned", "compare"]


def aligned(first: Answers, second: Answers) -> Answers:
    """The second model's answers in the order of the first's, by key where both have one.

    Raises `InvalidInput` where examples are missing on either side, or their labels differ.
    """
    if first.keys is not None and second.keys is not None:
        second = _reordered(first, second)
    elif len(first.examples) != len(second.examples):
        raise InvalidInput(
            f"{first.source} has {len(first.examples):,} examples and {second.source} {len(second.examples):,}: say with --key which "
            "column tells which is which"
        )
    mine, theirs = (np.asarray(side.examples.labels) for side in (first, second))
    if first.examples.classes != second.examples.classes:
        raise InvalidInput(
            f"{first.source} and {second.source} have other classes: {', '.join(first.examples.classes[:6])} and "
            f"{', '.join(second.examples.classes[:6])}"
        )
    if not np.array_equal(mine, theirs):
        row = int(np.flatnonzero((mine != theirs).reshape(len(mine), -1).any(axis=1))[0])
        cure = (
            "the files hold other labels" if first.keys is not None else "give --key if their rows are in another order"
        )
        raise InvalidInput(f"{first.source} and {second.source} disagree on the label of {first.place(row)}: {cure}")
    return second


def _reordered(first: Answers, second: Answers) -> Answers:
    assert first.keys is not None
    assert second.keys is not None
    place = {key: code for code, key in enumerate(first.keys.levels)}
    theirs = second.keys.mapped([place.get(key, -1) for key in second.keys.levels])
    row_of = np.full(
        len(place) + 1, -1, dtype=np.int64
    )  # of each of the first's keys among the second's rows; -1 for none
    row_of[theirs] = np.arange(len(theirs))
    row_of[-1] = -1
    order = row_of[first.keys.codes]
    unasked = np.setdiff1d(np.arange(len(theirs)), order)
    for side, other, lacking in ((first, second, unasked), (second, first, np.flatnonzero(order < 0))):
        if len(lacking):
            raise InvalidInput(
                f"{len(lacking):,} keys of {other.source} are not in {side.source} (first: {other.place(int(lacking[0]))!r}): both must "
                "answer the same examples"
            )
    return second.take(order)


def compare(
    first: Answers, second: Answers, metrics: Sequence[Metric], request: Request, say: Callable[[str], None]
) -> Iterator[Difference]:
    """The drop of every metric under Holm over the metrics, then of the leading one on every slice under Holm over those."""
    say("comparing")
    both = pair(first.examples, second.examples, metrics)
    names = (first.name, second.name)
    yield from _corrected([_difference(both, names, metric, (), request) for metric in metrics], request)
    own = [cut for cut in cuts(first.columns)[0] if not cut.discovered]
    if own:
        say("comparing slices")
        yield from _corrected([_on_slice(first, second, metrics[0], cut, request) for cut in own], request)


def _on_slice(first: Answers, second: Answers, metric: Metric, cut: Cut, request: Request) -> Difference:
    rows = np.flatnonzero(cut.inside)
    if len(rows) >= LEAST:
        both = pair(first.examples.take(rows), second.examples.take(rows), [metric])
        return _difference(both, (first.name, second.name), metric, cut.conditions, request)
    reason = f"too few: {len(rows)} examples, at least {LEAST} are needed"
    return Difference(
        metric=metric.name,
        first=first.name,
        second=second.name,
        conditions=cut.conditions,
        n=len(rows),
        drop=Unavailable(quantity=f"{metric.name}_drop", reason=reason),
        outcome="undefined",
    )


def _difference(
    both: Pair, names: tuple[str, str], metric: Metric, conditions: tuple[tuple[str, str], ...], request: Request
) -> Difference:
    found, shown = drop(both, metric), drop_estimate(both, metric, request.level)
    difference = Difference(
        metric=metric.name, first=names[0], second=names[1], conditions=conditions, n=both.n, drop=shown,
        outcome="undefined",
    )  # fmt: skip
    if isinstance(found, Unavailable) or isinstance(shown, Unavailable):
        return difference
    below = found.p_value(0.0)
    return dataclasses.replace(
        difference,
        p_value=min(1.0, 2 * min(below, 1 - below)),
        outcome="equivalent" if _equivalent(found, metric, request) else "undecided",
        tests=_mcnemar(both) if metric.name in ("accuracy", "error_rate") else (),
        advice=_advice(both, names, metric, shown, request),
    )


def _equivalent(found: Drop, metric: Metric, request: Request) -> bool:
    """Whether the drop lies within the band: two one-sided tests (Schuirmann 1987).

    The band is of shares of decisions and of areas; errors of probabilities are small where positives are rare, and a
    band for accuracy would call any two of them alike.
    """
    low, high = found.interval(max(2 * request.level - 1, 0.5))
    return metric.needs in ("predicted", "scores") and metric.unit == "fraction" and max(-low, high) <= request.band


def _mcnemar(both: Pair) -> tuple[tuple[str, float], ...]:
    first, second = (np.asarray(e.predicted == e.labels) for e in (both.before.examples, both.after.examples))
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    exact, midp = mcnemar(only_first, only_second), mcnemar_midp(only_first, only_second)
    return ("McNemar, exact", exact), ("McNemar, mid-p", midp)


def _advice(both: Pair, names: tuple[str, str], metric: Metric, shown: Estimate, request: Request) -> str:
    """What would decide an open question."""
    if shown.low > 0 or shown.high < 0:
        return ""
    if shown.value == 0:
        return f"no difference was seen on {both.n:,} examples"
    worse = shown.value > 0
    found = drop(both.swapped if worse else both, metric)
    needed = None if isinstance(found, Unavailable) else found.needed(0.0, request.level)
    if needed is None:
        return "more examples would be needed to resolve this gap"
    reach = shown.value - shown.low if worse else shown.high - shown.value
    needed = max(needed, math.ceil(both.n * (reach / shown.value) ** 2))  # the interval's own width shrinks as the root
    return f"needs about {needed:,} examples to show {names[0 if worse else 1]} ahead at this gap; there are {both.n:,}"


def _corrected(found: Sequence[Difference], request: Request) -> Iterator[Difference]:
    tested = [d for d in found if d.p_value is not None]
    claims = iter(holm([d.p_value for d in tested if d.p_value is not None], 1 - request.level))
    for difference in found:
        if difference.p_value is None:
            yield difference
            continue
        claim = next(claims)
        outcome = difference.outcome
        if outcome != "equivalent" and claim.rejected:
            assert isinstance(difference.drop, Estimate)
            outcome = "worse" if difference.drop.value > 0 else "better"
        advice = difference.advice or f"shown alone, but not after Holm over {len(tested)} comparisons"
        yield dataclasses.replace(
            difference, adjusted=claim.adjusted, outcome=outcome, advice=advice if outcome == "undecided" else ""
        )
