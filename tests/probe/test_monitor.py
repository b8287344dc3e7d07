"""The monitor on a clock that follows a script, on a machine written by hand, and for a moment on this one."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from fake_nvml import FakeNvml
from steelyard.probe.clock import FakeClock
from steelyard.probe.monitor import Channel, Monitor, Source, machine_sources, resident_source
from steelyard.records import Sample, Unavailable, decode, encode


class Script:
    """A monitor whose ticks a test makes by hand, one every half second."""

    def __init__(self, *sources: Source | Unavailable) -> None:
        self.clock = FakeClock()
        self.monitor = Monitor(sources=sources, clock=self.clock)

    def series(self, ticks: int) -> dict[str, Sample | Unavailable]:
        for _ in range(ticks):
            self.monitor.tick()
            self.clock.sleep(0.5)
        return {reading.quantity: reading for reading in self.monitor.series()}


def test_levels_are_kept_and_counts_become_rates() -> None:
    level, count = iter([3.0, 5.0, 4.0]), iter([10.0, 12.0, 20.0])
    channels = (Channel(quantity="level", unit="byte"), Channel(quantity="rate", unit="1/s", counts=True))
    found = Script(Source(channels=channels, read=lambda: [next(level), next(count)])).series(3)
    kept, rate = found["level"], found["rate"]
    assert isinstance(kept, Sample)
    assert isinstance(rate, Sample)
    assert (kept.values.tolist(), kept.times_s.tolist()) == ([3, 5, 4], [0, 0.5, 1])  # type: ignore[union-attr]
    assert (rate.values.tolist(), rate.times_s.tolist()) == ([4, 16], [0.5, 1])  # type: ignore[union-attr]
    again = decode(encode(rate))
    np.testing.assert_array_equal(again.times_s, rate.times_s)


def test_what_is_missing_stands_with_its_name() -> None:
    missing = Unavailable(quantity="clock_hz", reason="no cpufreq")
    assert Script(missing).series(2)["clock_hz"] == missing


def test_a_source_that_ends_keeps_what_was_read() -> None:
    values = iter([1.0, 2.0])

    def read() -> list[float]:
        value = next(values, None)
        if value is None:
            raise ProcessLookupError
        return [value]

    found = Script(Source(channels=(Channel(quantity="x", unit=""),), read=read)).series(4)["x"]
    assert isinstance(found, Sample)
    assert found.values.tolist() == [1, 2]


def _machine(root: Path, pid: int = 7) -> Path:
    """A host of two cores, with cpufreq for the cores this process may use, and sensors of board and processor."""
    files = {
        "proc/stat": "cpu  300 0 100 600 0 0 0 0 0 0\ncpu0 100 0 50 200 0 0 0 50 0 0\ncpu1 200 0 50 400 0 0 0 30 0 0\n",
        f"proc/{pid}/statm": "1000 500 0 0 0 0 0",
        f"proc/{pid}/status": "Name:\tx\nvoluntary_ctxt_switches:\t5\nnonvoluntary_ctxt_switches:\t9\n",
        "sys/class/hwmon/hwmon0/name": "nvme\n",
        "sys/class/hwmon/hwmon0/temp1_input": "70000\n",
        "sys/class/hwmon/hwmon1/name": "coretemp\n",
        "sys/class/hwmon/hwmon1/temp1_input": "51000\n",
        "sys/class/hwmon/hwmon1/temp2_input": "54500\n",
        **{f"sys/devices/system/cpu/cpu{c}/cpufreq/scaling_cur_freq": "2400000\n" for c in os.sched_getaffinity(0)},
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def _read(sources: list[Source | Unavailable]) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {}
    for source in sources:
        if isinstance(source, Source):
            for channel, value in zip(source.channels, source.read(), strict=True):
                found.setdefault(channel.quantity, []).append(value)
    return found


def test_reads_a_machine_written_by_hand(tmp_path: Path) -> None:
    found = _read(machine_sources(7, root=_machine(tmp_path), nvml=FakeNvml()))
    hertz = os.sysconf("SC_CLK_TCK")
    assert found["core_busy_fraction"] == [150 / hertz, 250 / hertz]
    assert found["steal_fraction"] == [80 / hertz / 2]
    assert found["resident_bytes"] == [500 * os.sysconf("SC_PAGE_SIZE")]
    assert found["involuntary_switches_per_s"] == [9]
    assert found["clock_hz"] == pytest.approx([2.4e9])
    assert found["temperature_c"] == [54.5]  # the processor's, not the disk's
    assert found["gpu_busy_fraction"] == [0.37, 0.37]
    assert found["gpu_power_w"] == [215.5]
    assert found["gpu_slowed"] == [1, 0]


def test_a_bare_machine_names_all_it_lacks(tmp_path: Path) -> None:
    sources = machine_sources(2**22 + 1, root=tmp_path, nvml=FakeNvml(driver=False))
    assert all(isinstance(source, Unavailable) for source in sources)
    assert {s.quantity for s in sources if isinstance(s, Unavailable)} == {
        "core_busy_fraction", "process_cores", "involuntary_switches_per_s", "resident_bytes", "clock_hz",
        "temperature_c", "gpu_busy_fraction",
    }  # fmt: skip


def test_watches_another_process_on_this_machine() -> None:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
        with Monitor(child.pid, rate_hz=50) as monitor:
            time.sleep(0.3)
        child.kill()
    found = {r.quantity: r for r in monitor.series()}
    cores, cost = found["process_cores"], found["monitor_cost_cores"]
    assert isinstance(cores, Sample)
    assert isinstance(cost, Sample)
    assert 0 < np.median(cores.values) < 1.5  # the kernel counts ticks of 10 ms, so single readings stray
    assert 0 < cost.value < 1


def test_a_process_that_ends_meanwhile_is_no_error() -> None:
    with subprocess.Popen([sys.executable, "-c", "pass"]) as child:
        source = resident_source(child.pid)
        child.wait()
    with Monitor(child.pid, sources=[source]) as monitor:
        pass
    assert "resident_bytes" not in {r.quantity for r in monitor.series()}
