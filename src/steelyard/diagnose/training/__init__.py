"""What holds a training back: its record in, findings out, each with its evidence, what to try and what that can give.

Two kinds. Of speed: the step's phases, its operators, its loader; gains are time now / time then, by the formulas below. Of
learning: curves, gradients, updates, channels, labels; what can be won there is said in the finding's own units and
predicted no further. Thresholds are rules of thumb, told by `benchmarks/training_faults.py` on planted faults and healthy runs.
"""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.diagnose.training.data import DATA, leak
from steelyard.diagnose.training.learning import LEARNING
from steelyard.diagnose.training.speed import SPEED, LoaderAdvice, loader_advice
from steelyard.records import Finding, Overlap, Watched

__all__ = ["LoaderAdvice", "diagnose_training", "loader_advice"]


def diagnose_training(watched: Watched, *, overlaps: Sequence[Overlap] = ()) -> tuple[Finding, ...]:
    """All findings, those of speed first; none for a healthy training.

    `overlaps` are those of its splits (`steelyard.subject.splits.overlaps`).
    """
    if len(watched.loss) < 4:
        return ()
    found = [*(look(watched) for look in (*SPEED, *LEARNING, *DATA)), leak(overlaps)]
    return tuple(finding for finding in found if finding is not None)
