"""What ranks do in the tests of parallel training: the same function gives the one process that they are held against."""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import nn

from steelyard.records import Contract
from steelyard.trainer.augment import augmented
from steelyard.trainer.checkpoint import Checkpoints
from steelyard.trainer.examples import Examples
from steelyard.trainer.loop import fit
from steelyard.trainer.parallel import Ranks
from steelyard.trainer.parallel.norms import idle, synced
from steelyard.trainer.parallel.stages import fit_stages
from steelyard.trainer.recipe import Recipe

CONTRACT = Contract(shape=(1, 8, 8), scale=1 / 16, labels=tuple("0123456789"))
PLAIN = {"optimiser": "sgd", "lr": 0.1, "momentum": 0.9, "epochs": 2, "batch": 20, "schedule": "constant", "seed": 3}
CASES: dict[str, dict[str, Any]] = {
    "plain": {"count": 50},  # batches of 20, 20 and 10
    "norm": {"count": 50, "norm": True},
    "lone": {"count": 41, "batch": 4, "norm": True, "epochs": 1, "lr": 0.01},  # 41 = 9 x 4 + 5
    "accumulated": {"count": 50, "accumulation": 2, "batch": 9, "clip_norm": 0.5, "optimiser": "adam", "lr": 0.01},
    "mixed": {"count": 50, "augment": {"rotation": 20, "mixup": 0.4}, "norm": True, "epochs": 1},
    "empty": {"count": 3, "batch": 1, "epochs": 1},  # one rank of two has nothing to do
    "sharded": {"count": 50, "spread": "sharded"},
}


def examples(count: int) -> Examples:
    """Pictures with a bright row for their class: no import of a data set in every process."""
    rng = np.random.default_rng(4)
    labels = rng.integers(0, 8, count)
    pictures = rng.integers(0, 9, (count, 1, 8, 8), dtype=np.uint8)
    pictures[np.arange(count), 0, labels] += 7
    return Examples(pictures, labels, CONTRACT)


def net(*, norm: bool = False) -> nn.Module:
    torch.manual_seed(0)
    normed = [nn.BatchNorm2d(6)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 6, 3), *normed, nn.ReLU(), nn.Flatten(), nn.Linear(216, 24), nn.Tanh(), nn.Linear(24, 10)
    )


def trained(count: int, *, norm: bool = False, spread: str = "data", **changes: Any) -> dict[str, Any]:
    """Weights, losses, scores and traffic of a training of `count` digits."""
    recipe = Recipe(**{**PLAIN, **changes})
    model = net(norm=norm)
    data, augment = augmented(recipe.augment, examples(count), seed=recipe.seed)
    history = fit(model, data, recipe, validation=examples(41), augment=augment, spread=spread)  # type: ignore[arg-type]
    return {
        "weights": {name: value.numpy() for name, value in model.state_dict().items()},
        "loss": history.loss,
        "validation": history.validation,
        "examples": history.examples,
        "sent_bytes": history.sent_bytes,
        "sending_s": history.sending_s,
    }


def staged(count: int, **changes: Any) -> dict[str, Any]:
    """The same by stages."""
    model = net()
    losses = fit_stages(model, examples(count), Recipe(**{**PLAIN, **changes}), parts=4)
    return {"weights": {name: value.numpy() for name, value in model.state_dict().items()}, "loss": losses}


def everything(progress: Any) -> dict[str, Any]:
    """All that needs ranks, in one start of them."""
    found: dict[str, Any] = {}
    for name, case in CASES.items():
        progress(name, len(found) / len(CASES))
        found[name] = trained(**case)
    found["staged"] = staged(50)
    found["resumed"] = resumed()
    found["norms"] = normalised()
    found["agreed"] = agreed()
    return found


class Stopped(Exception):
    """As if the power went."""


def resumed() -> dict[str, Any]:
    """Whether a training with dropout, stopped after three steps, goes on to the weights of one left alone."""
    with tempfile.TemporaryDirectory() as folder:
        where = Path(Ranks.here().gathered(folder)[0])  # rank 0's
        recipe = Recipe(**PLAIN)

        def fitted(stop: int, kept: Path | None) -> tuple[dict[str, torch.Tensor], tuple[str, ...]]:
            def tell(steps: int, _share: float) -> None:
                if steps == stop:
                    raise Stopped

            model = nn.Sequential(nn.Dropout(0.3), net(norm=True))
            checkpoints = None if kept is None else Checkpoints(kept, every_steps=2)
            said = fit(model, examples(50), recipe, tell=tell, checkpoints=checkpoints).said
            return model.state_dict(), said

        with contextlib.suppress(Stopped):
            fitted(3, where)
        went_on, said = fitted(0, where)
        alone, _ = fitted(0, None)
        files = Ranks.here().gathered(len(list(where.iterdir())))  # no rank leaves before all have looked
    return {"equal": all(torch.equal(went_on[name], alone[name]) for name in alone), "said": said, "files": files}


def normalised() -> dict[str, Any]:
    """A batch normalisation of uneven parts: outputs, gradients and running statistics."""
    ranks, results = Ranks.here(), {}
    for name, cut in (("uneven", 3), ("idle", 0)):
        norm, inputs, weight = norm_case()
        own = slice(cut, None) if ranks.rank else slice(0, cut or 1)
        part, resting = inputs[own].clone().requires_grad_(), not cut and not ranks.rank
        with synced(norm), idle(resting):
            ((norm(part) * weight[own]).sum() * (not resting)).backward()
        gradients = [norm.weight.grad.clone(), norm.bias.grad.clone()]
        for gradient in gradients:
            dist.all_reduce(gradient)
        parts = ranks.gathered(None if resting else part.grad)
        results[name] = {
            "inputs": torch.cat([p for p in parts if p is not None]).numpy(),
            "weights": [gradient.numpy() for gradient in gradients],
            "mean": norm.running_mean.numpy(),
            "var": norm.running_var.numpy(),
            "batches": int(norm.num_batches_tracked),
        }
    return results


def norm_case() -> tuple[Any, torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    norm = nn.BatchNorm2d(4)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    return norm, 50 + 3 * torch.randn(10, 4, 5, 5), torch.randn(10, 4, 5, 5)


def agreed() -> dict[str, Any]:
    """Totals and rank 0's values, as this rank has them."""
    ranks = Ranks.here()
    mine = float(ranks.rank + 1)
    return {
        "totals": ranks.totals([mine, 10 * mine]),
        "nan": ranks.totals([float("nan") if ranks.rank else 1.0]),
        "first": ranks.first(mine),
    }
