"""What measuring adds to one inference: the timing loop beside a bare loop, in one process, taking turns.

    python -m benchmarks.overhead

The bare loop times a whole stretch of calls with two clock reads; the measuring loop is the one that workers use
(`steelyard.measure.worker.time_calls`, two clock reads a call). Writes `results/overhead.{md,json}`.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.measure.worker import time_calls
from steelyard.probe.host import environment
from steelyard.stats.paired import log_ratio_interval

RESULTS = Path(__file__).parent / "results"
ROUNDS, SLOT_S = 60, 0.05


def main() -> None:
    rows, raw = [], {}
    for name, call, inputs in (*_sleepers(), *_models()):
        bare, loop = _turns(call, inputs)
        ratio, low, high = log_ratio_interval(np.log(loop / bare))
        rows.append(
            f"| {name} | {np.median(bare) * 1e6:.1f} us | {ratio - 1:+.2%} ({low - 1:+.2%} to {high - 1:+.2%}) |"
        )
        raw[name] = {"bare_s": bare.tolist(), "loop_s": loop.tolist()}
    host = environment()
    table = "\n".join(
        [
            "# What measuring adds to one inference",
            "",
            f"{host.cpu}, {host.cores} cores; {ROUNDS} pairs of stretches of {SLOT_S * 1e3:.0f} ms, in random order.",
            "Made by `python -m benchmarks.overhead`.",
            "",
            "| call | bare loop, a call | the measuring loop adds (95 % interval) |",
            "|---|---|---|",
            *rows,
            "",
        ]
    )
    print(table)
    (RESULTS / "overhead.md").write_text(table)
    (RESULTS / "overhead.json").write_text(json.dumps({"cpu": host.cpu, "packages": dict(host.packages), "raw": raw}))


def _turns(call: Callable[[Any], object], inputs: object) -> tuple[np.ndarray, np.ndarray]:
    """Seconds a call of both loops, one pair a round: each stretch's wall time over its number of calls."""
    rng = np.random.default_rng(0)
    bare, loop = np.empty(ROUNDS), np.empty(ROUNDS)
    calls = max(3, int(SLOT_S / _bare(call, inputs, 20)))
    for at in range(ROUNDS):
        for which in rng.permutation(2):
            if which:
                bare[at] = _bare(call, inputs, calls)
            else:
                loop[at] = _loop(call, inputs)
    return bare, loop


def _bare(call: Callable[[Any], object], inputs: object, calls: int) -> float:
    start = time.perf_counter()
    for _ in range(calls):
        call(inputs)
    return (time.perf_counter() - start) / calls


def _loop(call: Callable[[Any], object], inputs: object) -> float:
    start = time.perf_counter()
    made = len(time_calls(call, inputs, SLOT_S))
    return (time.perf_counter() - start) / made


def _sleepers() -> list[tuple[str, Callable[[Any], object], object]]:
    """A product that takes about 30 microseconds: a very small model."""
    matrix = np.random.default_rng(0).standard_normal((96, 96)).astype(np.float32)
    return [("NumPy product of 96x96", matrix.__matmul__, matrix)]


def _models() -> list[tuple[str, Callable[[Any], object], object]]:
    """The digits net of the demo in ONNX Runtime, untrained."""
    import torch
    from examples.digits import net

    from steelyard.subject.engines.onnxruntime import OnnxRunner

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        torch.onnx.export(net().eval(), (torch.zeros(1, 1, 8, 8),), path, dynamo=True, verbose=False)
        runner = OnnxRunner(path)
    return [("digits net, ONNX Runtime", runner, np.zeros((1, 1, 8, 8), dtype=np.float32))]


if __name__ == "__main__":
    main()
