"""What happened between two moments, from made-up clocks and counters."""

from __future__ import annotations

import dataclasses

import pytest

from steelyard.probe.host import Pressure
from steelyard.probe.watch import Moment, disturbances, moment

QUIET = Pressure(
    cpu_s=100.0,
    steal_s=0.0,
    throttled_s=0.0,
    throttled_periods=0,
    involuntary_switches=0,
    load_average=0.0,
    busy_s=10.0,
)
BEFORE = Moment(pressure=QUIET, wall_s=1e9, monotonic_s=50.0, boot_s=60.0, own_s=5.0)


def later(
    *, seconds: float = 10.0, wall: float = 0.0, asleep: float = 0.0, others: float = 0.0, **pressure: float
) -> Moment:
    """Ten seconds on two cores, one of them ours."""
    counters = dataclasses.replace(QUIET, cpu_s=100.0 + 2 * seconds, busy_s=10.0 + seconds + others, **pressure)
    return Moment(
        pressure=counters, wall_s=1e9 + seconds + asleep + wall, monotonic_s=50.0 + seconds, boot_s=60.0 + seconds + asleep,
        own_s=5.0 + seconds,
    )  # fmt: skip


def test_nothing_happened() -> None:
    assert disturbances(BEFORE, later()) == ()


@pytest.mark.parametrize(
    ("after", "flag"),
    [
        (later(wall=3600.0), "the wall clock was set by +3.6e+03 s"),
        (later(wall=-0.2), "the wall clock was set by -0.2 s"),
        (later(asleep=12.0), "the machine slept for 12 s"),
        (later(others=8.0), "other load 40%"),
        (later(steal_s=1.0), "steal 5.0%"),
        (later(throttled_periods=3), "throttled 3 times"),
    ],
)
def test_each_disturbance_is_named_alone(after: Moment, flag: str) -> None:
    assert disturbances(BEFORE, after) == (flag,)


def test_slewing_a_clock_is_no_step() -> None:
    assert disturbances(BEFORE, later(seconds=1000.0, wall=0.4)) == ()  # 400 parts in a million


def test_this_machine_has_moments() -> None:
    before = moment()
    after = moment()
    assert after.monotonic_s >= before.monotonic_s
    assert after.pressure.busy_s >= before.pressure.busy_s > 0
    assert after.own_s >= before.own_s > 0
