"""Trainings that are made up: how many examples they took, when they reached what, and which answers they got right."""

from __future__ import annotations

import numpy as np

from steelyard.probe.host import environment
from steelyard.records import Contract, Predictions, Sample, SubjectSpec, TrainingRun, Watched

EPOCH = 10  # steps
EXAMPLES = 32  # a step


def training(
    right: float = 0.9,
    *,
    seed: int = 0,
    curve: tuple[float, ...] = (0.5, 0.8, 0.9),
    watts: float = 20.0,
    judged: int = 2_000,
    churn: float = 0.02,
    ended: str = "done",
) -> TrainingRun:
    """Its answers are those of every other made with the same seed, but for `churn` of them and what `right` takes away."""
    steps = EPOCH * len(curve)
    zeros = np.zeros(steps)
    return TrainingRun(
        spec=SubjectSpec(source="model.py"),
        contract=Contract(shape=(4,), labels=("a", "b")),
        recipe={"seed": seed},
        environment=environment(),
        version="",
        loss=zeros,
        learning_rate=zeros,
        step_s=zeros + 0.1,
        wait_s=zeros,
        examples=np.full(steps, EXAMPLES),
        steps_per_epoch=EPOCH,
        ended=ended,  # type: ignore[arg-type]
        note="the loss became nan" if ended == "diverged" else "",
        validation=np.array(curve),
        predictions=tuple(_answers(split, right, seed, judged, churn) for split in ("validation", "test")),
        watched=_watched(watts),
    )


def _answers(split: str, right: float, seed: int, count: int, churn: float) -> Predictions:
    fate = np.random.default_rng([len(split), 1]).random(count)
    shaken = np.random.default_rng([seed, round(1e4 * right), len(split)]).random(count) < churn
    correct = np.where(shaken, np.random.default_rng(seed).random(count), fate) < right
    labels = np.zeros(count, dtype=np.int32)
    return Predictions(
        split=split,
        labels=labels,
        predicted=np.where(correct, 0, 1).astype(np.int32),
        p_true=np.where(correct, 0.9, 0.1).astype(np.float32),
        classes=2,
    )


def _watched(watts: float) -> Watched:
    draws = watts * 60 * np.exp(np.random.default_rng(0).normal(0, 0.3, 200))
    none = np.zeros(0)
    return Watched(
        name="",
        environment=environment(),
        version="",
        phases=(),
        phases_s=np.zeros((0, 0)),
        loss=none,
        learning_rate=none,
        examples=none.astype(np.int64),
        readings=(
            Sample(quantity="wall_s", unit="s", values=np.array([60.0])),
            Sample(quantity="energy_j", unit="J", values=draws, provenance="modelled"),
        ),
    )
