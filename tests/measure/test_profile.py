"""Rows of layers and their counts, and the profiler of every engine on the tiny net."""

import numpy as np
import pytest

import tiny_models
from steelyard.counts.macs import LayerCount, MacCount
from steelyard.measure.profile import Profiler, data_rate, join_counts, layer_times
from steelyard.measure.trace import trace_events
from steelyard.records import LayerTime, Sample
from steelyard.subject.engines import Slice
from steelyard.subject.splits import Split
from trace_form import check_trace


def piece(name, layer, run, start, seconds, **more):
    return Slice(name=name, layer=layer, run=run, start_s=start, seconds=seconds, self_s=seconds, **more)


def test_rows_hold_outermost_operators_with_all_that_they_called():
    slices = [
        piece("fc", "fc", 0, 0.0, 3.0, kind="layer"),
        piece("aten::linear", "fc", 0, 0.0, 2.0),
        piece("aten::addmm", "fc", 0, 0.5, 1.0, outermost=False),
        piece("aten::linear", "fc", 1, 0.0, 4.0),
        piece("aten::linear", "fc", 1, 5.0, 1.0),
        piece("aten::relu", "fc", 1, 6.0, 0.5),
    ]
    rows = layer_times(slices, 3)
    assert [(row.layer, row.operator, row.names) for row in rows] == [
        ("fc", "matmul", ("aten::linear",)), ("fc", "relu", ("aten::relu",)),
    ]  # fmt: skip
    assert rows[0].seconds.tolist() == [2.0, 5.0, 0.0]
    assert rows[0].calls == pytest.approx(1.0)


def test_on_an_accelerator_rows_hold_the_time_of_their_kernels():
    slices = [piece("aten::conv2d", "c", 0, 0.0, 0.1, device_s=2.0), piece("gemm", "", 0, 0.2, 2.0, kind="kernel")]
    (row,) = layer_times(slices, 1)
    assert row.seconds.tolist() == [2.0]


def row(layer, operator):
    return LayerTime(layer=layer, operator=operator, names=(operator,), seconds=np.ones(2), calls=1.0)


def part(layer, operator, macs=0, moved=0):
    return LayerCount(layer=layer, operator=operator, macs=macs, moved_bytes=moved, dtype="fp32")


def test_counts_go_to_their_layer_to_what_covers_it_or_to_what_stands_for_it():
    rows = [
        row("conv", "convolution"),
        row("norm", "batchnorm"),
        row("pool", "adaptiveavgpool2d"),
        row("encoder.0", "transformerencoderlayerfwd"),
        row("fused", "convolution"),
    ]
    count = MacCount(
        layers=(
            part("conv", "convolution", 10, 1),
            part("encoder.0.linear1", "addmm", 20, 2),
            part("encoder.0.self_attn", "_scaled_dot_product_flash_attention_for_cpu", 30, 3),
            part("inner", "Convolution", 40, 4),
            part("lost", "mm", 5, 5),
        ),
        others=(part("norm", "native_batch_norm", 0, 6), part("pool", "mean", 0, 7), part("lost", "relu", 0, 8)),
        uncounted={"mystery": 1},
    )
    found, lost = join_counts(rows, count, {"inner": ("fused", "convolution")})
    assert {r.layer: (r.macs, r.moved_bytes, r.state) for r in found} == {
        "conv": (10, 1, "counted"),
        "norm": (0, 6, "zero"),
        "pool": (0, 7, "zero"),
        "encoder.0": (50, 5, "counted"),
        "fused": (40, 4, "counted"),
    }
    assert lost == 5


def test_what_could_not_be_counted_is_unknown_and_not_zero():
    (found,), _ = join_counts([row("", "mystery")], MacCount(layers=(), uncounted={"mystery": 2}))
    assert found.state == "unknown"


def test_the_rate_of_data_is_examples_over_the_clock():
    ticks = iter([0.0, 0.0, 2.0, 2.0, 6.0, 6.0, 7.0])
    split = Split(raw=np.zeros((10, 1, 8, 8), np.uint8), labels=np.zeros(10, np.int32))
    found = data_rate(split, tiny_models.CONTRACT, 4, 100.0, clock=lambda: next(ticks))
    assert found.values.tolist() == [2.0, 1.0, 2.0]  # 4 in 2 s, 4 in 4 s, 2 in 1 s
    ticks = iter([0.0, 0.0, 2.0, 2.0, 6.0])
    assert (
        data_rate(split, tiny_models.CONTRACT, 4, 3.0, clock=lambda: next(ticks)).values.size == 2
    )  # the time is over


