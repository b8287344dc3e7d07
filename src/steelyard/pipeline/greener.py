"""Beginning a long job when the grid is clean, and ending a training whose gain is no longer worth its energy."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from steelyard.errors import InvalidInput
from steelyard.pipeline.job import Progress
from steelyard.probe.carbon import Start, best_start, read_forecast

__all__ = ["CleanStart", "lasting", "start_words", "wait_until_clean"]

_LOOK_S = 30.0  # how often the wait looks at the clock, which a suspended machine moves


@dataclass(frozen=True, slots=True, kw_only=True)
class CleanStart:
    """Wait for the cleanest hours of a forecast: the job lasts so long, and must be done within so long."""

    forecast: Path
    lasts_s: float
    within_s: float = float("inf")


def wait_until_clean(
    wanted: CleanStart,
    progress: Progress,
    *,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
    sleep: Callable[[float], None] = time.sleep,
) -> Start:
    """Return at the time at which the job emits least. Raises `InvalidInput` for a forecast that is too short or unreadable."""
    began = now()
    start = best_start(read_forecast(wanted.forecast), wanted.lasts_s, now=began, within_s=wanted.within_s)
    whole_s = (start.time - began).total_seconds()
    while (left_s := (start.time - now()).total_seconds()) > 0:
        progress(f"waiting for a cleaner grid until {start.time:%Y-%m-%d %H:%M} UTC", 1 - left_s / whole_s)
        sleep(min(left_s, _LOOK_S))
    return start


def start_words(start: Start) -> str:
    """What the wait brought.

    >>> from datetime import datetime, UTC
    >>> at = datetime(2026, 1, 31, 14, tzinfo=UTC)
    >>> start_words(Start(time=at, g_per_kwh=120.0, at_once_g_per_kwh=200.0))
    'begun at 2026-01-31 14:00 UTC, at 120 g/kWh instead of 200 at once: 40 % less carbon'
    """
    at = f"begun at {start.time:%Y-%m-%d %H:%M} UTC, at {start.g_per_kwh:.3g} g/kWh"
    if start.saved < 0.005:
        return f"{at}: no later hour of the forecast is cleaner"
    return f"{at} instead of {start.at_once_g_per_kwh:.3g} at once: {100 * start.saved:.0f} % less carbon"


def lasting(words: float | None, recipe_s: float | None) -> float:
    """How long the job is taken to last: as said, or as the recipe limits it. Raises `InvalidInput` where neither says."""
    found = words if words is not None else recipe_s
    if found is None:
        raise InvalidInput(
            "--start-when-clean must know how long the training lasts: add --lasts 2h, or seconds=7200 in the recipe"
        )
    return found
