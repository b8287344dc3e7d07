"""The self-test's work: one fixed NumPy kernel, and the same with exactly 2 % and 5 % more of it.

The kernel's arrays fit the first-level cache and lie alike in every process (at the start of a page, one cache line and
half a page apart), and nothing runs in threads, so the work is the repeats and little else.
"""

from __future__ import annotations

import numpy as np

__all__ = ["EXTRA", "base", "five_percent_more", "two_percent_more"]

REPEATS = 100
EXTRA = {"base": 0.0, "two_percent_more": 0.02, "five_percent_more": 0.05}

_PAGE, _SIZE = 4096, 1024  # bytes, numbers
_SPACE = np.zeros(8 * _SIZE + 8 * _SIZE + 3 * _PAGE, dtype=np.uint8)
_START = -_SPACE.ctypes.data % _PAGE
_ROOTS = _SPACE[_START : _START + 8 * _SIZE].view(np.float64)
_BEHIND = _START + 8 * _SIZE + _PAGE // 2 + 64
_OUT = _SPACE[_BEHIND : _BEHIND + 8 * _SIZE].view(np.float64)
_ROOTS[:] = np.linspace(0.1, 1.0, _SIZE)


def base() -> None:
    """The kernel a hundred times."""
    _work(REPEATS)


def two_percent_more() -> None:
    """The kernel 102 times."""
    _work(REPEATS + 2)


def five_percent_more() -> None:
    """The kernel 105 times."""
    _work(REPEATS + 5)


def _work(times: int) -> None:
    for _ in range(times):
        np.sqrt(_ROOTS, out=_OUT)
