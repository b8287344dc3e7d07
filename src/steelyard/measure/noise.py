"""How noisy this machine is right now, by timing the same work again and again."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from steelyard.measure.worker import time_calls
from steelyard.probe.host import load_now

__all__ = ["Noise", "machine_noise"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Noise:
    """Fractions: interquartile range of slot medians over their median, change from first to last third, stolen time."""

    spread: float
    drift: float
    steal: float

    @property
    def verdict(self) -> str:
        """What it means for measuring, in words."""
        worst = max(self.spread, abs(self.drift), self.steal)
        if worst < 0.02:
            return "quiet: differences of 2 % can be told apart quickly"
        if worst < 0.1:
            return "some noise: taking turns cancels it, small differences need longer budgets"
        return "noisy: other work is running; expect wide intervals or wait"


def machine_noise(slots: int = 40, slot_s: float = 0.025) -> Noise:
    """Time a fixed matrix product in `slots` slots of `slot_s` seconds."""
    matrix = np.random.default_rng(0).standard_normal((192, 192)).astype(np.float32)
    before = load_now()
    medians = np.array([np.median(time_calls(matrix.__matmul__, matrix, slot_s)) for _ in range(slots)])
    low, middle, high = np.quantile(medians, [0.25, 0.5, 0.75])
    third = slots // 3
    return Noise(
        spread=float((high - low) / middle),
        drift=float(np.median(medians[-third:]) / np.median(medians[:third]) - 1),
        steal=load_now().since(before).steal_share,
    )
