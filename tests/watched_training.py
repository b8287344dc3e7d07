"""Records of trainings as they might have been, for the diagnosis and the page."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from steelyard.records import Environment, Sample, Unavailable, Watched
from steelyard.trainer.watch import PHASES

ENVIRONMENT = Environment(
    machine="m", cpu="a processor", cores=4, memory_bytes=1 << 34, instruction_sets=(), accelerators=(), platform="Linux",
    python="3.11", packages={}, time="2026-01-01T00:00:00Z",
)  # fmt: skip


def reading(quantity: str, *values: float, unit: str = "count", **where: Any) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=np.array(values, dtype=float), conditions=where)


def watched(steps: int = 120, per_epoch: int = 12, seed: int = 0, **changes: Any) -> Watched:
    """A healthy training: 64 examples a step, losses that fall from 2.3 to 0.1, steps of 10 ms."""
    rng = np.random.default_rng(seed)
    epochs = steps // per_epoch
    falling = 0.1 + 2.2 * np.exp(-np.arange(steps) / (steps / 8))
    ends = (np.arange(epochs) + 1) * per_epoch
    share = np.array([0.02, 0.3, 0.55, 0.08, 0.0, 0.05])
    layers = ("first", "second", "third", "last")
    sampled = np.arange(0, steps, 10)
    usual = Watched(
        name="healthy",
        environment=ENVIRONMENT,
        version="0",
        phases=PHASES,
        phases_s=0.01 * share * rng.lognormal(0, 0.02, (steps, 1)),
        loss=falling * rng.lognormal(0, 0.03, steps),
        learning_rate=np.linspace(0.1, 0.01, steps),
        examples=np.full(steps, 64),
        epochs=np.arange(epochs),
        epoch_ends=ends,
        outside_s=np.full(epochs, 0.01),
        scores={
            "validation": 1 - 0.3 * falling[ends - 1] / 2.3,
            "validation_loss": falling[ends - 1] + 0.05,
            "training": 1 - 0.2 * falling[ends - 1] / 2.3,
        },
        score_examples=500,
        sampled=sampled,
        layers=layers,
        gradient_norms=rng.lognormal(0, 0.2, (len(sampled), len(layers))),
        weight_norms=np.full((len(sampled), len(layers)), 5.0),
        updates=np.full((len(sampled), len(layers)), 1e-3),
        activations=("rectifier 1", "rectifier 2"),
        dead_share=np.full((epochs, 2), 0.05),
        label_counts=(100,) * 10,
        loader={"num_workers": 0},
        readings=(
            *(
                reading("training_memory_bytes", size, unit="byte", role=role)
                for role, size in (("weights", 4e6), ("gradients", 4e6), ("optimiser", 8e6), ("activations", 3e7))
            ),
            reading("forward_operators", 20.0),
            reading("dispatch_s", 3e-6, unit="s"),
            reading("evaluation_mode", 0.0),
            reading("kept_gradients_share", 0.0),
            reading("batch_classes", 10.0),
            reading("input_rms", 1.0),
            reading("energy_j", 40.0, 50.0, 60.0, unit="J"),
            reading("epoch_energy_j", *([5.0] * epochs), unit="J"),
            Unavailable(quantity="clock_hz", reason="the kernel shows no clock"),
        ),
    )
    return dataclasses.replace(usual, **changes)


def with_reading(found: Watched, quantity: str, value: float) -> Watched:
    others = tuple(r for r in found.readings if r.quantity != quantity)
    return dataclasses.replace(found, readings=(*others, reading(quantity, value)))


def with_phases(found: Watched, **seconds: float) -> Watched:
    """Other seconds for these phases, at every step."""
    spent = found.phases_s.copy()
    for name, value in seconds.items():
        spent[:, PHASES.index(name)] = value
    return dataclasses.replace(found, phases_s=spent)
