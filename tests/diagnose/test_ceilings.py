"""Planted profiles: what each technique can give is known beforehand, and surroundings hold back only where they do."""

import numpy as np
import pytest

from steelyard.diagnose import diagnose
from steelyard.diagnose.ceilings import ceilings
from steelyard.diagnose.surroundings import surroundings
from steelyard.records import Environment, LayerTime, Measurement, Plan, Profiled, Sample, Unavailable
from steelyard.stats.roofline import Roof, Traffic

TRAFFIC = Traffic(read_bytes_per_s=10e9, cache_bytes_per_s=10e9)
ROOF = Roof(flops_per_s={"fp32": 100e9, "bf16": 50e9, "int8": 400e9}, traffic=TRAFFIC)
NO_INT8 = Roof(flops_per_s={"fp32": 100e9, "bf16": 50e9, "int8": 104e9}, traffic=TRAFFIC)


def layer(name, ms, *, gflop=0.0, mb=0.0, weights_mb=0.0, dtype="fp32", calls=1.0, operator="x"):
    return LayerTime(
        layer=name,
        operator=operator,
        names=("x",),
        seconds=np.full(5, ms / 1e3),
        calls=calls,
        macs=int(gflop * 1e9 / 2),
        moved_bytes=int(mb * 1e6),
        weight_bytes=int(weights_mb * 1e6),
        state="counted" if gflop else "zero",
        dtype=dtype,
    )


def profiled(*layers, engine="eager", between_ms=0.0, device="cpu"):
    whole = np.sum([row.seconds for row in layers], axis=0) + between_ms / 1e3
    return Profiled(engine=engine, device=device, batch=1, layers=layers, profiled_s=whole, plain_s=whole)


def sample(quantity, values, **conditions):
    return Sample(quantity=quantity, unit="", values=np.atleast_1d(np.asarray(values, float)), conditions=conditions)


def measurement(*readings, accelerators=()):
    environment = Environment(
        machine="x", cpu="planted", cores=2, memory_bytes=1 << 33, instruction_sets=(), accelerators=accelerators,
        platform="Linux", python="3.11", packages={}, time="2026-01-01T00:00:00+00:00",
    )  # fmt: skip
    return Measurement(subject="x", environment=environment, readings=readings)


def named(found):
    int8, bf16, fusing, engine, batching = found
    return {"int8": int8, "bf16": bf16, "fusing": fusing, "engine": engine, "batching": batching}


# 10 ms: a convolution at half of the roof, and element-wise work
COMPUTE = profiled(layer("conv", 8.0, gflop=0.4, mb=4.0, weights_mb=1.0), layer("relu", 2.0, mb=4.0))
# weights of 80 MB are read for one example
MEMORY = profiled(layer("fc", 9.0, gflop=0.04, mb=81.0, weights_mb=80.0), layer("relu", 1.0, mb=0.1))


def test_amdahl_over_the_layers_that_int8_touches():
    found = named(ceilings(COMPUTE, ROOF))["int8"]
    # 4 ms at the fp32 roof become 1 ms at four times the rate: 8 ms become 2 at the same distance, 1 at the roof
    assert found.helps
    assert found.share == pytest.approx(0.8)
    assert found.gain == pytest.approx(10 / (2 + 2))
    assert found.ceiling == pytest.approx(10 / (2 + 1))


def test_without_int8_instructions_it_will_not_help_and_says_the_rate():
    found = named(ceilings(COMPUTE, NO_INT8))["int8"]
    assert not found.helps
    assert "1 times the fp32 rate" in found.because
    assert "no faster than fp32" in found.because


def test_weights_from_memory_shrink_even_without_instructions():
    found = named(ceilings(MEMORY, NO_INT8))["int8"]
    assert found.helps
    # 8.1 ms of bytes become 2.025: the layer keeps its distance, 9 x 2.025 / 8.1
    assert found.gain == pytest.approx(10 / (1 + 9 * 0.25), rel=0.01)


