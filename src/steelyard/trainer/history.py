"""What a training went through: raw readings a step, scores an epoch."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

__all__ = ["Ended", "History"]

Floats = NDArray[np.float64]
Ended = Literal["done", "time", "patience", "diverged"]


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
