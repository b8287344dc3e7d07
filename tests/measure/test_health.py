"""Weights and units against NumPy, on nets whose ranks, zeros and dead channels were put there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tiny_models
from steelyard.measure.health import answering, batch_gap, health, rank_share
from steelyard.subject.engines import load_runner

DEAD = 3


def spoiled(arrays: tiny_models.Arrays) -> tiny_models.Arrays:
    """Three of eight channels of the second convolution never answer, and half of the last layer is zero."""
    bias = arrays["2.bias"].copy()
    bias[:DEAD] = -1e6
    last = arrays["5.weight"].copy()
    last[:, ::2] = 0
    return {**arrays, "2.bias": bias, "5.weight": last}


@given(st.integers(1, 30), st.integers(30, 60), st.integers(30, 60), st.integers(0, 5))
def test_the_rank_share_is_that_of_the_singular_values(rank: int, rows: int, columns: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((rows, rank)) @ rng.standard_normal((rank, columns))
    squares = np.linalg.svd(matrix, compute_uv=False) ** 2
    needed = int(np.searchsorted(np.cumsum(squares) / squares.sum(), 0.99)) + 1
    assert rank_share(matrix) == pytest.approx(needed / min(rows, columns), abs=1.01 / min(rows, columns))
    assert rank_share(matrix) <= rank / min(rows, columns) + 1e-9


def test_of_a_large_matrix_a_part_tells() -> None:
    rng = np.random.default_rng(0)
    thin = rng.standard_normal((2000, 50)) @ rng.standard_normal((50, 2000))
    assert rank_share(thin) <= 50 / 512
    assert rank_share(rng.standard_normal((2000, 2000))) > 0.7


def test_zeros_and_dead_channels_of_an_onnx_file(tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    artifact = tiny_models.onnx_artifact(tmp_path, head=spoiled)
    found = health(artifact, load_runner(artifact), tiny_models.examples(32))
    values = {(s.quantity, s.conditions.get("layer")): s.value for s in found}
    last = spoiled(tiny_models.weights())["5.weight"]
    assert values["zero_weights_share", "5.weight"] == pytest.approx((last == 0).mean())
    assert values["dead_units_share", "d"] == pytest.approx(DEAD / 8)
    assert values["narrow_weights_share", None] == 0
    assert values["batch_gap", None] < 1e-4
    assert ("weight_rank_share", "0.weight") not in values  # 4 x 9: no rank to spare


def test_the_same_of_a_module(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    artifact = tiny_models.eager_artifact(tmp_path)
    runner: Any = load_runner(artifact)
    with torch.no_grad():
        runner.module[2].bias[:DEAD] = -1e6
    found = health(artifact, runner, tiny_models.examples(32))
    shares = [s.value for s in found if s.quantity == "dead_units_share"]
    assert len(shares) == 2
    assert shares[1] == pytest.approx(DEAD / 8)
    layers = {s.conditions["layer"] for s in found if s.quantity == "zero_weights_share"}
    assert layers == {"0.weight", "2.weight", "5.weight"}


def test_a_quantised_file_is_seen_to_be_one(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    from steelyard.passes.build import Builder
    from steelyard.records import Plan, Step
    from steelyard.subject.artifact import read_artifact

    source = tiny_models.onnx_artifact(tmp_path / "source")
    inputs, data = tiny_models.write_inputs(tmp_path / "x.npy"), tiny_models.write_data(tmp_path / "data")
    plan = Plan(steps=(Step(name="quantize_static"),))
    built = read_artifact(
        Path(Builder().build(str(source.folder), str(tmp_path / "made"), plan, str(inputs), str(data)))
    )
    found = health(built, load_runner(built), tiny_models.examples(8))
    assert next(s.value for s in found if s.quantity == "narrow_weights_share") > 0.9


def test_what_mixes_examples_shows() -> None:
    inputs = np.random.default_rng(0).standard_normal((8, 4))
    assert batch_gap(_Runner(lambda x: x - x.mean(axis=0)), inputs) > 0.3
    assert batch_gap(_Runner(lambda x: 2 * x), inputs) == 0


class _Runner:
    fixed_batch = None

    def __init__(self, run: Any) -> None:
        self._run = run

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return np.asarray(self._run(inputs))


def test_channels_are_the_second_axis_or_the_last_of_three() -> None:
    outputs = np.ones((4, 6, 5))
    outputs[..., :2] = 0
    assert answering(outputs).tolist() == [False, False, True, True, True]
    assert answering(np.array([[0.0, 1.0], [0.0, 0.0]])).tolist() == [False, True]
    assert answering(np.maximum(outputs[:, None] - 1, 0)).tolist() == [False]
