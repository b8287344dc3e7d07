"""A profile in the terminal, as JSON and on the page, from a run written out by hand."""

from __future__ import annotations

import dataclasses
import io
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

from steelyard.records import Ceiling, Finding, LayerTime, Profiled, RunRecords, decode, encode
from steelyard.report import charts, profiling
from steelyard.report.html import render_html


def layer(name: str, operator: str, ms: float, *, macs: int = 0, moved: int = 0, state: str = "zero") -> LayerTime:
    noise = np.array([0.98, 0.99, 1.0, 1.01, 1.02])
    return LayerTime(
        layer=name, operator=operator, names=(f"aten::{operator}",), seconds=ms / 1e3 * noise, calls=1.0, macs=macs,
        moved_bytes=moved, state=state, dtype="fp32",  # type: ignore[arg-type]
    )  # fmt: skip


@pytest.fixture
def records(runs: dict[str, RunRecords]) -> RunRecords:
    rows = (
        layer("stem", "conv2d", 2.0, macs=100_000_000, moved=4_000_000, state="counted"),
        layer("head", "linear", 0.8, macs=1_000_000, moved=5_000_000, state="counted"),
        layer("act", "relu", 0.2, moved=1_000_000),
        layer("odd", "qr", 0.1, state="unknown"),
    )
    found = Profiled(
        engine="eager", device="cpu", batch=1, layers=rows, profiled_s=np.full(5, 3.9e-3), plain_s=np.full(9, 3.5e-3),
        unknown=(("qr", 1),), second_counter="torch.utils.flop_counter",
        opinions=(("convolution", 100_000_000, 100_000_000), ("attention", 5_000_000, 0)),
    )  # fmt: skip
    ceilings = (
        Ceiling(technique="bf16", share=0.8, gain=1.0, ceiling=1.0, helps=False, because="no faster"),
        Ceiling(technique="INT8 quantisation", share=0.8, gain=1.5, ceiling=2.5, helps=True, because="4 times"),
    )
    finding = Finding(name="compute-bound", claim="it is", evidence={}, ceilings=ceilings)
    return dataclasses.replace(runs["benchmark"], profiled=found, findings=(finding,))


def printed(*parts: object, width: int = 80) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*parts)
    return console.export_text()


def test_layers_are_sorted_by_time_with_their_share_of_an_inference(records: RunRecords) -> None:
    rows = profiling.layer_rows(records)
    assert [row.layer for row in rows] == ["stem", "head", "act", "odd", "(between operators)"]
    assert [row.share for row in rows] == ["57 %", "23 %", "5.7 %", "2.9 %", "11 %"]  # 0.4 ms of 3.5 go by between
    assert rows[0].macs == "100 MMAC"
    assert rows[0].intensity == "50.0"
    assert rows[0].attained == "100 GFLOP/s"
    assert rows[3].macs == "unknown"
    # 0.2 GFLOP at 142 GFLOP/s are 1.41 ms of 2; 5 MB at 12.4 GB/s are 0.403 ms of 0.8
    assert (rows[0].of_roof, rows[0].bound) == ("70 %", "compute")
    assert (rows[1].of_roof, rows[1].bound) == ("50 %", "memory")


def test_few_rows_leave_the_others_summed(records: RunRecords) -> None:
    rows = profiling.layer_rows(records, most=2)
    assert rows[2].layer == "(2 other layers)"
    assert rows[2].time == "300 µs"


@pytest.mark.parametrize("width", [80, 140])
def test_tables_fit_the_terminal(records: RunRecords, width: int) -> None:
    shown = printed(profiling.layers_table(records, width), width=width)
    assert max(map(len, shown.splitlines())) <= width
    for word in ("stem", "conv2d", "70 %", "compute", "memory"):
        assert word in shown


def test_lines_say_cost_unknown_and_who_disagrees(records: RunRecords) -> None:
    cost, counted, unknown, second = profiling.profile_lines(records)
    assert "3.50 ms per inference of 1; 1.11x under the profiler" in cost
    assert "1 MAC = 2 FLOPs" in counted
    assert unknown == "unknown operators: qr (1)"
    assert second == "second counter: torch.utils.flop_counter differs on attention 5.00 MMAC here, 0 MAC there"


def test_a_peak_that_a_layer_beats_is_raised_and_said(records: RunRecords) -> None:
    assert records.profiled is not None
    fast = layer("fast", "conv2d", 0.5, macs=100_000_000, moved=1000, state="counted")  # 400 GFLOP/s, the peak is 142
    more = dataclasses.replace(records.profiled, layers=(fast, *records.profiled.layers[1:]))
    raised = dataclasses.replace(records, profiled=more)
    assert profiling.layer_rows(raised)[1].of_roof == "100 %"
    assert any("a layer reaches 400 GFLOP/s in fp32" in line for line in profiling.doubts(raised))
    assert profiling.doubts(records) == ()


def test_what_helps_comes_first(records: RunRecords) -> None:
    helps, useless = profiling.ceiling_cells(records)
    assert (helps.technique, helps.expected, helps.at_most) == ("INT8 quantisation", "1.50x", "2.50x")
    assert (useless.expected, useless.at_most) == ("no help", "–")
    assert "no faster" in printed(profiling.ceilings_table(records))


def test_json_tells_unknown_from_zero(records: RunRecords) -> None:
    document = profiling.profile_json(records)
    macs = {row["layer"]: row["macs"] for row in document["layers"]}
    assert macs == {"stem": 100_000_000, "head": 1_000_000, "act": 0, "odd": None}
    assert profiling.profile_json(dataclasses.replace(records, profiled=None)) == {}


def test_a_profile_survives_its_record(records: RunRecords) -> None:
    again = decode(encode(records.profiled))
    assert again.opinions == records.profiled.opinions  # type: ignore[union-attr]
    assert again.layers[0].seconds.tolist() == records.profiled.layers[0].seconds.tolist()  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["layers", "roofline"])
def test_charts_draw_the_layers(records: RunRecords, name: str) -> None:
    chart = charts.CHARTS[name](records)
    assert chart is not None
    text = str(chart.to_dict())
    assert "stem" in text
    assert "head" in text


def test_the_page_has_the_table_and_the_ceilings(records: RunRecords, example: ModuleType) -> None:
    page = render_html(records)
    for words in ("<code>stem</code>", "INT8 quantisation", "unknown operators: qr"):
        assert words in page
