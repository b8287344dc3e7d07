"""Time, injected: logic takes a `Clock`, so that its test needs no waiting and is exact."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Protocol

from steelyard.errors import InvalidInput

__all__ = ["Clock", "FakeClock", "SystemClock"]


class Clock(Protocol):
    """A monotonic clock in nanoseconds, and a way to wait."""

    def now_ns(self) -> int:
        """Nanoseconds since an arbitrary start; never goes back."""
        ...

    def sleep(self, s: float) -> None:
        """Wait `s` seconds."""
        ...


class SystemClock:
    """The machine's monotonic performance counter."""

    def now_ns(self) -> int:
        """Nanoseconds of `time.perf_counter_ns`."""
        return time.perf_counter_ns()

    def sleep(self, s: float) -> None:
        """Wait `s` seconds of real time."""
        time.sleep(s)


class FakeClock:
    """A clock that follows a script: each reading advances by the next step, sleeping advances at once.

    ``steps_ns`` are the advances made *after* successive readings; when they run out the clock stands still
    between calls to `sleep` or `advance`.

    >>> clock = FakeClock(steps_ns=[10, 20])
    >>> clock.now_ns(), clock.now_ns(), clock.now_ns()
    (0, 10, 30)
    >>> clock.sleep(1.5)
    >>> clock.now_ns()
    1500000030
    """

    def __init__(self, *, start_ns: int = 0, steps_ns: Iterable[int] = ()) -> None:
        self._now_ns = start_ns
        self._steps = iter(steps_ns)

    def now_ns(self) -> int:
        """The scripted time; then take the next scripted step."""
        now = self._now_ns
        self.advance(next(self._steps, 0))
        return now

    def sleep(self, s: float) -> None:
        """Advance by `s` seconds without waiting."""
        self.advance(round(s * 1e9))

    def advance(self, ns: int) -> None:
        """Move forward by `ns`; `InvalidInput` if negative, because a monotonic clock never goes back."""
        if ns < 0:
            raise InvalidInput(f"a clock cannot go back: {ns} ns; give steps of 0 or more")
        self._now_ns += ns
