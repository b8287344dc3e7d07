"""Metrics of the confusion table: means over classes, Matthews' correlation, and clusters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from benchmarks.coverage.areas import clustered_auc_cell
from benchmarks.coverage.asked import Floats, Held, Row, Section, ask_all, held
from steelyard.metrics import classification as c
from steelyard.metrics.examples import Examples, multiclass
from steelyard.stats.bootstrap import Cells, Margins, confusion_bootstrap, percentile_bounds

__all__ = [
    "NAMES",
    "SECTIONS",
    "TASKS",
    "answers",
    "cells_of",
    "clustered_cells",
    "predictions",
    "table_cells",
    "truths_of",
]

NAMES = ("macro_f1", "weighted_f1", "balanced_accuracy", "mcc")
_STATISTICS = (c.macro_f, c.weighted_f, c.balanced_accuracy, c.matthews)

_TEN = [0.1] * 10
_UNEVEN = [0.31, 0.22, 0.15, 0.1, 0.08, 0.05, 0.04, 0.025, 0.015, 0.01]

TASKS: dict[str, tuple[list[float], list[float]]] = {
    "10 even classes, 80 % right": (_TEN, [0.8] * 10),
    "10 even classes, 97 % right": (_TEN, [0.97] * 10),
    "10 even classes, 99.9 % right": (_TEN, [0.999] * 10),
    "10 classes from 31 to 1 %, 95 to 60 % right": (_UNEVEN, list(np.linspace(0.95, 0.6, 10))),
    "2 classes 9:1, 95 % and 80 % right": ([0.9, 0.1], [0.95, 0.8]),
    "4 classes 60:30:8:2, 90 % and 70 % right": ([0.6, 0.3, 0.08, 0.02], [0.9, 0.9, 0.9, 0.7]),
}


def cells_of(priors: list[float], right: list[float]) -> Floats:
    """The shares of a confusion table: wrong answers fall on the other classes evenly."""
    k = len(priors)
    rows = [[r if i == j else (1 - r) / (k - 1) for j in range(k)] for i, r in enumerate(right)]
    return np.asarray(np.array(priors)[:, None] * np.array(rows))


def truths_of(cells: Floats) -> tuple[float, ...]:
    """The four metrics of the population."""
    counts = Margins.of((cells * 1e12).round().astype(np.int64))
    return tuple(float(statistic(counts)) for statistic in _STATISTICS)


def table_cells(rng: np.random.Generator, task: str, n: int, repeats: int) -> tuple[list[Held], float]:
    """The coverage of each metric, and that of the plain bootstrap percentile interval of macro-F1."""
    cells = cells_of(*TASKS[task])
    tables = rng.multinomial(n, cells.ravel(), repeats).reshape(-1, *cells.shape)
    found = [ask_all(from_table(table), NAMES) for table in tables]
    truths = truths_of(cells)
    ends = [percentile_bounds(confusion_bootstrap(Cells.of(table), [c.macro_f], 500)[0]) for table in tables[:200]]
    plain = float(np.mean([low <= truths[0] <= high for low, high in ends]))
    return [held(column, truth) for column, truth in zip(zip(*found, strict=True), truths, strict=True)], plain


def table_rows() -> Iterator[Row]:
    rng = np.random.default_rng(140)
    for task in TASKS:
        for n in (100, 360, 1000, 2000, 10_000) if "31 to 1" in task else (100, 360, 2000):
            tallies, plain = table_cells(rng, task, n, 300)
            yield task, n, *tallies, f"{plain:.3f}", f"{2 * tallies[0].half:.4f}"


def from_table(table: NDArray[np.int64]) -> Examples:
    """Examples with this confusion table."""
    labels, predicted = (np.repeat(axis.ravel(), table.ravel()) for axis in np.indices(table.shape))
    return predictions(labels, predicted, len(table))


def predictions(
    labels: NDArray[np.int64], predicted: NDArray[np.int64], classes: int, clusters: NDArray[np.int64] | None = None
) -> Examples:
    """Predicted classes alone."""
    return multiclass(labels, predicted=predicted, classes=tuple(map(str, range(classes))), clusters=clusters)


def answers(rng: np.random.Generator, cells: Floats, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """Predictions ``(n,)`` for `labels` as the shares of the confusion table have them."""
    cumulative = np.cumsum(cells / cells.sum(1, keepdims=True), axis=1)[labels]
    return np.asarray(np.minimum((rng.random((len(labels), 1)) > cumulative).sum(1), len(cells) - 1))


# --- clusters ---------------------------------------------------------------------------------------------

_CLUSTERED = ("accuracy", "macro_f1")
_RIGHT = 0.8


def clustered_cells(rng: np.random.Generator, clusters: int, size: int, repeats: int) -> list[Held]:
    """Accuracy and macro-F1 of 4 classes; a cluster's chance to be right is Beta(0.8, 0.2), correlation 0.5."""
    cells = cells_of([0.25] * 4, [_RIGHT] * 4)
    ids = np.repeat(np.arange(clusters), size)
    found = []
    for _ in range(repeats):
        labels = rng.integers(0, 4, len(ids))
        right = rng.random(len(ids)) < np.repeat(rng.beta(_RIGHT, 1 - _RIGHT, clusters), size)
        guesses = np.where(right, labels, (labels + rng.integers(1, 4, len(ids))) % 4)
        found.append(ask_all(predictions(labels, guesses, 4, ids), _CLUSTERED))
    truths = (_RIGHT, truths_of(cells)[0])
    return [held(column, truth) for column, truth in zip(zip(*found, strict=True), truths, strict=True)]


def cluster_rows(repeats: int = 400) -> Iterator[Row]:
    rng = np.random.default_rng(141)
    for clusters in (30, 100, 300):
        whole, mixed = (clustered_auc_cell(rng, clusters, 10, mixed=mixed, repeats=1000) for mixed in (False, True))
        yield clusters, *clustered_cells(rng, clusters, 10, repeats), whole, mixed


SECTIONS = (
    Section(
        name="table",
        title="Macro-F1, weighted F1, balanced accuracy, Matthews' correlation",
        text=(
            "Wilson's interval on the bootstrap's effective size; beside it the plain bootstrap percentile interval of macro-F1, "
            "200 draws. Where a class has few examples it can be absent from the sample or all right in it, and no resampling "
            "knows of what it did not see. Macro-F1 and weighted F1 hold, 0.93 to 0.98, where the smallest class is expected to have "
            "10 examples or more, but for 0.89 where there is a tenth of an error in all to be seen; balanced accuracy needs 40 in "
            "the smallest class, and with two of them it falls to 0.71."
        ),
        header=("task", "n", "macro-F1", "weighted F1", "balanced accuracy", "MCC", "plain percentile", "mean width"),
        rows=table_rows,
    ),
    Section(
        name="clusters",
        title="Clusters",
        text=(
            "Clusters of 10 examples that correlate by 0.5. Accuracy and macro-F1 (4 classes) of 80 % right answers; AUC of "
            "0.84, 40 % positives, labels of whole clusters or mixed within them."
        ),
        header=("clusters", "accuracy", "macro-F1", "AUC, whole", "AUC, mixed"),
        rows=cluster_rows,
    ),
)