# --- the engines ------------------------------------------------------------------------------------


def openvino_artifact(folder):
    import dataclasses

    artifact = tiny_models.onnx_artifact(folder)
    moved = dataclasses.replace(artifact, engine="openvino")
    from steelyard.subject.artifact import write_manifest

    write_manifest(moved)
    return moved


MAKERS = {
    "eager": tiny_models.eager_artifact,
    "onnxruntime": tiny_models.onnx_artifact,
    "openvino": openvino_artifact,
}


@pytest.fixture(scope="module", params=list(MAKERS))
def profile(request, tmp_path_factory):
    for module in ("torch", "onnxruntime", "openvino"):
        pytest.importorskip(module)
    folder = tmp_path_factory.mktemp(request.param)
    artifact = MAKERS[request.param](folder / "model")
    inputs = tiny_models.write_inputs(folder / "inputs.npy")
    return Profiler().profile(str(artifact.folder), str(inputs), 2, 0.3)


def test_every_engine_shows_its_layers_with_what_they_ask_for(profile):
    found = profile.profiled
    runs = found.profiled_s.size
    assert runs >= 3
    assert found.plain_s.size >= 3
    assert all(r.seconds.shape == (runs,) and (r.seconds >= 0).all() for r in found.layers)
    macs = sum(r.macs for r in found.layers)
    executed = {
        2 * tiny_models.MACS,
        2 * (tiny_models.MACS + 64 * 4 * 9),
    }  # ONNX Runtime may fill up four channels to eight
    assert macs in executed
    assert sum(r.macs > 0 for r in found.layers) == 3
    assert {r.dtype for r in found.layers if r.macs} == {"fp32"}
    assert found.unknown == ()
    assert all(ours == theirs for _, ours, theirs in found.opinions)


def test_layers_never_take_longer_than_their_inference(profile):
    """Turn by turn: OpenVINO tells means of a turn, in whole microseconds."""
    found = profile.profiled
    together = np.sum([r.seconds for r in found.layers], axis=0)
    for turn in np.unique(found.blocks):
        within = found.blocks == turn
        slack_s = 1e-6 * len(found.layers)
        assert together[within].mean() <= found.profiled_s[within].mean() * 1.001 + slack_s


def test_readings_are_of_one_example(profile):
    macs = next(r for r in profile.readings if r.quantity == "macs")
    assert isinstance(macs, Sample)
    assert macs.value == tiny_models.MACS
    spread = [r for r in profile.readings if isinstance(r, Sample) and r.quantity == "operator_s"]
    assert all(r.values.size == profile.profiled.profiled_s.size for r in spread)


def test_the_trace_of_every_engine_nests_and_counts_memory(profile):
    events = trace_events(profile.spans, profile.counts, "tiny")
    check_trace({"displayTimeUnit": "ms", "traceEvents": events})
    names = [e["name"] for e in events if e["ph"] == "X"]
    for phase in ("load", "first call", "unprofiled turn 2", "profiled turn 2"):
        assert phase in names
    assert sum(name.startswith("inference ") for name in names) == 3
    assert any("onv" in name for name in names)
    memory = [e for e in events if e["ph"] == "C" and e["name"] == "resident_bytes"]
    assert len(memory) >= 2
    assert all(e["args"]["value"] > 1e6 for e in memory)


def test_kernels_of_a_cuda_device_are_seen(tmp_path):
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device: the accelerator's kernels cannot be profiled here")
    import dataclasses

    from steelyard.subject.artifact import write_manifest

    artifact = dataclasses.replace(tiny_models.eager_artifact(tmp_path / "m"), options={"device": "cuda"})
    write_manifest(artifact)
    found = Profiler().profile(str(artifact.folder), str(tiny_models.write_inputs(tmp_path / "i.npy")), 2, 0.3)
    assert found.profiled.device == "cuda"
    assert any(span.track == "accelerator" for span in found.spans)
    assert sum(float(np.median(r.seconds)) for r in found.profiled.layers if r.macs) > 0
