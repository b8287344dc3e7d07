"""What a gate said, for a terminal, a pull request and a CI server. Nothing here prints or writes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import SCHEMA, Estimate, GateReport, GateSide, GateStage, Verdict
from steelyard.report import numbers
from steelyard.report.tables import verdict_estimate
from steelyard.report.text import MARKS

__all__ = [
    "all_notes",
    "conclusion",
    "estimate_json",
    "gate_json",
    "gate_lines",
    "gate_table",
    "junit",
    "markdown",
    "plain_text",
    "side_words",
]

_SIGNS = {"met": "✅", "broken": "❌", "undecided": "⚠️", "unavailable": "❌"}
_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def conclusion(report: GateReport) -> str:
    """The outcome in one sentence.

    >>> from steelyard.records import Plan, Requirement
    >>> side = GateSide(name="runs/main", kind="run", plan=Plan(), subject="")
    >>> wanted = Requirement(quantity="size", kind="max_ratio", limit=1.0, text="size <= 1x")
    >>> met = Verdict(requirement=wanted, outcome="met", estimate=None)
    >>> conclusion(GateReport(baseline=side, candidate=side, how="turns", stages=(), verdicts=(met, met)))
    'Gate passed: 2 met.'
    """
    counts = {name: sum(v.outcome == name for v in report.verdicts) for name in MARKS}
    found = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    lenient = " (undecided passes; --undecided fail asks for proof)" if counts["undecided"] else ""
    where = ", between unlike machines" if report.unlike else ""
    said = f"Gate {'passed' if report.passed else 'failed'}{where}: {found}"
    return f"{said}{lenient if report.undecided == 'pass' else ''}."


def gate_table(report: GateReport) -> Table:
    """One row a requirement, with what was measured and the interval that decided."""
    table = Table(title="Gate", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("requirement", overflow="fold")
    table.add_column("outcome")
    table.add_column("measured", overflow="fold")
    for verdict in report.verdicts:
        mark, style = MARKS[verdict.outcome]
        table.add_row(
            Text(verdict.requirement.text), Text(f"{mark} {verdict.outcome}", style=style), _measured(verdict)
        )
    table.caption = Text("\n".join(_intervals(report)), style="dim")
    table.caption_justify = "left"
    return table


def gate_lines(report: GateReport) -> Text:
    """Which side is which, advice, notes, and the conclusion."""
    lines = Text()
    for name, side in (("baseline ", report.baseline), ("candidate", report.candidate)):
        lines.append(f"{name}  {side_words(side)}\n")
    for verdict in report.verdicts:
        if verdict.advice:
            lines.append(f"{verdict.requirement.text}: {verdict.advice}\n", style="yellow")
    for note in all_notes(report):
        lines.append(f"{note}\n", style="dim")
    lines.append(conclusion(report), style="bold green" if report.passed else "bold red")
    return lines


def plain_text(report: GateReport) -> str:
    """Conclusion, requirements, advice and notes, without a table."""
    rows = (
        f"{v.outcome:<11} {v.requirement.text}: measured {_measured(v)}" + (f" ({v.advice})" if v.advice else "")
        for v in report.verdicts
    )
    sides = f"baseline {side_words(report.baseline)}, candidate {side_words(report.candidate)}"
    return "\n".join((conclusion(report), *rows, sides, *all_notes(report)))


def gate_json(report: GateReport) -> dict[str, Any]:
    """The report in plain JSON types: base units, intervals as [low, high], unbounded ends as null."""
    return {
        "schema": SCHEMA,
        "command": "gate",
        "passed": report.passed,
        "conclusion": conclusion(report),
        "exit_status": 0 if report.passed else 1,
        "baseline": _side_json(report.baseline),
        "candidate": _side_json(report.candidate),
        "how": report.how,
        "stages": len(report.stages),
        "open": report.open,
        "undecided": report.undecided,
        "noise_floor_log_ratio": report.noise_floor,
        "unlike_machines": report.unlike or None,
        "requirements": [
            {
                "text": v.requirement.text,
                "outcome": v.outcome,
                "passed": report.passes(v),
                "estimate": estimate_json(v.estimate),
                "advice": v.advice or None,
            }
            for v in report.verdicts
        ],
        "control": [estimate_json(stage.control) for stage in report.stages],
        "notes": list(report.notes),
        "seconds": report.wall_s,
        "time": report.time,
        "version": report.version,
    }


def markdown(report: GateReport) -> str:
    """A pull-request comment or a step's summary: the conclusion, one table, and the rest folded away."""
    rows = "\n".join(
        f"| {_SIGNS[v.outcome]} {v.outcome} | {_cell(v.requirement.text)} | {_cell(_measured(v))} | {_cell(v.advice)} |"
        for v in report.verdicts
    )
    details = "\n".join(f"- {_cell(note)}" for note in (*_intervals(report), *all_notes(report)))
    return f"""### {"✅" if report.passed else "❌"} {conclusion(report)}

| | requirement | measured | |
|---|---|---|---|
{rows}

Baseline `{report.baseline.name}`, candidate `{report.candidate.name}`.

<details><summary>How this was measured</summary>

{details}

Steelyard {report.version}, {report.time}
</details>
"""


