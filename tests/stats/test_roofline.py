"""The roofline against its formulas written out, and layers placed under it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.records import LayerTime, Profiled, Sample, Unavailable
from steelyard.stats.roofline import Roof, Traffic, between_s, layer_seconds, place, raised, roof_of

ROOF = Roof(
    flops_per_s={"fp32": 100e9, "int8": 400e9},
    traffic=Traffic(read_bytes_per_s=10e9, cache_bytes_per_s=50e9, cache_bytes=1e6),
)


def layer(name, seconds, *, macs=0, moved=0, calls=1.0, dtype="fp32"):
    times = np.atleast_1d(np.asarray(seconds, dtype=float))
    return LayerTime(
        layer=name, operator="x", names=("x",), seconds=times, calls=calls, macs=macs, moved_bytes=moved, dtype=dtype
    )


def profiled(*layers, plain=None, whole=None):
    total = np.sum([row.seconds for row in layers], axis=0)
    return Profiled(
        engine="eager",
        device="cpu",
        batch=1,
        layers=layers,
        profiled_s=total if whole is None else np.asarray(whole, dtype=float),
        plain_s=np.atleast_1d(total if plain is None else np.asarray(plain, dtype=float)),
    )


def peak(quantity, *values, **conditions):
    return Sample(quantity=quantity, unit="", values=np.array(values), conditions=conditions)


@given(st.floats(0, 1e13), st.floats(0, 1e11), st.sampled_from(["fp32", "int8"]))
def test_the_least_time_is_that_of_williams_et_al(flops, moved, dtype):
    """Attainable FLOP/s = min(peak, intensity x bandwidth), where all bytes come from memory."""
    roof = Roof(flops_per_s=ROOF.flops_per_s, traffic=Traffic(read_bytes_per_s=10e9, cache_bytes_per_s=10e9))
    (least,) = roof.least_s(np.array([flops]), np.array([moved]), [dtype])
    assert least == pytest.approx(max(flops / roof.flops_per_s[dtype], moved / 10e9))
    if flops > 1 and moved > 1:
        assert flops / least == pytest.approx(min(roof.flops_per_s[dtype], flops / moved * 10e9))


def test_bytes_beyond_the_cache_come_from_memory():
    assert ROOF.traffic.seconds(1e6) == pytest.approx(1e6 / 50e9)
    assert ROOF.traffic.seconds(5e6) == pytest.approx(1e6 / 50e9 + 4e6 / 10e9)


def test_peaks_make_a_roof_of_best_readings():
    roof = roof_of(
        (
            peak("gemm_fp32_flops", 90e9, 100e9, 95e9),
            Unavailable(quantity="gemm_int8_flops", reason="none"),
            peak("copy_bandwidth_bytes_per_s", 12e9),
            peak("read_bandwidth_bytes_per_s", 9e9),
            peak("cache_bandwidth_bytes_per_s", 60e9, cache_bytes=2e6),
        )
    )
    assert roof is not None
    assert roof.flops_per_s == {"fp32": 100e9}
    assert roof.traffic == Traffic(read_bytes_per_s=12e9, cache_bytes_per_s=60e9, cache_bytes=2e6)
    assert roof_of((peak("gemm_fp32_flops", 1e9),)) is None


def test_layers_are_bound_by_the_larger_side_or_by_their_fixed_cost():
    rows = (
        layer("compute", 2e-3, macs=50_000_000, moved=100_000),  # 1 ms of arithmetic
        layer("memory", 2e-3, macs=1_000, moved=10_000_000),  # about 1 ms of bytes
        layer("dispatch", 10e-6, macs=1_000, moved=2_000),
        layer("view", 1e-3),
        layer("int8", 2e-3, macs=50_000_000, moved=100_000, dtype="int8"),
    )
    placed = place(profiled(*rows), ROOF, dispatch_s=1e-6)
    assert placed.bounds == ("compute", "memory", "dispatch", "", "compute")
    assert placed.share[0] == pytest.approx(0.5)
    assert placed.share[4] == pytest.approx(0.125)
    assert place(profiled(*rows), ROOF).bounds[2] == "memory"  # an engine without dispatch


def test_layers_slower_than_an_unprofiled_inference_are_scaled_to_it():
    found = profiled(layer("a", [3.0, 3.0, 9.0]), layer("b", [1.0, 1.0, 1.0]), plain=[2.0, 2.0, 2.1])
    assert layer_seconds(found).tolist() == [1.5, 0.5]
    assert between_s(found) == 0
    slower = profiled(layer("a", [3.0]), layer("b", [1.0]), plain=[9.0], whole=[5.5])
    assert layer_seconds(slower).tolist() == [3.0, 1.0]
    assert between_s(slower) == pytest.approx(1.5)


def test_a_layer_above_the_peak_raises_it():
    """2e9 FLOP in 10 ms are 200 GFLOP/s: the 100 measured were not the peak."""
    found = profiled(layer("fast", 10e-3, macs=1_000_000_000), layer("slow", 10e-3, macs=1_000, dtype="int8"))
    roof = raised(ROOF, found)
    assert roof.flops_per_s == {"fp32": pytest.approx(200e9), "int8": 400e9}
    assert float(place(found, roof).share.max()) <= 1 + 1e-9
