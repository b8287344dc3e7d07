"""Formatting, against Python's own and against values written out."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.report import numbers


@given(st.floats(1e-12, 1e12))
def test_three_significant_digits_stay_within_half_a_unit_of_the_third(value: float) -> None:
    shown = float(numbers.significant(value).replace(",", ""))
    assert shown == pytest.approx(value, rel=5.1e-3)
    if value < 999.5:
        assert shown == pytest.approx(float(f"{value:.3g}"), rel=1e-9)


@given(st.floats(1e-9, 1e4))
def test_a_duration_reads_back(value: float) -> None:
    number, unit = numbers.seconds(value).split()
    scale = {"min": 60.0, "s": 1.0, "ms": 1e-3, "µs": 1e-6, "ns": 1e-9}[unit]
    assert float(number.replace(",", "")) * scale == pytest.approx(value, rel=5.1e-3)


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.9996e-3, "s", "1.00 ms"),
        (999_600, "byte", "1.00 MB"),
        (1e3, "byte", "1.00 kB"),
        (0.0, "s", "0 s"),
        (-0.002, "s", "-2.00 ms"),
        (math.nan, "s", "undefined ns"),
        (12.4e9, "byte/s", "12.4 GB/s"),
        (3.4e12, "FLOP/s", "3.40 TFLOP/s"),
        (0.0212, "J", "21.2 mJ"),
    ],
)
def test_units(value: float, unit: str, shown: str) -> None:
    assert numbers.quantity(value, unit) == shown


def test_interval_shares_unit_and_decimals() -> None:
    assert numbers.interval(0.00095, 0.0009, 0.0011, "s") == "950 µs (900-1,100)"
    assert numbers.points(-0.00004, -0.01, 0.002) == "0.00 points (-1.00 to 0.20)"
