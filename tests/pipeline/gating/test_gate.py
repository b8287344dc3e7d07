"""Gates on a simulated machine whose truth is known: what passes, what fails, and how often wrongly."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gating_bench import ELSEWHERE, Machine, benchmark_run, measurement, optimize_run, processes, sample, unfinished_run
from steelyard import api
from steelyard.errors import InvalidInput, RunFolderBusy, SchemaTooNew
from steelyard.records import GateReport, SavedBaseline, Suite, decode
from steelyard.store import RunFolder, read_baseline, read_gates

Ask = Callable[..., GateReport]


def _slower(word: str, factor: float, seeds: tuple[int, ...] = (0, 1)) -> Callable[[Path, int], float]:
    return lambda folder, seed: factor if word in folder.parts and seed in seeds else 1.0


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    return benchmark_run(tmp_path / "main"), benchmark_run(tmp_path / "pr")


@pytest.fixture
def ask(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Ask:
    """Gate the two runs on a machine."""

    def run(machine: Machine, *require: str, **words: Any) -> GateReport:
        machine.install(monkeypatch)
        return api.gate(*two, require=require, **{"history": False, **words})

    return run


def _outcomes(report: GateReport) -> list[str]:
    return [verdict.outcome for verdict in report.verdicts]


# --- measured afresh ---------------------------------------------------------------------------------


def test_an_unchanged_candidate_passes_in_one_stage(ask: Ask) -> None:
    machine = Machine()
    report = ask(machine, "latency <= 1.05x", "size <= 1x", "memory <= 1.02x", "p90 <= 1.2x")
    assert _outcomes(report) == ["met"] * 4
    assert report.passed
    assert report.how == "turns"
    assert machine.told == [("baseline", "control", "candidate")]


def test_a_slower_candidate_fails_once_a_second_stage_says_so_too(ask: Ask) -> None:
    report = ask(Machine(_slower("pr", 1.2)), "latency <= 1.05x", "size <= 1x")
    assert _outcomes(report) == ["broken", "met"]
    assert not report.passed
    assert len(report.stages) == 2
    assert [v.requirement.text for v in report.stages[1].verdicts] == ["latency <= 1.05x"]
    assert "confirmed: the first stage had 1." in report.verdicts[0].advice
    first, second = (stage.comparison for stage in report.stages)
    assert first is not None
    assert second is not None
    assert not np.array_equal(first.seconds, second.seconds)


def test_what_the_second_stage_does_not_confirm_is_undecided(ask: Ask) -> None:
    once = Machine(_slower("pr", 1.2, seeds=(0,)))
    report = ask(once, "latency <= 1.05x")
    assert _outcomes(report) == ["undecided"]
    assert report.passed
    assert "did not confirm" in report.verdicts[0].advice
    assert not ask(once, "latency <= 1.05x", undecided="fail").passed


def test_a_gate_on_the_limit_hardly_ever_fails_a_build(ask: Ask) -> None:
    """The truth is exactly the limit: one stage alone would fail 2.5 % of builds, two that agree 0.06 %."""
    first = failed = 0
    for seed in range(120):
        report = ask(Machine(noise=0.02, seed=seed), "latency <= 1x")
        first += report.stages[0].verdicts[0].outcome == "broken"
        failed += not report.passed
    assert 1 <= first <= 10
    assert failed <= 1


def test_an_alarm_of_the_control_widens_and_is_said(ask: Ask) -> None:
    report = ask(Machine(_slower("pr", 1.1), control=1.2), "latency <= 1.05x")
    assert report.stages[0].control_alarm
    assert _outcomes(report) == ["undecided"]
    assert any("A/A control" in note for note in report.notes)


def test_a_limit_is_no_tighter_than_the_noise_floor(ask: Ask) -> None:
    machine = Machine(_slower("pr", 1.06))
    assert _outcomes(ask(machine, "latency <= 1.02x", noise_floor=0.0)) == ["broken"]
    report = ask(machine, "latency <= 1.02x", noise_floor=math.log(1.15))
    assert _outcomes(report) == ["met"]
    assert "judged at 1.150x" in report.verdicts[0].advice
    assert report.verdicts[0].requirement.text == "latency <= 1.02x"
    assert _outcomes(ask(machine, "latency <= 0.9x", noise_floor=math.log(1.15))) == ["broken"]


def test_the_floor_comes_from_the_history_which_grows(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    reports = [ask(Machine(seed=seed), "latency <= 1.02x", history=True) for seed in range(6)]
    assert [r.noise_floor > 0 for r in reports] == [False] * 5 + [True]
    assert 0.001 < reports[-1].noise_floor < 0.1
    assert not ask(Machine(), "latency <= 1.02x", history=False).noise_floor


def test_throughput_is_weighed_where_it_is_asked_for(ask: Ask) -> None:
    assert _outcomes(ask(Machine(), "throughput >= 0.9x")) == ["met"]
    assert _outcomes(ask(Machine(_slower("pr", 1.5)), "throughput >= 0.9x")) == ["broken"]


def test_energy_without_a_reading_is_refused_before_turns_are_taken(ask: Ask) -> None:
    machine = Machine()
    with pytest.raises(InvalidInput, match=r"has no energy \(no counter on this host\)"):
        ask(machine, "energy <= 1x")
    assert not machine.told


def test_the_report_is_appended_and_comes_back(ask: Ask, tmp_path: Path) -> None:
    reports = [ask(Machine(seed=seed), "latency <= 1.05x", out=tmp_path / "gate") for seed in range(2)]
    lines = (tmp_path / "gate" / "records.jsonl").read_text().splitlines()
    back = [decode(line) for line in lines]
    assert [b.verdicts for b in back] == [r.verdicts for r in reports]
    assert back[0].passed


def test_a_gate_stopped_between_its_stages_goes_on(ask: Ask, tmp_path: Path) -> None:
    machine, out = Machine(_slower("pr", 1.2)), tmp_path / "gate"
    real = machine.take_turns

    def stopped(arms: Any, inputs: Any, settings: Any, **rest: Any) -> Any:
        if settings.seed == 1:
            raise KeyboardInterrupt
        return real(arms, inputs, settings, **rest)

    def stop(limit: str) -> GateReport:
        machine.take_turns = stopped  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            ask(machine, limit, out=out)
        machine.take_turns = real  # type: ignore[method-assign]
        return read_gates(out)[-1]

    kept = stop("latency <= 1.05x")
    assert kept.open
    assert _outcomes(kept) == ["undecided"]
    assert "the same command goes on" in kept.verdicts[0].advice
    report = ask(machine, "latency <= 1.05x", out=out)
    assert len(machine.told) == 2  # one stage before the stop, one after it
    assert _outcomes(report) == ["broken"]
    assert report.stages[0].comparison is not None
    assert kept.stages[0].comparison is not None
    assert np.array_equal(report.stages[0].comparison.seconds, kept.stages[0].comparison.seconds)
    assert [r.open for r in read_gates(out)] == [False]
    stop("latency <= 1.05x")
    ask(machine, "latency <= 1.06x", out=out)  # other words begin anew
    assert len(machine.told) == 5


# --- quality -----------------------------------------------------------------------------------------


def _latency(scale: float = 1.0, spread: float = 0.01, count: int = 10, seed: int = 0) -> Any:
    return processes(1e-3 * scale * np.exp(np.random.default_rng(seed).normal(0, spread, count)))


def test_stored_predictions_on_the_same_examples_are_paired(tmp_path: Path) -> None:
    right = np.arange(2000) % 10 > 0
    worse = right & (np.arange(2000) % 7 > 0)
    runs = [
        optimize_run(tmp_path / name, measurement(_latency(), right=kept))
        for name, kept in (("a", right), ("b", worse), ("c", right))
    ]
    report = api.gate(runs[0], runs[1], require=["accuracy drop <= 1%"])
    assert _outcomes(report) == ["broken"]
    assert report.verdicts[0].estimate is not None
    assert report.verdicts[0].estimate.method.startswith("Tango")
    assert _outcomes(api.gate(runs[0], runs[2], require=["accuracy drop <= 1%"])) == ["met"]


def test_other_examples_are_compared_unpaired_and_that_is_said(tmp_path: Path) -> None:
    right = np.arange(2000) % 10 > 0
    runs = [
        optimize_run(tmp_path / name, measurement(_latency(), right=right, seed=seed)) for seed, name in enumerate("ab")
    ]
    report = api.gate(*runs, require=["accuracy drop <= 5%"])
    assert report.verdicts[0].estimate is not None
    assert report.verdicts[0].estimate.method.startswith("unpaired")
    assert any("other test examples" in note for note in report.notes)


def test_quality_that_nobody_recorded_names_the_cure(ask: Ask) -> None:
    with pytest.raises(InvalidInput, match=r"main has no accuracy \(no predictions on test data\); give --data"):
        ask(Machine(), "accuracy drop <= 1%")


# --- stored readings ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("scale", "outcome"), [(1.0, "met"), (1.2, "broken")])
def test_stored_processes_are_compared_as_independent_samples(tmp_path: Path, scale: float, outcome: str) -> None:
    runs = [
        optimize_run(tmp_path / "a", measurement(_latency())),
        optimize_run(tmp_path / "b", measurement(_latency(scale, seed=1))),
    ]
    report = api.gate(*runs, require=["latency <= 1.05x"])
    assert _outcomes(report) == [outcome]
    assert report.how == "stored"
    assert report.stages[0].comparison is None
    assert any("never ran together" in note for note in report.notes)
    assert any("stands on one stage" in note for note in report.notes) == (outcome == "broken")


def test_unlike_machines_are_refused_unless_allowed_and_then_said(tmp_path: Path) -> None:
    here = optimize_run(tmp_path / "a", measurement(_latency()))
    there = optimize_run(tmp_path / "b", measurement(_latency(), host=ELSEWHERE))
    with pytest.raises(InvalidInput, match=r"unlike machines \(.*another processor.*--allow-unlike-machines"):
        api.gate(here, there, require=["latency <= 1.1x"])
    report = api.gate(here, there, require=["latency <= 1.1x", "size <= 1x"], allow_unlike_machines=True)
    assert "another processor" in report.unlike
    assert "unlike machines" in report.verdicts[0].advice
    assert not report.verdicts[1].advice
    assert any(note.startswith("versions changed") for note in report.notes) == bool(
        {"numpy"} & report.baseline.environment.packages.keys()  # type: ignore[union-attr]
    )


def test_code_that_both_share_is_not_run_against_itself(tmp_path: Path) -> None:
    """Of a model in Python only the weights are kept; with one process each there is nothing to judge a time by."""
    runs = [benchmark_run(tmp_path / name, eager="net.py:subject") for name in "ab"]
    report = api.gate(*runs, require=["latency <= 1.05x", "size <= 1x"], stored=True)
    assert _outcomes(report) == ["unavailable", "met"]
    assert not report.passed
    assert "one process of the baseline" in report.verdicts[0].advice


def test_a_candidate_at_hand_is_timed_now_and_again_to_confirm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(_slower("pr", 1.3)).install(monkeypatch)
    baseline = api.save_baseline(benchmark_run(tmp_path / "main"), tmp_path / "main.json")
    report = api.gate(baseline, benchmark_run(tmp_path / "pr"), require=["latency <= 1.05x"])
    assert machine.told == [("model",)] * 3
    assert _outcomes(report) == ["broken"]
    assert "confirmed" in report.verdicts[0].advice


# --- baseline files ----------------------------------------------------------------------------------


def test_a_baseline_file_is_small_and_holds_what_a_gate_reads(tmp_path: Path) -> None:
    many = sample("latency_s", np.tile(np.arange(10_000.0), 10), blocks=np.repeat(np.arange(10), 10_000), batch=1)
    run = optimize_run(tmp_path / "run", measurement(many, right=np.arange(1000) % 10 > 0))
    path = api.save_baseline(run, tmp_path / "baselines" / "main.json")
    saved = read_baseline(path)
    assert path.stat().st_size < 60_000
    latency = saved.measured.get("latency_s", batch=1)
    assert np.unique(latency.blocks, return_counts=True)[1].tolist() == [300] * 10
    for block in range(10):
        kept = latency.values[latency.blocks == block]
        assert np.median(kept) == pytest.approx(4999.5, rel=1e-3)
        assert (kept[0], kept[-1]) == (0, 9999)
    assert not saved.measured.all("operator_s")
    assert saved.measured.predictions[0].scores is None
    assert saved.measured.predictions[0].correct.mean() == 0.9
    with_scores = read_baseline(api.save_baseline(run, path, scores=True))
    assert with_scores.measured.predictions[0].scores is not None


def test_a_file_that_is_no_baseline_is_not_overwritten(tmp_path: Path) -> None:
    run = optimize_run(tmp_path / "run", measurement(_latency()))
    mine = tmp_path / "notes.json"
    mine.write_text("{}")
    with pytest.raises(InvalidInput, match="not a Steelyard record"):
        api.save_baseline(run, mine)
    assert mine.read_text() == "{}"
    (tmp_path / "other.json").write_text((run / "records.jsonl").read_text().splitlines()[0])
    with pytest.raises(InvalidInput, match="is no baseline file"):
        api.save_baseline(run, tmp_path / "other.json")


# --- what cannot be gated ------------------------------------------------------------------------------


def test_words_that_cannot_be_followed_are_refused_with_the_cure(two: tuple[Path, Path], tmp_path: Path) -> None:
    main, pr = two
    saved = api.save_baseline(optimize_run(tmp_path / "o", measurement(_latency())), tmp_path / "o.json")
    (tmp_path / "empty").mkdir()
    suite = tmp_path / "suite"
    with RunFolder(suite) as folder:
        folder.append(Suite(name="s", cells=(), definition="{}", environment=ELSEWHERE))
    cases: list[tuple[tuple[Path, Path], dict[str, Any], str]] = [
        ((main, main), {}, "give two that differ"),
        ((main, main / "." / "baseline" / ".."), {}, "give two that differ"),
        ((main, saved), {}, "the baseline comes first: steelyard gate .*o.json --against"),
        ((main, tmp_path / "nix"), {}, "nix is not there"),
        ((main, tmp_path / "empty"), {}, "neither a run nor a deployed model"),
        ((main, pr), {"require": []}, "say what must hold"),
        ((main, pr), {"noise_floor": -1.0}, "log-ratio from 0 on"),
        ((main, pr), {"speed": 1}, "gate has no 'speed'"),
        ((main, unfinished_run(tmp_path / "u")), {}, "has not ended: the same optimize command"),
        ((main, suite), {}, "holds a suite: .*suite compare"),
        ((main, pr), {"out": suite}, "records of another kind"),
    ]
    for sides, words, message in cases:
        with pytest.raises(InvalidInput, match=message):
            api.gate(*sides, **{"require": ["latency <= 1x"], **words})


def test_a_run_that_is_being_written_is_waited_for(two: tuple[Path, Path]) -> None:
    with RunFolder(two[1]), pytest.raises(RunFolderBusy, match="still writing"):
        api.gate(*two, require=["latency <= 1x"])


def test_damaged_and_newer_baselines_name_the_file(tmp_path: Path, two: tuple[Path, Path]) -> None:
    path = tmp_path / "b.json"
    for content, kind, message in (
        ("{", InvalidInput, "b.json: not a Steelyard record"),
        ('{"schema":99,"record":{}}', SchemaTooNew, "b.json: records have schema 99"),
        ('{"schema":2,"record":{"type":"SavedBaseline"}}', InvalidInput, "b.json: damaged record"),
    ):
        path.write_text(content)
        with pytest.raises(kind, match=message):
            api.gate(path, two[1], require=["latency <= 1x"])
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="it is no text"):
        api.gate(path, two[1], require=["latency <= 1x"])


def test_models_of_other_shapes_are_refused(two: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    from steelyard.subject.artifact import read_artifact, write_manifest

    artifact = read_artifact(two[1] / "baseline")
    write_manifest(dataclasses.replace(artifact, contract=dataclasses.replace(artifact.contract, shape=(1, 9, 9))))
    Machine().install(monkeypatch)
    with pytest.raises(InvalidInput, match="unlike inputs"):
        api.gate(*two, require=["latency <= 1x"], history=False)


def test_a_deployed_folder_of_code_is_not_run(two: tuple[Path, Path], tmp_path: Path) -> None:
    eager = benchmark_run(tmp_path / "e", eager="net.py:subject") / "baseline"
    with pytest.raises(InvalidInput, match="give the run folder it came from"):
        api.gate(two[0], eager, require=["latency <= 1x"])


def test_a_saved_baseline_says_what_it_is(tmp_path: Path) -> None:
    run = optimize_run(tmp_path / "run", measurement(_latency()))
    saved = read_baseline(api.save_baseline(run, tmp_path / "b.json"))
    assert isinstance(saved, SavedBaseline)
    assert (saved.name, saved.source, saved.labels) == ("run", "tiny.onnx", ("no", "yes"))


# --- real processes ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_real_models_in_real_processes(
    two: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two copies of one net: whatever the machine does, sizes and answers agree."""
    from steelyard.pipeline.gating import processes as of_processes

    monkeypatch.setattr(of_processes, "ROUNDS", 2)
    told: list[str] = []
    report = api.gate(
        *two,
        require=["size <= 1x", "accuracy drop <= 5%", "latency <= 1e9x"],
        data="digits",
        budget="1s",
        history=False,
        progress=lambda what, _: told.append(what),
    )
    assert [v.outcome for v in report.verdicts] == ["met", "met", "met"]
    assert report.verdicts[1].estimate is not None
    assert report.verdicts[1].estimate.value == 0
    assert report.stages[0].comparison is not None
    assert report.stages[0].comparison.seconds.shape == (2, 40, 3)
    assert "stage 1: taking turns, round 2 of 2" in told
    saved = api.save_baseline(two[0], tmp_path / "main.json", data="digits", budget="1s")
    later = api.gate(saved, two[1], require=["accuracy drop <= 5%", "macro_f1 drop <= 20%"], data="digits")
    assert [v.outcome for v in later.verdicts] == ["met", "met"]
    assert later.how == "stored"
