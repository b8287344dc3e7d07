"""`steelyard carbon`: what many inferences of a run's model take and emit, here, elsewhere, or begun later."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from steelyard.errors import InvalidInput
from steelyard.probe.carbon import Start, best_start, grid, named_region, read_forecast
from steelyard.records import Estimate, GridFactor, RunRecords, Unavailable
from steelyard.report import derive
from steelyard.report import energy as joules
from steelyard.store import read_records

__all__ = ["Footprint", "footprint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Footprint:
    """The energy and carbon of `inferences`, one after the other at batch 1."""

    model: str  # the plan it was made by
    inferences: int
    seconds: float
    energy: Estimate
    grids: tuple[joules.Elsewhere, ...]  # carbon of all inferences, cleanest grid first; `ratio` is None here
    start: Start | None = None  # the best of the forecast, where one was given


def footprint(
    folder: Path,
    inferences: int,
    *,
    region: str | None = None,
    forecast: Path | None = None,
    within_s: float | None = None,
) -> Footprint:
    """From a run's records alone. The region is the one named here, else the run's, else ``STEELYARD_REGION``.

    Raises `InvalidInput` for a folder without an energy, no region, or a forecast that cannot be read or is too short.
    """
    records = read_records(folder)
    pair = derive.compared(records)
    measured = pair.after or pair.before
    each = joules.per_inference(measured)
    call_s = derive.reading(measured, "energy_call_s", batch=1)
    if isinstance(each, Unavailable) or isinstance(call_s, Unavailable):
        reason = each.reason if isinstance(each, Unavailable) else "the run is older than this command: run it again"
        raise InvalidInput(f"{folder} holds no energy of an inference: {reason}")
    seconds = inferences * call_s.value
    start = None
    if forecast is not None:
        within = float("inf") if within_s is None else within_s
        start = best_start(read_forecast(forecast), seconds, within_s=within)
    return Footprint(
        model=str(pair.plan),
        inferences=inferences,
        seconds=seconds,
        energy=joules.times(each, inferences),
        grids=joules.elsewhere(measured, _grid(records, region), inferences),
        start=start,
    )


def _grid(records: RunRecords, region: str | None) -> tuple[GridFactor, ...]:
    if region is None and records.run.grid:
        return records.run.grid
    named = named_region(region)
    if named is None:
        raise InvalidInput("name the region whose grid powers the machine: --region FR, or set STEELYARD_REGION")
    return grid(named)
