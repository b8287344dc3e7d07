"""Channels-last: convolutions read neighbouring channels from neighbouring addresses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steelyard.errors import CannotApply
from steelyard.passes.bench import Bench, Built
from steelyard.subject.artifact import Artifact

__all__ = ["ChannelsLast"]


@dataclass(frozen=True, slots=True)
class ChannelsLast:
    """Weights and inputs in ``torch.channels_last`` memory format. Exact up to the order of summation."""

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "torch"
    kind: ClassVar[str] = "layout"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the program in the new layout."""
        from steelyard.passes.modules import InLayout, module_of, save_module

        if len(source.contract.shape) != 3:
            raise CannotApply(f"channels-last is for pictures; this model takes shape {source.contract.shape}")
        return save_module(InLayout(module_of(source)), source, bench, tolerance=1e-3)
