"""`torch.compile`: operators fused into generated C++, weights frozen into the code."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from steelyard.errors import CannotApply
from steelyard.passes.bench import Bench, Built
from steelyard.passes.options import check_words
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact

__all__ = ["Compile"]


@dataclass(frozen=True, slots=True)
class Compile:
    """Compile with Inductor at load time. Needs a C++ compiler where the model runs; the first load is slow.

    ``max-autotune`` tries several kernels for each product and keeps the fastest, which takes minutes;
    ``reduce-overhead`` replays recorded launches, which only GPUs have. ``dynamic`` compiles once for all batch sizes instead
    of once for each.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "final"
    kind: ClassVar[str] = "compile"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"mode": ("default", "max-autotune")}
    mode: Literal["default", "max-autotune", "reduce-overhead"] = "default"
    dynamic: bool = False

    def __post_init__(self) -> None:
        check_words("compile", self)

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the program, marked to be compiled, and compile it once so that later loads find the cache warm."""
        import torch

        from steelyard.passes.modules import module_of, save_module
        from steelyard.subject.engines.torch import compiled

        on_gpu = str(source.options.get("device") or "cpu") != "cpu"
        if self.mode == "reduce-overhead" and not on_gpu:
            raise CannotApply("reduce-overhead replays CUDA graphs; on a processor it is the default mode")
        module = module_of(source)
        options: dict[str, Scalar] = {"compile": True if self.mode == "default" else self.mode}
        if self.dynamic:
            options["dynamic"] = True
        built = save_module(module, source, bench, tolerance=2e-2, options=options)
        call = compiled(module, self.mode, dynamic=self.dynamic)
        with torch.no_grad():
            outputs = call(torch.from_numpy(bench.examples)).numpy()
        return dataclasses.replace(built, outputs=outputs)
