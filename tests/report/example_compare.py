"""Comparisons made up from known truth: rounds drawn around a ratio, so that what the charts show can be told beforehand."""

from __future__ import annotations

import dataclasses

import numpy as np

from steelyard.records import Compared, Comparison, Difference, Environment, Estimate, Sample
from steelyard.stats.sequence import sequence_interval

ROUNDS, SLOTS = 16, 12

HOST = Environment(
    machine="7c1f20aa93be",
    cpu="Example CPU",
    cores=2,
    memory_bytes=8_000_000_000,
    instruction_sets=("avx2",),
    accelerators=(),
    platform="Linux",
    python="3.11.9",
    packages={"numpy": "2.0.0"},
    time="2026-01-02T03:04:05+00:00",
)


def rounds(ratio: float = 1.04, *, count: int = ROUNDS, control: float = 1.0, seed: int = 1) -> Comparison:
    """Rounds whose second arm takes `ratio` of the first's time, and whose control takes `control` of it."""
    rng = np.random.default_rng(seed)
    drift = 0.02 * np.exp(0.1 * rng.standard_normal((count, 1, 1)) + 0.01 * rng.standard_normal((count, SLOTS, 1)))
    seconds = drift * np.array([1.0, ratio, control]) * np.exp(0.012 * rng.standard_normal((count, SLOTS, 3)))
    peaks = [np.full(count, size) * np.exp(0.003 * rng.standard_normal(count)) for size in (80e6, 60e6, 80e6)]
    return Comparison(
        arms=("first", "second", "control"),
        batch=1,
        seconds=seconds,
        order=np.zeros((count, SLOTS, 3), dtype=np.int32),
        flags=("round 3: steal 4.0%", "round 3: other load 12%", "round 9: throttled 2 times"),
        ended_s=np.arange(1.0, count + 1),
        readings=tuple((Sample(quantity="memory_running_bytes", unit="byte", values=p),) for p in peaks),
    )


def compared(comparison: Comparison | None = None, outcome: str = "slower", *, alarm: bool = False) -> Compared:
    """The record around some rounds; without any, of a budget that was too short."""
    found = None if comparison is None else _estimate(np.median(_logs(comparison, 1), axis=1))
    control = None if comparison is None else _estimate(np.median(_logs(comparison, 2), axis=1))
    drop = Estimate(
        quantity="accuracy", unit="fraction", value=0.004, low=-0.004, high=0.012, level=0.95, method="Tango", n=360
    )
    score = Estimate(
        quantity="accuracy", unit="fraction", value=0.95, low=0.92, high=0.97, level=0.95, method="Wilson", n=360
    )
    return Compared(
        kind="models",
        names=("old<b>.onnx", "new.onnx"),
        sources=("zoo/old<b>.onnx", "zoo/new.onnx"),
        digests=("aaaa", "bbbb"),
        command=("steelyard", "compare", "zoo/old<b>.onnx", "zoo/new.onnx", "--data", "digits"),
        band=0.02,
        level=0.95,
        time_level=0.975,
        batch=1,
        slots=SLOTS,
        slot_s=0.03,
        warm_s=0.2,
        environment=HOST,
        round_s=2.0,
        detectable=0.011,
        detectable_from="4 earlier comparisons on this machine",
        data="digits",
        examples=360,
        qualities=((score, dataclasses.replace(score, value=0.946)),),
        differences=(
            Difference(
                metric="accuracy", first="old<b>.onnx", second="new.onnx", drop=drop, n=360, outcome="undecided"
            ),
        ),
        comparison=comparison,
        outcome=outcome,  # type: ignore[arg-type]
        ratio=found,
        control=control,
        control_alarm=alarm,
        noise_floor=0.004,
        advice="" if comparison is not None else "no round fits the budget: give --budget 60s",
        wall_s=33.0,
        time=HOST.time,
        version="0.1.0",
    )


def _logs(comparison: Comparison, arm: int) -> np.ndarray:
    return np.asarray(np.log(comparison.seconds[:, :, arm] / comparison.seconds[:, :, 0]))


def _estimate(logs: np.ndarray) -> Estimate:
    value, low, high = sequence_interval(logs, 0.975)
    return Estimate(
        quantity="latency", unit="x", value=value, low=low, high=high, level=0.975, method="sequence", n=len(logs)
    )
