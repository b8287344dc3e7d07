"""Two models on the same examples: matched by key, compared metric by metric and slice by slice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics.examples import Examples
from steelyard.metrics.families import Drop
from steelyard.metrics.slices import LEAST, cuts
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
    mine, theirs = (np.array(side.keys.levels)[side.keys.codes] for side in (first, second))  # type: ignore[union-attr]
    for side, other, lacking in (
        (first, second, np.setdiff1d(theirs, mine)),
        (second, first, np.setdiff1d(mine, theirs)),
    ):
        if len(lacking):
            raise InvalidInput(
                f"{len(lacking):,} keys of {other.source} are not in {side.source} (first: {lacking[0]!r}): both must answer the same "
                "examples"
            )
    order = np.argsort(theirs, kind="stable")[np.searchsorted(np.sort(theirs), mine)]
    return second.take(order)


def compare(
    first: Answers, second: Answers, metrics: Sequence[Metric], request: Request, say: Callable[[str], None]
) -> Iterator[Difference]:
    """The drop of every metric under Holm over the metrics, then of the leading one on every slice under Holm over those."""
    say("comparing")
    whole = [_difference(first, second, metric, (), None, request) for metric in metrics]
    yield from _corrected(whole, request)
    columns = first.columns
    if columns:
        say("comparing slices")
        found, _ = cuts(columns)
        own = [cut for cut in found if not cut.discovered]
        sliced = [
            _difference(first, second, metrics[0], cut.conditions, np.flatnonzero(cut.inside), request) for cut in own
        ]
        yield from _corrected(sliced, request)


def _difference(
    first: Answers,
    second: Answers,
    metric: Metric,
    conditions: tuple[tuple[str, str], ...],
    rows: NDArray[np.int64] | None,
    request: Request,
) -> Difference:
    before, after = (a.examples if rows is None else a.examples.take(rows) for a in (first, second))
    common = Difference(
        metric=metric.name, first=first.name, second=second.name, conditions=conditions, n=len(before), outcome="undefined",
        drop=Unavailable(
            quantity=f"{metric.name}_drop", reason=f"too few: {len(before)} examples, at least {LEAST} are needed"
        ),
    )  # fmt: skip
    if rows is not None and len(before) < LEAST:
        return common
    both = pair(before, after, [metric])
    found, shown = drop(both, metric), drop_estimate(both, metric, request.level)
    if isinstance(found, Unavailable) or isinstance(shown, Unavailable):
        return dataclasses.replace(common, drop=shown)
    below = found.p_value(0.0)
    return dataclasses.replace(
        common,
        drop=shown,
        p_value=min(1.0, 2 * min(below, 1 - below)),
        outcome="equivalent" if _equivalent(found, metric, request) else "undecided",
        tests=_mcnemar(before, after) if metric.name in ("accuracy", "error_rate") else (),
        advice=_advice(first, second, before, after, metric, shown, request),
    )


def _equivalent(found: Drop, metric: Metric, request: Request) -> bool:
    """Whether the drop lies within the band: two one-sided tests (Schuirmann 1987), for shares, which the band is in."""
    low, high = found.interval(max(2 * request.level - 1, 0.5))
    return metric.unit == "fraction" and max(-low, high) <= request.band


def _mcnemar(before: Examples, after: Examples) -> tuple[tuple[str, float], ...]:
    right = [np.asarray(e.predicted == e.labels) for e in (before, after)]
    only_first, only_second = int((right[0] & ~right[1]).sum()), int((right[1] & ~right[0]).sum())
    return (
        ("McNemar, exact", mcnemar(only_first, only_second)),
        ("McNemar, mid-p", mcnemar_midp(only_first, only_second)),
    )


def _advice(
    first: Answers,
    second: Answers,
    before: Examples,
    after: Examples,
    metric: Metric,
    shown: Estimate,
    request: Request,
) -> str:
    """What would decide an open question."""
    if shown.low > 0 or shown.high < 0:
        return ""
    if shown.value == 0:
        return f"no difference was seen on {len(before):,} examples"
    worse = shown.value > 0
    both = pair(after, before, [metric]) if worse else pair(before, after, [metric])
    found = drop(both, metric)
    needed = None if isinstance(found, Unavailable) else found.needed(0.0, request.level)
    if needed is None:
        return "more examples would be needed to resolve this gap"
    leader = (first if worse else second).name
    return f"needs about {needed:,} examples to show {leader} ahead at this gap; there are {len(before):,}"


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
        yield dataclasses.replace(
            difference,
            adjusted=claim.adjusted,
            outcome=outcome,
            advice=difference.advice if outcome == "undecided" else "",
        )
