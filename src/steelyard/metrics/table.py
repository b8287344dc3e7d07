"""The metric table: each metric with its range, direction and interval, and paired comparisons of two models.

How each interval is made (``level`` is two-sided):

``wilson``     accuracy: Wilson's score interval; paired, Tango's.
``bootstrap``  metrics of the confusion table: the variance ``v`` comes from 2,000 multinomial resamples of the table
               and gives an effective number of examples ``m (1 - m) / v`` (at most n), used in Wilson's interval around
               the metric ``m``. Paired, the joint table of (label, before, after) is resampled; the variance of the
               difference gives effective discordant counts, used in Tango's interval. For accuracy itself both recipes
               give back Wilson and Tango. Where nothing varies (a perfect score, or no changed prediction) the
               bootstrap is degenerate, and the effective number is ``k^2 / sum(1 / n_i)`` over the k class sizes: n for
               classes of equal size, fewer where rare classes carry weight.
``t``          log-loss: t on the per-example losses, paired on their differences; within the range that the clipped
               probability allows. Where no loss varies, a share ``z^2 / (n + z^2)`` of unseen examples could each be
               off by the largest loss.

Results depend on the multiset of examples, not on their order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr

from steelyard.errors import InvalidInput
from steelyard.metrics import classification as c
from steelyard.records import Estimate, Predictions
from steelyard.stats.bootstrap import TableStatistic, confusion_bootstrap, paired_confusion_bootstrap
from steelyard.stats.proportion import examples_needed, tango, tango_z, wilson
from steelyard.stats.quantiles import normal_critical, t_critical

__all__ = ["METRICS", "Metric", "drop_examples_needed", "estimate", "estimates", "paired", "paired_p_value"]

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """One row of the metric table; `function` gives the metric's value for one model's predictions."""

    name: str
    unit: str
    low: float  # the smallest possible value
    high: float  # the largest possible value
    higher_is_better: bool
    method: Literal["wilson", "bootstrap", "t"]
    function: Callable[[Predictions], float]
    of_table: TableStatistic | None = None  # for metrics of the confusion table


def _from_table(name: str, statistic: TableStatistic, method: Literal["wilson", "bootstrap"] = "bootstrap") -> Metric:
    return Metric(
        name=name,
        unit="fraction",
        low=0.0,
        high=1.0,
        higher_is_better=True,
        method=method,
        function=lambda predictions: float(statistic(_table(predictions))),
        of_table=statistic,
    )


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            _from_table("accuracy", c.accuracy, "wilson"),
            _from_table("balanced_accuracy", c.balanced_accuracy),
            _from_table("macro_precision", c.macro_precision),
            _from_table("macro_recall", c.macro_recall),
            _from_table("macro_f1", c.macro_f1),
            Metric(
                name="log_loss",
                unit="nat",
                low=0.0,
                high=c.LARGEST_LOSS,
                higher_is_better=False,
                method="t",
                function=lambda predictions: _mean(_losses(predictions)),
            ),
        )
    }
)
"""Every metric by name. A new one is a pure function and a row here."""


# --- one model -------------------------------------------------------------------------------------


def estimates(predictions: Predictions, level: float = 0.95) -> tuple[Estimate, ...]:
    """Every metric of one model with its interval, in the order of `METRICS`.

    Raises `InvalidInput` for no examples, class indices out of range, or probabilities that are none.
    """
    return tuple(estimate(predictions, name, level) for name in METRICS)


def estimate(predictions: Predictions, metric: str, level: float = 0.95) -> Estimate:
    """One metric of one model with its interval; see the module's text for the methods."""
    row = _metric(metric)
    value, method = row.function(predictions), _METHODS[row.method]
    if row.of_table is None:
        interval = _mean_interval(_losses(predictions), level, 0.0)
        return _estimate(row.name, row, value, interval, level, method, predictions)
    interval = _score_interval(row.of_table, _table(predictions), level)
    return _estimate(row.name, row, value, interval, level, method, predictions)


_METHODS = {
    "wilson": "Wilson",
    "bootstrap": "Wilson, effective n by bootstrap",
    "t": "t on per-example losses",
}
_PAIRED_METHODS = {
    "wilson": "Tango",
    "bootstrap": "Tango, effective counts by paired bootstrap",
    "t": "paired t on per-example losses",
}


def _score_interval(statistic: TableStatistic, table: NDArray[np.int64], level: float) -> tuple[float, float]:
    size = _effective_size(statistic, table)
    return wilson(min(1.0, float(statistic(table))) * size, size, level)


def _effective_size(statistic: TableStatistic, table: NDArray[np.int64]) -> float:
    n, value = float(table.sum()), float(statistic(table))
    if statistic is c.accuracy:  # its size is known: nothing to resample
        return n
    variance = float(confusion_bootstrap(table, statistic).var())
    if variance == 0 or value in (0.0, 1.0):
        return _unvaried_size(table)
    return min(n, value * (1 - value) / variance)


def _unvaried_size(table: NDArray[np.int64]) -> float:
    """Examples that the mean over classes is worth when every class has the same error rate."""
    sizes = table.sum(axis=1)
    sizes = sizes[sizes > 0]
    return float(len(sizes) ** 2 / np.sum(1 / sizes))


# --- two models on the same examples ----------------------------------------------------------------


def paired(before: Predictions, after: Predictions, metric: str, level: float = 0.95) -> Estimate:
    """The *drop* from `before` to `after` with its interval: positive is always worse.

    ``before - after`` where higher is better, ``after - before`` for log-loss. The quantity is named ``NAME_drop``.
    Raises `InvalidInput` for an unknown metric or predictions on different examples.
    """
    row = _metric(metric)
    _check_same(before, after)
    if row.of_table is None:
        rises = _losses(after) - _losses(before)
        value, interval = _mean(rises), _mean_interval(rises, level, -c.LARGEST_LOSS)
    else:
        value = row.function(before) - row.function(after)
        interval = tango(*_discordance(row.of_table, before, after), level)
    return _estimate(f"{row.name}_drop", row, value, interval, level, _PAIRED_METHODS[row.method], before)


