"""What several processes sent and gained, against the figures written out."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from steelyard.records import Contract, Environment, Estimate, Sample, SubjectSpec, TrainingRun, Unavailable
from steelyard.report import together

HOST = Environment(
    machine="f00", cpu="a processor", cores=2, memory_bytes=2**34, instruction_sets=(), accelerators=(), platform="Linux",
    python="3.11", packages={}, time="2026-01-01T00:00:00+00:00",
)  # fmt: skip
WHERE = {"processes": 2, "spread": "data"}


def sample(quantity: str, unit: str, *values: float) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=np.array(values), conditions=WHERE)


RUN = TrainingRun(
    spec=SubjectSpec(source="m.py"), contract=Contract(shape=(4,)), recipe={"seed": 0}, environment=HOST, version="0",
    loss=np.ones(4), learning_rate=np.ones(4), step_s=np.array([0.1, 0.1, 0.1, 0.1]), wait_s=np.zeros(4),
    examples=np.full(4, 8), steps_per_epoch=2, ended="done",
    readings=(
        sample("sent_bytes", "byte", 4e6, 4e6, 4e6, 4e6), sample("sending_s", "s", 0.02, 0.02, 0.01, 0.03),
        sample("step_alone_s", "s", 0.18, 0.19, 0.2), sample("step_together_s", "s", 0.1, 0.1, 0.1),
    ),
)  # fmt: skip


def test_efficiency_is_the_speedup_over_the_processes() -> None:
    fast, efficient = together.speedup(RUN), together.efficiency(RUN)
    assert isinstance(fast, Estimate)
    assert isinstance(efficient, Estimate)
    logs = np.log([1.8, 1.9, 2.0])
    half = stats.t.ppf(0.975, 2) * logs.std(ddof=1) / np.sqrt(3)
    assert (fast.value, fast.low, fast.high) == pytest.approx(
        np.exp([logs.mean(), logs.mean() - half, logs.mean() + half])
    )
    assert (efficient.value, efficient.low, efficient.high) == pytest.approx(
        (fast.value / 2, fast.low / 2, fast.high / 2)
    )


def test_the_lines_say_bytes_share_and_gain() -> None:
    sent, gained = together.lines(RUN)
    assert together.sending_share(RUN) == pytest.approx(0.2)
    assert sent == "2 processes: each sends 4.00 MB of gradients a step, 20.0 % of the time"
    assert gained.startswith("2 processes step 1.90x")
    assert "efficiency 94.9 %" in gained


def test_the_document_has_the_same_figures() -> None:
    found = together.together_json(RUN)
    assert found is not None
    assert (found["processes"], found["sent_bytes_a_step"]) == (2, 4e6)
    bare = dataclasses.replace(RUN, readings=RUN.readings[:2])
    assert "--scaling" in str(together.together_json(bare))


def test_one_process_has_nothing_to_say() -> None:
    assert together.together_json(dataclasses.replace(RUN, readings=())) is None
    alone = dataclasses.replace(RUN, readings=())
    assert together.lines(alone) == ()
    assert isinstance(together.efficiency(alone), Unavailable)
