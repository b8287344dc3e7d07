"""Reading a suite: one cell after the other, each recorded as soon as it is read, so that a stopped suite goes on."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from steelyard import __version__
from steelyard.errors import (
    CannotApply,
    InvalidInput,
    MissingExtra,
    RunFolderBusy,
    SteelyardError,
    StorageFull,
    WorkerFailed,
)
from steelyard.measure.process import Limits
from steelyard.measure.turns import TurnSettings, take_turns
from steelyard.measure.weigh import WeighSettings, weigh
from steelyard.pipeline.gating.processes import slim, turn_settings
from steelyard.pipeline.job import Progress, silent
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.pipeline.prove import cost_of
from steelyard.pipeline.suite.definition import Cell, Definition, Engine, as_json
from steelyard.probe.host import environment
from steelyard.records import Environment, Measurement, Plan, Refusal, Step, Suite, SuiteCell
from steelyard.search.attempt import Workshop, build
from steelyard.store import RunFolder, read_suite
from steelyard.subject.artifact import Artifact, read_artifact

__all__ = ["run_suite"]

_TO: Mapping[Engine, Step] = {
    "torch": Step(name="export"),
    "onnxruntime": Step(name="onnx"),
    "openvino": Step(name="openvino"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Room:
    """Where cells of one model on one data set are read, and for how long each."""

    out: Path
    folder: str
    host: Environment
    budget_s: float
    limits: Limits
    progress: Progress

    @property
    def path(self) -> Path:
        return self.out / self.folder

    @property
    def log(self) -> Path:
        return self.path / "workers.log"


def run_suite(
    definition: Definition,
    where: Path,
    out: Path,
    budget_s: float,
    *,
    limits: Limits | None = None,
    progress: Progress = silent,
) -> tuple[Suite, tuple[SuiteCell, ...]]:
    """Read every cell that `out` does not hold yet; paths of the definition are relative to `where`.

    A cell that fails is recorded with its reason, and tried again the next time. Raises `InvalidInput` where `out`
    holds another suite, or this one begun on another machine.
    """
    cells = definition.cells(where)
    host = environment()
    with RunFolder(out) as folder:
        done = _begin(folder, definition, cells, host)
        left = [cell for cell in cells if cell.key not in done]
        progress(f"{len(done)} of {len(cells)} cells read", 0.0)
        for number, found in enumerate(_read(left, out, host, budget_s, limits or Limits(), progress), len(done) + 1):
            folder.append(found)
            progress(f"{number} of {len(cells)} cells read", number / len(cells))
        return read_suite(out)


def _begin(folder: RunFolder, definition: Definition, cells: Sequence[Cell], host: Environment) -> set[str]:
    """The keys of the cells that are already read."""
    if not (folder.path / "records.jsonl").exists():
        suite = Suite(
            name=definition.name,
            cells=tuple(c.key for c in cells),
            definition=as_json(definition),
            environment=host,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            version=__version__,
        )
        folder.append(suite)
        return set()
    suite, known = read_suite(folder.path)
    if suite.definition != as_json(definition):
        raise InvalidInput(
            f"{folder.path} holds another suite ({suite.name}), or this one before it was changed: give another --out"
        )
    if suite.environment.machine != host.machine:
        raise InvalidInput(
            f"{folder.path} was begun on another machine ({suite.environment.cpu}, {suite.environment.cores} cores): "
            "cells of unlike machines are not mixed; give another --out"
        )
    return {cell.key for cell in known if cell.refusal is None}


def _read(
    cells: Sequence[Cell], out: Path, host: Environment, budget_s: float, limits: Limits, progress: Progress
) -> Iterator[SuiteCell]:
    """Models are prepared once, engines weighed once; every batch size is timed in processes of its own."""
    for folder, group in groupby(cells, key=lambda cell: cell.folder):
        room = _Room(out=out, folder=folder, host=host, budget_s=budget_s, limits=limits, progress=progress)
        mine = list(group)
        try:
            room.path.mkdir(parents=True, exist_ok=True)
            prepared = prepare_subject(mine[0].spec, room.path, progress, with_data=bool(mine[0].data))
        except (SteelyardError, OSError) as error:
            yield from _all_refused(mine, error)
            continue
        for engine, same in groupby(mine, key=lambda cell: cell.engine):
            yield from _by_engine(engine, list(same), room, prepared)


def _by_engine(engine: Engine, cells: Sequence[Cell], room: _Room, prepared: Prepared) -> Iterator[SuiteCell]:
    try:
        artifact = _artifact(engine, room, prepared)
        room.progress(f"{cells[0].model} by {engine}: weighing", None)
        weighed = _weighed(artifact, [cell.batch for cell in cells], room, prepared)
    except (SteelyardError, OSError) as error:
        yield from _all_refused(cells, error)
        return
    for cell in cells:
        began = time.monotonic()
        try:
            found = _timed(cell, artifact, weighed, room, prepared)
        except (SteelyardError, OSError) as error:
            yield from _all_refused([cell], error)
            continue
        yield dataclasses.replace(found, wall_s=time.monotonic() - began)


def _artifact(engine: Engine, room: _Room, prepared: Prepared) -> Artifact:
    """The model in the form that the engine takes."""
    if engine in ("as-is", prepared.baseline.engine):
        return prepared.baseline
    shop = Workshop(
        root=room.path,
        baseline=prepared.baseline.folder,
        inputs=prepared.inputs,
        data=prepared.data,
        host=room.host,
        weigh=WeighSettings(),
        turns=TurnSettings(),
        limits=room.limits,
    )
    room.progress(f"building for {engine}", None)
    return read_artifact(build(Plan(steps=(_TO[engine],)), shop))


def _weighed(artifact: Artifact, batches: Sequence[int], room: _Room, prepared: Prepared) -> Measurement:
    """Size, memory, energy, throughput, and predictions on test data where there are any."""
    settings = WeighSettings(
        warm_s=0.02 * room.budget_s,
        latency_s=0.1 * room.budget_s,
        sweep=tuple(batches),
        sweep_s=0.05 * room.budget_s,
        operator_runs=1,
        split="test" if prepared.data is not None else None,
        count=False,
    )
    return weigh(
        artifact, prepared.inputs, settings, data=prepared.data, host=room.host, limits=room.limits, log=room.log
    )


def _timed(cell: Cell, artifact: Artifact, weighed: Measurement, room: _Room, prepared: Prepared) -> SuiteCell:
    """The cell's batch in ten fresh processes, the unit of replication."""
    (cost,) = (cost_of(weighed, 0),)
    cost = dataclasses.replace(cost, turn_s=cost.turn_s * max(1.0, cell.batch / 8))
    settings = dataclasses.replace(turn_settings([cost], 0.8 * room.budget_s, seed=0), batch=cell.batch)

    def say(done: int) -> None:
        room.progress(f"{cell.key}: process {done} of {settings.rounds}", None)

    turns = take_turns(
        {"model": artifact.folder}, prepared.inputs, settings, limits=room.limits, log=room.log, on_round=say
    )
    names = {r.quantity for r in turns.readings[0]}
    kept = (
        r for r in weighed.readings if r.quantity not in names and r.conditions.get("batch") in (None, 1, cell.batch)
    )
    return SuiteCell(
        key=cell.key,
        model=cell.model,
        data=cell.data,
        engine=cell.engine,
        batch=cell.batch,
        folder=room.folder,
        measured=slim(dataclasses.replace(weighed, readings=(*turns.readings[0], *kept))),
        labels=artifact.contract.labels,
        flags=turns.comparison.flags,
    )


def _all_refused(cells: Sequence[Cell], error: SteelyardError | OSError) -> Iterator[SuiteCell]:
    """Cells that could not be read; what ends the whole suite goes on up."""
    if isinstance(error, StorageFull | RunFolderBusy):
        raise error
    for cell in cells:
        yield SuiteCell(
            key=cell.key,
            model=cell.model,
            data=cell.data,
            engine=cell.engine,
            batch=cell.batch,
            folder=cell.folder,
            refusal=Refusal(kind=_kind(error), reason=str(error)),
        )


def _kind(error: SteelyardError | OSError) -> str:
    if isinstance(error, WorkerFailed):
        return error.kind
    if isinstance(error, MissingExtra):
        return "missing-extra"
    return "cannot-apply" if isinstance(error, CannotApply) else "error"
