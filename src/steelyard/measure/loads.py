"""What a process does while its machine's power is read: one kind of work, for a time, some share of the time.

Runs in a child (see `process`), one thread each, so that loads add up by processes. Numerical libraries are imported when
work begins, after they have been told to use one thread.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from steelyard.errors import CannotApply
from steelyard.probe.host import clock_ghz

__all__ = ["KINDS", "Loads", "Work"]

SLICE_S = 0.02  # in which a share of the time is worked and the rest rested
_SMALL = 2048  # numbers that stay in the first cache
_LARGE = 8 << 20  # numbers that do not stay in any
_SIDE = 512  # of a matrix product

Step = Callable[[], object]


class Work(NamedTuple):
    """One step of a kind of work, and what it does by the columns of a calibration."""

    step: Step
    does: dict[str, float]


class Loads:
    """Answers a parent's calls."""

    def __init__(self) -> None:
        for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
            os.environ[name] = "1"
        self._made: dict[str, Work] = {}

    def ready(self, kind: str) -> bool:
        """Prepare a kind of work; False where its library is absent or refuses."""
        try:
            self._work(kind).step()
        except (ImportError, RuntimeError, CannotApply):
            return False
        return True

    def run(self, kind: str, seconds: float, duty: float) -> dict[str, Any]:
        """Work for `seconds`, a share `duty` of each slice: what was done, a second, and the processor time it took."""
        work = self._work(kind)
        began, cpu = time.perf_counter(), time.process_time()
        steps = 0
        while (now := time.perf_counter()) < began + seconds:
            steps += _steps_until(work.step, now + duty * SLICE_S)
            ghz = clock_ghz()
            if duty < 1:
                time.sleep(max(0.0, now + SLICE_S - time.perf_counter()))
        wall = time.perf_counter() - began
        done = {name: amount * steps / wall for name, amount in work.does.items()}
        return {"busy_cores": (time.process_time() - cpu) / wall, "clock_ghz": ghz, **done}

    def _work(self, kind: str) -> Work:
        if kind not in self._made:
            self._made[kind] = KINDS[kind]()
        return self._made[kind]


def _steps_until(step: Step, end: float) -> int:
    count = 0
    while count == 0 or time.perf_counter() < end:
        step()
        count += 1
    return count


# --- kinds -----------------------------------------------------------------------------------------------


def _integer() -> Work:
    import numpy as np

    numbers = np.arange(_SMALL, dtype=np.int64)
    out = np.empty_like(numbers)

    def step() -> None:
        for _ in range(50):
            np.multiply(numbers, 2654435761, out=out)
            np.bitwise_xor(out, numbers, out=out)

    return Work(step, {})


def _floating() -> Work:
    import numpy as np

    numbers = np.linspace(1.0, 2.0, _SMALL)
    out = np.empty_like(numbers)

    def step() -> None:
        for _ in range(50):
            np.multiply(numbers, 1.0001, out=out)
            np.sqrt(out, out=out)

    return Work(step, {})


def _memory() -> Work:
    import numpy as np

    source = np.ones(_LARGE)
    target = np.empty_like(source)
    return Work(partial(np.copyto, target, source), {"moved_bytes_per_s": 2.0 * source.nbytes})


def _gemm_fp32() -> Work:
    import numpy as np

    left = np.random.default_rng(0).standard_normal((_SIDE, _SIDE), dtype=np.float32)
    out = np.empty_like(left)
    return Work(partial(np.matmul, left, left, out=out), {"fp32_macs_per_s": float(_SIDE**3)})


def _gemm_bf16() -> Work:
    import torch

    torch.set_num_threads(1)
    left = torch.ones((_SIDE, _SIDE), dtype=torch.bfloat16)
    return Work(partial(torch.matmul, left, left), {"bf16_macs_per_s": float(_SIDE**3)})


def _gemm_int8() -> Work:
    import torch

    torch.set_num_threads(1)
    left = torch.ones((_SIDE, _SIDE), dtype=torch.int8)
    return Work(partial(torch._int_mm, left, left), {"int8_macs_per_s": float(_SIDE**3)})


KINDS: dict[str, Callable[[], Work]] = {
    "integer": _integer,
    "floating": _floating,
    "memory": _memory,
    "gemm fp32": _gemm_fp32,
    "gemm bf16": _gemm_bf16,
    "gemm int8": _gemm_int8,
}
"""Kinds of work by name; "idle" is none of them."""
