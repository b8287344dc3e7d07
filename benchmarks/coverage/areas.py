"""The area under the ROC curve and the average precision: of two classes, over clusters, and over five classes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy.stats import norm

from benchmarks.coverage.asked import Floats, Held, Row, Section, ask, ask_all, held
from steelyard.metrics.examples import Examples, binary, multiclass

__all__ = [
    "SECTIONS",
    "SHAPES",
    "auc_cell",
    "clustered_auc_cell",
    "macro_cells",
    "precision_cell",
    "precision_of_binormal",
]

Draw = Callable[[np.random.Generator, int, int, float], Floats]  # rng, positives, negatives, area -> scores

_AREAS = (0.6, 0.8, 0.9, 0.95, 0.99)


# --- the area under the ROC curve ------------------------------------------------------------------------


def binormal(rng: np.random.Generator, positives: int, negatives: int, area: float, spread: float = 1.0) -> Floats:
    """Scores of the positives, then of the negatives; `spread` is the positives' standard deviation."""
    shift = norm.ppf(area) * np.hypot(1, spread)
    return np.concatenate([shift + spread * rng.normal(size=positives), rng.normal(size=negatives)])


def exponential(rng: np.random.Generator, positives: int, negatives: int, area: float) -> Floats:
    """Exponential scores of means m and 1: the area is ``m / (1 + m)``."""
    return np.concatenate([rng.exponential(area / (1 - area), positives), rng.exponential(size=negatives)])


def power(rng: np.random.Generator, positives: int, negatives: int, area: float) -> Floats:
    """Beta(a, 1) above uniform scores: the area is the positives' mean, ``a / (a + 1)``."""
    return np.concatenate([rng.beta(area / (1 - area), 1, positives), rng.random(negatives)])


def mixture(rng: np.random.Generator, positives: int, negatives: int, area: float) -> Floats:
    """Some positives like negatives, as many as lose half of the missing area; the others far above."""
    hopeless = 1 - area
    shift = np.sqrt(2) * norm.ppf((area - hopeless / 2) / (1 - hopeless))
    return np.concatenate(
        [rng.normal(size=positives) + shift * (rng.random(positives) >= hopeless), rng.normal(size=negatives)]
    )


def grades(rng: np.random.Generator, positives: int, negatives: int, area: float) -> Floats:
    """Five grades, so that most pairs across them tie: negatives even, positives tilted so that the area is right."""
    tilted = _tilt(area)
    return np.concatenate([rng.choice(5, positives, p=tilted), rng.choice(5, negatives, p=_EVEN)]).astype(np.float64)


_EVEN = np.array([0.6, 0.2, 0.1, 0.06, 0.04])
_WON = np.cumsum(_EVEN) - _EVEN / 2  # share of negatives that each grade is above, ties half


def _tilt(area: float) -> Floats:
    """Shares of the grades, ``even * r^grade`` with r such that the mean of `_WON` is the area."""
    low, high = 1e-3, 1e6
    for _ in range(200):
        middle = np.sqrt(low * high)
        shares = _EVEN * middle ** np.arange(5)
        shares /= shares.sum()
        low, high = (middle, high) if shares @ _WON < area else (low, middle)
    return np.asarray(shares)


SHAPES: dict[str, Draw] = {
    "exponential": exponential,
    "beta above uniform": power,
    "some positives like negatives": mixture,
    "five grades": grades,
}


def auc_cell(
    rng: np.random.Generator, draw: Draw, positives: int, negatives: int, area: float, repeats: int = 2000
) -> Held:
    labels = np.repeat([1, 0], [positives, negatives])
    made = (binary(labels, draw(rng, positives, negatives, area), outputs="scores") for _ in range(repeats))
    return held((ask(examples, "roc_auc") for examples in made), area)


def auc_rows() -> Iterator[Row]:
    rng = np.random.default_rng(110)
    for n in (100, 1000, 10_000):
        for share in (0.01, 0.1, 0.5):
            for spread in (1.0, 1.5, 1 / 1.5) if n == 1000 else (1.0,):
                p = round(n * share)
                repeats = 2000 if spread == 1 else 1000
                cells = [auc_cell(rng, _spread(spread), p, n - p, area, repeats) for area in _AREAS]
                yield n, p, f"{spread:.2g}", *cells


