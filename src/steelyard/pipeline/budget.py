"""The time of a job from its first moment to its last: what is left of it is shared by the phases still ahead."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple

from steelyard.pipeline.job import Progress, share_done
from steelyard.probe.clock import Clock, SystemClock

__all__ = ["Budget"]

_LEAST = 0.5  # of what a phase would have of the whole budget: less would be no reading


class _Taken(NamedTuple):
    """A phase that is behind: what was spent before it beside measuring, its part of what was left, its least part."""

    beside_s: float
    part: float
    least: float


@dataclass(slots=True, kw_only=True)
class Budget:
    """`seconds` from now on, for phases of which each counts by its part.

    What a phase takes beside its measuring (processes to start, a model to load) is taken from all that come later, and
    what does not fit any more is left out with a reason. `parts` are those of the phases that are not behind yet.
    """

    seconds: float
    parts: dict[str, float]
    clock: Clock = field(default_factory=SystemClock)
    _began_ns: int = field(init=False)
    _whole: float = field(init=False)
    _behind: list[_Taken] = field(init=False, default_factory=list)
    _accounted_s: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self._began_ns = self.clock.now_ns()
        self._whole = sum(self.parts.values())

    @property
    def left_s(self) -> float:
        """Until the budget is over; below zero once it is."""
        return self.seconds - (self.clock.now_ns() - self._began_ns) / 1e9

    def take(self, *phases: str) -> float:
        """Seconds for `phases`, which are then behind: their parts of what is left, or half of what the whole gave them.

        >>> from steelyard.probe.clock import FakeClock
        >>> clock = FakeClock()
        >>> budget = Budget(seconds=12.0, parts={"a": 1.0, "b": 3.0, "c": 2.0}, clock=clock)
        >>> clock.sleep(6.0)
        >>> budget.take("a", "b"), budget.take("c")
        (4.0, 6.0)
        """
        ahead = sum(self.parts.values())
        mine = sum(self.parts.pop(phase) for phase in phases)
        taken = _Taken(beside_s=self._beside_s(), part=mine / ahead, least=_LEAST * mine / self._whole)
        given_s = max(self.left_s * taken.part, self.seconds * taken.least)
        self._behind.append(taken)
        self._accounted_s += taken.beside_s + given_s
        return given_s

    def _beside_s(self) -> float:
        """What was spent beside the times given, since the last of them."""
        return max(0.0, self.seconds - self.left_s - self._accounted_s)

    def too_short(self, needed_s: float, all_s: float) -> str:
        """Why something of `needed_s` in the phases ahead is left out; empty if there is time.

        It names the budget that would reach all that is left to do, which takes `all_s`. A longer budget makes all phases
        longer: what was spent beside them stays, and of the rest only their part comes to those ahead.

        >>> from steelyard.probe.clock import FakeClock
        >>> budget = Budget(seconds=15.0, parts={"a": 1.0, "b": 1.0}, clock=FakeClock())
        >>> budget.clock.sleep(budget.take("a"))
        >>> budget.too_short(5.0, 5.0), budget.too_short(8.0, 10.0)
        ('', 'the budget of 15 s did not reach it: give --budget 20s')
        """
        if needed_s <= self.left_s:
            return ""
        enough = 5 * math.ceil(self.seconds / 5)
        while self._left_of(enough) < all_s:
            enough += 5
        return f"the budget of {self.seconds:g} s did not reach it: give --budget {enough}s"

    def _left_of(self, seconds: float) -> float:
        """What a budget of so many seconds would have left now."""
        left_s = seconds
        for taken in self._behind:
            left_s -= taken.beside_s
            left_s -= max(left_s * taken.part, seconds * taken.least)
        return left_s - self._beside_s()

    def telling(self, progress: Progress) -> Progress:
        """`progress` told the share of the whole budget that is over."""
        return lambda what, _: progress(what, share_done(self.left_s, self.seconds))
