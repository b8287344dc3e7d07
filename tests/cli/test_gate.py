"""`steelyard gate` in words: exit status, files for a CI server, and messages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from gating_bench import Machine, benchmark_run
from steelyard.pipeline.gating import processes
from steelyard.store import read_baseline

GATE = ("--require", "latency <= 1.05x", "--require", "size <= 1x", "--no-history")


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    for name in ("main", "pr", "slow"):
        benchmark_run(tmp_path / name)
    Machine(lambda folder, _: 1.3 if "slow" in folder.parts else 1.0).install(monkeypatch)
    return tmp_path


def test_exit_status_and_files(steelyard: Any, sides: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(sides / "summary.md"))
    ran = steelyard("gate", "main", "--against", "pr", *GATE, "--junit", "out/j.xml", "--markdown", "out/m.md")
    assert ran.status == 0
    assert "baseline   main (run folder)" in ran.out
    assert "Gate passed: 2 met." in ran.out
    assert ElementTree.parse(sides / "out" / "j.xml").getroot().attrib["failures"] == "0"
    assert steelyard("gate", "main", "--candidate", "slow", *GATE, "--junit", "out/j.xml", "-q").status == 1
    assert ElementTree.parse(sides / "out" / "j.xml").getroot().attrib["failures"] == "1"
    assert (sides / "out" / "m.md").read_text().startswith("### ✅")
    summary = (sides / "summary.md").read_text()
    assert summary.count("### ✅") == summary.count("### ❌") == 1  # appended, as GitHub asks


def test_json_is_one_document(steelyard: Any, sides: Path) -> None:
    ran = steelyard("gate", "main", "--against", "slow", *GATE, "--json")
    assert ran.status == json.loads(ran.out)["exit_status"] == 1
    assert ran.err == ""


def test_save_and_use(steelyard: Any, sides: Path) -> None:
    ran = steelyard("gate", "main", "--save", "baselines/main.json")
    assert ran.status == 0
    assert "steelyard gate baselines/main.json --against RUN" in ran.out
    assert processes.has_processes(read_baseline(sides / "baselines" / "main.json").measured)
    assert steelyard("gate", "baselines/main.json", "--against", "pr", *GATE).status == 0
    assert steelyard("gate", "baselines/main.json", "--against", "slow", *GATE).status == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("main",), "give the candidate with --against"),
        (("main", "--against", "pr"), "say what must hold"),
        (("main", "--against", "pr", "--require", "latency <= fast"), "cannot read the requirement"),
        (("main", "--against", "pr", "--require", "accuracy drop <= 1%"), "give --data"),
        (("main", "--save", "b.json", "--against", "pr"), "leave out --against"),
        (("main", "--against", "pr", *GATE, "--junit", "main/.lock/x"), "cannot write main/.lock/x"),
    ],
)
def test_a_mistake_is_one_line(steelyard: Any, sides: Path, words: tuple[str, ...], message: str) -> None:
    ran = steelyard("gate", *words, "-q")
    assert ran.status == 2
    assert message in ran.message
