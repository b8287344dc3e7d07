"""The wait for clean hours, with a clock that is moved by hand."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from steelyard.errors import InvalidInput
from steelyard.pipeline.greener import CleanStart, lasting, start_words, wait_until_clean

MIDNIGHT = datetime(2026, 1, 31, tzinfo=UTC)


@pytest.fixture
def forecast(tmp_path: Path) -> Path:
    """Clean from 3:00 to 5:00."""
    rows = [f"2026-01-31T{hour:02}:00,{100 if 3 <= hour < 5 else 300}" for hour in range(8)]
    path = tmp_path / "forecast.csv"
    path.write_text("\n".join(["time,g_per_kwh", *rows]))
    return path


class Clock:
    """Time passes only while it is slept."""

    def __init__(self) -> None:
        self.time = MIDNIGHT
        self.slept: list[float] = []

    def now(self) -> datetime:
        return self.time

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.time += timedelta(seconds=seconds)


def test_it_waits_for_the_clean_hours_and_tells_how_far_it_is(forecast: Path) -> None:
    clock, told = Clock(), []
    wanted = CleanStart(forecast=forecast, lasts_s=7200)
    start = wait_until_clean(wanted, lambda what, share: told.append((what, share)), now=clock.now, sleep=clock.sleep)
    assert clock.time == start.time == MIDNIGHT + timedelta(hours=3)
    assert max(clock.slept) <= 30
    assert told[0] == ("waiting for a cleaner grid until 2026-01-31 03:00 UTC", 0.0)
    assert [share for _, share in told] == sorted(share for _, share in told)
    assert start_words(start).endswith("at 100 g/kWh instead of 300 at once: 67 % less carbon")


def test_a_deadline_before_the_clean_hours_begins_at_once(forecast: Path) -> None:
    clock = Clock()
    wanted = CleanStart(forecast=forecast, lasts_s=7200, within_s=2.5 * 3600)
    start = wait_until_clean(wanted, lambda *_: None, now=clock.now, sleep=clock.sleep)
    assert clock.slept == []
    assert "no later hour of the forecast is cleaner" in start_words(start)


def test_a_job_that_does_not_fit_is_refused_before_any_wait(forecast: Path) -> None:
    clock = Clock()
    with pytest.raises(InvalidInput, match="does not fit"):
        wait_until_clean(
            CleanStart(forecast=forecast, lasts_s=9 * 3600), lambda *_: None, now=clock.now, sleep=clock.sleep
        )


def test_how_long_it_lasts_is_said_or_limited_by_the_recipe() -> None:
    assert (lasting(60.0, 90.0), lasting(None, 90.0)) == (60.0, 90.0)
    with pytest.raises(InvalidInput, match="--lasts 2h"):
        lasting(None, None)
