"""Pipeline parallel: each rank holds some layers, and the parts of a batch flow through them one after the other.

PyTorch's own `torch.distributed.pipelining` traces the model, cuts it and runs the schedule (GPipe, Huang et al. 2019). A step is the
one of a single process: the loss is the mean over the batch's examples, and a batch that does not fill its parts is filled up with
examples that count nothing. Batch normalisation sees a part at a time, so a model with it is refused.
"""

from __future__ import annotations

import itertools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from steelyard.counts.macs import module_macs
from steelyard.errors import CannotApply, InvalidInput
from steelyard.trainer.examples import Batch, Examples, shuffled
from steelyard.trainer.objectives import to_logits
from steelyard.trainer.optimisers import make_optimiser, set_rates
from steelyard.trainer.parallel.ranks import Ranks
from steelyard.trainer.recipe import Recipe
from steelyard.trainer.schedules import rate

__all__ = ["cuts", "fit_stages"]

Floats = NDArray[np.float64]
Change = Callable[[Batch], Batch]

_PLAIN = ("optimiser", "lr", "momentum", "nesterov", "weight_decay", "schedule", "per", "warmup", "milestones", "gamma", "hold",
          "decay", "epochs", "steps", "batch", "label_smoothing", "augment", "seed")  # fmt: skip


