"""Before: the baseline weighed, and whether it and its data are sane enough to be compared with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.measure.weigh import weigh
from steelyard.pipeline.job import Progress
from steelyard.records import Contract, Measurement, Run, Sample, Scalar
from steelyard.search.attempt import Workshop
from steelyard.subject.artifact import read_artifact
from steelyard.subject.contract import prepare
from steelyard.subject.splits import Split, read_split

__all__ = ["weigh_baseline"]

LOOKED_AT = 256  # examples of a split, for its mean and spread
MIXES = 0.1  # standard deviations that an output may change with what stands beside its example


def weigh_baseline(shop: Workshop, run: Run, progress: Progress) -> Measurement:
    """Everything read from the baseline, its weights and the data that ranges are fixed on among it.

    Raises `InvalidInput` for one that is no better than always naming the commonest class, that answers differently
    when asked twice, or whose answer rests on what stands beside an example.
    """
    measured = weigh(
        read_artifact(shop.baseline),
        shop.inputs,
        dataclasses.replace(shop.weigh, health=True),
        data=shop.data,
        host=shop.host,
        limits=shop.limits,
        log=shop.log,
        on_step=lambda step: progress(f"baseline: {step}", 0.0),
    )
    _check_sane(measured, run)
    about_data = () if shop.data is None else tuple(_data_readings(shop.data, run.contract))
    return dataclasses.replace(measured, readings=(*measured.readings, *about_data))


def _check_sane(measured: Measurement, run: Run) -> None:
    _check_steady(measured)
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


def _check_steady(measured: Measurement) -> None:
    same = measured.get("repeatable")
    if isinstance(same, Sample) and not same.value:
        raise InvalidInput(
            "the baseline gives other outputs for the same inputs: turn off what is random in it (dropout, noise)"
        )
    gap = measured.get("batch_gap")
    if isinstance(gap, Sample) and gap.value > MIXES:
        raise InvalidInput(
            f"the baseline's answer rests on what stands beside an example in its batch (outputs change by {gap.value:.2g} standard "
            "deviations): batch normalisation in training mode does that; use its running statistics (training=False), then save again"
        )


# --- the data that ranges are fixed on -----------------------------------------------------------------------


def _data_readings(folder: Path, contract: Contract) -> Iterator[Sample]:
    """How many classes the calibration examples hold, and how they lie beside validation examples as the model gets them."""
    calibration, validation = (read_split(folder, name) for name in ("calibration", "validation"))
    there = len(np.unique(calibration.labels))
    yield _reading("calibration_classes", "count", there, classes=len(contract.labels), examples=len(calibration))
    if not np.issubdtype(np.dtype(contract.dtype), np.floating):
        return
    before, after = (_some(split, contract) for split in (calibration, validation))
    spread = max(float(after.std()), 1e-12)
    yield _reading("calibration_shift", "std", abs(float(before.mean() - after.mean())) / spread)
    yield _reading("calibration_spread_ratio", "ratio", float(before.std()) / spread)


def _some(split: Split, contract: Contract) -> NDArray[Any]:
    """Examples from all over a split, as the model takes them."""
    index = np.linspace(0, len(split) - 1, min(LOOKED_AT, len(split))).astype(np.int64)
    return prepare(contract, np.asarray(split.raw[index])).astype(np.float64)


def _reading(quantity: str, unit: str, value: float, **conditions: Scalar) -> Sample:
    values = np.array([float(value)])
    return Sample(quantity=quantity, unit=unit, values=values, conditions=conditions, provenance="counted")
