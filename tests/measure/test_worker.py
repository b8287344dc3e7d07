"""The timing loop, on a clock that follows a script."""

from __future__ import annotations

import gc
import inspect
from collections.abc import Iterator

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.measure.noise import machine_noise
from steelyard.measure.worker import _check_outputs, time_calls
from steelyard.probe.clock import FakeClock
from steelyard.records import Contract


@pytest.fixture(autouse=True)
def _collector() -> Iterator[None]:
    enabled = gc.isenabled()
    yield
    gc.enable() if enabled else gc.disable()


def _script(*call_ns: int, between_ns: int = 0) -> FakeClock:
    """A clock for calls of these lengths: read once for the end, then before and after every call."""
    return FakeClock(start_ns=1_000, steps_ns=[0, *(ns for call in call_ns for ns in (call, between_ns))])


def test_gives_the_seconds_of_each_call() -> None:
    calls: list[object] = []
    clock = _script(30, 10, 50, 20)
    times = time_calls(calls.append, "inputs", 100e-9, clock=clock.now_ns)
    assert times.tolist() == pytest.approx([30e-9, 10e-9, 50e-9, 20e-9], abs=0)
    assert calls == ["inputs"] * 4


def test_time_between_calls_is_spent_but_not_counted() -> None:
    times = time_calls(len, "", 100e-9, clock=_script(10, 10, 10, 10, between_ns=30).now_ns)
    assert times.tolist() == [10e-9] * 4  # the third call ends at 90 ns, the fourth at 130


@pytest.mark.parametrize("seconds", [0.0, 1e-9])
def test_makes_three_calls_at_the_least(seconds: float) -> None:
    assert len(time_calls(len, "", seconds, clock=_script(5, 5, 5, 5).now_ns)) == 3


def test_the_call_that_crosses_the_end_is_kept() -> None:
    times = time_calls(len, "", 25e-9, clock=_script(10, 10, 1_000).now_ns)
    assert times[-1] == pytest.approx(1e-6)


def test_uses_the_machines_clock_unless_told_otherwise() -> None:
    assert (time_calls(len, "", 0.0) > 0).all()
    assert inspect.signature(time_calls).parameters["clock"].default.__name__ == "perf_counter_ns"


@pytest.mark.parametrize("collecting", [True, False])
def test_the_garbage_collector_rests_and_comes_back_as_it_was(collecting: bool) -> None:
    seen: list[bool] = []
    (gc.enable if collecting else gc.disable)()
    time_calls(lambda _: seen.append(gc.isenabled()), None, 0.0)
    assert seen == [False] * 3
    assert gc.isenabled() is collecting


def test_the_garbage_collector_comes_back_after_an_error() -> None:
    gc.enable()
    with pytest.raises(ZeroDivisionError):
        time_calls(lambda _: 1 / 0, None, 1.0)
    assert gc.isenabled()


CONTRACT = Contract(shape=(2,), layout="F", labels=("a", "b", "c"))


def test_outputs_of_the_contracts_shape_pass() -> None:
    _check_outputs(CONTRACT, np.zeros((4, 3)), 4)


@pytest.mark.parametrize("outputs", [np.zeros((4, 2)), np.zeros((3, 3)), np.zeros(12), {"logits": 1}])
def test_outputs_of_another_shape_are_refused(outputs: object) -> None:
    with pytest.raises(InvalidInput, match=r"expected \(4, 3\): one column for each of the 3 classes"):
        _check_outputs(CONTRACT, outputs, 4)  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_outputs_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        _check_outputs(CONTRACT, np.array([[0, bad, 0]]), 1)


def test_the_noise_of_this_machine_is_read_as_fractions() -> None:
    noise = machine_noise(slots=6, slot_s=0.002)
    assert noise.spread >= 0
    assert noise.drift > -1
    assert 0 <= noise.steal <= 1
    assert noise.verdict.startswith(("quiet", "some noise", "noisy"))
