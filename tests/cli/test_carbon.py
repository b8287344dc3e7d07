"""`steelyard carbon` on a run written by hand, and what it says where it cannot answer."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from steelyard import carbon
from steelyard.errors import InvalidInput
from steelyard.probe.carbon import grid
from steelyard.probe.host import environment
from steelyard.records import Contract, Measurement, Run, Sample, SubjectSpec, Unavailable
from steelyard.store import RunFolder

CALL_S, ENERGY_J = 0.01, 0.36


@pytest.fixture(autouse=True)
def no_region(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STEELYARD_REGION", raising=False)


def run_folder(path: Path, *, region: str | None = None, energy: bool = True) -> Path:
    host, at = environment(()), {"batch": 1}
    draws = ENERGY_J * np.exp(0.4 * np.random.default_rng(0).standard_normal(4000))
    known = (
        Sample(quantity="energy_j", unit="J", values=draws, conditions=at, provenance="modelled"),
        Sample(quantity="energy_call_s", unit="s", values=np.array([CALL_S]), conditions=at),
    )
    missing = (Unavailable(quantity="energy_j", reason="no published figures for 'riscv'", conditions=at),)
    run = Run(
        command="benchmark",
        spec=SubjectSpec(source="m.onnx"),
        contract=Contract(shape=(4,), layout="F"),
        requirements=(),
        budget_s=1.0,
        environment=host,
        grid=() if region is None else grid(region),
    )
    with RunFolder(path) as folder:
        folder.append(run)
        folder.append(Measurement(subject="x", environment=host, readings=known if energy else missing))
    return path


def test_a_million_inferences_here_and_elsewhere(steelyard, tmp_path: Path) -> None:
    ran = steelyard("carbon", str(run_folder(tmp_path / "run", region="FR")), "--json")
    found = json.loads(ran.out)
    assert ran.status == 0
    assert found["inferences"] == 1_000_000
    assert found["seconds"] == pytest.approx(1e4)
    assert found["energy"]["value"] == pytest.approx(3.6e5, rel=0.05)  # 0.1 kWh
    france = next(row for row in found["grids"] if row["region"] == "FR")
    assert france["total"]["value"] == pytest.approx(4.4, rel=0.05)
    assert france["ratio"] is None
    assert next(row for row in found["grids"] if row["region"] == "PL")["ratio"]["value"] == pytest.approx(
        615 / 44, rel=0.03
    )
    assert found["begin"] is None


def test_the_words_name_the_region_the_label_and_the_hour(steelyard, tmp_path: Path) -> None:
    hours = [datetime.now(UTC).replace(minute=0, second=0, microsecond=0) + timedelta(hours=h) for h in range(12)]
    clean = hours[5]
    forecast = tmp_path / "forecast.csv"
    rows = [f"{hour.isoformat()},{50 if hour == clean else 400}" for hour in hours]
    forecast.write_text("\n".join(["time,g_per_kwh", *rows]) + "\n")
    folder = run_folder(tmp_path / "run")
    ran = steelyard(
        "carbon",
        str(folder),
        "--region",
        "us-east-1",
        "--inferences",
        "360000",
        "--forecast",
        str(forecast),
        "--within",
        "10h",
    )
    assert ran.status == 0
    assert "360,000 inferences of baseline" in ran.out
    assert "modelled: 5-95 % of 4,000 draws" in ran.out
    assert "N. Virginia (AWS)" in ran.out
    assert f"{clean:%Y-%m-%d %H:%M} UTC: 50 g/kWh instead of 400 at once, 88% less carbon" in ran.out


@pytest.mark.parametrize(
    ("energy", "words", "message"),
    [
        (True, (), "name the region whose grid powers the machine: --region FR"),
        (True, ("--region", "Frankreich"), "no grid factor for the region 'Frankreich'"),
        (False, ("--region", "FR"), "no published figures for 'riscv'"),
        (True, ("--region", "FR", "--forecast", "none.csv"), "cannot read the forecast none.csv"),
    ],
)
def test_what_it_cannot_answer_is_one_line(steelyard, tmp_path: Path, energy: bool, words, message: str) -> None:
    ran = steelyard("carbon", str(run_folder(tmp_path / "run", energy=energy)), *words)
    assert ran.status == 2
    assert message in ran.message


def test_an_unknown_region_is_refused_before_anything_runs(steelyard, tmp_path: Path) -> None:
    ran = steelyard("benchmark", "no-such-file.onnx", "--region", "Atlantis", "--out", str(tmp_path / "out"))
    assert ran.status == 2
    assert "no grid factor for the region 'Atlantis'" in ran.message
    assert not (tmp_path / "out").exists()


def test_the_function_takes_joules_or_a_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    assert carbon(3.6e6, region="FR").value == pytest.approx(44, rel=0.02)
    with pytest.raises(InvalidInput, match="STEELYARD_REGION"):
        carbon(1.0)
    monkeypatch.setenv("STEELYARD_REGION", "se")
    reading = Sample(quantity="energy_j", unit="J", values=np.array([3.6e6]), provenance="modelled")
    found = carbon(dataclasses.replace(reading, conditions={"batch": 1}))
    assert found.conditions == {"batch": 1, "region": "SE"}
    assert found.value == pytest.approx(36, rel=0.02)


def test_doctor_says_plainly_where_there_is_nothing_to_fit_to(steelyard) -> None:
    from steelyard.probe.energy import EnergyCounters, read_counters

    if isinstance(read_counters(), EnergyCounters):
        pytest.skip("this host has an energy counter")
    ran = steelyard("doctor", "--fit-energy", "--budget", "30s")
    assert ran.status == 2
    assert "cannot fit a model of power: no energy counter on this host" in ran.message
    assert "energies stay modelled" in ran.message
