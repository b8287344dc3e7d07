"""Load drivers against queueing theory, on a clock that only moves when told."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from scipy.special import gammaln

from steelyard.measure.load import Calls, Ramp, closed_loop, in_system, open_loop
from steelyard.probe.clock import FakeClock, SystemClock
from steelyard.stats.order import holding

SERVICE_S = 0.01


def queue(ramp: Ramp, service_s: float = SERVICE_S):
    """One server that takes the same time for each request (M/D/1), in simulated time."""
    clock = FakeClock()
    return open_loop(lambda: clock.sleep(service_s), 1, ramp, clock)


def steady(rate: float, seconds: float, seed: int = 0) -> Ramp:
    return Ramp(rates=(rate,), step_s=seconds, limit_s=1.0, quantile=0.99, seed=seed)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_waiting_in_a_queue_of_one_server(load: float) -> None:
    """Pollaczek and Khinchine for constant service: the mean wait is load * service / (2 (1 - load))."""
    made = queue(steady(load / SERVICE_S, 1000.0))
    wait = np.mean(made.latency_s) - SERVICE_S
    assert wait == pytest.approx(load * SERVICE_S / (2 * (1 - load)), rel=0.06)
    assert made.lag_s.max() == pytest.approx(0, abs=1e-8)


@pytest.mark.parametrize("load", [0.5, 0.8])
def test_littles_law_and_what_arrivals_see(load: float) -> None:
    """Counted number in the system, rate times latency, and (Poisson arrivals see time averages) what arrivals find."""
    made = queue(steady(load / SERVICE_S, 500.0, seed=3))
    counted = in_system(made.due_s, made.end_s)
    span = made.end_s.max() - made.due_s.min()
    assert counted == pytest.approx(len(made.due_s) / span * made.latency_s.mean(), rel=1e-6)
    found = np.arange(len(made.due_s)) - np.searchsorted(np.sort(made.end_s), made.due_s)
    assert found.mean() == pytest.approx(counted, rel=0.1)
    assert counted == pytest.approx(load + load**2 / (2 * (1 - load)), rel=0.1)


def erlang(wait_s: float, rate: float, service_s: float) -> float:
    """P(wait <= t) of M/D/1, by Erlang's sum (1909); good for waits of a few service times."""
    terms = np.arange(int(wait_s / service_s) + 1)
    left = rate * (terms * service_s - wait_s)
    with np.errstate(divide="ignore"):
        size = np.exp(np.where(terms > 0, terms * np.log(np.abs(left)), 0.0) - left - gammaln(terms + 1))
    return float((1 - rate * service_s) * np.sum(np.sign(left) ** terms * size))


@pytest.mark.parametrize("load", [0.5, 0.7])
def test_the_tail_is_that_of_erlang(load: float) -> None:
    made = queue(steady(load / SERVICE_S, 2000.0, seed=5))
    for waits in (0.5, 1.5, 3.0):
        share = np.mean(made.latency_s - SERVICE_S <= waits * SERVICE_S)
        assert share == pytest.approx(erlang(waits * SERVICE_S, load / SERVICE_S, SERVICE_S), abs=0.012)


def test_a_stalled_model_is_charged_for_all_who_waited() -> None:
    """A stall of one second at 100 requests a second: some hundred are late, not one (coordinated omission)."""
    clock, calls = FakeClock(), []

    def call() -> None:
        calls.append(0)
        clock.sleep(1.0 if len(calls) == 200 else 0.001)

    made = open_loop(call, 1, steady(100.0, 5.0), clock)
    assert 80 <= (made.latency_s > 0.1).sum() <= 115
    served = made.end_s - made.start_s
    assert (served > 0.1).sum() == 1


