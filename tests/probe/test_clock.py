import pytest

from steelyard.errors import InvalidInput
from steelyard.probe.clock import Clock, FakeClock, SystemClock


def test_system_clock_never_goes_back_and_sleeps_at_least_as_long_as_asked():
    clock: Clock = SystemClock()
    before = clock.now_ns()
    clock.sleep(0.001)
    assert clock.now_ns() - before >= 1_000_000


def test_fake_clock_follows_its_script_then_stands_still():
    clock = FakeClock(start_ns=5, steps_ns=[1, 2])
    assert [clock.now_ns() for _ in range(4)] == [5, 6, 8, 8]
    clock.sleep(2)
    assert clock.now_ns() == 2_000_000_008


def test_fake_clock_refuses_to_go_back():
    with pytest.raises(InvalidInput, match="-1 ns"):
        FakeClock().advance(-1)
