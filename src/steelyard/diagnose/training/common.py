"""What findings of a training are made of."""

from __future__ import annotations

from steelyard.records import Ceiling, Finding, Watched
from steelyard.report.training import breakdown

__all__ = ["finding", "removed", "share_of", "tried"]


def finding(name: str, claim: str, evidence: dict[str, float], *tries: Ceiling) -> Finding:
    return Finding(name=name, claim=claim, evidence=evidence, ceilings=tries)


def tried(technique: str, because: str, *, share: float = 0.0, gain: float = 1.0, ceiling: float = 1.0) -> Ceiling:
    return Ceiling(technique=technique, share=share, gain=gain, ceiling=ceiling, helps=True, because=because)


def removed(share: float, left: float = 0.0) -> float:
    """Gain where of this share of the time only `left` of it stays (Amdahl 1967)."""
    return 1 / max(1 - share * (1 - left), 1e-9)


def share_of(watched: Watched, phase: str) -> float:
    return next((part.share for part in breakdown(watched) if part.phase == phase), 0.0)