def _spread(spread: float) -> Draw:
    return lambda rng, positives, negatives, area: binormal(rng, positives, negatives, area, spread)


_HELD_OUT = (0.7, 0.85, 0.93, 0.97)


def held_out_rows() -> Iterator[Row]:
    rng = np.random.default_rng(111)
    for name, draw in SHAPES.items():
        for n, p in ((150, 60), (400, 40), (2000, 100), (2000, 1000)):
            yield name, n, p, *(auc_cell(rng, draw, p, n - p, area, 1000) for area in _HELD_OUT)


# --- the average precision -------------------------------------------------------------------------------

_GRID = np.linspace(-10, 14, 40_001)


def precision_of_binormal(shift: float, share: float) -> float:
    """The population's average precision, the precision integrated over the recall."""
    recall, false = norm.sf(_GRID - shift), norm.sf(_GRID)
    precision = share * recall / (share * recall + (1 - share) * false)
    return float(np.trapezoid(precision[::-1], recall[::-1]))


def precision_of_exponential(area: float, share: float) -> float:
    """The same for exponential scores, where the recall is the false-positive rate to the power ``(1 - area) / area``."""
    false = np.linspace(0, 1, 1_000_001) ** 8  # dense near 0, where the precision changes
    recall = false ** ((1 - area) / area)
    picked = share * recall + (1 - share) * false
    precision = np.divide(share * recall, picked, out=np.ones(len(false)), where=picked > 0)
    return float(np.trapezoid(precision, recall))


def precision_cell(
    rng: np.random.Generator, n: int, share: float, truth: float, repeats: int, draw: Draw, area: float
) -> Held:
    """Examples drawn at random, so that the number of positives varies as it does for a user."""
    found = []
    for _ in range(repeats):
        positives = int(rng.binomial(n, share))
        examples = binary(np.arange(n) < positives, draw(rng, positives, n - positives, area), outputs="scores")
        found.append(ask(examples, "average_precision"))
    return held(found, truth)


def precision_rows() -> Iterator[Row]:
    rng = np.random.default_rng(120)
    for share, positives in _PRECISION_CELLS:
        n = round(positives / share)
        repeats = 400 if n <= 200 else 200 if n <= 1000 else 100
        row: list[object] = [n, positives]
        for draw, area, truth in precision_shapes(share):
            row += [f"{truth:.2f}", precision_cell(rng, n, share, truth, repeats, draw, area)]
        yield tuple(row)


def precision_shapes(share: float) -> list[tuple[Draw, float, float]]:
    """Weak and strong binormal scores, and exponential ones, with their areas and true average precisions."""
    shapes: list[tuple[Draw, float, float]] = [
        (binormal, area, precision_of_binormal(float(np.sqrt(2) * norm.ppf(area)), share)) for area in (0.75, 0.95)
    ]
    return [*shapes, (exponential, 0.85, precision_of_exponential(0.85, share))]


_PRECISION_CELLS = ((0.5, 10), (0.5, 50), (0.1, 10), (0.1, 20), (0.1, 50), (0.1, 100), (0.01, 10), (0.01, 50))


# --- clusters --------------------------------------------------------------------------------------------


def clustered_auc_cell(rng: np.random.Generator, clusters: int, size: int, *, mixed: bool, repeats: int) -> Held:
    """Cluster and example each add a unit of variance to a score; labels of whole clusters, or mixed within them."""
    ids, found = np.repeat(np.arange(clusters), size), []
    for _ in range(repeats):
        labels = rng.random(len(ids)) < 0.4 if mixed else np.repeat(rng.random(clusters) < 0.4, size)
        scores = rng.normal(size=len(ids)) + np.repeat(rng.normal(size=clusters), size) + _APART * labels
        found.append(ask(binary(labels, scores, outputs="scores", clusters=ids), "roc_auc"))
    return held(found, _clustered_truth(clusters, size, mixed=mixed))


_APART = 2.0


def _clustered_truth(clusters: int, size: int, *, mixed: bool) -> float:
    """Pairs within a cluster, where there are any, share its shift."""
    across, within = (float(norm.cdf(_APART / np.sqrt(variance))) for variance in (4, 2))
    share = (size - 1) / (clusters * size - 1) if mixed else 0.0
    return (1 - share) * across + share * within


