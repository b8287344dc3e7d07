"""What is derived from an energy: intervals by their origin, carbon on several grids, and what a joule buys."""

from __future__ import annotations

import dataclasses
import math
from types import ModuleType

import numpy as np
import pytest
from scipy import stats

from steelyard.probe.carbon import carbon, grid
from steelyard.records import Estimate, Measurement, RunRecords, Sample, Unavailable
from steelyard.report import charts, derive, energy, tables, text


@pytest.fixture
def modelled(runs: dict[str, RunRecords]) -> Measurement:
    """A finalist's measurement on test data, with the draws of a model."""
    verification = runs["full"].verification
    assert verification is not None
    draws = 0.02 * np.exp(0.5 * np.random.default_rng(0).standard_normal(4000))
    return with_energy(verification.measurements[1], draws, "modelled")


def with_energy(measurement: Measurement, values: np.ndarray, provenance: str) -> Measurement:
    at = {"batch": 1}
    kept = tuple(r for r in measurement.readings if not r.quantity.startswith("energy"))
    made = Sample(quantity="energy_j", unit="J", values=values, conditions=at, provenance=provenance)
    call_s = Sample(quantity="energy_call_s", unit="s", values=np.array([0.001]), conditions=at)
    return dataclasses.replace(measurement, readings=(*kept, made, call_s))


def test_windows_have_a_t_interval_and_one_has_none(modelled: Measurement) -> None:
    values = np.array([2.0, 2.2, 1.9, 2.1])
    found = energy.per_inference(with_energy(modelled, values, "measured"))
    low, high = stats.t(3, np.log(values).mean(), stats.sem(np.log(values))).interval(0.95)
    assert (found.low, found.high) == pytest.approx((math.exp(low), math.exp(high)))
    assert found.method.startswith("measured: t on windows")
    alone = energy.per_inference(with_energy(modelled, values[:1], "measured"))
    assert (alone.low, alone.high) == (0.0, math.inf)
    assert "one window, no interval" in alone.method


def test_inferences_per_joule_are_the_inverse_with_its_ends_turned(modelled: Measurement) -> None:
    each, per = energy.per_inference(modelled), energy.per_joule(modelled)
    assert (per.value, per.low, per.high) == pytest.approx((1 / each.value, 1 / each.high, 1 / each.low))
    assert per.unit == "1/J"


def test_right_answers_per_joule_carry_both_doubts(modelled: Measurement) -> None:
    made = modelled.on("test")
    assert made is not None
    right, n = int(made.correct.sum()), made.labels.size
    rng = np.random.default_rng(1)
    drawn = rng.beta(right + 0.5, n - right + 0.5, 100_000) / rng.choice(
        modelled.get("energy_j", batch=1).values, 100_000
    )
    found = energy.correct_per_joule(modelled, "test")
    assert (found.low, found.value, found.high) == pytest.approx(np.quantile(drawn, [0.05, 0.5, 0.95]), rel=0.02)
    assert isinstance(energy.correct_per_joule(modelled, "nowhere"), Unavailable)


def test_carbon_agrees_with_the_probe_and_grids_stand_cleanest_first(modelled: Measurement) -> None:
    grids = grid("DE")
    sample = modelled.get("energy_j", batch=1)
    here = energy.carbon(modelled, grids[0])
    assert isinstance(sample, Sample)
    assert here.value == pytest.approx(carbon(sample, "DE").value)
    rows = energy.elsewhere(modelled, grids, inferences=1000)
    assert [r.grams.value for r in rows] == sorted(r.grams.value for r in rows)
    own = next(r for r in rows if r.ratio is None)
    assert own.factor.region == "DE"
    assert own.grams.value == pytest.approx(1000 * here.value)
    sweden = next(r for r in rows if r.factor.region == "SE")
    assert sweden.ratio is not None
    assert sweden.ratio.value == pytest.approx(36 / 344, rel=0.02)
    assert sweden.ratio.low < 36 / 344 < sweden.ratio.high
    # the energy is common to both: the ratio is known better than either
    assert sweden.ratio.high / sweden.ratio.low < own.grams.high / own.grams.low


def test_the_ratio_of_two_models_is_that_of_the_turns_times(runs: dict[str, RunRecords]) -> None:
    records, draws = runs["full"], np.random.default_rng(2).uniform(10, 40, 4000)
    verification = records.verification
    assert verification is not None
    before, after = (with_energy(m, draws * 0.001, "modelled") for m in verification.measurements[:2])
    logs = derive.turn_logs(records)
    assert logs is not None
    found, times = energy.ratio(before, after, logs), derive.compared(records).ratio
    assert isinstance(found, Estimate)
    assert times is not None
    assert (found.value, found.low, found.high) == pytest.approx((times.value, times.low, times.high), rel=1e-6)
    assert energy.SAME in found.method


def test_the_table_says_that_the_ratio_is_that_of_times(runs: dict[str, RunRecords]) -> None:
    records, draws = runs["full"], np.random.default_rng(2).uniform(10, 40, 4000)
    verification = records.verification
    assert verification is not None
    alike = tuple(with_energy(m, draws * 0.001, "modelled") for m in verification.measurements)
    verification = dataclasses.replace(verification, measurements=alike)
    rows = tables.score_rows(dataclasses.replace(records, verification=verification), {})
    row = next(r for r in rows if r.name == "Energy, after / before")
    assert row.note == energy.SAME
    assert row.after == next(r for r in rows if r.name == "Latency, taking turns").after


def test_nothing_read_is_unavailable_and_never_zero(runs: dict[str, RunRecords]) -> None:
    reason = "no counter, and no published figures"
    bare = dataclasses.replace(
        runs["benchmark"].baseline,
        readings=(Unavailable(quantity="energy_j", reason=reason, conditions={"batch": 1}),),
    )
    for found in (energy.per_inference(bare), energy.per_joule(bare), energy.carbon(bare, grid("FR")[0])):
        assert isinstance(found, Unavailable)
        assert found.reason == reason
    assert energy.elsewhere(bare, grid("FR")) == ()


def test_tables_json_and_chart_show_the_label(runs: dict[str, RunRecords], modelled: Measurement) -> None:
    records = runs["benchmark"]
    run = dataclasses.replace(records.run, grid=grid("FR"))
    shown = dataclasses.replace(records, run=run, baseline=modelled)
    document = text.summary_json(shown)
    assert document["energy"]["before"]["energy"]["method"] == "modelled: 5-95 % of 4,000 draws"
    assert [row["region"] for row in document["energy"]["before"]["carbon"]][:2] == ["SE", "FR"]
    reading = next(r for r in document["before"]["readings"] if r["quantity"] == "energy_j")
    assert reading["provenance"] == "modelled"
    assert reading["range_5_95"][0] < reading["median"] < reading["range_5_95"][1]
    table = text.carbon_table(shown)
    assert table is not None
    assert table.row_count == len(run.grid)
    chart = charts.energy(shown)
    assert chart is not None
    assert "modelled: 5-95 %" in chart.to_dict()["title"]["subtitle"][0]
    assert text.carbon_table(records) is None


def test_chart_of_two_models_warns_that_bars_share_their_draws(example: ModuleType) -> None:
    chart = charts.energy(example.full())
    assert chart is not None
    assert "share their draws" in " ".join(chart.to_dict()["title"]["subtitle"])
