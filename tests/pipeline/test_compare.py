"""`compare` by scripted rounds, whose truth and clock are known, and by a few real processes where they are the matter."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steelyard as package
from scripted_rounds import Script
from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.measure.turns import ArmFailed
from steelyard.pipeline import compare as page
from steelyard.pipeline.compare import Request, compare
from steelyard.pipeline.quality import settled, time_level
from steelyard.pipeline.sides import callable_side, command_side, short_names
from steelyard.records import Compared, Difference, Estimate
from steelyard.stats.multiple import holm
from steelyard.stats.sequence import FIRST
from steelyard.store import read_compared, read_controls


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No test writes to the user's history."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def files(tmp_path: Path) -> Path:
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text(f"def f():\n    return '{name}'\n")
    return tmp_path


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Script]:
    """Replace processes by a script."""

    def use(*words: Any, **more: Any) -> Script:
        script = Script(*words, **more)
        monkeypatch.setattr(page, "rehearse", script.rehearse)
        monkeypatch.setattr(page, "rounds", script.rounds)
        return script

    return use


def request(files: Path, **words: Any) -> Request:
    return Request(
        **{
            "first": str(files / "a.py:f"), "second": str(files / "b.py:f"), "kind": "callables", "out": files / "run",
            "budget_s": 60.0, **words,
        }
    )  # fmt: skip


# --- verdicts and stopping -----------------------------------------------------------------------------


@pytest.mark.parametrize(("ratio", "outcome"), [(0.8, "faster"), (1.3, "slower"), (1.0, "equivalent")])
def test_it_stops_at_the_tenth_round_where_that_is_clear(
    files: Path, scripted: Any, ratio: float, outcome: str
) -> None:
    script = scripted(ratio)
    found = compare(request(files))
    assert found.outcome == outcome
    assert script.played == FIRST
    assert found.comparison is not None
    assert len(found.comparison.seconds) == FIRST
    assert found.ratio is not None
    assert found.ratio.low < ratio < found.ratio.high
    assert found.ratio.level == 0.95


def test_it_ends_with_its_budget_and_says_what_would_decide(files: Path, scripted: Any) -> None:
    script = scripted(1.012, 0.03)
    found = compare(request(files))
    assert found.outcome == "undecided"
    assert script.played in (29, 30)  # rounds of two seconds
    assert found.wall_s <= 60.0
    assert "more would decide" in found.advice
    assert "--budget" in found.advice


def test_a_budget_with_no_room_for_ten_rounds_keeps_what_it_has(files: Path, scripted: Any) -> None:
    scripted(1.3, round_s=10.0)
    found = compare(request(files, budget_s=45.0))
    assert found.outcome == "undecided"
    assert found.detectable is None
    assert found.advice.startswith("a verdict takes 10 rounds, 4 fitted: the same command with --budget")
    nothing = compare(request(files, budget_s=1.0, out=files / "none"))
    assert nothing.comparison is None
    assert nothing.advice.startswith("no round fits the budget; ten rounds take about ")


def test_the_least_detectable_difference_is_said_before_the_first_round(files: Path, scripted: Any) -> None:
    scripted(1.3)
    told: list[str] = []
    found = compare(request(files), lambda what, _: told.append(what))
    first = next(at for at, what in enumerate(told) if "round 1" in what)
    promised = next(at for at, what in enumerate(told) if "nine times in ten" in what)
    assert promised < first
    assert found.detectable is not None
    assert 0.001 < found.detectable < 0.1


def test_a_control_that_alarms_downgrades(files: Path, scripted: Any) -> None:
    scripted(1.03, control=1.05)
    found = compare(request(files))
    assert found.control_alarm
    assert found.outcome == "undecided"
    assert found.ratio is not None
    assert "widened" in found.ratio.method


def test_flags_are_kept_and_nothing_is_dropped(files: Path, scripted: Any) -> None:
    script = scripted(1.3)
    script.flags = ("the machine slept for 12 s", "other load 40%")
    found = compare(request(files))
    assert found.comparison is not None
    assert len(found.comparison.flags) == 2 * FIRST
    assert found.comparison.flags[0] == "round 1: the machine slept for 12 s"
    assert len(found.comparison.seconds) == FIRST


# --- the folder ----------------------------------------------------------------------------------------


def test_every_round_is_on_disk_when_the_next_begins(files: Path, scripted: Any) -> None:
    script = scripted(1.3)
    script.fails_in, script.failure = 5, KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        compare(request(files))
    kept = read_compared(files / "run")
    assert kept.comparison is not None
    assert len(kept.comparison.seconds) == 4
    script.fails_in = None
    found = compare(request(files))
    assert script.played == FIRST  # the four were not played again
    assert found.outcome == "slower"
    assert read_compared(files / "run").comparison is not None


def test_a_longer_budget_goes_on_and_a_finished_one_is_not_measured_again(files: Path, scripted: Any) -> None:
    script = scripted(1.012, 0.04)
    short = compare(request(files, budget_s=40.0))
    assert short.outcome == "undecided"
    played = script.played
    again = compare(request(files, budget_s=40.0))
    assert script.played == played
    assert again.outcome == "undecided"
    longer = compare(request(files, budget_s=2000.0))
    assert script.played > played
    assert longer.outcome in ("slower", "equivalent")
    assert longer.comparison is not None
    assert longer.comparison.ended_s is not None
    assert (np.diff(longer.comparison.ended_s) > 0).all()
    done = script.played
    assert compare(request(files, budget_s=9000.0)).outcome == longer.outcome
    assert script.played == done


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"band": 0.05}, "holds another comparison"),
        ({"level": 0.9}, "holds another comparison"),
        ({"second": "a.py:f"}, "holds another comparison"),
    ],
)
def test_other_words_are_refused(files: Path, scripted: Any, words: dict[str, Any], message: str) -> None:
    scripted(1.3)
    compare(request(files))
    if "second" in words:
        words = {"second": str(files / words["second"])}
    with pytest.raises(InvalidInput, match=message):
        compare(request(files, **words))


def test_a_file_that_changed_and_a_machine_that_changed_are_refused(
    files: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripted(1.3)
    found = compare(request(files))
    other = dataclasses.replace(found.environment, machine="f00", cpu="a processor", cores=96)
    with monkeypatch.context() as patch:
        patch.setattr(page, "environment", lambda: other)
        with pytest.raises(InvalidInput, match="begun on another machine"):
            compare(request(files))
    (files / "b.py").write_text("def f():\n    return 2\n")
    with pytest.raises(InvalidInput, match=r"b\.py:f has changed since"):
        compare(request(files))


def test_whoever_fails_is_named_and_what_was_recorded_stays(files: Path, scripted: Any) -> None:
    script = scripted(1.3)
    script.fails_in, script.failure = 3, ArmFailed(1, WorkerFailed("crash", "the process ended with signal SIGSEGV"))
    with pytest.raises(WorkerFailed, match=r"the second, .*b\.py:f, failed in round 3: .* SIGSEGV"):
        compare(request(files))
    kept = read_compared(files / "run").comparison
    assert kept is not None
    assert len(kept.seconds) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"band": 0.0}, "the band is a share"),
        ({"level": 1.0}, "a confidence level lies between"),
        ({"batch": 0}, "the batch is 1 or more"),
        ({"data": "digits"}, "--data and --batch are for models"),
    ],
)
def test_words_that_mean_nothing(files: Path, words: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        compare(request(files, **words))
    assert not (files / "run").exists()


# --- the machine's history -----------------------------------------------------------------------------


def test_controls_are_remembered_and_tell_the_spread_and_the_noise_floor(files: Path, scripted: Any) -> None:
    for number in range(6):
        scripted(1.3, 0.004, seed=number)
        found = compare(request(files, out=files / str(number)))
    kept = read_controls(found.environment.machine)
    assert len(kept) == 6
    assert np.median([k.spread for k in kept]) == pytest.approx(0.004, rel=0.5)
    assert found.detectable_from == "5 earlier comparisons on this machine"
    assert found.noise_floor is not None
    assert 0 < found.noise_floor < 0.02


def test_no_history_leaves_it_alone(files: Path, scripted: Any, state: Path) -> None:
    scripted(1.3)
    compare(request(files, history=False))
    assert not state.exists()


# --- quality beside time -------------------------------------------------------------------------------


@pytest.mark.parametrize("p_values", [[], [0.5], [0.001], [0.001, 0.5], [0.02, 0.03], [0.016, 0.02, 0.4], [1e-9] * 3])
def test_the_times_level_is_holms(p_values: list[float]) -> None:
    """Just below the level's alpha Holm rejects the time among the metrics, just above it does not."""
    alpha = 1 - time_level(p_values, 0.95)
    assert holm([*p_values, 0.9999 * alpha])[-1].rejected
    assert not holm([*p_values, 1.0001 * alpha])[-1].rejected


