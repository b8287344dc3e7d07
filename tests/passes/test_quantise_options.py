"""What the options of the quantisers do, against ranges and weights worked out in NumPy."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny_models
from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes import to_pass
from steelyard.passes.bench import Bench
from steelyard.passes.nncf_int8 import NncfInt8
from steelyard.passes.options import names_in
from steelyard.passes.quantize_static import QuantizeStatic, narrow_note, narrows
from steelyard.records import Step
from steelyard.subject.artifact import Artifact
from steelyard.subject.splits import read_split

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
Sources = Callable[[str], Artifact]


def quantised(sources: Sources, calibration: Path, folder: Path, **options: Any) -> Artifact:
    folder.mkdir(exist_ok=True)
    bench = Bench(folder=folder, examples=tiny_models.examples(), data=calibration)
    return QuantizeStatic(**options).apply(sources("onnxruntime"), bench).artifact


def arrays_of(path: Path) -> Mapping[str, NDArray[Any]]:
    return {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}


def input_scale(path: Path) -> tuple[float, int]:
    """Scale and zero point that the model's own input is quantised with."""
    graph, arrays = onnx.load(path).graph, arrays_of(path)
    node = next(n for n in graph.node if n.op_type == "QuantizeLinear" and n.input[0] == graph.input[0].name)
    return float(arrays[node.input[1]]), int(arrays[node.input[2]])


def seen(calibration: Path) -> NDArray[np.float32]:
    return read_split(calibration, "calibration").inputs(tiny_models.CONTRACT)


def test_minmax_ranges_are_the_extremes_with_zero_in_them(sources: Sources, calibration: Path, tmp_path: Path) -> None:
    scale, zero = input_scale(quantised(sources, calibration, tmp_path).path)
    low, high = min(0.0, float(seen(calibration).min())), max(0.0, float(seen(calibration).max()))
    assert scale == pytest.approx((high - low) / 255, rel=1e-5)
    assert zero == round(-low / scale)


def test_symmetric_ranges_have_zero_in_the_middle(sources: Sources, calibration: Path, tmp_path: Path) -> None:
    scale, zero = input_scale(quantised(sources, calibration, tmp_path, symmetric=True).path)
    assert scale == pytest.approx(2 * float(np.abs(seen(calibration)).max()) / 255, rel=0.01)
    assert zero in (127, 128)


def test_a_percentile_cuts_what_lies_beyond_it(sources: Sources, calibration: Path, tmp_path: Path) -> None:
    options = {"calibrator": "percentile", "percentile": 80.0, "symmetric": True}
    scale, _ = input_scale(quantised(sources, calibration, tmp_path, **options).path)
    kept = seen(calibration)[:96]  # whole strides
    expected = float(np.quantile(np.abs(kept), 0.8))
    assert scale * 255 / 2 == pytest.approx(expected, rel=0.03)  # histograms have 2,048 bins
    assert expected < 0.8 * float(np.abs(kept).max())


@pytest.mark.parametrize(("narrow", "most"), [("on", 64), ("off", 127)])
def test_narrow_weights_hold_seven_bits(
    sources: Sources, calibration: Path, tmp_path: Path, narrow: str, most: int
) -> None:
    artifact = quantised(sources, calibration, tmp_path, narrow=narrow)
    weights = [a for a in arrays_of(artifact.path).values() if a.dtype == np.int8 and a.ndim > 1]
    assert len(weights) == 3
    assert max(int(np.abs(a.astype(int)).max()) for a in weights) in (most, most - 1, most + 1)
    assert artifact.notes == (narrow_note(narrow == "on"),)
    assert ("hold 7 bits" if narrow == "on" else "narrow=on") in artifact.notes[0]


def test_automatic_narrowness_follows_the_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    from steelyard.passes import quantize_static

    for sets, expected in ((("avx2",), True), (("avx2", "avx512_vnni"), False), (("neon",), False)):
        monkeypatch.setattr(quantize_static, "environment", lambda sets=sets: type("E", (), {"instruction_sets": sets}))
        assert narrows("auto") is expected
        assert narrows("on")
        assert not narrows("off")


