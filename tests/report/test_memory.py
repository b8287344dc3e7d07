"""The stack of memory and the machine's row of readings, against numbers made up for it."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from rich.console import Console

from steelyard.records import Measurement, RunRecords, Sample, Unavailable
from steelyard.report import text
from steelyard.report.charts import memory as chart
from steelyard.report.memory import machine_flags, machine_gaps, machine_rows, stack_words, stacks

ROLES = {"weights": 47e6, "activations": 7e6, "workspace": 4e6, "runtime": 87e6, "freed": 5e6}


def _role(role: str, size: float, batch: int) -> Sample:
    return _sample("memory_role_bytes", "byte", [size], role=role, batch=batch)


def _sample(quantity: str, unit: str, values: list[float], *, times: bool = False, **conditions: str | int) -> Sample:
    axis = np.arange(float(len(values))) if times else None
    return Sample(quantity=quantity, unit=unit, values=np.array(values), conditions=conditions, times_s=axis)


def _measured(*readings: Sample | Unavailable) -> Measurement:
    return Measurement(subject="", environment=None, readings=readings)  # type: ignore[arg-type]


def _with_peak(peak: float, batch: int = 1) -> Measurement:
    roles = [_role(role, size, batch) for role, size in ROLES.items()]
    return _measured(*roles, _sample("memory_peak_bytes", "byte", [peak], batch=batch))


@pytest.mark.parametrize(
    ("peak", "adds_up", "words"),
    [
        (150e6, True, "the roles add up: 0 B (0.0% of the peak)"),
        (157e6, True, "the roles add up: 7.00 MB (4.5% of the peak) that no role explains"),
        (160e6, False, "THE ROLES DO NOT ADD UP: 10.0 MB (6.2% of the peak) that no role explains"),
        (140e6, False, "THE ROLES DO NOT ADD UP: 10.0 MB (7.1% of the peak) more than was resident"),
    ],
)
def test_the_stack_says_how_well_it_meets_the_peak(peak: float, adds_up: bool, words: str) -> None:
    (stack,) = stacks(_with_peak(peak))
    assert stack.adds_up is adds_up
    assert stack.total == 150e6
    assert stack.unattributed == peak - 150e6
    assert stack_words(stack).startswith(words)


def test_a_role_and_a_peak_that_could_not_be_read_say_why() -> None:
    missing = Unavailable(
        quantity="memory_role_bytes", reason="no arena", conditions={"role": "activations", "batch": 2}
    )
    (stack,) = stacks(_measured(_role("weights", 5e6, 2), missing))
    assert stack.roles["activations"] == missing
    assert stack.total == 5e6
    assert stack.adds_up is None
    assert "not measured in this run" in stack_words(stack)


def test_a_process_that_failed_has_no_stack() -> None:
    assert stacks(_measured(Unavailable(quantity="memory_role_bytes", reason="crash"))) == ()
    assert text.memory_table(_measured()) is None
    assert text.machine_table(_measured()) is None


WATCHED = (
    _sample("core_busy_fraction", "fraction", [0.5, 1.0], times=True, core="0"),
    _sample("core_busy_fraction", "fraction", [0.25, 0.75], times=True, core="1"),
    _sample("clock_hz", "Hz", [3e9, 3e9, 3e9, 2.7e9, 2.7e9, 2.7e9], times=True),
    _sample("steal_fraction", "fraction", [0.0, 0.06], times=True),
    _sample("gpu_slowed", "fraction", [0, 1, 1, 1], times=True, gpu=0),
    _sample("throttled_s", "s", [0.25]),
    Unavailable(quantity="temperature_c", reason="no sensor"),
)


def test_cores_are_summed_and_what_is_missing_is_named() -> None:
    rows = {name: (mean, span) for name, mean, span in machine_rows(_measured(*WATCHED))}
    assert rows["Cores busy, the whole machine"] == ("1.25 cores", "0.750 cores to 1.75 cores")
    assert rows["Processor clock"] == ("2.85 GHz", "2.70 GHz to 3.00 GHz")
    assert "Processor temperature" not in rows
    assert machine_gaps(_measured(*WATCHED)) == ("Processor temperature: unavailable, no sensor.",)


def test_reasons_to_doubt_the_times_are_named() -> None:
    assert machine_flags(_measured(*WATCHED)) == (
        "Processor clock fell by 10%",
        "steal 3.0%",
        "GPU 0 slowed by its driver for 75% of the run",
        "held back by a CPU quota for 250 ms",
    )
    calm = [_sample("clock_hz", "Hz", [3e9, 2.9e9, 2.9e9], times=True), _sample("throttled_s", "s", [0.0])]
    assert machine_flags(_measured(*calm)) == ()


def test_the_terminal_shows_both_tables() -> None:
    console = Console(width=100, record=True, file=None, force_terminal=False)
    measured = dataclasses.replace(_with_peak(152e6), readings=(*_with_peak(152e6).readings, *WATCHED))
    with console.capture() as shown:
        console.print(text.memory_table(measured))
        console.print(text.machine_table(measured))
    for words in (
        "weights, packed copies included",
        "47.0 MB",
        "peak by the kernel's count",
        "152 MB",
        "Take the times",
    ):
        assert words in shown.get()


def test_the_chart_stacks_the_roles_of_every_batch(runs: dict[str, RunRecords]) -> None:
    records = runs["benchmark"]
    assert records.baseline is not None
    readings = (*records.baseline.readings, *_with_peak(150e6).readings, *_with_peak(170e6, 8).readings)
    drawn = chart(dataclasses.replace(records, baseline=dataclasses.replace(records.baseline, readings=readings)))
    assert drawn is not None
    (rows,) = drawn.to_dict()["datasets"].values()
    assert {row["part"] for row in rows} == set(ROLES)
    assert len({row["model"] for row in rows}) == 2
    assert max(row["high"] for row in rows) == pytest.approx(150.0)
