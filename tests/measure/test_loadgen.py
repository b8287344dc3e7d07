"""LoadGen's clock and count against ours, with a model that does nothing but sleep."""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.measure.loadgen import SCENARIOS, Driven, Scenario, check_loadgen, drive, read_log, readings, ruling
from steelyard.records import Sample

SLEEP_S = 0.01


def driven(scenario: Scenario, folder: Path) -> tuple[Driven, list[int]]:
    pytest.importorskip("mlperf_loadgen")
    sizes: list[int] = []

    def call(indices) -> None:
        sizes.append(len(indices))
        time.sleep(SLEEP_S)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return drive(call, scenario, folder), sizes


@pytest.mark.parametrize("name", list(SCENARIOS))
def test_every_scenario_is_answered_and_counted(name, tmp_path, capfd):
    scenario = Scenario(name=name, seconds=0.3, callers=2, batch=4, rate_per_s=60, streams=3)
    made, sizes = driven(scenario, tmp_path)
    assert len(made.latency_s) == len(sizes)
    assert max(sizes) == {"multi-stream": 3, "offline": 4}.get(name, 1)
    queries = made.results["result_query_count"]
    assert queries == (1 if name == "offline" else len(sizes))
    assert (made.latency_s >= SLEEP_S).all()
    assert (tmp_path / "mlperf_log_summary.txt").exists()
    assert capfd.readouterr() == ("", "")


def test_the_mean_latency_is_the_sleep(tmp_path):
    """Both clocks: at least the sleep, the two means within a fifth of it, and as far above it as they agree on."""
    made, _ = driven(Scenario(name="single-stream", seconds=0.6), tmp_path)
    found = {r.conditions.get("statistic"): r.value for r in readings(Scenario(name="single-stream", seconds=1), made)}
    assert found["mean"] >= SLEEP_S
    assert found["min"] == pytest.approx(made.latency_s.min(), abs=2e-3)
    assert abs(found["mean"] - made.latency_s.mean()) < 0.2 * SLEEP_S


def test_readings_carry_the_ruling(tmp_path):
    scenario = Scenario(name="single-stream", seconds=0.1)
    made, sizes = driven(scenario, tmp_path)
    found = {(r.quantity, r.conditions.get("statistic")): r for r in readings(scenario, made)}
    own = found["scenario_latency_s", None]
    assert isinstance(own, Sample)
    assert own.values.size == len(sizes)
    assert "INVALID" in own.note
    assert "queries" in own.note
    assert found["scenario_valid", None].value == 0.0
    assert found["scenario_per_s", None].value == pytest.approx(made.results["result_qps_without_loadgen_overhead"])


def test_a_model_that_fails_is_told_and_nothing_hangs(tmp_path):
    pytest.importorskip("mlperf_loadgen")

    def call(indices) -> None:
        raise InvalidInput("the model's outputs hold NaN or infinity")

    with pytest.raises(InvalidInput, match="NaN"):
        drive(call, Scenario(name="server", seconds=0.1, rate_per_s=50), tmp_path)


def test_multi_stream_counts_samples_a_second():
    results = {"result_validity": "VALID", "result_mean_latency_ns": 40e6, "result_50.00_percentile_latency_ns": 39e6}
    made = Driven(results=results, latency_s=np.array([0.04]), version="6.0")
    found = {
        (r.quantity, r.conditions.get("statistic")): r for r in readings(Scenario(name="multi-stream", seconds=1), made)
    }
    assert found["scenario_per_s", None].value == 200.0
    assert found["loadgen_latency_s", "p50"].value == 0.039
    assert ruling(results) == "VALID"


def test_a_log_is_read_line_by_line(tmp_path):
    log = tmp_path / "detail.txt"
    log.write_text(':::MLLOG {"key": "a", "value": 1}\nnoise\n:::MLLOG {"key": "a", "value": 2}\n')
    assert read_log(log) == {"a": 2}
    with pytest.raises(InvalidInput, match="cannot read LoadGen's log"):
        read_log(tmp_path / "none.txt")


def test_without_loadgen_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingExtra, match=r"steelyard\[load\]"):
        check_loadgen()
