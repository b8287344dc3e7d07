"""The Python face: words to jobs, and what comes back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import steelyard
import tiny_models
from steelyard import api
from steelyard.api.words import run_folder
from steelyard.errors import InvalidInput
from steelyard.pipeline import benchmark
from steelyard.records import Sample


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        ("90", 90), ("90s", 90), ("10m", 600), ("1h", 3600), ("1h30m", 5400), ("1h1m1s", 3661), ("0.5m", 30),
        (" 5s ", 5), (2.5, 2.5), (7, 7),
    ],
)  # fmt: skip
def test_budgets_are_read(words: str | float, seconds: float) -> None:
    assert api.parse_budget(words) == seconds


@pytest.mark.parametrize("words", ["", "fast", "10 parsecs", "m", "1m1h", "-5s", "1.2.3s", "nan", "inf", "5 m 3"])
def test_words_that_are_no_time_are_refused_with_examples(words: str) -> None:
    with pytest.raises(InvalidInput, match="write 90s, 10m, 1h or 1h30m"):
        api.parse_budget(words)


@pytest.mark.parametrize("words", [0, "0s", -1.0, float("nan"), float("inf")])
def test_a_budget_is_more_than_nothing(words: str | float) -> None:
    with pytest.raises(InvalidInput, match="more than nothing"):
        api.parse_budget(words)


@given(st.integers(0, 99), st.integers(0, 99), st.integers(1, 99))
def test_hours_minutes_and_seconds_add_up(hours: int, minutes: int, seconds: int) -> None:
    assert api.parse_budget(f"{hours}h{minutes}m{seconds}s") == 3600 * hours + 60 * minutes + seconds


@pytest.mark.parametrize(
    ("source", "folder"),
    [
        ("models/mine.py:net", "runs/mine"),
        ("mine.py", "runs/mine"),
        ("torchvision:resnet18", "runs/resnet18"),
        ("zoo/resnet18.onnx", "runs/resnet18"),
        (Path("zoo/ir.xml"), "runs/ir"),
    ],
)
def test_a_run_without_a_name_gets_the_subjects(source: str | Path, folder: str) -> None:
    assert run_folder(source, None, "") == Path(folder)
    assert run_folder(source, None, "-benchmark") == Path(f"{folder}-benchmark")
    assert run_folder(source, "here", "") == Path("here")


@pytest.mark.parametrize("batches", [(), (0,), (1, -2)])
def test_batch_sizes_are_one_or_more(batches: tuple[int, ...]) -> None:
    with pytest.raises(InvalidInput, match="batch sizes must be 1 or more"):
        api.benchmark("m.onnx", batches=batches)


def test_a_requirement_that_does_not_parse_is_met_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="latency < fast"):
        api.optimize("m.onnx", require=["latency < fast"], out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_holds_no_model_is_refused(tmp_path: Path) -> None:
    for call in (api.load, api.verify_folder):
        with pytest.raises(InvalidInput, match="holds no Steelyard artifact"):
            call(tmp_path)
    with pytest.raises(InvalidInput, match="holds no run"):
        api.render_report(tmp_path)


def test_every_public_name_is_there_and_loaded_only_when_used() -> None:
    assert all(getattr(steelyard, name) is not None for name in steelyard.__all__)
    assert set(dir(steelyard)) == set(steelyard.__all__)
    with pytest.raises(AttributeError, match="no attribute 'optimise'"):
        _ = steelyard.optimise
    program = "import sys, steelyard; sys.exit(any(m in sys.modules for m in ('numpy', 'torch', 'scipy', 'click')))"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


@pytest.mark.slow
def test_a_benchmark_needs_no_data_and_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tiny_models.write_onnx(tmp_path / "tiny.onnx", batch=1)
    told: list[str] = []
    for _ in range(2):  # the second replaces the first
        result = api.benchmark(
            source, batches=(1, 2), budget="1s", out=tmp_path / "out", progress=lambda what, _: told.append(what)
        )
        peaks = result.records.run.peaks
        monkeypatch.setattr(benchmark, "measure_peaks", lambda _, peaks=peaks: peaks)  # seconds that once is enough for
    records = result.records
    assert not result.met
    assert records.run.warnings == ("timed on made-up inputs: no data was given",)
    assert records.outcome is None
    assert records.baseline is not None
    assert records.baseline.predictions == ()
    for quantity in ("latency_s", "throughput_per_s", "macs", "parameters", "load_s", "memory_loaded_bytes"):
        assert all(isinstance(s, Sample) for s in records.baseline.all(quantity))
        assert records.baseline.all(quantity), quantity
    assert records.findings
    assert result.report.is_file()
    assert "measuring: throughput" in told


def test_charts_of_an_evaluation_are_calls_that_return_them(tmp_path: Path) -> None:
    rows = "\n".join(f"{i % 2},{0.1 + 0.08 * ((7 * i) % 10)}" for i in range(60))
    (tmp_path / "p.csv").write_text(f"y,p\n{rows}\n")
    result = steelyard.evaluate(tmp_path / "p.csv", out=tmp_path / "out", fail_under=("accuracy=0.99",))
    assert not result.passed
    assert result.chart("roc").to_dict()["title"]["text"]
    assert result.chart("robustness") is None
    assert result.metrics["models"][0]["n"] == 60
    assert isinstance(steelyard.render_report(tmp_path / "out"), api.Evaluated)
    with pytest.raises(InvalidInput, match="there is no chart 'rock'; there are"):
        result.chart("rock")
    with pytest.raises(InvalidInput, match="evaluate has no 'lable'"):
        steelyard.evaluate(tmp_path / "p.csv", lable="y")


def test_no_public_name_is_hidden_by_a_room_once_that_is_imported() -> None:
    """Importing `steelyard.report` binds the room to that name, so no function may bear it."""
    for room in (p.name for p in Path(steelyard.__file__).parent.iterdir() if p.is_dir() or p.suffix == ".py"):
        assert Path(room).stem not in steelyard.__all__
