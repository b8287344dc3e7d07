"""Ratios of times, looked at once or after every round; percentiles of latencies; and Holm over several claims."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from scipy.signal import lfilter
from scipy.stats import norm

from benchmarks.coverage.asked import Floats, Row, Section, following
from steelyard.stats.knee import find_knee
from steelyard.stats.multiple import holm
from steelyard.stats.order import percentile_interval, serial_percentile_interval
from steelyard.stats.paired import log_ratio_interval, sign_flip_interval
from steelyard.stats.quantiles import t_critical
from steelyard.stats.sequence import FIRST, half_width, t_sequence

__all__ = ["SECTIONS"]

NOISE: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails (t, 3 degrees)": lambda rng, shape: rng.standard_t(3, shape),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
    "one round in 20 disturbed by 10": lambda rng, shape: (
        rng.standard_normal(shape) + rng.choice([0, -10, 10], shape, p=[0.95, 0.025, 0.025])
    ),
}


def log_ratio_rows(repeats: int = 2000) -> Iterator[Row]:
    rng = np.random.default_rng(3)
    for name, draw in NOISE.items():
        for rounds in (6, 10, 20):
            values = 0.05 + 0.01 * draw(rng, (repeats, rounds))
            t = [log_ratio_interval(row)[1:] for row in values]
            flips = [sign_flip_interval(row)[1:] for row in values[:500]] if rounds <= 10 else None
            yield name, rounds, covered(t, math.exp(0.05)), covered(flips, math.exp(0.05)) if flips else "-"


LOOKED_AT = {
    **NOISE,
    "neighbours correlate by 0.1": partial(following, correlation=0.1),
    "neighbours correlate by 0.3": partial(following, correlation=0.3),
}


def sequence_rows(repeats: int = 2000, rounds: int = 200) -> Iterator[Row]:
    rng = np.random.default_rng(6)
    n = np.arange(FIRST, rounds + 1)
    critical = np.array([t_critical(0.95, int(k) - 1) for k in n])
    for name, draw in LOOKED_AT.items():
        values = draw(rng, (repeats, rounds))
        means = np.cumsum(values, axis=1) / np.arange(1, rounds + 1)
        squares = np.cumsum(values**2, axis=1) - np.arange(1, rounds + 1) * means**2
        t = np.abs(means[:, FIRST - 1 :]) * np.sqrt(n * (n - 1) / squares[:, FIRST - 1 :])
        peeked = np.maximum.accumulate(t > critical, axis=1)
        missed = np.maximum.accumulate([_excludes(row) for row in values], axis=1)[:, FIRST - 1 :]
        for last in (10, 20, 40, 100, 200):
            yield name, last, f"{missed[:, last - FIRST].mean():.3f}", f"{peeked[:, last - FIRST].mean():.3f}"


def _excludes(row: Floats) -> Floats:
    lows, highs = t_sequence(row)
    return (lows > 0) | (highs < 0)


def width_rows() -> Iterator[Row]:
    for rounds in (10, 15, 20, 30, 40, 100, 200):
        fixed = t_critical(0.95, rounds - 1) / math.sqrt(rounds)
        yield rounds, f"{half_width(rounds):.3f}", f"{fixed:.3f}", f"{half_width(rounds) / fixed:.2f}"


def percentile_rows(repeats: int = 2000) -> Iterator[Row]:
    rng = np.random.default_rng(4)
    for q in (0.5, 0.9, 0.99):
        for n in (50, 400, 2000):
            readings = np.exp(rng.standard_normal((repeats, n)))
            ends = [percentile_interval(row, q) for row in readings]
            kept = [(e[1], e[2]) for e in ends if e is not None]
            yield f"p{100 * q:g}", n, covered(kept, math.exp(norm.ppf(q))) if kept else "refused"


def serial_rows(repeats: int = 400) -> Iterator[Row]:
    rng = np.random.default_rng(6)
    for phi in (0.0, 0.5, 0.9):
        for n in (1000, 5000):
            noise = rng.standard_normal((repeats, n + 500)) * math.sqrt(1 - phi**2)
            readings = lfilter([1.0], [1.0, -phi], noise, axis=1)[:, 500:]
            for q in (0.5, 0.9, 0.99):
                plain = [percentile_interval(row, q) for row in readings]
                serial = [serial_percentile_interval(row, q) for row in readings]
                refused = np.mean([e is None for e in serial])
                shares = [
                    covered([e[1:] for e in ends if e is not None], float(norm.ppf(q))) for ends in (plain, serial)
                ]
                yield phi, n, f"p{100 * q:g}", *shares, f"{100 * refused:.0f} %"


def knee_rows(repeats: int = 400) -> Iterator[Row]:
    rng = np.random.default_rng(7)
    sizes = (1, 2, 4, 8, 16, 32)
    for cost in (0.2, 0.5, 1.0, 3.0):
        curve = np.array(sizes) / (cost + np.array(sizes))
        truth = find_knee(sizes, np.tile(curve, (2, 1))).size
        for passes in (3, 8, 20):
            noise = rng.normal(0, 0.03, (repeats, passes, 6)) + rng.normal(0, 0.1, (repeats, passes, 1))
            found = [find_knee(sizes, curve * np.exp(each)) for each in noise]
            held = np.mean([truth in knee.likely for knee in found])
            mean = np.mean([len(knee.likely) for knee in found])
            yield cost, truth, passes, f"{held:.3f}", f"{np.mean([k.size == truth for k in found]):.3f}", f"{mean:.1f}"


def holm_rows(repeats: int = 20_000) -> Iterator[Row]:
    rng = np.random.default_rng(5)
    for claims in (2, 5, 10):
        for correlation in (0.0, 0.5, 0.9):
            shared = rng.standard_normal((repeats, 1)) * math.sqrt(correlation)
            z = shared + rng.standard_normal((repeats, claims)) * math.sqrt(1 - correlation)
            p = norm.sf(z)
            alarms = np.mean([any(claim.rejected for claim in holm(list(row))) for row in p])
            yield claims, correlation, f"{alarms:.4f}", f"{(p <= 0.05).any(axis=1).mean():.4f}"


def covered(intervals: list[tuple[float, float]], truth: float) -> str:
    return f"{np.mean([low <= truth <= high for low, high in intervals]):.3f}"


SECTIONS = (
    Section(
        name="times",
        title="Ratio of times",
        text=(
            "t on the rounds' log-ratios, 2,000 draws; inverted sign-flip test, 500 draws. The disturbance is "
            "ten standard deviations, as likely in either arm. Skewed noise breaks the assumptions of both."
        ),
        header=("noise between rounds", "rounds", "t", "sign flips"),
        rows=log_ratio_rows,
    ),
    Section(
        name="sequence",
        title="Ratio of times, looked at after every round",
        text=(
            "Share of 2,000 series whose interval excludes the truth at any look from the tenth round to the last; nominal 5 %. "
            "The confidence sequence decides in `compare`; Student's t at every look is what it replaces."
        ),
        header=("noise between rounds", "last round", "sequence", "t at every look"),
        rows=sequence_rows,
    ),
    Section(
        name="sequence-width",
        title="What looking costs",
        text="Half of the interval at one look, in standard deviations of the rounds' log-ratios, at 95 %.",
        header=("rounds", "sequence", "t, rounds fixed", "times as wide"),
        rows=width_rows,
    ),
    Section(
        name="percentiles",
        title="Percentiles",
        text="Order-statistic interval of log-normal readings, 2,000 draws; at least 95 % by construction.",
        header=("percentile", "n", "coverage"),
        rows=percentile_rows,
    ),
    Section(
        name="serial",
        title="Percentiles of readings that follow each other",
        text=(
            "Autoregressive normal readings, 400 draws: plain order statistics, and those of the independent readings that "
            "they are worth. Of the refused nothing is claimed; where most are refused, those left are the ones whose "
            "dependence did not show."
        ),
        header=("phi", "n", "percentile", "plain", "effective", "refused"),
        rows=serial_rows,
    ),
    Section(
        name="knee",
        title="The knee of a throughput",
        text=(
            "A call costs c once and 1 for each example; 3 % noise a slot, 10 % that a pass shares; 400 draws. How often the "
            "95 % set holds the true knee, how often the estimate is it, and how many batch sizes the set has."
        ),
        header=("c", "knee", "passes", "set holds it", "estimate is it", "sizes in the set"),
        rows=knee_rows,
    ),
    Section(
        name="holm",
        title="Holm",
        text="Share of 20,000 families with a false alarm at 5 % when every null is true.",
        header=("claims", "correlation", "Holm", "uncorrected"),
        rows=holm_rows,
    ),
)
