"""A training in a child that is killed again and again, and the same one left alone: run as a program, with a folder.

The child tells every step through a pipe and is killed some moments after a step drawn at random, so wherever it then is: in a step,
in validation, in writing a checkpoint. It prints, for each recipe, how often it was killed and whether the weights are equal.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import accelerate  # noqa: F401 - here, so that no child has to
import numpy as np
import torch
import torch._dynamo  # which the first step of an optimiser brings

from small_training import held, net, some
from steelyard.trainer.checkpoint import Checkpoints
from steelyard.trainer.examples import Batch
from steelyard.trainer.loop import fit
from steelyard.trainer.recipe import Recipe

STEPS = 15
RECIPES = {
    "adamw with a moving average": Recipe(
        optimiser="adamw", lr=0.01, ema=0.9, warmup=1, clip_norm=1.0, epochs=3, batch=32, accumulation=2
    ),
    "adam, then sgd": Recipe(optimiser="adam", lr=0.01, switch=0.4, epochs=3, batch=64, l1=1e-4),
    "sgd with averaged weights in fp16": Recipe(
        lr=0.05, swa=0.5, swa_lr=0.02, schedule="constant", epochs=3, batch=64, amp="fp16"
    ),
}


def noisy(batch: Batch) -> Batch:
    """An augmentation that draws from every generator there is."""
    shift = random.random() + np.random.rand() + torch.rand(len(batch.inputs), 1, 1, 1)  # noqa: NPY002
    return Batch(batch.inputs + 0.05 * shift, batch.labels, batch.teacher, batch.index, batch.epoch)


def training(folder: Path, recipe: Recipe, tell: Callable[[int, float], None]) -> dict[str, torch.Tensor]:
    """From where the folder's checkpoints stand to the end."""
    model = net(norm=True, dropout=0.3)
    history = fit(
        model,
        some(),
        recipe,
        validation=held(),
        augment=noisy,
        tell=tell,
        checkpoints=Checkpoints(folder, every_steps=2),
    )
    assert len(history) == STEPS, len(history)
    numbers = {name: torch.from_numpy(getattr(history, name)) for name in ("loss", "learning_rate", "validation")}
    return {**model.state_dict(), **numbers}


def child(folder: Path, recipe: Recipe, out: Path) -> tuple[int, int]:
    """Begin a training in a process of its own; its id, and where it tells its steps."""
    read, write = os.pipe()
    pid = os.fork()
    if pid:
        os.close(write)
        return pid, read
    status = 1
    try:
        torch.save(training(folder, recipe, lambda _step, _share: os.write(write, b".") and None), out)
        status = 0
    finally:
        os._exit(status)


def killed(folder: Path, recipe: Recipe, chance: random.Random) -> int:
    """Kill until it comes to its end; how often."""
    kills = 0
    while True:
        pid, steps = child(folder, recipe, folder / "weights.pt")
        left = chance.randint(1, 9)
        while left and os.read(steps, 1):
            left -= 1
        if not left:
            time.sleep(chance.random() * 0.02)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(steps)
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            return kills
        kills += 1


def main() -> None:
    """Every recipe, killed and left alone."""
    torch.set_num_threads(1)
    some(), held()
    chance = random.Random(5)
    found = {}
    for name, recipe in RECIPES.items():
        one, other = (Path(sys.argv[1]) / name / kind for kind in ("killed", "alone"))
        one.mkdir(parents=True)
        other.mkdir(parents=True)
        kills = killed(one, recipe, chance)
        pid, steps = child(other / "none", recipe, other / "weights.pt")
        _, status = os.waitpid(pid, 0)
        os.close(steps)
        assert status == 0
        a, b = torch.load(one / "weights.pt"), torch.load(other / "weights.pt")
        found[name] = {"kills": kills, "equal": a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)}
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main()
