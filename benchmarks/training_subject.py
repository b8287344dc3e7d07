"""torchvision's ResNet-18 with ten classes at 32x32, for trainings that are compared with each other."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torchvision

from steelyard import Contract, Split, Splits, Subject
from steelyard.subject.data import idx

TRAIN, VALIDATION, TEST = 6_000, 2_000, 4_000
CONTRACT = Contract(shape=(3, 32, 32), scale=1 / 255, mean=(0.2860,), std=(0.3530,), labels=tuple("0123456789"))


def subject(data: str | None) -> Subject:
    """Untrained; the first weights are the seed's."""
    assert data is not None
    return Subject(
        model=torchvision.models.resnet18(num_classes=10), contract=CONTRACT, data=lambda: _splits(Path(data))
    )


def _splits(folder: Path) -> Splits:
    full = idx(folder)
    return Splits(
        train=_padded(full.train, TRAIN),
        validation=_padded(full.validation, VALIDATION),
        test=_padded(full.test, TEST),
        labels=CONTRACT.labels,
        method=f"Fashion-MNIST's own; the first {TRAIN}, {VALIDATION} and {TEST}",
    )


def _padded(split: Split, count: int) -> Split:
    """28x28 grey to 32x32 in three equal channels."""
    small = np.asarray(split.raw[np.arange(count)])
    return Split(raw=np.pad(small, ((0, 0), (0, 0), (2, 2), (2, 2))).repeat(3, axis=1), labels=split.labels[:count])