def test_metrics_and_time_hold_one_level_together() -> None:
    drop = Estimate(
        quantity="accuracy_drop", unit="fraction", value=0.02, low=0.001, high=0.04, level=0.95, method="m", n=9
    )
    found = Difference(metric="accuracy", first="a", second="b", drop=drop, p_value=0.03)
    clear = np.log(1.5) + np.random.default_rng(0).normal(0, 0.001, 12)
    assert settled([found], clear, 0.95)[0].outcome == "worse"
    assert settled([found], None, 0.95)[0].outcome == "undecided"  # 0.03 against 0.025
    assert (
        settled([dataclasses.replace(found, drop=dataclasses.replace(drop, value=-0.02))], clear, 0.95)[0].outcome
        == "better"
    )
    alike = dataclasses.replace(found, outcome="equivalent")
    assert settled([alike], clear, 0.95)[0].outcome == "equivalent"


# --- words ---------------------------------------------------------------------------------------------


def test_commands_are_split_as_a_shell_would() -> None:
    assert command_side("python3 'a b.py' --x", shell=False).arm.load["words"] == ["python3", "a b.py", "--x"]
    assert command_side("a | b", shell=True).arm.load["words"] == ["/bin/sh", "-c", "a | b"]
    with pytest.raises(InvalidInput, match="no such program: no-such-thing"):
        command_side("no-such-thing 1", shell=False)
    with pytest.raises(InvalidInput, match="cannot read the command"):
        command_side("python3 'open", shell=False)
    with pytest.raises(InvalidInput, match="a command is empty"):
        command_side("  ", shell=False)


