"""What a pass is given to work with, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import CannotApply
from steelyard.records import Contract
from steelyard.subject.artifact import Artifact
from steelyard.subject.contract import prepare
from steelyard.subject.splits import read_split

__all__ = ["Bench", "Built"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """A workplace for one pass.

    ``folder`` is empty and becomes the new artifact; ``examples`` are a few model-ready inputs for tracing and parity;
    ``data`` holds the calibration split, drawn from training data only.
    """

    folder: Path
    examples: NDArray[Any]
    data: Path | None = None

    def calibration(self, contract: Contract) -> NDArray[Any]:
        """Model-ready training inputs. Raises `CannotApply` where the subject has no data."""
        if self.data is None:
            raise CannotApply("static quantisation needs training data to calibrate on, and the subject has none")
        return prepare(contract, np.asarray(read_split(self.data, "calibration").raw))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Built:
    """A new artifact and the outputs that its in-memory model gave for the bench's examples.

    A clean process must give the same outputs within ``tolerance``, a fraction of their standard deviation.
    """

    artifact: Artifact
    outputs: NDArray[Any]
    tolerance: float
