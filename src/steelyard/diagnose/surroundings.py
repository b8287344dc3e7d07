"""What holds a model back from outside: its data, an accelerator that waits, transfers, memory for larger batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from steelyard.records import Ceiling, Finding, Measurement, Profiled, Sample, Unavailable

__all__ = ["surroundings"]

BUSY = 0.5  # an accelerator that works for less of the time waits more than it works
MUCH = 0.3  # a share of the time that transfers between devices should not take
RISING = 1.05  # throughput that grew by this with the last doubling of the batch would grow on
_TRANSFERS = frozenset({"to", "copy", "tocopy", "memcpy"})


def surroundings(baseline: Measurement, profiled: Profiled | None = None) -> tuple[Finding, ...]:
    """Findings about the surroundings, none where there is no reason for one.

    ``data-bound``: ``data_examples_per_s`` lies below the model's own rate. ``idle-accelerator``: the machine has one and the
    model runs on the processor, or it runs there and ``gpu_busy_fraction`` is low. ``communication-bound``: transfers between
    devices take much of the time. ``memory-limited-batch``: a batch size of ``throughput_per_s`` ran out of memory while the
    throughput still rose.
    """
    return tuple(
        found
        for found in (
            _data(baseline, profiled),
            _accelerator(baseline, profiled),
            _communication(profiled),
            _batch(baseline),
        )
        if found is not None
    )


def _data(baseline: Measurement, profiled: Profiled | None) -> Finding | None:
    rates = baseline.all("data_examples_per_s")
    model = _model_rate(baseline, profiled)
    if not rates or model is None:
        return None
    data = float(np.median(np.concatenate([r.values for r in rates])))
    if data >= model:
        return None
    words = f"the data gives {data:,.0f} examples/s by one process, the model takes {model:,.0f}: it waits for them"
    return Finding(
        name="data-bound",
        claim=words,
        evidence={"data_examples_per_s": data, "model_examples_per_s": model},
        ceilings=(
            Ceiling(
                technique="reading data in more processes, or keeping it decoded",
                share=1 - data / model,
                gain=model / data,
                ceiling=model / data,
                helps=True,
                because="the model's own rate is the most that faster data can give",
            ),
        ),
    )


def _model_rate(baseline: Measurement, profiled: Profiled | None) -> float | None:
    """The most examples per second that the model was seen to take."""
    found = [sample.value for sample in baseline.all("throughput_per_s")]
    found += [profiled.batch / float(np.median(profiled.plain_s))] if profiled is not None else []
    return max(found, default=None)


def _accelerator(baseline: Measurement, profiled: Profiled | None) -> Finding | None:
    present = baseline.environment.accelerators
    on_processor = profiled is None or profiled.device == "cpu"
    if present and on_processor:
        claim = f"{present[0]} is idle: the model runs on the processor"
        return Finding(name="idle-accelerator", claim=claim, evidence={"accelerators": float(len(present))})
    busy = baseline.all("gpu_busy_fraction")
    if on_processor or not busy:
        return None
    share = float(np.mean(np.concatenate([sample.values for sample in busy])))
    if share >= BUSY:
        return None
    claim = f"the accelerator works for {share:.0%} of the time and waits for the rest"
    return Finding(name="idle-accelerator", claim=claim, evidence={"gpu_busy_fraction": share})


def _communication(profiled: Profiled | None) -> Finding | None:
    """Transfers are seen on an accelerator only: on the processor nothing is moved between devices."""
    if profiled is None or profiled.device == "cpu":
        return None
    spent = {row: float(np.median(row.seconds)) for row in profiled.layers}
    moving = sum(seconds for row, seconds in spent.items() if row.operator in _TRANSFERS)
    whole = sum(spent.values())
    if not whole or moving / whole < MUCH:
        return None
    claim = f"transfers between processor and accelerator take {moving / whole:.0%} of the time there"
    return Finding(
        name="communication-bound",
        claim=claim,
        evidence={"transfer_time_share": moving / whole, "transfer_s": moving},
    )


def _batch(baseline: Measurement) -> Finding | None:
    rates = dict(sorted(_by_batch(baseline)))
    out = [
        int(r.conditions["batch"] or 0)
        for r in baseline.readings
        if isinstance(r, Unavailable) and r.quantity == "throughput_per_s" and "memory" in r.reason and r.conditions
    ]
    if len(rates) < 2 or not out:
        return None
    (_, before), (largest, last) = list(rates.items())[-2:]
    if min(out) < largest or last < RISING * before:
        return None
    claim = (
        f"batch {min(out)} does not fit in memory, and the throughput still rose at {largest}: memory limits the batch"
    )
    return Finding(
        name="memory-limited-batch",
        claim=claim,
        evidence={"largest_batch": float(largest), "throughput_per_s": last, "throughput_before_per_s": before},
    )


def _by_batch(baseline: Measurement) -> Iterator[tuple[int, float]]:
    for sample in baseline.all("throughput_per_s"):
        if "batch" in sample.conditions and isinstance(sample, Sample):
            yield int(sample.conditions["batch"] or 0), sample.value