def test_a_command_is_known_by_the_files_it_names(tmp_path: Path) -> None:
    script = tmp_path / "s.py"
    script.write_text("1")
    before = command_side(f"python3 {script}", shell=False).digest
    script.write_text("2")
    assert command_side(f"python3 {script}", shell=False).digest != before


def test_words_that_are_no_function() -> None:
    with pytest.raises(InvalidInput, match=r"give file\.py:function"):
        callable_side("a.py")


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (("x/a.onnx", "y/b.onnx"), ("a.onnx", "b.onnx")),
        (("x/a.onnx", "y/a.onnx"), ("x/a.onnx", "y/a.onnx")),
        (("a.onnx", "a.onnx"), ("a.onnx (1)", "a.onnx (2)")),
    ],
)
def test_names_tell_the_two_apart(words: tuple[str, str], names: tuple[str, str]) -> None:
    assert short_names(*words) == names


# --- as a user meets it --------------------------------------------------------------------------------


def test_the_command_prints_a_verdict_and_json(files: Path, scripted: Any, steelyard: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(files)
    scripted(1.3)
    ran = steelyard("compare", "--callable", "a.py:f", "b.py:f", "--budget", "60s")
    assert ran.status == 0
    assert "b.py:f is slower than a.py:f: +29.9 % time (+29.6 % to +30.2 %, 95 % at every look)" in ran.out
    assert "10 rounds" in ran.out
    assert "beside it, not deciding: t " in ran.out
    told = json.loads(steelyard("report", "runs/a-f-vs-b-f", "--json").out)
    assert told["outcome"] == "slower"
    assert len(told["log_ratios"]) == told["rounds"] == 10
    assert math.exp(np.mean(told["log_ratios"])) == pytest.approx(told["ratio"]["value"])
    quiet = steelyard("compare", "--callable", "a.py:f", "b.py:f", "--budget", "60s", "-q")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


def test_another_kind_of_run_is_left_alone(files: Path, scripted: Any, steelyard: Any, monkeypatch: Any) -> None:
    monkeypatch.chdir(files)
    scripted(1.3)
    compare(request(files))
    ran = steelyard("evaluate", "nothing.csv", "--out", "run", "-q")
    assert ran.status == 2
    mixed = files / "mixed"
    mixed.mkdir()
    (mixed / "records.jsonl").write_text('{"schema":2,"record":{"type":"Step","name":"x","options":[]}}\n')
    with pytest.raises(InvalidInput, match="mixed holds a run of another kind: give another --out"):
        compare(request(files, out=mixed))


def noise() -> float:
    """A function at the top level of a file, as `steelyard.compare` wants it."""
    return math.sqrt(2.0)


def test_two_functions_from_python(tmp_path: Path, scripted: Any) -> None:
    scripted(1.0)
    found = package.compare(noise, noise, band=0.02, budget="1m", out=tmp_path / "run")
    assert found.outcome == "equivalent"
    assert "are equivalent within 2 %" in str(found)
    assert any("compares it with itself" in warning for warning in found.compared.warnings)
    with pytest.raises(InvalidInput, match="cannot compare a function with words"):
        package.compare(noise, "a.onnx")
    with pytest.raises(InvalidInput, match=r"top level of a \.py file"):
        package.compare(lambda: 1, noise)


def test_real_functions_end_to_end(files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One is twenty times the work of the other, which no load hides; one round of real processes is enough."""
    monkeypatch.setattr(page, "REHEARSED_S", 0.02)
    monkeypatch.setattr(page, "_fits", lambda _head, found, _budget_s: found is None)
    (files / "a.py").write_text("def f():\n    return sum(range(2000))\n")
    (files / "b.py").write_text("def f():\n    return sum(range(40000))\n")
    found: Compared = compare(request(files, budget_s=3.0))
    assert found.comparison is not None
    assert (np.median(found.comparison.seconds[:, :, 1]) / np.median(found.comparison.seconds[:, :, 0])) > 3


def test_a_real_function_that_crashes(files: Path) -> None:
    (files / "b.py").write_text("import os, sys\ndef f():\n    sys.stderr.write('oh no\\n'); os._exit(3)\n")
    (files / "b.py").write_text((files / "b.py").read_text().replace("os._exit", "sys.stderr.flush() or os._exit"))
    with pytest.raises(
        WorkerFailed, match=r"b\.py:f, failed before the first round: .*exit status 3; its last words: oh no"
    ):
        compare(request(files))
    assert not (files / "run" / "records.jsonl").exists()