def fit_stages(
    model: nn.Module, data: Examples, recipe: Recipe, *, parts: int = 4, augment: Change | None = None
) -> Floats:
    """Train `model`, the same on every rank, with its layers spread over them; each step's loss, on every rank.

    The whole model holds the trained weights at the end, on every rank. Raises `CannotApply` for a model that cannot be cut
    and `InvalidInput` for words of the recipe that a pipeline does not know.
    """
    ranks = Ranks.here()
    _check(model, recipe, ranks.count)
    total, per_epoch, largest = _plan(len(data), recipe)
    size = -(-largest // parts)
    stage, schedule = _piped(model, data, recipe, ranks, parts, size)
    optimiser = make_optimiser(recipe, [{"params": list(stage.parameters()), "initial_lr": recipe.lr}])
    losses: list[float] = []
    stage.train()
    for index, epoch in itertools.islice(_batches(len(data), recipe), total):
        set_rates(optimiser, rate(recipe, len(losses), total, per_epoch))
        batch = data.batch(index, epoch)
        batch = (batch if augment is None else augment(batch)).to(ranks.device)
        losses.append(_step(schedule, batch, parts * size, ranks))
        if not math.isfinite(losses[-1]):
            raise InvalidInput(f"the loss became {losses[-1]:g} at step {len(losses)}: a lower rate may help")
        optimiser.step()
        optimiser.zero_grad()
    model.to("cpu").load_state_dict(_gathered(stage), strict=False)
    model.eval()
    return np.array(losses)


def cuts(children: Mapping[str, int], count: int) -> tuple[str, ...]:
    """The children of a chain before which it is cut into `count` parts, so that the costliest part costs the least.

    `children` gives each one's cost, in the order in which they run.

    >>> cuts({"a": 4, "b": 1, "c": 1, "d": 2}, 2)
    ('b',)
    """
    names, costs = list(children), np.cumsum([0, *children.values()])
    worst = {0: 0.0}  # of the parts so far, by where the last one ends
    came: list[dict[int, int]] = []
    for part in range(count):
        ends = [len(names)] if part == count - 1 else range(part + 1, len(names))
        best = {
            end: min((max(cost, float(costs[end] - costs[at])), at) for at, cost in worst.items() if at < end)
            for end in ends
        }
        worst = {end: cost for end, (cost, _) in best.items()}
        came.append({end: at for end, (_, at) in best.items()})
    places, end = [], len(names)
    for back in reversed(came[1:]):
        end = back[end]
        places.append(names[end])
    return tuple(reversed(places))


def _piped(
    model: nn.Module, data: Examples, recipe: Recipe, ranks: Ranks, parts: int, size: int
) -> tuple[nn.Module, Any]:
    """This rank's layers, and the schedule that runs all ranks'."""
    from torch.distributed.pipelining import ScheduleGPipe, SplitPoint, pipeline

    example = torch.zeros(size, *data.contract.shape, dtype=data.batch(np.zeros(1, dtype=np.int64)).inputs.dtype)
    names = cuts(_costs(model, example), ranks.count)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the tracer, for its own authors
            pipe = pipeline(
                model.to(ranks.device).train(),
                (example.to(ranks.device),),
                split_spec=dict.fromkeys(names, SplitPoint.BEGINNING),
            )
            made = pipe.build_stage(ranks.rank, ranks.device)
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CannotApply(
            f"the model cannot be cut at {', '.join(names)} ({type(error).__name__}: {reason})"
        ) from error
    loss = _summed(data.contract.outputs, recipe.label_smoothing)
    return pipe.get_stage_module(ranks.rank), ScheduleGPipe(made, parts, loss_fn=loss, scale_grads=False)


def _costs(model: nn.Module, example: torch.Tensor) -> dict[str, int]:
    """MACs of each child, and its weights' number: what little a layer without MACs costs keeps the order of cuts definite."""
    layers = module_macs(model, example).layers
    return {
        name: sum(layer.macs for layer in layers if layer.layer.split(".")[0] == name)
        + sum(p.numel() for p in child.parameters())
        for name, child in model.named_children()
    }


def _summed(outputs: Any, smoothing: float) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Cross-entropy of a part; the targets ``(n, 2)`` hold a class and what the example counts, which sums to 1 over the batch."""

    def loss(given: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        each = F.cross_entropy(
            to_logits(given, outputs), targets[:, 0].long(), reduction="none", label_smoothing=smoothing
        )
        return (each * targets[:, 1].to(each)).sum()

    return loss


def _batches(count: int, recipe: Recipe) -> Iterator[tuple[NDArray[np.int64], int]]:
    """Positions and epoch of every step."""
    for epoch in itertools.count():
        for index in shuffled(count, recipe.batch, recipe.seed, epoch):
            yield index, epoch


def _plan(count: int, recipe: Recipe) -> tuple[int, int, int]:
    """Steps in all, steps in an epoch, and the examples of the largest."""
    batches = shuffled(count, recipe.batch, 0, 0)
    epochs = math.inf if recipe.epochs is None else math.ceil(recipe.epochs * len(batches))
    total = min(epochs, math.inf if recipe.steps is None else recipe.steps)
    return int(total), len(batches), max(map(len, batches))


def _step(schedule: Any, batch: Batch, size: int, ranks: Ranks) -> float:
    """Forward and backward of a batch, filled up to `size`; its mean loss, on every rank."""
    missing = size - len(batch)
    counts = torch.tensor([1 / len(batch)] * len(batch) + [0.0] * missing, dtype=torch.float64, device=ranks.device)
    target = torch.stack([F.pad(batch.labels.double(), (0, missing)), counts], dim=1)
    losses: list[torch.Tensor] = []
    if ranks.rank == 0:
        filled = torch.cat([batch.inputs, batch.inputs[:1].expand(missing, *batch.inputs.shape[1:])])
        schedule.step(filled)
    elif ranks.rank == ranks.count - 1:
        schedule.step(target=target, losses=losses, return_outputs=False)
    else:
        schedule.step()
    return ranks.totals([float(sum(loss.detach() for loss in losses))])[0]


def _gathered(stage: nn.Module) -> dict[str, torch.Tensor]:
    """The weights of all stages, by the names that they have in the model."""
    states: list[dict[str, torch.Tensor]] = [{} for _ in range(dist.get_world_size())]
    dist.all_gather_object(states, {name: value.detach().cpu().clone() for name, value in stage.state_dict().items()})
    return {name: value for state in states for name, value in state.items()}


def _check(model: nn.Module, recipe: Recipe, count: int) -> None:
    plain = Recipe(epochs=1).plain()
    other = [name for name, value in recipe.plain().items() if name not in _PLAIN and value != plain[name]]
    if other:
        raise InvalidInput(f"stages do not know {', '.join(other)}: leave that out, or use data parallel processes")
    if any(isinstance(module, _BatchNorm) for module in model.modules()):
        raise CannotApply(
            "the model has batch normalisation, which would see a part of each batch: use data parallel processes"
        )
    if len(list(model.children())) < count:
        raise CannotApply(
            f"the model has {len(list(model.children()))} layers to cut between, fewer than {count} processes"
        )
