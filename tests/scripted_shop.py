"""A search whose candidates are a table: what each plan gives is known beforehand, and nothing is built or timed."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from steelyard.pipeline import explore
from steelyard.pipeline.job import silent
from steelyard.records import (
    Comparison,
    Contract,
    Environment,
    Finding,
    Measurement,
    Plan,
    Prediction,
    Predictions,
    Refusal,
    Requirement,
    Run,
    Sample,
    SubjectSpec,
    Trial,
)
from steelyard.search.crew import Errand
from steelyard.search.space import Space, plans_for
from steelyard.store import RunFolder

ENVIRONMENT = Environment(
    machine="m", cpu="c", cores=2, memory_bytes=1, instruction_sets=(), accelerators=(), platform="p", python="3",
    packages={}, time="2026-01-01T00:00:00+00:00",
)  # fmt: skip
SPACE = Space("onnxruntime", ("openvino", "quantize_dynamic", "quantize_static", "nncf_int8"))
Gives = Callable[[Plan], Mapping[str, float]]  # gain, and by choice size, memory, right and seconds


def requirement(text: str) -> Requirement:
    from steelyard.verify.requirements import parse_requirement

    return parse_requirement(text)


def measurement(
    latency_s: float = 1e-3, size: float = 4e6, memory: float = 1e8, right: float | None = 0.9, examples: int = 200
) -> Measurement:
    """Readings as a weighing gives them; of `right` None the quality was not read."""
    readings = [
        Sample(quantity="latency_s", unit="s", values=np.full(50, latency_s), conditions={"batch": 1}),
        Sample(quantity="stored_bytes", unit="byte", values=np.array([size])),
        Sample(quantity="memory_running_bytes", unit="byte", values=np.array([memory])),
        Sample(quantity="load_s", unit="s", values=np.array([0.1])),
    ]
    made: tuple[Predictions, ...] = ()
    if right is not None:
        labels = np.arange(examples, dtype=np.int32) % 2
        predicted = np.where(np.arange(examples) < round(right * examples), labels, 1 - labels).astype(np.int32)
        p_true = np.where(predicted == labels, 0.9, 0.1).astype(np.float32)
        made = (Predictions(split="validation", labels=labels, predicted=predicted, p_true=p_true, classes=2),)
    return Measurement(subject="s", environment=ENVIRONMENT, readings=tuple(readings), predictions=made)


def run(*requirements: str, minimise: str = "latency", budget_s: float = 1e6) -> Run:
    return Run(
        command="optimize",
        spec=SubjectSpec(source="model.onnx"),
        contract=Contract(shape=(1,), labels=("no", "yes")),
        requirements=tuple(map(requirement, requirements)),
        budget_s=budget_s,
        environment=ENVIRONMENT,
        splits={"train": 10, "validation": 200, "test": 200},
        minimise=minimise,
    )


def compared(gain: float) -> Comparison:
    seconds = np.full((1, 4, 2), [1.0, 1 / gain])
    return Comparison(arms=("baseline", "x"), batch=1, seconds=seconds, order=np.zeros((1, 4, 2), np.int32))


def trial(plan: Plan, gain: float, wall_s: float = 1.0, **readings: Any) -> Trial:
    """What comes of a candidate that works."""
    after = measurement(latency_s=1e-3 / gain, **readings)
    return Trial(plan=plan, artifact="artifacts/x", after=after, comparison=compared(gain), wall_s=wall_s)


def foreseen(plan: Plan, gain: float = 2.0, **facts: Any) -> Prediction:
    return Prediction(**{"plan": plan, "gain": gain, "ceiling": 100.0, "minutes": 1.0, "because": "reasons", **facts})


class Crew:
    """Takes one errand at a time, and notes each in a file before it begins."""

    def __init__(self, gives: Gives, log: Path, takes_s: float = 0.0) -> None:
        self._gives, self._log, self._takes_s = gives, log, takes_s
        self._errand: Errand | None = None

    @property
    def busy(self) -> Collection[Plan]:
        return () if self._errand is None else (self._errand.plan,)

    @property
    def free(self) -> bool:
        return self._errand is None

    def start(self, errand: Errand) -> None:
        self._errand = errand
        with self._log.open("a") as file:
            file.write(f"{errand.plan}\n")
            file.flush()
        errand.say("building")

    def finish(self) -> Trial:
        errand, self._errand = self._errand, None
        assert errand is not None
        time.sleep(self._takes_s)
        facts = dict(self._gives(errand.plan))
        if not facts:
            return Trial(plan=errand.plan, refusal=Refusal(kind="crash", reason="it ended"), wall_s=1.0)
        made = trial(errand.plan, facts.pop("gain"), **facts)
        assert made.after is not None
        assert made.comparison is not None
        if not errand.contends(made.after, made.comparison):
            made = dataclasses.replace(made, after=dataclasses.replace(made.after, predictions=()))
        return dataclasses.replace(made, prediction=errand.prediction)


class Rival:
    """A baseline that costs nothing to start."""

    start_s = 0.0

    def __init__(self, _shop: Any) -> None: ...

    def __enter__(self) -> Rival:
        return self

    def __exit__(self, *_: object) -> None: ...

    def child(self) -> None: ...


def searched(
    out: Path,
    patch: Any,
    gives: Gives,
    *,
    began: Run | None = None,
    predict: Callable[[Plan], Prediction] = foreseen,
    space: Space = SPACE,
    takes_s: float = 0.0,
    deadline_s: float = 1e6,
) -> tuple[Trial, ...]:
    """`explore` on such a shop; a folder that holds something goes on."""
    crew = Crew(gives, out.with_suffix(".attempts"), takes_s)
    patch.setattr(explore, "Rival", Rival)
    patch.setattr(explore, "crew_for", lambda *_: crew)
    with RunFolder(out) as folder:
        known = folder.records()
        if known is None:
            folder.append(began or run("accuracy drop <= 1%"))
            folder.append(measurement())
            found = Finding(name="n", claim="c", evidence={}, predictions=tuple(map(predict, plans_for(space))))
            folder.append((found,))
            known = folder.records()
        assert known is not None
        earlier = [t for t in known.trials if t.refusal is None or t.refusal.kind != "budget"]
        deadline = time.monotonic() + deadline_s
        shop: Any = SimpleNamespace(root=out)
        return explore.explore(
            shop, folder, space, known.findings, predict, earlier, deadline, known.run.budget_s, silent
        )