def test_layers_left_out_keep_their_weights(sources: Sources, calibration: Path, tmp_path: Path) -> None:
    artifact = quantised(sources, calibration, tmp_path, exclude="Gemm_5")
    kept = [a for a in arrays_of(artifact.path).values() if a.dtype == np.float32 and a.ndim == 2]
    assert [a.shape for a in kept] == [(10, 128)]
    np.testing.assert_array_equal(kept[0], tiny_models.weights()["5.weight"])


def test_a_layer_that_is_not_there_is_refused_with_the_nearest(
    sources: Sources, calibration: Path, tmp_path: Path
) -> None:
    with pytest.raises(InvalidInput, match=r"has no layer 'Gem_5' to leave out; nearest: Gemm_5"):
        quantised(sources, calibration, tmp_path, exclude="Gem_5")
    assert names_in("mixed", "", ["a"]) == ()


def test_the_form_of_operators_has_no_floating_point_layer(sources: Sources, calibration: Path, tmp_path: Path) -> None:
    kinds = {n.op_type for n in onnx.load(quantised(sources, calibration, tmp_path, form="qoperator").path).graph.node}
    assert {"QLinearConv", "QGemm"} <= kinds
    assert not {"Conv", "Gemm"} & kinds


def test_a_graph_of_an_old_opset_is_raised(sources: Sources, tmp_path: Path) -> None:
    from steelyard.passes.onnx_graph import OPSET, read_graph

    model = onnx.load(sources("onnxruntime").path)
    model.opset_import[0].version = 11  # its operators are as they were then
    onnx.save(model, tmp_path / "old.onnx")
    raised = read_graph(tmp_path / "old.onnx")
    assert [entry.version for entry in raised.opset_import] == [OPSET]
    assert len({node.name for node in raised.graph.node}) == len(raised.graph.node)


def test_a_graph_with_nothing_to_quantise_is_refused(tmp_path: Path, calibration: Path) -> None:
    from onnx import TensorProto, helper

    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 1, 8, 8]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Exp", ["x"], ["y"])], "exp", shapes[:1], shapes[1:])
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), tmp_path / "model.onnx")
    source = Artifact(folder=tmp_path, engine="onnxruntime", file="model.onnx", contract=tiny_models.CONTRACT)
    bench = Bench(folder=tmp_path / "new", examples=tiny_models.examples(), data=calibration)
    bench.folder.mkdir()
    with pytest.raises(CannotApply, match="left every layer as it was"):
        QuantizeStatic().apply(source, bench)


