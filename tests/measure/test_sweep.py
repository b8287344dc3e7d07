"""The sweep against a scripted child whose costs, and whose machine's drift, are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tiny_models
from steelyard.errors import WorkerFailed
from steelyard.measure.load import Calls, Slot
from steelyard.measure.process import Child, Limits
from steelyard.measure.sweep import SweepSettings, sweep
from steelyard.probe.clock import FakeClock
from steelyard.records import Sample, Unavailable
from steelyard.stats.knee import find_knee


class Scripted:
    """A child whose call takes ``cost + batch * each`` seconds, on a machine that slows down as time goes by."""

    def __init__(self, cost: float, each: float, *, drift_per_s: float = 0.0, refuses: int = 0) -> None:
        self.clock, self.visits = FakeClock(), []
        self._cost, self._each, self._drift, self._refuses = cost, each, drift_per_s, refuses

    def call(self, method: str, *, batch: int, callers: int, seconds: float, settle: bool) -> Slot:
        assert method == "cell"
        if batch == self._refuses:
            raise WorkerFailed("error", f"RuntimeError: no batch of {batch}")
        slow = 1 + self._drift * self.clock.now_ns() / 1e9
        call_s = (self._cost + batch * self._each) * slow
        self.visits.append((batch, callers, seconds, settle))
        n = max(1, int(seconds / call_s))
        self.clock.sleep(call_s * (n + settle))
        ends = np.tile(np.arange(1, n + 1) * call_s, callers)
        who = np.repeat(np.arange(callers, dtype=np.int32), n)
        calls = Calls(starts_s=ends - call_s, ends_s=ends, callers=who)
        return Slot(calls=calls, cores_busy=1.0, machine_cores_busy=1.5, resident_bytes=10**8)


def swept(child: Scripted, **words) -> dict[tuple[str, int, int], Sample | Unavailable]:
    readings = sweep(child, SweepSettings(**words), clock=child.clock)  # type: ignore[arg-type]
    return {(r.quantity, r.conditions["batch"], r.conditions.get("concurrency", 1)): r for r in readings}


def test_every_cell_has_a_reading_of_every_pass() -> None:
    child = Scripted(0.004, 0.001)
    found = swept(child, batches=(1, 2, 4), concurrency=(1, 2), seconds=3.0)
    rates = {key[1:]: r for key, r in found.items() if key[0] == "throughput_per_s"}
    assert set(rates) == {(b, c) for b in (1, 2, 4) for c in (1, 2)}
    passes = {len(r.values) for r in rates.values()}
    assert len(passes) == 1
    assert passes.pop() >= 6
    for (batch, callers), rate in rates.items():
        assert rate.value == pytest.approx(callers * batch / (0.004 + batch * 0.001))
        assert rate.conditions == ({"batch": batch} if callers == 1 else {"batch": batch, "concurrency": callers})
        assert found["calls_in_flight", batch, callers].value == pytest.approx(callers)
        latency = found["sweep_latency_s", batch, callers]
        assert latency.value == pytest.approx(0.004 + batch * 0.001)
        assert set(latency.blocks) == set(range(len(rate.values)))


def test_littles_law_holds_in_every_cell() -> None:
    found = swept(Scripted(0.004, 0.001), batches=(1, 4), concurrency=(1, 3), seconds=2.0)
    for batch in (1, 4):
        for callers in (1, 3):
            per_s = found["throughput_per_s", batch, callers].values.mean() / batch
            waited = found["sweep_latency_s", batch, callers].values.mean()
            assert found["calls_in_flight", batch, callers].values.mean() == pytest.approx(per_s * waited)


def test_the_budget_is_kept() -> None:
    child = Scripted(0.004, 0.001)
    swept(child, batches=(1, 2, 4, 8), concurrency=(1,), seconds=2.0)
    assert 1.5 <= child.clock.now_ns() / 1e9 <= 2.1


def test_drift_does_not_bend_the_curve() -> None:
    """A machine that slows down by a tenth each second: cells in turns keep their ratios, cell after cell would not."""
    child = Scripted(0.01, 0.0, drift_per_s=0.1)
    found = swept(child, batches=(1, 2, 4, 8), seconds=4.0)
    flat = np.array([found["throughput_per_s", b, 1].values.mean() / b for b in (1, 2, 4, 8)])
    assert flat.max() / flat.min() < 1.03


def test_passes_are_followed_by_their_reverse() -> None:
    child = Scripted(0.001, 0.001)
    swept(child, batches=(1, 2, 4), concurrency=(1, 2), seconds=1.0)
    cells = [v[:2] for v in child.visits[6:]]
    assert cells[:6] == cells[6:12][::-1]
    assert sorted(cells[:6]) == sorted({(b, c) for b in (1, 2, 4) for c in (1, 2)})


def test_a_cell_too_long_for_the_time_is_left_out_with_the_budget_that_would_do() -> None:
    child = Scripted(0.0, 0.05)
    found = swept(child, batches=(1, 2, 4, 64), seconds=2.0, budget_s=10.0)
    left = found["throughput_per_s", 64, 1]
    assert isinstance(left, Unavailable)
    assert "a call takes about 3.2 s" in left.reason
    assert "--budget 27s would do" in left.reason  # 3 passes of 0.05 + 0.1 + 0.2 + 3.2 s in two fifths of the budget
    assert isinstance(found["throughput_per_s", 4, 1], Sample)


def test_a_batch_that_the_model_refuses_is_said_and_costs_no_other() -> None:
    found = swept(Scripted(0.001, 0.001, refuses=4), batches=(1, 4, 8), seconds=1.0)
    assert found["throughput_per_s", 4, 1] == Unavailable(
        quantity="throughput_per_s", reason="RuntimeError: no batch of 4", conditions={"batch": 4}
    )
    assert isinstance(found["throughput_per_s", 8, 1], Sample)


def test_a_child_that_dies_ends_the_sweep() -> None:
    class Dying(Scripted):
        def call(self, method: str, **words) -> Slot:
            raise WorkerFailed("crash", "the process ended with signal SIGSEGV")

    with pytest.raises(WorkerFailed, match="SIGSEGV"):
        swept(Dying(0.001, 0.001), batches=(1,), seconds=1.0)


def test_long_calls_are_not_settled_and_short_ones_are() -> None:
    child = Scripted(0.0, 0.02)
    swept(child, batches=(1, 16), seconds=4.0)
    settled = {batch: settle for batch, _, seconds, settle in child.visits if seconds}
    assert settled == {1: True, 16: False}


def test_the_knee_of_the_script_is_found_from_the_readings() -> None:
    found = swept(Scripted(0.004, 0.004), batches=(1, 2, 4, 8, 16, 32), seconds=20.0)
    rates = np.stack([found["throughput_per_s", b, 1].values for b in (1, 2, 4, 8, 16, 32)], axis=1)
    assert find_knee((1, 2, 4, 8, 16, 32), rates).size == 16  # b / (1 + b): 0.941 at 16 of 0.970 at 32


def test_a_real_model_by_several_callers(tmp_path: Path) -> None:
    artifact, inputs = tiny_models.onnx_artifact(tmp_path / "model"), tiny_models.write_inputs(tmp_path / "inputs.npy")
    with Child("steelyard.measure.load:LoadWorker", limits=Limits(seconds=120)) as child:
        child.call("load", folder=str(artifact.folder), inputs=str(inputs))
        found = sweep(child, SweepSettings(batches=(1, 2), concurrency=(1, 2), seconds=0.3))
        requests, broken_at_s, broken_step = child.call(
            "ramp", callers=2, rates=(20.0,), step_s=0.5, limit_s=10.0, quantile=0.9
        )
    assert {r.quantity for r in found} == {
        "throughput_per_s", "sweep_latency_s", "cores_busy", "machine_cores_busy", "memory_resident_bytes",
        "calls_in_flight",
    }  # fmt: skip
    assert all(isinstance(r, Sample) and (r.values >= 0).all() and len(r.values) >= 3 for r in found)
    assert len(requests.due_s) >= 1
    assert (requests.end_s > requests.start_s).all()
    assert (broken_at_s, broken_step) == (None, None)
