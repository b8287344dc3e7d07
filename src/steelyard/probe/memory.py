"""Memory of a process as the kernel counts it: pages resident in RAM, and their peak."""

from __future__ import annotations

import os
from pathlib import Path

from steelyard.errors import InvalidInput
from steelyard.records import Unavailable

__all__ = ["peak_rss_bytes", "reset_peak", "rss_bytes"]

_PROC = Path("/proc")


def rss_bytes(pid: int | None = None) -> int:
    """Resident set size of process `pid` (this one by default), in bytes.

    Raises `InvalidInput` if there is no such process.
    """
    import psutil

    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        raise InvalidInput(f"no process has the id {pid}; it may have ended") from None


def peak_rss_bytes(pid: int | None = None, *, proc: Path = _PROC) -> int | Unavailable:
    """Highest resident set size (VmHWM) since the process began or since `reset_peak`, in bytes."""
    peak = _status_bytes("VmHWM", _name(pid), proc)
    if peak is None:
        return Unavailable(quantity="peak_rss_bytes", reason=f"this kernel shows no VmHWM in {proc}/self/status")
    return peak


def reset_peak(*, proc: Path = _PROC) -> Unavailable | None:
    """Start this process's peak afresh from its present size (Linux: ``5`` to ``/proc/self/clear_refs``)."""
    try:
        (proc / "self" / "clear_refs").write_text("5")
    except OSError as error:
        return Unavailable(quantity="peak_rss_bytes", reason=f"the kernel did not reset the peak: {error.strerror}")
    return None


def _name(pid: int | None) -> str:
    return "self" if pid is None or pid == os.getpid() else str(pid)


def _status_bytes(key: str, name: str, proc: Path) -> int | None:
    try:
        lines = (proc / name / "status").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith(key + ":"):
            return int(line.split()[1]) * 1024
    return None
