"""Energy, carbon and what a joule buys, derived from a measurement's readings: every number with its interval and label."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from steelyard.records import Estimate, Floats, GridFactor, Measurement, Predictions, Sample, Unavailable
from steelyard.report import derive
from steelyard.stats.draws import contrast_interval, emission_draws, mean_draws, name_seed, product_ratio_interval

__all__ = [
    "Elsewhere",
    "above_idle",
    "carbon",
    "correct_per_joule",
    "elsewhere",
    "per_inference",
    "per_joule",
    "ratio",
    "times",
]

DRAWN = ("modelled", "calibrated")
DRAWS = 4000
SAME = "at equal utilisation the ratio of energies is the ratio of times"
LEVEL = 0.9  # of draws: 5 to 95 %, as the models state it

Found = Estimate | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Elsewhere:
    """What the same work emits in another region."""

    factor: GridFactor
    grams: Estimate  # of all inferences asked for
    ratio: Estimate | None  # carbon there over carbon here, for the same work; None for the region itself


def per_inference(measurement: Measurement | None) -> Found:
    """Joules of one inference."""
    sample = _energy(measurement)
    return sample if isinstance(sample, Unavailable) else _spread(sample, "energy", "J")


def above_idle(measurement: Measurement | None) -> Found:
    """Joules of one inference over what the machine draws at rest; only a counter tells it."""
    sample = derive.reading(measurement, "energy_above_idle_j", batch=1)
    if isinstance(sample, Unavailable):
        return sample
    value, low, high = contrast_interval([sample.values], (1,), derive.LEVEL)  # may lie under 0: no logs
    return _estimate("energy_above_idle", "J", (value, low, high), derive.LEVEL, _windows(sample), len(sample.values))


def per_joule(measurement: Measurement | None) -> Found:
    """Inferences that a joule pays for."""
    sample = _energy(measurement)
    if isinstance(sample, Unavailable):
        return Unavailable(quantity="inferences_per_joule", reason=sample.reason)
    energy = _spread(sample, "energy", "J")
    ends = (1 / energy.value, 1 / energy.high, 1 / energy.low if energy.low > 0 else math.inf)
    return _estimate("inferences_per_joule", "1/J", ends, energy.level, energy.method, energy.n)


def correct_per_joule(measurement: Measurement | None, split: str) -> Found:
    """Right answers that a joule pays for: accuracy over energy, with the doubt of both.

    Accuracy is drawn from Jeffreys' posterior, a beta distribution of (right + 1/2, wrong + 1/2); evenly spaced quantiles in
    random order.
    """
    made = measurement.on(split) if measurement is not None else None
    if made is None or not made.labels.size:
        return Unavailable(quantity="correct_per_joule", reason="no labelled data was given")
    sample = _energy(measurement)
    if isinstance(sample, Unavailable):
        return Unavailable(quantity="correct_per_joule", reason=sample.reason)
    values = _accuracy_draws(made) / _draws(sample)
    method = f"{_drawn(sample)} of accuracy and energy"
    return _estimate("correct_per_joule", "1/J", _ends(values), LEVEL, method, DRAWS)


def carbon(measurement: Measurement | None, factor: GridFactor) -> Found:
    """Grams of CO2 equivalent of one inference on that grid."""
    sample = _energy(measurement)
    if isinstance(sample, Unavailable):
        return Unavailable(quantity="carbon_g", reason=sample.reason)
    values = _emitted(sample, factor)
    return _estimate("carbon_g", "gCO2e", _ends(values), LEVEL, f"{_drawn(sample)} of energy and grid", DRAWS)


def times(each: Estimate, count: int) -> Estimate:
    """An estimate of one for `count` of them: draws of a model, or a mean, belong to all alike."""
    return dataclasses.replace(each, value=count * each.value, low=count * each.low, high=count * each.high)


def elsewhere(
    measurement: Measurement | None, grid: Sequence[GridFactor], inferences: int = 1
) -> tuple[Elsewhere, ...]:
    """So many inferences on every grid, cleanest first; the first of `grid` is where it runs. Empty without an energy.

    The ratio compares factors alone: the energy is the same draw in both places and cancels.
    """
    sample = _energy(measurement)
    if isinstance(sample, Unavailable) or not grid:
        return ()
    here = _emitted(sample, grid[0])
    rows = [_elsewhere(sample, factor, None if i == 0 else here, inferences) for i, factor in enumerate(grid)]
    return tuple(sorted(rows, key=lambda row: row.grams.value))


def ratio(before: Measurement | None, after: Measurement | None, logs: Floats) -> Found:
    """Energy of one inference of `after` over that of `before`: the ratio of times, `logs` of the rounds, times that of powers.

    Powers of a model share their draws: at equal utilisation the ratio of energies is the ratio of times.
    """
    first, second = _power_w(before), _power_w(after)
    if first is None or second is None:
        return Unavailable(quantity="energy_ratio", reason="the energy of one of the two was not read")
    drawn = first[1] in DRAWN
    if first[1] != second[1] or (drawn and len(first[0]) != len(second[0])):
        return Unavailable(quantity="energy_ratio", reason="the two energies were not read in the same way")
    ends = product_ratio_interval(logs, first[0], second[0], shared=drawn, level=derive.LEVEL)
    same = drawn and bool(np.allclose(first[0], second[0], rtol=0.005))
    how = f"t on rounds: {SAME}" if same else f"turns' times and {first[1]} power"
    return _estimate("energy_ratio", "ratio", ends, derive.LEVEL, how, len(logs))


# --- parts -------------------------------------------------------------------------------------------


def _energy(measurement: Measurement | None) -> Sample | Unavailable:
    return derive.reading(measurement, "energy_j", batch=1)


def _power_w(measurement: Measurement | None) -> tuple[Floats, str] | None:
    sample, call_s = _energy(measurement), derive.reading(measurement, "energy_call_s", batch=1)
    if isinstance(sample, Unavailable) or isinstance(call_s, Unavailable):
        return None
    return np.asarray(sample.values / call_s.values), sample.provenance


def _spread(sample: Sample, quantity: str, unit: str) -> Estimate:
    """5 to 95 % of a model's draws; of measured windows, t on their logs at 95 %."""
    n = len(sample.values)
    if sample.provenance in DRAWN:
        return _estimate(quantity, unit, _ends(sample.values), LEVEL, _drawn(sample, n), n)
    ends = contrast_interval([np.log(sample.values)], (1,), derive.LEVEL)
    return _estimate(quantity, unit, _exp(ends), derive.LEVEL, _windows(sample), n)


