"""`steelyard ledger`: every technique trained over the seeds, its steps timed in turns, judged; then those that pay together.

A cell is one training in a process and a run folder of its own, so a stopped ledger goes on, and a stopped training
with it. Seeds come one after the other; within one, the techniques' order is drawn, so that the machine's drift falls on
all of them.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from steelyard import __version__
from steelyard.errors import InvalidInput, SteelyardError, StorageFull, WorkerFailed
from steelyard.measure.arms import Arm
from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import ArmFailed, TurnSettings, fitting_slots, rehearse, rounds
from steelyard.pipeline.job import Progress, silent
from steelyard.pipeline.ledger.techniques import Base, combined, read_techniques
from steelyard.pipeline.ledger.workers import STEPS, TRAINING
from steelyard.pipeline.train import TrainingJob
from steelyard.probe.host import environment
from steelyard.records import (
    Estimate,
    Ledger,
    LedgerCell,
    LedgerEnd,
    LedgerRow,
    LedgerTurns,
    Plan,
    Refusal,
    Requirement,
    SubjectSpec,
    Technique,
    TrainingRun,
    Unavailable,
)
from steelyard.store import LedgerRecords, RunFolder, read_training
from steelyard.trainer.recipe import Recipe
from steelyard.trainer.recipe_file import recipe_yaml
from steelyard.verify.ledger import BASELINE, Evidence, control_of, drop_between, ledger_rows

__all__ = ["COMBINED", "RECIPE", "LedgerJob", "evidence_of", "ledger"]

COMBINED = "combined"
RECIPE = "recipe.yaml"
SETTINGS = TurnSettings(slots=24, slot_s=0.02, warm_s=1.0)
_ABREAST = 4  # techniques whose nets are alive at once, beside baseline and control
_LEAST, _MOST = 4, 12  # rounds of turns


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerJob:
    """What is asked: a baseline recipe, techniques to try on it, and what they should save."""

    spec: SubjectSpec
    base: Base
    techniques: tuple[str, ...]
    out: Path
    requirement: Requirement
    seeds: tuple[int, ...] = (0, 1, 2)
    target: float | None = None  # accuracy on the validation split
    pay: Literal["time", "memory", "energy"] = "time"
    turns_s: float = 300.0  # for steps that take turns, of each group of techniques
    limits: Limits = field(default_factory=lambda: Limits(seconds=3600))
    words: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for what no ledger could tell."""
        if len(self.seeds) < 2 or len(set(self.seeds)) < len(self.seeds):
            raise InvalidInput(
                f"a ledger needs two or more different seeds to see how trainings vary; got {list(self.seeds)}"
            )
        if (self.requirement.quantity, self.requirement.kind) != ("accuracy", "max_drop"):
            raise InvalidInput(
                f"the ledger judges accuracy: write 'accuracy drop <= 1%'; got {self.requirement.text!r}"
            )
        if self.target is not None and not 0 < self.target <= 1:
            raise InvalidInput(f"the target is an accuracy such as 0.9; got {self.target:g}")


def ledger(job: LedgerJob, progress: Progress = silent) -> LedgerRecords:
    """The whole way; every training and every comparison is on disk before the next begins."""
    began = time.monotonic()
    with RunFolder(job.out) as folder:
        asked = _begin(job, folder)
        if folder.ledger().end is not None:
            return folder.ledger()
        _measure(job, folder, asked.techniques, progress)
        single = _evidence(folder)
        rows = ledger_rows(single, [t.name for t in asked.techniques])
        paying = [t for t, row in zip(asked.techniques, rows, strict=True) if row.outcome == "pays"]
        if len(paying) > 1:
            both = combined(paying)
            _measure(job, folder, (both,), progress)
            rows = ledger_rows(_evidence(folder), [*(t.name for t in asked.techniques), COMBINED])
            paying.append(both)
        end = _end(job, _evidence(folder), rows, paying, time.monotonic() - began)
        _write_recipe(job, end)
        folder.append(end)
        return folder.ledger()


def evidence_of(found: LedgerRecords, folder: Path) -> Evidence:
    """What a ledger's folder holds, with its trainings."""
    trained: dict[tuple[str, int], TrainingRun] = {}
    refused: dict[tuple[str, int], str] = {}
    for cell in found.cells:
        if cell.refusal is None:
            trained[cell.technique, cell.seed] = read_training(folder / cell.folder)
        else:
            refused[cell.technique, cell.seed] = cell.refusal.reason
    return Evidence(ledger=found.ledger, trained=trained, refused=refused, turns=found.turns)


