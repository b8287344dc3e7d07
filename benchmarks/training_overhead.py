"""What watching adds to a step of training.

    python -m benchmarks.training_overhead [cpu | cuda]

Two ways. What the calls of a step cost is a fixed time, so it is timed on a loop that does nothing, where nothing hides it: the
phases told by context managers, and by hooks on a net of one weight, whose own steps without hooks are taken off. And whole
steps of a small convolutional net and of a ResNet-18 (pictures of 32 x 32), in blocks that take turns with the same plain loop
in random ABBA or BAAB order; there gradients, dead channels and memory are read as they are by default. A pair's reading is
the logarithm of the ratio of its blocks' median steps; the interval is Student's t. On the processor all times are of the process
by its own clock, so that other programs' load counts for little; the monitor's thread is in them. Writes
`results/training_overhead_DEVICE.{md,json}`.
"""

from __future__ import annotations

import copy
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from steelyard.api.torch import watch
from steelyard.pipeline.watching import Training
from steelyard.probe.host import environment
from steelyard.stats.order import median_interval
from steelyard.stats.paired import log_ratio_interval

RESULTS = Path(__file__).parent / "results"
CALLS = 2000
_BACKWARD = torch.Tensor.backward
_OF_STEPS = {"1 ms": 1e-3, "5 ms": 5e-3, "50 ms": 5e-2}


def main() -> None:
    device = sys.argv[1] if len(sys.argv) > 1 else "cpu"
    host = environment()
    fixed = {"context managers": _contexts(), "hooks": _hooks()}
    arms = {name: _turns(net, batch, turns, device) for name, net, batch, turns in _nets()}
    lines = [*_head(host, device), *_fixed_rows(fixed), "", *_arm_rows(arms), ""]
    print("\n".join(lines))
    (RESULTS / f"training_overhead_{device}.md").write_text("\n".join(lines))
    document = {
        "cpu": host.cpu,
        "device": device,
        "packages": dict(host.packages),
        "fixed_s": {name: values.tolist() for name, values in fixed.items()},
        "turns": {name: {way: pairs.tolist() for way, pairs in found.items()} for name, found in arms.items()},
    }
    (RESULTS / f"training_overhead_{device}.json").write_text(json.dumps(document))


def _head(host: Any, device: str) -> Iterator[str]:
    where = f"{host.cpu}, {host.cores} cores" if device == "cpu" else ", ".join(host.accelerators)
    yield from ("# What watching adds to a step of training", "")
    yield f"{where}; PyTorch {torch.__version__}, {torch.get_num_threads()} threads."
    yield from (f"Made by `python -m benchmarks.training_overhead {device}`. In brackets: 95 % intervals.", "")
    if device == "cpu":
        yield from ("Times are processor time.", "")


# --- fixed costs -------------------------------------------------------------------------------------


def _fixed_rows(found: dict[str, np.ndarray]) -> Iterator[str]:
    yield "| told by | adds to a step | " + " | ".join(f"of {name}, at most" for name in _OF_STEPS) + " |"
    yield "|---|---|" + "---|" * len(_OF_STEPS)
    for name, values in found.items():
        interval = median_interval(values)
        assert interval is not None
        value, low, high = (1e6 * v for v in interval)
        shares = " | ".join(f"{1e-6 * high / seconds:.2%}" for seconds in _OF_STEPS.values())
        yield f"| {name} | {value:.1f} us ({low:.1f} to {high:.1f}) | {shares} |"


def _contexts() -> np.ndarray:
    """Seconds a step of a loop that does nothing but tell: four phases and the step."""
    times = []
    for _ in range(20):
        with Training(monitor=False) as run:
            batches = run.batches([(np.zeros((8, 1)), None)] * CALLS)
            began = time.process_time()
            for _batch in batches:
                with run.forward():
                    pass
                with run.backward():
                    pass
                with run.optimiser():
                    pass
                run.step(1.0)
            times.append((time.process_time() - began) / CALLS)
    return np.array(times)


def _hooks() -> np.ndarray:
    """Seconds that hooks add to a step of a net of one weight."""
    found = []
    for _ in range(8):
        net = nn.Linear(1, 1)
        sgd = torch.optim.SGD(net.parameters(), 0.01)
        inputs = torch.ones(8, 1)
        plain = _tiny(net, sgd, inputs)
        with watch(model=net, optimiser=sgd):
            found.append(_tiny(net, sgd, inputs) - plain)
    return np.array(found)


def _tiny(net: nn.Module, sgd: torch.optim.Optimizer, inputs: torch.Tensor, calls: int = 1000) -> float:
    began = time.process_time()
    for _ in range(calls):
        net(inputs).sum().backward()
        sgd.step()
        sgd.zero_grad()
    return (time.process_time() - began) / calls


