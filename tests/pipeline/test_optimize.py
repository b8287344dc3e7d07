"""The main job on a tiny net and real digits: what a run leaves behind, and how it goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

import steelyard as package
import tiny_models
from steelyard import api
from steelyard.api import Result
from steelyard.errors import InvalidInput, SteelyardError
from steelyard.pipeline import begin, prove
from steelyard.records import Outcome, Plan, RunRecords, Sample, Trial, decode, encode
from steelyard.store import read_records
from steelyard.verify.checkup import check_folder

pytestmark = pytest.mark.slow
TURN_SETTINGS = prove._turn_settings  # before the fixtures shorten it


def _lines(folder: Path) -> list[Any]:
    return [decode(line) for line in (folder / "records.jsonl").read_text().splitlines()]


def _trials(folder: Path) -> list[Trial]:
    return [record for record in _lines(folder) if isinstance(record, Trial)]


def _weighed(records: RunRecords) -> set[Plan]:
    return {t.plan for t in records.trials if t.after is not None}


# --- what a run leaves behind ----------------------------------------------------------------------------


def test_a_candidate_meets_every_requirement(finished: Any) -> None:
    records = finished.result.records
    assert finished.result.met
    assert records.outcome.status == "met"
    assert records.outcome.chosen in records.verification.plans
    chosen = records.verification.verdicts[records.verification.plans.index(records.outcome.chosen)]
    assert [v.outcome for v in chosen] == ["met", "met"]


def test_the_records_are_complete_and_in_order(finished: Any) -> None:
    folder, records = finished.result.folder, finished.result.records
    kinds = [type(record).__name__ for record in _lines(folder)]
    assert kinds == ["Run", "Measurement", "tuple", "Trial", "Trial", "Verification", "Outcome"]
    assert dict(records.run.splits) == {"train": 1077, "validation": 360, "test": 360}
    assert records.run.contract.labels == tuple("0123456789")
    assert len(records.run.peaks) > 0
    assert records.findings
    assert records.baseline.on("validation") is not None
    assert records.baseline.on("test") is None  # not looked at before the end
    assert encode(read_records(folder)) == encode(records)


def test_every_plan_has_its_trial_and_its_reason(finished: Any) -> None:
    trials = finished.result.records.trials
    assert len({t.plan for t in trials}) == len(trials) == 2
    weighed = [t for t in trials if t.after is not None]
    late = [t for t in trials if t.refusal is not None]
    assert len(weighed) == len(late) == 1
    assert late[0].refusal.kind == "budget"
    assert all(t.prediction is not None for t in trials)
    assert (finished.result.folder / weighed[0].artifact / "manifest.json").is_file()


def test_the_verification_is_on_test_examples_with_a_control(finished: Any) -> None:
    verification = finished.result.records.verification
    arms = verification.comparison.arms
    assert arms[:2] == ("baseline", "control")
    assert verification.comparison.seconds.shape[::2] == (3, len(arms))
    assert len(verification.measurements) == 1 + len(verification.plans)
    labels = tiny_models.data().test.labels
    for measured in verification.measurements:
        made = measured.on("test")
        np.testing.assert_array_equal(made.labels, labels)
        latency = measured.get("latency_s", batch=1)
        assert isinstance(latency, Sample)
        assert np.unique(latency.blocks).tolist() == [0, 1, 2]  # taken anew, in fresh processes


def test_the_baselines_quality_is_that_of_the_net_written_in_numpy(finished: Any) -> None:
    made = finished.result.records.verification.measurements[0].on("test")
    inputs = tiny_models.data().test.inputs(tiny_models.CONTRACT)
    np.testing.assert_array_equal(made.predicted, tiny_models.logits(inputs).argmax(axis=1))


def test_the_folder_gives_the_predictions_that_were_verified(finished: Any) -> None:
    records = finished.result.records
    model = package.load(finished.result.best)
    assert model.artifact.plan == records.outcome.chosen
    inputs = tiny_models.data().test.inputs(tiny_models.CONTRACT)
    predicted = model(inputs).argmax(axis=1)
    place = records.verification.plans.index(records.outcome.chosen)
    verified = records.verification.measurements[1 + place].on("test").predicted
    assert (predicted == verified).mean() > 0.99  # batches of another size may round another way
    assert (predicted == tiny_models.logits(inputs).argmax(axis=1)).mean() > 0.9


def test_the_folder_carries_its_evidence(finished: Any) -> None:
    manifest = json.loads((finished.result.best / "manifest.json").read_text())
    evidence = manifest["evidence"]
    assert evidence["status"] == "met"
    assert [r["text"] for r in evidence["requirements"]] == ["accuracy drop <= 6%", "latency <= 20x"]
    assert all(r["outcome"] == "met" and r["low"] <= r["value"] <= r["high"] for r in evidence["requirements"])
    assert evidence["test_examples"] == 360
    text = (finished.result.best / "README.md").read_text()
    assert "steelyard.load" in text
    assert "accuracy drop <= 6%" in text
    assert check_folder(finished.result.best, seconds=0.1).passed


def test_the_report_is_rendered_from_the_records_alone(finished: Any, tmp_path: Path) -> None:
    page = finished.result.report.read_text(encoding="utf-8")
    assert str(finished.result.records.outcome.chosen) in page
    (tmp_path / "records.jsonl").write_bytes((finished.result.folder / "records.jsonl").read_bytes())
    assert api.render_report(tmp_path).report.stat().st_size == pytest.approx(len(page.encode()), rel=0.01)


def test_progress_is_told_and_its_shares_are_shares(finished: Any) -> None:
    words = [what for what, _ in finished.told]
    shares = [share for _, share in finished.told if share is not None]
    assert words[0] == "reading the subject"
    assert "writing the deployable folder" in words
    assert any(what.startswith("taking turns, round 3 of 3") for what in words)
    assert shares
    assert all(0 <= share <= 1 for share in shares)


# --- the same folder again -----------------------------------------------------------------------------


def test_the_same_words_on_a_finished_run_change_nothing(finished: Any, again: Callable[..., Result]) -> None:
    result = again()
    assert encode(result.records) == encode(finished.result.records)


def test_the_command_line_gives_exit_status_0(finished: Any, steelyard: Callable[..., Any]) -> None:
    words = [part for text in ("accuracy drop <= 6%", "latency <= 20x") for part in ("--require", text)]
    ran = steelyard(
        "optimize", finished.source, "--data", "digits", *words, "--budget", "2s", "--out", finished.result.folder,
        "--scale", "1/255", "--mean", "0.3", "--std", "0.35", "--json",
    )  # fmt: skip
    assert ran.status == 0
    assert json.loads(ran.out)["folder"] == str(finished.result.folder)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"require": ["accuracy drop <= 1%"]}, "holds a run with other requirements"),
        ({"seed": 1}, "holds a run with other subject"),
        ({"mean": "0.4"}, "holds a run with other subject"),
        ({"minimise": "size"}, "holds a run with other --minimise"),
    ],
)
def test_other_words_on_the_same_folder_are_refused(
    again: Callable[..., Result], changed: dict[str, Any], words: str
) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        again(**changed)
    assert "give another --out" in str(caught.value)
    assert caught.value.exit_status == 2


def test_a_benchmark_does_not_replace_a_run(finished: Any) -> None:
    with pytest.raises(InvalidInput, match="holds a run of optimize"):
        api.benchmark(finished.source, out=finished.result.folder, budget="1s")
    assert (finished.result.folder / "records.jsonl").is_file()


def test_a_run_begun_on_another_machine_does_not_go_on_here(again: Callable[..., Result], tmp_path: Path) -> None:
    folder = again().folder
    run, *rest = _lines(folder)
    moved = dataclasses.replace(run, environment=dataclasses.replace(run.environment, machine="another"))
    (folder / "records.jsonl").write_text("".join(encode(r) + "\n" for r in (moved, *rest)))
    with pytest.raises(InvalidInput, match="was begun on another machine"):
        again(budget="3s")
    assert api.render_report(folder).met  # what it found can still be read


def test_a_longer_budget_goes_on_with_the_plans_not_reached(finished: Any, again: Callable[..., Result]) -> None:
    before = {t.plan: t for t in finished.result.records.trials}
    result = again(budget="40s")
    records = result.records
    assert records.run.budget_s == 40
    assert _weighed(records) == set(before)
    kinds = [type(record).__name__ for record in _lines(result.folder)]
    assert kinds[7:] == ["Run", "Trial", "Verification", "Outcome"]
    for trial in records.trials:
        if before[trial.plan].after is not None:
            assert encode(trial) == encode(before[trial.plan])  # not done again
    assert result.best.is_dir()


def test_a_continuation_that_was_killed_is_not_taken_for_finished(finished: Any, tmp_path: Path) -> None:
    lines = _lines(finished.result.folder)
    assert isinstance(lines[-1], Outcome)
    longer = dataclasses.replace(lines[0], budget_s=3600.0)
    (tmp_path / "records.jsonl").write_text("".join(encode(r) + "\n" for r in (*lines, longer)))
    records = read_records(tmp_path)
    assert records.run.budget_s == 3600
    assert records.outcome is records.verification is None
    assert len(records.trials) == 2


@pytest.mark.parametrize(("left_s", "slots"), [(-5.0, 40), (1.0, 40), (60.0, 74), (1e6, 200)])
def test_what_is_left_of_the_budget_makes_the_proof_longer(
    monkeypatch: pytest.MonkeyPatch, left_s: float, slots: int
) -> None:
    monkeypatch.setattr(prove, "ROUNDS", 10)
    settings = TURN_SETTINGS(4, left_s)
    assert (settings.rounds, settings.slots) == (10, slots)


# --- what would be tried ----


@pytest.mark.usefixtures("_short", "known_peaks")
def test_explaining_the_plan_builds_nothing_and_measures_once(tmp_path: Path, steelyard: Callable[..., Any]) -> None:
    source, out = tiny_models.write_onnx(tmp_path / "tiny.onnx"), tmp_path / "out"
    words = (
        "optimize", source, "--data", "digits", "--require", "latency <= 20x", "--budget", "2s", "--out", out,
        "--scale", "1/255", "--mean", "0.3", "--std", "0.35", "--explain-plan",
    )  # fmt: skip
    ran = steelyard(*words, "--json")
    assert ran.status == 0
    plans = json.loads(ran.out)["plans"]
    assert {p["plan"] for p in plans} == {"openvino", "quantize_static"}
    assert all(p["because"] and p["minutes"] > 0 for p in plans)
    assert not (out / "artifacts").exists()
    before = (out / "records.jsonl").read_bytes()
    assert "Plans, in the order in which they would be tried" in steelyard(*words).out
    assert (out / "records.jsonl").read_bytes() == before


def test_other_techniques_on_a_finished_run_go_on(finished: Any, again: Callable[..., Result]) -> None:
    before = _lines(finished.result.folder)
    result = again(techniques=["int8"])
    kinds = [type(record).__name__ for record in _lines(result.folder)]
    assert kinds[len(before)] == "Run"
    assert kinds[-1] == "Outcome"
    assert result.records.run.words == ("--techniques", "int8")


# --- kill -9 -------------------------------------------------------------------------------------------

KILLED = """
import pathlib, sys
from steelyard.cli import main
from steelyard.pipeline import begin, explore, optimize, prove
from steelyard.records import Plan, Step
from steelyard.store import read_records
peaks = read_records(pathlib.Path(sys.argv.pop(1))).run.peaks
begin.measure_peaks = lambda: peaks
optimize.plans_for = explore.plans_for = lambda _: tuple(Plan(steps=(Step(name=n),)) for n in ("openvino", "quantize_static"))
explore.proposer_for = optimize.shared_folder = lambda *_: None
prove._turn_settings = lambda *_: prove.TurnSettings(rounds=4, slots=4, warm_s=0.05)
main(sys.argv[1:])
"""


def _until_a_trial(folder: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        path = folder / "records.jsonl"
        if path.exists() and b'"type":"Trial"' in path.read_bytes():
            return
        assert process.poll() is None, "it ended before its first trial"
        time.sleep(0.02)
    pytest.fail("no trial within two minutes")


def test_kill_9_and_the_same_command_goes_on(finished: Any, tmp_path: Path) -> None:
    source, out = tiny_models.write_onnx(tmp_path / "tiny.onnx"), tmp_path / "out"
    command = [
        sys.executable, "-c", KILLED, str(finished.result.folder), "optimize", str(source), "--data", "digits", "--out", str(out), "--budget", "40s",
        "--require", "accuracy drop <= 6%", "--require", "latency <= 20x", "--scale", "1/255", "--mean", "0.3",
        "--std", "0.35", "--quiet",
    ]  # fmt: skip
    with subprocess.Popen(command) as process:
        _until_a_trial(out, process)
        children = psutil.Process(process.pid).children(recursive=True)
        os.kill(process.pid, signal.SIGKILL)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert not alive
    before = _trials(out)
    with (out / "records.jsonl").open("ab") as file:
        file.write(b'{"schema":1,"record":{"type":"Tri')  # as a kill in the middle of a write leaves it
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    after = _trials(out)
    assert [encode(t) for t in after[: len(before)]] == [encode(t) for t in before]
    assert max(Counter(t.plan for t in after if t.after is not None).values()) == 1
    assert {t.plan for t in after} == {t.plan for t in read_records(out).trials}
    assert len({t.plan for t in after}) == 2
    assert read_records(out).outcome is not None
    assert package.load(out / "best")(tiny_models.examples(1)).shape == (1, 10)


# --- runs that end otherwise -----------------------------------------------------------------------------


@pytest.mark.usefixtures("_short")
def test_a_model_that_cannot_be_diagnosed_is_optimized_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(begin, "measure_peaks", lambda: ())
    result = api.optimize(
        tiny_models.write_onnx(tmp_path / "tiny.onnx"), data="digits", require=["size <= 1 MB"], budget="1s",
        out=tmp_path / "out", scale="1/255", mean="0.3", std="0.35",
    )  # fmt: skip
    assert result.met
    assert result.records.findings[0].name == "undiagnosed"
    assert len(_weighed(result.records)) == 1
    assert all(t.prediction is None for t in result.records.trials if t.after is not None)


@pytest.mark.usefixtures("_short", "known_peaks")
def test_where_nothing_passes_the_folder_holds_the_baseline(tmp_path: Path, steelyard: Callable[..., Any]) -> None:
    source, out = tiny_models.write_onnx(tmp_path / "tiny.onnx"), tmp_path / "out"
    ran = steelyard(
        "optimize", source, "--data", "digits", "--require", "latency <= 0.0001x", "--budget", "1s", "--out", out,
        "--scale", "1/255", "--mean", "0.3", "--std", "0.35",
    )  # fmt: skip
    assert ran.status == 3
    records = read_records(out)
    assert records.outcome is not None
    assert records.outcome.status == "nothing-passed"
    assert records.outcome.chosen == Plan()
    assert "none promised latency <= 0.0001x" in records.outcome.reason
    model = package.load(out / "best")
    np.testing.assert_allclose(model(tiny_models.examples()), tiny_models.logits(tiny_models.examples()), atol=1e-4)
    assert (out / "best" / "model.onnx").exists() or (out / "best" / "tiny.onnx").read_bytes() == source.read_bytes()
    assert "this is the baseline, unchanged" in (out / "best" / "README.md").read_text()
    assert (out / "report.html").is_file()


def _chance(arrays: tiny_models.Arrays) -> tiny_models.Arrays:
    return {**arrays, "5.weight": np.zeros_like(arrays["5.weight"])}


@pytest.mark.usefixtures("_short", "known_peaks")
@pytest.mark.parametrize(
    ("spoiled", "words"),
    [
        ({"head": _chance}, r"always answering the commonest class.*check the weights, the order of the labels"),
        ({"tail": "noise"}, r"gives other outputs for the same inputs: turn off what is random"),
        ({"tail": "Sqrt"}, r"outputs hold NaN or infinity"),
    ],
    ids=["chance", "random", "nan"],
)
def test_a_baseline_that_is_not_sane_is_refused_with_advice(
    tmp_path: Path, spoiled: dict[str, Any], words: str
) -> None:
    source = tiny_models.write_onnx(tmp_path / "tiny.onnx", **spoiled)
    for _ in range(2):  # and the same words again get the same answer
        with pytest.raises(SteelyardError, match=words) as caught:
            api.optimize(
                source, data="digits", budget="5s", out=tmp_path / "out", scale="1/255", mean="0.3", std="0.35"
            )
        assert "\n" not in str(caught.value)
        assert caught.value.exit_status == 2
    assert [type(r).__name__ for r in _lines(tmp_path / "out")] == ["Run"]


def test_a_subject_that_raises_is_one_line(tmp_path: Path, steelyard: Callable[..., Any]) -> None:
    path = tmp_path / "mine.py"
    path.write_text("def subject():\n    raise RuntimeError('boom\\nand more')\n")
    ran = steelyard("optimize", path, "--out", tmp_path / "out", "--budget", "5s", "--quiet")
    assert ran.status == 2
    assert ran.message == f"{path}: subject() failed: RuntimeError: boom"
    assert not (tmp_path / "out" / "records.jsonl").exists()
