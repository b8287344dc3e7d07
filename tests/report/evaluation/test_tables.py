"""The rows of the tables: order, reasons and words."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report import example_evaluation as example
from steelyard.records import Estimate, Unavailable
from steelyard.report.evaluation import tables


def test_the_leading_metric_comes_first_wherever_it_stood() -> None:
    whole = example.binary()
    turned = dataclasses.replace(whole.models[0], scores=whole.models[0].scores[::-1])
    rows = tables.score_rows(dataclasses.replace(whole, models=(turned,)))
    assert rows[0].name == "Recall"
    assert [row.leads for row in rows] == [True, *[False] * (len(rows) - 1)]


def test_a_metric_that_one_model_lacks_says_so() -> None:
    whole = example.compared()
    poor = dataclasses.replace(whole.models[1], scores=whole.models[1].scores[:1])
    rows = tables.score_rows(dataclasses.replace(whole, models=(whole.models[0], poor)))
    assert rows[1].cells[1].text == "not computed for this model"
    assert rows[1].cells[1].missing


@given(
    value=st.floats(0, 1),
    half=st.floats(0, 2),
    low=st.sampled_from([0.0, -1.0, -math.inf]),
    high=st.sampled_from([1.0, math.inf]),
)
def test_bars_stay_on_their_track(value: float, half: float, low: float, high: float) -> None:
    known = dataclasses.replace(example.INFOS["f1"], low=low, high=high)
    scores = (example.number("f1", "", value, half, 9), Unavailable(quantity="f1", reason="none"))
    for bar in tables._bars(known, (*scores, scores[0])):
        if bar is not None:
            assert 0 <= bar.low <= bar.value <= bar.high <= 100


def test_a_range_without_end_has_no_bar_for_one_model_alone() -> None:
    row = tables.score_rows(example.regression())[0]
    assert row.cells[0].bar is None
    assert "from 0 up" in row.words


def test_every_reason_says_that_it_is_one() -> None:
    assert tables.cell(Unavailable(quantity="f1", reason="no positives")).text == "undefined: no positives"
    assert tables.cell(Unavailable(quantity="f1", reason="undefined: none")).text == "undefined: none"
    assert tables.cell(None).text == tables.NONE


def test_differences_of_fractions_are_points_and_others_keep_their_unit() -> None:
    rows = tables.difference_rows(example.compared())
    assert rows[0].drop.whole == "-4.80 points (-7.00 to -2.60)"
    assert next(r for r in rows if r.metric == "Log-loss").drop.text == "-0.0610 nat"
    assert [r.where != "" for r in rows] == [False] * 6 + [True] * 2  # all examples, then slices
    assert rows[6].where == "region = north"  # the worst slice first


def test_slices_are_worst_first_and_those_too_small_last() -> None:
    rows = tables.slice_rows(example.screening("m", 0.0))
    assert [r.verdict for r in rows[-2:]] == ["too few", "too few"]
    gaps = [r.gap.sort for r in rows[:-2]]
    assert gaps == sorted(gaps, reverse=True)  # type: ignore[type-var]
    assert rows[-1].score.missing


def test_most_common_mistakes_are_those_of_the_table() -> None:
    evaluation = example.pictures()
    table = evaluation.models[0].confusion
    assert table is not None
    off = table.copy()
    np.fill_diagonal(off, 0)
    rows = tables.confused_rows(evaluation, most=5)
    assert [r.count for r in rows] == sorted(off.ravel().tolist(), reverse=True)[:5]
    first = rows[0]
    assert off[example.CLOTHES.index(first.true), example.CLOTHES.index(first.predicted)] == first.count


def test_a_perfect_table_has_no_mistakes_to_show() -> None:
    whole = example.pictures()
    model = dataclasses.replace(whole.models[0], confusion=np.diag([5] * 10))
    assert tables.confused_rows(dataclasses.replace(whole, models=(model,))) == ()


def test_limits_that_fail_come_first() -> None:
    rows = tables.gate_rows(example.binary())
    assert [r.passed for r in rows] == [False, False, False, True]


def test_corruptions_that_hurt_most_come_first() -> None:
    rows = tables.corrupted_rows(example.pictures().models[0])
    worst = [min(c.sort for c in row.cells if c.sort is not None) for row in rows]
    assert worst == sorted(worst)
    assert all(len(row.cells) == 6 for row in rows)


@pytest.mark.parametrize("metric", ["class_iou[road]", "ndcg@10"])
def test_a_metric_without_a_description_keeps_its_name(metric: str) -> None:
    whole = example.bare()
    score = Estimate(quantity=metric, unit="", value=1.0, low=0.5, high=2.0, level=0.95, method="bootstrap", n=3)
    row = tables.score_rows(dataclasses.replace(whole, models=(dataclasses.replace(whole.models[0], scores=(score,)),)))
    assert row[0].name.lower() == metric.replace("_", " ").lower()


def test_every_metric_without_a_number_in_its_name_is_said_in_words():
    from steelyard.metrics.rows import _ROWS
    from steelyard.report.evaluation.words import METRICS

    assert {metric.name for rows in _ROWS.values() for metric in rows} <= set(METRICS)