def _drawn(sample: Sample, n: int = DRAWS) -> str:
    return f"{sample.provenance}: 5-95 % of {n:,} draws"


def _windows(sample: Sample) -> str:
    if len(sample.values) < 2:
        return f"{sample.provenance}: one window, no interval"
    return f"{sample.provenance}: t on windows of one process"


def _exp(ends: tuple[float, float, float]) -> tuple[float, float, float]:
    value, low, high = (math.exp(end) if end < 700 else math.inf for end in ends)
    return value, low, high


def _ends(values: Floats) -> tuple[float, float, float]:
    low, middle, high = np.quantile(values, (0.05, 0.5, 0.95))
    return float(middle), float(low), float(high)


def _draws(sample: Sample) -> Floats:
    drawn = sample.provenance in DRAWN
    return np.resize(sample.values, DRAWS) if drawn else mean_draws(sample.values, DRAWS)


def _accuracy_draws(made: Predictions) -> Floats:
    right = int(made.correct.sum())
    order = np.random.default_rng(2).permutation(DRAWS)
    return np.asarray(betaincinv(right + 0.5, made.labels.size - right + 0.5, (order + 0.5) / DRAWS))


def _emitted(sample: Sample, factor: GridFactor) -> Floats:
    seed = name_seed(factor.region)
    return emission_draws(sample.values, factor.g_per_kwh, factor.low, factor.high, DRAWS, seed)


def _elsewhere(sample: Sample, factor: GridFactor, here: Floats | None, inferences: int) -> Elsewhere:
    there = _emitted(sample, factor)
    method = f"{_drawn(sample)} of energy and grid"
    grams = times(_estimate("carbon_g", "gCO2e", _ends(there), LEVEL, method, DRAWS), inferences)
    if here is None:
        return Elsewhere(factor=factor, grams=grams, ratio=None)
    method = f"5-95 % of {DRAWS:,} draws of both grids"
    compared = _estimate("carbon_ratio", "ratio", _ends(there / here), LEVEL, method, DRAWS)
    return Elsewhere(factor=factor, grams=grams, ratio=compared)


def _estimate(
    quantity: str, unit: str, ends: tuple[float, float, float], level: float, method: str, n: int
) -> Estimate:
    value, low, high = ends
    return Estimate(quantity=quantity, unit=unit, value=value, low=low, high=high, level=level, method=method, n=n)