# --- whole steps -------------------------------------------------------------------------------------


def _nets() -> Iterator[tuple[str, nn.Module, int, tuple[int, int]]]:
    """Name, net, batch, and pairs of blocks with the steps of a block."""
    from torchvision.models import resnet18

    from benchmarks.training_faults import cnn

    yield "two convolutions, 1 x 8 x 8, batch 128", cnn(), 128, (16, 6)
    yield "ResNet-18, 3 x 32 x 32, batch 8", resnet18(num_classes=10), 8, (12, 2)


def _arm_rows(arms: dict[str, dict[str, np.ndarray]]) -> Iterator[str]:
    yield "| net | plain step | context managers add | hooks add |"
    yield "|---|---|---|---|"
    for name, found in arms.items():
        shown = []
        for way in ("context managers", "hooks"):
            plain, with_it = found[way].T
            estimate = log_ratio_interval(np.log(with_it / plain))
            shown.append("{:+.2%} ({:+.2%} to {:+.2%})".format(*(v - 1 for v in estimate)))
        yield f"| {name} | {1e3 * np.median(found['hooks'][:, 0]):.2f} ms | {' | '.join(shown)} |"


def _turns(net: nn.Module, batch: int, turns: tuple[int, int], device: str) -> dict[str, np.ndarray]:
    """Median seconds of a plain and a watched step, ``(pairs, 2)``, for each way of telling."""
    side, channels = (8, 1) if isinstance(net, nn.Sequential) else (32, 3)
    batches = [
        (torch.randn(batch, channels, side, side, device=device), torch.randint(10, (batch,), device=device))
    ] * turns[1]
    rng = np.random.default_rng(0)
    found = {}
    for way, watched in (("context managers", _told), ("hooks", _hooked)):
        bare, other = (_ready(net, device) for _ in range(2))
        with _watching(way, *other) as run:
            arms: tuple[Callable[[], np.ndarray], ...] = (
                partial(_unseen, *bare, batches),
                partial(watched, run, *other, batches),
            )
            for arm in arms:
                arm()
            rows = []
            for _ in range(turns[0]):
                order = (0, 1, 1, 0) if rng.random() < 0.5 else (1, 0, 0, 1)
                took = [(arm, arms[arm]()) for arm in order]
                rows.append([np.median(np.concatenate([t for a, t in took if a == arm])) for arm in (0, 1)])
        found[way] = np.array(rows)
    return found


def _ready(net: nn.Module, device: str) -> tuple[nn.Module, torch.optim.Optimizer]:
    made = copy.deepcopy(net).to(device)
    return made, torch.optim.SGD(made.parameters(), 0.01, momentum=0.9)


def _watching(way: str, net: nn.Module, sgd: torch.optim.Optimizer) -> Training:
    return Training(model=net, optimiser=sgd) if way == "context managers" else watch(model=net, optimiser=sgd)


def _unseen(net: nn.Module, sgd: torch.optim.Optimizer, batches: list[Any]) -> np.ndarray:
    """The plain loop, with `backward` as PyTorch made it."""
    told = torch.Tensor.backward
    torch.Tensor.backward = _BACKWARD  # type: ignore[method-assign]
    try:
        return _plain(net, sgd, batches)
    finally:
        torch.Tensor.backward = told  # type: ignore[method-assign]


def _plain(net: nn.Module, sgd: torch.optim.Optimizer, batches: list[Any]) -> np.ndarray:
    times = []
    for inputs, labels in batches:
        began = _now(inputs)
        loss = F.cross_entropy(net(inputs), labels)
        loss.backward()
        sgd.step()
        sgd.zero_grad()
        times.append(_now(inputs) - began)
    return np.array(times)


def _told(run: Training, net: nn.Module, sgd: torch.optim.Optimizer, batches: list[Any]) -> np.ndarray:
    times = []
    began = _now(batches[0][0])
    for inputs, labels in run.batches(batches):
        with run.forward():
            loss = F.cross_entropy(net(inputs), labels)
        with run.backward():
            loss.backward()
        with run.optimiser():
            sgd.step()
            sgd.zero_grad()
        run.step(loss)
        now = _now(inputs)
        times.append(now - began)
        began = now
    return np.array(times)


def _hooked(_run: Training, net: nn.Module, sgd: torch.optim.Optimizer, batches: list[Any]) -> np.ndarray:
    return _plain(net, sgd, batches)


def _now(inputs: torch.Tensor) -> float:
    if inputs.is_cuda:
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


if __name__ == "__main__":
    main()
