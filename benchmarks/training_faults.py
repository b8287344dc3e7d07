"""Does the diagnosis name what is wrong with a training? Faults planted in small trainings on digits, and healthy ones beside them.

    python -m benchmarks.training_faults [seeds]

Each training takes about a second and is watched by `steelyard.training` as a user's own loop would be. A fault is named where
its name stands among the findings, whatever else does. A healthy training has no finding at all. Writes
`results/training_faults.{md,json}`.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler, TensorDataset

from steelyard.diagnose.training import diagnose_training
from steelyard.pipeline.watching import Training
from steelyard.probe.host import environment
from steelyard.records import Overlap, Watched
from steelyard.subject.data import digits
from steelyard.subject.splits import Split, Splits, overlaps

RESULTS = Path(__file__).parent / "results"
Tensors = tuple[torch.Tensor, torch.Tensor]
Found = tuple[Watched, tuple[Overlap, ...]]


@dataclass(frozen=True, kw_only=True)
class Case:
    """A training, and what is wrong with it: "" for a healthy one."""

    name: str
    fault: str
    run: Callable[[int], Found]


# --- one training ------------------------------------------------------------------------------------


def data() -> tuple[Tensors, Tensors]:
    """Training and validation digits, scaled."""
    splits = digits()
    return _tensors(splits.train), _tensors(splits.validation)


def _tensors(split: Split) -> Tensors:
    pixels = torch.from_numpy(np.asarray(split.raw[np.arange(len(split))], dtype=np.float32))
    return (pixels / 255 - 0.3) / 0.37, torch.from_numpy(split.labels.astype(np.int64))


def train(
    net: nn.Module,
    examples: Tensors | Dataset[Any],
    *,
    held: Tensors | None = None,
    optimiser: Callable[[Any], torch.optim.Optimizer] = lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    batch: int = 128,
    epochs: int = 10,
    shuffle: bool = True,
    clear: bool = True,
    learning: bool = True,
    loader: dict[str, Any] | None = None,
) -> Watched:
    """A plain loop."""
    made = optimiser(net.parameters())
    held = data()[1] if held is None else held
    batches: DataLoader[Any]
    if isinstance(examples, Dataset):
        batches = DataLoader(examples, batch_size=batch, shuffle=shuffle, **(loader or {}))
    else:  # a batch is one slice
        whole = TensorDataset(*examples)
        order = RandomSampler(whole) if shuffle else SequentialSampler(whole)
        batches = DataLoader(whole, sampler=BatchSampler(order, batch, drop_last=False), batch_size=None)
    with Training("planted", model=net, optimiser=made, validation_examples=len(held[1]), monitor=False) as run:
        for _ in range(epochs):
            net.train(learning)
            for inputs, labels in run.batches(batches):
                with run.forward():
                    loss = F.cross_entropy(net(inputs), labels)
                with run.backward():
                    loss.backward()
                with run.optimiser():
                    made.step()
                    if clear:
                        made.zero_grad()
                run.step(loss)
            net.eval()
            with torch.no_grad():
                outputs = net(held[0])
                score = float((outputs.argmax(1) == held[1]).float().mean())
                run.epoch(validation=score, validation_loss=float(F.cross_entropy(outputs, held[1])))
    return run.watched


def mlp(
    *widths: int, act: Callable[[], nn.Module] = nn.ReLU, norm: bool = False, dropout: float = 0.0
) -> nn.Sequential:
    """From 64 pixels to 10 classes."""
    layers: list[nn.Module] = [nn.Flatten()]
    sides = (64, *widths)
    for before, after in itertools.pairwise(sides):
        layers += [nn.Linear(before, after), *([nn.BatchNorm1d(after)] if norm else []), act()]
        layers += [nn.Dropout(dropout)] if dropout else []
    return nn.Sequential(*layers, nn.Linear(sides[-1], 10))


def cnn(*, norm: bool = False, width: int = 32) -> nn.Sequential:
    """Two convolutions."""
    normed = [nn.BatchNorm2d(width)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, width, 3, padding=1), *normed, nn.ReLU(), nn.Conv2d(width, 2 * width, 3, padding=1), nn.ReLU(),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(32 * width, 10),
    )  # fmt: skip


def sgd(rate: float, **words: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.SGD(parameters, rate, **words)


def adam(rate: float = 1e-3, **words: Any) -> Callable[[Any], torch.optim.Optimizer]:
    return lambda parameters: torch.optim.AdamW(parameters, rate, **words)


def seeded(run: Callable[[np.random.Generator], Watched | Found]) -> Callable[[int], Found]:
    """Weights and batches from one seed."""

    def found(seed: int) -> Found:
        torch.manual_seed(seed)
        made = run(np.random.default_rng(seed))
        return made if isinstance(made, tuple) else (made, ())

    return found


# --- faults ------------------------------------------------------------------------------------------


class Slow(Dataset[Any]):
    """Examples that take time to come: waited for, or worked for."""

    def __init__(self, examples: Tensors, *, wait_s: float = 0.0, work: int = 0) -> None:
        self._examples, self._wait_s, self._work = examples, wait_s, work

    def __len__(self) -> int:
        return len(self._examples[1])

    def __getitem__(self, i: int) -> Any:
        if self._wait_s:
            time.sleep(self._wait_s)
        for _ in range(self._work):
            np.sort(np.random.default_rng(i).random(4000))
        return self._examples[0][i], self._examples[1][i]


def _few(rng: np.random.Generator, count: int) -> Tensors:
    inputs, labels = data()[0]
    index = torch.from_numpy(rng.permutation(len(labels))[:count])
    return inputs[index], labels[index]


def _by_chance(rng: np.random.Generator) -> Watched:
    inputs, labels = _few(rng, 200)
    return train(
        mlp(512), (inputs, labels[torch.from_numpy(rng.permutation(200))]), optimiser=adam(3e-3), epochs=40, batch=64
    )


def _large_weights(_rng: np.random.Generator) -> Watched:
    net = mlp(256, 256, 256, 256)
    for module in net.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=1.0)
    return train(net, data()[0], optimiser=sgd(1e-9), epochs=4)


def _biased(net: nn.Sequential, share: float, kind: type) -> nn.Sequential:
    layer = next(module for module in net if isinstance(module, kind))
    with torch.no_grad():
        layer.bias[: int(share * len(layer.bias))] = -50.0
    return net


def _uneven(_rng: np.random.Generator) -> Watched:
    inputs, labels = data()[0]
    zeros, ones = torch.nonzero(labels == 0)[:, 0], torch.nonzero(labels == 1)[:4, 0]
    index = torch.cat([zeros, ones])
    return train(mlp(256), (inputs[index], labels[index]), epochs=10, batch=32, held=(inputs[index], labels[index]))


def _leaking(_rng: np.random.Generator) -> Found:
    whole = digits()
    seen = whole.train.take(np.arange(40))
    splits = Splits(train=whole.train, validation=seen, test=whole.test, labels=whole.labels, method="planted")
    return train(mlp(512), _tensors(whole.train), held=_tensors(seen)), overlaps(splits)


def _sorted() -> Tensors:
    inputs, labels = data()[0]
    order = torch.argsort(labels)
    return inputs[order], labels[order]


class Detached(nn.Module):
    """A head on features that nothing flows back to."""

    def __init__(self) -> None:
        super().__init__()
        self.features, self.head = mlp(512)[:-1], nn.Linear(512, 10)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.head(self.features(inputs).detach())
        return found


def _raw() -> Tensors:
    inputs, labels = data()[0]
    return (inputs * 0.37 + 0.3) * 255, labels


FAULTS = (
    ("examples read slowly", "data-bound", lambda r: train(mlp(512, 512), Slow(_few(r, 256), wait_s=3e-4), batch=64, epochs=4)),
    ("examples made by the processor", "data-bound", lambda r: train(mlp(512), Slow(_few(r, 256), work=3), batch=64, epochs=3)),
    ("sixty narrow layers", "dispatch-bound", lambda _: train(mlp(*[16] * 60, norm=True), data()[0], batch=32, epochs=1)),
    ("a batch of two", "under-filled-batch", lambda r: train(mlp(64), _few(r, 400), optimiser=sgd(0.005), batch=2, epochs=3)),
    ("sixty examples", "over-fitting", lambda r: train(mlp(512, 512), _few(r, 60), optimiser=adam(), batch=30, epochs=60)),
    ("labels by chance", "over-fitting", _by_chance),
    ("a neck of one unit", "under-fitting", lambda _: train(mlp(1), data()[0], optimiser=sgd(0.01, momentum=0.9), epochs=8)),
    ("weights decay too fast", "under-fitting", lambda _: train(mlp(512), data()[0], optimiser=sgd(0.05, weight_decay=1.0))),
    ("weights begun large", "exploding-gradients", _large_weights),
    ("eight sigmoids", "vanishing-gradients", lambda _: train(mlp(*[128] * 8, act=nn.Sigmoid), data()[0], epochs=4)),
    ("biases far under zero", "dead-units", lambda _: train(_biased(mlp(512, 512), 0.8, nn.Linear), data()[0], epochs=4)),
    ("dead channels", "dead-units", lambda _: train(_biased(cnn(), 0.75, nn.Conv2d), data()[0], epochs=3)),
    ("a rate of 20", "rate-too-high", lambda _: train(mlp(512, 512), data()[0], optimiser=sgd(20.0), epochs=3)),
    ("Adam with a rate of 1", "rate-too-high", lambda _: train(mlp(512, 512), data()[0], optimiser=adam(1.0), epochs=4)),
    ("a rate of 0.000001", "rate-too-low", lambda _: train(mlp(512), data()[0], optimiser=sgd(1e-6), epochs=5)),
    ("one class in fifty", "imbalance", _uneven),
    ("validation seen in training", "leak", _leaking),
    ("four examples at a high rate", "unstable-loss", lambda r: train(mlp(256), _few(r, 600), optimiser=sgd(0.025, momentum=0.9), batch=4, epochs=3)),
    ("examples in order", "unshuffled", lambda _: train(mlp(512), _sorted(), shuffle=False, epochs=5)),
    ("gradients never cleared", "gradients-kept", lambda _: train(mlp(512), data()[0], optimiser=sgd(0.001), clear=False, epochs=4)),
    ("features cut off", "layers-without-gradient", lambda _: train(Detached(), data()[0], epochs=5)),
    ("evaluation mode", "evaluation-mode", lambda _: train(mlp(512, norm=True, dropout=0.2), data()[0], learning=False, epochs=5)),
    ("pixels of 0 to 255", "unscaled-inputs", lambda _: train(mlp(512), _raw(), optimiser=sgd(1e-5), epochs=4)),
)  # fmt: skip

HEALTHY = (
    ("a wide layer, SGD", lambda _: train(mlp(4096), data()[0], batch=256)),
    ("two layers, SGD with momentum", lambda _: train(mlp(1024, 1024), data()[0], batch=256, epochs=8)),
    ("two layers, AdamW", lambda _: train(mlp(1024, 1024), data()[0], optimiser=adam(), batch=256, epochs=8)),
    ("batch normalisation", lambda _: train(mlp(1024, 1024, norm=True), data()[0], batch=256, epochs=8)),
    ("dropout of a fifth", lambda _: train(mlp(1024, 1024, dropout=0.2), data()[0], batch=256)),
    ("tanh", lambda _: train(mlp(1024, 1024, act=nn.Tanh), data()[0], batch=256, epochs=8)),
    ("weight decay", lambda _: train(mlp(4096), data()[0], batch=256, optimiser=sgd(0.05, momentum=0.9, weight_decay=5e-4))),
    ("convolutions, SGD", lambda _: train(cnn(), data()[0], epochs=4)),
    ("convolutions, AdamW", lambda _: train(cnn(), data()[0], optimiser=adam(), epochs=4)),
    ("convolutions, batch normalisation", lambda _: train(cnn(norm=True), data()[0], epochs=4)),
)  # fmt: skip

CASES = tuple(Case(name=name, fault=fault, run=seeded(run)) for name, fault, run in FAULTS)
CASES += tuple(Case(name=name, fault="", run=seeded(run)) for name, run in HEALTHY)


def named(case: Case, seed: int = 0) -> tuple[tuple[str, ...], float]:
    """The findings' names, and the seconds it took."""
    began = time.perf_counter()
    watched, twice = case.run(seed)
    return tuple(f.name for f in diagnose_training(watched, overlaps=twice)), time.perf_counter() - began


