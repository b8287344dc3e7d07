"""Do the intervals hold the truth as often as they say? Simulated where the truth is known.

    python benchmarks/coverage.py

prints the table and writes it to ``benchmarks/results/coverage.md``; one core, under two minutes, fixed seeds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaln, xlogy
from scipy.stats import norm

from steelyard.metrics.classification import macro_f
from steelyard.metrics.examples import Examples, multiclass
from steelyard.metrics.table import drop_estimate, estimate, evidence, find, pair
from steelyard.records import Estimate
from steelyard.stats.bootstrap import Cells, Margins, confusion_bootstrap, percentile_bounds
from steelyard.stats.multiple import holm
from steelyard.stats.order import percentile_interval
from steelyard.stats.paired import log_ratio_interval, sign_flip_interval
from steelyard.stats.proportion import tango, wilson

Floats = NDArray[np.float64]
OUT = Path(__file__).parent / "results" / "coverage.md"


# --- Wilson: exact, by summing the binomial ---------------------------------------------------------


def wilson_rows() -> Iterator[tuple[object, ...]]:
    for n in (30, 100, 360, 1000, 10_000):
        ends = np.array([wilson(k, n) for k in range(n + 1)])
        yield (n, *(f"{wilson_coverage(ends, n, p):.3f}" for p in (0.5, 0.8, 0.9, 0.95, 0.99)))


def wilson_coverage(ends: Floats, n: int, p: float) -> float:
    k = np.arange(n + 1)
    log_pmf = gammaln(n + 1) - gammaln(k + 1) - gammaln(n - k + 1) + xlogy(k, p) + xlogy(n - k, 1 - p)
    return float(np.exp(log_pmf)[(ends[:, 0] <= p) & (p <= ends[:, 1])].sum())


# --- Tango ------------------------------------------------------------------------------------------


def tango_rows() -> Iterator[tuple[object, ...]]:
    limits = cache(tango)
    rng = np.random.default_rng(0)
    for n, b, c in (
        (30, 0.05, 0.05),
        (100, 0.01, 0.01),
        (360, 0.0, 0.0),
        (360, 0.001, 0.001),
        (360, 0.005, 0.0),
        (360, 0.03, 0.02),
        (1000, 0.01, 0.005),
        (10_000, 0.002, 0.001),
        (10_000, 0.02, 0.02),
    ):
        draws = rng.multinomial(n, [b, c, 1 - b - c], 4000)
        ends = np.array([limits(int(i), int(j), n) for i, j, _ in draws])
        truth = b - c
        share = ((ends[:, 0] <= truth) & (truth <= ends[:, 1])).mean()
        falsely_safe = (ends[:, 1] < truth).mean()
        yield n, b, c, f"{share:.3f}", f"{falsely_safe:.3f}", f"{np.diff(ends).mean() / 2:.4f}"


# --- macro-F1 ---------------------------------------------------------------------------------------

TASKS = {
    "10 even classes, 80 % right": ([0.1] * 10, [0.8] * 10),
    "10 even classes, 97 % right": ([0.1] * 10, [0.97] * 10),
    "10 even classes, 99.9 % right": ([0.1] * 10, [0.999] * 10),
    "2 classes 9:1, 95 % and 80 % right": ([0.9, 0.1], [0.95, 0.8]),
    "4 classes 60:30:8:2, 90 % and 70 % right": ([0.6, 0.3, 0.08, 0.02], [0.9, 0.9, 0.9, 0.7]),
}


def cells_of(priors: list[float], right: list[float]) -> Floats:
    k = len(priors)
    rows = [[r if i == j else (1 - r) / (k - 1) for j in range(k)] for i, r in enumerate(right)]
    return np.asarray(np.array(priors)[:, None] * np.array(rows))


def truth_of(cells: Floats) -> float:
    return float(macro_f(Margins.of((cells * 1e9).round().astype(np.int64))))


def macro_f1_rows(repeats: int = 200) -> Iterator[tuple[object, ...]]:
    rng = np.random.default_rng(1)
    for name, (priors, right) in TASKS.items():
        cells = cells_of(priors, right)
        truth, k = truth_of(cells), len(priors)
        for n in (100, 360, 2000):
            tables = rng.multinomial(n, cells.ravel(), repeats).reshape(-1, k, k)
            ours = [of_macro_f1(from_table(table)) for table in tables]
            plain = [percentile_bounds(confusion_bootstrap(Cells.of(table), [macro_f], 500)[0]) for table in tables]
            yield (
                name,
                n,
                covered([(e.low, e.high) for e in ours], truth),
                covered(plain, truth),
                f"{np.mean([e.high - e.low for e in ours]):.4f}",
            )


def macro_f1_drop_rows(repeats: int = 200) -> Iterator[tuple[object, ...]]:
    """The second model answers anew on a share of the examples; the truth comes from its own cells."""
    rng = np.random.default_rng(2)
    for changed in (0.0, 0.005, 0.05):
        for n in (360, 2000):
            cells = cells_of([0.1] * 10, [0.95] * 10)
            anew = cells_of([0.1] * 10, [0.6] * 10)
            truth = truth_of(cells) - truth_of((1 - changed) * cells + changed * anew)
            drops = [drop_of_macro_f1(*pair_of_models(rng, cells, anew, changed, n)) for _ in range(repeats)]
            safe = np.mean([d.high < truth for d in drops])
            width = np.mean([d.high - d.low for d in drops]) / 2
            yield changed, n, covered([(d.low, d.high) for d in drops], truth), f"{safe:.3f}", f"{width:.4f}"


def pair_of_models(
    rng: np.random.Generator, cells: Floats, anew: Floats, changed: float, n: int
) -> tuple[Examples, Examples]:
    k = len(cells)
    labels = rng.choice(k, n, p=cells.sum(1))
    before = answers(rng, cells, labels)
    after = np.where(rng.random(n) < changed, answers(rng, anew, labels), before)
    return predictions(labels, before, k), predictions(labels, after, k)


def answers(rng: np.random.Generator, cells: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    cumulative = np.cumsum(cells / cells.sum(1, keepdims=True), axis=1)[labels]
    return np.asarray(np.minimum((rng.random((len(labels), 1)) > cumulative).sum(1), len(cells) - 1))


def from_table(table: NDArray[np.int64]) -> Examples:
    labels, predicted = (np.repeat(axis.ravel(), table.ravel()) for axis in np.indices(table.shape))
    return predictions(labels, predicted, len(table))


def predictions(labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int) -> Examples:
    return multiclass(labels, predicted=predicted, classes=tuple(map(str, range(classes))))


def of_macro_f1(examples: Examples) -> Estimate:
    metric = find("macro_f1", "multiclass")
    found = estimate(evidence(examples, [metric]), metric)
    assert isinstance(found, Estimate)
    return found


def drop_of_macro_f1(before: Examples, after: Examples) -> Estimate:
    metric = find("macro_f1", "multiclass")
    found = drop_estimate(pair(before, after, [metric]), metric)
    assert isinstance(found, Estimate)
    return found


# --- times ------------------------------------------------------------------------------------------

NOISE: dict[str, Callable[[np.random.Generator, tuple[int, int]], Floats]] = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "heavy tails (t, 3 degrees)": lambda rng, shape: rng.standard_t(3, shape),
    "skewed (exponential)": lambda rng, shape: rng.exponential(size=shape) - 1,
    "one round in 20 disturbed by 10": lambda rng, shape: (
        rng.standard_normal(shape) + rng.choice([0, -10, 10], shape, p=[0.95, 0.025, 0.025])
    ),
}


def log_ratio_rows(repeats: int = 2000) -> Iterator[tuple[object, ...]]:
    rng = np.random.default_rng(3)
    for name, draw in NOISE.items():
        for rounds in (6, 10, 20):
            values = 0.05 + 0.01 * draw(rng, (repeats, rounds))
            t = [log_ratio_interval(row)[1:] for row in values]
            flips = [sign_flip_interval(row)[1:] for row in values[:500]] if rounds <= 10 else None
            yield name, rounds, covered(t, math.exp(0.05)), covered(flips, math.exp(0.05)) if flips else "-"


def percentile_rows(repeats: int = 2000) -> Iterator[tuple[object, ...]]:
    rng = np.random.default_rng(4)
    for q in (0.5, 0.9, 0.99):
        for n in (50, 400, 2000):
            readings = np.exp(rng.standard_normal((repeats, n)))
            ends = [percentile_interval(row, q) for row in readings]
            kept = [(e[1], e[2]) for e in ends if e is not None]
            yield f"p{100 * q:g}", n, covered(kept, math.exp(norm.ppf(q))) if kept else "refused"


# --- Holm -------------------------------------------------------------------------------------------


def holm_rows(repeats: int = 20_000) -> Iterator[tuple[object, ...]]:
    rng = np.random.default_rng(5)
    for claims in (2, 5, 10):
        for correlation in (0.0, 0.5, 0.9):
            shared = rng.standard_normal((repeats, 1)) * math.sqrt(correlation)
            z = shared + rng.standard_normal((repeats, claims)) * math.sqrt(1 - correlation)
            p = norm.sf(z)
            alarms = np.mean([any(claim.rejected for claim in holm(list(row))) for row in p])
            yield claims, correlation, f"{alarms:.4f}", f"{(p <= 0.05).any(axis=1).mean():.4f}"


# --- the table --------------------------------------------------------------------------------------


def covered(intervals: list[tuple[float, float]], truth: float) -> str:
    return f"{np.mean([low <= truth <= high for low, high in intervals]):.3f}"


SECTIONS: tuple[tuple[str, str, tuple[str, ...], Callable[[], Iterator[tuple[object, ...]]]], ...] = (
    (
        "Wilson",
        (
            "Exact coverage at 95 %, the binomial summed; columns are the true proportion. It swings around 95 % because "
            "counts are whole numbers, and is lowest where few errors are expected."
        ),
        ("n", "0.5", "0.8", "0.9", "0.95", "0.99"),
        wilson_rows,
    ),
    (
        "Tango",
        (
            'Paired difference, 4,000 draws each. "Falsely safe" is the share whose upper end of the drop lies below the '
            "true drop; nominal 0.025."
        ),
        ("n", "only first right", "only second right", "coverage", "falsely safe", "mean half-width"),
        tango_rows,
    ),
    (
        "Macro-F1",
        (
            "Wilson's interval on the bootstrap's effective size, beside the plain bootstrap percentile interval; 200 draws "
            "each (standard error of a coverage near 0.95: 0.015). With 2 % of 100 examples in a class, a class can be "
            "absent from the sample, and no resampling knows of it."
        ),
        ("task", "n", "coverage", "plain percentile", "mean width"),
        macro_f1_rows,
    ),
    (
        "Drop of macro-F1",
        (
            "Tango's interval on the paired bootstrap's effective counts; 10 even classes, 95 % right, the second model "
            "answers anew (60 % right) on a share of the examples; 200 draws each."
        ),
        ("share changed", "n", "coverage", "falsely safe", "mean half-width"),
        macro_f1_drop_rows,
    ),
    (
        "Ratio of times",
        (
            "t on the rounds' log-ratios, 2,000 draws; inverted sign-flip test, 500 draws. The disturbance is "
            "ten standard deviations, as likely in either arm. Skewed noise breaks the assumptions of both."
        ),
        ("noise between rounds", "rounds", "t", "sign flips"),
        log_ratio_rows,
    ),
    (
        "Percentiles",
        "Order-statistic interval of log-normal readings, 2,000 draws; at least 95 % by construction.",
        ("percentile", "n", "coverage"),
        percentile_rows,
    ),
    (
        "Holm",
        "Share of 20,000 families with a false alarm at 5 % when every null is true.",
        ("claims", "correlation", "Holm", "uncorrected"),
        holm_rows,
    ),
)


def main() -> None:
    lines = ["# Coverage of the intervals", "", "Made by `python benchmarks/coverage.py`. Nominal level 95 %.", ""]
    for title, text, header, rows in SECTIONS:
        start = time.perf_counter()
        body = ["| " + " | ".join(map(str, row)) + " |" for row in rows()]
        section = [f"## {title}", "", text, "", "| " + " | ".join(header) + " |", "|---" * len(header) + "|", *body, ""]
        print("\n".join(section), f"({time.perf_counter() - start:.1f} s)\n", flush=True)
        lines += section
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text("\n".join(lines), encoding="utf-8")


if __name__ == "__main__":
    main()
