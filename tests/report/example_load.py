"""A benchmark under load, written by hand: a call takes 4 ms and 2 ms for each example, the knee over batches is known."""

from __future__ import annotations

import dataclasses
from types import ModuleType

import numpy as np

from steelyard.records import Measurement, RunRecords, Sample, Scalar, Unavailable
from steelyard.verify.requirements import parse_requirement

BATCHES, CALLERS, PASSES = (1, 2, 4, 8, 16, 32), (1, 2), 8
COST_S, EACH_S = 0.004, 0.002
CALLS = 80  # a slot and caller


def call_s(batch: int, callers: int) -> float:
    """Two callers get 1.6 times the throughput of one."""
    return (COST_S + EACH_S * batch) * (1.0 if callers == 1 else 1.25)


def loaded(example: ModuleType, target: str = "p99 <= 35 ms") -> RunRecords:
    """The example benchmark with a sweep, two scenarios and rising load."""
    records: RunRecords = example.benchmark()
    assert records.baseline is not None
    rng = np.random.default_rng(5)
    plain = [r for r in records.baseline.readings if r.quantity not in ("throughput_per_s", "load_s")]
    more = [*sweep(rng), *scenarios(), *rising(rng), *loading()]
    run = dataclasses.replace(
        records.run,
        requirements=(parse_requirement(target),),
        percentiles=(50.0, 99.0, 99.9),
        words=("--target", target),
        budget_s=15.0,
    )
    baseline: Measurement = dataclasses.replace(records.baseline, readings=(*plain, *more))
    return dataclasses.replace(records, run=run, baseline=baseline)


def sweep(rng: np.random.Generator) -> list[Sample | Unavailable]:
    found: list[Sample | Unavailable] = [
        Unavailable(
            quantity="throughput_per_s",
            reason="a call takes about 8 s, too long for the sweep's time: --budget 90s would do",
            conditions={"batch": 4096},
        )
    ]
    for callers in CALLERS:
        for batch in BATCHES:
            found += cell(rng, batch, callers)
    return found


def cell(rng: np.random.Generator, batch: int, callers: int) -> list[Sample]:
    passes = np.arange(PASSES, dtype=np.int32)
    where: dict[str, Scalar] = {"batch": batch, "concurrency": callers}
    each = call_s(batch, callers) * rng.lognormal(0, 0.01, PASSES * CALLS * callers)
    rate = callers * batch / call_s(batch, callers) * rng.lognormal(0, 0.005, PASSES)

    def by_slot(quantity: str, unit: str, value: float) -> Sample:
        return Sample(quantity=quantity, unit=unit, values=np.full(PASSES, value), blocks=passes, conditions=where)

    return [
        Sample(
            quantity="throughput_per_s",
            unit="1/s",
            values=rate,
            blocks=passes,
            conditions={"batch": batch} if callers == 1 else where,
        ),
        Sample(
            quantity="sweep_latency_s",
            unit="s",
            values=each,
            blocks=np.repeat(passes, CALLS * callers),
            conditions=where,
        ),
        by_slot("cores_busy", "core", 1.5 * callers),
        by_slot("machine_cores_busy", "core", 1.75 * callers),
        by_slot("memory_resident_bytes", "byte", 300e6),
        by_slot("calls_in_flight", "count", float(callers)),
    ]


def scenarios() -> list[Sample | Unavailable]:
    server: dict[str, Scalar] = {"scenario": "server"}
    said = "MLPerf LoadGen 6.0.17, INVALID: Processed 54 queries."
    return [
        Sample(quantity="scenario_latency_s", unit="s", values=np.full(54, 0.012), conditions=server, note=said),
        Sample(quantity="scenario_valid", unit="", values=np.zeros(1), conditions=server, note=said),
        Sample(quantity="scenario_per_s", unit="1/s", values=np.array([101.5]), conditions=server, note=said),
        *(
            Sample(
                quantity="loadgen_latency_s",
                unit="s",
                values=np.array([value]),
                conditions={**server, "statistic": statistic},
            )
            for statistic, value in (("mean", 0.013), ("p50", 0.0121), ("p90", 0.02), ("p99", 0.031))
        ),
        Unavailable(
            quantity="scenario_latency_s",
            reason="crash: the process ended with signal SIGSEGV",
            conditions={"scenario": "offline"},
        ),
    ]


def rising(rng: np.random.Generator) -> list[Sample | Unavailable]:
    found: list[Sample | Unavailable] = [
        Sample(
            quantity="latency_limit_s",
            unit="s",
            values=np.array([0.035]),
            conditions={"percentile": 99.0},
            provenance="stated",
            note="asked: p99 <= 35 ms",
        )
    ]
    plan = (
        ("ramp", 100.0, 300, 0.0),
        ("ramp", 130.0, 400, 0.3),
        ("ramp", 150.0, 400, 0.9),
        ("recovery", 60.0, 90, 0.2),
    )
    for step, (phase, rate, n, late) in enumerate((*plan, ("proof", 100.0, 1200, 0.0))):
        conditions: dict[str, Scalar] = {"rate_per_s": rate, "phase": phase, "step": step if phase != "proof" else 0}
        values = np.where(rng.permutation(n) < late * n, 0.2, 0.01)
        found += [
            Sample(quantity="request_latency_s", unit="s", values=values, conditions=conditions),
            Sample(quantity="request_due_s", unit="s", values=np.arange(n) / rate, conditions=conditions),
            Sample(quantity="generator_lag_s", unit="s", values=np.full(n, 4e-5), conditions=conditions),
        ]
    found.append(Sample(quantity="broken_per_s", unit="1/s", values=np.array([130.0])))
    found.append(Sample(quantity="recovery_s", unit="s", values=np.array([0.42])))
    return found


def loading() -> list[Sample]:
    return [
        Sample(quantity=q, unit="s", values=np.array(values), conditions={"cache": cache}, note="fresh processes")
        for q, cache, values in (
            ("load_s", "cold", [0.4, 0.5, 0.45]),
            ("load_s", "warm", [0.2, 0.21, 0.22]),
            ("first_prediction_s", "cold", [0.04, 0.05, 0.045]),
            ("first_prediction_s", "warm", [0.04, 0.05, 0.045]),
        )
    ]
