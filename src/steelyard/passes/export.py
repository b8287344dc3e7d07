"""Export: the same numbers from one file that needs none of the user's code."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steelyard.passes.bench import Bench, Built
from steelyard.subject.artifact import Artifact

__all__ = ["Export"]


@dataclass(frozen=True, slots=True)
class Export:
    """`torch.export` to a .pt2; no technique of its own, but the way to deploy the baseline unchanged."""

    takes: ClassVar[frozenset[str]] = frozenset({"eager"})
    gives: ClassVar[str] = "final"
    kind: ClassVar[str] = "engine"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the program."""
        from steelyard.passes.modules import module_of, save_module

        return save_module(module_of(source), source, bench, tolerance=1e-3)
