"""The page cache: which part of a file stands in memory, and how to drop it without privileges."""

from __future__ import annotations

import ctypes
import mmap
import os
from collections.abc import Iterable
from pathlib import Path

from steelyard.records import Unavailable

__all__ = ["drop_pages", "resident_share"]

_PROT_READ, _MAP_PRIVATE = 1, 2
_FAILED = ctypes.c_void_p(-1).value


def drop_pages(paths: Iterable[Path]) -> None:
    """Write these files back and ask the kernel to drop their pages (``POSIX_FADV_DONTNEED``).

    It is a request: pages that another process has mapped stay. Ask :func:`resident_share` afterwards.
    """
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a page not yet written back cannot be dropped
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def resident_share(paths: Iterable[Path]) -> float | Unavailable:
    """Share of the files' pages that stand in memory, 0 to 1, by mincore(2); looking reads nothing."""
    counts = [_resident_pages(path) for path in paths]
    missing = next((c for c in counts if isinstance(c, Unavailable)), None)
    if missing is not None:
        return missing
    resident, pages = (sum(c[i] for c in counts if not isinstance(c, Unavailable)) for i in (0, 1))
    return resident / pages if pages else 0.0


def _resident_pages(path: Path) -> tuple[int, int] | Unavailable:
    """(pages in memory, pages) of one file."""
    size = path.stat().st_size
    if not size:
        return 0, 0
    libc = ctypes.CDLL(None, use_errno=True)
    libc.mmap.restype = ctypes.c_void_p
    libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *(3 * [ctypes.c_int]), ctypes.c_long]
    with path.open("rb") as file:
        address = libc.mmap(None, size, _PROT_READ, _MAP_PRIVATE, file.fileno(), 0)
    if address == _FAILED:
        return _unknown(path)
    pages = -(-size // mmap.PAGESIZE)
    seen = (ctypes.c_ubyte * pages)()
    failed = libc.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), seen)
    libc.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
    return _unknown(path) if failed else (sum(page & 1 for page in seen), pages)


def _unknown(path: Path) -> Unavailable:
    reason = os.strerror(ctypes.get_errno())
    return Unavailable(
        quantity="resident_share", reason=f"cannot see which pages of {path.name} are in memory: {reason}"
    )
