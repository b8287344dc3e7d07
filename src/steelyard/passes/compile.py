"""`torch.compile`: operators fused into generated C++, weights frozen into the code."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import ClassVar

from steelyard.passes.bench import Bench, Built
from steelyard.subject.artifact import Artifact

__all__ = ["Compile"]


@dataclass(frozen=True, slots=True)
class Compile:
    """Compile with Inductor at load time. Needs a C++ compiler where the model runs; the first load is slow."""

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "final"
    kind: ClassVar[str] = "compile"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the program, marked to be compiled, and compile it once so that later loads find the cache warm."""
        import torch

        from steelyard.passes.modules import module_of, save_module
        from steelyard.subject.engines.torch import compiled

        module = module_of(source)
        built = save_module(module, source, bench, tolerance=2e-2, options={"compile": True})
        call = compiled(module)
        with torch.no_grad():
            outputs = call(torch.from_numpy(bench.examples)).numpy()
        return dataclasses.replace(built, outputs=outputs)
