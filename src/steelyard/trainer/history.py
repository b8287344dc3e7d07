"""What a training went through: raw readings a step, scores an epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Ended, Floats

__all__ = ["Ended", "History"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class History:
    """Per step, each array ``(steps,)``; per epoch, the validation score where there was a validation set."""

    loss: Floats  # mean over the step's examples
    learning_rate: Floats
    step_s: Floats
    wait_s: Floats  # of the step: making its batches
    examples: NDArray[np.int64]
    steps_per_epoch: int
    validation: Floats
    best_epoch: int | None  # whose weights were kept, counted from 0; None: the last
    ended: Ended
    note: str = ""
    validation_loss: Floats = field(
        default_factory=lambda: np.zeros(0)
    )  # an epoch, where the objective is the plain one
    epoch_end_s: Floats = field(default_factory=lambda: np.zeros(0))  # seconds of training by each epoch's end
    unread: tuple[tuple[int, str], ...] = ()  # examples that could not be read and were left out, and why
    said: tuple[str, ...] = ()  # what was changed on the way
    sent_bytes: NDArray[np.int64] = field(
        default_factory=lambda: np.zeros(0, dtype=np.int64)
    )  # a step: gradients of this rank
    sending_s: Floats = field(
        default_factory=lambda: np.zeros(0)
    )  # a step: while they were on the way, backward or not

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def epoch_loss(self) -> Floats:
        """Mean loss over the examples of each epoch: every example counts once, in however small a batch it came."""
        starts = np.arange(0, len(self), self.steps_per_epoch)
        if not len(starts):
            return np.zeros(0)
        counts = np.add.reduceat(self.examples, starts)
        sums: Floats = np.add.reduceat(self.loss * self.examples, starts)
        return sums / counts

    def write(self, path: Path) -> None:
        """As JSON."""
        document: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        readable = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in document.items()}
        path.write_text(json.dumps(readable) + "\n", encoding="utf-8")