# --- five classes, each against the rest -------------------------------------------------------------------

_PRIORS = np.array([0.4, 0.3, 0.15, 0.1, 0.05])
_SHIFTS = np.array([1.0, 1.5, 2.0, 2.0, 1.5])
_MACRO = ("macro_roc_auc", "macro_average_precision")


def five_classes(rng: np.random.Generator, n: int, shifts: Floats = _SHIFTS) -> Examples:
    """Scores with a unit of variance, half of it common to an example's classes; the true class's are shifted."""
    labels = rng.choice(5, n, p=_PRIORS)
    scores = (rng.normal(size=(n, 5)) + rng.normal(size=(n, 1))) / np.sqrt(2)
    scores[np.arange(n), labels] += shifts[labels]
    return multiclass(labels, scores, outputs="scores")


def macro_truths(shifts: Floats = _SHIFTS) -> tuple[float, float]:
    """Each class against the rest is binormal, so its area and average precision are known."""
    precisions = [precision_of_binormal(shift, share) for shift, share in zip(shifts, _PRIORS, strict=True)]
    return float(norm.cdf(shifts / np.sqrt(2)).mean()), float(np.mean(precisions))


def macro_cells(rng: np.random.Generator, n: int, harder: float, repeats: int) -> list[Held]:
    shifts = _SHIFTS + harder
    found = [ask_all(five_classes(rng, n, shifts), _MACRO) for _ in range(repeats)]
    return [held(column, truth) for column, truth in zip(zip(*found, strict=True), macro_truths(shifts), strict=True)]


def macro_rows(repeats: int = 300) -> Iterator[Row]:
    rng = np.random.default_rng(130)
    for harder in (0.0, 1.5):
        for n in (100, 300, 1000, 3000):
            truths = macro_truths(_SHIFTS + harder)
            yield n, f"{truths[0]:.3f}", f"{truths[1]:.3f}", *macro_cells(rng, n, harder, repeats)


SECTIONS = (
    Section(
        name="auc",
        title="AUC",
        text=(
            "Binormal scores; columns are the true area, `spread` the positives' standard deviation beside the negatives'. "
            "The method's constants were chosen on grids like this one. The interval holds within the limits that the tool knows "
            "(`auc_supported`: at least 10 examples of each class, and 4 of the smaller one expected on the wrong side)."
        ),
        header=("n", "positives", "spread", *map(str, _AREAS)),
        rows=auc_rows,
    ),
    Section(
        name="auc-held-out",
        title="AUC, shapes that no constant was chosen on",
        text=(
            "Exponential scores (area m / (1 + m)); Beta(a, 1) above uniform ones (a / (a + 1)); normal ones where a share of the "
            "positives (one minus the area) is like the negatives; and five grades, with ties everywhere."
        ),
        header=("scores", "n", "positives", *map(str, _HELD_OUT)),
        rows=held_out_rows,
    ),
    Section(
        name="average-precision",
        title="Average precision",
        text=(
            "Examples drawn at random; binormal scores of areas 0.75 and 0.95, and exponential ones of area 0.85, on which nothing "
            "was chosen. The truth is the precision integrated over the recall. 400 draws where n is up to 200, 200 up to 1,000, "
            "100 above: standard errors 0.011, 0.015 and 0.022."
        ),
        header=(
            "n",
            "positives expected",
            "truth",
            "binormal 0.75",
            "truth",
            "binormal 0.95",
            "truth",
            "exponential 0.85",
        ),
        rows=precision_rows,
    ),
    Section(
        name="macro-areas",
        title="Macro AUC and macro average precision",
        text=(
            "Five classes of 40, 30, 15, 10 and 5 %, each against the rest; scores of an example's classes correlate by a half. "
            "Each class's area and average precision are binormal, so the truth is known. The smallest class has 5, 15, 50 and 150 "
            "examples. Each class keeps its own interval, and they are joined with their correlations; below 5 in the smallest class the "
            "tool says too few."
        ),
        header=("n", "true AUC", "true average precision", "macro AUC", "macro average precision"),
        rows=macro_rows,
    ),
)
