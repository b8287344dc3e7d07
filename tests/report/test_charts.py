"""The chart specifications: which are drawn, from which numbers, and as files."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.records import RunRecords
from steelyard.report import charts, times

ELSEWHERE = {
    "sweep_latency",
    "stress",
    "layers",
    "sensitivity",
    "watched",
}  # of load, of a profile, of layers quantised alone, of a watched machine: their own tests
ABSENT = {
    "full": ELSEWHERE,
    "nothing_passed": ELSEWHERE,
    "interrupted": {"control"} | ELSEWHERE,
    "benchmark": {"control", "pareto", "frontier", "forecasts", "confusion"} | ELSEWHERE,
}


@pytest.mark.parametrize("kind", list(ABSENT))
def test_only_charts_without_records_are_absent(runs: dict[str, RunRecords], kind: str) -> None:
    absent = {name for name, draw in charts.CHARTS.items() if draw(runs[kind]) is None}
    assert absent == ABSENT[kind]


@pytest.mark.parametrize("name", [name for name in charts.CHARTS if name not in ELSEWHERE])
def test_each_chart_is_valid_and_described(runs: dict[str, RunRecords], name: str) -> None:
    chart = charts.CHARTS[name](runs["full"])
    assert chart is not None
    spec = chart.to_dict()
    assert len(spec["description"]) > 20
    assert spec["title"]["text"]


def test_an_empty_run_draws_nothing(runs: dict[str, RunRecords]) -> None:
    bare = RunRecords(run=runs["benchmark"].run)
    assert {name for name, draw in charts.CHARTS.items() if draw(bare) is not None} == {"roofline"}


def test_memory_parts_add_up_to_the_running_total(runs: dict[str, RunRecords]) -> None:
    records = runs["benchmark"]
    assert records.baseline is not None
    rows = charts._memory_rows("baseline", records.baseline)
    total = records.baseline.get("memory_running_bytes").value  # type: ignore[union-attr]
    assert sum(r["high"] - r["low"] for r in rows) == pytest.approx(total / 1e6)


def test_confusion_matches_scikit_learn(example: ModuleType) -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    made = example.predictions(example.INT8, "test")
    rows = charts._confusion_rows(made, example.LABELS)
    counts = np.array([r["count"] for r in rows]).reshape(10, 10)
    assert (counts == metrics.confusion_matrix(made.labels, made.predicted)).all()


def test_box_is_the_five_numbers_of_numpy() -> None:
    values = np.random.default_rng(3).lognormal(size=(4, 25))
    box = times.box("m", values, 1.0, "s")
    assert box["median"] == pytest.approx(np.median(values))
    assert (box["q1"], box["q3"]) == pytest.approx(np.percentile(values, [25, 75]))
    assert (box["least"], box["most"]) == (values.min(), values.max())


def test_a_long_run_is_joined_by_medians_within_rounds() -> None:
    values = np.random.default_rng(4).lognormal(size=(10, 333))
    rows = times.slots("m", values, 1.0)
    assert len(rows) <= 1.3 * times.MOST_POINTS
    assert rows[0]["latency"] == pytest.approx(np.median(values[0, :9]), rel=1e-4)
    assert {r["round"] for r in rows} == set(range(1, 11))


def test_figures_are_saved_without_a_browser(runs: dict[str, RunRecords], tmp_path: Path) -> None:
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<svg"}
    saved = charts.save_figures(runs["full"], tmp_path / "figures")
    assert {p.name for p in saved} == {
        f"{name}.{kind}" for name in charts.CHARTS if name not in ELSEWHERE for kind in starts
    }
    for path in saved:
        assert path.read_bytes().startswith(starts[path.suffix[1:]])


def test_an_unknown_format_is_refused(runs: dict[str, RunRecords], tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="png, svg, pdf; got 'bmp'"):
        charts.save_figures(runs["full"], tmp_path, formats=("bmp",))
