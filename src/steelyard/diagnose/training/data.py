"""What is wrong with the examples: their classes, their order, their size, their being known already."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from steelyard.diagnose.training.common import finding, tried
from steelyard.records import Finding, Overlap, Watched
from steelyard.report.training import value

__all__ = ["DATA", "leak"]

UNEVEN = 10.0  # largest class by the smallest
UNSCALED = 10.0  # root mean square of the inputs


def imbalance(watched: Watched) -> Finding | None:
    counts = [count for count in watched.label_counts if count]
    if len(counts) < 2 or max(counts) < UNEVEN * min(counts):
        return None
    share = max(counts) / sum(counts)
    return finding(
        "imbalance",
        f"the largest class has {max(counts) / min(counts):.0f} times the examples of the smallest: {share:.0%} of all",
        {"largest_by_smallest": max(counts) / min(counts), "largest_share": share},
        tried("weighting classes in the loss, or drawing them evenly", "each class then pulls alike"),
        tried("judging by balanced accuracy", f"answering the largest class alone has an accuracy of {share:.0%}"),
    )


def unshuffled(watched: Watched) -> Finding | None:
    """Classes in a batch against the number that a random draw would hold, k (1 - (1 - 1/k)^b)."""
    mixed = value(watched, "batch_classes")
    classes, size = sum(count > 0 for count in watched.label_counts), float(np.median(watched.examples))
    if mixed is None or classes < 2 or size < 2:
        return None
    shares = np.array([count for count in watched.label_counts if count]) / sum(watched.label_counts)
    expected = float((1 - (1 - shares) ** size).sum())
    if expected - mixed < max(1.0, 0.3 * expected):
        return None
    claim = (
        f"a batch holds {mixed:.0f} classes where a random one would hold {expected:.1f}: the examples come in order"
    )
    shuffle = tried("DataLoader(shuffle=True)", "each batch then speaks for all classes")
    return finding("unshuffled", claim, {"batch_classes": mixed, "expected_classes": expected}, shuffle)


def unscaled(watched: Watched) -> Finding | None:
    size = value(watched, "input_rms")
    if size is None or size < UNSCALED:
        return None
    scale = tried("scaling inputs to mean 0 and deviation 1", "first layers are made for inputs of about that size")
    return finding("unscaled-inputs", f"inputs have a root mean square of {size:.3g}", {"input_rms": size}, scale)


def leak(overlaps: Sequence[Overlap]) -> Finding | None:
    found = [overlap for overlap in overlaps if overlap.count and "train" in (overlap.split, overlap.other)]
    if not found:
        return None
    words = "; ".join(f"{o.count} of {o.split} also stand in {o.other}" for o in found)
    apart = tried("splitting anew without duplicates (data check)", "scores on examples seen in training say nothing")
    return finding("leak", words, {"examples": float(sum(o.count for o in found))}, apart)


DATA = (imbalance, unshuffled, unscaled)
