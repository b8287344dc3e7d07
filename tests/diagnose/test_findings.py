"""Planted situations: the bound and the hopeless plans are known beforehand."""

import numpy as np
import pytest

from steelyard.diagnose import diagnose
from steelyard.diagnose.findings import EFFECTS
from steelyard.records import Environment, Measurement, Plan, Sample, Step, Unavailable

ENVIRONMENT = Environment(
    machine="x",
    cpu="planted",
    cores=2,
    memory_bytes=1 << 33,
    instruction_sets=(),
    accelerators=(),
    platform="Linux",
    python="3.11",
    packages={},
    time="2026-01-01T00:00:00+00:00",
)
BF16 = Step(name="openvino", options=(("precision", "bf16"),))


def sample(quantity, value, **conditions):
    return Sample(
        quantity=quantity, unit="", values=np.atleast_1d(np.asarray(value, dtype=float)), conditions=conditions
    )


def peaks(fp32=200e9, bf16=100e9, int8=700e9, copy=10e9, dispatch=2e-6):
    return (
        sample("gemm_fp32_flops", [fp32 / 2, fp32]),
        sample("gemm_bf16_flops", bf16),
        sample("gemm_int8_flops", int8),
        sample("copy_bandwidth_bytes_per_s", copy),
        sample("dispatch_s", dispatch),
    )


def measured(latency_s, macs, moved_bytes, calls, operators, operator_macs):
    return Measurement(
        subject="x",
        environment=ENVIRONMENT,
        readings=(
            sample("latency_s", [latency_s * 0.9, latency_s, latency_s * 3], batch=1),
            sample("macs", macs),
            sample("moved_bytes", moved_bytes),
            sample("operator_calls", calls),
            *(sample("operator_s", s, operator=name) for name, s in operators.items()),
            *(sample("operator_macs", m, operator=name) for name, m in operator_macs.items()),
        ),
    )


def plan(*steps):
    return Plan(steps=tuple(Step(name=s) if isinstance(s, str) else s for s in steps))


ALL = (
    plan("export"),
    plan("channels_last"),
    plan("bf16"),
    plan("compile"),
    plan("onnx"),
    plan("onnx", "quantize_static"),
    plan("onnx", "quantize_dynamic"),
    plan("openvino"),
    plan(BF16),
    plan("openvino", "nncf_int8"),
)

CONVOLUTIONS = measured(
    0.030,
    1.8e9,
    60e6,
    90,
    {"aten::mkldnn_convolution": 0.024, "aten::native_batch_norm": 0.006},
    {"convolution": 1.8e9},
)
TINY = measured(
    200e-6, 3e5, 2e5, 30, {"aten::mkldnn_convolution": 1e-4, "aten::relu": 5e-5}, {"convolution": 2e5, "addmm": 1e5}
)
LINEAR = measured(0.012, 25e6, 100e6, 5, {"aten::addmm": 0.0119, "aten::relu": 1e-4}, {"addmm": 25e6})


def only(baseline, machine=None, plans=ALL, hints=None):
    (finding,) = diagnose(baseline, machine or peaks(), plans, hints)
    return finding, {str(p.plan): p for p in finding.predictions}


def test_big_convolutions_are_compute_bound():
    finding, found = only(CONVOLUTIONS)
    assert finding.name == "compute-bound"
    evidence = finding.evidence
    assert evidence["compute_s"] == pytest.approx(3.6e9 / 200e9)
    assert evidence["memory_s"] == pytest.approx(60e6 / 10e9)
    assert evidence["overhead_s"] == pytest.approx(90 * 2e-6)
    assert evidence["intensity_flop_per_byte"] == pytest.approx(60)
    assert evidence["achieved_flops"] == pytest.approx(3.6e9 / 0.030)
    assert evidence["latency_s"] == 0.030
    assert found["onnx > quantize_static"].gain > found["onnx"].gain > 1
    # int8 cannot beat its own peak nor the bytes that are left
    assert found["onnx > quantize_static"].ceiling == pytest.approx(0.030 / (3.6e9 / 700e9))
    assert found["onnx"].ceiling == pytest.approx(0.030 / (3.6e9 / 200e9))


def test_the_parts_add_up_to_the_latency():
    for baseline in (CONVOLUTIONS, TINY, LINEAR):
        finding, _ = only(baseline)
        evidence = finding.evidence
        ideal = min(max(evidence["compute_s"], evidence["memory_s"]), evidence["latency_s"])
        total = ideal + evidence["overhead_s"] + evidence["slack_s"] + evidence["other_s"]
        assert total == pytest.approx(evidence["latency_s"], rel=0.06)
        assert min(evidence["overhead_s"], evidence["slack_s"], evidence["other_s"]) >= 0


