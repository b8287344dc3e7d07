"""Suites on a simulated machine: resumed, failing in parts, and compared where the truth is known."""

from __future__ import annotations

import dataclasses
import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

import tiny_models
from gating_bench import ELSEWHERE, HERE, Machine, measurement, predictions, processes, sample
from steelyard import api
from steelyard.errors import InvalidInput, StorageFull, WorkerFailed
from steelyard.measure.turns import ArmFailed
from steelyard.pipeline.suite import run as suite_run
from steelyard.records import Refusal, Suite, SuiteCell, SuiteChange, Unavailable
from steelyard.report import suites
from steelyard.store import RunFolder, read_suite

ENGINES = (
    "name: tiny\nbudget: 1s\nbatches: [1, 4]\nengines: [as-is, onnxruntime]\nstress: p90 <= 5 ms\n"
    "models:\n  one: {source: one.onnx}\n"
)
FILE = "name: tiny\nbudget: 1s\nbatches: [1, 4]\nmodels:\n  one: {source: one.onnx}\n  two: {source: two.onnx}\n"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("one.onnx", "two.onnx"):
        tiny_models.write_onnx(tmp_path / name)
    (tmp_path / "suite.yaml").write_text(FILE)
    return tmp_path / "suite.yaml"


# --- reading -------------------------------------------------------------------------------------------


