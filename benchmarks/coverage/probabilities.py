"""Calibration error, Brier score and log-loss of two and of ten classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import beta

from benchmarks.coverage.asked import Floats, Held, Row, Section, ask_all, held
from steelyard.metrics.examples import Examples, binary, multiclass

__all__ = ["CURVES", "NAMES", "SECTIONS", "Believed", "probability_cells"]

NAMES = ("ece", "brier", "log_loss")
_K = 10  # classes where there are not two
_QUANTILES = (np.arange(1_000_000) + 0.5) / 1_000_000

CURVES: dict[str, Callable[[Floats], Floats]] = {
    "calibrated": lambda p: p,
    "over-confident": lambda p: expit(0.6 * logit(p)),
    "one bad bin": lambda p: np.where((p > 0.8) & (p < 13 / 15), p - 0.2, p),
}
"""From a confidence to the share that is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """A model of two or ten classes: confidences from `low` up by a beta distribution, and what they are worth."""

    classes: int
    a: float
    b: float
    curve: str

    def confidences(self, shares: Floats) -> Floats:
        """The quantiles ``(n,)`` of the positive class's probability, or of the top label's."""
        low = 0.0 if self.classes == 2 else 0.25
        return np.asarray(np.clip(low + (1 - low) * beta.ppf(shares, self.a, self.b), 1e-6, 1 - 1e-6))

    def draw(self, rng: np.random.Generator, pool: Floats, n: int) -> Examples:
        """n examples, their confidences from the `pool` of quantiles."""
        p = pool[rng.integers(0, len(pool), n)]
        right = rng.random(n) < CURVES[self.curve](p)
        if self.classes == 2:
            return binary(right, p)
        guesses = rng.integers(0, _K, n)
        scores = np.repeat(((1 - p) / (_K - 1))[:, None], _K, axis=1)
        scores[np.arange(n), guesses] = p
        return multiclass(np.where(right, guesses, (guesses + rng.integers(1, _K, n)) % _K), scores)

    def truths(self, pool: Floats) -> tuple[float, float, float]:
        """The binned calibration error at 15 bins of equal width, the Brier score and the log-loss of the population."""
        q = CURVES[self.curve](pool)
        bins = np.minimum(np.ceil(pool * 15).astype(np.int64), 15) - 1
        gap = float(np.abs(np.bincount(bins, q - pool)).sum() / len(pool))
        others = 1 - pool if self.classes == 2 else (1 - pool) / (_K - 1)
        if self.classes == 2:
            brier = q * (1 - pool) ** 2 + (1 - q) * pool**2
        else:
            kept = (_K - 2) * others**2
            brier = q * ((1 - pool) ** 2 + (_K - 1) * others**2) + (1 - q) * (pool**2 + (1 - others) ** 2 + kept)
        return gap, float(brier.mean()), float(-(q * np.log(pool) + (1 - q) * np.log(others)).mean())


def probability_cells(rng: np.random.Generator, model: Believed, n: int, repeats: int) -> list[Held]:
    pool = model.confidences(_QUANTILES)
    found = [ask_all(model.draw(rng, pool, n), NAMES) for _ in range(repeats)]
    return [held(column, truth) for column, truth in zip(zip(*found, strict=True), model.truths(pool), strict=True)]


def probability_rows(repeats: int = 500) -> Iterator[Row]:
    rng = np.random.default_rng(150)
    for classes, a, b in ((2, 1.0, 1.0), (2, 0.5, 3.0), (10, 4.0, 1.0)):
        for curve in CURVES:
            model = Believed(classes=classes, a=a, b=b, curve=curve)
            truth = model.truths(model.confidences(_QUANTILES))[0]
            for n in (100, 1000, 10_000):
                yield (
                    classes,
                    f"Beta({a:g}, {b:g})",
                    curve,
                    f"{truth:.3f}",
                    n,
                    *probability_cells(rng, model, n, repeats),
                )


SECTIONS = (
    Section(
        name="calibration",
        title="Calibration error, Brier score, log-loss",
        text=(
            "The truth of the calibration error (ECE) is the population's, binned at the same 15 edges: not the error of the "
            "unbinned scores. Confidences of the positive class (two classes), or of the top label between 0.25 and 1 (ten), "
            "have a beta distribution; over-confident: the logit of what is right is 0.6 of the confidence's; one bad bin: 20 "
            "points too confident between 0.8 and 0.867."
        ),
        header=("classes", "confidences", "model", "true ECE", "n", "ECE", "Brier", "log-loss"),
        rows=probability_rows,
    ),
)