def _evidence(folder: RunFolder) -> Evidence:
    return evidence_of(folder.ledger(), folder.path)


def _begin(job: LedgerJob, folder: RunFolder) -> Ledger:
    """The ledger as it was begun; another one's folder is refused."""
    asked = Ledger(
        spec=job.spec,
        recipe=job.base.read().plain(),
        techniques=read_techniques(job.techniques, job.base),
        seeds=job.seeds,
        requirement=job.requirement,
        target=job.target,
        pay=job.pay,
        environment=environment(),
        version=__version__,
        words=job.words,
    )
    if not (folder.path / "records.jsonl").exists():
        folder.append(asked)
        return asked
    known = folder.ledger().ledger
    same = all(
        getattr(known, name) == getattr(asked, name) for name in ("spec", "seeds", "requirement", "target", "pay")
    )
    if (
        not same
        or _plain(known.recipe) != _plain(asked.recipe)
        or [t.name for t in known.techniques] != list(job.techniques)
    ):
        raise InvalidInput(
            f"{job.out} holds another ledger ({' '.join(known.words)}): give another --out, or remove the folder"
        )
    if known.environment.machine != asked.environment.machine:
        raise InvalidInput(f"{job.out} was begun on another machine ({known.environment.cpu}): give another --out")
    return known


