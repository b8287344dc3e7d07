"""What a pass is given to work with, and what it hands back."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import CannotApply, InvalidInput
from steelyard.records import Contract, Sample, Unavailable
from steelyard.subject.artifact import Artifact
from steelyard.subject.contract import prepare
from steelyard.subject.engines import load_runner
from steelyard.subject.splits import Split, read_split

__all__ = ["Bench", "Built", "check_recovery"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bench:
    """A workplace for one pass.

    ``folder`` is empty and becomes the new artifact; ``examples`` are a few model-ready inputs for tracing and parity;
    ``data`` holds the training split, the calibration split, which is drawn from it, and the validation split. The test
    split is nobody's to look at. ``teacher`` is the baseline, and ``seconds`` is what a training may take.
    """

    folder: Path
    examples: NDArray[Any]
    data: Path | None = None
    teacher: Artifact | None = None
    seconds: float | None = None

    def calibration(self, contract: Contract) -> NDArray[Any]:
        """Model-ready training inputs. Raises `CannotApply` where the subject has no data."""
        if self.data is None:
            raise CannotApply("static quantisation needs training data to calibrate on, and the subject has none")
        return prepare(contract, np.asarray(read_split(self.data, "calibration").raw))

    def training(self) -> Split:
        """The training split, mapped and not read. Raises `CannotApply` where there is none."""
        found = self._split("train")
        if found is None:
            raise CannotApply("recovery needs training data, and the subject has none (or the disk no room for a copy)")
        return found

    def validation(self) -> Split | None:
        """The validation split, mapped and not read, for choosing among epochs."""
        return self._split("validation")

    def _split(self, name: str) -> Split | None:
        if self.data is None or not (self.data / f"{name}.labels.npy").exists():
            return None
        return read_split(self.data, name)

    def teacher_outputs(self, contract: Contract) -> NDArray[Any] | None:
        """What the baseline answers for each training example, ``(n, classes)``, mapped; None without a teacher.

        Worked out once a run folder: every candidate that learns from the baseline reads the same file.
        """
        if self.teacher is None:
            return None
        assert self.data is not None
        path = self.data / f"teacher-{self.teacher.fingerprint()}.npy"
        if not path.exists():
            runner, split = load_runner(self.teacher), self.training()
            answers = [runner(prepare(contract, chunk)) for chunk in split.chunks()]
            part = path.with_suffix(".part")
            with part.open("wb") as file:
                np.save(file, np.concatenate(answers).astype(np.float32))
            part.replace(path)
        outputs: NDArray[Any] = np.load(path, mmap_mode="r")
        return outputs


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Built:
    """A new artifact and the outputs that its in-memory model gave for the bench's examples.

    A clean process must give the same outputs within ``tolerance``, a fraction of their standard deviation. ``readings`` are
    what was measured on the way, such as the sensitivity of each layer; they go into the records with the candidate's own.
    """

    artifact: Artifact
    outputs: NDArray[Any]
    tolerance: float
    readings: tuple[Sample | Unavailable, ...] = ()


def check_recovery(technique: str, epochs: float, lr: float, distil: float) -> None:
    """Raise `InvalidInput` for options that no recovery could follow."""
    if epochs < 0 or not lr > 0 or not 0 <= distil <= 1:
        raise InvalidInput(
            f"{technique}: epochs must be 0 or more, lr above 0 and distil 0 to 1; got {epochs}, {lr} and {distil}"
        )
