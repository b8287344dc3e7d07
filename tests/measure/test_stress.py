"""Stress of a simulated queue whose breaking point is known, and the reading of a recovery."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from steelyard.measure.load import Ramp, Requests, open_loop
from steelyard.measure.stress import StressSettings, recovery_s, stress
from steelyard.probe.clock import FakeClock
from steelyard.records import Sample, Unavailable
from steelyard.stats.order import holding

SERVICE_S = 0.01  # so that it takes 100 requests a second at the most


class Queue:
    """A child with one server of constant service time, in simulated time."""

    def __init__(self, lag_s: float = 0.0) -> None:
        self.simulated_s, self._lag_s = 0.0, lag_s

    def call(self, method: str, *, callers: int, **words: Any) -> tuple[Requests, float | None, int | None]:
        assert (method, callers) == ("ramp", 1)
        ramp, clock = Ramp(**words), FakeClock()
        made = open_loop(lambda: clock.sleep(SERVICE_S), 1, ramp, clock)
        self.simulated_s += clock.now_ns() / 1e9
        return made, ramp.broken_at_s, ramp.broken_step


def stressed(**words: Any) -> tuple[list[Sample | Unavailable], Queue]:
    child = Queue()
    given = {"limit_s": 0.05, "quantile": 0.9, "capacity_per_s": 95.0, "seconds": 120.0} | words
    return list(stress(child, StressSettings(**given))), child  # type: ignore[arg-type]


def one(readings: list[Sample | Unavailable], quantity: str) -> Sample | Unavailable:
    return next(r for r in readings if r.quantity == quantity)


def test_the_rate_that_holds_and_the_rate_that_breaks_bracket_the_truth() -> None:
    """By Erlang's formula (written out in test_load) p90 of M/D/1 is within 5 service times up to 75.8 a second."""
    brackets = []
    for seed in range(6):
        readings, _ = stressed(seed=seed)
        proofs = [r for r in readings if r.quantity == "request_latency_s" and r.conditions["phase"] == "proof"]
        held = [p.conditions["rate_per_s"] for p in proofs if holding(p.values > 0.05, 0.9) == "held"]
        brackets.append((held, one(readings, "broken_per_s").value))  # type: ignore[union-attr]
    assert all(rate <= 76.5 for held, _ in brackets for rate in held)
    assert all(broken >= 75 for _, broken in brackets)
    assert sum(bool(held) for held, _ in brackets) >= 4  # else the proofs ran out of time, and that is said


def test_it_comes_back_after_the_backlog() -> None:
    readings, _ = stressed()
    back = one(readings, "recovery_s")
    assert isinstance(back, Sample)
    assert 0 < back.value < 18


def test_the_time_is_kept_but_for_the_backlog() -> None:
    _, child = stressed()
    assert child.simulated_s < 1.25 * 120


def test_a_target_that_breaks_at_once_is_sought_below() -> None:
    readings, _ = stressed(limit_s=0.0101, quantile=0.9, seconds=400.0)
    proofs = [r for r in readings if r.quantity == "request_latency_s" and r.conditions["phase"] == "proof"]
    assert one(readings, "broken_per_s").value == pytest.approx(0.4 * 95)  # type: ignore[union-attr]
    assert proofs[0].conditions["rate_per_s"] == pytest.approx(0.2 * 95)


def test_a_load_that_breaks_nothing_is_said() -> None:
    readings, _ = stressed(capacity_per_s=20.0)
    assert one(readings, "broken_per_s") == Unavailable(
        quantity="broken_per_s", reason="did not break up to 60 requests a second"
    )
    assert isinstance(one(readings, "recovery_s"), Unavailable)
    proofs = [r for r in readings if r.quantity == "request_latency_s" and r.conditions["phase"] == "proof"]
    assert proofs[0].conditions["rate_per_s"] == pytest.approx(60.0)


def test_recovery_counts_to_the_last_late_answer() -> None:
    due = np.arange(20.0)
    end = due + np.where(np.arange(20) < 4, 2.0, 0.1)
    assert recovery_s(due, end, broken_at_s=1.0, limit_s=0.5) == pytest.approx(3 + 2.0 - 1.0)
    assert recovery_s(due, due + 0.1, broken_at_s=1.0, limit_s=0.5) == 0.0
    assert recovery_s(due[:8], end[:8], broken_at_s=1.0, limit_s=0.5) is None
