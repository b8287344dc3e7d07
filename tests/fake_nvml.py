"""NVML played by hand: two devices, the second too old to tell everything."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any


class NVMLError(Exception):
    """What NVML raises."""


class FakeNvml:
    """Two devices; the second is old and has no energy counter, no power and no reasons for its clock."""

    NVMLError = NVMLError
    NVML_CLOCK_SM, NVML_TEMPERATURE_GPU = 1, 0

    def __init__(self, *, driver: bool = True, count: int = 2) -> None:
        self._driver, self._count = driver, count

    def nvmlInit(self) -> None:
        if not self._driver:
            raise NVMLError("Driver Not Loaded")

    def nvmlDeviceGetCount(self) -> int:
        return self._count

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:
        return index

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Any:
        return SimpleNamespace(gpu=37, memory=5)

    def nvmlDeviceGetMemoryInfo(self, handle: int) -> Any:
        return SimpleNamespace(total=80e9, used=3e9, free=77e9)

    def nvmlDeviceGetClockInfo(self, handle: int, kind: int) -> int:
        return 1755

    def nvmlDeviceGetTemperature(self, handle: int, sensor: int) -> int:
        return 61

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:
        return self._only_new(handle, 215_500)

    def nvmlDeviceGetTotalEnergyConsumption(self, handle: int) -> int:
        return self._only_new(handle, 1_234_567)

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:
        return self._only_new(handle, 0x04 | 0x40 | 0x01)

    def nvmlDeviceGetComputeRunningProcesses(self, handle: int) -> list[Any]:
        known = SimpleNamespace(pid=os.getpid(), usedGpuMemory=512_000_000)
        return [known, SimpleNamespace(pid=1, usedGpuMemory=None)] if handle == 0 else []

    def _only_new(self, handle: int, value: int) -> int:
        if handle:
            raise NVMLError("Not Supported")
        return value
