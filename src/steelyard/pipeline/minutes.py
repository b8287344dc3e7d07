"""What training a candidate will take, from what the baseline took."""

from __future__ import annotations

from steelyard.passes import PASSES
from steelyard.passes.build import TRAINING
from steelyard.records import Measurement, Sample

__all__ = ["training_minutes"]

_PASSES_OVER = 3.0  # a step's forward and backward pass take three times a forward: two products behind for one ahead


def training_minutes(baseline: Measurement, examples: int, limit_s: float) -> dict[str, float]:
    """Minutes by the name of each step that trains, for its own number of epochs; empty where no speed is known.

    Each example costs three forward passes an epoch and one for the baseline's answers, at the best throughput that
    the baseline reached; a candidate that does less work takes less. No training goes over its part of `limit_s`.
    """
    seconds = _example_s(baseline)
    if seconds is None or not examples:
        return {}
    most = TRAINING * limit_s / 60
    return {
        name: min(most, (_PASSES_OVER * kind().epochs + 1) * examples * seconds / 60)
        for name, kind in PASSES.items()
        if getattr(kind, "trains", False)
    }


def _example_s(baseline: Measurement) -> float | None:
    """Seconds an example takes at the batch size that serves the most."""
    rates = [r.value for r in baseline.all("throughput_per_s") if r.value > 0]
    if rates:
        return 1 / max(rates)
    alone = baseline.get("latency_s", batch=1)
    return alone.value if isinstance(alone, Sample) else None
