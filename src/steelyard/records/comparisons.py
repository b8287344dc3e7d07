"""What a comparison found."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from steelyard.records.evaluations import Difference
from steelyard.records.readings import Environment, Estimate, Unavailable
from steelyard.records.runs import Comparison
from steelyard.records.studied import Scalar

__all__ = ["Compared", "ControlReading"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The record of `steelyard compare`: its words first, each round as a `Comparison` of one, and this again at the end.

    `steelyard.store.read_compared` puts the rounds into ``comparison``, whose arms are ``first``, ``second`` and
    ``control``; the first is the baseline, and a ratio under 1 means that the second is faster.
    """

    kind: Literal["models", "callables", "commands"]
    names: tuple[str, str]  # short, for people
    sources: tuple[str, str]  # as the user gave them
    digests: tuple[str, str]  # of the files behind them, so that a resumed run measures the same things
    command: tuple[str, ...]  # the words that repeat it
    band: float  # 0.02: ratios within 1 / 1.02 to 1.02 are equivalent
    level: float  # of the whole answer
    time_level: float  # of the time's interval: Holm over the time and the metrics, known before the first round
    batch: int
    slots: int  # turns of each arm in a round
    slot_s: float
    warm_s: float
    environment: Environment
    round_s: float  # what a round takes, by a rehearsal that is not recorded
    detectable: float | None = None  # the least difference the budget would find nine times in ten; None: none at all
    detectable_from: str = ""  # what that was told from
    data: str | None = None
    examples: int = 0
    options: Mapping[str, Scalar] = field(default_factory=dict)
    qualities: tuple[tuple[Estimate | Unavailable, Estimate | Unavailable], ...] = ()  # of both, one pair a metric
    differences: tuple[Difference, ...] = ()  # the same metrics, paired
    comparison: Comparison | None = None
    outcome: Literal["faster", "slower", "equivalent", "undecided"] = "undecided"
    ratio: Estimate | None = None  # second over first: the confidence sequence at its last look, widened if need be
    control: Estimate | None = None  # first over itself
    control_alarm: bool = False
    noise_floor: float | None = None  # what this machine "finds" between a model and itself
    advice: str = ""  # what would decide it
    warnings: tuple[str, ...] = ()
    wall_s: float = 0.0  # of the measuring, over all sittings
    time: str = ""  # ISO 8601, UTC
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReading:
    """What one A/A control found on a machine: kept beside the runs, for the machine's noise floor."""

    machine: str
    kind: str
    log_ratio: float
    spread: float  # standard deviation of the second's rounds, in logs
    rounds: int
    slots: int
    time: str


_TYPES: dict[str, type] = {
    cls.__name__: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == __name__
}