def test_a_tiny_net_is_dispatch_bound_and_engines_gain_most():
    finding, found = only(TINY)
    assert finding.name == "dispatch-bound"
    assert "30 operators" in finding.claim
    assert found["onnx"].gain > 2
    assert found["onnx"].gain > found["channels_last"].gain
    # int8 makes no fixed cost smaller: little on top of the engine
    assert found["onnx > quantize_static"].gain < 1.2 * found["onnx"].gain


def test_a_big_linear_layer_is_memory_bound_and_gains_by_smaller_weights():
    finding, found = only(LINEAR)
    assert finding.name == "memory-bound"
    assert found["onnx > quantize_dynamic"].gain > 2
    assert found["onnx"].gain < 1.3
    assert found["channels_last"].hopeless
    assert "convolutions" in found["channels_last"].because


def test_bytes_that_fit_in_the_cache_move_at_its_speed():
    cached = (
        *peaks(),
        sample("read_bandwidth_bytes_per_s", 20e9, cache_bytes=40e6),
        sample("cache_bandwidth_bytes_per_s", 80e9, cache_bytes=40e6),
    )
    finding, _ = only(LINEAR, cached)
    assert finding.evidence["memory_s"] == pytest.approx(40e6 / 80e9 + 60e6 / 20e9)


def test_dynamic_quantisation_is_hopeless_for_convolutions():
    _, found = only(CONVOLUTIONS)
    assert found["onnx > quantize_dynamic"].hopeless
    assert "matrix products" in found["onnx > quantize_dynamic"].because
    assert not found["onnx > quantize_static"].hopeless


def test_int8_is_hopeless_for_speed_without_int8_instructions():
    _, found = only(CONVOLUTIONS, peaks(int8=205e9))
    for name in ("onnx > quantize_static", "openvino > nncf_int8"):
        assert found[name].hopeless
        assert "205 GFLOP/s" in found[name].because
        assert "fp32 200" in found[name].because
        assert "shrink" in found[name].because
    assert not found["onnx"].hopeless


def test_bf16_slower_than_fp32_is_hopeless_and_says_the_numbers():
    _, found = only(CONVOLUTIONS, peaks(bf16=40e9))
    for name in ("bf16", "openvino(precision=bf16)"):
        assert found[name].hopeless
        assert "40 GFLOP/s" in found[name].because
    assert not found["openvino"].hopeless


def test_bf16_with_its_own_instructions_is_worth_trying():
    _, found = only(CONVOLUTIONS, peaks(bf16=800e9))
    assert not found["bf16"].hopeless
    assert found["bf16"].gain > 1.3
    assert found["openvino(precision=bf16)"].gain > found["openvino"].gain


def test_most_gain_per_minute_first_and_hopeless_last():
    finding, found = only(CONVOLUTIONS)
    hopes = [p for p in finding.predictions if not p.hopeless]
    assert list(finding.predictions[: len(hopes)]) == hopes
    rates = [(p.gain - 1) / p.minutes for p in hopes]
    assert rates == sorted(rates, reverse=True)
    assert len(found) == len(ALL)


def test_cost_hints_replace_the_minutes_of_a_step():
    _, plain = only(CONVOLUTIONS)
    finding, hinted = only(CONVOLUTIONS, hints={"compile": 50.0})
    assert hinted["compile"].minutes == pytest.approx(plain["compile"].minutes + 50 - 0.7)
    assert str([p.plan for p in finding.predictions if not p.hopeless and p.gain > 1][-1]) == "compile"


def test_gain_never_exceeds_the_ceiling():
    for baseline in (CONVOLUTIONS, TINY, LINEAR):
        for machine in (peaks(), peaks(int8=2e12, bf16=2e12), peaks(copy=1e9)):
            _, found = only(baseline, machine)
            assert all(0 < p.gain <= p.ceiling * 1.000001 for p in found.values())


def test_a_baseline_that_runs_in_an_engine_gains_nothing_by_another_engine():
    baseline = measured(0.030, 1.8e9, 60e6, 40, {"Conv": 0.028, "Relu": 0.002}, {"Conv": 1.8e9})
    finding, found = only(baseline)
    assert finding.evidence["overhead_s"] == 0
    assert found["openvino"].gain == pytest.approx(1.0)
    assert found["onnx > quantize_static"].gain > 1.5


def test_the_baseline_itself_gains_nothing():
    _, found = only(CONVOLUTIONS, plans=(plan(),))
    assert found["baseline"].gain == pytest.approx(1.0)
    assert not found["baseline"].hopeless


