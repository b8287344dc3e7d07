"""The page and charts of a comparison, against rounds whose truth is known."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from report.reading import CHROMIUM, Reader, browse, complaints, told, words
from steelyard import api
from steelyard.records import Compared
from steelyard.report import comparing_charts, times
from steelyard.report.comparing_charts import CHARTS
from steelyard.report.comparing_page import render_compared
from steelyard.stats.sequence import FIRST, sequence_interval
from steelyard.store import RunFolder
from steelyard.verify.compare import judge_rounds


@pytest.fixture(scope="module")
def slower(example_compare: ModuleType) -> Compared:
    found: Compared = example_compare.compared(example_compare.rounds())
    return found


@pytest.fixture(scope="module")
def page(slower: Compared) -> str:
    return render_compared(slower)


def test_the_page_says_what_was_found_and_fetches_nothing(page: str) -> None:
    shown, seen = words(page), Reader(page)
    assert seen.open == []
    assert seen.fetches == ["data:,"]
    assert len(seen.ids) == len(set(seen.ids))
    assert all(link.removeprefix("#") in seen.ids for link in seen.links)
    assert seen.tags["b"] == 0  # a model's name is no markup
    for expected in (
        "Slower: 3.7 % more time",
        "accuracy: undecided",
        "+3.73 %",
        "A/A control",
        "throttled 2 times",
        "Example CPU, 2 cores",
        "steelyard compare &#39;zoo/old&lt;b&gt;.onnx&#39;",
        "97.5 % for the time",
    ):
        assert expected in shown, expected


def test_every_chart_is_valid_and_absent_where_nothing_was_measured(
    example_compare: ModuleType, slower: Compared
) -> None:
    bare = example_compare.compared(None, "undecided")
    assert [name for name, draw in CHARTS.items() if draw(slower).to_dict() is None] == []
    absent = {name for name, draw in CHARTS.items() if draw(dataclasses.replace(bare, differences=())) is None}
    assert absent == set(CHARTS)
    shown = words(render_compared(bare))
    assert "Undecided so far" in shown
    assert "No round fits the budget" in shown


def test_the_narrowing_is_the_sequence_at_each_look(slower: Compared) -> None:
    assert slower.comparison is not None
    rows = comparing_charts._looks(slower, slower.comparison, "second")
    readings = np.median(np.log(slower.comparison.seconds[:, :, 1] / slower.comparison.seconds[:, :, 0]), axis=1)
    assert all(row["low"] is None for row in rows[: FIRST - 1])
    for row in rows[FIRST - 1 :]:
        _, low, high = sequence_interval(readings[: row["round"]], slower.time_level)
        assert (row["low"], row["high"]) == pytest.approx((low, high))
    assert rows[2]["flagged"] == "steal 4.0%; other load 12%"


def test_an_alarm_widens_the_drawn_interval_as_it_does_the_verdict(example_compare: ModuleType) -> None:
    comparison = example_compare.rounds(1.04, control=1.02)
    found = example_compare.compared(comparison, alarm=True)
    last = comparing_charts._looks(found, comparison, "second")[-1]
    ratio = judge_rounds(comparison, "second", "control", level=found.time_level).ratio
    assert (last["low"], last["high"]) == pytest.approx((ratio.low, ratio.high))
    assert "widened" in words(render_compared(found))


def test_the_ratio_of_memory_is_that_of_scipy(slower: Compared) -> None:
    assert slower.comparison is not None
    mark = comparing_charts._resource(slower, "memory_running_bytes", "peak memory")
    assert mark is not None
    first, second = (slower.comparison.readings[arm][0].values for arm in (0, 1))  # type: ignore[union-attr]
    logs = np.log(second / first)
    low, high = stats.t.interval(0.95, len(logs) - 1, loc=logs.mean(), scale=stats.sem(logs))
    assert (mark.low, mark.high) == pytest.approx((math.exp(low), math.exp(high)))


def test_boxes_join_rounds_where_they_are_many(example_compare: ModuleType) -> None:
    comparison = example_compare.rounds(count=45)
    chart = times.round_boxes({"m": comparison.seconds[:, :, 0]}, {"m": "#000000"}, comparison.flags)
    assert chart is not None
    spec = chart.to_dict()
    rows = spec["datasets"][spec["layer"][1]["data"]["name"]]
    assert [row["round"] for row in rows][-1] == "43-45"
    assert rows[0]["median"] == pytest.approx(1e3 * np.median(comparison.seconds[:3, :, 0]))


def test_the_report_comes_again_from_the_records(slower: Compared, page: str, tmp_path: Path) -> None:
    comparison = slower.comparison
    with RunFolder(tmp_path / "run") as folder:
        folder.append(dataclasses.replace(slower, comparison=None))
        folder.append(comparison)
    found = api.render_report(tmp_path / "run")
    assert isinstance(found, api.Compared)
    assert found.report.read_text(encoding="utf-8") == page
    assert found.chart("narrowing").to_dict()["title"]["text"] == "How the answer became clear"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_chromium_charts_are_drawn_without_an_error_or_sideways_scroll(
    example_compare: ModuleType, tmp_path: Path
) -> None:
    far = example_compare.compared(example_compare.rounds(0.3, count=24), "faster")  # ratios on a logarithmic axis
    dom, log = browse(tmp_path, render_compared(far), width=390, scheme="dark")
    assert complaints(log) == []
    seen = told(dom, log)
    assert {name for name, good in seen["sizes"] if good} >= set(CHARTS) - {"resources"}
    assert seen["overflow"] <= 0
