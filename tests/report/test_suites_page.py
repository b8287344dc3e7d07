"""Pages of suites: what they draw, from cells whose readings are known."""

from __future__ import annotations

import dataclasses
import json
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from report.reading import Reader, words
from steelyard.records import (
    CellChange,
    Estimate,
    Measurement,
    Refusal,
    Sample,
    Suite,
    SuiteCell,
    SuiteChange,
    Unavailable,
)
from steelyard.report.suites_page import change_charts, render_changes, render_suite, suite_charts

KEYS = ("cnn<b>/no-data/openvino/batch-1", "cnn<b>/no-data/openvino/batch-8", "mlp/no-data/onnxruntime/batch-1")


@pytest.fixture
def suite(example_compare: ModuleType) -> tuple[Suite, tuple[SuiteCell, ...]]:
    rng = np.random.default_rng(5)
    cells = []
    for i, key in enumerate(KEYS[:2]):
        batch = (1, 8)[i]
        latency = Sample(
            quantity="latency_s", unit="s", values=1e-3 * batch * rng.lognormal(0, 0.1, 40), conditions={"batch": batch},
            blocks=np.repeat(np.arange(10, dtype=np.int32), 4),
        )  # fmt: skip
        cell = SuiteCell(
            key=key, model="cnn<b>", data="", engine="openvino", batch=batch, folder="x", flags=("round 2: steal 4%",),
            measured=Measurement(subject="f00", environment=example_compare.HOST, readings=(latency,)),
        )  # fmt: skip
        cells.append(cell)
    refusal = Refusal(kind="crash", reason="ended with SIGSEGV")
    cells.append(dataclasses.replace(cells[0], key=KEYS[2], measured=None, refusal=refusal, flags=()))
    definition = json.dumps({"name": "own", "batches": [1, 8]})
    return Suite(name="own", cells=KEYS, definition=definition, environment=example_compare.HOST), tuple(cells)


def test_a_suite_draws_each_cell_with_the_interval_of_its_processes(suite: tuple[Suite, tuple[SuiteCell, ...]]) -> None:
    head, cells = suite
    spec = suite_charts(cells)["latency"].to_dict()
    rows = {row["label"]: row for rows in spec["datasets"].values() for row in rows if "label" in row}
    assert list(rows) == ["cnn<b> x1, openvino, no-data", "cnn<b> x8, openvino, no-data"]
    sample = cells[1].measured.get("latency_s", batch=8)  # type: ignore[union-attr]
    logs = np.log(np.median(sample.values.reshape(10, 4), axis=1))  # type: ignore[union-attr]
    ends = np.exp(stats.t.interval(0.95, 9, loc=logs.mean(), scale=stats.sem(logs))) * 1e6
    assert (rows["cnn<b> x8, openvino, no-data"]["low"], rows["cnn<b> x8, openvino, no-data"]["high"]) == pytest.approx(tuple(ends))  # fmt: skip
    assert suite_charts(cells)["accuracy"] is None
    assert suite_charts(cells[2:]) == {"latency": None, "accuracy": None}
    page = render_suite(head, cells)
    seen, shown = Reader(page), words(page)
    assert (seen.open, seen.fetches, seen.tags["b"]) == ([], ["data:,"], 0)
    assert all(link.removeprefix("#") in seen.ids for link in seen.links)
    for expected in ("2 of 3 cells read", "ended with SIGSEGV", "1 round flagged", "Example CPU, 2 cores"):
        assert expected in shown, expected


def test_a_change_draws_ratios_their_mean_and_drops() -> None:
    ratio = Estimate(quantity="latency", unit="x", value=0.5, low=0.4, high=0.6, level=0.99, method="Welch", n=20)
    drop = dataclasses.replace(ratio, quantity="accuracy", unit="fraction", value=0.01, low=-0.01, high=0.03)
    gone = Unavailable(quantity="latency", reason="not measured")
    change = SuiteChange(
        first="old", second="new<b>", mean=dataclasses.replace(ratio, n=1), unlike="other processor",
        changes=(
            CellChange(key=KEYS[0], quantity="latency", found=ratio, outcome="faster"),
            CellChange(key=KEYS[0], quantity="accuracy", found=drop, outcome="undecided"),
            CellChange(key=KEYS[2], quantity="latency", found=gone),
        ),
    )  # fmt: skip
    (chart,) = change_charts([change], 0.02).values()
    rows = {row["label"]: row for rows in chart.to_dict()["datasets"].values() for row in rows if "label" in row}
    assert rows["cnn<b>, openvino, no-data"]["value"] == pytest.approx(1.0)  # a drop, in points
    assert rows["geometric mean"]["shape"] == "diamond"
    page = render_changes([change], 0.02)
    seen, shown = Reader(page), words(page)
    assert (seen.open, seen.tags["b"]) == ([], 0)
    for expected in (
        "2.00× faster, on the mean",
        "Unlike machines: other processor",
        "latency: not measured",
        "1 faster",
    ):
        assert expected in shown, expected
