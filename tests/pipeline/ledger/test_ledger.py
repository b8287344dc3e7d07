"""The ledger's way: words to cells, turns, rows and a recipe; a stopped one goes on. Trainings and turns are made up."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_trainings import training
from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.measure.turns import ArmFailed, Rehearsal
from steelyard.pipeline.ledger import ledger as module
from steelyard.pipeline.ledger.ledger import LedgerJob, ledger
from steelyard.pipeline.ledger.techniques import Base, combined, read_techniques
from steelyard.pipeline.train import TrainingJob
from steelyard.records import Comparison, SubjectSpec
from steelyard.store import RunFolder
from steelyard.trainer.recipe_file import read_recipe
from steelyard.verify.requirements import parse_requirement

RATIOS = {"amp": 0.6, "fused": 0.8, "ema": 1.1, "combined": 0.5}


class Made:
    """Trainings at once and turns with known ratios; it remembers what it was asked for."""

    def __init__(self) -> None:
        self.trained: list[TrainingJob] = []
        self.fails: Callable[[TrainingJob], bool] = lambda _job: False
        self.cannot_step = ""

    def train(self, job: TrainingJob, _limits: object, _log: object) -> None:
        self.trained.append(job)
        if self.fails(job):
            raise WorkerFailed("crash", "it ended with signal SIGSEGV")
        with RunFolder(job.out) as folder:
            folder.append(dataclasses.replace(training(seed=job.recipe.seed), recipe=job.recipe.plain()))

    def rehearse(self, arms: Any, settings: Any, **_: Any) -> Rehearsal:
        names = [arm.load["job"].words[-1] for arm in arms]
        if self.cannot_step in names:
            raise ArmFailed(names.index(self.cannot_step), InvalidInput("no such kernel here"))
        return Rehearsal(start_s=1.0, turn_s=1.0, calls=(), warm=(), spread=0.01)

    def rounds(self, arms: Any, settings: Any, **_: Any) -> Iterator[Comparison]:
        logs = np.array([np.log(RATIOS.get(name, 1.0)) for name in arms])
        rng = np.random.default_rng(1)
        while True:
            shape = (1, settings.slots, len(arms))
            seconds = 0.01 * np.exp(logs + rng.normal(0, 0.003, shape))
            order = np.broadcast_to(np.arange(len(arms), dtype=np.int32), shape).copy()
            yield Comparison(arms=tuple(arms), batch=1, seconds=seconds, order=order)


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    stand_in = Made()
    for name in ("rehearse", "rounds"):
        monkeypatch.setattr(module, name, getattr(stand_in, name))
    monkeypatch.setattr(module, "_train", stand_in.train)
    return stand_in


def _job(out: Path, *techniques: str, **changes: Any) -> LedgerJob:
    return LedgerJob(
        spec=SubjectSpec(source="model.py"),
        base=Base(words="classic", changes=("epochs=2",)),
        techniques=techniques,
        out=out,
        requirement=parse_requirement("accuracy drop <= 1%"),
        **changes,
    )


def test_those_that_pay_are_tried_together_and_become_the_recipe(made: Made, tmp_path: Path) -> None:
    found = ledger(_job(tmp_path, "amp", "fused", "ema"))
    assert found.end is not None
    assert {row.technique: row.outcome for row in found.end.rows} == {
        "amp": "pays", "fused": "pays", "ema": "does not pay", "combined": "pays",
    }  # fmt: skip
    assert found.end.chosen == "combined"
    written = read_recipe(tmp_path / "recipe.yaml")
    assert (written.amp, written.fused, written.ema, written.epochs) == ("bf16", True, None, 2)
    assert "# ema: does not pay: time does not fall" in (tmp_path / "recipe.yaml").read_text()
    assert len(made.trained) == 3 * (1 + 3) + 3  # the baseline is not trained again for the combination


def test_every_seed_is_trained_with_and_without_each(made: Made, tmp_path: Path) -> None:
    ledger(_job(tmp_path, "amp", seeds=(4, 7)))
    assert sorted((job.recipe.seed, job.recipe.amp) for job in made.trained) == [
        (4, "bf16"), (4, "none"), (7, "bf16"), (7, "none"),
    ]  # fmt: skip


def test_a_stopped_ledger_trains_only_what_it_lacks(made: Made, tmp_path: Path) -> None:
    made.fails = lambda job: len(made.trained) > 3
    ledger(_job(tmp_path, "amp"))
    records = tmp_path / "records.jsonl"
    records.write_text("".join(x for x in records.read_text().splitlines(keepends=True) if '"LedgerEnd"' not in x))
    made.trained.clear()
    made.fails = lambda job: False
    found = ledger(_job(tmp_path, "amp"))
    assert len(made.trained) == 3
    assert all(cell.refusal is None for cell in found.cells)
    made.trained.clear()
    assert ledger(_job(tmp_path, "amp")).end is not None
    assert made.trained == []


def test_a_technique_that_crashes_ends_alone(made: Made, tmp_path: Path) -> None:
    made.fails = lambda job: job.recipe.fused
    found = ledger(_job(tmp_path, "amp", "fused"))
    assert found.end is not None
    rows = {row.technique: row for row in found.end.rows}
    assert rows["amp"].outcome == "pays"
    assert rows["fused"].reason == "it ended with signal SIGSEGV"
    assert found.end.chosen == "amp"


def test_a_step_that_cannot_run_leaves_the_others_their_turns(made: Made, tmp_path: Path) -> None:
    made.cannot_step = "fused"
    found = ledger(_job(tmp_path, "amp", "fused"))
    assert found.end is not None
    assert {r.technique: r.outcome for r in found.end.rows} == {"amp": "pays", "fused": "does not pay"}
    assert found.end.rows[1].reason == "no such kernel here"


def test_another_ledger_s_folder_is_refused(made: Made, tmp_path: Path) -> None:
    ledger(_job(tmp_path, "amp"))
    with pytest.raises(InvalidInput, match="holds another ledger"):
        ledger(_job(tmp_path, "fused"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seeds": (1,)}, "two or more different seeds"),
        ({"requirement": parse_requirement("latency <= 1x")}, "judges accuracy"),
        ({"target": 2.0}, "accuracy such as 0.9"),
    ],
)
def test_what_no_ledger_can_tell_is_refused(changes: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=words):
        dataclasses.replace(_job(tmp_path, "amp"), **changes)


# --- techniques --------------------------------------------------------------------------------------


def test_words_become_changes_of_the_recipe() -> None:
    base = Base(words="classic", changes=("epochs=2", "batch=64"))
    found = {t.name: t for t in read_techniques(["accumulate", "dropout=0.3", "prune", "augment"], base)}
    assert dict(found["accumulate"].changes) == {"micro_batch": 16}
    assert dict(found["dropout=0.3"].changes) == {"dropout": 0.3}
    assert dict(found["augment"].changes) == {"augment": {"crop": 0.125, "flip": True}}
    assert [step.name for step in found["prune"].plan.steps] == ["prune"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ampp"], "did you mean amp"),
        (["amp", "amp"], "named twice"),
        (["schedule=cosine"], "changes nothing"),
        (["dropout=2"], "dropout must be"),
        (["drop=0.2"], "nearest: dropout"),
        (["prune=2"], "above 0 and below 1"),
        (["prune=half"], "such as prune=0.25"),
    ],
)
def test_words_that_are_no_technique_are_refused(words: list[str], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_techniques(words, Base(words="classic"))


def test_parts_of_a_technique_are_joined() -> None:
    (found,) = read_techniques(["prune=0.25+channels-last+lr=0.02"], Base(words="classic"))
    assert dict(found.changes) == {"lr": 0.02, "channels_last": True}
    assert dict(found.plan.steps[0].options) == {"macs": 0.25, "epochs": 0.0}


def test_a_combination_holds_all_changes_and_passes() -> None:
    found = combined(read_techniques(["amp", "prune", "ema"], Base(words="classic")))
    assert dict(found.changes) == {"amp": "bf16", "ema": 0.999}
    assert [step.name for step in found.plan.steps] == ["prune"]
