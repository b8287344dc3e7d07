"""Sweep, knee, recommendation, scenarios and rising load, from a hand-written benchmark whose numbers are known."""

from __future__ import annotations

import dataclasses
import json
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console
from scipy import stats

from steelyard.records import RunRecords, Sample, decode, encode
from steelyard.report import charts, derive, loads, tables, text
from steelyard.report.html import render_html
from steelyard.report.load_tables import load_tables


@pytest.fixture(scope="module")
def records(example: ModuleType, example_load: ModuleType) -> RunRecords:
    made: RunRecords = example_load.loaded(example)
    return made


def shown(records: RunRecords, width: int = 80) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    try:
        console.print(*load_tables(records))
        return " ".join(console.export_text().split())
    finally:
        console.file.close()


def test_every_cell_is_there_and_the_one_left_out(records: RunRecords, example_load: ModuleType) -> None:
    grid = loads.cells(records.baseline)
    wanted = [(c, b) for c in example_load.CALLERS for b in example_load.BATCHES]
    assert [(c.callers, c.batch) for c in grid if isinstance(c.rate, Sample)] == wanted
    assert (grid[6].batch, grid[6].callers) == (4096, 1)


def test_a_rate_has_the_t_interval_of_its_slots(records: RunRecords) -> None:
    rate = loads.cells(records.baseline)[0].rate
    assert isinstance(rate, Sample)
    found = loads.rate_estimate(rate)
    assert found is not None
    logs = np.log(rate.values)
    low, high = stats.t.interval(0.95, len(logs) - 1, logs.mean(), stats.sem(logs))
    assert (found.low, found.high) == pytest.approx((np.exp(low), np.exp(high)))
    old = dataclasses.replace(rate, blocks=None)
    assert loads.rate_estimate(old) is None


def test_the_knee_is_that_of_the_costs(records: RunRecords) -> None:
    """b / (2 + b) of 32 / 34: 0.95 of it is first reached at 32 (16 / 18 is 0.944 of it)."""
    found = loads.knees(records.baseline)
    assert {c: (k.outcome, k.size) for c, k in found.items()} == {1: ("rising", 32), 2: ("rising", 32)}
    assert "still rises at batch 32" in loads.knee_words(found[1])


def test_callers_that_wait_are_counted_by_littles_law(records: RunRecords) -> None:
    """Two callers, each call a quarter longer: 2 in flight, 2 / 1.25 = 1.6 would do alone, so 0.4 wait."""
    grid = loads.cells(records.baseline)
    two = next(c for c in grid if (c.batch, c.callers) == (4, 2))
    assert loads.waiting(two, grid) == pytest.approx(0.4, abs=0.03)
    assert loads.waiting(grid[0], grid) is None


def test_the_batch_for_a_target_is_the_fastest_that_is_shown_to_keep_it(
    example: ModuleType, example_load: ModuleType
) -> None:
    """Calls of batch 8 by two take 25 ms, those of 16 take 45 ms: 35 ms leaves batch 8 by 2, and batch 8 alone at 20 ms."""
    found = loads.recommended(example_load.loaded(example))
    assert found is not None
    assert found.cell is not None
    assert (found.cell.batch, found.cell.callers) == (8, 2)
    assert found.open == ()
    tight = loads.recommended(example_load.loaded(example, "p99 <= 5 ms"))
    assert tight is not None
    assert tight.cell is None
    assert "no batch size is shown to keep p99 <= 5.00 ms" in loads.recommended_words(tight, 15.0)


def test_too_few_calls_leave_it_open_and_name_the_budget(example: ModuleType, example_load: ModuleType) -> None:
    found = loads.recommended(example_load.loaded(example, "p99.9 <= 35 ms"))
    assert found is not None
    assert found.cell is None
    assert [(c.batch, c.callers) for c in found.open[:2]] == [(8, 2), (4, 2)]
    words = loads.recommended_words(found, 15.0)
    assert "batch 8 by 2 callers, batch 4 by 2 callers" in words
    assert "--budget 44s would" in words  # 3,688 calls are needed, 1,280 were made in 15 s


def test_the_sustained_rate_lies_between_what_held_and_what_broke(records: RunRecords) -> None:
    found = loads.stressed(records.baseline)
    assert found is not None
    assert (found.held_per_s, found.broken_per_s) == (100.0, 130.0)
    assert [s.outcome for s in found.steps] == ["undecided", "broken", "broken", "broken", "held"]
    assert not found.late_generator
    words = " ".join(loads.stress_words(found, 15.0))
    assert "sustains 100/s at p99 <= 35.0 ms; breaks at 130/s" in words
    assert "back within the target 420 ms after it broke" in words


