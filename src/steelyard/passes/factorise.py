"""Low-rank factorisation: a layer whose weights repeat themselves becomes two thin ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes.bench import Bench, Built, check_recovery
from steelyard.passes.options import check_words
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Factorise"]


@dataclass(frozen=True, slots=True)
class Factorise:
    """Take linear layers and convolutions apart by their singular values where that saves MACs, then train.

    Each layer keeps the fewest singular values that hold ``energy`` of their sum of squares; or, with ``rank``, that
    share of those it has. Layers that would not shrink stay as they are, and so do grouped convolutions, attention's
    own projections, which PyTorch's fused kernels read, and layers that share their weights.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "torch"
    kind: ClassVar[str] = "low-rank"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"energy": (0.9, 0.8)}
    trains: ClassVar[bool] = True
    energy: float = 0.9
    rank: float | None = None
    epochs: float = 5
    lr: float = 1e-3
    distil: float = 0.5
    learns: Literal["all", "head", "statistics"] = "all"  # in the recovery
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for options that cannot be followed."""
        if not 0 < self.energy <= 1 or (self.rank is not None and not 0 < self.rank <= 1):
            raise InvalidInput(
                f"factorise: energy and rank must be above 0 and at most 1, got {self.energy} and {self.rank}"
            )
        check_recovery("factorise", self.epochs, self.lr, self.distil)
        check_words("factorise", self)

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the factorised and recovered program."""
        from steelyard.passes.lowrank import take_apart
        from steelyard.passes.recover import Recovery, recover
        from steelyard.passes.trainable import save_trainable, trainable

        module, shape = trainable(source)
        if self.epochs > 0:
            bench.training()
        if shape.sparse:
            raise CannotApply("the product of two layers would fill the zeros that sparsify made: factorise first")
        ranks = self._ranks(module)
        if not ranks:
            raise CannotApply(
                f"no layer is of low rank: keeping {self._words()}, two layers would multiply more than one everywhere"
            )
        for name, rank in ranks.items():
            take_apart(module, name, rank)
        shape = dataclasses.replace(shape, apart={**shape.apart, **ranks})
        how = Recovery(epochs=self.epochs, lr=self.lr, distil=self.distil, seed=self.seed, learns=self.learns)
        recover(module, shape, source.contract, bench, how)
        return save_trainable(module, shape, source, bench)

    def _ranks(self, module: nn.Module) -> dict[str, int]:
        """By layer, the rank that it is cut to."""
        import torch

        from steelyard.passes.lowrank import matrix_of, rank_for, saves

        found = {}
        for name, layer in _candidates(module).items():
            singular = torch.linalg.svdvals(matrix_of(layer).double())
            rank = rank_for(singular, self.energy) if self.rank is None else max(1, round(self.rank * len(singular)))
            if saves(layer, rank):
                found[name] = rank
        return found

    def _words(self) -> str:
        return f"{self.energy:.0%} of the energy" if self.rank is None else f"{self.rank:.0%} of the ranks"


def _candidates(module: nn.Module) -> dict[str, nn.Linear | nn.Conv2d]:
    from torch import nn

    from steelyard.passes.trainable import tied

    fused = {layer for m in module.modules() if isinstance(m, nn.MultiheadAttention) for layer in m.modules()}
    shared = tied(module)
    return {
        name: layer
        for name, layer in module.named_modules()
        if type(layer) in (nn.Linear, nn.Conv2d)
        and layer not in fused
        and name not in shared
        and getattr(layer, "groups", 1) == 1
    }
