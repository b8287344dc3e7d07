"""The charts of an evaluation: which are drawn, from which numbers, and as files."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from report import example_evaluation as example
from steelyard.errors import InvalidInput
from steelyard.records import Evaluation
from steelyard.report import drawing, theme
from steelyard.report.evaluation import charts

EVERYWHERE = {
    "scores",
    "radar",
    "confusion",
    "confusion_share",
    "classes",
    "roc",
    "pr",
    "reliability",
    "boxes",
    "slices",
}
PRESENT = {
    "binary": EVERYWHERE,
    "pictures": EVERYWHERE | {"robustness"},
    "hundred": {"scores", "radar", "confusion", "confusion_share", "classes"},
    "regression": {"boxes", "slices"},
    "multilabel": {"scores", "radar", "classes"},
    "compared": EVERYWHERE | {"differences", "slice_differences"},
    "clothes_compared": EVERYWHERE | {"differences", "robustness"},
    "bare": {"scores"},
    "nothing_defined": set(),
}


def rows_of(chart: Any) -> list[list[dict[str, Any]]]:
    """All data sets of a chart."""
    return list(chart.to_dict()["datasets"].values())


def rows_with(chart: Any, field: str) -> list[dict[str, Any]]:
    """The rows of the data set that has this field."""
    return next(rows for rows in rows_of(chart) if rows and field in rows[0])


@pytest.mark.parametrize("kind", list(PRESENT))
def test_only_charts_without_data_are_absent(evaluations: dict[str, Evaluation], kind: str) -> None:
    assert {n for n, draw in charts.CHARTS.items() if draw(evaluations[kind]) is not None} == PRESENT[kind]


@pytest.mark.parametrize("kind", ["binary", "clothes_compared", "compared"])
def test_each_panel_is_valid_described_and_strict_json(evaluations: dict[str, Evaluation], kind: str) -> None:
    for name, draw in charts.CHARTS.items():
        for panel in drawing.panels(draw(evaluations[kind])):
            spec = panel.to_dict()
            assert len(spec["description"]) > 20, name
            assert spec["title"]["text"]
            json.dumps(spec, allow_nan=False)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["compared", "clothes_compared"])
def test_every_chart_is_saved_in_every_format(evaluations: dict[str, Evaluation], kind: str, tmp_path: Path) -> None:
    starts = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<svg"}
    saved = charts.save_figures(evaluations[kind], tmp_path / "figures")
    assert {p.name for p in saved} == {f"{name}.{end}" for name in PRESENT[kind] for end in starts}
    for path in saved:
        assert path.read_bytes().startswith(starts[path.suffix[1:]])


def test_an_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="png, svg, pdf; got 'bmp'"):
        charts.save_figures(example.bare(), tmp_path, formats=("bmp",))


def test_confusion_holds_every_count_and_few_classes_are_written() -> None:
    evaluation = example.pictures()
    table = evaluation.models[0].confusion
    assert table is not None
    chart = charts.confusion(evaluation)
    cells = rows_with(chart, "n")
    drawn = np.zeros_like(table)
    for cell in cells:
        drawn[cell["t"], cell["p"]] = cell["n"]
    assert (drawn == table).all()
    assert "text" in json.dumps(chart.to_dict()["layer"])  # type: ignore[union-attr]


def test_a_hundred_classes_have_no_words_in_their_cells() -> None:
    chart = charts.confusion(example.hundred())
    assert chart is not None
    assert [layer["mark"]["type"] for layer in chart.to_dict()["layer"]] == ["rect"]
    assert len(rows_with(chart, "name")) == 100


def test_of_too_many_classes_the_others_are_one_row_and_no_example_is_lost() -> None:
    rng = np.random.default_rng(1)
    table = rng.integers(0, 3, (400, 400))
    whole = example.hundred()
    model = dataclasses.replace(whole.models[0], confusion=table)
    small, names = charts._readable(whole, model, 100)
    assert small.shape == (100, 100)
    assert small.sum() == table.sum()
    assert names[-1] == "301 other classes"
    assert names[0] == "species 000" or names[0] in whole.classes or names[0].isdigit()
    wrong = table.sum(axis=0) + table.sum(axis=1) - 2 * np.diag(table)
    kept = {names.index(n) for n in names[:-1]}
    assert len(kept) == 99
    assert set(np.argsort(-wrong, kind="stable")[:50].tolist()) <= {int(n.removeprefix("species ")) for n in names[:-1]}


def test_worst_classes_come_first_and_the_rest_is_counted() -> None:
    evaluation = example.hundred()
    chart = charts.classes(evaluation)
    assert chart is not None
    order = chart.to_dict()["layer"][0]["encoding"]["y"]["sort"]
    table = evaluation.models[0].confusion
    assert table is not None
    recall = np.diag(table) / table.sum(axis=1)
    worst = np.argsort(recall, kind="stable")[: charts.MOST_ROWS]
    assert [recall[int(name[-3:])] for name in order] == pytest.approx(recall[worst])
    assert "70 best classes are left out" in chart.to_dict()["description"]


def test_roc_shows_the_mean_and_the_classes_that_rank_worst() -> None:
    evaluation = example.pictures()
    curves = [*example.ranked("macro", *example.scored(900, 90, 3.0))]
    for i in range(9):
        curves += example.ranked(f"class {i}", *example.scored(900, 90, 1.0 + i / 3))
    model = dataclasses.replace(evaluation.models[0], curves=tuple(curves))
    chart = charts.roc(dataclasses.replace(evaluation, models=(model,)))
    shown = list(dict.fromkeys(r["series"] for r in rows_with(chart, "series")))
    assert shown == ["macro", "class 0", "class 1", "class 2", "class 3"]


def test_guessing_on_the_precision_recall_curve_is_the_share_of_positives() -> None:
    binary = charts.pr(example.binary())
    assert rows_with(binary, "y")[0]["y"] == pytest.approx(310 / 4_200)
    many = charts.pr(example.pictures())
    assert rows_with(many, "y")[0]["y"] == pytest.approx(0.1)  # the mean share over ten classes


def test_long_curves_are_thinned_between_their_ends() -> None:
    x = np.linspace(0, 1, 5_000)
    rows = charts._points("m", example.Curve(kind="roc", of="", x=x, y=x**0.2))
    assert len(rows) == charts.MOST_POINTS
    assert (rows[0]["x"], rows[-1]["x"]) == (0, 1)


def test_reliability_bins_sum_to_one_and_models_keep_their_colour() -> None:
    chart = charts.reliability(example.compared())
    rows = [r for r in rows_with(chart, "series") if r["series"] == "screening-v2"]
    assert sum(r["share"] for r in rows) == pytest.approx(1)
    colours = charts._reliability_colours(
        example.compared(), {n: example.reliability(*example.scored(90, 9, 1.0))[0] for n in ("screening-v3, after",)}
    )
    assert colours == {"screening-v3, after": theme.SERIES[1]}


def test_radar_maps_range_and_direction_to_zero_and_one() -> None:
    evaluation = example.binary()
    assert charts._goodness(evaluation, "ece", 0.1) == pytest.approx(0.9)  # lower is better
    assert charts._goodness(evaluation, "mcc", 0.0) == pytest.approx(0.5)  # from -1 to 1
    chart = charts.radar(evaluation)
    assert chart is not None
    points = [r for r in rows_with(chart, "shown") if "metric" in r]
    radius = {p["metric"]: math.hypot(p["x"], p["y"]) for p in points}
    assert radius["Calibration error"] == pytest.approx(1 - 0.071, abs=1e-3)
    assert "Log-loss" not in radius
    assert "Log-loss" in chart.to_dict()["description"]


def test_forests_part_named_from_discovered_and_put_the_worst_first() -> None:
    panels = drawing.panels(charts.slices(example.binary()))
    named, found = (p.to_dict() for p in panels)
    assert "named" in named["title"]["text"]
    assert "discovered" in found["title"]["text"]
    assert named["layer"][1]["encoding"]["y"]["sort"][0] == "region = north (410)"
    row = rows_with(panels[0], "verdict")[0]
    assert row["value"] == pytest.approx(16.4)  # percentage points


def test_differences_of_unlike_units_have_panels_of_their_own() -> None:
    panels = drawing.panels(charts.differences(example.compared()))
    assert [p.to_dict()["layer"][1]["encoding"]["x"]["title"] for p in panels] == ["drop, points", "drop, nat"]


def test_robustness_panels_share_one_scale() -> None:
    panels = drawing.panels(charts.robustness(example.clothes_compared()))
    scales = [p.to_dict()["layer"][1]["encoding"]["y"]["scale"]["domain"] for p in panels]
    assert len(scales) == 2
    assert scales[0] == scales[1]


def test_boxes_are_the_quantiles_of_the_record() -> None:
    evaluation = example.binary()
    panels = drawing.panels(charts.boxes(evaluation))
    assert len(panels) == 2
    first = evaluation.models[0].boxes[0]
    row = rows_with(panels[0], "median")[0]
    assert [row[k] for k in ("least", "p5", "q1", "median", "q3", "p95", "most")] == pytest.approx(
        first.quantiles, rel=1e-4
    )


def test_a_bound_that_is_open_is_drawn_at_its_point() -> None:
    estimate = example.number("rmse_drop", "", 3.0, math.inf, 10)
    assert charts._interval(estimate)["low"] == charts._interval(estimate)["high"] == 3.0
