"""Two models on the same examples: how often the drop's interval holds the true drop, and how often it promises too much."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import numpy as np
from scipy.special import expit, logit
from scipy.stats import norm

from benchmarks.coverage.areas import precision_of_binormal
from benchmarks.coverage.asked import Floats, Held, Row, Section, ask_drop, held
from benchmarks.coverage.tables import TASKS, answers, cells_of, predictions, truths_of
from steelyard.metrics.examples import Examples, binary
from steelyard.records import Estimate, Unavailable

__all__ = ["SECTIONS", "accuracy_drops", "area_drops", "macro_f1_drops", "probability_drops"]


def shown(tally: Held) -> tuple[object, ...]:
    return tally, f"{tally.falsely_safe:.3f}", f"{tally.half:.4f}"


# --- accuracy ---------------------------------------------------------------------------------------------


def accuracy_rows(repeats: int = 4000) -> Iterator[Row]:
    rng = np.random.default_rng(160)
    for n, b, c in (
        (30, 0.05, 0.05), (100, 0.01, 0.01), (100, 0.1, 0.05), (360, 0.0, 0.0), (360, 0.001, 0.001), (360, 0.005, 0.0),
        (360, 0.03, 0.02), (1000, 0.01, 0.005), (10_000, 0.002, 0.001), (10_000, 0.02, 0.02),
    ):  # fmt: skip
        yield n, b, c, *shown(accuracy_drops(rng, n, b, c, repeats))


def accuracy_drops(rng: np.random.Generator, n: int, b: float, c: float, repeats: int) -> Held:
    """Shares `b` and `c` of the examples are right before or after only; half of the others are right."""

    @cache
    def asked(before_only: int, after_only: int) -> Estimate | Unavailable:
        place = np.arange(n)
        both = place >= (n + before_only + after_only) // 2
        before = (place < before_only) | both
        after = ((place >= before_only) & (place < before_only + after_only)) | both
        return ask_drop(binary(np.ones(n), predicted=before), binary(np.ones(n), predicted=after), "accuracy")

    draws = rng.multinomial(n, [b, c, 1 - b - c], repeats)
    return held((asked(int(i), int(j)) for i, j, _ in draws), b - c)


# --- macro-F1 -----------------------------------------------------------------------------------------------


def macro_f1_rows(repeats: int = 200) -> Iterator[Row]:
    rng = np.random.default_rng(161)
    for task in ("10 even classes, 97 % right", "10 classes from 31 to 1 %, 95 to 60 % right"):
        for changed in (0.0, 0.005, 0.05, 0.2):
            for n in (360, 2000):
                yield task, changed, n, *shown(macro_f1_drops(rng, task, changed, n, repeats))


def macro_f1_drops(rng: np.random.Generator, task: str, changed: float, n: int, repeats: int) -> Held:
    """The second model answers anew on a share of the examples, 60 % right; the truth comes from its own table."""
    cells, anew = cells_of(*TASKS[task]), cells_of(TASKS[task][0], [0.6] * 10)
    truth = truths_of(cells)[0] - truths_of((1 - changed) * cells + changed * anew)[0]
    return held((ask_drop(*models(rng, cells, anew, changed, n), "macro_f1") for _ in range(repeats)), truth)


def models(rng: np.random.Generator, cells: Floats, anew: Floats, changed: float, n: int) -> tuple[Examples, Examples]:
    """Both models' answers to n examples."""
    k = len(cells)
    labels = rng.choice(k, n, p=cells.sum(1))
    before = answers(rng, cells, labels)
    after = np.where(rng.random(n) < changed, answers(rng, anew, labels), before)
    return predictions(labels, before, k), predictions(labels, after, k)


# --- areas --------------------------------------------------------------------------------------------------

_AREA_CELLS = (
    (100, 0.5, 1.5, 1.2, 0.5), (100, 0.1, 1.5, 1.2, 0.9), (1000, 0.01, 2.0, 2.0, 0.9), (1000, 0.1, 2.0, 1.5, 0.5),
    (1000, 0.1, 2.0, 1.9, 0.95), (1000, 0.5, 3.0, 2.8, 0.9), (3000, 0.3, 1.0, 1.0, 0.8), (10_000, 0.01, 2.0, 1.5, 0.9),
)  # fmt: skip


def area_rows() -> Iterator[Row]:
    rng = np.random.default_rng(162)
    for n, share, one, other, correlation in _AREA_CELLS:
        auc, precision = area_drops(rng, n, share, (one, other), correlation, 1000)
        yield n, round(n * share), one, other, correlation, *shown(auc), *shown(precision)


