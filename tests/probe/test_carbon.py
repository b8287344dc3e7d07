"""Grid factors with their sources, carbon as a product of two doubts, and the best hour against a search of every minute."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.probe.carbon import Forecast, best_start, carbon, grid, grid_factor, named_region, read_forecast, regions
from steelyard.records import Sample

TABLE = json.loads(resources.files("steelyard.probe").joinpath("grid.json").read_text())


def test_every_region_has_a_dated_figure_with_a_source_and_a_range() -> None:
    assert len(TABLE["regions"]) > 100
    for name in regions():
        factor = grid_factor(name)
        assert 0 < factor.low <= factor.g_per_kwh <= factor.high < 1500
        assert 2022 <= factor.year <= 2025
        assert factor.source
    assert {alias["region"] for alias in TABLE["aliases"].values()} <= set(TABLE["regions"])
    assert all(source["url"].startswith("https://") for source in TABLE["sources"].values())


@pytest.mark.parametrize(
    ("region", "low", "high"),
    [("FR", 40, 60), ("SE", 30, 45), ("PL", 600, 670), ("DE", 340, 390), ("US", 360, 400), ("IN", 700, 720)],
)
def test_well_known_grids_are_where_they_are_known_to_be(region: str, low: float, high: float) -> None:
    assert low <= grid_factor(region).g_per_kwh <= high


def test_a_us_subregion_is_the_published_rate_in_other_units() -> None:
    """eGRID2023: CAMX 438.150 lb of CO2e a MWh."""
    assert grid_factor("US-CAMX").g_per_kwh == pytest.approx(438.150 * 0.45359237, rel=1e-3)
    assert grid_factor("us-west-1").g_per_kwh == grid_factor("US-CAMX").g_per_kwh
    assert grid_factor("us-west-1").name == "N. California (AWS)"


def test_earlier_figures_widen_the_range() -> None:
    """Germany fell from 381 to 344 in a year, inside the assumed range; Stockholm's figure rose sevenfold, outside it."""
    germany, stockholm = grid_factor("DE"), grid_factor("europe-north2")
    assert germany.low == pytest.approx(0.7 * germany.g_per_kwh)
    assert germany.high == pytest.approx(1.3 * germany.g_per_kwh)
    assert stockholm.low == pytest.approx(2.73)


def test_an_unknown_region_names_the_nearest() -> None:
    with pytest.raises(InvalidInput, match=r"'us-esat-1'; there is .*us-east-1"):
        grid_factor("us-esat-1")
    with pytest.raises(InvalidInput, match="FR, US, WORLD"):
        grid_factor("§")


def test_the_region_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEELYARD_REGION", raising=False)
    assert named_region(None) is None
    monkeypatch.setenv("STEELYARD_REGION", "SE")
    assert named_region(None) == "SE"
    assert named_region("FR") == "FR"


def test_the_grid_begins_with_the_region_itself() -> None:
    found = grid("FR")
    assert found[0].region == "FR"
    assert [f.region for f in found].count("FR") == 1
    assert grid("us-east-1")[0].name == "N. Virginia (AWS)"


def test_carbon_is_energy_times_factor_and_holds_both_doubts() -> None:
    rng = np.random.default_rng(0)
    energy = Sample(
        quantity="energy_j", unit="J", values=3.6e6 * np.exp(0.4 * rng.standard_normal(4000)), provenance="modelled"
    )
    found, factor = carbon(energy, "FR"), grid_factor("FR")
    assert found.value == pytest.approx(factor.g_per_kwh, rel=0.03)
    assert found.provenance == "modelled"
    # log-normals multiply: variances of the logs add (the factor's halves are all but alike)
    spread = np.log(found.values).std()
    factor_spread = np.log(factor.high / factor.low) / (2 * 1.645)
    assert spread == pytest.approx(np.hypot(0.4, factor_spread), rel=0.05)
    assert "44" not in found.note
    assert "France, 2024" in found.note


def test_two_models_on_one_grid_share_its_factor_and_two_grids_do_not() -> None:
    one, two = (Sample(quantity="energy_j", unit="J", values=np.array([e])) for e in (1.0, 2.0))
    assert carbon(two, "FR").values / carbon(one, "FR").values == pytest.approx(np.full(4000, 2.0))
    across = np.corrcoef(np.log(carbon(one, "FR").values), np.log(carbon(one, "SE").values))[0, 1]
    assert abs(across) < 0.1


