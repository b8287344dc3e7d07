"""What measuring adds to one inference: the timing loop beside a bare loop, in one process, taking turns.

    python -m benchmarks.overhead

The bare loop reads the clock before and after a whole stretch of calls; the measuring loop is the one that workers use
(`steelyard.measure.worker.time_calls`: two clock reads and a list append a call). What it adds is a fixed time a call, so
it is measured on a call that does nothing, where nothing hides it. Writes `results/overhead.{md,json}`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from steelyard.measure.worker import time_calls
from steelyard.probe.host import environment
from steelyard.stats.order import median_interval

RESULTS = Path(__file__).parent / "results"
ROUNDS, SLOT_S = 400, 0.004


def main() -> None:
    bare, loop = _turns(_nothing)
    found = median_interval(loop - bare)
    assert found is not None
    added, low, high = (v * 1e9 for v in found)
    host = environment()
    table = "\n".join(
        [
            "# What measuring adds to one inference",
            "",
            f"{host.cpu}, {host.cores} cores; {ROUNDS} pairs of stretches of {SLOT_S * 1e3:.0f} ms, in random order.",
            "Made by `python -m benchmarks.overhead`.",
            "",
            f"The measuring loop adds {added:.0f} ns a call ({low:.0f} to {high:.0f}, 95 % order statistics of the median).",
            "",
            "| inference of | it adds |",
            "|---|---|",
            *(f"| {name} | {high / nanoseconds:.3%} at most |" for name, nanoseconds in _INFERENCES.items()),
            "",
        ]
    )
    print(table)
    (RESULTS / "overhead.md").write_text(table)
    raw = {"cpu": host.cpu, "packages": dict(host.packages), "bare_s": bare.tolist(), "loop_s": loop.tolist()}
    (RESULTS / "overhead.json").write_text(json.dumps(raw))


_INFERENCES = {"50 us": 5e4, "0.5 ms": 5e5, "5 ms": 5e6}


def _nothing(_inputs: object) -> None:
    return None


def _turns(call: Callable[[object], object]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds a call of both loops, one pair a round: each stretch's wall time over its number of calls."""
    rng = np.random.default_rng(0)
    bare, loop = np.empty(ROUNDS), np.empty(ROUNDS)
    calls = int(SLOT_S / _bare(call, 1000))
    for at in range(ROUNDS):
        for which in rng.permutation(2):
            if which:
                bare[at] = _bare(call, calls)
            else:
                loop[at] = _loop(call)
    return bare, loop


def _bare(call: Callable[[object], object], calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call(None)
    return (time.perf_counter() - start) / calls


def _loop(call: Callable[[object], object]) -> float:
    start = time.perf_counter()
    made = len(time_calls(call, None, SLOT_S))
    return (time.perf_counter() - start) / made


if __name__ == "__main__":
    main()
