"""Readings that a gate can judge later: times of several processes kept apart, and no more than is needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from steelyard.measure.process import Limits
from steelyard.measure.turns import Turns, TurnSettings, fitting_slots, take_turns
from steelyard.measure.weigh import WeighSettings, weigh
from steelyard.pipeline.gating.sides import Contender
from steelyard.pipeline.job import Progress
from steelyard.pipeline.prove import MOST_SLOTS, ROUNDS, SLOTS, Cost, cost_of
from steelyard.probe.host import environment
from steelyard.records import Measurement, Sample, Unavailable

__all__ = ["JUDGED", "has_processes", "log_of", "renewed", "slim", "turn_settings", "turns_of", "with_processes"]

JUDGED = ("latency_s", "memory_running_bytes", "stored_bytes", "energy_j", "energy_call_s", "throughput_per_s")
"""What a gate reads of a model."""

MOST_CALLS = 300  # kept of one process, spread evenly over it


def slim(measured: Measurement, *, scores: bool = False) -> Measurement:
    """What a gate reads of a model, no larger than it must be: some calls of each process, spread evenly over it."""
    readings = tuple(_thinned(r) for r in measured.readings if r.quantity in JUDGED)
    made = tuple(p if scores else dataclasses.replace(p, scores=None) for p in measured.predictions)
    return dataclasses.replace(measured, readings=readings, predictions=made)


def has_processes(measured: Measurement | None) -> bool:
    """Whether times of more than one process were kept apart."""
    latency = None if measured is None else measured.get("latency_s", batch=1)
    return isinstance(latency, Sample) and latency.blocks is not None and len(np.unique(latency.blocks)) > 1


def with_processes(
    side: Contender,
    aside: Path,
    seconds: float,
    seed: int,
    limits: Limits,
    progress: Progress,
    what: str,
    *,
    again: bool = False,
) -> Measurement | None:
    """A side's readings with times of ten fresh processes, taken now where there are none yet, or `again`."""
    if side.artifact is None or side.inputs is None or (has_processes(side.measured) and not again):
        return side.measured
    inputs = aside / "inputs.npy"
    np.save(inputs, side.inputs())
    measured = side.measured
    if measured is None or measured.environment.machine != environment().machine:
        progress(f"weighing {side.word}", None)
        measured = weigh(
            side.artifact, inputs, WeighSettings(operator_runs=1, count=False), limits=limits, log=log_of(aside)
        )
        made = side.on_test
        measured = dataclasses.replace(measured, predictions=() if made is None else (made,))
    settings = turn_settings([cost_of(measured, 0)], seconds, seed)
    turns = turns_of({"model": side.artifact.folder}, inputs, settings, limits, progress, what)
    return dataclasses.replace(renewed(measured, turns.readings[0]), environment=environment())


def turns_of(
    folders: Mapping[str, Path], inputs: Path, settings: TurnSettings, limits: Limits, progress: Progress, what: str
) -> Turns:
    def say(done: int) -> None:
        progress(f"{what}, round {done} of {settings.rounds}", done / settings.rounds)

    return take_turns(folders, inputs, settings, limits=limits, log=log_of(inputs.parent), on_round=say)


def turn_settings(arms: Sequence[Cost], seconds: float, seed: int) -> TurnSettings:
    """Ten rounds, with as many slots as the time has room for; a slow model takes longer than it was given."""
    round_s = seconds / ROUNDS - sum(arm.start_s for arm in arms) / 2
    pass_s = sum(arm.turn_s for arm in arms)
    slots = int(np.clip(round_s / pass_s, fitting_slots(pass_s, SLOTS), MOST_SLOTS))
    return TurnSettings(rounds=ROUNDS, slots=slots - slots % 2, seed=seed)


def log_of(aside: Path) -> Path:
    return aside / "workers.log"


def renewed(measured: Measurement, newer: Sequence[Sample | Unavailable]) -> Measurement:
    """What a gate judges, with some of it read again."""
    names = {r.quantity for r in newer}
    kept = (r for r in measured.readings if r.quantity in JUDGED and r.quantity not in names)
    return dataclasses.replace(measured, readings=(*newer, *kept))


def _thinned(reading: Sample | Unavailable) -> Sample | Unavailable:
    if isinstance(reading, Unavailable) or reading.quantity not in ("latency_s", "throughput_per_s"):
        return reading
    blocks = np.zeros(len(reading.values), dtype=np.int32) if reading.blocks is None else reading.blocks
    rows = [np.flatnonzero(blocks == block) for block in np.unique(blocks)]
    chosen = np.concatenate([r[np.linspace(0, len(r) - 1, min(len(r), MOST_CALLS)).round().astype(int)] for r in rows])
    kept = None if reading.blocks is None else reading.blocks[chosen]
    return dataclasses.replace(reading, values=reading.values[chosen], blocks=kept)
