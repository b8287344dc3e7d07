"""The Pareto front: by its definition, over any axes, as a table and drawn."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

import scripted_shop as scripted
from steelyard.errors import InvalidInput
from steelyard.records import Plan, RunRecords, Step
from steelyard.report.frontier import AXES, axes_of, candidates, front
from steelyard.report.frontier_chart import frontier
from steelyard.report.planning import front_table, hopeless_table, plans_json, plans_table

NAMES = st.lists(st.tuples(*[st.integers(1, 4)] * 3), max_size=8)


def _records(points: list[tuple[int, ...]]) -> RunRecords:
    """Trials whose latency ratio, size and memory are these over ten, the baseline at 1 each."""
    trials = tuple(
        scripted.trial(Plan(steps=(Step(name=str(i)),)), 10 / p[0], size=4e5 * p[1], memory=1e7 * p[2])
        for i, p in enumerate(points)
    )
    return RunRecords(run=scripted.run("accuracy drop <= 1%"), baseline=scripted.measurement(), trials=trials)


@given(NAMES)
def test_on_the_front_is_who_is_beaten_by_nobody(points: list[tuple[int, ...]]) -> None:
    axes = ("latency", "size", "memory")
    found = {str(c.plan): c.on_front for c in candidates(_records(points), axes)}
    every = [*points, (10, 10, 10)]
    for i, point in enumerate(every):
        name = str(i) if i < len(points) else "baseline"
        beaten = any(q != point and all(np.array(q) <= np.array(point)) for q in every)
        assert found[name] == (not beaten)


def test_fewer_axes_leave_fewer_on_the_front() -> None:
    records = _records([(2, 8, 5), (8, 2, 5), (5, 5, 5), (9, 9, 1)])
    assert [str(c.plan) for c in front(records, ["latency", "size"])] == ["0", "2", "1"]
    assert [str(c.plan) for c in front(records, ["latency", "memory"])] == ["0", "3"]
    assert len(front(records, ["latency", "size", "memory"])) == 4


def test_who_was_not_read_on_an_axis_is_on_no_front_that_asks_for_it() -> None:
    records = _records([(2, 8, 5)])
    left = scripted.trial(Plan(steps=(Step(name="left behind"),)), 20.0, right=None)
    more = RunRecords(run=records.run, baseline=records.baseline, trials=(*records.trials, left))
    assert "left behind" in [str(c.plan) for c in candidates(more, ["latency", "size"])]
    assert "left behind" not in [str(c.plan) for c in candidates(more, ["latency", "drop"])]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["latency"], "two axes or more"),
        (["latency", "sise"], "did you mean 'size'"),
        (["x", "y"], "there are latency"),
    ],
)
def test_axes_that_are_none_are_refused(words: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        axes_of(words)


def test_accuracy_is_the_axis_of_its_drop() -> None:
    assert axes_of(["latency", "accuracy"]) == axes_of(["latency", "accuracy drop"]) == ("latency", "drop")


def test_every_axis_is_read_of_an_example(runs: dict[str, RunRecords]) -> None:
    found = candidates(runs["full"], ["latency", "drop", "size", "memory"])
    assert len(found) == 7
    assert {c.standing for c in found} == {"chosen", "finalist", "weighed", "baseline"}
    assert all(c.values["drop"].low <= c.values["drop"].value <= c.values["drop"].high for c in found)


@pytest.mark.parametrize("second", [name for name in AXES if name not in ("latency", "energy")])
def test_the_chart_shows_every_candidate_and_the_front(runs: dict[str, RunRecords], second: str) -> None:
    chart = frontier(runs["full"], ("latency", second))
    assert chart is not None
    spec = chart.to_dict()
    line, *_, points = (_rows(layer, spec) for layer in spec["layer"])
    assert len(points) == 7
    assert [r["plan"] for r in line] == [r["plan"] for r in points if r["front"]]
    assert frontier(runs["benchmark"], ("latency", second)) is None


def _rows(layer: dict[str, Any], spec: dict[str, Any]) -> list[dict[str, Any]]:
    """A layer's rows: its own, or those of the whole by their name."""
    found = layer.get("data", spec.get("data", {}))
    rows: list[dict[str, Any]] = found["values"] if "values" in found else spec["datasets"][found["name"]]
    return rows


def _printed(*tables: Table) -> str:
    console = Console(file=io.StringIO(), width=120)
    for table in tables:
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_the_tables_say_what_they_show(runs: dict[str, RunRecords]) -> None:
    out = _printed(front_table(runs["full"], ("latency", "size")))
    assert "Pareto front of latency and size" in out
    assert out.count("●") == 1 + len(front(runs["full"], ("latency", "size")))  # and one in the caption
    plans = [scripted.foreseen(Plan(steps=(Step(name=f"p{i}"),)), minutes=2.0) for i in range(30)]
    bad = scripted.foreseen(Plan(steps=(Step(name="never"),)), hopeless=True, because="no INT8 here")
    out = _printed(plans_table([*plans, bad], 600.0))
    assert "5 more follow" in out
    assert "never" not in out
    assert "10.0 min" in out
    table = hopeless_table([*plans, bad])
    assert table is not None
    assert "no INT8 here" in _printed(table)
    assert hopeless_table(plans) is None
    assert plans_json([bad])[0]["hopeless"] is True
