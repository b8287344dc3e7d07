"""Fifty slices looked at together: false alarms where none is worse, and whether a planted one is found."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from benchmarks.coverage.asked import Row, Section
from steelyard.metrics.examples import binary
from steelyard.metrics.slices import Column, cuts, judged
from steelyard.metrics.table import find

__all__ = ["SECTIONS", "alarms"]

_SLICES = 50


def slice_rows() -> Iterator[Row]:
    rng = np.random.default_rng(170)
    for n, accuracy in ((2500, 0.8), (2500, 0.95), (10_000, 0.9)):
        for lower in (0.0, 0.1, 0.25):
            false, found = alarms(rng, n, accuracy, lower, 60 if lower else 200)
            yield n // _SLICES, accuracy, lower, f"{false:.3f}", f"{found:.3f}" if lower else "-"


def alarms(rng: np.random.Generator, n: int, accuracy: float, lower: float, repeats: int) -> tuple[float, float]:
    """Shares of the repeats with a slice falsely called worse or better, and with the first one, `lower`, called worse."""
    metric, levels = find("accuracy", "binary"), tuple(f"s{i}" for i in range(_SLICES))
    column = Column(name="site", codes=np.arange(n) % _SLICES, levels=levels)
    chance = np.where(column.codes == 0, accuracy - lower, accuracy)
    false, hits = 0, 0
    for _ in range(repeats):
        examples = binary(np.ones(n), predicted=rng.random(n) < chance)
        called = {s.conditions[0][1]: s.verdict for s in judged(examples, metric, cuts([column])[0])}
        planted = called.pop("s0") if lower else "none"
        hits += planted == "worse"
        false += bool({"worse", "better"} & set(called.values()))
    return false / repeats, hits / repeats


SECTIONS = (
    Section(
        name="slices",
        title="Slices",
        text=(
            "Accuracy in 50 slices of one column, each against the rest, Holm over all at 5 %: the share of runs in which any "
            "slice without a gap is called worse or better, and in which the planted one is called worse. 200 runs where there is "
            "none (standard error 0.015 at 0.05), 60 with one. The p of a share is Fisher's exact one: read off the interval "
            "instead, 50 slices called 13 % of the runs of 50 examples at an accuracy of 0.95 falsely."
        ),
        header=("examples in a slice", "accuracy", "planted gap", "false alarm", "found"),
        rows=slice_rows,
    ),
)
