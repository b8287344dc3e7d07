"""The page's content, what it must not hold, and the page in a real browser."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from report.reading import CHROMIUM, Reader, browse, complaints, told, words
from steelyard.records import RunRecords
from steelyard.report import charts
from steelyard.report.html import render_html

KINDS = ("full", "interrupted", "benchmark", "nothing_passed")


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_well_formed_small_and_fetches_nothing(pages: dict[str, str], kind: str) -> None:
    page = pages[kind]
    seen = Reader(page)
    assert seen.open == []
    assert len(page.encode()) < 1_500_000
    assert seen.fetches == ["data:,"]
    assert "@import" not in page
    assert "url(" not in page[: page.index("</style>")]
    assert "default-src &#39;none&#39;" in page
    assert len(seen.ids) == len(set(seen.ids))
    assert all(link.removeprefix("#") in seen.ids for link in seen.links)
    assert seen.tags["h1"] == 1
    assert seen.tags["caption"] == seen.tags["table"]


@pytest.mark.parametrize("kind", KINDS)
def test_what_the_user_named_is_escaped(pages: dict[str, str], kind: str) -> None:
    page = pages[kind]
    seen = Reader(page)
    assert seen.tags["b"] == 0
    assert seen.tags["script"] == 4
    assert "<b>ankle" not in page
    assert "fashion <mnist>" not in page
    assert kind == "benchmark" or "fashion &lt;mnist&gt;" in page


def test_full_run_says_it_all(pages: dict[str, str]) -> None:
    shown = words(pages["full"])
    for expected in (
        "× faster, every requirement met",
        "openvino_int8(preset=mixed)",
        "Exit status 0",
        "accuracy drop ≤ 0.5%: met",
        "undecided",
        "3.93× smaller",
        "5.20×",
        "will not help here",
        "48,000 examples",
        "10,000 examples, 3 of them also in train",
        "steal time reached 3 %",
        "round 4: steal 3 %",
        "--require &#39;accuracy drop &lt;= 0.5%&#39;",
        "--classes 10",
        "142 GFLOP/s",
        "Tango",
        "openvino 2026.1.0",
    ):
        assert expected in shown, expected


def test_nothing_passed_says_why(pages: dict[str, str]) -> None:
    shown = words(pages["nothing_passed"])
    assert "Nothing passed, so the baseline stays" in shown
    assert "Exit status 3" in shown
    assert "needs about 2,600 more test examples" in shown
    assert "intervals of times were widened" in shown


def test_an_interrupted_run_claims_nothing(pages: dict[str, str]) -> None:
    shown = words(pages["interrupted"])
    assert "so far, not verified yet" in shown
    assert "Requirements and verdicts" not in shown
    assert "Exit status" not in shown


def test_benchmark_has_no_empty_sections(pages: dict[str, str]) -> None:
    shown = words(pages["benchmark"])
    assert "per inference" in shown
    for absent in ("Candidates", "Predicted and obtained", "Before and after", "Requirements and verdicts"):
        assert absent not in shown


def test_verify_shows_its_plan_even_where_it_failed(example: ModuleType, runs: dict[str, RunRecords]) -> None:
    failed = runs["nothing_passed"]
    verified = dataclasses.replace(
        failed, run=dataclasses.replace(failed.run, command="verify"), trials=(), findings=()
    )
    shown = words(render_html(verified, example.estimates()))
    assert "× faster, 0 of 3 requirements met" in shown
    assert "Exit status 3: a requirement was not met." in shown


def test_readings_from_another_machine_are_warned_of(example: ModuleType, runs: dict[str, RunRecords]) -> None:
    full = runs["benchmark"]
    moved = dataclasses.replace(full.run, environment=dataclasses.replace(full.run.environment, machine="elsewhere"))
    assert "another machine (7c1f20aa93be)" in words(render_html(dataclasses.replace(full, run=moved)))


def test_failed_readings_do_not_break_the_page(runs: dict[str, RunRecords]) -> None:
    full = runs["full"]
    assert full.verification is not None
    lost = full.verification.comparison
    seconds = lost.seconds.copy()
    seconds[2] = np.nan
    seconds[:, :, 3] = np.nan
    spoilt = dataclasses.replace(full.verification, comparison=dataclasses.replace(lost, seconds=seconds))
    shown = words(render_html(dataclasses.replace(full, verification=spoilt)))
    assert "9 rounds" in shown
    assert "NaN" not in shown


def test_the_bare_beginning_of_a_run_renders(runs: dict[str, RunRecords]) -> None:
    bare = RunRecords(run=runs["full"].run)
    shown = words(render_html(bare))
    assert "Measured" in shown
    assert "unavailable: not measured in this run" in shown


def test_importing_the_report_loads_no_heavy_framework() -> None:
    heavy = (
        "{'torch', 'onnx', 'onnxruntime', 'openvino', 'nncf', 'sklearn', 'altair', 'vl_convert', 'jinja2', 'pandas'}"
    )
    rooms = "from steelyard.report import charts, html, text"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {rooms}; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_the_page_is_a_pure_function(example: ModuleType, runs: dict[str, RunRecords], pages: dict[str, str]) -> None:
    assert render_html(runs["full"], example.estimates()) == pages["full"]


# --- in a browser ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize(
    ("kind", "width", "scheme"),
    [("full", 390, "dark"), ("full", 1280, "light"), ("benchmark", 390, "light"), ("nothing_passed", 1280, "dark")],
)
def test_in_chromium_charts_are_drawn_without_an_error_or_sideways_scroll(
    runs: dict[str, RunRecords], pages: dict[str, str], tmp_path: Path, kind: str, width: int, scheme: str
) -> None:
    dom, log = browse(tmp_path, pages[kind], width=width, scheme=scheme)
    assert complaints(log) == []
    seen = told(dom, log)
    expected = {name for name, draw in charts.CHARTS.items() if draw(runs[kind]) is not None}
    assert {name for name, good in seen["sizes"] if good} == expected
    assert seen["overflow"] <= 0
    assert seen["background"] == {"light": "rgb(251, 251, 249)", "dark": "rgb(16, 21, 28)"}[scheme]


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_chromium_the_policy_stops_a_foreign_script(pages: dict[str, str], tmp_path: Path) -> None:
    spoilt = pages["benchmark"].replace("</footer>", "</footer><script>document.title = 'taken'</script>")
    dom, log = browse(tmp_path, spoilt, width=800, scheme="light")
    assert "violates the following Content Security Policy directive" in log
    assert "data-found" in dom
