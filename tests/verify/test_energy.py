"""Ratios of energies: the doubt of the times and of the powers, and what cancels."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.probe.energy import modelled_power_w
from steelyard.probe.host import environment
from steelyard.records import Measurement, Sample, Unavailable
from steelyard.stats.paired import log_ratio_interval
from steelyard.verify.energy import energy_limit, energy_ratio

HOST = dataclasses.replace(environment(()), cpu="AMD EPYC 7763 64-Core Processor", cores=4)
LOGS = np.random.default_rng(0).normal(math.log(0.5), 0.01, 10)


def measured(values: np.ndarray, call_s: np.ndarray | float, provenance: str = "modelled") -> Measurement:
    at = {"batch": 1}
    return Measurement(
        subject="x",
        environment=HOST,
        readings=(
            Sample(quantity="energy_j", unit="J", values=values, conditions=at, provenance=provenance),
            Sample(quantity="energy_call_s", unit="s", values=np.atleast_1d(call_s), conditions=at),
        ),
    )


def modelled(busy_cores: float, call_s: float, draws: int = 1000) -> Measurement:
    return measured(modelled_power_w(busy_cores, 10**8, HOST, draws).values * call_s, call_s)


@given(busy=st.floats(0, 4), first=st.floats(1e-4, 1), second=st.floats(1e-4, 1))
@settings(max_examples=25, deadline=None)
def test_at_equal_utilisation_the_ratio_of_energies_is_that_of_times(busy: float, first: float, second: float) -> None:
    """Whatever the calls took in the search: the turns decide."""
    found = energy_ratio(modelled(busy, first), modelled(busy, second), LOGS)
    estimate = found(0.95)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx(log_ratio_interval(LOGS, 0.95), rel=1e-6)
    assert "at equal utilisation" in estimate.method


def test_unlike_utilisation_widens_it_by_the_draws_that_do_not_cancel() -> None:
    before, after = modelled(1.0, 0.1), modelled(4.0, 0.05)
    estimate = energy_ratio(before, after, LOGS)(0.95)
    powers = np.log((after.readings[0].values / 0.05) / (before.readings[0].values / 0.1))
    rng = np.random.default_rng(1)
    error = LOGS.std(ddof=1) / math.sqrt(10)
    simulated = LOGS.mean() + error * rng.standard_t(9, 200_000) + rng.choice(powers, 200_000)
    assert np.log([estimate.low, estimate.high]) == pytest.approx(np.quantile(simulated, [0.025, 0.975]), abs=0.01)
    assert "common draws" in estimate.method


def test_measured_powers_join_by_satterthwaite_and_widening_reaches_both_ends() -> None:
    rng = np.random.default_rng(2)
    before, after = (
        measured(0.1 * w * np.exp(rng.normal(0, 0.01, 10)), np.full(10, 0.1), "measured") for w in (40.0, 50.0)
    )
    plain, wide = (energy_ratio(before, after, LOGS, widen)(0.95) for widen in (0.0, 0.1))
    assert plain.low < 0.5 * 50 / 40 < plain.high
    assert wide.low == pytest.approx(plain.low * math.exp(-0.1))
    assert wide.high == pytest.approx(plain.high * math.exp(0.1))


def test_without_turns_each_process_gives_its_own_time() -> None:
    before, after = modelled(2.0, 0.1), modelled(2.0, 0.04)
    estimate = energy_ratio(before, after, None)(0.95)
    assert estimate.value == pytest.approx(0.4)
    assert "one process each" in estimate.method
    windows = [measured(np.array(v), 0.1, "measured") for v in ([4.0, 4.1, 3.9], [2.0, 2.1, 1.9])]
    found = energy_ratio(*windows, None)(0.95)
    assert found.low < 0.5 < found.high
    assert "Welch" in found.method


def test_energies_of_unlike_origin_are_not_compared() -> None:
    found = energy_ratio(modelled(1.0, 0.1), measured(np.ones(10), 0.1, "measured"), LOGS)
    assert isinstance(found, Unavailable)
    assert "not read in the same way" in found.reason
    missing = Measurement(subject="x", environment=HOST, readings=())
    assert isinstance(energy_ratio(missing, modelled(1.0, 0.1), LOGS), Unavailable)


def test_a_limit_in_joules_has_the_interval_of_its_origin() -> None:
    draws = modelled(2.0, 0.1, 4000)
    estimate = energy_limit(draws)(0.9)
    assert (estimate.low, estimate.high) == pytest.approx(tuple(np.quantile(draws.readings[0].values, [0.05, 0.95])))
    windows = np.array([4.0, 4.2, 3.9, 4.1])
    found = energy_limit(measured(windows, 0.1, "measured"))(0.95)
    assert (found.value, found.low, found.high) == pytest.approx(log_ratio_interval(np.log(windows)))