def test_carbon_of_what_is_no_energy_is_refused() -> None:
    with pytest.raises(InvalidInput, match="latency_s in s"):
        carbon(Sample(quantity="latency_s", unit="s", values=np.ones(3)), "FR")


# --- by hour ---------------------------------------------------------------------------------------------

MIDNIGHT = datetime(2026, 1, 31, tzinfo=UTC)


def forecast(values: list[float], step_s: float = 3600) -> Forecast:
    starts = MIDNIGHT.timestamp() + step_s * np.arange(len(values) + 1)
    return Forecast(starts=starts, g_per_kwh=np.array(values))


@given(
    values=st.lists(st.integers(1, 900), min_size=3, max_size=12),
    minutes=st.integers(1, 100),
    within=st.integers(110, 700),
)
@settings(max_examples=60, deadline=None)
def test_no_minute_is_better_than_the_best_start(values: list[int], minutes: int, within: int) -> None:
    made = forecast([float(v) for v in values])
    within_s = min(within, 60 * len(values)) * 60
    found = best_start(made, 60 * minutes, now=MIDNIGHT, within_s=within_s)
    by_minute = np.repeat(values, 60).astype(float)
    starts = range(within_s // 60 - minutes + 1)
    means = [by_minute[s : s + minutes].mean() for s in starts]
    assert found.g_per_kwh == pytest.approx(min(means), rel=1e-9)
    assert found.at_once_g_per_kwh == pytest.approx(means[0])
    assert MIDNIGHT <= found.time <= MIDNIGHT + timedelta(seconds=within_s - 60 * minutes)


def test_a_flat_forecast_begins_at_once_and_saves_nothing() -> None:
    found = best_start(forecast([200.0] * 5), 3600, now=MIDNIGHT)
    assert found.time == MIDNIGHT
    assert found.saved == 0


def test_work_that_does_not_fit_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"work of 3 h does not fit into the 2 h"):
        best_start(forecast([1.0] * 5), 3 * 3600, now=MIDNIGHT, within_s=2 * 3600)
    with pytest.raises(InvalidInput, match="does not fit into the 0 h"):
        best_start(forecast([1.0] * 5), 60, now=MIDNIGHT + timedelta(days=2))


def test_forecasts_are_read_from_both_forms_and_time_zones(tmp_path: Path) -> None:
    csv, js = tmp_path / "f.csv", tmp_path / "f.json"
    csv.write_text("time,g_per_kwh,note\n2026-01-31T01:00+01:00,210,a\n2026-01-31 01:00,90.5,b\n")
    js.write_text(
        json.dumps([{"time": "2026-01-31T00:00Z", "g_per_kwh": 210}, {"time": "2026-01-31T01:00", "g_per_kwh": 90.5}])
    )
    for path in (csv, js):
        found = read_forecast(path)
        assert found.starts == pytest.approx(MIDNIGHT.timestamp() + np.array([0, 3600, 7200]))
        assert found.g_per_kwh.tolist() == [210, 90.5]


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("f.csv", "time,grams\n2026-01-31,1\n2026-02-01,1\n", "columns time and g_per_kwh"),
        ("f.csv", "time,g_per_kwh\n2026-01-31,1\n", "two are needed"),
        ("f.csv", "time,g_per_kwh\n2026-01-31,1\n2026-01-30,1\n", "entry 2 is not later"),
        ("f.csv", "time,g_per_kwh\n2026-01-31,1\n2026-02-01,-4\n", "entry 2 has -4"),
        ("f.csv", "time,g_per_kwh\nyesterday,1\n", "entry 1 cannot be read"),
        ("f.json", "{", "cannot read the forecast"),
        ("f.json", '{"a": 1}', "a list of objects"),
    ],
)
def test_damaged_forecasts_name_the_entry_and_the_cure(tmp_path: Path, name: str, text: str, words: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(InvalidInput, match=words):
        read_forecast(path)
    with pytest.raises(InvalidInput, match="cannot read"):
        read_forecast(tmp_path / "none.csv")
