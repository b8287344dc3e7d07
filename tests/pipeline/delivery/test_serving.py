"""Batch sizes for a server from measured rates."""

from __future__ import annotations

import numpy as np
import pytest

from steelyard.pipeline.delivery.serving import Batching, batching
from steelyard.probe.host import environment
from steelyard.records import Measurement, Sample


def weighed(rates: dict[int, float], latency_s: float = 0.004) -> Measurement:
    readings = [
        Sample(quantity="throughput_per_s", unit="1/s", values=np.array([rate]), conditions={"batch": size})
        for size, rate in rates.items()
    ]
    latency = Sample(quantity="latency_s", unit="s", values=np.array([latency_s]), conditions={"batch": 1})
    return Measurement(subject="x", environment=environment(()), readings=(latency, *readings))


@pytest.mark.parametrize(
    ("rates", "expected"),
    [
        ({1: 250, 2: 400, 4: 890, 8: 980, 16: 1000, 32: 930}, Batching(most=32, preferred=(8, 16, 32), wait_us=2000)),
        ({1: 250, 2: 400, 4: 900, 8: 500}, Batching(most=4, preferred=(4,), wait_us=2000)),
        ({1: 250, 8: 255, 32: 240}, Batching(most=32)),  # 2 % more is not worth waiting for
        ({1: 250, 8: 120}, Batching(most=8)),
        ({}, Batching(most=8)),
    ],
)
def test_sizes_that_serve_nearly_as_much_as_the_best_are_preferred(rates, expected):
    assert batching(weighed(rates), None) == expected


def test_a_model_whose_batch_axis_is_fixed_is_not_batched():
    assert batching(weighed({1: 250, 8: 2000}), 1) == Batching(most=0)


def test_without_a_measurement_nothing_waits():
    assert batching(None, None).preferred == ()