@pytest.mark.parametrize("seed", range(6))
def test_the_rate_where_it_breaks_is_that_of_the_formula(seed: int) -> None:
    """p90 within 3 service times: the formula's rate lies above the step before the break and at most a step beyond."""
    limit = 3 * SERVICE_S
    rates = tuple(np.arange(30.0, 130.0, 10.0))
    ramp = Ramp(rates=rates, step_s=20.0, limit_s=limit, quantile=0.9, recovery=(30.0, 20.0), seed=seed)
    queue(ramp)
    true = max(r for r in np.arange(30.0, 99.0) if erlang(limit - SERVICE_S, r, SERVICE_S) >= 0.9)
    assert ramp.broken_step is not None
    assert rates[ramp.broken_step - 1] <= true + 10
    assert rates[ramp.broken_step] >= true - 5


def test_recovery_is_served_after_the_backlog() -> None:
    ramp = Ramp(rates=(50.0, 150.0, 150.0, 150.0), step_s=2.0, limit_s=0.05, quantile=0.9, recovery=(40.0, 6.0))
    made = queue(ramp)
    assert ramp.broken_step == 1
    assert ramp.broken_at_s is not None
    after = made.step == 4
    assert after.any()
    late = made.latency_s[after] > 0.05
    assert late[0]
    assert not late[-20:].any()


def test_one_stall_does_not_break_the_ramp() -> None:
    clock, done = FakeClock(), []

    def call() -> None:
        done.append(0)
        clock.sleep(0.4 if len(done) == 60 else 0.001)

    ramp = Ramp(rates=(50.0,) * 6, step_s=2.0, limit_s=0.05, quantile=0.9, recovery=(10.0, 1.0))
    made = open_loop(call, 1, ramp, clock)
    assert (made.latency_s > 0.05).sum() > 10
    assert ramp.broken_step is None


@pytest.mark.parametrize("callers", [1, 3])
def test_callers_of_a_closed_loop_are_all_counted(callers: int) -> None:
    who: set[int] = set()
    lock = threading.Lock()

    def call() -> None:
        with lock:
            who.add(threading.get_ident())

    calls = closed_loop(call, callers, 0.02, SystemClock())
    assert len(who) == callers
    assert set(calls.callers) == set(range(callers))
    assert (np.diff(calls.starts_s) >= 0).all()
    assert (calls.ends_s >= calls.starts_s).all()


def test_every_caller_calls_at_least_once_and_settles_first() -> None:
    clock, count = FakeClock(), [0]

    def call() -> None:
        count[0] += 1
        clock.sleep(5.0)

    calls = closed_loop(call, 1, 0.1, clock)
    assert (count[0], len(calls.ends_s)) == (2, 1)
    assert calls.per_s == pytest.approx(0.2)
    closed_loop(call, 1, 0.1, clock, settle=False)
    assert count[0] == 3


def test_a_callers_last_slow_call_costs_nobody_else() -> None:
    calls = Calls(
        starts_s=np.array([0.0, 0.0, 1.0]), ends_s=np.array([1.0, 4.0, 2.0]), callers=np.array([0, 1, 0], np.int32)
    )
    assert calls.per_s == pytest.approx(2 / 2 + 1 / 4)


@pytest.mark.parametrize("callers", [1, 3])
def test_what_a_call_raises_comes_out(callers: int) -> None:
    def call() -> None:
        raise ValueError("no such batch")

    with pytest.raises(ValueError, match="no such batch"):
        closed_loop(call, callers, 0.01, SystemClock())
    with pytest.raises(ValueError, match="no such batch"):
        open_loop(call, callers, steady(1000.0, 0.05), SystemClock())


def test_bunches_of_late_requests_count_for_less() -> None:
    """25 late in 2,000 are too many at p99.5 if they came one by one; in one bunch nothing is shown."""
    spread = np.arange(2000) % 80 == 0
    bunch = np.arange(2000) < 25
    assert holding(spread, 0.993) == "broken"
    assert holding(bunch, 0.993) == "undecided"
    assert holding(np.zeros(0, dtype=bool), 0.9) == "undecided"
