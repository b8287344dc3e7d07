"""Before: the baseline weighed, and whether it is sane enough to be compared with."""

from __future__ import annotations

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.measure.weigh import weigh
from steelyard.pipeline.job import Progress
from steelyard.records import Measurement, Run, Sample
from steelyard.search.attempt import Workshop
from steelyard.subject.artifact import read_artifact

__all__ = ["weigh_baseline"]


def weigh_baseline(shop: Workshop, run: Run, progress: Progress) -> Measurement:
    """Everything read from the baseline.

    Raises `InvalidInput` for one that is no better than always naming the commonest class, or that answers differently
    when asked twice.
    """
    measured = weigh(
        read_artifact(shop.baseline),
        shop.inputs,
        shop.weigh,
        data=shop.data,
        host=shop.host,
        limits=shop.limits,
        log=shop.log,
        on_step=lambda step: progress(f"baseline: {step}", 0.0),
    )
    _check_sane(measured, run)
    return measured


def _check_sane(measured: Measurement, run: Run) -> None:
    made = measured.on("validation")
    if made is None:
        return
    majority = np.bincount(made.labels).max() / len(made.labels)
    if made.correct.mean() <= majority:
        raise InvalidInput(
            f"the baseline is right on {made.correct.mean():.1%} of the validation split, and always answering the commonest class "
            f"on {majority:.1%}: check the weights, the order of the labels, and scale, mean and std (now {run.contract.scale:.4g}, "
            f"{run.contract.mean}, {run.contract.std})"
        )
    same = measured.get("repeatable")
    if isinstance(same, Sample) and not same.value:
        raise InvalidInput(
            "the baseline gives other outputs for the same inputs: turn off what is random in it (dropout, noise)"
        )