def test_operator_times_alone_tell_the_kinds_of_work():
    baseline = measured(0.030, 1.8e9, 60e6, 90, {"aten::mkldnn_convolution": 0.024}, {})
    _, found = only(baseline)
    assert found["onnx > quantize_dynamic"].hopeless
    assert not found["channels_last"].hopeless


@pytest.mark.parametrize("quantity", ["latency_s", "macs", "moved_bytes"])
def test_what_is_missing_is_named_and_nothing_is_predicted(quantity):
    kept = tuple(r for r in CONVOLUTIONS.readings if r.quantity != quantity)
    baseline = Measurement(subject="x", environment=ENVIRONMENT, readings=kept)
    (finding,) = diagnose(baseline, peaks(), ALL)
    assert finding.name == "undiagnosed"
    assert quantity in finding.claim
    assert finding.predictions == ()


def test_a_missing_peak_is_named_where_it_is_needed():
    missing = Unavailable(quantity="gemm_int8_flops", reason="needs the 'onnx' extra")
    machine = tuple(missing if p.quantity == "gemm_int8_flops" else p for p in peaks())
    _, found = only(CONVOLUTIONS, machine)
    assert "needs the 'onnx' extra" in found["onnx > quantize_static"].because
    (finding,) = diagnose(CONVOLUTIONS, (), ALL)
    assert "gemm_fp32_flops" in finding.claim


def test_a_model_without_products_is_not_diagnosed():
    baseline = measured(0.001, 0, 0, 3, {"aten::relu": 0.001}, {})
    (finding,) = diagnose(baseline, peaks(), ALL)
    assert finding.name == "undiagnosed"


def test_every_known_step_has_an_effect():
    from steelyard.passes import PASSES

    assert set(PASSES) == set(EFFECTS)


def test_kernels_far_below_the_roofline_are_called_under_utilised():
    slow = measured(
        0.300, 1.8e9, 60e6, 90, {"aten::mkldnn_convolution": 0.28, "aten::relu": 0.02}, {"convolution": 1.8e9}
    )
    finding, _ = only(slow)
    assert finding.name == "under-utilised"
    assert "far below their peak" in finding.claim


def test_pruned_channels_leave_their_share_of_the_work():
    """Half of the work is half of the least time; the square root of it is left of what has no products."""
    for macs in (0.5, 0.25):
        pruned = Step(name="prune", options=(("macs", macs),))
        (finding,) = diagnose(CONVOLUTIONS, peaks(), [plan(pruned), plan("export")])
        parts = finding.evidence
        found = next(p for p in finding.predictions if p.plan == plan(pruned))
        left = macs * (max(parts["compute_s"], parts["memory_s"]) + parts["slack_s"]) + parts["overhead_s"]
        assert found.gain == pytest.approx(0.030 / (left + macs**0.5 * parts["other_s"]), rel=0.02)
        assert not found.hopeless


def test_single_zeros_are_hopeless_for_speed_and_it_says_why():
    (finding,) = diagnose(CONVOLUTIONS, peaks(), [plan("sparsify", "openvino")])
    (found,) = finding.predictions
    assert found.hopeless
    assert found.because.startswith("the engines here multiply zeros like any other number")


def test_students_leave_their_share_of_the_work():
    """A width counts on both sides of a product, a depth once for everything."""
    students = {"width=0.5": (0.25, 0.5, 1.0), "depth=0.5": (0.5, 0.5, 0.5)}
    for student, (macs, other, overhead) in students.items():
        step = Step(name="distill", options=(("student", student),))
        (finding,) = diagnose(CONVOLUTIONS, peaks(), [plan(step)])
        parts, (found,) = finding.evidence, finding.predictions
        left = macs * (max(parts["compute_s"], parts["memory_s"]) + parts["slack_s"]) + overhead * parts["overhead_s"]
        assert found.gain == pytest.approx(0.030 / (left + other * parts["other_s"]), rel=0.02)


def test_training_under_rounding_is_predicted_as_int8_in_openvino():
    qat, steps = plan("qat"), plan("openvino", "nncf_int8")
    (finding,) = diagnose(CONVOLUTIONS, peaks(), [qat, steps])
    gains = {p.plan: p.gain for p in finding.predictions}
    assert gains[qat] == pytest.approx(gains[steps], rel=1e-6)


def test_separable_needs_convolutions():
    (finding, *_) = diagnose(LINEAR, peaks(), [plan("distill")])
    assert finding.predictions[0].because == "separable takes convolutions apart, and this model has none"