def test_a_quantised_model_gains_nothing_by_quantising():
    already = profiled(layer("conv", 8.0, gflop=0.4, mb=4.0, dtype="int8"), engine="onnxruntime")
    found = named(ceilings(already, ROOF))
    assert not found["int8"].helps
    assert "no layer with arithmetic is wider than int8" in found["int8"].because
    assert not found["bf16"].helps


def test_emulated_bf16_will_not_help():
    found = named(ceilings(COMPUTE, ROOF))["bf16"]
    assert not found.helps
    assert "0.5 times the fp32 rate" in found.because


def test_fusing_gives_at_most_the_operators_without_macs():
    found = named(ceilings(COMPUTE, ROOF))["fusing"]
    assert found.ceiling == pytest.approx(10 / 8)
    assert found.gain == pytest.approx(10 / (8 + 0.3 * 2))
    bare = named(ceilings(profiled(layer("conv", 8.0, gflop=0.4)), ROOF))["fusing"]
    assert not bare.helps


def test_batching_pays_where_weights_and_gaps_rule():
    # without its weights the layer moves 1 MB: 0.4 ms of arithmetic are left, beside 0.01 ms of the other
    found = named(ceilings(MEMORY, ROOF))["batching"]
    assert found.helps
    assert found.ceiling == pytest.approx(10 / (0.4 + 0.01), rel=0.01)
    assert found.gain == pytest.approx(10 / (10 - 8.0), rel=0.01)
    assert not named(ceilings(COMPUTE, ROOF))["batching"].helps
    measured = named(ceilings(MEMORY, ROOF, rates=[sample("throughput_per_s", 300, batch=8)]))["batching"]
    assert measured.gain == pytest.approx(300 / 100)


def test_another_engine_gives_at_most_the_roof():
    tiny = profiled(layer("a", 0.02, gflop=0.0002, mb=0.01), layer("b", 0.02, mb=0.01), between_ms=0.16)
    found = named(ceilings(tiny, ROOF, dispatch_s=5e-6))["engine"]
    assert found.helps
    assert found.ceiling == pytest.approx(0.2 / 0.002)
    assert 2 < found.gain < found.ceiling
    engine = named(ceilings(profiled(layer("a", 1.0, gflop=0.05), engine="openvino"), ROOF))["engine"]
    assert not engine.helps
    assert "is an engine already" in engine.because


@pytest.mark.parametrize("case", [COMPUTE, MEMORY])
@pytest.mark.parametrize("roof", [ROOF, NO_INT8])
def test_no_gain_beyond_its_ceiling_and_none_below_one(case, roof):
    for found in ceilings(case, roof):
        assert 1 <= found.gain <= found.ceiling * (1 + 1e-12)
        assert 0 <= found.share <= 1
        assert found.because


# --- through diagnose -------------------------------------------------------------------------------


def peaks(int8=400e9):
    values = {"fp32": 100e9, "bf16": 50e9, "int8": int8}
    return (
        *(sample(f"gemm_{name}_flops", rate) for name, rate in values.items()),
        sample("copy_bandwidth_bytes_per_s", 10e9),
        sample("dispatch_s", 2e-6),
    )


def diagnosed(case, **more):
    flops, moved = sum(2 * row.macs for row in case.layers), sum(row.moved_bytes for row in case.layers)
    readings = (
        sample("latency_s", case.plain_s, batch=1),
        sample("macs", flops / 2),
        sample("moved_bytes", moved),
        sample("operator_calls", sum(row.calls for row in case.layers)),
        *(
            sample("operator_s", row.seconds, operator="aten::conv2d" if row.macs else "aten::relu")
            for row in case.layers
        ),
        *more.get("readings", ()),
    )
    baseline = measurement(*readings, accelerators=more.get("accelerators", ()))
    return diagnose(baseline, peaks(), (Plan(),), profiled=case)


