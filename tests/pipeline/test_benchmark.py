"""A benchmark keeps its budget: on a fake clock, with scripted phases whose costs are known."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gating_bench import HERE, sample
from steelyard.pipeline import benchmark as room
from steelyard.pipeline.asked import Asked
from steelyard.pipeline.budget import Budget
from steelyard.pipeline.job import Job
from steelyard.probe.clock import FakeClock
from steelyard.records import Measurement, Sample, SubjectSpec, Unavailable

CALL_S = 0.02
USUAL = Asked()


class Machine:
    """Processes take `start_s` to begin with a model loaded; phases take the time they are given."""

    def __init__(self, start_s: float, patch: pytest.MonkeyPatch) -> None:
        self.clock, self.start_s, self.told = FakeClock(), start_s, []
        for name in ("weigh_in", "sweep", "weigh_memory", "loading"):
            patch.setattr(room, name, getattr(self, name))
        patch.setattr(room, "Child", _Idle)

    def weigh_in(self, _child: Any, _artifact: Any, _inputs: Any, settings: Any, *, host: Any, on_step: Any) -> Any:
        on_step("loading")
        self.clock.sleep(self.start_s)
        on_step("timing")
        self.clock.sleep(settings.warm_s + settings.latency_s + 1.0)  # a second for operators and counts
        readings = (sample("latency_s", [CALL_S] * 9, batch=1), sample("load_s", self.start_s))
        return Measurement(subject="m", environment=host, readings=readings)

    def sweep(self, _child: Any, settings: Any, *, on_pass: Any) -> Any:
        self.clock.sleep(settings.seconds)
        on_pass(1.0)
        return [sample("throughput_per_s", b / CALL_S, "1/s", batch=b) for b in settings.batches]

    def weigh_memory(self, _artifact: Any, _inputs: Any, batches: Any, *, seconds: float, **_: Any) -> Any:
        self.clock.sleep(self.start_s + len(batches) * (seconds + 6 * CALL_S))
        return [sample("memory_role_bytes", 1e6, "byte", role="weights", batch=b) for b in batches]

    def loading(self, _artifact: Any, _inputs: Any, settings: Any, *, on_pair: Any, **_: Any) -> Any:
        pairs = max(1, min(settings.pairs, int(settings.seconds / (2 * self.start_s))))
        for pair in range(pairs):
            self.clock.sleep(2 * self.start_s)
            on_pair(pair + 1)
        return [sample("load_s", [self.start_s] * pairs, cache=cache) for cache in ("cold", "warm")]

    def benchmark(self, seconds: float, asked: Asked = USUAL) -> Measurement:
        """The last of what a benchmark of so many seconds yields."""
        self.clock = FakeClock()
        budget = Budget(seconds=seconds, parts=room._parts(asked), clock=self.clock)
        self.clock.sleep(min(room.MOST_CEILINGS_S, budget.take("ceilings")))
        bench = room._Bench(
            job=Job(spec=SubjectSpec(source="m"), out=Path("out"), budget_s=seconds), asked=asked, host=HERE,
            prepared=SimpleNamespace(baseline=None, inputs=None), budget=budget,  # type: ignore[arg-type]
            progress=budget.telling(lambda what, share: self.told.append((what, share))),
        )  # fmt: skip
        return list(room._measured(bench))[-1]

    @property
    def took_s(self) -> float:
        return self.clock.now_ns() / 1e9


class _Idle:
    alive = True

    def __init__(self, *_: object, **__: object) -> None: ...

    def __enter__(self) -> _Idle:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_a_model_that_starts_at_once_is_read_whole_within_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(0.4, monkeypatch)
    found = machine.benchmark(15.0)
    assert not [r for r in found.readings if isinstance(r, Unavailable)]
    pairs = found.get("load_s", cache="cold")
    assert isinstance(pairs, Sample)
    assert len(pairs.values) == 3
    assert 9.0 < machine.took_s <= 15.0 - room.REPORT_S
    shares = [share for _, share in machine.told]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(machine.took_s / 15.0, abs=0.01)


@pytest.mark.parametrize("start_s", [2.5, 4.0, 8.0])
def test_a_slow_start_leaves_out_what_does_not_fit_and_names_the_budget_that_would(
    start_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(start_s, monkeypatch)
    found = machine.benchmark(15.0)
    lost = found.get("load_s", cache="cold")
    assert isinstance(lost, Unavailable)
    assert found.get("load_s").value == start_s  # type: ignore[union-attr]  # the one reading that there is
    assert machine.took_s <= 15.0 + max(0.0, start_s - 4.0)  # what was asked for is read, in half its part at the least
    reason = re.fullmatch(r"the budget of 15 s did not reach it: give --budget (\d+)s", lost.reason)
    assert reason is not None
    enough = float(reason[1])
    whole = machine.benchmark(enough)
    assert isinstance(whole.get("load_s", cache="cold"), Sample)
    assert isinstance(whole.get("memory_role_bytes", batch=1, role="weights"), Sample)
    assert machine.took_s <= enough


def test_load_that_was_asked_for_takes_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(0.4, monkeypatch)
    seconds = []

    def stressed(_child: Any, _target: Any, _measured: Any, given: float, _say: Any) -> list[Sample]:
        seconds.append(given)
        machine.clock.sleep(given)
        return []

    monkeypatch.setattr(room, "under_stress", stressed)
    machine.benchmark(30.0, Asked(stress=True))
    assert seconds[0] == pytest.approx(30.0 * room.STRESS / (sum(room.PARTS.values()) + room.STRESS), rel=0.1)
    assert machine.took_s <= 30.0
