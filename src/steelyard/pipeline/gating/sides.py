"""What the user's word for one side of a gate names: a run folder, a deployed folder, or a baseline file.

A side holds what was read of a model, and, where they are still there, the model itself with inputs to run it on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, UnsafeFile
from steelyard.measure.weigh import read_parity
from steelyard.records import (
    Environment,
    Evaluation,
    GateReport,
    GateSide,
    Measurement,
    Plan,
    Predictions,
    RunRecords,
    SubjectSpec,
    Suite,
)
from steelyard.store import RECORDS, check_idle, kind_of, read_baseline, read_records
from steelyard.subject.artifact import MANIFEST, Artifact, read_artifact, refuse_code

__all__ = ["Contender", "read_contender", "why_not_afresh"]

_INSTEAD: Mapping[type | None, str] = {
    Evaluation: "an evaluation: two of those are compared by `steelyard evaluate A --compare B --require ...`",
    Suite: "a suite: two of those are compared by `steelyard suite compare A B`",
    GateReport: "what gates said, and no model: give the run folders that were gated",
}
"""Folders that are no side of a gate, and what to do with them."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Contender:
    """One of two models to be compared. ``measured`` is what is stored of it, ``artifact`` the model where it is at hand."""

    word: str
    kind: Literal["run", "deployed", "file"]
    plan: Plan
    spec: SubjectSpec | None  # the user's words for the model
    labels: tuple[str, ...]
    measured: Measurement | None = None
    artifact: Artifact | None = None
    inputs: Callable[[], NDArray[Any]] | None = None
    data: Path | None = None  # folder with the test split

    @property
    def environment(self) -> Environment | None:
        """Where its stored readings were taken."""
        return None if self.measured is None else self.measured.environment

    @property
    def on_test(self) -> Predictions | None:
        """Its stored predictions on the test split."""
        return None if self.measured is None else self.measured.on("test")

    def record(self) -> GateSide:
        """As a report names it."""
        known = self.measured.subject if self.measured is not None else ""
        fingerprint = known or (self.artifact.fingerprint() if self.artifact is not None else "")
        return GateSide(
            name=self.word, kind=self.kind, plan=self.plan, subject=fingerprint, environment=self.environment
        )


def read_contender(path: Path) -> Contender:
    """Read what `path` names. Raises `InvalidInput` for anything else, and for a run that has not ended."""
    if path.is_file():
        return _saved(path)
    if not path.is_dir():
        raise InvalidInput(f"{path} is not there: give a run folder, a deployed folder (RUN/best) or a baseline file")
    if (path / MANIFEST).is_file():
        return _deployed(path)
    if (path / RECORDS).is_file():
        return _run(path)
    raise InvalidInput(
        f"{path} holds neither a run nor a deployed model: give the folder that --out of optimize or benchmark named, "
        "RUN/best, or a baseline file"
    )


def why_not_afresh(baseline: Contender, candidate: Contender) -> str:
    """Why the two cannot be measured against each other now; empty where they can.

    Of a model in the user's own code only the weights are kept. Where both sides name the same file, the code of one
    of them is gone, and running both would compare today's code with itself.
    """
    for side in (baseline, candidate):
        if side.artifact is None or side.inputs is None:
            return f"{side.word} holds no model to run"
    codes = [_code_of(side) for side in (baseline, candidate)]
    if codes[0] is not None and codes[0] == codes[1]:
        return f"both run the code of {codes[0].name} as it is today, which is that of one of them at most"
    return ""


def _code_of(side: Contender) -> Path | None:
    """The Python file that a side's model is made of, if it is."""
    if side.artifact is None or side.artifact.engine != "eager" or side.artifact.spec is None:
        return None
    return Path(side.artifact.spec.source.partition(":")[0]).resolve()


def _saved(path: Path) -> Contender:
    saved = read_baseline(path)
    return Contender(
        word=str(path), kind="file", plan=saved.plan, spec=None, labels=saved.labels, measured=saved.measured
    )


def _deployed(path: Path) -> Contender:
    artifact = read_artifact(path)
    try:
        refuse_code(artifact)
    except UnsafeFile as error:
        raise UnsafeFile(f"{str(error).partition(': if you')[0]}: give the run folder it came from") from None
    parity = path / "parity.npz"
    return Contender(
        word=str(path),
        kind="deployed",
        plan=artifact.plan,
        spec=artifact.spec,
        labels=artifact.contract.labels,
        artifact=artifact,
        inputs=(lambda: read_parity(parity)[0]) if parity.is_file() else None,
    )


def _run(path: Path) -> Contender:
    check_idle(path)
    instead = _INSTEAD.get(kind_of(path))
    if instead is not None:
        raise InvalidInput(f"{path} holds {instead}")
    records = read_records(path)
    if records.run.command not in ("optimize", "benchmark"):
        raise InvalidInput(f"{path} holds a run of {records.run.command}: a gate takes runs of optimize or benchmark")
    plan, measured = _delivered(path, records)
    folder = path / ("best" if records.run.command == "optimize" else "baseline")
    data = path / "data"
    inputs = data / "inputs.npy"
    return Contender(
        word=str(path),
        kind="run",
        plan=plan,
        spec=records.run.spec,
        labels=records.run.contract.labels,
        measured=measured,
        artifact=read_artifact(folder) if (folder / MANIFEST).is_file() else None,
        inputs=(lambda: np.load(inputs)) if inputs.is_file() else None,
        data=data if (data / "test.labels.npy").is_file() else None,
    )


def _delivered(path: Path, records: RunRecords) -> tuple[Plan, Measurement]:
    """What the run ended with, as its proof read it, or as the baseline was weighed where nothing was proved."""
    if records.baseline is None or (records.run.command == "optimize" and records.outcome is None):
        raise InvalidInput(f"the run in {path} has not ended: the same {records.run.command} command finishes it")
    plan = records.outcome.chosen if records.outcome is not None else Plan()
    if records.verification is None:
        return plan, records.baseline
    known = {Plan(): 0, **{p: i for i, p in enumerate(records.verification.plans, 1)}}
    return plan, records.verification.measurements[known.get(plan, 0)]
