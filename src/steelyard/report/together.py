"""What several processes that trained together sent each other, and what they gained over one, in words."""

from __future__ import annotations

import numpy as np

from steelyard.records import Estimate, Sample, TrainingRun, Unavailable
from steelyard.report import numbers
from steelyard.stats.paired import log_ratio_interval

__all__ = ["efficiency", "lines", "sending_share", "speedup", "together_json"]


def sending_share(run: TrainingRun) -> float | None:
    """The share of the steps' time in which gradients were on the way; most of it may lie behind the backward pass."""
    sending = _reading(run, "sending_s")
    return None if sending is None else float(sending.values.sum() / run.step_s[-len(sending.values) :].sum())


def speedup(run: TrainingRun, level: float = 0.95) -> Estimate | Unavailable:
    """How many times as fast the processes step as one alone: the geometric mean of the rounds' ratios, with its t interval."""
    alone, together = _reading(run, "step_alone_s"), _reading(run, "step_together_s")
    if alone is None or together is None:
        return Unavailable(quantity="speedup", reason="it was not measured: --scaling measures it")
    value, low, high = log_ratio_interval(np.log(alone.values / together.values), level)
    return Estimate(
        quantity="speedup", unit="ratio", value=value, low=low, high=high, level=level,
        method="t on logs of the rounds' ratios", n=len(alone.values),
    )  # fmt: skip


def efficiency(run: TrainingRun, level: float = 0.95) -> Estimate | Unavailable:
    """The speed-up over the number of processes: 1 where none of them waits."""
    found, count = speedup(run, level), _processes(run)
    if isinstance(found, Unavailable):
        return Unavailable(quantity="scaling efficiency", reason=found.reason)
    return Estimate(
        quantity="scaling efficiency", unit="fraction", value=found.value / count, low=found.low / count,
        high=found.high / count, level=level, method=found.method, n=found.n,
    )  # fmt: skip


def lines(run: TrainingRun) -> tuple[str, ...]:
    """For the terminal; nothing for one process."""
    sent, share = _reading(run, "sent_bytes"), sending_share(run)
    said = []
    if sent is not None and share is not None:
        size, part = numbers.size(float(np.median(sent.values))), numbers.quantity(share, "fraction")
        said.append(f"{_processes(run)} processes: each sends {size} of gradients a step, {part} of the time")
    fast, efficient = speedup(run), efficiency(run)
    if isinstance(fast, Estimate) and isinstance(efficient, Estimate):
        times = numbers.interval(fast.value, fast.low, fast.high, fast.unit)
        of_all = numbers.interval(efficient.value, efficient.low, efficient.high, efficient.unit)
        said.append(
            f"{_processes(run)} processes step {times} as fast as one with the threads of one: efficiency {of_all}"
        )
    return tuple(said)


def together_json(run: TrainingRun) -> dict[str, object] | None:
    """The same as plain values; None for one process."""
    sent = _reading(run, "sent_bytes")
    if sent is None:
        return None
    fast, efficient = speedup(run), efficiency(run)
    return {
        "processes": _processes(run),
        "sent_bytes_a_step": float(np.median(sent.values)),
        "sending_share": sending_share(run),
        "speedup": _plain(fast),
        "efficiency": _plain(efficient),
    }


def _plain(found: Estimate | Unavailable) -> dict[str, object]:
    if isinstance(found, Unavailable):
        return {"unavailable": found.reason}
    return {"value": found.value, "low": found.low, "high": found.high, "level": found.level, "method": found.method}


def _processes(run: TrainingRun) -> int:
    counts = (r.conditions["processes"] for r in run.readings if "processes" in r.conditions)
    return int(next(counts, 1) or 1)


def _reading(run: TrainingRun, quantity: str) -> Sample | None:
    return next((r for r in run.readings if isinstance(r, Sample) and r.quantity == quantity), None)
