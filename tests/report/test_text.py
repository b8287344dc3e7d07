"""What the terminal shows, and the JSON summary."""

from __future__ import annotations

import json
from types import ModuleType

import numpy as np
import pytest
from rich.console import Console

from steelyard.records import Comparison, Estimate, RunRecords, Sample
from steelyard.report import derive, text


def shown(*renderables: object, width: int = 160) -> str:
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123
    try:
        console.print(*renderables)
        return console.export_text()
    finally:
        console.file.close()


def test_summary_names_the_interval_of_every_number(example: ModuleType, runs: dict[str, RunRecords]) -> None:
    alone = RunRecords(run=runs["full"].run, baseline=runs["full"].baseline)
    out = shown(text.summary_table(alone, example.estimates()))
    for expected in ("95 % Wilson, n = ", "95 % order statistics, n = 600", "exact", "modelled: 5-95 % of 500 draws"):
        assert expected in out


def test_two_models_fit_a_terminal(example: ModuleType, runs: dict[str, RunRecords]) -> None:
    out = shown(text.summary_table(runs["full"], example.estimates()), width=80)
    assert "3.93x smaller" in " ".join(out.split())
    assert "95 % intervals" in out
    assert "…" not in out


def test_missing_is_said_and_never_zero(example: ModuleType, runs: dict[str, RunRecords]) -> None:
    full = runs["full"]
    trial = derive.trial_of(full, example.OV_FP32)
    assert trial is not None
    assert trial.after is not None
    out = shown(text.measurement_table(trial.after))
    assert "unavailable: no counter on this host" in out
    assert "Energy per inference" in out


def test_a_percentile_that_n_cannot_bound_is_refused(example: ModuleType) -> None:
    rng = np.random.default_rng(1)
    few = Sample(quantity="latency_s", unit="s", values=rng.lognormal(size=50))
    assert derive.latency_percentile(few, 0.99) is None
    median = derive.latency_percentile(few, 0.5)
    assert median is not None
    assert median.low <= median.value <= median.high


def test_arm_ratio_is_the_t_interval_on_log_ratios_of_rounds() -> None:
    from scipy import stats

    rng = np.random.default_rng(2)
    seconds = rng.lognormal(0, 0.1, (6, 9, 2)) * np.array([1.0, 0.5])
    order = np.zeros(seconds.shape, dtype=np.int32)
    got = derive.arm_ratio(Comparison(arms=("baseline", "x"), batch=1, seconds=seconds, order=order), 1)
    logs = np.median(np.log(seconds[:, :, 1] / seconds[:, :, 0]), axis=1)
    low, high = stats.t.interval(0.95, 5, logs.mean(), stats.sem(logs))
    assert (got.value, got.low, got.high) == pytest.approx(np.exp([logs.mean(), low, high]))


def test_one_round_bounds_nothing() -> None:
    seconds = np.array([[[1.0, 0.5]]])
    got = derive.arm_ratio(
        Comparison(arms=("baseline", "x"), batch=1, seconds=seconds, order=np.zeros((1, 1, 2), dtype=np.int32)), 1
    )
    assert (got.value, got.low, got.high) == (0.5, 0.0, float("inf"))


def test_verdict_lines_of_each_ending(runs: dict[str, RunRecords]) -> None:
    assert text.verdict_lines(runs["full"]).plain.count("met ") >= 3
    nothing = text.verdict_lines(runs["nothing_passed"]).plain
    assert "needs about 2,600 more test examples" in nothing
    assert "measured unavailable" in nothing
    assert "the folder holds the baseline" in nothing
    assert "resumes where it stood" in text.verdict_lines(runs["interrupted"]).plain
    assert "no requirement was judged" in text.verdict_lines(runs["benchmark"]).plain


def test_trials_are_listed_fastest_first_and_refusals_with_their_reason(
    example: ModuleType, runs: dict[str, RunRecords]
) -> None:
    out = shown(text.trials_table(runs["full"]), text.refusals_table(runs["full"]))
    assert out.index("openvino_int8") < out.index("openvino_fp32") < out.index("bf16")
    assert "will not help here" in out


@pytest.mark.parametrize("kind", ["full", "interrupted", "benchmark", "nothing_passed"])
def test_json_summary_is_strict_json(example: ModuleType, runs: dict[str, RunRecords], kind: str) -> None:
    summary = text.summary_json(runs[kind], example.estimates())
    again = json.loads(json.dumps(summary, allow_nan=False))
    assert again == summary
    assert summary["exit_status"] == {"full": 0, "nothing_passed": 3}.get(kind)


def test_json_summary_gives_base_units(example: ModuleType, runs: dict[str, RunRecords]) -> None:
    summary = text.summary_json(runs["full"], example.estimates())
    assert summary["chosen"] == "openvino_int8(preset=mixed)"
    assert summary["latency_ratio"]["value"] == pytest.approx(0.155, rel=0.03)
    stored = next(r for r in summary["after"]["readings"] if r["quantity"] == "stored_bytes")
    assert stored["median"] == 11.4e6


def test_accuracy_drop_stays_open_where_nothing_changed(example: ModuleType) -> None:
    made = example.predictions(None, "test")
    drop = derive.accuracy_drop(made, made)
    assert isinstance(drop, Estimate)
    z2 = 1.959964**2
    assert drop.value == 0
    assert drop.high == pytest.approx(z2 / (made.labels.size + z2), rel=1e-3)