def right(case: Case, names: Sequence[str]) -> bool:
    """The fault is named; a healthy training has no finding."""
    return case.fault in names if case.fault else not names


def main() -> None:
    seeds = range(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    torch.set_num_threads(1)
    rows: list[tuple[Case, int, tuple[str, ...]]] = []
    for case in CASES:
        for seed in seeds:
            names, took = named(case, seed)
            rows.append((case, seed, names))
            print(f"{case.name:36} {case.fault:24} {took:5.2f} s  {', '.join(names)}", flush=True)
    text = "\n".join(_table(rows, len(seeds)))
    print(text)
    (RESULTS / "training_faults.md").write_text(text)
    host = environment()
    document = {
        "cpu": host.cpu,
        "packages": dict(host.packages),
        "runs": [{"case": c.name, "fault": c.fault, "seed": s, "named": list(n)} for c, s, n in rows],
    }
    (RESULTS / "training_faults.json").write_text(json.dumps(document, indent=1))


def _table(rows: Sequence[tuple[Case, int, tuple[str, ...]]], seeds: int) -> list[str]:
    host = environment(())
    faults = [right(c, n) for c, _, n in rows if c.fault]
    healthy = [right(c, n) for c, _, n in rows if not c.fault]
    lines = [
        "# Planted faults of training",
        "",
        f"{host.cpu}, one thread; {len(FAULTS)} faults and {len(HEALTHY)} healthy trainings, {seeds} seeds each.",
        "Made by `python -m benchmarks.training_faults`.",
        "",
        f"Named: {sum(faults)} of {len(faults)}. Healthy trainings without a finding: {sum(healthy)} of {len(healthy)}.",
        "",
        "| training | fault | named | others found |",
        "|---|---|---|---|",
    ]
    for case in CASES:
        names = [n for c, _, n in rows if c is case]
        others = sorted({name for found in names for name in found if name != case.fault})
        told = f"{sum(right(case, n) for n in names)} of {len(names)}"
        lines.append(f"| {case.name} | {case.fault or '(healthy)'} | {told} | {', '.join(others) or '–'} |")
    return [*lines, ""]


if __name__ == "__main__":
    main()
