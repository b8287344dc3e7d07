"""The page of an evaluation: its content, what it must not hold, its size, and the page in a real browser."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from report import example_evaluation as example
from report.reading import CHROMIUM, Reader, browse, complaints, told, words
from steelyard.records import Evaluation, Shown
from steelyard.report import drawing
from steelyard.report.evaluation import charts
from steelyard.report.evaluation.page import OTHER_FIGURES, render_evaluation

KINDS = tuple(example.EXAMPLES)


@pytest.mark.parametrize("kind", KINDS)
def test_page_is_well_formed_small_and_fetches_nothing(pages: dict[str, str], kind: str) -> None:
    page = pages[kind]
    seen = Reader(page)
    assert seen.open == []
    assert len(page.encode()) < 1_500_000
    assert all(source.startswith("data:") for source in seen.fetches)
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
    assert Reader(page).tags["script"] == 4
    assert "<b>ankle" not in page
    assert "<csv>" not in page
    assert "<v2>" not in page
    assert "<b>pay" not in page


def test_a_hostile_name_can_stand_anywhere() -> None:
    whole = example.clothes_compared()
    hostile = "'\"</script><img src=x onerror=alert(1)>{{7*7}}"
    models = tuple(dataclasses.replace(m, name=f"{hostile} {i}", source=hostile) for i, m in enumerate(whole.models))
    differences = tuple(dataclasses.replace(d, first=models[0].name, second=models[1].name) for d in whole.differences)
    classes = tuple(f"{hostile} {i}" for i in range(10))
    page = render_evaluation(dataclasses.replace(whole, models=models, differences=differences, classes=classes))
    assert Reader(page).tags["img"] == sum(len(m.mistakes) + 2 * len(m.explained) for m in models)
    assert "onerror=alert(1)>" not in page


def test_binary_says_it_all(pages: dict[str, str]) -> None:
    shown = words(pages["binary"])
    for expected in (
        "Recall 81.3",
        "a missed illness costs more than a false alarm",
        "recall ≥ 0.9: broken",
        "1 of 4",
        "exit status 1",
        "undefined: no positives",
        "Wilson, effective n by bootstrap",
        "Share of true positives that are found.",
        "DeLong, logit scale",
        "chosen for recall ≥ 0.85 on validation.csv",
        "Temperature 1.62",
        "Named by you",
        "Discovered by looking",
        "region = north, device = mobile",
        "too few",
        "undefined: no example of class &#39;ill&#39; in the slice",
        "judged on 4 times",
        "unavailable: the training file has no scores",
        "--slice region",
        "integrated gradients, 50 steps",
        "12 rows had no value",
    ):
        assert expected in shown, expected


def test_the_verdict_of_a_comparison_leads(pages: dict[str, str]) -> None:
    shown = words(pages["compared"])
    for expected in (
        "screening-v3 is better than screening-v2",
        "Recall improves by 4.80 points (2.60–7.00) on the same 4,200 examples.",
        "needs about 18,000 examples to resolve this gap",
        "McNemar, exact: p &lt; 0.001",
        "undefined: the first model predicts one class only",
        "region = north",
        "equivalent",
    ):
        assert expected in shown, expected


@pytest.mark.parametrize(
    ("outcome", "said"),
    [
        ("worse", "screening-v3 is worse than screening-v2"),
        ("equivalent", "screening-v3 and screening-v2 differ by less than the band"),
        ("undecided", "screening-v3 or screening-v2: undecided"),
        ("undefined", "cannot be compared"),
    ],
)
def test_every_outcome_has_its_headline(outcome: str, said: str) -> None:
    whole = example.compared()
    judged = dataclasses.replace(whole.differences[0], outcome=outcome)  # type: ignore[arg-type]
    shown = words(render_evaluation(dataclasses.replace(whole, differences=(judged,))))
    assert said in shown


def test_pictures_and_leaks_are_shown(pages: dict[str, str], evaluations: dict[str, Evaluation]) -> None:
    shown, model = words(pages["pictures"]), evaluations["pictures"].models[0]
    assert pages["pictures"].count("data:image/png;base64,") == len(model.mistakes) + 2
    assert "3 examples of test also stand in train, for instance number 17 and 402" in shown
    assert "11 examples of test nearly stand in train" in shown
    assert "gaussian noise" in shown
    assert "for the first time" in shown


def test_characters_are_shaded_by_their_weight_and_lose_none(
    pages: dict[str, str], evaluations: dict[str, Evaluation]
) -> None:
    page = pages["multilabel"]
    shaded = re.findall(r'<p class="text">(.*?)</p>', page[page.index('id="explained"') :], flags=re.S)
    plain = [re.sub(r"<[^>]+>", "", part).replace("&lt;", "<").replace("&gt;", ">") for part in shaded]
    assert plain == [s.text for s in evaluations["multilabel"].models[0].explained]
    assert 'class="weight for" style="--w:100%"' in page or 'class="weight against" style="--w:100%"' in page


def test_absent_data_leave_no_empty_section(pages: dict[str, str]) -> None:
    seen = Reader(pages["bare"])
    assert set(seen.ids) - {"main", "theme-json", "charts-json"} == {
        *("scores", "inputs", "methods"),
        *("h-scores", "h-inputs", "h-methods"),
    }
    assert "undefined: no examples" in words(pages["nothing_defined"])
    assert "Accuracy cannot be told" in words(pages["nothing_defined"])


def test_no_model_at_all_still_renders() -> None:
    assert "Nothing was evaluated" in words(render_evaluation(dataclasses.replace(example.bare(), models=())))


def test_undefined_metrics_show_their_reason(pages: dict[str, str]) -> None:
    assert "undefined: 3 targets are 0" in words(pages["regression"])
    assert "undefined: the class is never predicted" in words(pages["hundred"])


@pytest.mark.slow
def test_ten_thousand_classes_and_five_hundred_slices_fit_a_page() -> None:
    page = render_evaluation(example.enormous())
    shown = words(page)
    assert len(page.encode()) < 3_000_000
    assert "The 100 worst; 9,900 more stand in metrics.json" in shown
    assert "190 more stand in metrics.json" in shown  # of 250 slices
    assert "252 more are left out" in shown  # of 300 mistakes
    assert "370 more groups are left out" in shown
    assert "9,970 best classes are left out" in shown


def test_the_page_is_a_pure_function(evaluations: dict[str, Evaluation], pages: dict[str, str]) -> None:
    assert render_evaluation(evaluations["regression"]) == pages["regression"]


def test_importing_it_loads_no_heavy_library() -> None:
    heavy = "{'torch', 'onnx', 'sklearn', 'altair', 'vl_convert', 'jinja2', 'pandas', 'scipy'}"
    rooms = "from steelyard.report.evaluation import charts, page, text"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; {rooms}; print(sorted({heavy} & set(sys.modules)))"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_mistake_without_a_confidence_claims_none() -> None:
    whole = example.regression()
    shown = Shown(place="row 3", true="210", predicted="95", confidence=float("nan"))
    model = dataclasses.replace(whole.models[0], mistakes=(shown,))
    page = render_evaluation(dataclasses.replace(whole, models=(model,)))
    assert "said <strong>95</strong>" in page
    assert " sure · " not in page


def test_the_level_of_an_interval_is_named_as_it_was_made() -> None:
    whole = example.compared()
    raised = dataclasses.replace(whole.differences[0].drop, level=0.9875)  # type: ignore[type-var]
    judged = (dataclasses.replace(whole.differences[0], drop=raised), *whole.differences[1:])
    assert "95 % to 98.75 % intervals" in words(
        render_evaluation(dataclasses.replace(whole, differences=judged))
    ).replace("\xa0", " ")


# --- in a browser ----------------------------------------------------------------------------------


def drawn(evaluation: Evaluation) -> set[str]:
    """The names of all panels that the page must draw."""
    names = set()
    for name, draw in charts.CHARTS.items():
        count = len(drawing.panels(draw(evaluation))) if name not in OTHER_FIGURES else 0
        names |= {f"{name}-{i}" if i else name for i in range(count)}
    return names


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
@pytest.mark.parametrize(
    ("kind", "width", "scheme"),
    [
        ("binary", 390, "light"),
        ("pictures", 390, "dark"),
        ("hundred", 1280, "dark"),
        ("compared", 1280, "light"),
        ("clothes_compared", 390, "dark"),
        ("regression", 1280, "dark"),
        ("multilabel", 390, "light"),
        ("nothing_defined", 390, "light"),
    ],
)
def test_in_chromium_charts_are_drawn_without_an_error_or_sideways_scroll(
    evaluations: dict[str, Evaluation], pages: dict[str, str], tmp_path: Path, kind: str, width: int, scheme: str
) -> None:
    dom, log = browse(tmp_path, pages[kind], width=width, scheme=scheme)
    assert complaints(log) == []
    seen = told(dom, log)
    assert {name for name, good in seen["sizes"] if good} == drawn(evaluations[kind])
    assert seen["overflow"] <= 0
    assert seen["background"] == {"light": "rgb(251, 251, 249)", "dark": "rgb(16, 21, 28)"}[scheme]


SORTED = """(() => {
  const scored = root.querySelector('[aria-label="Scores of each class"] table');
  const names = () => [...scored.tBodies[0].rows].map((row) => row.cells[0].textContent);
  const press = (i) => scored.tHead.rows[0].cells[i].querySelector("button").click();
  const before = names();
  press(0);
  const byName = names();
  press(1);
  const upwards = names();
  press(1);
  return { before, byName, upwards, downwards: names(), state: scored.tHead.rows[0].cells[1].getAttribute("aria-sort") };
})()"""


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_chromium_a_press_on_a_heading_sorts(
    evaluations: dict[str, Evaluation], pages: dict[str, str], tmp_path: Path
) -> None:
    dom, log = browse(tmp_path, pages["hundred"], width=1280, scheme="light", ask=SORTED)
    seen = told(dom, log)["asked"]
    table = evaluations["hundred"].models[0].confusion
    assert table is not None
    made = table.sum(axis=0)
    precision = {f"species {i:03d}": table[i, i] / made[i] for i in range(100) if made[i]}
    assert seen["before"][0] == "species 041"  # never predicted, so found least
    assert seen["byName"] == [f"species {i:03d}" for i in range(100)]
    for order, sign in (("upwards", 1), ("downwards", -1)):
        values = [sign * precision[name] for name in seen[order][:-1]]
        assert np.all(np.diff(values) >= 0)
        assert seen[order][-1] == "species 041"  # no precision: last either way
    assert seen["state"] == "descending"


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed")
def test_in_chromium_hostile_names_run_no_script(tmp_path: Path) -> None:
    hostile = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    shown = Shown(place=hostile, true=hostile, predicted=hostile, confidence=0.5, text=hostile, picture=f'"{hostile}')
    whole = example.multilabel()
    model = dataclasses.replace(whole.models[0], name=hostile, mistakes=(shown,), explained=(shown,))
    page = render_evaluation(dataclasses.replace(whole, models=(model,), classes=(hostile,), warnings=(hostile,)))
    dom, log = browse(tmp_path, page, width=800, scheme="light", ask="root.ownerDocument.title")
    assert complaints(log) == []
    assert told(dom, log)["asked"].startswith("F1, micro")
