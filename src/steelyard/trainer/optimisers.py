"""PyTorch's optimisers by the recipe's word, and Adam that gives way to SGD.

Sources: Keskar and Socher 2017 (SWATS: when to switch, and at which rate), Dettmers et al. 2022 (8-bit moments, torchao's).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.sgd import sgd

from steelyard.errors import MissingExtra
from steelyard.trainer.recipe import Recipe

__all__ = ["AdamThenSGD", "add_l1", "make_optimiser", "set_rates"]

_NO_STEP = torch.zeros(())
_AGREED = 1e-9  # of the projected rates' average and the last one: SWATS's criterion


def make_optimiser(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    """PyTorch's own. Each group has ``params`` and ``initial_lr``, the rate that the schedule's factor acts on.

    Raises `MissingExtra` where eight bits are asked for and torchao is not there.
    """
    for group in groups:
        group["lr"] = group["initial_lr"]
    if recipe.state_bits == 8:
        return _eight_bits(recipe, groups)
    return _plain(recipe, groups)


def _plain(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    decay, lr = recipe.weight_decay, recipe.lr
    fused = True if recipe.fused else None  # None: PyTorch's choice
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(groups, lr, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov, fused=fused)
    if recipe.optimiser == "rmsprop":  # has no fused step: one kernel for each operation over all tensors
        return torch.optim.RMSprop(groups, lr, momentum=recipe.momentum, weight_decay=decay, foreach=fused)
    if recipe.switch is not None:
        return AdamThenSGD(
            groups, lr, weight_decay=decay, momentum=recipe.momentum, by_itself=recipe.switch == "swats", fused=fused
        )
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(groups, lr, weight_decay=decay, fused=fused)


def _eight_bits(recipe: Recipe, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    try:
        from torchao.optim import Adam8bit, AdamW8bit
    except ImportError:
        raise MissingExtra("train", needed_for="state_bits 8") from None
    kind = Adam8bit if recipe.optimiser == "adam" else AdamW8bit
    made: torch.optim.Optimizer = kind(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return made


def set_rates(optimiser: Any, factor: float) -> float:
    """Every group's rate for this step; the highest of them."""
    for group in optimiser.param_groups:
        rate = group["initial_lr"] * factor
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate
    return float(max(group["lr"] for group in optimiser.param_groups))


def add_l1(parameters: Iterable[nn.Parameter], weight: float) -> None:
    """Add the gradient of `weight` times the sum of absolute weights; biases and norms, of one axis, are left alone."""
    with torch.no_grad():
        for parameter in parameters:
            if parameter.ndim > 1 and parameter.grad is not None:
                parameter.grad.add_(parameter.sign(), alpha=weight)


class AdamThenSGD(torch.optim.Adam):
    """Adam until `switch` is called, or SWATS's criterion holds; from then on SGD with momentum.

    With Adam's step p and the gradient g over all parameters, SGD would need the rate ``gamma = -(p.p) / (p.g)`` to go as
    far along p. Its exponential average by Adam's second beta, freed of its bias, is the rate; where it agrees with the last
    gamma, Adam has nothing left to add (Keskar and Socher 2017, algorithm 1). Their SGD damps the gradient by ``1 - momentum``,
    which here stands in the rate, so that the steps are `torch.optim.SGD`'s.
    """

    def __init__(
        self,
        groups: list[dict[str, Any]],
        lr: float,
        *,
        weight_decay: float = 0.0,
        momentum: float = 0.9,
        by_itself: bool = False,
        fused: bool | None = None,
    ) -> None:
        super().__init__(groups, lr, weight_decay=weight_decay, fused=fused)
        self._momentum, self._by_itself = momentum, by_itself
        self.param_groups[0] |= {"projected": 0.0, "projections": 0, "switched": False}

    @property
    def switched(self) -> bool:
        """Whether SGD steps now."""
        return bool(self.param_groups[0]["switched"])

    @property
    def projected_lr(self) -> float | None:
        """The rate that Adam's steps project to, before any schedule's factor; None before they say one."""
        head = self.param_groups[0]
        if not head["projections"]:
            return None
        beta = float(head["betas"][1])
        return (1 - self._momentum) * float(head["projected"]) / (1 - beta ** int(head["projections"]))

    def switch(self, lr: float | None = None) -> float:
        """Let SGD go on, at `lr` or the projected rate; which it was. Groups keep the proportions of their rates."""
        head = self.param_groups[0]
        found = lr or self.projected_lr or float(head["initial_lr"])
        scale = found / max(float(group["initial_lr"]) for group in self.param_groups)
        for group in self.param_groups:
            group["lr"], group["initial_lr"] = group["lr"] * scale, group["initial_lr"] * scale
        head["switched"] = True
        self.state.clear()  # Adam's moments are of no more use
        return found

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step, by whoever's turn it is."""
        if self.switched:
            return self._descend()
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        before = [p.clone() for p in moved]
        gradients = [p.grad for p in moved]
        loss = super().step(closure)
        steps = torch._foreach_sub(moved, before)
        self._project(_dot(steps, steps), _dot(steps, gradients))
        return loss

    def _project(self, squared: float, along: float) -> None:
        head = self.param_groups[0]
        if not along < 0:  # the step does not go down the gradient: it says no rate
            return
        gamma = squared / -along * float(head["initial_lr"]) / float(head["lr"])
        beta = float(head["betas"][1])
        head["projected"] = beta * head["projected"] + (1 - beta) * gamma
        head["projections"] += 1
        agreed = abs(head["projected"] / (1 - beta ** head["projections"]) - gamma) < _AGREED
        if self._by_itself and agreed and head["projections"] > 1:
            self.switch()

    def _descend(self) -> None:
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            buffers = [self.state[p].get("momentum_buffer") for p in moved]
            sgd(
                moved, [p.grad for p in moved], buffers, weight_decay=group["weight_decay"], momentum=self._momentum,
                lr=float(group["lr"]), dampening=0.0, nesterov=False, maximize=False,
            )  # fmt: skip
            for parameter, buffer in zip(moved, buffers, strict=True):
                kept = self.state[parameter]
                kept.setdefault("step", _NO_STEP)  # which Adam's own loading of a state looks for
                kept["momentum_buffer"] = buffer


def _dot(first: Iterable[torch.Tensor], second: Iterable[torch.Tensor]) -> float:
    """Of all elements, in double precision."""
    return float(sum(torch.dot(a.double().flatten(), b.double().flatten()) for a, b in zip(first, second, strict=True)))
