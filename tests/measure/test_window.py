"""Windows: what they read, how they nest, and that an error passes through."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

import steelyard
from steelyard.errors import InvalidInput
from steelyard.measure import window as module
from steelyard.measure.window import Window
from steelyard.probe.energy import EnergyCounters
from steelyard.probe.gpu import GpuReading
from steelyard.probe.memory import reset_peak
from steelyard.records import Sample, Unavailable, decode, encode

MB = 1_000_000


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    Window.forget()
    yield
    Window.forget()


@pytest.fixture
def resettable() -> None:
    if isinstance(reset_peak(), Unavailable):
        pytest.skip("this kernel does not reset the peak")


def _spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_is_the_public_name() -> None:
    assert steelyard.window is Window


def test_processor_time_is_what_was_worked_and_wall_time_holds_the_rest() -> None:
    with steelyard.window("step") as w:
        _spin(0.05)
        time.sleep(0.03)
    assert 0.05 <= w.cpu_s < 0.2  # other threads of this process may run too
    assert w.wall_s >= 0.08
    assert w.cores == pytest.approx(w.cpu_s / w.wall_s)


def test_processor_time_is_that_of_all_threads() -> None:
    with steelyard.window() as w:
        threads = [threading.Thread(target=_spin, args=(0.03,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert w.cpu_s >= 0.09


def test_an_error_passes_through_and_the_window_is_closed() -> None:
    with pytest.raises(ZeroDivisionError), steelyard.window("bad", memory=True) as w:
        _ = 1 / 0
    assert w.failed
    assert w.wall_s > 0
    assert Window.summary().as_dict()["bad"]["failed"] == 1
    assert "bad (raised an error)" in str(w)


@pytest.mark.usefixtures("resettable")
def test_nested_windows_keep_their_own_peaks() -> None:
    with steelyard.window("outer", memory=True) as outer:
        large = np.ones(120 * MB // 8)
        high = large.nbytes
        del large
        with steelyard.window("inner", memory=True) as inner:
            kept = np.ones(40 * MB // 8)
        with steelyard.window("last", memory=True) as last:
            pass
    sizes = [w.peak_bytes for w in (outer, inner, last)]
    assert all(isinstance(size, int) for size in sizes)
    start = outer.peak_bytes - high  # type: ignore[operator]
    assert inner.peak_bytes == pytest.approx(start + 40 * MB, abs=12 * MB)
    assert last.peak_bytes == pytest.approx(start + 40 * MB, abs=12 * MB)
    assert inner.growth_bytes == pytest.approx(kept.nbytes, abs=8 * MB)
    assert outer.growth_bytes == pytest.approx(kept.nbytes, abs=12 * MB)
    assert last.growth_bytes == pytest.approx(0, abs=4 * MB)


def test_memory_that_was_not_asked_for_or_cannot_be_read_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with steelyard.window() as w:
        pass
    assert isinstance(w.peak_bytes, Unavailable)
    assert isinstance(w.growth_bytes, Unavailable)
    assert "memory=True" in w.peak_bytes.reason
    why = Unavailable(quantity="peak_rss_bytes", reason="no VmHWM")
    monkeypatch.setattr(module, "rss_and_peak_bytes", lambda: why)
    with steelyard.window(memory=True) as w:
        pass
    assert w.peak_bytes == w.growth_bytes == why
    monkeypatch.undo()
    refused = Unavailable(quantity="peak_rss_bytes", reason="the kernel did not reset the peak")
    monkeypatch.setattr(module, "reset_peak", lambda: refused)
    with steelyard.window(memory=True) as w:
        pass
    assert w.peak_bytes == refused
    assert isinstance(w.growth_bytes, int)


def test_energy_is_by_the_model_unless_counters_are_asked_for_and_there(monkeypatch: pytest.MonkeyPatch) -> None:
    with steelyard.window() as w:
        _spin(0.01)
    assert isinstance(w.energy, Unavailable) or w.energy.provenance == "modelled"
    readings = [
        EnergyCounters(energy_uj={"package-0": uj}, range_uj={"package-0": 10**12}) for uj in (5_000_000, 8_500_000)
    ]
    monkeypatch.setattr(module, "read_counters", lambda: readings.pop(0))
    with steelyard.window(energy=True) as w:
        _spin(0.01)
    assert isinstance(w.energy, Sample)
    assert w.energy.provenance == "measured"
    assert w.energy.values.sum() == pytest.approx(3.5)


def test_gpus_are_read_at_both_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    class Fake:
        energy = 100.0

        def read(self) -> GpuReading:
            self.energy += 25.0
            return GpuReading(
                busy_fraction=None,
                memory_bytes=3e9,
                clock_hz=None,
                temperature_c=None,
                power_w=None,
                energy_j=self.energy,
            )

    devices = (Fake(), Fake())
    monkeypatch.setattr(module, "_gpus", lambda: devices)
    with steelyard.window(gpu=True) as w:
        pass
    assert w.gpu_energy_j == 50.0
    assert w.gpu_memory_bytes == 6e9
    assert isinstance(w.gpu_time_s, Unavailable)


def test_gpu_time_is_between_two_marks_in_the_stream() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    matrix = torch.ones(4096, 4096, device="cuda")
    with steelyard.window(gpu=True) as w:
        for _ in range(20):
            matrix = matrix @ matrix
    assert isinstance(w.gpu_time_s, float)
    assert w.gpu_time_s > 0


def test_without_gpus_the_reason_is_said() -> None:
    with steelyard.window() as w:
        pass
    assert w.gpu_energy_j == Unavailable(quantity="gpu_energy_j", reason="it was not asked for: gpu=True")


def test_decorates_functions_coroutines_and_methods() -> None:
    @steelyard.window()
    def double(x: int) -> int:
        """Twice."""
        return 2 * x

    @steelyard.window("slow")
    async def later(x: int) -> int:
        await asyncio.sleep(0.02)
        return x

    async def both() -> list[int]:
        return list(await asyncio.gather(later(1), later(2)))

    assert [double(2), double(3)] == [4, 6]
    assert double.__doc__ == "Twice."
    assert asyncio.run(both()) == [1, 2]
    found = Window.summary().as_dict()
    assert found[double.__wrapped__.__qualname__]["windows"] == 2  # type: ignore[attr-defined]
    assert found["slow"]["windows"] == 2
    assert found["slow"]["median_wall_s"] >= 0.02


def test_what_cannot_be_wrapped_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"@steelyard\.window\(\)"):
        steelyard.window(len)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="generator"):

        @steelyard.window()
        def numbers() -> Iterator[int]:
            yield 1

    with steelyard.window("one") as w, pytest.raises(InvalidInput, match="'one' is open"):
        w.__enter__()


def test_windows_of_one_name_add_up_across_threads() -> None:
    def work() -> None:
        for _ in range(50):
            with steelyard.window("shared"):
                pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (series,) = Window.summary().windows
    assert series.wall.values.size == series.cpu.values.size == 200
    assert Window.summary().as_dict()["shared"]["total_wall_s"] == pytest.approx(series.wall.values.sum())
    assert "shared" in str(Window.summary())
    assert "200" in str(Window.summary())


def test_one_window_may_be_opened_again() -> None:
    w = steelyard.window("again")
    for _ in range(3):
        with w:
            pass
    assert Window.summary().as_dict()["again"]["windows"] == 3


def test_readings_are_records_and_json() -> None:
    with steelyard.window("step", memory=True, energy=True, gpu=True) as w:
        _spin(0.01)
    for reading in w.readings():
        again = decode(encode(reading))
        assert (again.quantity, dict(again.conditions)) == (reading.quantity, {"window": "step"})
    found = json.loads(w.json())
    assert found["wall_s"] == w.wall_s
    assert found["growth_bytes"] == w.growth_bytes
    assert set(found) >= {"name", "failed", "cpu_s", "peak_bytes", "energy_j", "gpu_time_s"}


def test_a_printed_window_shows_what_is_known_and_names_what_was_not_asked_for() -> None:
    with steelyard.window("my step") as w:
        _spin(0.002)
    shown = str(w)
    assert shown.startswith("my step")
    assert "Processor time" in shown
    assert "Memory, growth" not in shown
    assert "Not asked for: memory=True, energy=True, gpu=True." in shown