def test_every_cell_is_read_in_processes_of_its_own_and_once(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine().install(monkeypatch)
    out = file.parent / "out"
    suite, cells, folder = api.run_suite(file, out=out)
    assert folder == out
    assert [c.key for c in cells] == list(suite.cells)
    assert [c.key for c in cells][:2] == ["one/no-data/as-is/batch-1", "one/no-data/as-is/batch-4"]
    assert machine.told == [("as-is",)] * 4
    latency = cells[1].measured.get("latency_s", batch=4)  # type: ignore[union-attr]
    assert len(np.unique(latency.blocks)) == 10  # type: ignore[union-attr]
    api.run_suite(file, out=out)
    assert len(machine.told) == 4


def test_a_stopped_suite_goes_on_with_the_cell_it_was_in(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine().install(monkeypatch)
    out = file.parent / "out"

    def stopped(*arguments: Any, **words: Any) -> Any:
        if len(machine.told) == 2:
            raise KeyboardInterrupt
        return machine.take_turns(*arguments, **words)

    with monkeypatch.context() as patch:
        patch.setattr(suite_run, "take_turns", stopped)
        with pytest.raises(KeyboardInterrupt):
            api.run_suite(file, out=out)
    _, cells, _ = api.run_suite(file, out=out)
    assert len(cells) == 4
    assert len(machine.told) == 4


def test_a_failing_cell_is_recorded_and_the_rest_goes_on(
    file: Path, monkeypatch: pytest.MonkeyPatch, steelyard: Any
) -> None:
    machine = Machine().install(monkeypatch)

    def crashes(*arguments: Any, **words: Any) -> Any:
        if arguments[2].batch == 4:
            raise WorkerFailed("crash", "the process ended with signal SIGSEGV")
        return machine.take_turns(*arguments, **words)

    (file.parent / "two.onnx").unlink()
    out = file.parent / "out"
    with monkeypatch.context() as patch:
        patch.setattr(suite_run, "take_turns", crashes)
        ran = steelyard("suite", "run", file, "--out", out)
    assert ran.status == 1
    assert "one/no-data/as-is/batch-4: crash: the process ended with signal SIGSEGV" in ran.out
    assert "two/no-data/as-is/batch-1 and 1 more: error: no such file" in ran.out
    assert "1 of 4 cells read" in ran.out
    tiny_models.write_onnx(file.parent / "two.onnx")
    assert steelyard("suite", "run", file, "--out", out, "-q").status == 0


def _broken_at(rate: float) -> Any:
    """What load that rises shows of a model that keeps 5 ms up to `rate` requests a second, and breaks at the double."""

    def under_stress(_child: Any, target: Any, _measured: Any, _seconds: float, _say: Any) -> tuple[Any, ...]:
        late = np.full(600, 1e-3)
        proof = {"rate_per_s": rate, "phase": "proof", "step": 0}
        return (
            dataclasses.replace(sample("latency_limit_s", target.limit, percentile=90.0), note=f"asked: {target.text}"),
            sample("request_latency_s", late, **proof), sample("broken_per_s", 2 * rate, "1/s"), sample("recovery_s", 0.1),
        )  # fmt: skip

    return under_stress


class _Loaded:
    """A child that loads and answers nothing else."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None: ...

    def call(self, method: str, **_: object) -> None:
        assert method == "load"


def test_engines_of_a_model_take_turns_and_bear_load_apart(
    file: Path, monkeypatch: pytest.MonkeyPatch, steelyard: Any
) -> None:
    machine = Machine().install(monkeypatch)
    monkeypatch.setattr(suite_run, "Child", _Loaded)
    file.write_text(ENGINES)
    folders = []
    for name, rate in (("a", 100.0), ("b", 250.0)):
        monkeypatch.setattr(suite_run, "under_stress", _broken_at(rate))
        ran = steelyard("suite", "run", file, "--out", file.parent / name)
        assert ran.status == 0, ran.err
        folders.append(file.parent / name)
    assert machine.told == [("as-is", "onnxruntime")] * 4
    assert "one/no-data/as-is/stress: sustains 250/s at p90 <= 5.00 ms; breaks at 500/s" in " ".join(ran.out.split())
    _, cells = read_suite(folders[0])
    assert [c.key.rpartition("/")[2] for c in cells] == ["batch-1", "batch-4", "stress"] * 2
    assert cells[0].beside == ("one/no-data/onnxruntime/batch-1",)
    assert cells[0].flags == cells[3].flags
    (change,) = api.compare_suites(folders)
    rates = [row for row in change.changes if row.quantity == "sustained"]
    assert [row.outcome for row in rates] == ["faster"] * 2  # 250 to 500 against 100 to 200
    assert (rates[0].found.low, rates[0].found.high) == (1.25, 5.0)  # type: ignore[union-attr]
    assert {row.quantity for row in change.changes if row.key.endswith("stress")} == {"sustained"}


def test_an_engine_that_fails_in_its_turn_costs_the_others_nothing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine().install(monkeypatch)
    file.write_text(ENGINES.replace("stress: p90 <= 5 ms\n", ""))

    def crashes(arms: Any, *rest: Any, **words: Any) -> Any:
        if "onnxruntime" in arms:
            raise ArmFailed(1, WorkerFailed("crash", "SIGSEGV"))
        return machine.take_turns(arms, *rest, **words)

    monkeypatch.setattr(suite_run, "take_turns", crashes)
    _, cells, _ = api.run_suite(file, out=file.parent / "out")
    assert [c.refusal.kind if c.refusal else "" for c in cells] == ["", "", "crash", "crash"]


def test_a_full_disk_ends_the_suite(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine().install(monkeypatch)

    def full(*_: Any, **__: Any) -> Any:
        raise StorageFull("no space left")

    monkeypatch.setattr(suite_run, "take_turns", full)
    with pytest.raises(StorageFull):
        api.run_suite(file, out=file.parent / "out")


def test_another_suite_or_machine_does_not_mix(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Machine().install(monkeypatch)
    out = file.parent / "out"
    api.run_suite(file, out=out)
    with monkeypatch.context() as patch:
        patch.setattr(suite_run, "environment", lambda: ELSEWHERE)
        with pytest.raises(InvalidInput, match="begun on another machine"):
            api.run_suite(file, out=out)
    file.write_text(FILE.replace("[1, 4]", "[1]"))
    with pytest.raises(InvalidInput, match="holds another suite"):
        api.run_suite(file, out=out)


# --- comparing -----------------------------------------------------------------------------------------


def _suite(folder: Path, medians: dict[str, Any], *, host: Any = HERE, right: Any = None, **refused: str) -> Path:
    keys = [f"{name}/digits/as-is/batch-1" for name in (*medians, *refused)]
    with RunFolder(folder) as run:
        run.append(Suite(name="s", cells=tuple(keys), definition="{}", environment=host))
        for name, values in medians.items():
            measured = measurement(processes(values), right=right)
            run.append(_cell(name, measured=measured))
        for name, reason in refused.items():
            run.append(_cell(name, refusal=Refusal(kind="error", reason=reason)))
    return folder


def _cell(name: str, **more: Any) -> SuiteCell:
    key = f"{name}/digits/as-is/batch-1"
    return SuiteCell(key=key, model=name, data="digits", engine="as-is", batch=1, folder=name, **more)


def _draw(rng: np.random.Generator, scale: float = 1.0, spread: float = 0.005) -> Any:
    return 1e-3 * scale * np.exp(rng.normal(0, spread, 10))


def _words(change: SuiteChange) -> dict[str, Any]:
    return {row.key.partition("/")[0]: row.outcome for row in change.changes if row.quantity == "latency"}


def test_ratios_verdicts_and_their_mean(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    before = {name: _draw(rng) for name in ("same", "slow", "fast", "noisy")}
    after = {"same": _draw(rng), "slow": _draw(rng, 1.1), "fast": _draw(rng, 0.8), "noisy": _draw(rng, 1.05, 0.2)}
    (change,) = api.compare_suites([_suite(tmp_path / "a", before), _suite(tmp_path / "b", after)])
    assert _words(change) == {"same": "equivalent", "slow": "slower", "fast": "faster", "noisy": "undecided"}
    for row in change.changes:
        name = row.key.partition("/")[0]
        theirs = stats.ttest_ind(np.log(after[name]), np.log(before[name]), equal_var=False)
        interval = theirs.confidence_interval(row.found.level)  # type: ignore[union-attr]
        assert (row.found.low, row.found.high) == pytest.approx(np.exp([interval.low, interval.high]))  # type: ignore[union-attr]
        assert row.p_value == pytest.approx(theirs.pvalue, abs=1e-12)
    logs = [np.log(after[n]).mean() - np.log(before[n]).mean() for n in before]
    assert change.mean is not None
    assert change.mean.value == pytest.approx(math.exp(np.mean(logs)))
    assert change.mean.low < change.mean.value < change.mean.high


def test_holm_keeps_a_suite_of_equals_quiet(tmp_path: Path) -> None:
    """Twelve cells that did not change: without Holm half of the comparisons would find a difference somewhere."""
    alarms = 0
    rng = np.random.default_rng(2)
    for number in range(15):
        sides = [_suite(tmp_path / f"{number}{s}", {f"m{i}": _draw(rng, spread=0.05) for i in range(12)}) for s in "ab"]
        (change,) = api.compare_suites(sides)
        alarms += any(word in ("faster", "slower") for word in _words(change).values())
    assert alarms <= 3


def test_accuracy_is_paired_on_the_same_examples(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    right = np.arange(1500) % 10 > 0
    folders = [
        _suite(tmp_path / "a", {"m": _draw(rng)}, right=right),
        _suite(tmp_path / "b", {"m": _draw(rng)}, right=right & (np.arange(1500) % 8 > 0)),
        _suite(tmp_path / "c", {"m": _draw(rng)}, right=right[:-1]),
    ]
    worse, other = api.compare_suites(folders)
    drops = [next(row for row in change.changes if row.quantity == "accuracy") for change in (worse, other)]
    assert drops[0].outcome == "worse"
    assert drops[0].found.method.startswith("Tango")  # type: ignore[union-attr]
    assert isinstance(drops[1].found, Unavailable)
    assert "same test examples" in drops[1].found.reason


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    a = _suite(tmp_path / "a", {"m": _draw(rng), "x": _draw(rng)})
    b = _suite(tmp_path / "b", {"m": _draw(rng)}, x="it crashed")
    c = _suite(tmp_path / "c", {"z": _draw(rng)})
    far = _suite(tmp_path / "far", {"m": _draw(rng)}, host=ELSEWHERE)
    (change,) = api.compare_suites([a, b])
    assert any("x/digits/as-is/batch-1 is not compared" in n and "it crashed" in n for n in change.notes)
    for folders, words, message in (
        ([a], {}, "two or more"),
        ([a, a], {}, "that differ"),
        ([a, c], {}, "no cell in common"),
        ([a, far], {}, "unlike machines .*another processor"),
        ([a, b], {"band": 2.0}, "band is a share"),
        ([a, tmp_path], {}, "holds no suite"),
    ):
        with pytest.raises(InvalidInput, match=message):
            api.compare_suites(folders, **words)  # type: ignore[arg-type]
    (change,) = api.compare_suites([a, far], allow_unlike_machines=True)
    assert "another processor" in change.unlike


def test_both_commands_show_tables_and_json(tmp_path: Path, steelyard: Any) -> None:
    import json

    rng = np.random.default_rng(5)
    a = _suite(tmp_path / "a", {"m": _draw(rng)}, right=np.arange(400) % 4 > 0)
    b = _suite(tmp_path / "b", {"m": _draw(rng, 1.2)}, right=np.arange(400) % 4 > 0, host=ELSEWHERE)
    ran = steelyard("suite", "compare", a, b, "--allow-unlike-machines")
    assert ran.status == 0
    for part in ("slower", "geometric mean of 1 latency ratios: 1.2", "unlike machines", "0.00 points"):
        assert part in ran.out
    words = ("suite", "compare", a, b, "--allow-unlike-machines", "--json")
    document = json.loads(steelyard(*words, "--out", tmp_path / "page").out)
    assert Path(document["report"]).is_file()
    assert json.loads(steelyard(*words).out)["report"] is None
    assert document["comparisons"][0]["cells"][0]["verdict"] == "slower"
    assert steelyard("suite", "compare", a, b, "-q").status == 2
    assert steelyard("suite", "compare", a, b, "--band", "wide").status == 2


def test_a_cell_shows_its_processes_and_its_share(tmp_path: Path) -> None:
    medians = _draw(np.random.default_rng(6), spread=0.1)
    cell = _cell(
        "m",
        measured=dataclasses.replace(measurement(processes(medians)), predictions=(predictions([True] * 9 + [False]),)),
    )
    found = suites.latency(cell)
    theirs = stats.t.interval(0.95, 9, np.log(medians).mean(), stats.sem(np.log(medians)))
    assert (found.low, found.high) == pytest.approx(np.exp(theirs))  # type: ignore[union-attr]
    assert suites.accuracy(cell).value == 0.9  # type: ignore[union-attr]
    out = io.StringIO()
    Console(file=out, width=100).print(
        suites.cells_table(Suite(name="s", cells=(cell.key,), definition="", environment=HERE), [cell])
    )
    assert "90.0 %" in out.getvalue()
    assert "5.00 kB" in out.getvalue()
