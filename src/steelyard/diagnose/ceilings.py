"""What a technique can give at most here: Amdahl's law (1967) over the layers that it touches, and the measured roof.

Of an inference that takes T, the touched layers take t. If they then need t', the gain is T / (T - t + t'). Two t' are
given: each layer keeps its present distance from the roof, whose height changes (`gain`), and each layer reaches the roof
(`ceiling`). Nobody gets more than the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.records import Ceiling, Floats, Profiled, Sample, Unavailable
from steelyard.stats.roofline import Placed, Roof, between_s, place

__all__ = ["ceilings"]

WORTH = 1.05  # a gain below this is not worth a change
FASTER = 1.1  # a data type must multiply this much faster to bring speed by itself
FUSED = 0.3  # of the time of element-wise operators stays where an engine fuses them; a rule of thumb


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Case:
    profiled: Profiled
    roof: Roof
    placed: Placed
    whole_s: float  # the layers and what goes by between them

    @property
    def macs(self) -> Floats:
        return np.array([row.macs for row in self.profiled.layers], dtype=np.float64)

    @property
    def dtypes(self) -> list[str]:
        return [row.dtype for row in self.profiled.layers]


def ceilings(
    profiled: Profiled, roof: Roof, *, dispatch_s: float = 0.0, rates: Sequence[Sample | Unavailable] = ()
) -> tuple[Ceiling, ...]:
    """Quantisation, bf16, fusing, another engine and larger batches, in that order.

    `rates` are readings ``throughput_per_s`` at several batch sizes, where they were taken. The gain of larger batches is one
    of throughput; the others are of latency too.
    """
    placed = place(profiled, roof, dispatch_s)
    whole_s = float(placed.seconds.sum()) + between_s(profiled)
    case = _Case(profiled=profiled, roof=roof, placed=placed, whole_s=whole_s)
    return (
        _narrower(case, "INT8 quantisation", "int8", 0.25),
        _narrower(case, "bf16", "bf16", 0.5),
        _fusing(case),
        _engine(case),
        _batching(case, rates),
    )


def _amdahl(case: _Case, touched: np.ndarray, after_s: Floats) -> float:
    """Gain where the touched layers take `after_s` instead, and nothing else changes."""
    now = case.placed.seconds
    saved = float(np.sum((now - np.minimum(after_s, now))[touched]))
    return case.whole_s / max(case.whole_s - saved, 1e-12)


def _share(case: _Case, touched: np.ndarray) -> float:
    return float(np.sum(case.placed.seconds[touched]) / case.whole_s)


def _nothing(technique: str, because: str, share: float = 0.0) -> Ceiling:
    return Ceiling(technique=technique, share=share, gain=1.0, ceiling=1.0, helps=False, because=because)


def _narrower(case: _Case, technique: str, dtype: str, factor: float) -> Ceiling:
    """Arithmetic in a narrower type, whose weights and activations take `factor` of the bytes."""
    order = ("fp64", "fp32", "fp16", "bf16", "int8")
    wider = [name in order[: order.index(dtype)] for name in case.dtypes]
    touched = (case.macs > 0) & np.array(wider, dtype=bool)
    share = _share(case, touched)
    if not touched.any():
        return _nothing(technique, f"no layer with arithmetic is wider than {dtype} any more")
    peak = case.roof.flops_per_s.get(dtype)
    if peak is None:
        return _nothing(technique, f"how fast {dtype} multiplies here was not measured", share)
    placed = case.placed
    least_s = case.roof.least_s(placed.flops, factor * placed.moved_bytes, [dtype] * len(touched))
    slower = placed.least_s > 0
    change = np.divide(least_s, placed.least_s, out=np.ones_like(least_s), where=slower)
    gain = _amdahl(case, touched, placed.seconds * np.minimum(change, 1.0))
    ratio = peak / case.roof.flops_per_s["fp32"]
    words = f"its layers take {share:.0%} of the time; {dtype} multiplies at {ratio:.2g} times the fp32 rate here"
    if gain < WORTH:
        why = "no faster than fp32" if ratio < FASTER else "no help where neither arithmetic nor bytes rule"
        return _nothing(technique, f"{words}: {why}", share)
    return Ceiling(
        technique=technique,
        share=share,
        gain=gain,
        ceiling=max(gain, _amdahl(case, touched, least_s)),
        helps=True,
        because=words,
    )


def _fusing(case: _Case) -> Ceiling:
    """Element-wise and other operators without MACs, done while their input is still at hand."""
    technique, touched = "fusing operators without MACs", case.macs == 0
    share = _share(case, touched)
    ceiling = _amdahl(case, touched, np.zeros_like(case.placed.seconds))
    words = f"operators without MACs take {share:.0%} of the time"
    if ceiling < WORTH:
        return _nothing(technique, words, share)
    gain = _amdahl(case, touched, FUSED * case.placed.seconds)
    return Ceiling(technique=technique, share=share, gain=gain, ceiling=ceiling, helps=True, because=words)


def _engine(case: _Case) -> Ceiling:
    """An engine without overhead whose kernels reach the roof and fuse the rest into them."""
    technique, counted = "another engine", case.macs > 0
    least_s = float(np.sum(case.placed.least_s[counted]))
    idle_s = max(case.whole_s - float(np.sum(case.placed.seconds)), 0.0)
    share = min(1.0, 1 - least_s / case.whole_s)
    words = (
        f"the layers' arithmetic and bytes need {least_s * 1e3:.3g} ms of {case.whole_s * 1e3:.3g} ms,"
        f" {idle_s / case.whole_s:.0%} goes by between operators"
    )
    ceiling = max(1.0, case.whole_s / max(least_s, 1e-12)) if counted.any() else 1.0
    if case.profiled.engine not in ("eager", "torch"):
        return Ceiling(
            technique=technique,
            share=max(0.0, share),
            gain=1.0,
            ceiling=ceiling,
            helps=False,
            because=f"{words}; {case.profiled.engine} is an engine already, and another is tried rather than predicted",
        )
    gain = case.whole_s / _in_an_engine(case, counted, idle_s)
    return Ceiling(
        technique=technique,
        share=max(0.0, share),
        gain=min(gain, ceiling),
        ceiling=ceiling,
        helps=min(gain, ceiling) >= WORTH,
        because=words,
    )


def _in_an_engine(case: _Case, counted: np.ndarray, idle_s: float) -> float:
    """Seconds by the rules of thumb in `findings.EFFECTS`: a fifth of the overhead, 0.4 of the slack, 0.3 of the rest."""
    least_s, now = case.placed.least_s, case.placed.seconds
    ideal_s = float(np.sum(np.minimum(least_s, now)[counted]))
    slack_s = float(np.sum(now[counted])) - ideal_s
    return ideal_s + 0.4 * slack_s + FUSED * float(np.sum(now[~counted])) + 0.2 * idle_s


def _batching(case: _Case, rates: Sequence[Sample | Unavailable]) -> Ceiling:
    """So many examples at once that weights are read, and operators dispatched, for nothing; seconds an example."""
    technique, placed = "larger batches (throughput)", case.placed
    weights = np.array([float(row.weight_bytes) for row in case.profiled.layers])
    least_s = case.roof.least_s(placed.flops, np.maximum(placed.moved_bytes - weights, 0.0), case.dtypes)
    ceiling = max(1.0, case.whole_s / max(float(np.sum(least_s)), 1e-12))
    held = float(np.sum(np.minimum(placed.memory_s - case.roof.memory_s(placed.moved_bytes - weights), placed.seconds)))
    best = _best(rates)
    if best is not None:
        rate, size = best
        now = case.profiled.batch / float(np.median(case.profiled.plain_s))
        gain = rate / now
        words = f"batch {size} was measured: {rate:.3g} examples/s, {now:.3g} at {case.profiled.batch}"
    else:
        gain = case.whole_s / max(case.whole_s - held, 1e-12)
        words = f"reading weights takes at least {held * 1e3:.2g} ms of {case.whole_s * 1e3:.3g} ms"
    return Ceiling(
        technique=technique,
        share=held / case.whole_s,
        gain=max(gain, 1.0),
        ceiling=max(ceiling, gain),
        helps=gain >= WORTH,
        because=words,
    )


def _best(rates: Sequence[Sample | Unavailable]) -> tuple[float, int] | None:
    found = [(r.value, int(r.conditions.get("batch") or 1)) for r in rates if isinstance(r, Sample)]
    return max(found, default=None)
