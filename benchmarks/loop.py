"""What the training loop adds to a step, against the same loop in plain PyTorch.

    python -m benchmarks.loop

Both train the same net on the same examples in the same order: a batch is read and scaled, forward, backward, a step of SGD at the
rate of a cosine, the loss read. They are held after every step and take turns step by step, in random ABBA or BAAB order; a pair's
reading is the logarithm of the ratio of its steps, and the interval is Student's t over blocks of 8 pairs, since neighbours are not
independent. The weights of both are compared bit for bit at the end. Writes `results/loop.{md,json}`.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from steelyard.probe.host import environment
from steelyard.records import Contract
from steelyard.stats.paired import log_ratio_interval
from steelyard.trainer.examples import Examples, shuffled
from steelyard.trainer.loop import fit
from steelyard.trainer.recipe import Recipe
from steelyard.trainer.schedules import rate
from steelyard.trainer.stepping import Stepped

RESULTS = Path(__file__).parent / "results"
WARM, BLOCK = 4, 8
Tell = Callable[[int, float], None]


def main() -> None:
    host = environment()
    found = {name: turns(net, data, batch, pairs) for name, net, data, batch, pairs in cases()}
    lines = [
        "# What the training loop adds to a step",
        "",
        f"{host.cpu}, {host.cores} cores; PyTorch {torch.__version__}, {torch.get_num_threads()} threads.",
        "Made by `python -m benchmarks.loop`. In brackets: 95 % intervals. The weights of both loops are equal bit for bit.",
        "",
        "| net | plain step | the loop's over it |",
        "|---|---|---|",
        *rows(found),
        "",
    ]
    print("\n".join(lines))
    (RESULTS / "loop.md").write_text("\n".join(lines))
    document = {"cpu": host.cpu, "packages": dict(host.packages), "steps_s": {k: v.tolist() for k, v in found.items()}}
    (RESULTS / "loop.json").write_text(json.dumps(document))


def cases() -> Iterator[tuple[str, nn.Module, Examples, int, int]]:
    from torchvision.models import resnet18

    torch.manual_seed(0)
    small = nn.Sequential(
        nn.Conv2d(1, 16, 3),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(512, 10),
    )
    yield "two convolutions, 1 x 8 x 8, batch 128", small, examples((1, 8, 8), 1280), 128, 320
    yield "ResNet-18, 3 x 32 x 32, batch 32", resnet18(num_classes=10), examples((3, 32, 32), 640), 32, 48


def examples(shape: tuple[int, ...], count: int) -> Examples:
    rng = np.random.default_rng(0)
    raw = rng.integers(0, 256, (count, *shape), dtype=np.uint8)
    return Examples(raw, rng.integers(0, 10, count).astype(np.int32), Contract(shape=shape, scale=1 / 255))


def rows(found: dict[str, np.ndarray]) -> Iterator[str]:
    for name, steps in found.items():
        logs = np.log(steps[:, 1] / steps[:, 0]).reshape(-1, BLOCK).mean(axis=1)
        shown = "{:+.2%} ({:+.2%} to {:+.2%})".format(*(value - 1 for value in log_ratio_interval(logs)))
        yield f"| {name} | {1e3 * np.median(steps[:, 0]):.2f} ms | {shown} |"


def turns(net: nn.Module, data: Examples, batch: int, pairs: int) -> np.ndarray:
    """Seconds of a plain step and of one of the loop's, ``(pairs, 2)``."""
    recipe = Recipe(lr=0.05, batch=batch, steps=2 * pairs + WARM, epochs=None)
    plain_net, our_net = copy.deepcopy(net), copy.deepcopy(net)
    arms = (
        Stepped(lambda tell: plain(plain_net, data, recipe, tell)),
        Stepped(lambda tell: fit(our_net, data, recipe, tell=tell)),
    )
    for _ in range(WARM):
        for arm in arms:
            arm.step()
    rng = np.random.default_rng(0)
    found = np.zeros((pairs, 2))
    for row in found:
        for arm in (0, 1, 1, 0) if rng.random() < 0.5 else (1, 0, 0, 1):
            row[arm] += arms[arm].step() / 2
    for one, other in zip(plain_net.state_dict().values(), our_net.state_dict().values(), strict=True):
        assert torch.equal(one, other), "the two loops parted"
    return found


def plain(net: nn.Module, data: Examples, recipe: Recipe, tell: Tell) -> None:
    """The loop that one would write."""
    sgd = torch.optim.SGD(net.parameters(), recipe.lr, 0.9)
    assert recipe.steps is not None
    steps, per_epoch = recipe.steps, -(-len(data) // recipe.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(sgd, lambda step: rate(recipe, min(step, steps - 1), steps, per_epoch))
    net.train()
    losses: list[float] = []
    epoch = 0
    while len(losses) < recipe.steps:
        for index in shuffled(len(data), recipe.batch, recipe.seed, epoch)[: recipe.steps - len(losses)]:
            batch = data.batch(index)
            loss = F.cross_entropy(net(batch.inputs), batch.labels)
            loss.backward()
            sgd.step()
            schedule.step()
            sgd.zero_grad()
            losses.append(loss.item())
            tell(len(losses), 0.0)
        epoch += 1


if __name__ == "__main__":
    main()
