"""Carbon: energy times what a kilowatt-hour emits, by region and year, or by hour where the user names a forecast.

Factors stand in ``grid.json``, each with its year and source. A yearly figure is a range: it ages, and publishers count
differently (life cycle, or at the stack only). Both the energy's draws and the factor's go into the carbon's interval.
"""

from __future__ import annotations

import csv
import json
import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.records import Floats, GridFactor, Sample
from steelyard.stats.draws import emission_draws, name_seed

__all__ = [
    "Forecast",
    "Start",
    "best_start",
    "carbon",
    "grid",
    "grid_factor",
    "named_region",
    "read_forecast",
    "regions",
]

VARIABLE = "STEELYARD_REGION"


def named_region(region: str | None) -> str | None:
    """The region the user named: in the call, else by the variable ``STEELYARD_REGION``; None where none is named."""
    return region or os.environ.get(VARIABLE) or None


def regions() -> tuple[str, ...]:
    """Every name that `grid_factor` knows: ISO 3166 codes, US grid subregions, and regions of three clouds."""
    table = _table()
    return (*table["regions"], *table["aliases"])


def grid_factor(region: str) -> GridFactor:
    """The newest yearly factor of a region, with its range and source.

    >>> factor = grid_factor("fr")
    >>> factor.name, factor.g_per_kwh, factor.year
    ('France', 44.0, 2024)

    Raises `InvalidInput` with the nearest names for one that is not known.
    """
    table = _table()
    names = {name.lower(): name for name in regions()}
    known = names.get(region.strip().lower())
    if known is None:
        near = get_close_matches(region.lower(), names, 3, 0.5)
        hint = ", ".join(names[n] for n in near) or "FR, US, WORLD, us-east-1 (AWS), westeurope (Azure), europe-west9"
        raise InvalidInput(f"no grid factor for the region {region!r}; there is {hint}")
    alias = table["aliases"].get(known)
    row = table["regions"][alias["region"] if alias else known]
    value, span = float(row["g_per_kwh"]), table["range"]
    earlier = row.get("earlier", {}).values()
    return GridFactor(
        region=known,
        name=alias["name"] if alias else row["name"],
        g_per_kwh=value,
        low=min(span["low"] * value, *earlier, span["high"] * value),
        high=max(span["high"] * value, *earlier, span["low"] * value),
        year=row["year"],
        source=table["sources"][row["source"]]["title"],
    )


def grid(region: str) -> tuple[GridFactor, ...]:
    """The region's factor first, then those of the regions that it is compared with."""
    here = grid_factor(region)
    others = (grid_factor(name) for name in _table()["compared"])
    return (here, *(other for other in others if other.name != here.name))


def carbon(energy: Sample, region: str | GridFactor, draws: int = 4000) -> Sample:
    """Draws of the grams of CO2 equivalent of an energy in joules: energy draws times factor draws.

    The spread holds both doubts. Draws of a region's factor are the same for every energy, so they cancel in a ratio of
    two models there; those of two regions are independent. Raises `InvalidInput` for an unknown region, or a sample that is no energy.

    >>> energy = Sample(quantity="energy_j", unit="J", values=np.array([3.6e6]))  # one kilowatt-hour
    >>> carbon(energy, "FR").values.round().astype(int)[:3].shape, round(carbon(energy, "FR").value)
    ((3,), 44)
    """
    if energy.unit != "J":
        raise InvalidInput(f"carbon is made of an energy in J, got {energy.quantity} in {energy.unit}")
    factor = grid_factor(region) if isinstance(region, str) else region
    values = emission_draws(
        energy.values, factor.g_per_kwh, factor.low, factor.high, draws, seed=name_seed(factor.region)
    )
    return Sample(
        quantity="carbon_g",
        unit="gCO2e",
        values=values,
        conditions={**energy.conditions, "region": factor.region},
        provenance=energy.provenance,
        note=f"{energy.note}; grid of {factor.name}, {factor.year}: {factor.source}",
    )


@cache
def _table() -> dict[str, Any]:
    return dict(json.loads(resources.files("steelyard.probe").joinpath("grid.json").read_text(encoding="utf-8")))


# --- by hour -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Forecast:
    """Grid factors over time: ``g_per_kwh[i]`` holds from ``starts[i]`` to ``starts[i + 1]``, in seconds since 1970.

    ``starts`` has one entry more: the last interval is taken as long as the one before it.
    """

    starts: Floats  # (n + 1,)
    g_per_kwh: Floats  # (n,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """When to begin, what a kilowatt-hour then emits on average, and what it would emit if the work began at once."""

    time: datetime
    g_per_kwh: float
    at_once_g_per_kwh: float

    @property
    def saved(self) -> float:
        """The share of the carbon that waiting saves, 0 to 1."""
        return 1 - self.g_per_kwh / self.at_once_g_per_kwh if self.at_once_g_per_kwh else 0.0


