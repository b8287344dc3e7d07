"""Data-bound trainings: what is left of the wait when the loader is set as the diagnosis says.

    python -m benchmarks.loader

Two ways to be slow: examples that are waited for (a disk, a network), and examples that the processor makes. Each training is
watched, its advice taken (`steelyard.diagnose.training.loader_advice`: workers, prefetch, persistent workers, and a cache where
the cores cannot make examples as fast as they are used), and watched again; the first epoch of both is left out, when workers
start and a cache fills. Writes `results/loader.{md,json}`.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from benchmarks.training_faults import Slow, data, mlp, train
from steelyard.diagnose.training import LoaderAdvice, diagnose_training, loader_advice
from steelyard.probe.host import environment
from steelyard.records import Watched
from steelyard.report import numbers
from steelyard.trainer.loading import Cached

RESULTS = Path(__file__).parent / "results"
ROUNDS = 3
CASES = {"waited for, 1 ms an example": {"wait_s": 1e-3}, "made in about 0.4 ms an example": {"work": 3}}


def main() -> None:
    torch.set_num_threads(1)
    rows = [(name, *_before_and_after(slow)) for name, slow in CASES.items() for _ in range(ROUNDS)]
    host = environment()
    load = os.getloadavg()[1]
    text = "\n".join(_table(rows, f"{host.cpu}, {host.cores} cores, {load:.0f} processes running or waiting to run"))
    print(text)
    (RESULTS / "loader.md").write_text(text)
    runs = [{"case": n, "wait_s": b, "wait_then_s": a, "advice": asdict(d)} for n, b, a, d in rows]
    (RESULTS / "loader.json").write_text(json.dumps({"cpu": host.cpu, "packages": dict(host.packages), "runs": runs}))


def _before_and_after(slow: dict[str, Any]) -> tuple[float, float, LoaderAdvice]:
    """Seconds of a step that wait for data, as it was and as advised."""
    examples: Dataset[Any] = Slow(_some(), **slow)
    before = _trained(examples, {})
    assert "data-bound" in {finding.name for finding in diagnose_training(before)}
    advice = loader_advice(before)
    assert advice is not None
    after = _trained(Cached(examples) if advice.cache else examples, advice.settings())
    return _wait_s(before), _wait_s(after), advice


def _some() -> tuple[torch.Tensor, torch.Tensor]:
    inputs, labels = data()[0]
    return inputs[:512], labels[:512]


def _trained(examples: Dataset[Any], loader: dict[str, Any]) -> Watched:
    torch.manual_seed(0)
    return train(mlp(1024, 1024), examples, batch=64, epochs=5, loader=loader)


def _wait_s(watched: Watched) -> float:
    """Mean wait of a step after the first epoch."""
    late = watched.phases_s[int(watched.epoch_ends[0]) :]
    return float(np.mean(late[:, watched.phases.index("data")]))


def _table(rows: list[tuple[str, float, float, LoaderAdvice]], where: str) -> list[str]:
    lines = [
        "# The wait for data, as advised",
        "",
        f"{where}, PyTorch on one thread. Made by `python -m benchmarks.loader`; {ROUNDS} rounds, medians, in brackets the range.",
        "",
        "| examples | wait of a step | as advised | removed | advice |",
        "|---|---|---|---|---|",
    ]
    for name in CASES:
        mine = [row for row in rows if row[0] == name]
        before, after = (np.array([row[i] for row in mine]) for i in (1, 2))
        gone = 1 - after / before
        advice = mine[0][3]
        settings = ", ".join(f"{key}={value}" for key, value in advice.settings().items())
        lines.append(
            f"| {name} | {numbers.seconds(float(np.median(before)))} | {numbers.seconds(float(np.median(after)))} |"
            f" {np.median(gone):.1%} ({gone.min():.1%} to {gone.max():.1%}) | {settings}{', cache' if advice.cache else ''} |"
        )
    return [*lines, ""]


if __name__ == "__main__":
    main()
