"""bfloat16: half the bytes, and twice the arithmetic or more where the processor has the instructions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from steelyard.passes.bench import Bench, Built
from steelyard.subject.artifact import Artifact

__all__ = ["Bf16"]


@dataclass(frozen=True, slots=True)
class Bf16:
    """Weights and activations in bfloat16 (8 bits of exponent, 7 of fraction); inputs and outputs stay float32."""

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "torch"
    kind: ClassVar[str] = "bf16"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the program in bfloat16."""
        import torch

        from steelyard.passes.modules import Cast, module_of, save_module

        return save_module(Cast(module_of(source), torch.bfloat16), source, bench, tolerance=5e-2)
