"""What measuring adds: the timing loop to an inference, a window to a stretch of a program, the monitor to a run.

    python -m benchmarks.overhead

Each is timed beside the same work without it, in one process, taking turns in random order. The bare loop reads the clock
before and after a whole stretch of calls; the measuring loop is the one that workers use
(`steelyard.measure.worker.time_calls`: two clock reads and a list append a call); a window is `steelyard.window`, opened and
closed. What they add is a fixed time, so it is measured on a call that does nothing, where nothing hides it. The monitor
counts the processor time of its own thread. Writes `results/overhead.{md,json}`.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from steelyard.measure.window import Window
from steelyard.measure.worker import time_calls
from steelyard.probe.host import environment
from steelyard.probe.monitor import Monitor
from steelyard.records import Sample
from steelyard.stats.order import median_interval

RESULTS = Path(__file__).parent / "results"
ROUNDS, SLOT_S = 400, 0.004
WATCHED, WATCH_S, RATE_HZ = 12, 3.0, 10.0
_STRETCHES = {"50 us": 5e4, "0.5 ms": 5e5, "1 ms": 1e6, "5 ms": 5e6}


class Added(NamedTuple):
    """Nanoseconds that one thing adds to a call: median with its 95 % interval by order statistics."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        scale, unit = (1e3, "us") if self.value >= 1e3 else (1.0, "ns")
        shown = (f"{v / scale:,.3g}" for v in self)
        return "{} {unit} ({} to {})".format(*shown, unit=unit)


def main() -> None:
    host = environment()
    raw = {name: _turns(loop) for name, loop in _LOOPS.items()}
    added = {name: _added(with_it - bare) for name, (bare, with_it) in raw.items()}
    cores = np.array([_watched() for _ in range(WATCHED)])
    watching = median_interval(cores)
    assert watching is not None
    table = "\n".join(_lines(host.cpu, host.cores, added, watching))
    print(table)
    (RESULTS / "overhead.md").write_text(table)
    seconds = {name: {"bare_s": bare.tolist(), "with_s": with_it.tolist()} for name, (bare, with_it) in raw.items()}
    document = {"cpu": host.cpu, "packages": dict(host.packages), **seconds, "monitor_cores": cores.tolist()}
    (RESULTS / "overhead.json").write_text(json.dumps(document))


def _lines(cpu: str, cores: int, added: dict[str, Added], watching: tuple[float, float, float]) -> Iterator[str]:
    yield from ("# What measuring adds", "")
    yield f"{cpu}, {cores} cores; {ROUNDS} pairs of stretches of {SLOT_S * 1e3:.0f} ms, in random order."
    yield from ("Made by `python -m benchmarks.overhead`. In brackets: 95 % order statistics of the median.", "")
    yield "| | adds to each | " + " | ".join(f"of {name}, at most" for name in _STRETCHES) + " |"
    yield "|---|---|" + "---|" * len(_STRETCHES)
    for name, found in added.items():
        shares = " | ".join(f"{found.high / nanoseconds:.3%}" for nanoseconds in _STRETCHES.values())
        yield f"| {name} | {found} | {shares} |"
    value, low, high = watching
    yield from (
        "",
        f"The monitor at {RATE_HZ:g} Hz takes {value:.2%} of a core ({low:.2%} to {high:.2%}, {WATCHED} runs of {WATCH_S:g} s).",
        "",
    )


def _added(differences: np.ndarray) -> Added:
    found = median_interval(differences)
    assert found is not None
    return Added(*(v * 1e9 for v in found))


def _watched() -> float:
    """Cores that the monitor takes while the machine rests."""
    with Monitor(rate_hz=RATE_HZ) as monitor:
        time.sleep(WATCH_S)
    (cost,) = (r for r in monitor.series() if r.quantity == "monitor_cost_cores")
    assert isinstance(cost, Sample)
    return cost.value


def _nothing(_inputs: object) -> None:
    return None


def _turns(loop: Callable[[int], float]) -> tuple[np.ndarray, np.ndarray]:
    """Seconds a call of the bare loop and of `loop`, one pair a round: each stretch's wall time over its number of calls."""
    rng = np.random.default_rng(0)
    bare, with_it = np.empty(ROUNDS), np.empty(ROUNDS)
    calls = int(SLOT_S / _bare(1000)), max(1, int(SLOT_S / loop(100)))
    for at in range(ROUNDS):
        for which in rng.permutation(2):
            if which:
                bare[at] = _bare(calls[0])
            else:
                with_it[at] = loop(calls[1])
    return bare, with_it


def _bare(calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        _nothing(None)
    return (time.perf_counter() - start) / calls


def _timing_loop(_calls: int) -> float:
    start = time.perf_counter()
    made = len(time_calls(_nothing, None, SLOT_S))
    return (time.perf_counter() - start) / made


def _windows(**asked: bool) -> Callable[[int], float]:
    def loop(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            with Window("step", **asked):
                _nothing(None)
        took = (time.perf_counter() - start) / calls
        Window.forget()
        return took

    return loop


_LOOPS = {
    "the timing loop, an inference": _timing_loop,
    "`steelyard.window`": _windows(),
    "`steelyard.window`, `memory=True`": _windows(memory=True),
}


if __name__ == "__main__":
    main()
