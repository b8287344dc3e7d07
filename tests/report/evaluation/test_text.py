"""What the terminal shows of an evaluation, and its plain JSON."""

from __future__ import annotations

import dataclasses
import io
import json
import math

import numpy as np
import pytest
from rich.console import Console

from report import example_evaluation as example
from steelyard.records import Evaluation
from steelyard.report.evaluation import text


def shown(*renderables: object, width: int = 100) -> str:
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(*renderables)
    return console.export_text()


def test_scores_name_value_interval_n_and_method(evaluations: dict[str, Evaluation]) -> None:
    out = shown(text.score_table(evaluations["binary"]))
    line = next(line for line in out.splitlines() if "Recall" in line)
    for expected in ("★", "81.3 %", "76.6-85.2", "310", "Wilson"):
        assert expected in line
    assert out.index("Recall") < out.index("Precision")
    assert "a missed illness" in out


def test_undefined_is_said_in_place_of_a_number(evaluations: dict[str, Evaluation]) -> None:
    assert "undefined: 3" in shown(text.score_table(evaluations["regression"]))
    assert "undefined: no examples" in shown(text.score_table(evaluations["nothing_defined"]))


def test_several_models_stand_side_by_side(evaluations: dict[str, Evaluation]) -> None:
    out = shown(text.score_table(evaluations["compared"]), width=110)
    assert "screening-v2" in out
    assert "screening-v3" in out
    value, interval = (
        next(i for i, line in enumerate(out.splitlines()) if w in line) for w in ("81.3 %", "(76.6-85.2)")
    )
    assert interval == value + 1  # the interval stands under its value, neither is broken


@pytest.mark.parametrize("kind", ["binary", "compared", "regression"])
def test_tables_fit_a_terminal_of_80_columns(evaluations: dict[str, Evaluation], kind: str) -> None:
    evaluation = evaluations[kind]
    out = shown(text.score_table(evaluation), text.slice_table(evaluation), text.difference_table(evaluation), width=80)
    assert max(map(len, out.splitlines())) <= 80
    assert "…" not in out


def test_differences_and_slices_carry_their_verdicts(evaluations: dict[str, Evaluation]) -> None:
    out = shown(text.difference_table(evaluations["compared"]), width=220)
    for expected in ("✓ better", "✗ worse", "? undecided", "= equivalent", "– undefined"):
        assert expected in out
    assert "McNemar, exact: p < 0.001" in text.difference_notes(evaluations["compared"]).plain
    out = shown(text.slice_table(evaluations["binary"]), width=140)
    for expected in ("(discovered)", "– too few", "16.40 points", "0.034"):
        assert expected in out


def test_damage_is_shown_by_severity(evaluations: dict[str, Evaluation]) -> None:
    evaluation = next(e for e in evaluations.values() if e.models and e.models[0].corrupted)
    model = evaluation.models[0]
    out = shown(text.robustness_table(evaluation, model))
    assert "clean" in out
    for name in {c.name for c in model.corrupted}:
        assert name.replace("_", " ") in out


def test_gate_lines_put_failures_first(evaluations: dict[str, Evaluation]) -> None:
    lines = text.gate_lines(evaluations["binary"]).plain.splitlines()
    assert lines[0] == "✗ broken    recall >= 0.9  measured 86.0 % (81.7-89.4)  fails the command"
    assert lines[-1] == "✓ met       auc >= 0.85  measured 91.0 % (89.0-92.7)"
    assert "undefined: no positives" in lines[2]


def test_notes_tell_what_to_beware_of(evaluations: dict[str, Evaluation]) -> None:
    out = text.notes(evaluations["binary"]).plain
    for expected in ("12 rows had no value", "threshold 0.210", "temperature 1.62", "judged on 4 times"):
        assert expected in out
    assert "nearly stand in train" in text.notes(evaluations["pictures"]).plain
    assert text.notes(evaluations["bare"]).plain == ""


def test_words_from_a_file_cannot_steer_the_terminal() -> None:
    whole = example.compared()
    escape = "\x1b[2J[bold red]x"
    models = tuple(dataclasses.replace(m, name=f"{escape}{i}", notes=(escape,)) for i, m in enumerate(whole.models))
    gates = tuple(dataclasses.replace(g, text=escape, model=escape) for g in whole.gates)
    spoilt = dataclasses.replace(whole, models=models, gates=gates, warnings=(escape,))
    for made in (text.score_table, text.slice_table, text.gate_lines, text.notes):
        out = shown(made(spoilt), width=200)
        assert "\x1b" not in out
        assert "[bold red]x" in out  # shown, not obeyed


@pytest.mark.parametrize("kind", list(example.EXAMPLES))
def test_json_is_strict_and_complete(evaluations: dict[str, Evaluation], kind: str) -> None:
    evaluation = evaluations[kind]
    made = json.loads(json.dumps(text.metrics_json(evaluation), allow_nan=False))
    assert made["schema"] == text.METRICS_SCHEMA
    assert set(made) == {
        *("schema", "version", "command", "time", "task", "classes", "positive", "level", "objective", "metrics"),
        *("models", "differences", "gates", "duplicates", "test_uses", "warnings"),
    }
    for record, model in zip(evaluation.models, made["models"], strict=True):
        assert list(model["metrics"]) == [s.quantity for s in record.scores]
        assert all("undefined" in m or {"value", "low", "high", "level", "method", "n"} <= set(m)
                   for m in model["metrics"].values())  # fmt: skip
        assert len(model["slices"]) == len(record.slices)


def test_json_keeps_every_number(evaluations: dict[str, Evaluation]) -> None:
    evaluation = evaluations["binary"]
    model = text.metrics_json(evaluation)["models"][0]
    recall = evaluation.models[0].scores[0]
    assert model["metrics"]["recall"]["value"] == recall.value  # type: ignore[union-attr]
    assert model["confusion"]["counts"] == evaluation.models[0].confusion.tolist()  # type: ignore[union-attr]
    assert model["slices"][4]["gap"] is None
    assert model["slices"][5]["score"] == {"undefined": "undefined: no example of class 'ill' in the slice"}
    assert model["threshold"]["target"] == "recall >= 0.85"
    assert model["temperature"]["after"]["ece"]["value"] == 0.018
    assert text.metrics_json(evaluation)["metrics"]["log_loss"]["high"] is None


def test_json_writes_open_ends_as_null() -> None:
    whole = example.bare()
    score = example.number("rmse", "", 3.0, math.inf, 9)
    model = dataclasses.replace(whole.models[0], scores=(score,))
    made = text.metrics_json(dataclasses.replace(whole, models=(model,)))["models"][0]["metrics"]["rmse"]
    assert (made["value"], made["low"], made["high"]) == (3.0, None, None)


def test_json_of_very_many_classes_is_sparse() -> None:
    whole = example.bare()
    table = np.zeros((1_500, 1_500), dtype=np.int64)
    table[3, 7] = 5
    model = dataclasses.replace(whole.models[0], confusion=table)
    made = text.metrics_json(dataclasses.replace(whole, models=(model,)))["models"][0]["confusion"]
    assert made["entries"] == [[3, 7, 5]]
    assert len(made["classes"]) == 1_500


def test_a_metric_of_one_class_keeps_its_brackets() -> None:
    whole = example.bare()
    score = dataclasses.replace(whole.models[0].scores[0], quantity="class_iou[road]")
    model = dataclasses.replace(whole.models[0], scores=(score,))
    assert "Class iou[road]" in shown(text.score_table(dataclasses.replace(whole, models=(model,))))
