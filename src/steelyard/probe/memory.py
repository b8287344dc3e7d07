"""Memory of a process: pages resident in RAM and their peak by the kernel, bytes handed out by the C library's allocator.

The kernel knows which pages are resident and what file they map; the allocator knows which bytes are in use and which
it merely holds. Put together they tell the parts of a resident set apart (`measure/memory.py`).
"""

from __future__ import annotations

import ctypes
import gc
import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from steelyard.errors import InvalidInput
from steelyard.records import Unavailable

__all__ = [
    "Heap",
    "MemoryMap",
    "give_back",
    "heap",
    "memory_map",
    "peak_rss_bytes",
    "reset_peak",
    "rss_and_peak_bytes",
    "rss_bytes",
]

_PROC = Path("/proc")
_GUARD_BYTES = 64 * 1024  # below a thread's stack lies a small stretch that nobody may touch


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


def rss_and_peak_bytes(*, proc: Path = _PROC) -> tuple[int, int] | Unavailable:
    """Resident set size of this process and its peak since `reset_peak`, in bytes, from one look at the kernel's words."""
    try:
        with open(f"{proc}/self/status", "rb", buffering=0) as file:  # noqa: PTH123 -- a Path costs more than the reading
            text = file.read()
        size, peak = (int(text.partition(key)[2].split(maxsplit=1)[0]) * 1024 for key in (b"VmRSS:", b"VmHWM:"))
    except (OSError, IndexError):
        return Unavailable(quantity="peak_rss_bytes", reason=f"this kernel shows no VmHWM in {proc}/self/status")
    return size, peak


def reset_peak(*, proc: Path = _PROC) -> Unavailable | None:
    """Start this process's peak afresh from its present size (Linux: ``5`` to ``/proc/self/clear_refs``)."""
    try:
        with open(f"{proc}/self/clear_refs", "wb", buffering=0) as file:  # noqa: PTH123
            file.write(b"5")
    except OSError as error:
        return Unavailable(quantity="peak_rss_bytes", reason=f"the kernel did not reset the peak: {error.strerror}")
    return None


# --- who holds the pages ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryMap:
    """This process's resident pages by what they map, in bytes; the first is the sum of the next three."""

    resident_bytes: int
    anonymous_bytes: int  # no file behind them: heap, stacks, code made at run time
    library_bytes: int  # the interpreter's and libraries' files, with their pages written to
    model_bytes: int  # files below the model's folder
    untouched_bytes: int  # anonymous memory that was asked for and never written; not resident


def memory_map(model: Path | None = None, *, proc: Path = _PROC) -> MemoryMap | Unavailable:
    """Read ``/proc/self/smaps``, which counts page by page; `model` is the folder whose mapped files are the model's.

    Thread stacks (known by the guard pages below them) are left out of ``untouched_bytes``.
    """
    try:
        text = (proc / "self" / "smaps").read_text()
    except OSError as error:
        return Unavailable(quantity="memory_map", reason=f"cannot read {proc}/self/smaps: {error.strerror}")
    folder = None if model is None else f"{model.resolve()}/"
    anonymous = library = of_model = untouched = 0
    for area in _areas(text):
        if folder is not None and area.path.startswith(folder):
            of_model += area.resident
        elif area.path.startswith("/"):
            library += area.resident
        else:
            anonymous += area.resident
            untouched += 0 if area.guarded or "w" not in area.rights else area.size - area.resident
    return MemoryMap(
        resident_bytes=anonymous + library + of_model,
        anonymous_bytes=anonymous,
        library_bytes=library,
        model_bytes=of_model,
        untouched_bytes=untouched,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Area:
    path: str
    rights: str
    size: int
    resident: int
    guarded: bool


def _areas(text: str) -> Iterator[_Area]:
    """Mapped areas in the order of their addresses, as proc_pid_smaps(5) lays them out."""
    guard_end = ""
    for block in _blocks(text):
        span, rights, *rest = block[0].split(maxsplit=5)
        start, _, end = span.partition("-")
        path = rest[3] if len(rest) > 3 else ""
        size, resident = _size_of(block, "Size:"), _size_of(block, "Rss:")
        yield _Area(
            path=path, rights=rights, size=size, resident=resident, guarded=guard_end == start or path == "[stack]"
        )
        guard_end = end if rights.startswith("---") and size <= _GUARD_BYTES else ""


def _size_of(block: list[str], key: str) -> int:
    return next((int(line.split()[1]) * 1024 for line in block if line.startswith(key)), 0)


def _blocks(text: str) -> Iterator[list[str]]:
    block: list[str] = []
    for line in text.splitlines():
        if block and "-" in line.partition(" ")[0]:  # a range of addresses begins the next area
            yield block
            block = []
        block.append(line)
    if block:
        yield block


@dataclass(frozen=True, slots=True, kw_only=True)
class Heap:
    """The C library's allocator: bytes handed out, and freed bytes that it keeps for the next call."""

    used_bytes: int
    free_bytes: int


class _MallInfo(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost",
        )
    ]  # fmt: skip


def heap() -> Heap | Unavailable:
    """Ask glibc (``mallinfo2``, since 2.33) for all its arenas and the large blocks it maps one by one."""
    ask = _mallinfo2()
    if ask is None:
        return Unavailable(quantity="heap", reason="this C library has no mallinfo2 (glibc 2.33 or newer has)")
    found = ask()
    return Heap(used_bytes=found.uordblks + found.hblkhd, free_bytes=found.fordblks)


def give_back() -> None:
    """Return what the process holds and does not use to the kernel, where glibc can: what it takes next counts as growth."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _mallinfo2() -> Any:
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is not None:
        ask.restype = _MallInfo
    return ask


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
