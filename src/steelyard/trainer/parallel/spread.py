"""A model on several ranks: the whole of it on each (DDP), or a part of every weight (FSDP)."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, get_args

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from steelyard.errors import InvalidInput
from steelyard.trainer.parallel.norms import synced
from steelyard.trainer.parallel.ranks import Ranks
from steelyard.trainer.parallel.traffic import Traffic
from steelyard.trainer.recipe import Recipe

__all__ = ["Spread", "check_spread", "holding", "prepared", "shared", "whole"]

Spread = Literal["data", "sharded"]


def check_spread(recipe: Recipe, how: Spread, *, skip_bad: bool, checkpoints: bool, learned_objective: bool) -> None:
    """Raise `InvalidInput` for what several processes cannot do together."""
    if how not in get_args(Spread):
        raise InvalidInput(f"a training is spread by {' or '.join(get_args(Spread))}, got {how!r}")
    if Ranks.here().count == 1:
        return
    sharded = how == "sharded"
    refused = {
        "skip_bad": skip_bad,
        "micro_batch auto": recipe.micro_batch == "auto",
        "an objective with weights of its own": learned_objective,
        "ema or swa of sharded weights": sharded and (recipe.ema is not None or recipe.swa is not None),
        "checkpoints of sharded weights": sharded and checkpoints,
        "compile of sharded weights": sharded and recipe.compile,
    }
    for words, wanted in refused.items():
        if wanted:
            raise InvalidInput(f"several processes cannot do {words}: leave it out, or train in one process")


@contextmanager
def shared(model: nn.Module, how: Spread) -> Iterator[nn.Module]:
    """The net that this rank trains: the model itself, or a sharded copy of it whose weights it has after the block.

    In the block batch normalisation sees the examples of all ranks.
    """
    ranks = Ranks.here()
    if ranks.count == 1:
        yield model
    elif how == "data":
        with synced(model):
            yield model
    else:
        net = _sharded(copy.deepcopy(model).to(ranks.device))
        with synced(net):
            yield net
        model.load_state_dict(whole(net))


def prepared(net: nn.Module, accelerator: Any) -> tuple[nn.Module, Traffic | None]:
    """The net as Accelerate runs it on these ranks, and what counts the gradients that data parallel ones send."""
    if _is_sharded(net):
        return accelerator.prepare_model(net, evaluation_mode=True), None  # which keeps Accelerate from a DDP around it
    made = accelerator.prepare_model(net)
    if not isinstance(made, DistributedDataParallel):
        return made, None
    traffic = Traffic(Ranks.here().count)
    made.register_comm_hook(None, lambda _state, bucket: traffic.sum(bucket))  # a plain function is asked for
    return made, traffic


@contextmanager
def holding(net: nn.Module) -> Iterator[None]:
    """In the block gradients stay on their ranks: another backward pass of the same step follows."""
    if isinstance(net, DistributedDataParallel):
        with net.no_sync():
            yield
    elif _is_sharded(net):
        net.set_requires_gradient_sync(False)  # type: ignore[operator]  # an FSDPModule's
        try:
            yield
        finally:
            net.set_requires_gradient_sync(True)  # type: ignore[operator]
    else:
        yield


def whole(net: nn.Module) -> dict[str, torch.Tensor]:
    """The state of a net that may be sharded, in full; every rank must ask."""
    from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict

    if not _is_sharded(net):
        return {name: value.detach().clone() for name, value in net.state_dict().items()}
    state = get_model_state_dict(net, options=StateDictOptions(full_state_dict=True))
    return {name: value.cpu() for name, value in state.items() if isinstance(value, torch.Tensor)}


def _sharded(net: nn.Module) -> nn.Module:
    """Every child with weights, and the rest, by `fully_shard`, in place."""
    from torch.distributed.fsdp import fully_shard

    for child in net.children():
        if next(child.parameters(), None) is not None:
            fully_shard(child)
    fully_shard(net)
    return net


def _is_sharded(net: nn.Module) -> bool:
    return hasattr(net, "set_requires_gradient_sync")
