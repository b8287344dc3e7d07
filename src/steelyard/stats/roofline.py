"""The roofline (Williams, Waterman and Patterson 2009): the least time in which a machine can do a piece of work.

Work is FLOPs and the bytes that move. A machine has a highest rate of arithmetic for each data type, and moves bytes from
a cache and from memory. The least time is the larger of what the arithmetic and the bytes need. All rates are measured
ones, in FLOP/s and byte/s.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.records import Floats, Profiled, Sample, Unavailable

__all__ = ["Placed", "Roof", "Traffic", "between_s", "layer_seconds", "place", "raised", "roof_of"]

_DTYPES = ("fp32", "bf16", "fp16", "int8")
SMALL_CALL = 20  # an operator that takes fewer dispatches' worth of time is mostly fixed cost


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """How fast bytes come: the first `cache_bytes` from the last-level cache, the rest from memory."""

    read_bytes_per_s: float
    cache_bytes_per_s: float
    cache_bytes: float = 0.0

    def seconds(self, moved_bytes: float) -> float:
        """Least time for so many bytes.

        >>> Traffic(read_bytes_per_s=10.0, cache_bytes_per_s=40.0, cache_bytes=80.0).seconds(100.0)
        4.0
        """
        near = min(moved_bytes, self.cache_bytes)
        return near / self.cache_bytes_per_s + (moved_bytes - near) / self.read_bytes_per_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """A machine's ceilings: FLOP/s by data type, and its traffic of bytes."""

    flops_per_s: Mapping[str, float]
    traffic: Traffic

    def rates(self, dtypes: Sequence[str]) -> Floats:
        """Peak of each data type in FLOP/s; where a type was not measured, that of fp32, which most others reach."""
        return np.array([self.flops_per_s.get(d, self.flops_per_s["fp32"]) for d in dtypes])

    def compute_s(self, flops: Floats, dtypes: Sequence[str]) -> Floats:
        """Least time of the arithmetic ``(n,)``."""
        return np.asarray(flops, dtype=np.float64) / self.rates(dtypes)

    def memory_s(self, moved_bytes: Floats) -> Floats:
        """Least time of the bytes ``(n,)``, each piece of work taken alone."""
        return np.array([self.traffic.seconds(float(b)) for b in moved_bytes])

    def least_s(self, flops: Floats, moved_bytes: Floats, dtypes: Sequence[str]) -> Floats:
        """Least time of each piece of work ``(n,)``.

        >>> roof = Roof(flops_per_s={"fp32": 100.0}, traffic=Traffic(read_bytes_per_s=10.0, cache_bytes_per_s=10.0))
        >>> roof.least_s(np.array([500.0, 10.0]), np.array([20.0, 40.0]), ["fp32", "fp32"]).tolist()
        [5.0, 4.0]
        """
        return np.maximum(self.compute_s(flops, dtypes), self.memory_s(moved_bytes))


def roof_of(peaks: Sequence[Sample | Unavailable]) -> Roof | None:
    """The roof that a machine's measured ceilings make (`steelyard.probe.peaks`); None without fp32 or a bandwidth.

    A ceiling is the best reading. Where only copying was measured, it stands for reading too.
    """
    best = {p.quantity: float(np.max(p.values)) for p in peaks if isinstance(p, Sample)}
    copied = best.get("copy_bandwidth_bytes_per_s")
    if copied is None or "gemm_fp32_flops" not in best:
        return None
    read = max(best.get("read_bandwidth_bytes_per_s", 0.0), copied)
    cache = next((p for p in peaks if isinstance(p, Sample) and p.quantity == "cache_bandwidth_bytes_per_s"), None)
    size = 0.0 if cache is None else float(cache.conditions.get("cache_bytes") or 0)
    return Roof(
        flops_per_s={d: best[f"gemm_{d}_flops"] for d in _DTYPES if f"gemm_{d}_flops" in best},
        traffic=Traffic(
            read_bytes_per_s=read,
            cache_bytes_per_s=max(best.get("cache_bandwidth_bytes_per_s", 0.0), read),
            cache_bytes=size,
        ),
    )


def raised(roof: Roof, profiled: Profiled) -> Roof:
    """The roof, no lower than what a layer was seen to reach: a peak that was measured in a busy moment is none."""
    seconds = layer_seconds(profiled)
    peaks = dict(roof.flops_per_s)
    for row, spent in zip(profiled.layers, seconds, strict=True):
        if row.dtype in peaks and spent > 0:
            peaks[row.dtype] = max(peaks[row.dtype], 2.0 * row.macs / float(spent))
    return Roof(flops_per_s=peaks, traffic=roof.traffic)


def layer_seconds(profiled: Profiled) -> Floats:
    """Seconds of each layer in an inference ``(layers,)``: medians over the runs.

    The profiler slows what it watches. Where the layers together take longer than an inference without it, all are scaled
    down to that; their shares stay. Where they take less, `between_s` says what goes on between operators.
    """
    seconds = np.array([float(np.median(row.seconds)) for row in profiled.layers])
    total, plain = float(seconds.sum()), float(np.median(profiled.plain_s))
    return seconds * (plain / total) if total > plain else seconds


def between_s(profiled: Profiled) -> float:
    """Seconds of an inference that go by between its layers: the median over the profiled ones.

    Together with the layers never more than an inference without the profiler takes, which works between operators too. It
    may be less: on a busy machine whole inferences hold waits that the median of no single layer shows.
    """
    spent = np.sum([row.seconds for row in profiled.layers], axis=0) if profiled.layers else 0.0
    seen = float(np.median(profiled.profiled_s - spent))
    room = float(np.median(profiled.plain_s)) - float(layer_seconds(profiled).sum())
    return max(0.0, min(seen, room))


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Placed:
    """Layers under the roof; arrays ``(layers,)``. ``share`` is the least time over the time taken, 1 on the roof."""

    seconds: Floats
    flops: Floats
    moved_bytes: Floats
    compute_s: Floats
    memory_s: Floats
    share: Floats
    bounds: tuple[str, ...]  # compute | memory | dispatch, or "" where nothing is known to be asked for

    @property
    def least_s(self) -> Floats:
        """The roofline's least time of each."""
        return np.maximum(self.compute_s, self.memory_s)


def place(profiled: Profiled, roof: Roof, dispatch_s: float = 0.0) -> Placed:
    """Each layer of a profile under the roof: its least time, the share of it that is reached, and what bounds it.

    A layer is dispatch-bound where its operators are too short for anything but their fixed cost to matter: under
    `SMALL_CALL` dispatches of `dispatch_s` each, and less than a quarter of that is arithmetic or bytes. Else the larger of
    the two least times bounds it.
    """
    rows = profiled.layers
    seconds = layer_seconds(profiled)
    flops = np.array([2.0 * row.macs for row in rows])
    moved = np.array([float(row.moved_bytes) for row in rows])
    calls = np.array([row.calls for row in rows])
    compute_s, memory_s = roof.compute_s(flops, [row.dtype for row in rows]), roof.memory_s(moved)
    least_s = np.maximum(compute_s, memory_s)
    short = (least_s < seconds / 4) & (seconds < SMALL_CALL * dispatch_s * calls)
    sides = np.where(least_s == 0, "", np.where(compute_s >= memory_s, "compute", "memory"))
    return Placed(
        seconds=seconds,
        flops=flops,
        moved_bytes=moved,
        compute_s=compute_s,
        memory_s=memory_s,
        share=np.divide(least_s, seconds, out=np.zeros_like(least_s), where=seconds > 0),
        bounds=tuple(np.where(short, "dispatch", sides).tolist()),
    )
