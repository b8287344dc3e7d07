"""One billion predictions streamed: flat memory, the guaranteed bound, and whether the exact area lies inside.

    python -m benchmarks.streaming

Scores are made in chunks of four million: a whole number g of 1 to 50,000 gives the probability ``(g - 1/2) / 50,000``
squeezed into [0, 0.02], 0.1 % positives. So few distinct scores can be counted exactly beside the stream, and the exact
areas follow from those counts. Writes `results/streaming.{md,json}`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import psutil

from steelyard.metrics.streaming import Areas, StreamingAreas
from steelyard.probe.host import environment

RESULTS = Path(__file__).parent / "results"
EXAMPLES, CHUNK, GRID, POSITIVES = 1_000_000_000, 4_000_000, 50_000, 0.001
TABLE = 0.02 * (np.arange(GRID) + 0.5) / GRID


def main() -> None:
    rng, process = np.random.default_rng(0), psutil.Process()
    areas, exact = StreamingAreas("probabilities"), np.zeros((2, GRID), dtype=np.int64)
    resident: list[tuple[int, int]] = []
    streamed_s = 0.0
    begun = time.perf_counter()
    for at in range(EXAMPLES // CHUNK):
        labels, grid = _chunk(rng)
        exact[0] += np.bincount(grid[~labels], minlength=GRID)
        exact[1] += np.bincount(grid[labels], minlength=GRID)
        scores = TABLE[grid]
        start = time.perf_counter()
        areas.update(labels, scores)
        streamed_s += time.perf_counter() - start
        if at % 10 == 9:
            resident.append(((at + 1) * CHUNK, process.memory_info().rss))
    found = areas.compute()
    assert found is not None
    _write(found, _exact(*exact), resident, streamed_s, time.perf_counter() - begun)


def _chunk(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Labels, and the place of each score: the larger of two even draws for positives, one for negatives."""
    labels = np.zeros(CHUNK, dtype=np.bool_)
    labels[: rng.binomial(CHUNK, POSITIVES)] = True
    grid = rng.integers(0, GRID, CHUNK, dtype=np.int32)
    count = int(labels.sum())
    grid[:count] = np.maximum(grid[:count], rng.integers(0, GRID, count, dtype=np.int32))
    return labels, grid


def _exact(negatives: np.ndarray, positives: np.ndarray) -> tuple[float, float]:
    """Both areas from counts at each distinct score, by their definitions."""
    below = np.cumsum(negatives) - negatives
    won = sum(int(p) * (2 * int(b) + int(n)) for p, b, n in zip(positives, below, negatives, strict=True))
    hits, alarms = np.cumsum(positives[::-1]), np.cumsum(negatives[::-1])
    precision = hits / np.maximum(hits + alarms, 1)
    return won / (2 * int(positives.sum()) * int(negatives.sum())), float(
        (positives[::-1] * precision).sum() / positives.sum()
    )


def _write(
    found: Areas, exact: tuple[float, float], resident: list[tuple[int, int]], streamed_s: float, total_s: float
) -> None:
    host = environment(("numpy",))
    rows = []
    for name, area, true in (
        ("AUC", found.auc, exact[0]),
        ("average precision", found.average_precision, exact[1]),
    ):
        assert area.low <= true <= area.high, (name, area, true)
        rows.append(f"| {name} | {area.value:.9f} | {area.low:.9f} | {area.high:.9f} | {true:.9f} | {area.error:.1e} |")
    mib = [seen / 2**20 for _, seen in resident]
    took = (
        f"Counting took {streamed_s:.0f} s ({streamed_s / EXAMPLES * 1e9:.0f} ns a prediction), with making the scores"
        f" {total_s:.0f} s. Resident memory: {mib[0]:.0f} MiB after {resident[0][0]:,}, {mib[-1]:.0f} MiB at the end,"
        f" {max(mib):.0f} MiB at most (the counts are 32 MiB of it)."
    )
    table = "\n".join(
        [
            "# One billion predictions streamed",
            "",
            f"{host.cpu}, {host.cores} cores, one thread; numpy {host.packages.get('numpy', '')}.",
            f"{found.positives:,} positives, {found.negatives:,} negatives, scores in [0, 0.02].",
            "Made by `python -m benchmarks.streaming`.",
            "",
            took,
            "",
            "| | value | lower bound | upper bound | exact | error at most |",
            "|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    print(table)
    (RESULTS / "streaming.md").write_text(table)
    raw = {"cpu": host.cpu, "counting_s": streamed_s, "total_s": total_s, "resident_bytes": resident, "exact": exact}
    (RESULTS / "streaming.json").write_text(json.dumps(raw))


if __name__ == "__main__":
    main()