def area_drops(
    rng: np.random.Generator, n: int, share: float, shifts: tuple[float, float], correlation: float, repeats: int
) -> tuple[Held, Held]:
    """The AUC's and the average precision's drop, of binormal scores that correlate; the latter of 300 draws at most."""
    pairs = [paired_scores(rng, n, share, shifts, correlation) for _ in range(repeats)]
    areas = [float(norm.cdf(shift / np.sqrt(2))) for shift in shifts]
    precisions = [precision_of_binormal(shift, share) for shift in shifts]
    return (
        held((ask_drop(*pair, "roc_auc") for pair in pairs), areas[0] - areas[1]),
        held((ask_drop(*pair, "average_precision") for pair in pairs[:300]), precisions[0] - precisions[1]),
    )


def paired_scores(
    rng: np.random.Generator, n: int, share: float, shifts: tuple[float, float], correlation: float
) -> tuple[Examples, Examples]:
    """Both models' scores, their noise correlated, on the same examples."""
    labels, common = np.arange(n) < round(n * share), rng.normal(size=n)
    own = np.sqrt(1 - correlation)
    scores = (np.sqrt(correlation) * common + own * rng.normal(size=n) + shift * labels for shift in shifts)
    one, other = (binary(labels, each, outputs="scores") for each in scores)
    return one, other


# --- probabilities --------------------------------------------------------------------------------------------


def probability_rows() -> Iterator[Row]:
    rng = np.random.default_rng(163)
    for before, after in (("calibrated", "calibrated"), ("calibrated", "over"), ("over", "more over")):
        for n in (300, 3000):
            error, loss = probability_drops(rng, before, after, n, 100, 1000)
            yield f"{before} / {after}", n, *shown(error), *shown(loss)


_SLOPES = {"calibrated": 1.0, "over": 1.6, "more over": 2.0}


def probability_drops(
    rng: np.random.Generator, before: str, after: str, n: int, repeats: int, more: int
) -> tuple[Held, Held]:
    """Of the calibration error (`repeats` draws) and the log-loss (`more`): one model's logits stretched by two slopes.

    The true probabilities are uniform.
    """
    slopes = _SLOPES[before], _SLOPES[after]
    truths = [np.array(stretched_truths(slope)) for slope in slopes]
    pairs = []
    for _ in range(more):
        p = rng.random(n)
        labels = rng.random(n) < p
        one, other = (binary(labels, expit(slope * logit(p))) for slope in slopes)
        pairs.append((one, other))
    error, loss = truths[1] - truths[0]  # lower is better, so a drop is a rise
    return (
        held((ask_drop(*pair, "ece") for pair in pairs[:repeats]), float(error)),
        held((ask_drop(*pair, "log_loss") for pair in pairs), float(loss)),
    )


@cache
def stretched_truths(slope: float) -> tuple[float, float]:
    """The population's binned calibration error and log-loss."""
    p = (np.arange(1_000_000) + 0.5) / 1_000_000
    said = expit(slope * logit(p))
    bins = np.minimum(np.ceil(said * 15).astype(np.int64), 15) - 1
    error = float(np.abs(np.bincount(bins, p - said)).sum() / len(p))
    return error, float(-(p * np.log(said) + (1 - p) * np.log1p(-said)).mean())


_SAFE = 'nominal 0.025 for "falsely safe", the share whose upper end of the drop lies below the true drop'

SECTIONS = (
    Section(
        name="drop-accuracy",
        title="Drop of accuracy: Tango",
        text=(
            f"Paired difference; {_SAFE}. Where less than one example is expected to differ, the interval is that of no "
            "example, and holds always."
        ),
        header=("n", "only first right", "only second right", "coverage", "falsely safe", "mean half-width"),
        rows=accuracy_rows,
    ),
    Section(
        name="drop-macro-f1",
        title="Drop of macro-F1",
        text=(
            "Tango's interval on the paired bootstrap's effective counts; the second model answers anew (60 % right) on a share "
            f"of the examples; {_SAFE}. Where few answers change the interval keeps open what was not seen, and holds nearly always."
        ),
        header=("task", "share changed", "n", "coverage", "falsely safe", "mean half-width"),
        rows=macro_f1_rows,
    ),
    Section(
        name="drop-areas",
        title="Drop of AUC and of average precision",
        text=(
            "Paired DeLong, and Tango's interval on the jackknife's effective counts; binormal scores, shifts of both models and "
            f"the correlation of their noise; {_SAFE}."
        ),
        header=(
            "n", "positives", "first", "second", "correlation", "AUC", "falsely safe", "mean half-width",
            "average precision", "falsely safe", "mean half-width",
        ),
        rows=area_rows,
    ),
    Section(
        name="drop-probabilities",
        title="Drop of ECE and of log-loss",
        text=(
            "The true probabilities are uniform; a model's logits are the true ones (calibrated) or 1.6 (over) or 2 times them "
            f"(more over); {_SAFE}. The drop of the ECE does not hold: its plug-in value is biased by an amount that differs between "
            "the models, which the jackknife does not see, and the more examples there are the less its interval covers. The tool "
            "says so beside it."
        ),
        header=(
            "models", "n", "ECE", "falsely safe", "mean half-width", "log-loss", "falsely safe", "mean half-width",
        ),
        rows=probability_rows,
    ),
)  # fmt: skip
