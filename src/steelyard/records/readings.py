"""What was read, raw, and where."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from steelyard.records.studied import Floats, Scalar

__all__ = ["Environment", "Estimate", "Measurement", "Predictions", "Sample", "Unavailable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a number was taken. Records from machines whose `machine` differs are not comparable."""

    machine: str  # fingerprint of processor, core count, memory and accelerator
    cpu: str
    cores: int
    memory_bytes: int
    instruction_sets: tuple[str, ...]
    accelerators: tuple[str, ...]
    platform: str
    python: str
    packages: Mapping[str, str]
    time: str  # ISO 8601, UTC


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One quantity and its raw readings.

    ``values`` has one entry per reading (iteration, block or Monte Carlo draw); ``blocks``, where present,
    has the same length and names the process or round that each reading came from.
    """

    quantity: str
    unit: str
    values: Floats
    blocks: NDArray[np.int32] | None = None
    conditions: Mapping[str, Scalar] = field(default_factory=dict)  # {"batch": 8}, {"operator": "conv"}
    provenance: str = "measured"  # measured | counted | calibrated | modelled
    note: str = ""
    times_s: Floats | None = None  # of a series: seconds since its run began, one for each value

    @property
    def value(self) -> float:
        """The median reading."""
        return float(np.median(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A quantity that could not be read, and why."""

    quantity: str
    reason: str
    conditions: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Raw per-example outcome of one model on one split, in the split's order.

    ``labels`` and ``predicted`` are class indices; ``p_true`` is the probability given to the true class. ``scores``
    ``(n, classes)`` holds all probabilities, or None where they were too many to keep.
    """

    split: str
    labels: NDArray[np.int32]
    predicted: NDArray[np.int32]
    p_true: NDArray[np.float32]
    classes: int
    scores: NDArray[np.float32] | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each example was predicted right."""
        return np.equal(self.labels, self.predicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Everything read from one model on one machine."""

    subject: str  # fingerprint of the weights or file
    environment: Environment
    readings: tuple[Sample | Unavailable, ...]
    predictions: tuple[Predictions, ...] = ()

    def get(self, quantity: str, **conditions: Scalar) -> Sample | Unavailable:
        """The reading of `quantity` under exactly these conditions, or an `Unavailable` saying it was not taken."""
        for reading in self.readings:
            if reading.quantity == quantity and dict(reading.conditions) == conditions:
                return reading
        return Unavailable(quantity=quantity, reason="not measured in this run", conditions=conditions)

    def all(self, quantity: str) -> tuple[Sample, ...]:
        """Every available reading of `quantity`, whatever its conditions."""
        return tuple(r for r in self.readings if isinstance(r, Sample) and r.quantity == quantity)

    def on(self, split: str) -> Predictions | None:
        """Predictions on `split`, if they were made."""
        return next((p for p in self.predictions if p.split == split), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A point with its interval; derived from a Sample, never stored in its place."""

    quantity: str
    unit: str
    value: float
    low: float
    high: float
    level: float  # two-sided confidence, such as 0.95
    method: str
    n: int
