"""What the user asks of a gate, and what kind of quantity each requirement is about."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from steelyard.measure.process import Limits
from steelyard.metrics.table import quality
from steelyard.records import Requirement

__all__ = ["GateJob", "is_cost", "is_time"]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateJob:
    """What a gate is asked.

    ``noise_floor`` is a log-ratio: no limit on a ratio of times is set closer to 1. None takes it from the machine's
    history of A/A controls, which a gate also adds to; ``history=False`` leaves that alone.
    """

    baseline: Path
    candidate: Path
    requirements: tuple[Requirement, ...]
    budget_s: float = 120.0
    data: str | None = None
    stored: bool = False  # do not measure, though both could be run
    allow_unlike_machines: bool = False
    undecided: Literal["pass", "fail"] = "pass"
    noise_floor: float | None = None
    history: bool = True
    out: Path | None = None
    limits: Limits = field(default_factory=Limits)
    command: tuple[str, ...] = ()


def is_time(quantity: str) -> bool:
    """Latency or one of its percentiles."""
    return quantity == "latency" or (quantity.startswith("p") and quantity[1:2].isdigit())


def is_cost(requirement: Requirement) -> bool:
    """A quantity that varies from one measurement to the next, so that measuring again can change the verdict."""
    return requirement.quantity != "size" and quality(requirement.quantity) is None