def _plain(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """As it comes back from disk, where tuples and lists are alike."""
    return {name: list(value) if isinstance(value, tuple | list) else value for name, value in recipe.items()}


# --- measuring ---------------------------------------------------------------------------------------


def _measure(job: LedgerJob, folder: RunFolder, techniques: Sequence[Technique], progress: Progress) -> None:
    _train_all(job, folder, techniques, progress)
    alive = [t for t in techniques if any(_read(folder, t.name, seed) for seed in job.seeds)]
    timed = {name for turns in folder.ledger().turns for name in turns.comparison.arms}
    left = [t for t in alive if t.name not in timed]
    for start in range(0, len(left), _ABREAST):
        _in_turns(job, folder, left[start : start + _ABREAST], progress)


def _train_all(job: LedgerJob, folder: RunFolder, techniques: Sequence[Technique], progress: Progress) -> None:
    """One training of each technique and of the baseline a seed, in an order that is drawn."""
    baseline = Technique(name=BASELINE)
    planned = [(t, seed) for seed in job.seeds for t in _shuffled((baseline, *techniques), seed)]
    done = {(cell.technique, cell.seed) for cell in folder.ledger().cells if cell.refusal is None}
    for number, (technique, seed) in enumerate(planned):
        if (technique.name, seed) in done:
            continue
        progress(f"training {technique.name}, seed {seed} ({number + 1} of {len(planned)})", number / len(planned))
        folder.append(_cell(job, technique, seed))


def _shuffled(techniques: Sequence[Technique], seed: int) -> list[Technique]:
    order = np.random.default_rng([seed, len(techniques)]).permutation(len(techniques))
    return [techniques[i] for i in order]


def _cell(job: LedgerJob, technique: Technique, seed: int) -> LedgerCell:
    """Train in a fresh process; whatever goes wrong there ends this cell alone."""
    name = f"cells/{_path_name(technique.name)}-{seed}"
    try:
        _train(_job(job, technique, seed, job.out / name), job.limits, job.out / "workers.log")
    except StorageFull:
        raise
    except SteelyardError as error:
        kind = error.kind if isinstance(error, WorkerFailed) else "cannot-apply"
        return LedgerCell(
            technique=technique.name, seed=seed, folder=name, refusal=Refusal(kind=kind, reason=str(error))
        )
    return LedgerCell(technique=technique.name, seed=seed, folder=name)


def _train(job: TrainingJob, limits: Limits, log: Path) -> None:
    with Child(TRAINING, limits=limits, log=log) as child:
        child.call("train", job=job)


def _job(job: LedgerJob, technique: Technique, seed: int, out: Path) -> TrainingJob:
    return TrainingJob(
        spec=job.spec,
        recipe=_recipe(job, technique, seed),
        out=out,
        plan=technique.plan,
        words=(*job.words, technique.name),
    )


def _recipe(job: LedgerJob, technique: Technique, seed: int) -> Recipe:
    return dataclasses.replace(job.base.read(), **technique.changes, seed=seed)


def _path_name(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-._=" else "_" for c in name)


def _in_turns(job: LedgerJob, folder: RunFolder, techniques: Sequence[Technique], progress: Progress) -> None:
    """Rounds of baseline, control and techniques; one whose step cannot run is refused and the others go on."""
    arms = dict(_arms(job, techniques))
    refused: list[tuple[str, Refusal]] = []
    log = job.out / "workers.log"
    settings = SETTINGS
    while len(arms) > 2:
        progress(f"rehearsing steps of {', '.join(list(arms)[2:])}", None)
        try:
            tried = rehearse(tuple(arms.values()), dataclasses.replace(settings, slots=4), limits=job.limits, log=log)
        except ArmFailed as failure:
            name = list(arms)[failure.arm]
            if name in (BASELINE, "control"):
                raise
            refused.append((name, Refusal(kind=failure.kind, reason=str(failure))))
            del arms[name]
            continue
        settings = dataclasses.replace(settings, slots=fitting_slots(tried.turn_s, SETTINGS.slots))
        round_s = tried.start_s + tried.turn_s * settings.slots
        wanted = int(np.clip(job.turns_s / round_s, _LEAST, _MOST))
        folder.append(LedgerTurns(comparison=_rounds(arms, settings, wanted, job, progress), refused=tuple(refused)))
        return


def _arms(job: LedgerJob, techniques: Sequence[Technique]) -> Iterator[tuple[str, Arm]]:
    plain = Technique(name=BASELINE)
    for name, technique in ((BASELINE, plain), ("control", plain), *((t.name, t) for t in techniques)):
        yield name, Arm(worker=STEPS, load={"job": _job(job, technique, job.seeds[0], job.out)})


def _rounds(arms: Mapping[str, Arm], settings: TurnSettings, wanted: int, job: LedgerJob, progress: Progress) -> Any:
    further = rounds(arms, settings, limits=job.limits, log=job.out / "workers.log")
    progress("timing steps in turns", 0.0)
    made = next(further)
    while len(made.seconds) < wanted:
        progress(f"timing steps in turns, round {len(made.seconds) + 1} of {wanted}", len(made.seconds) / wanted)
        made = made.with_more(next(further))
    return made


def _read(folder: RunFolder, name: str, seed: int) -> bool:
    return any(c.technique == name and c.seed == seed and c.refusal is None for c in folder.ledger().cells)


# --- what is left ------------------------------------------------------------------------------------


def _end(
    job: LedgerJob, evidence: Evidence, rows: Sequence[LedgerRow], paying: Sequence[Technique], wall_s: float
) -> LedgerEnd:
    """The cheapest of those that pay, or the baseline; and what it brings on the test split, looked at once."""
    by_name = {row.technique: row for row in rows}
    costs = {t.name: _cost(by_name[t.name], job.pay) for t in paying if by_name[t.name].outcome == "pays"}
    chosen = min(costs, key=lambda name: costs[name]) if costs else BASELINE
    technique = next((t for t in paying if t.name == chosen), Technique(name=BASELINE))
    control, alarm = control_of(evidence.turns)
    test = None if chosen == BASELINE else drop_between(evidence.runs(BASELINE), evidence.runs(chosen), "test", 0.95)
    return LedgerEnd(
        rows=tuple(rows),
        chosen=chosen,
        recipe=_recipe(job, technique, job.seeds[0]).plain(),
        plan=technique.plan if technique.plan.steps else Plan(),
        control=control,
        control_alarm=alarm,
        level=1 - 0.05 / max(1, len(rows)),
        test_drop=test,
        wall_s=wall_s,
    )


def _cost(row: LedgerRow, pay: str) -> float:
    found: Estimate | Unavailable = {"time": row.training, "memory": row.memory, "energy": row.energy}[pay]
    assert isinstance(found, Estimate)
    return found.value


def _write_recipe(job: LedgerJob, end: LedgerEnd) -> None:
    """The recipe that is left, ready for `steelyard train --recipe`, each technique's reason above it."""
    reasons = [f"# {row.technique}: {row.outcome}: {row.reason}" for row in end.rows]
    passes = [f"# before the training: {end.plan}"] if end.plan.steps else []
    recipe = recipe_yaml(Recipe(**{**end.recipe, "seed": job.seeds[0]}))
    (job.out / RECIPE).write_text("\n".join([*reasons, *passes, recipe]), encoding="utf-8")
