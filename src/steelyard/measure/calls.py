"""The timing loop. It imports little, so that a process which only times calls begins at once."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["time_calls"]


def time_calls(
    call: Callable[[Any], object], inputs: object, seconds: float, *, clock: Callable[[], int] = time.perf_counter_ns
) -> NDArray[np.float64]:
    """Seconds of each call, repeated until `seconds` have passed on the `clock` of nanoseconds (at least three calls).

    Two clock reads and a list append stand between calls: about 0.2 microseconds (`benchmarks/overhead.py`). The garbage
    collector rests meanwhile, as in `timeit`.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        times: list[int] = []
        end = clock() + int(seconds * 1e9)
        now = 0
        while now < end or len(times) < 3:
            start = clock()
            call(inputs)
            now = clock()
            times.append(now - start)
    finally:
        if collecting:
            gc.enable()
    return np.array(times, dtype=np.float64) / 1e9
