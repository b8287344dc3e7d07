"""NVIDIA GPUs as their driver tells of them, through NVML (the package nvidia-ml-py of the extra ``energy``).

A reading that one device does not give (an old card has no energy counter, a partition no clocks) is None; where there is
no driver at all `open_gpus` says so. Utilisation is the share of NVML's own sampling period, 1/6 s to 1 s, in which any kernel
ran: not how much of the chip it filled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from steelyard.records import Unavailable

__all__ = ["Gpu", "GpuReading", "open_gpus", "process_bytes"]

_SLOWED = {  # nvmlClocksEventReasons that take speed away; those left out are idleness and the user's own settings
    0x04: "power cap",
    0x08: "hardware slowdown",
    0x20: "heat (driver)",
    0x40: "heat (hardware)",
    0x80: "power brake",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuReading:
    """One device at one moment; None is what the device does not tell."""

    busy_fraction: float | None
    memory_bytes: float | None  # held by all processes
    clock_hz: float | None
    temperature_c: float | None
    power_w: float | None
    energy_j: float | None  # since the driver was loaded
    slowed: tuple[str, ...] = ()


class Gpu:
    """A device of NVML's; `nvml` is the module ``pynvml`` or something like it."""

    def __init__(self, nvml: Any, index: int) -> None:
        self._nvml = nvml
        self._handle = nvml.nvmlDeviceGetHandleByIndex(index)
        self.index = index

    def read(self) -> GpuReading:
        """Ask for everything; about 50 microseconds where the driver holds its state in memory."""
        nvml, handle = self._nvml, self._handle
        return GpuReading(
            busy_fraction=self._ask(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
            memory_bytes=self._ask(lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used),
            clock_hz=self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM) * 1e6),
            temperature_c=self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            power_w=self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1e3),
            energy_j=self._ask(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3),
            slowed=self._slowed(),
        )

    def held_by(self, pid: int) -> int | Unavailable:
        """Bytes of this device that a process holds, its context included."""
        processes: Iterable[Any] = (
            self._ask(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(self._handle)) or ()
        )
        held = [process.usedGpuMemory for process in processes if process.pid == pid]
        if not held or held[0] is None:
            reason = f"NVML does not tell what process {pid} holds on GPU {self.index} (containers hide process ids)"
            return Unavailable(quantity="gpu_process_bytes", reason=reason)
        return int(held[0])

    def _slowed(self) -> tuple[str, ...]:
        reasons = self._ask(lambda: self._nvml.nvmlDeviceGetCurrentClocksEventReasons(self._handle))
        return tuple(words for bit, words in _SLOWED.items() if reasons and int(reasons) & bit)

    def _ask(self, question: Callable[[], Any]) -> Any:
        try:
            return question()
        except self._nvml.NVMLError:
            return None


def open_gpus(nvml: Any = None) -> tuple[Gpu, ...] | Unavailable:
    """All devices of the driver, or why there are none."""
    driver = nvml or _pynvml()
    if driver is None:
        return _none("nvidia-ml-py is not installed: pip install 'steelyard[energy]'")
    try:
        driver.nvmlInit()
        return tuple(Gpu(driver, index) for index in range(driver.nvmlDeviceGetCount())) or _none(
            "NVML lists no device"
        )
    except driver.NVMLError as error:
        return _none(f"no NVIDIA driver answers: {error}")


def _pynvml() -> Any:
    try:
        import pynvml
    except ImportError:
        return None
    return pynvml


def process_bytes(gpus: Iterable[Gpu], pid: int | None = None) -> int | Unavailable:
    """Bytes that a process (this one by default) holds over these devices."""
    held = [gpu.held_by(pid or os.getpid()) for gpu in gpus]
    known = [found for found in held if isinstance(found, int)]
    return sum(known) if known else next((h for h in held if isinstance(h, Unavailable)), _none("no device was asked"))


def _none(reason: str) -> Unavailable:
    return Unavailable(quantity="gpu", reason=reason)