def paired_p_value(before: Predictions, after: Predictions, metric: str, limit: float) -> float:
    """One-sided p of "the drop is at or beyond `limit`", from the same statistic as :func:`paired`.

    The upper end of the interval at level L is at or under `limit` exactly when p <= (1 - L) / 2. One minus p is the
    p of the opposite claim.
    """
    row = _metric(metric)
    _check_same(before, after)
    if row.of_table is None:
        return _mean_p_value(_losses(after) - _losses(before), limit)
    if not -1 < limit < 1:
        return 0.0 if limit >= 1 else 1.0
    return float(ndtr(tango_z(*_discordance(row.of_table, before, after), limit)))


def drop_examples_needed(
    before: Predictions, after: Predictions, metric: str, limit: float, level: float = 0.95
) -> int | None:
    """Examples in all that would show the drop to be at or under `limit`, if the models go on as seen.

    `None` where the observed drop is at or beyond the limit, so that more examples would not help.
    """
    row = _metric(metric)
    _check_same(before, after)
    n = len(before.labels)
    if row.of_table is not None:
        counts = _discordance(row.of_table, before, after)
        needed = examples_needed(*counts, min(limit, 1.0), level)
        return None if needed is None else math.ceil(needed * n / counts[2])
    losses = _losses(after) - _losses(before)
    if np.ptp(losses) == 0:
        return examples_needed(0, 0, n, min(1.0, limit / c.LARGEST_LOSS), level)
    gap = limit - _mean(losses)
    return math.ceil((normal_critical(level) * _spread(losses) / gap) ** 2) if gap > 0 else None


def _discordance(statistic: TableStatistic, before: Predictions, after: Predictions) -> tuple[float, float, float]:
    """Discordant counts and size ``(b, c, n)``: counted for accuracy, effective for other metrics.

    Effective counts solve ``(b - c) / n = d`` and ``(b + c) / n - d^2 = n v`` for the drop d and its variance v, as
    observed counts do for accuracy.
    """
    n = float(len(before.labels))
    if statistic is c.accuracy:  # its counts are known: nothing to resample
        only_before = int((before.correct & ~after.correct).sum())
        return only_before, int((after.correct & ~before.correct).sum()), n
    size = _unvaried_size(_table(before))
    drop = float(statistic(_table(before)) - statistic(_table(after)))
    first, second = paired_confusion_bootstrap(
        before.labels, before.predicted, after.predicted, before.classes, statistic
    )
    rate = min(1.0, max(abs(drop), float((first - second).var()) * size + drop * drop))
    return size * (rate + drop) / 2, size * (rate - drop) / 2, size


# --- means of losses ---------------------------------------------------------------------------------


def _mean_interval(losses: Floats, level: float, least: float) -> tuple[float, float]:
    """t interval of the mean, within ``[least, LARGEST_LOSS]`` and never of zero width."""
    n, mean = len(losses), _mean(losses)
    if n < 2:
        return least, c.LARGEST_LOSS
    half = t_critical(level, n - 1) * _spread(losses) / math.sqrt(n)
    if np.ptp(losses) == 0:
        half = c.LARGEST_LOSS * tango(0, 0, n, level)[1]
    return max(least, mean - half), min(c.LARGEST_LOSS, mean + half)


def _mean_p_value(losses: Floats, limit: float) -> float:
    n, gap = len(losses), _mean(losses) - limit
    if n < 2:
        return 1.0
    if np.ptp(losses) == 0:
        share = max(-1.0, min(1.0, -gap / c.LARGEST_LOSS))
        return float(ndtr(tango_z(0, 0, n, share)))
    return float(stdtr(n - 1, gap * math.sqrt(n) / _spread(losses)))


def _mean(losses: Floats) -> float:
    """The mean, summed in sorted order so that the examples' order cannot change its last digit."""
    return float(np.sort(losses).mean())


def _spread(losses: Floats) -> float:
    return float(np.sort(losses).std(ddof=1))


# --- shared ------------------------------------------------------------------------------------------


def _metric(name: str) -> Metric:
    if name not in METRICS:
        raise InvalidInput(f"unknown metric {name!r}; known are {', '.join(METRICS)}")
    return METRICS[name]


def _table(predictions: Predictions) -> NDArray[np.int64]:
    return c.confusion(predictions.labels, predictions.predicted, predictions.classes)


def _losses(predictions: Predictions) -> Floats:
    """Per-example losses in the examples' order, after checking that there are as many as labels."""
    losses = c.log_losses(predictions.p_true)
    if len(losses) != len(predictions.labels) or not len(losses):
        raise InvalidInput(f"{len(losses)} probabilities for {len(predictions.labels)} labels: pass one per example")
    return losses


def _check_same(before: Predictions, after: Predictions) -> None:
    if before.classes != after.classes or not np.array_equal(before.labels, after.labels):
        raise InvalidInput(
            f"a paired comparison needs the same examples in the same order; got {len(before.labels)} labels on "
            f"{before.split!r} and {len(after.labels)} other ones on {after.split!r}"
        )


def _estimate(
    quantity: str,
    row: Metric,
    value: float,
    interval: tuple[float, float],
    level: float,
    method: str,
    predictions: Predictions,
) -> Estimate:
    return Estimate(
        quantity=quantity,
        unit=row.unit,
        value=value,
        low=interval[0],
        high=interval[1],
        level=level,
        method=method,
        n=len(predictions.labels),
    )
