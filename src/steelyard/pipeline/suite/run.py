"""Reading a suite: each cell recorded as soon as it is read, so that a stopped suite goes on.

Engines of one model at one batch size take turns, as in a comparison, so that the machine's drift falls on all of them
alike. Models do not: nothing compares them with each other, and each that lives beside another takes memory from it.
"""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

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
from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import ArmFailed, Turns, TurnSettings, take_turns
from steelyard.measure.weigh import WeighSettings, weigh
from steelyard.pipeline.benchmark import LOAD_WORKER, under_stress
from steelyard.pipeline.gating.processes import slim, turn_settings
from steelyard.pipeline.job import Progress, silent
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.pipeline.prove import cost_of
from steelyard.pipeline.suite.definition import Cell, Definition, Engine, as_json
from steelyard.probe.host import environment
from steelyard.records import Environment, Measurement, Plan, Refusal, Requirement, Step, Suite, SuiteCell
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
    target: Requirement | None  # of the cells under stress
    limits: Limits
    progress: Progress

    @property
    def path(self) -> Path:
        return self.out / self.folder

    @property
    def log(self) -> Path:
        return self.path / "workers.log"


class _Side(NamedTuple):
    """A model as one engine takes it, and what was weighed of it."""

    artifact: Artifact
    weighed: Measurement


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
        read = _read(left, out, host, budget_s, definition.target, limits or Limits(), progress)
        for number, found in enumerate(read, len(done) + 1):
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
    cells: Sequence[Cell],
    out: Path,
    host: Environment,
    budget_s: float,
    target: Requirement | None,
    limits: Limits,
    progress: Progress,
) -> Iterator[SuiteCell]:
    """Models are prepared once, engines weighed once; every batch size is timed in processes of its own."""
    for folder, group in groupby(cells, key=lambda cell: cell.folder):
        room = _Room(
            out=out, folder=folder, host=host, budget_s=budget_s, target=target, limits=limits, progress=progress
        )
        mine = list(group)
        try:
            room.path.mkdir(parents=True, exist_ok=True)
            prepared = prepare_subject(mine[0].spec, room.path, progress, with_data=bool(mine[0].data))
        except (SteelyardError, OSError) as error:
            yield from _all_refused(mine, error)
            continue
        yield from _of_model(mine, room, prepared)


def _of_model(cells: Sequence[Cell], room: _Room, prepared: Prepared) -> Iterator[SuiteCell]:
    """What is weighed once for each engine, then its batch sizes, then what it bears."""
    sides: dict[Engine, _Side] = {}
    for engine in dict.fromkeys(cell.engine for cell in cells):
        mine = [cell for cell in cells if cell.engine == engine]
        try:
            artifact = _artifact(engine, room, prepared)
            room.progress(f"{mine[0].model} by {engine}: weighing", None)
            sides[engine] = _Side(artifact, _weighed(artifact, sorted({cell.batch for cell in mine}), room, prepared))
        except (SteelyardError, OSError) as error:
            yield from _all_refused(mine, error)
    left = [cell for cell in cells if cell.engine in sides]
    for batch in dict.fromkeys(cell.batch for cell in left if not cell.stress):
        together = [cell for cell in left if cell.batch == batch and not cell.stress]
        yield from _in_turns(together, sides, room, prepared.inputs)
    for cell in (cell for cell in left if cell.stress):
        yield _stressed(cell, sides[cell.engine], room, prepared.inputs)


def _in_turns(cells: Sequence[Cell], sides: Mapping[Engine, _Side], room: _Room, inputs: Path) -> Iterator[SuiteCell]:
    """Cells of one batch size; where an engine fails the others take turns without it."""
    left = list(cells)
    while left:
        began = time.monotonic()
        try:
            found = _timed(left, sides, room, inputs)
        except ArmFailed as failure:
            yield from _all_refused([left.pop(failure.arm)], failure)
        except (SteelyardError, OSError) as error:
            yield from _all_refused(left, error)
            return
        else:
            share_s = (time.monotonic() - began) / len(left)
            yield from (dataclasses.replace(cell, wall_s=share_s) for cell in found)
            return


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


def _timed(cells: Sequence[Cell], sides: Mapping[Engine, _Side], room: _Room, inputs: Path) -> list[SuiteCell]:
    """The cells' batch in ten rounds of fresh processes, the unit of replication."""
    batch = cells[0].batch
    costs = [cost_of(sides[cell.engine].weighed, 0) for cell in cells]
    costs = [dataclasses.replace(cost, turn_s=cost.turn_s * max(1.0, batch / 8)) for cost in costs]
    settings = dataclasses.replace(turn_settings(costs, 0.8 * room.budget_s * len(cells), seed=0), batch=batch)

    def say(done: int) -> None:
        engines = ", ".join(cell.engine for cell in cells)
        room.progress(f"{cells[0].model} at batch {batch} by {engines}: round {done} of {settings.rounds}", None)

    folders: dict[str, Path] = {cell.engine: sides[cell.engine].artifact.folder for cell in cells}
    turns = take_turns(folders, inputs, settings, limits=room.limits, log=room.log, on_round=say)
    return [_cell(cell, cells, sides[cell.engine], turns, arm) for arm, cell in enumerate(cells)]


def _cell(cell: Cell, together: Sequence[Cell], side: _Side, turns: Turns, arm: int) -> SuiteCell:
    timed = turns.readings[arm]
    names = {r.quantity for r in timed}
    kept = (
        r
        for r in side.weighed.readings
        if r.quantity not in names and r.conditions.get("batch") in (None, 1, cell.batch)
    )
    return dataclasses.replace(
        _named(cell),
        measured=slim(dataclasses.replace(side.weighed, readings=(*timed, *kept))),
        labels=side.artifact.contract.labels,
        flags=turns.comparison.flags,
        beside=tuple(other.key for other in together if other is not cell),
    )


def _stressed(cell: Cell, side: _Side, room: _Room, inputs: Path) -> SuiteCell:
    """Load raised until the target breaks, in a process of its own."""
    began = time.monotonic()

    def say(what: str) -> None:
        room.progress(f"{cell.key}: {what}", None)

    try:
        with Child(LOAD_WORKER, limits=room.limits, log=room.log) as child:
            child.call("load", folder=str(side.artifact.folder), inputs=str(inputs))
            found = under_stress(child, room.target, side.weighed, room.budget_s, say)
    except (SteelyardError, OSError) as error:
        (refused,) = _all_refused([cell], error)
        return refused
    measured = dataclasses.replace(side.weighed, readings=tuple(found), predictions=())
    return dataclasses.replace(_named(cell), measured=measured, wall_s=time.monotonic() - began)


def _named(cell: Cell) -> SuiteCell:
    """A cell of which nothing is read yet."""
    return SuiteCell(
        key=cell.key,
        model=cell.model,
        data=cell.data,
        engine=cell.engine,
        batch=cell.batch,
        folder=cell.folder,
        stress=cell.stress,
    )


def _all_refused(cells: Sequence[Cell], error: SteelyardError | OSError) -> Iterator[SuiteCell]:
    """Cells that could not be read; what ends the whole suite goes on up."""
    if isinstance(error, StorageFull | RunFolderBusy):
        raise error
    for cell in cells:
        yield dataclasses.replace(_named(cell), refusal=Refusal(kind=_kind(error), reason=str(error)))


def _kind(error: SteelyardError | OSError) -> str:
    if isinstance(error, WorkerFailed):
        return error.kind
    if isinstance(error, MissingExtra):
        return "missing-extra"
    return "cannot-apply" if isinstance(error, CannotApply) else "error"