def junit(report: GateReport) -> str:
    """JUnit XML, one test case a requirement, in the form that Jenkins, GitLab and GitHub's actions read.

    Broken is a failure, what could not be judged an error. Undecided is skipped where it passes, else a failure.
    """
    cases = report.verdicts
    failed = sum(_kind(report, v) == "failure" for v in cases)
    counts = {
        "tests": str(len(cases)),
        "failures": str(failed),
        "errors": str(sum(_kind(report, v) == "error" for v in cases)),
        "skipped": str(sum(_kind(report, v) == "skipped" for v in cases)),
        "time": f"{report.wall_s:.3f}",
    }
    root = ElementTree.Element("testsuites", {"name": "steelyard", **counts})
    stamp = {"timestamp": report.time.partition("+")[0]} if report.time else {}
    suite = ElementTree.SubElement(root, "testsuite", {"name": "steelyard gate", **counts, **stamp})
    share_s = report.wall_s / max(len(cases), 1)
    for verdict in cases:
        _case(suite, report, verdict, share_s)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _case(suite: ElementTree.Element, report: GateReport, verdict: Verdict, seconds: float) -> None:
    names = {"classname": "steelyard.gate", "name": _xml(verdict.requirement.text), "time": f"{seconds:.3f}"}
    case = ElementTree.SubElement(suite, "testcase", names)
    said = _xml("; ".join(filter(None, (f"measured {_measured(verdict)}", verdict.advice))))
    kind = _kind(report, verdict)
    if kind:
        shown = ElementTree.SubElement(case, kind, {"message": f"{verdict.outcome}: {said}", "type": verdict.outcome})
        shown.text = _xml("\n".join((said, *_intervals(report), *all_notes(report))))
    ElementTree.SubElement(case, "system-out").text = said


def _kind(report: GateReport, verdict: Verdict) -> str:
    if verdict.outcome == "unavailable":
        return "error"
    if not report.passes(verdict):
        return "failure"
    return "skipped" if verdict.outcome == "undecided" else ""


def _xml(text: str) -> str:
    """Without the characters that XML 1.0 cannot hold.

    >>> _xml("a\\x00b")
    'ab'
    """
    return _NO_XML.sub("", text)


def _cell(text: str) -> str:
    """Text that stays in its cell of a Markdown table.

    >>> _cell("p99 | <b>")
    'p99 \\\\| &lt;b>'
    """
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


def _measured(verdict: Verdict) -> str:
    """The interval in the words of its requirement; a ratio close to its limit with the digits that tell them apart."""
    found, limit = verdict.estimate, verdict.requirement.limit
    if found is None or found.unit != "x" or verdict.outcome not in ("met", "broken"):
        return verdict_estimate(verdict)
    near = found.high if found.high <= limit else found.low
    if near == limit or not math.isfinite(found.high) or f"{near:.3g}" != f"{limit:.3g}":
        return verdict_estimate(verdict)
    digits = min(6, math.ceil(-math.log10(abs(near - limit))))
    value, low, high = (numbers.fixed(end, digits) for end in (found.value, found.low, found.high))
    return f"{value}x ({low}-{high})"


def side_words(side: GateSide) -> str:
    """A side's path, what kind of thing it is, and its plan."""
    plan = f", {side.plan}" if side.plan.steps else ""
    kind = {"run": "run folder", "deployed": "deployed folder", "file": "baseline file"}[side.kind]
    return f"{side.name} ({kind}{plan})"


def _intervals(report: GateReport) -> Iterator[str]:
    """What the brackets hold, one line a method."""
    seen = dict.fromkeys(
        f"{v.requirement.quantity}: {v.estimate.level:.1%} {v.estimate.method}, n = {v.estimate.n:,}"
        for v in report.verdicts
        if v.estimate is not None and v.estimate.low < v.estimate.high
    )
    yield from seen


def all_notes(report: GateReport) -> tuple[str, ...]:
    """What the controls found, and what a reader must know."""
    controls = (
        f"A/A control of stage {number}: {_control(stage)}"
        for number, stage in enumerate(report.stages, 1)
        if stage.control is not None
    )
    return (*controls, *report.notes)


def _control(stage: GateStage) -> str:
    assert stage.control is not None
    found = stage.control
    return numbers.ratio(found.value, found.low, found.high) + (", an alarm" if stage.control_alarm else "")


def _side_json(side: GateSide) -> dict[str, Any]:
    return {"name": side.name, "kind": side.kind, "plan": str(side.plan), "subject": side.subject}


def estimate_json(estimate: Estimate | None) -> dict[str, Any] | None:
    """An estimate in plain JSON types, an unbounded end as null."""
    if estimate is None:
        return None
    ends = [end if math.isfinite(end) else None for end in (estimate.low, estimate.high)]
    shown = {"quantity": estimate.quantity, "unit": estimate.unit, "value": estimate.value, "interval": ends}
    return {**shown, "level": estimate.level, "method": estimate.method, "n": estimate.n}
