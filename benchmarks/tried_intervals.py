"""Intervals that were tried in place of those of the AUC and of the calibration error, on the same draws.

    python -m benchmarks.tried_intervals

AUC: DeLong's variance on the logit scale, with Student's t at Satterthwaite's degrees of freedom over its two components
(as suggested by Newcombe 2006), and the wider ends of that and of the score interval, where the tool does not say "too
few". ECE: bootstraps of the bins' gaps, moved by twice their bias, or with Efron's (1987) correction of it. Prints the
coverage of each at 95 % in every cell, and how far it is off on average.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy loads

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

from benchmarks.coverage.areas import SHAPES, Draw, binormal
from benchmarks.coverage.probabilities import CURVES, Believed
from steelyard.metrics.calibration import Reliability, calibration_error, reliability
from steelyard.stats.auc import auc_supported, score_interval
from steelyard.stats.ranked import AucParts, auc_parts, ranked

Ends = tuple[float, float]
QUANTILES = (np.arange(100_000) + 0.5) / 100_000
RESAMPLES = 400


def logit_t(parts: AucParts) -> Ends:
    """DeLong on the logit scale; degrees of freedom by Satterthwaite. Where nothing varies there is no interval."""
    one, other = parts.among_positives / parts.positives, parts.among_negatives / parts.negatives
    variance = one + other
    if variance <= 0 or not 0 < parts.value < 1:
        return 0.0, 1.0
    degrees = variance**2 / (one**2 / (parts.positives - 1) + other**2 / (parts.negatives - 1))
    half = student.ppf(0.975, degrees) * math.sqrt(variance) / (parts.value * (1 - parts.value))
    centre = math.log(parts.value / (1 - parts.value))
    return 1 / (1 + math.exp(half - centre)), 1 / (1 + math.exp(-half - centre))


def areas(repeats: int = 400) -> Iterator[tuple[str, list[float]]]:
    rng = np.random.default_rng(5)
    for name, draw, positives, negatives, area in _area_cells():
        labels = np.repeat([1, 0], [positives, negatives])
        held = np.zeros(3)
        for _ in range(repeats):
            parts = auc_parts(ranked(labels, draw(rng, positives, negatives, area)))
            assert parts is not None
            score, logit = score_interval(parts)[1:], logit_t(parts)
            wider = min(score[0], logit[0]), max(score[1], logit[1])
            held += [low <= area <= high for low, high in (score, logit, wider)]
        yield f"AUC {area}, {name}, {positives} of {positives + negatives:,}", (held / repeats).tolist()


def _area_cells() -> Iterator[tuple[str, Draw, int, int, float]]:
    for positives, negatives in ((10, 90), (50, 50), (100, 900), (500, 500), (100, 9900)):
        for spread in (1.0, 1.5, 1 / 1.5):
            for area in (0.6, 0.8, 0.9, 0.95, 0.99):
                if auc_supported(positives, negatives, area):
                    yield f"spread {spread:.2g}", _spread(spread), positives, negatives, area
    for name, draw in SHAPES.items():
        for positives, negatives in ((60, 90), (40, 360), (100, 1900)):
            for area in (0.7, 0.85, 0.93, 0.97):
                if auc_supported(positives, negatives, area):
                    yield name, draw, positives, negatives, area


def _spread(spread: float) -> Draw:
    return lambda rng, positives, negatives, area: binormal(rng, positives, negatives, area, spread)


def bootstraps(of: Reliability, rng: np.random.Generator) -> tuple[Ends, Ends]:
    """Both bootstraps of the ECE. Below what noise alone shows, the lower end is 0 and the upper at least the noise."""
    counts, right = np.array(of.counts), np.array(of.right, dtype=np.float64)
    kept = counts > 0
    n, total = counts[kept], counts.sum()
    gaps = (right[kept] - of.confidence.value()[kept]) / total
    chance = (right[kept] + 0.5) / (n + 1)
    errors = np.sqrt(n * chance * (1 - chance)) / total
    value, noise = float(np.abs(gaps).sum()), float(errors.sum() * math.sqrt(2 / math.pi))
    drawn = np.abs(gaps + errors * rng.standard_normal((RESAMPLES, len(gaps)))).sum(axis=1)
    moved = np.quantile(drawn, (0.025, 0.975)) - 2 * (drawn.mean() - value)
    z = ndtri(np.clip((drawn < value).mean(), 1 / RESAMPLES, 1 - 1 / RESAMPLES))
    corrected = np.quantile(drawn, ndtr(2 * z + np.array([-1.96, 1.96])))
    least = noise if value < noise else 0.0
    ends = [
        (max(0.0, float(low)) if value > noise else 0.0, max(float(high), least)) for low, high in (moved, corrected)
    ]
    return ends[0], ends[1]


def errors(repeats: int = 100) -> Iterator[tuple[str, list[float]]]:
    rng = np.random.default_rng(8)
    for classes, a, b in ((2, 1.0, 1.0), (2, 0.5, 3.0), (10, 4.0, 1.0)):
        for curve in CURVES:
            model = Believed(classes=classes, a=a, b=b, curve=curve)
            pool = model.confidences(QUANTILES)
            truth = model.truths(pool)[0]
            for n in (1000, 10_000):
                held = np.zeros(3)
                for _ in range(repeats):
                    p = pool[rng.integers(0, len(pool), n)]
                    of = reliability(p, rng.random(n) < CURVES[curve](p))
                    ours = calibration_error(of)
                    ends = ((ours.low, ours.high), *bootstraps(of, rng))
                    held += [low - 1e-12 <= truth <= high + 1e-12 for low, high in ends]
                yield f"ECE {truth:.3f}, {curve}, Beta({a:g}, {b:g}), {n:,}", (held / repeats).tolist()


def main() -> None:
    for names, rows in ((("score", "logit t", "wider"), areas()), (("ours", "moved", "corrected"), errors())):
        print("", *names, sep="\t")
        table = []
        for name, shares in rows:
            print(name, *(f"{share:.3f}" for share in shares), sep="\t", flush=True)
            table.append(shares)
        found = np.array(table)
        for word, values in (
            ("lowest", found.min(axis=0)),
            ("highest", found.max(axis=0)),
            ("off 0.95 on average", np.abs(found - 0.95).mean(axis=0)),
        ):
            print(f"{word}, {len(found)} cells", *(f"{value:.4f}" for value in values), sep="\t")


if __name__ == "__main__":
    main()
