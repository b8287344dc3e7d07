"""Energy against a limit: an interval for what one inference takes, and for its ratio to the baseline's."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Estimate, Measurement, Sample, Unavailable
from steelyard.stats.draws import contrast_interval, product_ratio_interval

__all__ = ["energy_limit", "energy_ratio"]

Interval = Callable[[float], Estimate]  # level -> estimate
Floats = NDArray[np.float64]

_DRAWN = ("modelled", "calibrated")


def energy_limit(measured: Measurement) -> Interval | Unavailable:
    """Joules of one inference: quantiles of the draws of a model, or t on the logs of the windows that were measured."""
    sample = measured.get("energy_j", batch=1)
    if isinstance(sample, Unavailable):
        return sample
    if sample.provenance in _DRAWN:
        return lambda level: _quantiles("J", sample, level)
    return lambda level: _of_windows(sample, level)


def energy_ratio(
    before: Measurement, after: Measurement, logs: Floats | None, widen: float = 0.0
) -> Interval | Unavailable:
    """Energy of `after` over that of `before`: the ratio of times of their turns, `logs`, times the ratio of powers.

    The powers of a model are drawn with one seed, so what they share cancels: at equal utilisation the interval is that
    of the times. Measured powers are independent windows, and widen it. `widen` is added at both ends, in logs, as to
    every interval of a time. Without turns each side's own process gives its time. `Unavailable` where the two were not
    read in the same way.
    """
    first, second = (m.get("energy_j", batch=1) for m in (before, after))
    missing = next((found for found in (second, first) if isinstance(found, Unavailable)), None)
    if isinstance(first, Unavailable) or isinstance(second, Unavailable):
        assert missing is not None
        return missing
    drawn = first.provenance in _DRAWN
    if first.provenance != second.provenance or (drawn and len(first.values) != len(second.values)):
        return Unavailable(quantity="energy", reason="the two energies were not read in the same way")
    powers = [_power_w(m) for m in (before, after)]
    if logs is None or powers[0] is None or powers[1] is None:
        return _apart(first, second, drawn=drawn)
    return _by_turns(logs, powers[0], powers[1], first.provenance, widen)


def _by_turns(logs: Floats, before: Floats, after: Floats, kind: str, widen: float) -> Interval:
    def interval(level: float) -> Estimate:
        value, low, high = product_ratio_interval(logs, before, after, shared=kind in _DRAWN, level=level)
        ends = (value, low * math.exp(-widen), high * math.exp(widen))
        return _estimate("x", ends, level, _method(kind, before, after), len(logs))

    return interval


def _apart(before: Sample, after: Sample, *, drawn: bool) -> Interval:
    """Each side's own process, without turns: the doubt of its time is not in the draws of a model."""
    if drawn:
        ratios = dataclasses.replace(after, values=after.values / before.values)
        return lambda level: _quantiles("x", ratios, level, "common draws, times of one process each")
    groups = [np.log(after.values), np.log(before.values)]
    method = "Welch's t on logs of windows, one process each"
    n = len(after.values) + len(before.values)
    return lambda level: _estimate("x", _exp(contrast_interval(groups, (1, -1), level)), level, method, n)


def _method(kind: str, before: Floats, after: Floats) -> str:
    times = "t on log-ratios of the turns' times"
    if kind not in _DRAWN:
        return f"{times} and of measured powers"
    if np.allclose(before, after, rtol=0.005):
        return f"{times}: at equal utilisation the ratio of energies is that of times"
    return f"{times}, convolved with common draws of {kind} power"


def _power_w(measured: Measurement) -> Floats | None:
    """Watts, by draw or window; None for records that do not say which time their energy is of."""
    sample, call_s = measured.get("energy_j", batch=1), measured.get("energy_call_s", batch=1)
    if isinstance(sample, Unavailable) or isinstance(call_s, Unavailable):
        return None
    return np.asarray(sample.values / call_s.values)


def _quantiles(unit: str, sample: Sample, level: float, how: str = "Monte Carlo draws") -> Estimate:
    low, middle, high = np.quantile(sample.values, [(1 - level) / 2, 0.5, (1 + level) / 2])
    ends = (float(middle), float(low), float(high))
    return _estimate(unit, ends, level, f"quantiles of {how} ({sample.provenance})", len(sample.values))


def _of_windows(sample: Sample, level: float) -> Estimate:
    ends = _exp(contrast_interval([np.log(sample.values)], (1,), level))
    return _estimate("J", ends, level, "t on logs of windows of one process", len(sample.values))


def _exp(ends: tuple[float, float, float]) -> tuple[float, float, float]:
    value, low, high = (math.exp(end) if end < 700 else math.inf for end in ends)
    return value, low, high


def _estimate(unit: str, ends: tuple[float, float, float], level: float, method: str, n: int) -> Estimate:
    value, low, high = ends
    return Estimate(quantity="energy", unit=unit, value=value, low=low, high=high, level=level, method=method, n=n)
