"""Whether a training still gains what its energy is worth."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from steelyard.probe.energy import energy, read_counters
from steelyard.probe.host import environment
from steelyard.probe.memory import rss_bytes
from steelyard.records import Unavailable

__all__ = ["Worth", "gain_per_kj", "joules_meter"]

SPAN = 2  # epochs over which the gain is taken: one alone is mostly chance


def joules_meter() -> Callable[[], float | None]:
    """What this process has taken since now, in joules: by the machine's counters, else the median of the model; None unknown."""
    host, counters = environment(), read_counters()
    wall, cpu = time.perf_counter(), time.process_time()

    def spent() -> float | None:
        seconds = time.perf_counter() - wall
        before, after = (counters, read_counters()) if not isinstance(counters, Unavailable) else (None, None)
        found = energy(seconds, time.process_time() - cpu, rss_bytes(), host, before=before, after=after, draws=400)
        return None if isinstance(found, Unavailable) else found.value

    return spent


def gain_per_kj(scores: Sequence[float], joules: Sequence[float], span: int = SPAN) -> float | None:
    """Points by which the best score rose over the last `span` epochs, a kilojoule; None where fewer have passed.

    ``scores`` are shares of each epoch, ``joules`` what had been spent by its end.

    >>> gain_per_kj([0.50, 0.60, 0.61, 0.605], [1e3, 2e3, 3e3, 4e3])
    0.5
    """
    if len(scores) <= span or len(joules) < len(scores):
        return None
    gained = max(scores) - max(scores[:-span])
    spent = joules[-1] - joules[-1 - span]
    return round(100 * gained / (spent / 1e3), 9) if spent > 0 else None


class Worth:
    """Watches scores and energy; after a resume it begins to count anew."""

    def __init__(self, least: float | None, meter: Callable[[], float | None] | None = None) -> None:
        self._least = least
        self._meter = (meter or joules_meter()) if least is not None else None
        self._scores: list[float] = []
        self._joules: list[float] = []

    def over(self, score: float) -> bool:
        """Told the score at the end of an epoch: whether the last epochs gained less than they should."""
        if self._least is None or self._meter is None:
            return False
        spent = self._meter()
        if spent is None:
            return False
        self._scores.append(score)
        self._joules.append(spent)
        gained = gain_per_kj(self._scores, self._joules)
        return gained is not None and gained < self._least
