"""`steelyard report` in words: one folder of any kind, or several side by side; and the pages of gates."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gating_bench import Machine, benchmark_run

GATE = ("gate", "main", "--against", "pr", "--require", "latency <= 1.05x", "--no-history")


@pytest.fixture
def sides(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("main", "pr"):
        benchmark_run(tmp_path / name)
    Machine().install(monkeypatch)
    return tmp_path


def test_a_gate_leaves_a_page_and_takes_no_runs_report(steelyard: Any, sides: Path) -> None:
    assert "report    gates/gate.html" in steelyard(*GATE, "--out", "gates").out
    (sides / "pr" / "report.html").write_text("the run's own")
    assert steelyard(*GATE, "--out", "pr", "-q").status == 0
    assert (sides / "pr" / "report.html").read_text() == "the run's own"
    assert "Gate passed" in (sides / "pr" / "gate.html").read_text(encoding="utf-8")
    (sides / "gates" / "gate.html").unlink()
    assert "report    gates/gate.html" in steelyard("report", "gates").out
    assert (sides / "gates" / "gate.html").exists()


def test_several_runs_come_side_by_side(steelyard: Any, sides: Path) -> None:
    ran = steelyard("report", "main", "pr", "--out", "both", "--json")
    assert json.loads(ran.out) == {"report": "both/report.html"}
    assert "2 models side by side" in (sides / "both" / "report.html").read_text(encoding="utf-8")
    steelyard(*GATE, "--out", "gates", "-q")
    for words, said in (
        (("main", "--out", "both"), "--out is for several folders"),
        (("main", "main"), "two or more run folders that differ"),
        (("main", "gates"), "gates holds no run of a model"),
        (("main", "nowhere"), "nowhere holds no run"),
        (("main", "pr", "--out", "pr"), "which has its own report.html"),
    ):
        ran = steelyard("report", *words)
        assert ran.status == 2
        assert said in ran.err
