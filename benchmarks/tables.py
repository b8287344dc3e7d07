"""A confusion table of 10 million predictions and 2,000 resamples of macro-F1 from it, beside scikit-learn.

    python -m benchmarks.tables

100 classes, 80 % right; arms take turns in random order. Wall seconds and processor seconds of the process are kept,
so that a busy machine can be told from slow code. scikit-learn's bootstrap is one resample of the rows, times 2,000.
Writes `results/tables.{md,json}`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from steelyard.metrics.classification import macro_f
from steelyard.probe.host import environment
from steelyard.stats.bootstrap import Cells, confusion_bootstrap

RESULTS = Path(__file__).parent / "results"
EXAMPLES, CLASSES, RESAMPLES, ROUNDS, SLOW_ROUNDS = 10_000_000, 100, 2000, 9, 3
TABLE, SMALL, BOOTSTRAP = (
    "Steelyard: table from int64 indices",
    "Steelyard: table from int8 indices",
    "Steelyard: 2,000 resamples of macro-F1 from the table",
)
THEIRS, ROWS = "scikit-learn: confusion_matrix", "scikit-learn: one resample of the rows, f1_score(average='macro')"
Times = dict[str, list[tuple[float, float]]]  # wall and processor seconds of each round


def main() -> None:
    arms = _arms(*predictions())
    for call, _ in arms.values():
        call()  # warms up
    times: Times = {name: [] for name in arms}
    rng = np.random.default_rng(0)
    for at in range(ROUNDS):
        for which in rng.permutation(len(arms)):
            name = list(arms)[which]
            call, rounds = arms[name]
            if at < rounds:
                times[name].append(_timed(call))
    _write(times)


def predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    labels, other = rng.integers(0, CLASSES, (2, EXAMPLES))
    return labels, np.where(rng.random(EXAMPLES) < 0.8, labels, other)


def _arms(labels: np.ndarray, predicted: np.ndarray) -> dict[str, tuple[Callable[[], object], int]]:
    from sklearn.metrics import confusion_matrix, f1_score

    small, guess = labels.astype(np.int8), predicted.astype(np.int8)
    cells, rng = Cells.counted(labels, predicted, CLASSES), np.random.default_rng(0)
    assert np.array_equal(cells.dense(), confusion_matrix(labels, predicted))

    def resample_rows() -> float:
        rows = rng.integers(0, EXAMPLES, EXAMPLES)
        return float(f1_score(labels[rows], predicted[rows], average="macro"))

    return {
        TABLE: (lambda: Cells.counted(labels, predicted, CLASSES), ROUNDS),
        SMALL: (lambda: Cells.counted(small, guess, CLASSES), ROUNDS),
        THEIRS: (lambda: confusion_matrix(labels, predicted), SLOW_ROUNDS),
        BOOTSTRAP: (lambda: confusion_bootstrap(cells, [macro_f], RESAMPLES), ROUNDS),
        ROWS: (resample_rows, 1),
    }


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    call()
    return time.perf_counter() - wall, time.process_time() - processor


def _write(times: Times) -> None:
    host = environment(("numpy", "scikit-learn"))
    wall, processor = ({name: np.median(np.array(t)[:, at]) for name, t in times.items()} for at in (0, 1))
    rows = [
        f"| {name} | {wall[name]:.3f} | {min(w for w, _ in taken):.3f} to {max(w for w, _ in taken):.3f} "
        f"| {processor[name]:.3f} | {len(taken)} |"
        for name, taken in times.items()
    ]
    table = "\n".join(
        [
            f"# Confusion table of {EXAMPLES:,} predictions, {CLASSES} classes, and its bootstrap",
            "",
            f"{host.cpu}, {host.cores} cores (load {os.getloadavg()[0]:.0f} at the end); arms take turns in random order.",
            f"{', '.join(f'{k} {v}' for k, v in host.packages.items())}. Made by `python -m benchmarks.tables`.",
            "",
            (
                f"The table is {processor[THEIRS] / processor[TABLE]:.0f} times faster than scikit-learn's "
                f"({wall[THEIRS] / wall[TABLE]:.0f} by wall time). {RESAMPLES:,} resamples of the rows through scikit-learn "
                f"would take {processor[ROWS] * RESAMPLES / 3600:.1f} hours of processor time. Ours use two threads."
            ),
            "",
            "| | median wall s | range | median processor s | runs |",
            "|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    print(table)
    (RESULTS / "tables.md").write_text(table)
    raw = {"cpu": host.cpu, "cores": host.cores, "packages": dict(host.packages), "wall_and_processor_s": times}
    (RESULTS / "tables.json").write_text(json.dumps(raw, indent=1))


if __name__ == "__main__":
    main()
