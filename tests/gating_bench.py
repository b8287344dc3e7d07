"""A machine whose truth is known, for gates and suites: it weighs and takes turns as the real one does, without processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import tiny_models
from steelyard.measure.turns import Turns, TurnSettings
from steelyard.probe.host import environment
from steelyard.records import (
    Comparison,
    Environment,
    Measurement,
    Outcome,
    Plan,
    Predictions,
    Run,
    Sample,
    Scalar,
    SubjectSpec,
    Unavailable,
)
from steelyard.store import RunFolder
from steelyard.subject.artifact import Artifact

HERE: Environment = environment(())
ELSEWHERE = dataclasses.replace(HERE, machine="e15e", cpu="another processor", packages={"numpy": "1.0"})
CALLS = 6


def sample(quantity: str, values: Any, unit: str = "s", blocks: Any = None, **conditions: Scalar) -> Sample:
    return Sample(
        quantity=quantity,
        unit=unit,
        values=np.atleast_1d(np.asarray(values, dtype=np.float64)),
        blocks=None if blocks is None else np.asarray(blocks, dtype=np.int32),
        conditions=conditions,
    )


def processes(medians: Any, batch: int = 1) -> Sample:
    """Several calls of each process, spread evenly around its median."""
    medians = np.asarray(medians, dtype=float)
    calls = medians[:, None] * np.linspace(0.9, 1.1, CALLS)
    return sample("latency_s", calls.ravel(), blocks=np.repeat(np.arange(len(medians)), CALLS), batch=batch)


def predictions(right: Any, seed: int = 0) -> Predictions:
    """Two classes, drawn by `seed`; each example right with 0.9 or wrong with 0.9."""
    right = np.asarray(right, dtype=bool)
    labels = np.random.default_rng(seed).integers(0, 2, len(right)).astype(np.int32)
    return Predictions(
        split="test", labels=labels, predicted=np.where(right, labels, 1 - labels).astype(np.int32),
        p_true=np.where(right, 0.9, 0.1).astype(np.float32), classes=2,
        scores=np.full((len(right), 2), 0.5, dtype=np.float32),
    )  # fmt: skip


def measurement(*readings: Any, right: Any = None, seed: int = 0, host: Environment = HERE) -> Measurement:
    """Size, memory and loading time of a small model, and what else is given."""
    common = (
        sample("load_s", 0.1), sample("first_prediction_s", 0.01), sample("stored_bytes", 5000, "byte"),
        sample("memory_running_bytes", 1e8, "byte"), sample("operator_s", 1.0, operator="conv"),
    )  # fmt: skip
    given = {r.quantity for r in readings}
    return Measurement(
        subject="f00d",
        environment=host,
        readings=(*readings, *(r for r in common if r.quantity not in given)),
        predictions=() if right is None else (predictions(right, seed),),
    )


@dataclasses.dataclass
class Machine:
    """Log-normal noise between processes and slots; ``factor(folder, seed)`` is how slow the model in a folder is."""

    factor: Callable[[Path, int], float] = lambda _folder, _seed: 1.0
    noise: float = 0.01
    control: float = 1.0  # how much slower the control's processes come out
    seed: int = 0
    told: list[tuple[str, ...]] = dataclasses.field(default_factory=list)

    def take_turns(self, arms: Mapping[str, Path], _inputs: Path, settings: TurnSettings, **rest: Any) -> Turns:
        self.told.append(tuple(arms))
        rng = np.random.default_rng((self.seed, settings.seed, len(self.told)))
        shape = (settings.rounds, settings.slots, len(arms))
        truth = np.array([1e-3 * self.factor(path, settings.seed) for path in arms.values()])
        truth[[name == "control" for name in arms]] *= self.control
        rounds = rng.normal(0, self.noise, (shape[0], 1, shape[2]))
        seconds = truth * np.exp(rounds + rng.normal(0, self.noise / 10, shape))
        if rest.get("on_round"):
            rest["on_round"](settings.rounds)
        peaks = 1e8 * np.exp(rng.normal(0, 0.001, (settings.rounds, len(arms))))
        readings = tuple(
            (
                processes(np.median(seconds[:, :, arm], axis=1), settings.batch),
                sample("memory_running_bytes", peaks[:, arm], "byte"),
            )
            for arm in range(len(arms))
        )
        order = np.zeros(shape, dtype=np.int32)
        comparison = Comparison(arms=tuple(arms), batch=settings.batch, seconds=seconds, order=order)
        return Turns(comparison=comparison, readings=readings)

    def weigh(self, artifact: Artifact, _inputs: Path, settings: Any, **_rest: Any) -> Measurement:
        slow = self.factor(artifact.folder, 0)
        rates = [sample("throughput_per_s", np.full(40, b / (1e-3 * slow)), "1/s", batch=b) for b in settings.sweep]
        energy = Unavailable(quantity="energy_j", reason="no counter on this host", conditions={"batch": 1})
        return measurement(sample("latency_s", np.full(50, 1e-3 * slow), batch=1), energy, *rates)

    def install(self, patch: Any) -> Machine:
        """In place of this machine, for gates and suites."""
        from steelyard.pipeline.gating import processes as of_processes
        from steelyard.pipeline.gating import scales
        from steelyard.pipeline.suite import run

        for module in (of_processes, run):
            patch.setattr(module, "take_turns", self.take_turns)
        for module in (of_processes, scales, run):
            patch.setattr(module, "weigh", self.weigh)
        return self


def benchmark_run(folder: Path, measured: Measurement | None = None, *, eager: str = "") -> Path:
    """A finished run of benchmark, with its model and inputs; `eager` names a Python file that the model is made of."""
    artifact = tiny_models.onnx_artifact(folder / "baseline")
    spec = SubjectSpec(source=eager or "tiny.onnx")
    if eager:
        from steelyard.subject.artifact import write_manifest

        write_manifest(dataclasses.replace(artifact, engine="eager", spec=spec))
    (folder / "data").mkdir(exist_ok=True)
    tiny_models.write_inputs(folder / "data" / "inputs.npy")
    with RunFolder(folder) as run:
        run.append(_run("benchmark", spec))
        run.append(measured or measurement(sample("latency_s", np.full(50, 1e-3), batch=1)))
    return folder


def unfinished_run(folder: Path) -> Path:
    """A run of optimize that was stopped before it ended."""
    with RunFolder(folder) as run:
        run.append(_run("optimize", SubjectSpec(source="tiny.onnx")))
        run.append(measurement(sample("latency_s", 1e-3, batch=1)))
    return folder


def optimize_run(folder: Path, measured: Measurement) -> Path:
    """A run of optimize that kept the baseline, copied here without its models."""
    unfinished_run(folder)
    with RunFolder(folder) as run:
        run.append(measured)
        run.append(Outcome(status="nothing-passed", chosen=Plan(), reason="because", wall_s=1.0))
    return folder


def _run(command: str, spec: SubjectSpec) -> Run:
    return Run(
        command=command, spec=spec, contract=dataclasses.replace(tiny_models.CONTRACT, labels=("no", "yes")),
        requirements=(), budget_s=1.0, environment=HERE,
    )  # fmt: skip
