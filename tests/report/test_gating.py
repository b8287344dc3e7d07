"""What a gate said, in the three forms that others read: a terminal, Markdown and JUnit XML."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from rich.console import Console

from report.reading import Reader, words
from steelyard import api
from steelyard.errors import InvalidInput
from steelyard.probe.host import environment
from steelyard.records import Estimate, GateReport, GateSide, GateStage, Measurement, Plan, Requirement, Verdict
from steelyard.report.gating import conclusion, gate_json, gate_lines, gate_table, junit, markdown, plain_text
from steelyard.report.gating_page import CHARTS, render_gate
from steelyard.store import RunFolder


def _verdict(outcome: str, text: str = "latency <= 1.02x", advice: str = "") -> Verdict:
    estimate = Estimate(quantity="latency", unit="x", value=1.05, low=1.03, high=1.07, level=0.975, method="t", n=10)
    return Verdict(
        requirement=Requirement(quantity="latency", kind="max_ratio", limit=1.02, text=text),
        outcome=outcome,  # type: ignore[arg-type]
        estimate=None if outcome == "unavailable" else estimate,
        advice=advice,
    )


def _report(*verdicts: Verdict, **changed: object) -> GateReport:
    side = GateSide(name="runs/main", kind="run", plan=Plan(), subject="f00")
    measured = Measurement(subject="f00", environment=environment(()), readings=())
    control = dataclasses.replace(_verdict("met").estimate, value=1.0, low=0.99, high=1.01)  # type: ignore[type-var]
    stage = GateStage(before=measured, after=measured, verdicts=verdicts, control=control)
    made = GateReport(
        baseline=side, candidate=dataclasses.replace(side, name="runs/pr"), how="turns", stages=(stage,),
        verdicts=verdicts, wall_s=12.5, time="2026-01-02T03:04:05+00:00", version="0.1.0",
    )  # fmt: skip
    return dataclasses.replace(made, **changed)  # type: ignore[arg-type]


ALL = ("met", "broken", "undecided", "unavailable")


@pytest.mark.parametrize(
    ("outcomes", "policy", "passed"),
    [
        (("met",), "fail", True),
        (("met", "undecided"), "pass", True),
        (("met", "undecided"), "fail", False),
        (("met", "broken"), "pass", False),
        (("unavailable",), "pass", False),
    ],
)
def test_what_passes(outcomes: tuple[str, ...], policy: str, passed: bool) -> None:
    report = _report(*map(_verdict, outcomes), undecided=policy)
    assert report.passed is passed
    assert conclusion(report).startswith("Gate passed" if passed else "Gate failed")
    assert gate_json(report)["exit_status"] == (0 if passed else 1)
    assert ("undecided passes" in conclusion(report)) == ("undecided" in outcomes and policy == "pass")


@pytest.mark.parametrize("policy", ["pass", "fail"])
def test_junit_counts_what_it_holds(policy: str) -> None:
    """The attributes that GitLab and Jenkins read: names, classes and times of cases, and one child that tells the kind."""
    report = _report(*map(_verdict, ALL), undecided=policy)
    root = ElementTree.fromstring(junit(report).encode())
    assert root.tag == "testsuites"
    (suite,) = root
    kinds = [next((child.tag for child in case if child.tag != "system-out"), "passed") for case in suite]
    assert kinds == ["passed", "failure", "skipped" if policy == "pass" else "failure", "error"]
    for element in (root, suite):
        assert int(element.attrib["tests"]) == len(suite)
        for name, kind in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(element.attrib[name]) == kinds.count(kind)
    for case in suite:
        assert case.attrib["classname"] == "steelyard.gate"
        assert case.attrib["name"] == "latency <= 1.02x"
        assert float(case.attrib["time"]) == pytest.approx(12.5 / 4)
    assert "1.05x (1.03-1.07)" in suite[1].find("failure").attrib["message"]  # type: ignore[union-attr]
    assert suite.attrib["timestamp"] == "2026-01-02T03:04:05"


def test_junit_survives_what_xml_cannot_hold() -> None:
    nasty = "a<b>&\"'\x00\x1b[31m\ud800 ü 汉"
    (case,) = ElementTree.fromstring(junit(_report(_verdict("broken", text=nasty, advice=nasty))).encode())[0]
    assert case.attrib["name"] == "a<b>&\"'[31m ü 汉"


def test_markdown_is_one_table_that_cannot_be_broken() -> None:
    text = markdown(_report(*map(_verdict, ALL), _verdict("met", text="p|p <b>"), notes=("a | note",)))
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(rows) == 1 + 5
    assert all(row.replace("\\|", "").count("|") == 5 for row in rows)
    assert "<b>" not in text
    assert "✅ met" in text
    assert "❌ broken" in text
    assert "⚠️ undecided" in text
    assert text.startswith("### ❌ Gate failed")


def test_the_terminal_shows_sides_intervals_control_and_conclusion() -> None:
    report = _report(
        *(_verdict(outcome, advice=f"do {outcome}") for outcome in ALL), unlike="two cpus", notes=("a note",)
    )
    out = io.StringIO()
    console = Console(file=out, width=80)
    console.print(gate_table(report))
    console.print(gate_lines(report))
    shown = out.getvalue()
    for part in (
        "baseline   runs/main", "candidate  runs/pr", "1.05x (1.03-1.07)", "97.5% t, n = 10", "do undecided", "a note",
        "A/A control of stage 1: 1.00x (0.99-1.01)", "between unlike machines", "1 met, 1 broken, 1 undecided, 1 unavailable",
    ):  # fmt: skip
        assert part in " ".join(shown.split()) or part in shown, part
    assert all(part in plain_text(report) for part in ("broken      latency", "a note", "Gate failed"))


def test_json_is_json() -> None:
    report = _report(*map(_verdict, ALL))
    document = json.loads(json.dumps(gate_json(report), allow_nan=False))
    assert [r["outcome"] for r in document["requirements"]] == list(ALL)
    assert document["requirements"][0]["estimate"]["interval"] == [1.03, 1.07]
    assert document["requirements"][3]["estimate"] is None


def test_a_ratio_close_to_its_limit_shows_the_digits_that_decided() -> None:
    verdict = _verdict("broken")
    close = dataclasses.replace(verdict.estimate, value=1.0214, low=1.0206, high=1.0222)  # type: ignore[type-var]
    assert "1.0214x (1.0206-1.0222)" in markdown(_report(dataclasses.replace(verdict, estimate=close)))
    assert "1.05x (1.03-1.07)" in markdown(_report(verdict))


def test_the_page_draws_each_requirement_with_its_limit_and_lists_earlier_gates() -> None:
    size = Estimate(quantity="size", unit="byte", value=8e6, low=8e6, high=8e6, level=0.95, method="counted", n=1)
    wanted = Requirement(quantity="size", kind="max", limit=10e6, text="size <= 10 MB")
    drop = dataclasses.replace(size, quantity="accuracy_drop", unit="fraction", value=0.01, low=-0.01, high=0.03)
    loss = Requirement(quantity="accuracy", kind="max_drop", limit=0.02, text="accuracy drop <= 2%")
    verdicts = (
        _verdict("broken"),
        Verdict(requirement=wanted, outcome="met", estimate=size),
        Verdict(requirement=loss, outcome="undecided", estimate=drop),
        _verdict("unavailable", text="energy <= 1x"),
    )
    report = _report(*verdicts, notes=("8 rounds <b>",), unlike="other processor")
    panels = CHARTS["requirements"](report).to_dict()
    rows = {row["label"]: row for rows in panels["datasets"].values() for row in rows if "label" in row}
    assert {label: row["limit"] for label, row in rows.items()} == {
        "latency <= 1.02x": 1.02,
        "size <= 10 MB": 1.0,
        "accuracy drop <= 2%": 2.0,
    }
    assert rows["size <= 10 MB"]["value"] == pytest.approx(0.8)
    assert CHARTS["series"](report) is None
    page = render_gate([_report(_verdict("met"), time="2026-01-01T00:00:00+00:00"), report])
    seen = Reader(page)
    assert (seen.open, seen.fetches, seen.tags["b"]) == ([], ["data:,"], 0)
    assert all(link.removeprefix("#") in seen.ids for link in seen.links)
    shown = words(page)
    for expected in ("Gate failed", "Exit status 1", "Unlike machines: other processor", "2026-01-01 00:00", "1.05× (1.03–1.07)"):  # fmt: skip
        assert expected in shown, expected


def test_the_page_comes_again_from_the_folder_of_a_gate(tmp_path: Path) -> None:
    report = _report(_verdict("met"))
    with RunFolder(tmp_path / "gates") as folder:
        folder.append(report)
    found = api.render_report(tmp_path / "gates")
    assert isinstance(found, api.Drawn)
    assert found.report.read_text(encoding="utf-8") == render_gate([report])
    assert {p.suffix for p in api.save_figures(found)} == {".png", ".svg", ".pdf"}
    with pytest.raises(InvalidInput, match="requirements, round_boxes, series"):
        found.chart("roc")
