"""What two processes gain over one, and what they send: ``python -m benchmarks.parallel_training [--processes 2]``.

A convolutional net on digits-sized pictures, the same batches, one thread a process, fresh processes in turns (ABBA). Prints a table in
Markdown. The machine must be still, and have a core for each process.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.pipeline.parallel import in_turns, launch
from steelyard.probe.host import environment
from steelyard.stats.paired import log_ratio_interval

WIDTHS, BATCHES = (32, 96), (64, 256)
STEPS, WARM = 25, 5


def trained(width: int, batch: int, spread: str = "data") -> Any:
    """A short training's history and the net's number of weights."""
    import torch
    from torch import nn

    from steelyard.records import Contract
    from steelyard.trainer.examples import Examples
    from steelyard.trainer.loop import fit
    from steelyard.trainer.recipe import Recipe

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1, stride=2), nn.BatchNorm2d(width), nn.ReLU(),
        nn.Conv2d(width, 2 * width, 3, padding=1, stride=2), nn.BatchNorm2d(2 * width), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(2 * width, 10),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    contract = Contract(shape=(3, 32, 32), scale=1 / 255, labels=tuple("0123456789"))
    data = Examples(rng.integers(0, 256, (2048, 3, 32, 32), dtype=np.uint8), rng.integers(0, 10, 2048), contract)
    recipe = Recipe(lr=0.01, steps=STEPS, batch=batch, schedule="constant")
    return fit(model, data, recipe, spread=spread), sum(p.numel() for p in model.parameters())  # type: ignore[arg-type]


def pace(width: int, batch: int) -> float:
    """Median seconds of a step, past the first ones."""
    history, _ = trained(width, batch)
    return float(np.median(history.step_s[WARM:]))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=4)
    asked = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    host = environment()
    print(f"# {asked.processes} processes against one\n")
    print(f"{host.cpu}, {host.cores} cores; one thread a process; torch {host.packages.get('torch', '?')};")
    print(f"`python -m benchmarks.parallel_training --processes {asked.processes} --rounds {asked.rounds}`\n")
    print("| width | batch | step of one | step of all | speed-up (95 %) | efficiency | sent a step | on the way |")
    print("|---|---|---|---|---|---|---|---|")
    for width in WIDTHS:
        for batch in BATCHES:
            print(_row(width, batch, asked.processes, asked.rounds), flush=True)


def _row(width: int, batch: int, processes: int, rounds: int) -> str:
    words = {"width": width, "batch": batch}
    alone, together = in_turns("benchmarks.parallel_training:pace", processes, words, rounds=rounds)
    history, _ = launch("benchmarks.parallel_training:trained", processes, words, threads=1)
    value, low, high = log_ratio_interval(np.log(alone / together), 0.95)
    share = history.sending_s[WARM:].sum() / history.step_s[WARM:].sum()
    cells = (
        width, batch, f"{np.median(alone) * 1e3:.1f} ms", f"{np.median(together) * 1e3:.1f} ms",
        f"{value:.2f}x ({low:.2f}-{high:.2f})", f"{100 * value / processes:.0f} %",
        f"{np.median(history.sent_bytes) / 1e3:.0f} kB", f"{100 * share:.1f} %",
    )  # fmt: skip
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    sys.exit(main())
