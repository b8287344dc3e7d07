"""Orders, readings and error rates of arms that take turns; a simulation with known truth, and one real small run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

import tiny_models
from steelyard.errors import SteelyardError
from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import WORKER, TurnSettings, _abba, duel, log_ratios, make_ready, take_turns
from steelyard.records import Comparison, Sample
from steelyard.stats.paired import log_ratio_interval

Floats = NDArray[np.float64]


@given(seed=st.integers(0, 2**32), slots=st.integers(1, 40), arms=st.integers(1, 6))
def test_every_order_is_followed_by_its_reverse(seed: int, slots: int, arms: int) -> None:
    order = _abba(np.random.default_rng(seed), slots, arms)
    assert order.shape == (slots, arms)
    assert (np.sort(order, axis=1) == np.arange(arms)).all()  # every arm once a slot, every place once
    pairs = order[: slots - slots % 2].reshape(-1, 2, arms)
    assert (pairs[:, 0] + pairs[:, 1] == arms - 1).all()


@given(seed=st.integers(0, 2**32), pairs=st.integers(1, 20), arms=st.integers(1, 6))
def test_places_balance_over_pairs_of_slots(seed: int, pairs: int, arms: int) -> None:
    order = _abba(np.random.default_rng(seed), 2 * pairs, arms)
    assert (order.mean(axis=0) == (arms - 1) / 2).all()


def test_orders_are_random_and_each_arm_goes_first_equally_often() -> None:
    order = _abba(np.random.default_rng(0), 6_000, 3)
    first = np.bincount(np.argmin(order, axis=1), minlength=3)
    assert stats.chisquare(first).pvalue > 0.001
    assert len(np.unique(order[::2], axis=0)) == 6


def _comparison(seconds: Floats) -> Comparison:
    arms = seconds.shape[2]
    order = np.broadcast_to(np.arange(arms, dtype=np.int32), seconds.shape)
    return Comparison(arms=("baseline", "control", "x")[:arms], batch=1, seconds=seconds, order=order)


def test_log_ratios_are_medians_over_slots() -> None:
    seconds = np.random.default_rng(0).uniform(0.5, 2.0, size=(4, 5, 3))
    expected = [sorted(np.log(seconds[r, s, 2]) - np.log(seconds[r, s, 0]) for s in range(5))[2] for r in range(4)]
    assert log_ratios(_comparison(seconds), 2) == pytest.approx(expected)
    assert log_ratios(_comparison(seconds), "x") == pytest.approx(expected)
    assert log_ratios(_comparison(seconds), 0).tolist() == [0.0] * 4


def _noisy_machine(rng: np.random.Generator, ratio: float, rounds: int = 10, slots: int = 12) -> Comparison:
    """Times on a shared machine: drift over minutes, an offset for each process, bursts of other work, jitter."""
    order = np.stack([_abba(rng, slots, 2) for _ in range(rounds)])
    when = np.arange(rounds)[:, None, None] * slots * 2 + np.arange(slots)[None, :, None] * 2 + order
    walk = np.cumsum(rng.normal(0, 0.01, rounds * slots * 2))
    drift = walk[when] + 0.2 * np.sin(when / 37)
    processes = rng.normal(0, 0.01, (rounds, 1, 2))
    jitter = rng.normal(0, 0.01, (rounds, slots, 2))
    bursts = rng.exponential(0.5, (rounds, slots, 2)) * (rng.random((rounds, slots, 2)) < 0.05)
    arms = np.log([1.0, ratio])
    return _comparison(np.exp(drift + processes + jitter + bursts + arms))


def _found(rng: np.random.Generator, ratio: float) -> bool:
    _, low, high = log_ratio_interval(log_ratios(_noisy_machine(rng, ratio), 1), 0.95)
    return not low <= 1.0 <= high


def test_the_same_model_twice_is_told_apart_in_five_percent_of_runs() -> None:
    rng = np.random.default_rng(1)
    alarms = sum(_found(rng, 1.0) for _ in range(1_000))
    low, high = stats.binom.interval(0.999, 1_000, 0.05)
    assert low <= alarms <= high


def test_five_percent_slower_is_found_and_the_interval_covers_it() -> None:
    rng = np.random.default_rng(2)
    assert sum(_found(rng, 1.05) for _ in range(200)) >= 195
    covered = 0
    for _ in range(500):
        _, low, high = log_ratio_interval(log_ratios(_noisy_machine(rng, 1.05), 1), 0.95)
        covered += low <= 1.05 <= high
    assert covered >= stats.binom.ppf(0.001, 500, 0.95)


# --- real processes ----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("turns")
    return {name: tiny_models.onnx_artifact(root / name).folder for name in ("baseline", "control")}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_inputs(tmp_path_factory.mktemp("inputs") / "inputs.npy")


SETTINGS = TurnSettings(rounds=2, slots=4, slot_s=0.002, warm_s=0.01, rest_s=0.0, batch=3)


def test_two_copies_of_one_model_take_turns(folders: dict[str, Path], inputs: Path) -> None:
    told: list[int] = []
    turns = take_turns(folders, inputs, SETTINGS, on_round=told.append)
    comparison = turns.comparison
    assert told == [1, 2]
    assert comparison.arms == ("baseline", "control")
    assert comparison.batch == 3
    assert comparison.seconds.shape == comparison.order.shape == (2, 4, 2)
    assert (comparison.seconds > 0).all()
    assert (np.sort(comparison.order, axis=2) == [0, 1]).all()
    for arm, (latency, memory) in enumerate(turns.readings):
        assert isinstance(latency, Sample)
        assert latency.unit == "s"
        assert dict(latency.conditions) == {"batch": 3}
        assert latency.blocks is not None
        assert latency.blocks.shape == latency.values.shape
        assert np.unique(latency.blocks).tolist() == [0, 1]
        assert len(latency.values) >= 2 * 4 * 3  # three calls a slot at the least
        medians = comparison.seconds[:, :, arm]
        assert latency.values.min() <= medians.min() <= medians.max() <= latency.values.max()
        assert isinstance(memory, Sample)
        assert len(memory.values) == 2
        assert (memory.values > 1e6).all()


def test_a_duel_is_one_round_between_warm_children(folders: dict[str, Path], inputs: Path) -> None:
    with Child(WORKER, limits=Limits(seconds=60)) as one, Child(WORKER, limits=Limits(seconds=60)) as other:
        make_ready(one, folders["baseline"], inputs, SETTINGS)
        make_ready(other, folders["control"], inputs, SETTINGS)
        comparison = duel(one, other, "onnx", SETTINGS)
    assert comparison.arms == ("baseline", "onnx")
    assert comparison.seconds.shape == (1, 4, 2)
    assert np.isfinite(log_ratios(comparison, "onnx")).all()


def test_an_arm_that_cannot_run_ends_the_turns(folders: dict[str, Path], inputs: Path, tmp_path: Path) -> None:
    broken = tiny_models.onnx_artifact(tmp_path / "broken", tail="Sqrt")
    with pytest.raises(SteelyardError, match="NaN"):
        take_turns({**folders, "broken": broken.folder}, inputs, SETTINGS)
