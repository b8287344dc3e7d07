"""Rounds that are made up, with known ratios and a clock that follows a script: the logic of `compare` without processes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from steelyard.measure.turns import Rehearsal
from steelyard.records import Comparison, Sample


def comparison(
    logs: Mapping[str, np.ndarray], *, slots: int = 4, round_s: float = 2.0, began_s: float = 0.0
) -> Comparison:
    """One reading a round for each arm, alike in all slots; the first arm takes 10 ms."""
    rounds = len(next(iter(logs.values())))
    seconds = 0.01 * np.exp(np.stack([np.zeros(rounds), *logs.values()], axis=1))
    shape = (rounds, slots, len(logs) + 1)
    return Comparison(
        arms=("first", *logs),
        batch=1,
        seconds=np.broadcast_to(seconds[:, None, :], shape).copy(),
        order=np.broadcast_to(np.arange(shape[2], dtype=np.int32), shape).copy(),
        ended_s=began_s + round_s * np.arange(1, rounds + 1),
        readings=tuple(
            (Sample(quantity="memory_running_bytes", unit="byte", values=np.full(rounds, 1e6)),)
            for _ in range(shape[2])
        ),
    )


class Script:
    """Stands in for `rehearse` and `rounds`: a ratio, a spread, and how long a round lasts."""

    def __init__(
        self, ratio: float = 1.0, spread: float = 0.002, *, round_s: float = 2.0, control: float = 1.0, seed: int = 0
    ) -> None:
        self.ratio, self.spread, self.round_s, self.control = ratio, spread, round_s, control
        self._rng = np.random.default_rng(seed)
        self.played = 0
        self.fails_in: int | None = None
        self.failure: Exception | None = None
        self.flags: tuple[str, ...] = ()

    def rehearse(self, arms: Any, settings: Any, **_: Any) -> Rehearsal:
        """A quarter of a round to start, and slots that fill the rest."""
        call = {"given": "a number", "finite": True}
        return Rehearsal(
            start_s=self.round_s / 2 + 3 * 0.4,
            turn_s=self.round_s / 24,
            calls=(call, call, call),
            warm=(np.full(50, 0.001),) * 3,
            spread=0.01,
        )

    def rounds(
        self, arms: Any, settings: Any, *, done: int = 0, spent_s: float = 0.0, **_: Any
    ) -> Iterator[Comparison]:
        while True:
            done += 1
            if done == self.fails_in and self.failure is not None:
                raise self.failure
            self.played += 1
            spent_s += self.round_s
            logs = {
                "second": np.log(self.ratio) + self._rng.normal(0, self.spread, 1),
                "control": np.log(self.control) + self._rng.normal(0, self.spread, 1),
            }
            found = comparison(logs, slots=settings.slots, round_s=self.round_s, began_s=spent_s - self.round_s)
            yield _flagged(found, tuple(f"round {done}: {flag}" for flag in self.flags))


def _flagged(found: Comparison, flags: tuple[str, ...]) -> Comparison:
    import dataclasses

    return dataclasses.replace(found, flags=flags)