@pytest.mark.parametrize(
    ("case", "name", "bound"),
    [
        (profiled(layer("conv", 9.0, gflop=0.8, mb=4.0), layer("relu", 1.0, mb=4.0)), "compute-bound", "compute"),
        (MEMORY, "memory-bound", "memory"),
        (
            profiled(*(layer(f"l{i}", 0.008, gflop=0.00001, mb=0.001, calls=2) for i in range(20)), between_ms=0.04),
            "dispatch-bound",
            "dispatch",
        ),
    ],
)
def test_the_planted_bound_is_found_and_nothing_else(case, name, bound):
    (finding,) = diagnosed(case)  # a healthy surrounding gives no further finding
    assert finding.name == name
    shares = {
        k.removesuffix("_bound_time_share"): v for k, v in finding.evidence.items() if k.endswith("_bound_time_share")
    }
    assert max(shares, key=shares.__getitem__) == bound
    assert len(finding.ceilings) == 5


def test_an_int8_model_is_held_to_the_int8_peak():
    """0.8 GFLOP at 400 GFLOP/s take 2 ms of 10: at the fp32 peak they would seem to take 8."""
    (finding,) = diagnosed(profiled(layer("conv", 10.0, gflop=0.8, mb=1.0, dtype="int8"), engine="onnxruntime"))
    assert finding.evidence["compute_s"] == pytest.approx(2e-3)


# --- surroundings -----------------------------------------------------------------------------------


def test_data_slower_than_the_model_is_named_with_what_faster_data_gives():
    found = diagnosed(COMPUTE, readings=(sample("data_examples_per_s", [20, 25, 30], batch=32),))
    data = next(f for f in found if f.name == "data-bound")
    assert data.evidence == {"data_examples_per_s": 25.0, "model_examples_per_s": pytest.approx(100.0)}
    assert data.ceilings[0].ceiling == pytest.approx(4.0)
    assert surroundings(measurement(sample("data_examples_per_s", 500)), COMPUTE) == ()


def test_an_accelerator_that_rests_is_named():
    (idle,) = surroundings(measurement(accelerators=("NVIDIA H100",)), COMPUTE)
    assert idle.name == "idle-accelerator"
    assert "NVIDIA H100 is idle" in idle.claim
    there = profiled(layer("conv", 8.0, gflop=0.4), device="cuda")
    busy, waiting = (
        measurement(sample("gpu_busy_fraction", v), accelerators=("GPU",)) for v in ([0.9, 1.0], [0.1, 0.2])
    )
    assert surroundings(busy, there) == ()
    (found,) = surroundings(waiting, there)
    assert found.evidence == {"gpu_busy_fraction": pytest.approx(0.15)}


def test_transfers_are_communication():
    moving = profiled(layer("conv", 4.0, gflop=0.1), layer("", 6.0, operator="to"), device="cuda")
    (found,) = surroundings(measurement(), moving)
    assert found.name == "communication-bound"
    assert found.evidence["transfer_time_share"] == pytest.approx(0.6)
    quiet = profiled(layer("conv", 9.0, gflop=0.1), layer("", 1.0, operator="to"), device="cuda")
    assert surroundings(measurement(), quiet) == ()


def out_of_memory(batch):
    return Unavailable(quantity="throughput_per_s", reason="out of memory: stopped", conditions={"batch": batch})


def test_memory_limits_the_batch_only_while_throughput_rises():
    rising = (sample("throughput_per_s", 100, batch=8), sample("throughput_per_s", 150, batch=16))
    (found,) = surroundings(measurement(*rising, out_of_memory(32)))
    assert found.name == "memory-limited-batch"
    flat = (sample("throughput_per_s", 100, batch=8), sample("throughput_per_s", 101, batch=16))
    assert surroundings(measurement(*flat, out_of_memory(32))) == ()
    other = Unavailable(quantity="throughput_per_s", reason="wrong shape", conditions={"batch": 32})
    assert surroundings(measurement(*rising, other)) == ()