def test_the_number_in_the_system_is_rate_times_latency(records: RunRecords) -> None:
    found = loads.stressed(records.baseline)
    assert found is not None
    assert found.steps[0].waiting == pytest.approx(100.0 * 0.01)


def test_a_late_generator_is_said(records: RunRecords) -> None:
    assert records.baseline is not None
    slow = [
        dataclasses.replace(r, values=r.values + 0.01)
        if isinstance(r, Sample) and r.quantity == "generator_lag_s"
        else r
        for r in records.baseline.readings
    ]
    found = loads.stressed(dataclasses.replace(records.baseline, readings=tuple(slow)))
    assert found is not None
    assert found.late_generator
    assert any("generator was the bottleneck" in line for line in loads.stress_words(found, 15.0))


def test_the_terminal_shows_all_of_it(records: RunRecords) -> None:
    out = shown(records)
    for words in (
        "batch callers examples/s median p99 cores waits",
        "1 caller: throughput still rises at batch 32",
        "for p99 <= 35.0 ms run batch 8 by 2 callers",
        "left out, batch 4096 by 1: a call takes about 8 s",
        "INVALID",
        "server: Processed 54 queries.",
        "offline: the process ended with signal SIGSEGV",
        "sustains 100/s",
    ):
        assert words in out
    assert "…" not in out


def test_percentiles_asked_are_shown_or_refused_with_their_cure(records: RunRecords) -> None:
    rows = {row.name: row for row in tables.score_rows(records, {})}
    assert "Latency, p90" not in rows
    assert not rows["Latency, p99"].missing_before
    refused = rows["Latency, p99.9"].before
    assert refused == "unavailable: 600 readings cannot bound it; it needs about 3,688, --budget 93s"
    assert "Time to load" not in rows
    assert rows["Time to load, cold"].before.startswith("448 ms (340-591)")
    assert "t on processes, n = 3" in rows["Time to load, warm"].interval


def test_the_refusal_counts_dependent_readings_as_what_they_are_worth() -> None:
    rng = np.random.default_rng(3)
    blocks = np.repeat(rng.lognormal(size=100), 20)  # twenty readings in a row are one
    sample = Sample(quantity="latency_s", unit="s", values=blocks, conditions={"batch": 1})
    assert derive.latency_percentile(sample, 0.99) is None
    assert derive.needed_readings(sample, 0.9) > 5 * 36


def test_the_json_is_complete(records: RunRecords) -> None:
    found = json.loads(json.dumps(text.summary_json(records, {})))["load"]
    assert len(found["sweep"]) == 13
    first = found["sweep"][0]
    assert "p50" in first["latency_s"]
    assert "p99" in found["sweep"][-1]["latency_s"]
    assert first["cores_busy"] == 1.5
    assert found["recommended"] == {
        "percentile": 99.0, "limit_s": 0.035, "batch": 8, "concurrency": 2, "undecided": []
    }  # fmt: skip
    assert found["scenarios"][0]["valid"] is False
    assert found["stress"]["held_per_s"] == 100.0
    assert len(found["stress"]["steps"]) == 5


def test_old_runs_still_render(runs: dict[str, RunRecords]) -> None:
    for records in runs.values():
        grid = loads.cells(records.baseline)
        assert all(c.callers == 1 and loads.waiting(c, grid) is None for c in grid)
        assert loads.knees(records.baseline) == {}
        assert loads.stressed(records.baseline) is None
        assert text.summary_json(records, {})["load"]["recommended"] is None


@pytest.mark.parametrize("name", ["throughput", "sweep_latency", "stress"])
def test_charts_are_drawn_from_the_same_numbers(records: RunRecords, name: str) -> None:
    chart = charts.CHARTS[name](records)
    assert chart is not None
    spec = json.dumps(chart.to_dict())
    for words in {"throughput": ("2 callers",), "sweep_latency": ("p99", "35"), "stress": ("proof", "held")}[name]:
        assert words in spec


def test_the_page_holds_them_and_the_command(records: RunRecords) -> None:
    page = render_html(records)
    assert "Rising load" in page
    assert "--target &#39;p99 &lt;= 35 ms&#39;" in page
    assert "--require" not in page.split("To run it again", 1)[1][:600]


def test_the_record_comes_back_whole(records: RunRecords) -> None:
    again = decode(encode(records.run))
    assert again.percentiles == (50.0, 99.0, 99.9)
    assert again.words == ("--target", "p99 <= 35 ms")
