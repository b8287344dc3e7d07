"""Several runs side by side: what is drawn of each, what is refused, and the page."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType

import pytest

from report.reading import CHROMIUM, Reader, browse, complaints, told, words
from steelyard import api
from steelyard.errors import InvalidInput
from steelyard.records import RunRecords
from steelyard.report import charts
from steelyard.report.beside import CHARTS, Weighed, render_beside, weighed
from steelyard.store import RunFolder


@pytest.fixture(scope="module")
def models(example: ModuleType, runs: dict[str, RunRecords]) -> tuple[Weighed, ...]:
    found = [
        weighed(name, runs[kind], example.estimates())
        for name, kind in (("one<b>", "full"), ("two", "benchmark"), ("three", "nothing_passed"))
    ]
    assert all(found)
    return tuple(model for model in found if model is not None)


def test_the_model_of_a_run_is_what_was_chosen_or_else_its_baseline(
    models: tuple[Weighed, ...], runs: dict[str, RunRecords]
) -> None:
    assert [m.plan for m in models] == [str(runs["full"].outcome.chosen), "", ""]  # type: ignore[union-attr]
    assert weighed("bare", RunRecords(run=runs["full"].run), {}) is None


def test_each_chart_is_valid_and_shows_every_model(models: tuple[Weighed, ...]) -> None:
    for name, draw in CHARTS.items():
        spec = draw(models).to_dict()
        shown = {str(row.get("model", row.get("line", row.get("name")))) for rows in spec["datasets"].values() for row in rows}  # fmt: skip
        for model in models:
            if name != "roofline" or (charts.placed(model.records.findings, "x") and not model.plan):
                assert any(word.startswith(model.name) for word in shown), (name, model.name)


def test_the_radar_is_each_axis_against_its_best(models: tuple[Weighed, ...]) -> None:
    spec = CHARTS["radar"](models).to_dict()
    rows = [row for rows in spec["datasets"].values() for row in rows if row.get("axis") == "Latency"]
    medians = {m.name: m.measured.get("latency_s", batch=1).value for m in models}  # type: ignore[union-attr]
    reach = {row["model"]: (row["x"] ** 2 + row["y"] ** 2) ** 0.5 for row in rows}
    assert reach == pytest.approx({name: min(medians.values()) / value for name, value in medians.items()}, abs=1e-3)


def test_the_page_holds_all_models_and_fetches_nothing(models: tuple[Weighed, ...]) -> None:
    page = render_beside(models)
    seen, shown = Reader(page), words(page)
    assert (seen.open, seen.fetches, seen.tags["b"]) == ([], ["data:,"], 0)
    assert all(link.removeprefix("#") in seen.ids for link in seen.links)
    assert len(seen.ids) == len(set(seen.ids))
    for expected in ("3 models side by side", "one&lt;b&gt;", "steelyard compare", "Latency, median"):
        assert expected in shown, expected
    assert "unlike machines" not in shown


def test_unlike_machines_are_refused_or_marked(runs: dict[str, RunRecords], tmp_path: Path) -> None:
    one = runs["benchmark"]
    far = dataclasses.replace(one.run, environment=dataclasses.replace(one.run.environment, machine="elsewhere"))
    for name, run in (("a", one.run), ("b", far)):
        with RunFolder(tmp_path / name) as folder:
            folder.append(run)
            folder.append(one.baseline)
    folders = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(InvalidInput, match="unlike machines"):
        api.side_by_side(folders, out=tmp_path / "out")
    found = api.side_by_side(folders, out=tmp_path / "out", allow_unlike_machines=True)
    assert "These runs are of unlike machines" in words(found.report.read_text(encoding="utf-8"))
    for wrong, what in (
        ((folders[:1], tmp_path / "out"), "two or more run folders"),
        ((folders, folders[0]), "holds a run, which has its own report"),
        (([folders[0], tmp_path / "none"], tmp_path / "out"), "holds no run"),
    ):
        with pytest.raises(InvalidInput, match=what):
            api.side_by_side(wrong[0], out=wrong[1])


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_chromium_charts_are_drawn_without_an_error_or_sideways_scroll(
    models: tuple[Weighed, ...], tmp_path: Path
) -> None:
    dom, log = browse(tmp_path, render_beside(models), width=390, scheme="light")
    assert complaints(log) == []
    seen = told(dom, log)
    assert {name for name, good in seen["sizes"] if good} == set(CHARTS)
    assert seen["overflow"] <= 0
