"""Which techniques pay: trainings and turns with known truth."""

from collections.abc import Mapping

import numpy as np
import pytest

from made_trainings import EPOCH, EXAMPLES, training
from scripted_rounds import comparison
from steelyard.probe.host import environment
from steelyard.records import (
    Estimate,
    Ledger,
    LedgerRow,
    LedgerTurns,
    Refusal,
    SubjectSpec,
    Technique,
    TrainingRun,
    Unavailable,
)
from steelyard.verify.ledger import BASELINE, Evidence, control_of, drop_between, examples_to, ledger_rows
from steelyard.verify.requirements import parse_requirement

SEEDS = (0, 1, 2)


def _ledger(pay: str = "time", target: float | None = None) -> Ledger:
    return Ledger(
        spec=SubjectSpec(source="model.py"),
        recipe={},
        techniques=(Technique(name="amp"),),
        seeds=SEEDS,
        requirement=parse_requirement("accuracy drop <= 1%"),
        target=target,
        pay=pay,
        environment=environment(),
        version="",
    )


def _turns(ratio: float, *, control: float = 1.0, spread: float = 0.003, memory: float = 1.0) -> LedgerTurns:
    rng = np.random.default_rng(5)
    logs = {name: np.log(r) + rng.normal(0, spread, 8) for name, r in (("control", control), ("amp", ratio))}
    made = comparison(logs)
    for reading, factor in zip(made.readings, (1.0, 1.0, memory), strict=True):
        reading[0].values[:] = reading[0].values * factor
    return LedgerTurns(comparison=made)


def _row(
    turns: LedgerTurns | None,
    after: Mapping[int, TrainingRun] | None = None,
    *,
    ledger: Ledger | None = None,
    refused: Mapping[tuple[str, int], str] | None = None,
) -> LedgerRow:
    if after is None:
        after = {seed: training(seed=seed) for seed in SEEDS}
    trained = {(BASELINE, seed): training(seed=seed) for seed in SEEDS} | {("amp", s): run for s, run in after.items()}
    evidence = Evidence(
        ledger=ledger or _ledger(), trained=trained, refused=refused or {}, turns=[] if turns is None else [turns]
    )
    (row,) = ledger_rows(evidence, ["amp"])
    return row


def _inside(found: object, truth: float) -> bool:
    assert isinstance(found, Estimate)
    return found.low <= truth <= found.high


def test_a_faster_step_at_equal_quality_pays() -> None:
    row = _row(_turns(0.7))
    assert row.outcome == "pays"
    assert _inside(row.step, 0.7)
    assert row.training == row.step or _inside(row.training, 0.7)
    assert _inside(row.energy, 0.7)  # equal powers cancel
    assert row.drop == drop_between(
        {s: training(seed=s) for s in SEEDS}, {s: training(seed=s) for s in SEEDS}, "validation", 0.95
    )


@pytest.mark.parametrize(
    ("ratio", "right", "outcome", "words"),
    [
        (1.2, 0.9, "does not pay", "time does not fall"),
        (0.7, 0.8, "does not pay", "points of accuracy"),
        (1.0, 0.9, "undecided", "may or may not fall"),
    ],
)
def test_what_costs_more_or_loses_accuracy_does_not_pay(ratio: float, right: float, outcome: str, words: str) -> None:
    row = _row(_turns(ratio), {seed: training(right, seed=seed) for seed in SEEDS})
    assert (row.outcome, words in row.reason) == (outcome, True), row.reason


def test_few_examples_leave_a_saving_undecided_and_say_how_much_could_be_lost() -> None:
    few = {seed: training(seed=seed, judged=60, churn=0.3) for seed in SEEDS}
    trained = {(BASELINE, s): training(seed=s, judged=60) for s in SEEDS} | {("amp", s): run for s, run in few.items()}
    (row,) = ledger_rows(Evidence(ledger=_ledger(), trained=trained, refused={}, turns=[_turns(0.7)]), ["amp"])
    assert row.outcome == "undecided"
    assert "is not ruled out with 3 seeds" in row.reason


def test_time_to_a_target_is_steps_time_times_examples() -> None:
    """The baseline reaches 0.9 after three epochs, this after one: a step of 1.5 times the time still pays."""
    quick = {seed: training(seed=seed, curve=(0.95, 0.95, 0.95)) for seed in SEEDS}
    row = _row(_turns(1.5), quick, ledger=_ledger(target=0.9))
    assert _inside(row.step, 1.5)
    assert _inside(row.training, 0.5)
    assert (row.outcome, row.reached) == ("pays", (3, 3))


def test_a_target_that_one_seed_never_reaches_is_said_and_not_averaged_away() -> None:
    after = {seed: training(seed=seed, curve=(0.5, 0.8, 0.9 if seed else 0.85)) for seed in SEEDS}
    row = _row(_turns(0.5), after, ledger=_ledger(target=0.9))
    assert isinstance(row.training, Unavailable)
    assert (row.outcome, row.reached) == ("does not pay", (2, 3))
    assert "amp did not reach 0.9 with seed 0" in row.reason


def test_examples_are_counted_to_the_end_of_the_epoch_that_reached_the_target() -> None:
    run = training(curve=(0.5, 0.8, 0.9))
    counts = [examples_to(run, target) for target in (None, 0.5, 0.8, 0.95)]
    assert counts == [3 * EPOCH * EXAMPLES, EPOCH * EXAMPLES, 2 * EPOCH * EXAMPLES, None]


def test_memory_and_energy_are_judged_where_they_are_what_should_fall() -> None:
    assert _row(_turns(1.3, memory=0.5), ledger=_ledger("memory")).outcome == "pays"
    row = _row(_turns(1.3), {s: training(seed=s, watts=10.0) for s in SEEDS}, ledger=_ledger("energy"))
    assert _inside(row.energy, 1.3 * 0.5)
    assert row.outcome == "pays"


def test_an_alarm_of_the_control_widens_every_time() -> None:
    calm, alarmed = _row(_turns(0.97)), _row(_turns(0.97, control=1.05))
    assert isinstance(calm.step, Estimate)
    assert isinstance(alarmed.step, Estimate)
    assert calm.outcome == "pays"
    assert alarmed.outcome == "undecided"
    assert alarmed.step.high > calm.step.high * 1.04
    assert control_of([_turns(0.97), _turns(0.97, control=1.05)])[1]


def test_a_technique_that_could_not_be_trained_says_why() -> None:
    row = _row(None, {}, refused={("amp", 0): "bf16 is not to be had here"})
    assert (row.outcome, row.reason) == ("does not pay", "bf16 is not to be had here")


def test_a_step_that_could_not_be_run_says_why() -> None:
    turns = LedgerTurns(
        comparison=comparison({"control": np.zeros(3)}), refused=(("amp", Refusal(kind="crash", reason="it crashed")),)
    )
    assert _row(turns).reason == "it crashed"


def test_a_training_that_diverged_does_not_count() -> None:
    after = {seed: training(seed=seed, ended="diverged") for seed in SEEDS}
    assert _row(_turns(0.5), after).reason == "the loss became nan"


def test_several_techniques_share_the_error() -> None:
    """Bonferroni: the interval of each of two is at 97.5 %."""
    trained = {(name, s): training(seed=s) for name in (BASELINE, "amp", "ema") for s in SEEDS}
    rows = ledger_rows(Evidence(ledger=_ledger(), trained=trained, refused={}, turns=[_turns(0.7)]), ["amp", "ema"])
    assert isinstance(rows[0].step, Estimate)
    assert rows[0].step.level == 0.975
    assert rows[1].reason == "its steps did not take turns"