@pytest.mark.parametrize(
    ("name", "option", "value", "words"),
    [
        (
            "quantize_static",
            "calibrator",
            "percentil",
            "calibrator must be minmax or percentile or entropy.*percentile$",
        ),
        ("quantize_static", "percentile", 40.0, "percentile must lie above 50"),
        ("quantize_dynamic", "narrow", True, "narrow must be auto or on or off, got True"),
        ("nncf_int8", "preset", "perfomance", "nearest: performance"),
        ("nncf_int8", "subset", -1, "subset must be 0"),
        ("nncf_int8", "smooth", 0.5, "needs transformer=True"),
        ("openvino", "precision", "int8", "precision must be f32 or bf16 or f16, got 'int8'"),
        ("openvino", "threads", -1, "streams and threads must be 0"),
        ("compile", "mode", "max-autotun", "nearest: max-autotune"),
        ("onnx_optimise", "provider", "cudda", "provider must be cpu or one of cuda, tensorrt"),
        ("onnx_optimise", "threads", -2, "threads must be 0"),
        ("weight_only", "bits", 3, "bits must be 8 or 4, got 3"),
        ("weight_only", "group", 24, "a power of two from 16, got 24"),
        ("mixed", "drop", 1.5, "drop must be a share from 0 to 1"),
        ("tensorrt", "precision", "int8", "precision must be fp32 or fp16"),
        ("tflite", "threads", -1, "threads must be 0"),
    ],
)
def test_options_that_mean_nothing_are_refused(name: str, option: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as error:
        to_pass(Step(name=name, options=((option, value),)))
    assert str(error.value).startswith(f"{name}: ")


@pytest.mark.parametrize("provider", ["cuda", "qnn"])
def test_what_this_machine_lacks_is_said(
    sources: Sources, tmp_path: Path, provider: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steelyard.probe import engines

    monkeypatch.setattr(engines, "_onnxruntime_devices", lambda: ("CPUExecutionProvider",))
    monkeypatch.setattr(engines, "_has_nvidia", lambda: True)
    bench = Bench(folder=tmp_path, examples=tiny_models.examples())
    for name, options in (("onnx_optimise", (("provider", provider),)), ("tensorrt", ())):
        with pytest.raises(CannotApply, match=r"this ONNX Runtime has no \w+ExecutionProvider: it comes with"):
            to_pass(Step(name=name, options=options)).apply(sources("onnxruntime"), bench)


def test_recorded_launches_are_for_gpus(sources: Sources, tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path, examples=tiny_models.examples())
    with pytest.raises(CannotApply, match="replays CUDA graphs; on a processor it is the default mode"):
        to_pass(Step(name="compile", options=(("mode", "reduce-overhead"),))).apply(sources("eager"), bench)


@pytest.mark.parametrize("quantise", [False, True])
def test_tensorrt_is_told_of_a_graph_that_is_quantised(
    sources: Sources, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantise: bool
) -> None:
    """Without a GPU: the provider is said to be there, and the graph runs on the processor."""
    from steelyard.passes import tensorrt

    name = "TensorrtExecutionProvider"
    source = sources("onnxruntime")
    if quantise:
        source = quantised(sources, calibration, tmp_path / "int8", symmetric=True, activations="int8")
    monkeypatch.setattr(tensorrt, "provider", lambda _: name)
    monkeypatch.setattr(tensorrt, "load_runner", lambda _: tiny_models.logits)
    (tmp_path / "new").mkdir()
    bench = Bench(folder=tmp_path / "new", examples=tiny_models.examples())
    built = to_pass(Step(name="tensorrt", options=(("precision", "fp16"),))).apply(source, bench)
    assert built.artifact.options == {"provider": name, "trt_fp16_enable": True, "trt_int8_enable": quantise}
    assert built.artifact.path.read_bytes() == source.path.read_bytes()


def test_a_device_that_openvino_does_not_find_is_said(sources: Sources, tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path, examples=tiny_models.examples())
    with pytest.raises(CannotApply, match=r"OpenVINO finds no device NPU\.3 here, only CPU"):
        to_pass(Step(name="openvino", options=(("device", "NPU.3"),))).apply(sources("onnxruntime"), bench)


def test_openvinos_options_go_to_the_engine_and_the_usual_ones_do_not(sources: Sources, tmp_path: Path) -> None:
    bench = Bench(folder=tmp_path, examples=tiny_models.examples())
    options = (("threads", 1), ("streams", 1), ("hint", "latency"))
    built = to_pass(Step(name="openvino", options=options)).apply(sources("onnxruntime"), bench)
    assert built.artifact.options == {"precision": "f32", "streams": 1, "threads": 1}


@pytest.mark.parametrize(("narrow", "most"), [("all", 64), ("none", 127)])
def test_nncf_gives_weights_the_bits_asked_for(
    sources: Sources, calibration: Path, tmp_path: Path, narrow: Any, most: int
) -> None:
    openvino = pytest.importorskip("openvino")
    bench = Bench(folder=tmp_path, examples=tiny_models.examples(), data=calibration)
    NncfInt8(narrow=narrow, bias="none", subset=20).apply(sources("openvino"), bench)
    model = openvino.Core().read_model(tmp_path / "model.xml")
    kinds = ("i8", "u8")
    stored = [
        op.data for op in model.get_ops()
        if op.get_type_name() == "Constant" and op.get_element_type().get_type_name() in kinds and op.data.ndim > 1
    ]  # fmt: skip
    assert len(stored) == 3
    assert max(int(np.abs(a.astype(int)).max()) for a in stored) in (most, most - 1, most + 1)
