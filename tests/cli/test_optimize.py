"""Words of `steelyard optimize` that cannot be followed: one line with the cure, and nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--techniques", "prun,int8"], "there is no technique 'prun'; nearest: prune"),
        (["--engine", "onnxruntim"], "there is no engine 'onnxruntim'; nearest: onnxruntime"),
        (["--minimise", "cost"], "--minimise takes latency, energy, size, memory; got 'cost'"),
        (["--pareto", "latency"], "a Pareto front needs two axes or more"),
        (["--pareto", "latency,siz"], "there is no axis 'siz'; did you mean 'size'?"),
        (["--require", "size >= 1 MB"], "would ask for a worse model: write size <="),
        (["--budget", "soon"], "cannot read the time 'soon'"),
        (["--timeout", "0s"], "a budget must be more than nothing"),
    ],
)
def test_words_that_mean_nothing_are_one_line(
    steelyard: Callable[..., Any], tmp_path: Path, words: list[str], message: str
) -> None:
    ran = steelyard("optimize", "model.onnx", "--out", tmp_path / "out", *words)
    assert ran.status == 2
    assert message in ran.message
    assert not (tmp_path / "out").exists()


def test_a_run_that_is_not_there_cannot_be_resumed(steelyard: Callable[..., Any], tmp_path: Path) -> None:
    ran = steelyard("optimize", "model.onnx", "--resume", "--out", tmp_path / "out")
    assert ran.status == 2
    assert "holds no run; leave it out to begin one" in ran.message
    assert not (tmp_path / "out").exists()


def test_without_ray_the_extra_is_named(
    steelyard: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before anything is measured."""
    import sys

    monkeypatch.setitem(sys.modules, "ray", None)
    ran = steelyard("optimize", "model.onnx", "--ray", "auto", "--out", tmp_path / "out")
    assert ran.status == 2
    assert "steelyard[ray]" in ran.message
