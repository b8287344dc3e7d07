"""A training by several processes: each reads everything anew and computes its part, and the first one saves the weights."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from steelyard.errors import WorkerFailed
from steelyard.pipeline.job import Progress, silent
from steelyard.pipeline.parallel import in_turns, launch
from steelyard.pipeline.train import WEIGHTS, TrainingJob, checkpoints_of, fitted, prepare_training, save_weights
from steelyard.records import Sample, Scalar, Watched
from steelyard.subject.safe import load_weights
from steelyard.trainer.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from steelyard.trainer.history import History

__all__ = ["fitted_rank", "fitted_together", "paced_rank", "together_readings"]

_STEPS, _WARM = 25, 5  # of a measured pace


def fitted_together(job: TrainingJob, recipe: Recipe, model: nn.Module, progress: Progress) -> tuple[History, Watched]:
    """Train by `job.processes` ranks; `model` has the kept weights then. What rank 0 recorded."""
    try:
        found: tuple[History, Watched] = launch(
            "steelyard.pipeline.together:fitted_rank",
            job.processes,
            {"job": job, "recipe": recipe},
            device=_device(),
            logs=job.out / "ranks",
            progress=progress,
        )
    except WorkerFailed as error:
        cure = "begins anew" if job.spread == "sharded" else "goes on from the last checkpoint"
        raise WorkerFailed(error.kind, f"{error}; the same command {cure}") from None
    load_weights(model, job.out / WEIGHTS)
    return found


def fitted_rank(job: TrainingJob, recipe: Recipe, progress: Progress) -> tuple[History, Watched]:
    """One rank's part."""
    from steelyard.trainer.parallel import Ranks

    subject, prepared = prepare_training(job, progress)
    checkpoints = None if job.spread == "sharded" else checkpoints_of(job)
    found = fitted(job, recipe, subject, prepared, checkpoints, progress)
    if Ranks.here().lead:
        save_weights(prepared.model, job.out / WEIGHTS)
    return found


def paced_rank(job: TrainingJob, recipe: Recipe) -> float:
    """Median seconds of a step, past the first few; nothing is kept."""
    subject, prepared = prepare_training(job)
    history, _ = fitted(job, recipe, subject, prepared, None, silent)
    return float(np.median(history.step_s[_WARM:]))


def together_readings(job: TrainingJob, recipe: Recipe, history: History, progress: Progress) -> tuple[Sample, ...]:
    """What the ranks sent each other a step and, where it was asked for, steps of one process and of all in turns."""
    conditions: dict[str, Scalar] = {"processes": job.processes, "spread": job.spread}
    found = {("sent_bytes", "byte"): history.sent_bytes, ("sending_s", "s"): history.sending_s}
    if job.scaling and job.processes > 1:
        progress("measuring what several processes gain", None)
        few = dataclasses.replace(recipe, steps=_STEPS, epochs=None, seconds=None, patience=None)
        words = {"job": job, "recipe": few}
        alone, together = in_turns("steelyard.pipeline.together:paced_rank", job.processes, words, device=_device())
        found |= {("step_alone_s", "s"): alone, ("step_together_s", "s"): together}
    return tuple(
        Sample(quantity=quantity, unit=unit, values=values.astype(np.float64), conditions=conditions)
        for (quantity, unit), values in found.items()
        if len(values)
    )


def _device() -> str:
    """Where several processes compute: on an accelerator each, where there are any."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
