"""The charts of the machine meanwhile, from series made up by hand."""

from __future__ import annotations

import dataclasses
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from report.reading import words
from steelyard.records import Measurement, RunRecords, Sample
from steelyard.report import drawing
from steelyard.report.html import render_html
from steelyard.report.watching import watched

TICKS = np.array([0.1, 0.2, 0.3, 0.4])


def _series(quantity: str, unit: str, values: list[float], **conditions: str) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=np.array(values), conditions=conditions, times_s=TICKS)


@pytest.fixture(scope="module")
def records(runs: dict[str, RunRecords], example_compare: ModuleType) -> RunRecords:
    readings = (
        _series("core_busy_fraction", "fraction", [0.5, 1.0, 1.0, 0.25], core="0"),
        _series("core_busy_fraction", "fraction", [0.25, 1.0, 0.5, 0.25], core="1"),
        _series("steal_fraction", "fraction", [0.0, 0.1, 0.0, 0.3]),
        _series("gpu_clock_hz", "Hz", [1e9, 2e9, 2e9, 2e9], gpu="0"),
    )
    measured = Measurement(subject="f00", environment=example_compare.HOST, readings=readings)
    return RunRecords(run=runs["benchmark"].run, baseline=measured)


def _rows(panel: Any, key: str) -> list[dict[str, Any]]:
    return [row for rows in panel.to_dict()["datasets"].values() for row in rows if key in row]


def test_busy_cores_are_summed_stolen_time_is_of_all_cores_and_its_ticks_are_tinted(records: RunRecords) -> None:
    cores, clocks = drawing.panels(watched(records))
    shown: dict[str, list[float]] = {}
    for row in _rows(cores, "line"):
        shown.setdefault(row["line"], []).append(row["value"])
    assert shown == {"whole machine": [0.75, 2.0, 1.5, 0.5], "stolen by the hypervisor": [0.0, 0.2, 0.0, 0.6]}
    assert [end for r in _rows(cores, "from") for end in (r["from"], r["to"])] == pytest.approx([0.1, 0.2, 0.3, 0.4])
    assert [row["value"] for row in _rows(clocks, "line")] == [1.0, 2.0, 2.0, 2.0]  # GHz


def test_the_page_says_what_was_seen_and_an_unwatched_run_draws_nothing(
    records: RunRecords, runs: dict[str, RunRecords]
) -> None:
    shown = words(render_html(records))
    assert "Take the times with care: steal 10.0%" in shown
    assert "Cores busy, the whole machine 1.19 cores" in shown
    assert watched(runs["benchmark"]) is None
    assert watched(dataclasses.replace(records, baseline=None)) is None