def read_forecast(path: Path) -> Forecast:
    """Read a forecast: CSV with a header, or JSON with a list of objects; columns ``time`` and ``g_per_kwh``.

    Times are ISO 8601, in UTC unless they say otherwise, and ascend. Raises `InvalidInput` with the line and the cure.
    """
    rows = list(_rows(path))
    if len(rows) < 2:
        raise InvalidInput(
            f"{path} holds {len(rows)} time(s) of a forecast; two are needed to know how long each lasts"
        )
    times, values = (np.array(column) for column in zip(*rows, strict=True))
    steps = np.diff(times)
    if not (steps > 0).all():
        line = int(np.argmin(steps > 0)) + 2
        raise InvalidInput(f"{path}: entry {line} is not later than the one before: sort the forecast by time")
    if not (np.isfinite(values).all() and (values >= 0).all()):
        bad = int(np.argmin(np.isfinite(values) & (values >= 0))) + 1
        raise InvalidInput(f"{path}: entry {bad} has {values[bad - 1]:g} g/kWh; it must be a number of 0 or more")
    return Forecast(starts=np.append(times, times[-1] + steps[-1]), g_per_kwh=values)


def _rows(path: Path) -> Iterable[tuple[float, float]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
        entries = json.loads(text) if path.suffix.lower() == ".json" else list(csv.DictReader(text.splitlines()))
    except OSError as error:
        raise InvalidInput(f"cannot read the forecast {path}: {error.strerror}") from None
    except (ValueError, csv.Error) as error:
        raise InvalidInput(f"cannot read the forecast {path}: {error}") from None
    if not isinstance(entries, list):
        raise InvalidInput(f"{path} must hold a list of objects with time and g_per_kwh")
    for number, entry in enumerate(entries, 1):
        yield _row(path, number, entry)


def _row(path: Path, number: int, entry: Any) -> tuple[float, float]:
    if not isinstance(entry, Mapping) or not {"time", "g_per_kwh"} <= entry.keys():
        found = ", ".join(map(str, entry)) if isinstance(entry, Mapping) else repr(entry)
        raise InvalidInput(f"{path}: entry {number} has {found}; columns time and g_per_kwh are needed")
    try:
        time = datetime.fromisoformat(str(entry["time"]).strip())
        return time.replace(tzinfo=time.tzinfo or UTC).timestamp(), float(entry["g_per_kwh"])
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{path}: entry {number} cannot be read ({error}): write 2026-01-31T14:00,210") from None


def best_start(forecast: Forecast, seconds: float, *, now: datetime | None = None, within_s: float = math.inf) -> Start:
    """When to begin work of `seconds` at steady power so that it emits least and ends within `within_s` from `now`.

    The mean factor over a window is piecewise linear in where it begins, so the least lies where the window begins or ends
    at a step of the forecast, or at either end of what is allowed: those are tried, the earliest of equals is taken. Raises
    `InvalidInput` where the work does not fit.
    """
    if not 0 < seconds < math.inf:
        raise InvalidInput(f"the work must take a positive time, got {seconds:g} s")
    starts = forecast.starts
    first = max(starts[0], (now or datetime.now(UTC)).timestamp())
    last = min(starts[-1], first + within_s) - seconds
    if last < first:
        left = max(0.0, min(starts[-1] - first, within_s)) / 3600
        raise InvalidInput(
            f"work of {seconds / 3600:.3g} h does not fit into the {left:.3g} h that the forecast and the deadline leave"
        )
    tried = np.unique(np.clip(np.concatenate([[first, last], starts, starts - seconds]), first, last))
    means = (_emitted(forecast, tried + seconds) - _emitted(forecast, tried)) / seconds
    chosen = int(np.argmin(np.round(means, 9)))
    return Start(
        time=datetime.fromtimestamp(tried[chosen], UTC),
        g_per_kwh=float(means[chosen]),
        at_once_g_per_kwh=float(means[0]),
    )


def _emitted(forecast: Forecast, times: Floats) -> Floats:
    """Integral of the factor from the beginning to each time: linear between the steps."""
    whole = np.concatenate([[0.0], np.cumsum(forecast.g_per_kwh * np.diff(forecast.starts))])
    return np.asarray(np.interp(times, forecast.starts, whole))
