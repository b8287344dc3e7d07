"""What a benchmark is asked, checked before anything is measured; and one small benchmark under load."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tiny_models
from steelyard.api import benchmark
from steelyard.errors import InvalidInput, MissingExtra, WorkerFailed
from steelyard.measure.sweep import CellFailed, SweepSettings
from steelyard.pipeline import asked as room
from steelyard.pipeline import benchmark as pipeline
from steelyard.pipeline.asked import Asked, ask
from steelyard.records import Sample, Unavailable


def asked(**words: Any) -> Asked:
    usual: dict[str, Any] = {
        "batches": [1, 2], "concurrency": [1], "percentiles": [50, 99], "scenarios": [], "target": None, "stress": False
    }  # fmt: skip
    return ask(**(usual | words))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"batches": []}, "batch sizes must be 1 or more"),
        ({"batches": [0, 1]}, "batch sizes must be 1 or more"),
        ({"concurrency": [0]}, "between 1 and 256"),
        ({"concurrency": [257]}, "between 1 and 256"),
        ({"percentiles": [100]}, "between 0 and 100"),
        ({"percentiles": []}, "between 0 and 100"),
        ({"scenarios": ["sever"]}, "MLPerf has single-stream, multi-stream, server, offline"),
        ({"target": "p99 <= 0.5x"}, "'p99 <= 35 ms'"),
        ({"target": "accuracy drop <= 1%"}, "'p99 <= 35 ms'"),
        ({"target": "size <= 10 MB"}, "'p99 <= 35 ms'"),
    ],
)
def test_what_cannot_be_read_is_refused(words: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "check_loadgen", lambda: None)
    with pytest.raises(InvalidInput, match=message.replace("(", r"\(")):
        asked(**words)


def test_scenarios_without_loadgen_name_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mlperf_loadgen", None)
    with pytest.raises(MissingExtra, match=r"steelyard\[load\]"):
        asked(scenarios=["server"])


def test_the_targets_percentile_is_shown_too() -> None:
    assert asked(target="p99.9 <= 80 ms").percentiles == (50.0, 99.0, 99.9)
    assert asked(target="latency <= 80 ms", percentiles=[90]).percentiles == (50.0, 90.0)


def test_the_words_repeat_the_command() -> None:
    assert Asked().words == ()
    given = asked(batches=[4, 1], concurrency=[2, 1], percentiles=[99.9], target="p99 <= 5 ms", stress=True)
    assert given.words == (
        "--batch", "1,4", "--concurrency", "1,2", "--percentiles", "99,99.9", "--target", "p99 <= 5 ms", "--stress"
    )  # fmt: skip


@pytest.mark.slow
def test_a_benchmark_under_load_reads_every_phase(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(pipeline, "measure_peaks", lambda _seconds: ())
    model = tiny_models.write_onnx(tmp_path / "m.onnx")
    scenarios = ["server"] if importlib.util.find_spec("mlperf_loadgen") else []
    told: list[tuple[str, float | None]] = []
    result = benchmark(
        model,
        batches=[1, 4],
        concurrency=[1, 2],
        scenarios=scenarios,
        target="p90 <= 5 s",
        stress=True,
        budget=2.0,
        out=tmp_path / "run",
        progress=lambda what, share: told.append((what, share)),
    )
    measured = result.records.baseline
    assert measured is not None
    for batch in (1, 4):
        assert isinstance(measured.get("throughput_per_s", batch=batch), Sample)
        assert isinstance(measured.get("throughput_per_s", batch=batch, concurrency=2), Sample)
    assert all(isinstance(measured.get("scenario_latency_s", scenario=name), Sample) for name in scenarios)
    assert measured.all("request_latency_s")
    assert isinstance(measured.get("load_s"), Sample)
    cold = next(r for r in measured.readings if r.quantity == "load_s" and r.conditions == {"cache": "cold"})
    assert isinstance(cold, Sample) or "the budget of 2 s did not reach it" in cold.reason or "in memory" in cold.reason
    limit = measured.get("latency_limit_s", percentile=90.0)
    assert isinstance(limit, Sample)
    assert limit.value == 5.0
    shares = [share for what, share in told if what.startswith("measuring") and share is not None]
    assert shares == sorted(shares)
    assert shares[-1] <= 1.0
    assert result.records.run.words[:2] == ("--batch", "1,4")


def test_a_batch_that_kills_the_process_costs_only_what_is_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch 8 dies, so 8 and 16 are lost, and 1 and 4 are swept by a fresh process."""
    visited: list[tuple[int, ...]] = []

    def scripted(child: object, settings: SweepSettings, on_pass: object) -> list[Sample]:
        visited.append(settings.batches)
        if 8 in settings.batches:
            raise CellFailed((8, 1), WorkerFailed("out-of-memory", "it held 9 GB"))
        return [Sample(quantity="throughput_per_s", unit="1/s", values=np.ones(1), conditions={"batch": 1})]

    class Fresh:
        def __enter__(self) -> Any:
            return self

        def __exit__(self, *_: object) -> None: ...

        def call(self, method: str, **words: object) -> None:
            assert method == "load"

    monkeypatch.setattr(pipeline, "sweep", scripted)
    monkeypatch.setattr(pipeline, "Child", lambda *_, **__: Fresh())
    bench = SimpleNamespace(
        job=SimpleNamespace(limits=None),
        log=None,
        prepared=SimpleNamespace(baseline=SimpleNamespace(folder="m"), inputs="i"),
    )
    found = pipeline._cells(bench, Fresh(), SweepSettings(batches=(1, 4, 8, 16)))  # type: ignore[arg-type]
    lost = [r for r in found if isinstance(r, Unavailable)]
    assert visited == [(1, 4, 8, 16), (1, 4)]
    assert [r.conditions["batch"] for r in lost] == [8, 16]
    assert lost[0].reason == "out-of-memory at batch 8: it held 9 GB"
    assert any(isinstance(r, Sample) for r in found)
