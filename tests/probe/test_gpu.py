"""NVML, played by a fake: units, what a device does not tell, and no driver at all."""

from __future__ import annotations

import pytest

from fake_nvml import FakeNvml
from steelyard.probe.gpu import Gpu, GpuReading, open_gpus, process_bytes
from steelyard.records import Unavailable


def test_units_are_those_in_the_names() -> None:
    new, old = open_gpus(FakeNvml())  # type: ignore[misc]
    assert new.read() == GpuReading(
        busy_fraction=0.37,
        memory_bytes=3e9,
        clock_hz=1.755e9,
        temperature_c=61,
        power_w=215.5,
        energy_j=1234.567,
        slowed=("power cap", "heat (hardware)"),
    )
    assert (old.read().power_w, old.read().energy_j, old.read().slowed) == (None, None, ())


@pytest.mark.parametrize(
    ("nvml", "words"), [(FakeNvml(driver=False), "Driver Not Loaded"), (FakeNvml(count=0), "lists no device")]
)
def test_no_driver_and_no_device_are_said(nvml: FakeNvml, words: str) -> None:
    found = open_gpus(nvml)
    assert isinstance(found, Unavailable)
    assert words in found.reason


def test_memory_of_a_process_is_summed_over_devices() -> None:
    gpus = open_gpus(FakeNvml())
    assert not isinstance(gpus, Unavailable)
    assert process_bytes(gpus) == 512_000_000
    for pid in (1, 999_999):  # a container hides sizes and ids
        found = process_bytes(gpus, pid)
        assert isinstance(found, Unavailable)
        assert "does not tell" in found.reason


def test_a_real_device_gives_readings_in_range() -> None:
    gpus = open_gpus()
    if isinstance(gpus, Unavailable):
        pytest.skip(gpus.reason)
    for gpu in gpus:
        assert isinstance(gpu, Gpu)
        found = gpu.read()
        assert found.busy_fraction is None or 0 <= found.busy_fraction <= 1
        assert found.memory_bytes is None or found.memory_bytes > 0
        assert found.temperature_c is None or 0 < found.temperature_c < 120
