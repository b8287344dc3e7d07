"""What the ledger's processes do: a whole training, or the steps of one in turns. Both run in a child."""

from __future__ import annotations

import dataclasses
import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.pipeline.train import TrainingJob, prepare_training, train, training_examples, training_objective
from steelyard.probe.memory import give_back, peak_rss_bytes, reset_peak, rss_bytes
from steelyard.records import Unavailable
from steelyard.trainer.stepping import Stepped

__all__ = ["STEPS", "TRAINING", "StepWorker", "TrainingWorker"]

TRAINING = "steelyard.pipeline.ledger.workers:TrainingWorker"
STEPS = "steelyard.pipeline.ledger.workers:StepWorker"

Floats = NDArray[np.float64]
_ENDLESS = 10**9  # steps


class TrainingWorker:
    """Trains in a process of its own; the record is read from the run folder."""

    def train(self, job: TrainingJob) -> str:
        """How it ended."""
        return train(job).ended


class StepWorker:
    """Training steps that take turns with those of other recipes; times are of one example."""

    def __init__(self) -> None:
        self._stepped: Stepped
        self._examples = 1
        self._before = 0

    def load(self, job: TrainingJob) -> None:
        """Net and data of a training that would never end."""
        from steelyard.trainer.loop import fit

        recipe = dataclasses.replace(job.recipe, epochs=None, seconds=None, patience=None, steps=_ENDLESS)
        endless = dataclasses.replace(job, recipe=recipe)
        subject, prepared = prepare_training(endless)
        give_back()  # what reading and changing the net left: the same for all recipes
        weights = sum(t.numel() * t.element_size() for t in prepared.model.state_dict().values())
        self._before = rss_bytes() - weights
        reset_peak()
        examples, augment = training_examples(endless, prepared)
        self._examples = min(recipe.batch * recipe.accumulation, len(examples))
        self._stepped = Stepped(
            lambda tell: fit(
                prepared.model,
                examples,
                recipe,
                objective=training_objective(subject, prepared.contract, recipe),
                augment=augment,
                tell=tell,
            )
        )

    def first(self) -> dict[str, Any]:
        """The first step, with what a training does before it."""
        return {"first_prediction_s": self._stepped.step()}

    def warm(self, seconds: float, **_: Any) -> Floats:
        """Seconds of every step from cold."""
        return self._steps(seconds, least=2)

    def slot(self, seconds: float, **_: Any) -> Floats:
        """Seconds an example, by steps; one untimed step before them brings caches back."""
        self._stepped.step()
        return self._steps(seconds, least=1) / self._examples

    def peak(self) -> int | Unavailable:
        """What the process grew by, at most, from before it had the net."""
        peak = peak_rss_bytes()
        return peak if isinstance(peak, Unavailable) else max(1, peak - self._before)

    def _steps(self, seconds: float, least: int) -> Floats:
        times: list[float] = []
        end = time.perf_counter() + seconds
        while len(times) < least or time.perf_counter() < end:
            times.append(self._stepped.step())
        return np.array(times)
