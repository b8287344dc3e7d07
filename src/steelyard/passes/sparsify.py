"""Unstructured pruning: single weights become zero and stay zero. It makes no engine here faster by itself."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes.bench import Bench, Built, check_recovery
from steelyard.subject.artifact import Artifact

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Sparsify", "largest", "two_of_four"]

_GROUP, _KEPT = 4, 2  # of each four neighbouring inputs, two stay


@dataclass(frozen=True, slots=True)
class Sparsify:
    """Set the smallest weights of linear layers and convolutions to zero, then train the others.

    ``global`` ranks the weights of all layers together and removes the share ``ratio`` (Han et al. 2015). ``2:4`` keeps
    the two largest of each four neighbouring inputs, which some GPUs skip by halves (Mishra et al. 2021); layers whose
    inputs are no multiple of four are left alone. In several ``steps`` the share climbs as 1 - (1 - t)^3, as in Zhu and
    Gupta 2018, and each step is followed by its part of the recovery.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "torch"
    kind: ClassVar[str] = "sparse"
    trains: ClassVar[bool] = True
    ratio: float = 0.5
    pattern: Literal["global", "2:4"] = "global"
    steps: int = 1
    epochs: float = 5
    lr: float = 1e-3
    distil: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for options that cannot be followed."""
        if self.pattern not in ("global", "2:4") or not 0 < self.ratio < 1 or self.steps < 1:
            raise InvalidInput(
                "sparsify: pattern must be global or 2:4, ratio above 0 and below 1, steps 1 or more; "
                f"got {self.pattern!r}, {self.ratio} and {self.steps}"
            )
        check_recovery("sparsify", self.epochs, self.lr, self.distil)

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the sparse and recovered program."""
        import dataclasses

        from steelyard.passes.recover import Recovery, recover
        from steelyard.passes.trainable import save_trainable, trainable

        module, shape = trainable(source)
        if self.epochs > 0:
            bench.training()
        shape = dataclasses.replace(shape, sparse=True)
        how = Recovery(epochs=self.epochs, lr=self.lr, distil=self.distil, seed=self.seed)
        weights = _weights(module)
        for step in range(1, self.steps + 1):
            _zero(weights, self._masks(weights, 1 - (1 - step / self.steps) ** 3))
            recover(module, shape, source.contract, bench, how, part=step - 1, parts=self.steps)
            weights = _weights(module)  # a user's own loop may have put others in their place
        return save_trainable(module, shape, source, bench)

    def _masks(self, weights: list[torch.Tensor], share: float) -> list[torch.Tensor]:
        if self.pattern == "global":
            return largest(weights, 1 - self.ratio * share)
        fitting = [w for w in weights if w.shape[1] % _GROUP == 0]
        if not fitting:
            raise CannotApply("2:4 needs layers whose inputs are a multiple of 4, and this model has none")
        return [two_of_four(w) if w.shape[1] % _GROUP == 0 else w.new_ones(w.shape) for w in weights]


def largest(weights: list[torch.Tensor], share: float) -> list[torch.Tensor]:
    """Masks that keep this share of all weights together, those of the largest magnitude, to the exact count.

    >>> import torch
    >>> [m.tolist() for m in largest([torch.tensor([1.0, -4.0]), torch.tensor([3.0, 2.0])], 0.5)]
    [[False, True], [True, False]]
    """
    import torch

    flat = torch.cat([w.abs().flatten() for w in weights])
    kept = torch.zeros(len(flat), dtype=torch.bool)
    kept[flat.argsort(descending=True, stable=True)[: round(share * len(flat))]] = True
    parts = torch.split(kept, [w.numel() for w in weights])
    return [part.view(w.shape) for part, w in zip(parts, weights, strict=True)]


def two_of_four(weight: torch.Tensor) -> torch.Tensor:
    """The mask that keeps, of each four neighbouring inputs (axis 1) of an output, the two of largest magnitude.

    >>> import torch
    >>> two_of_four(torch.tensor([[1.0, -4.0, 3.0, 2.0]])).tolist()
    [[False, True, True, False]]
    """
    import torch

    rows = weight.movedim(1, -1)
    groups = rows.reshape(-1, _GROUP).abs()
    order = groups.argsort(dim=1, descending=True, stable=True)[:, :_KEPT]
    kept = torch.zeros_like(groups, dtype=torch.bool).scatter_(1, order, True)
    return kept.view(rows.shape).movedim(-1, 1)


def _weights(module: nn.Module) -> list[torch.Tensor]:
    """Weights of all linear layers and convolutions; one that two layers share is there once."""
    from torch import nn

    layers: Iterable[nn.Module] = (m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d))
    found = list({id(m.weight): m.weight for m in layers}.values())
    if not found:
        raise CannotApply("sparsify acts on linear layers and convolutions, and this model has none")
    return found  # type: ignore[return-value]


def _zero(weights: list[torch.Tensor], masks: list[torch.Tensor]) -> None:
    import torch

    with torch.no_grad():
        for weight, mask in zip(weights, masks, strict=True):
            weight.mul_(mask)
