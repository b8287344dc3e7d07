"""Explanations on models whose truth is known: linear ones, planted pixels and words, and every engine."""

import io

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from torch import nn

from steelyard.errors import InvalidInput
from steelyard.measure.explain import explain, explain_texts, heat_png, picture_png, units
from steelyard.records import Contract
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner
from steelyard.subject.engines.torch import TorchRunner

RNG = np.random.default_rng(0)
WEIGHTS = RNG.standard_normal((3, 6)).astype(np.float32)


def linear(inputs):
    """Outputs (n, 3) of inputs (n, 6)."""
    return inputs @ WEIGHTS.T + 1


def as_module():
    module = nn.Linear(6, 3)
    with torch.no_grad():
        module.weight.copy_(torch.from_numpy(WEIGHTS))
    return module


def refused(call):
    with pytest.raises(InvalidInput) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# --- integrated gradients --------------------------------------------------------------------------


def test_integrated_gradients_of_a_linear_model_are_weight_times_input():
    inputs, targets = RNG.standard_normal((5, 6)).astype(np.float32), [0, 2, 1, 1, 0]
    module = as_module()
    found = explain(TorchRunner(module), inputs, targets, method="integrated_gradients", module=module, layout="F")
    assert found.values == pytest.approx(WEIGHTS[targets] * inputs, abs=1e-5)
    assert np.abs(found.delta).max() < 1e-4
    away = explain(
        TorchRunner(module), inputs, targets, method="integrated_gradients", module=module, layout="F", baseline=0.5
    )
    assert away.values == pytest.approx(WEIGHTS[targets] * (inputs - 0.5), abs=1e-5)


def test_integrated_gradients_sum_to_the_change_of_the_output():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Dropout(0.9), nn.Flatten(), nn.Linear(4 * 6 * 6, 3)).train()
    inputs = RNG.standard_normal((3, 2, 8, 8)).astype(np.float32)
    found = explain(TorchRunner(net.eval()), inputs, [0, 1, 2], method="integrated_gradients", module=net.train())
    assert net.training  # as it was
    net.eval()
    with torch.no_grad():
        change = (net(torch.from_numpy(inputs)) - net(torch.zeros(1, 2, 8, 8))).numpy()[np.arange(3), np.arange(3)]
    assert found.values.shape == (3, 8, 8)
    assert found.values.sum(axis=(1, 2)) == pytest.approx(change, abs=1e-3)
    assert found.delta == pytest.approx(found.values.sum(axis=(1, 2)) - change, abs=1e-4)
    assert found.note.startswith(
        "integrated gradients from the input 0 in 64 steps; the weights miss the output's change by"
    )


# --- occlusion -------------------------------------------------------------------------------------


def test_occlusion_of_a_linear_model_is_weight_times_input():
    inputs, targets = RNG.standard_normal((4, 6)).astype(np.float32), [2, 0, 1, 2]
    found = explain(linear, inputs, targets, layout="F")
    assert found.values == pytest.approx(WEIGHTS[targets] * inputs, abs=1e-5)
    assert found.delta is None


@pytest.mark.parametrize("layout", ["CHW", "HWC", "HW"])
def test_occlusion_finds_the_planted_pixel(layout):
    shape = {"CHW": (3, 9, 12), "HWC": (9, 12, 3), "HW": (9, 12)}[layout]
    inputs = RNG.uniform(1, 2, (2, *shape)).astype(np.float32)

    def call(batch):
        """Class 1 is the brightness of the pixel in row 6, column 4; class 0 its opposite."""
        upright = batch if layout != "HWC" else batch.transpose(0, 3, 1, 2)
        bright = upright[..., 6, 4].reshape(len(batch), -1).sum(axis=1)
        return np.stack([-bright, bright], axis=1)

    found = explain(call, inputs, [1, 0], layout=layout, window=1)
    expected = np.zeros((2, 9, 12))
    expected[:, 6, 4] = call(inputs)[[0, 1], [1, 0]]
    assert found.values == pytest.approx(expected, abs=1e-5)
    wide = explain(call, inputs, [1, 0], layout=layout, window=3).values
    assert wide[0, 6, 4] == pytest.approx(expected[0, 6, 4], abs=1e-5)  # the mean loss of the windows over it
    assert (wide[0, :3] == 0).all()


def test_windows_are_an_eighth_of_the_shorter_side():
    found = explain(lambda x: x.reshape(len(x), -1)[:, :2], np.ones((1, 1, 24, 40), dtype=np.float32), [0])
    assert found.note == "occlusion with the value 0 in windows of 3x3 pixels: the output's loss where they cover"


@pytest.fixture(scope="module")
def runners(tmp_path_factory):
    """The linear model as an ONNX file and as OpenVINO IR."""
    import openvino

    folder = tmp_path_factory.mktemp("linear")
    weights = [numpy_helper.from_array(WEIGHTS.T.copy(), "w"), numpy_helper.from_array(np.ones(3, np.float32), "b")]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", k]) for n, k in (("x", 6), ("y", 3))]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["z"]), helper.make_node("Add", ["z", "b"], ["y"])]
    graph = helper.make_graph(nodes, "linear", ends[:1], ends[1:], weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), folder / "model.onnx"
    )
    openvino.save_model(openvino.convert_model(folder / "model.onnx"), folder / "model.xml", compress_to_fp16=False)
    contract = Contract(shape=(6,), layout="F", labels=("a", "b", "c"))
    return {
        engine: load_runner(Artifact(folder=folder, engine=engine, file=file, contract=contract))
        for engine, file in (("onnxruntime", "model.onnx"), ("openvino", "model.xml"))
    }


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_models_of_any_engine_are_occluded(runners, engine):
    inputs = RNG.standard_normal((2, 6)).astype(np.float32)
    found = explain(runners[engine], inputs, [1, 2], layout="F")
    assert found.values == pytest.approx(WEIGHTS[[1, 2]] * inputs, abs=2e-3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"inputs": np.ones((2, 6), np.int64)},
            "inputs are int64, and nothing lies between two codes: explain texts with explain_texts, through their encode",
        ),
        ({"inputs": np.ones((0, 6), np.float32), "targets": []}, "there is nothing to explain: no inputs"),
        ({"inputs": np.full((2, 6), np.nan, np.float32)}, "inputs hold NaN or infinity"),
        ({"targets": [0, 3]}, "target 3 is outside 0..2, the model's classes"),
        ({"targets": [0]}, "targets are int64 of shape (1,); 2 class indices are needed"),
        ({"targets": [0.0, 1.0]}, "targets are float64 of shape (2,); 2 class indices are needed"),
        ({"call": lambda x: x.sum(axis=1)}, "the model gives outputs of shape (1,); (n, classes) is needed"),
        (
            {"call": lambda x: x * np.inf},
            "occlusion gave NaN or infinity: the model's outputs or gradients are not finite",
        ),
        ({"method": "magic"}, "unknown method 'magic'; known: integrated_gradients, occlusion"),
        (
            {"method": "integrated_gradients"},
            "integrated gradients need a PyTorch module: give module=..., or use method='occlusion'",
        ),
        ({"window": 7}, "the window must be 1 to 6 wide, got 7"),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
def test_what_cannot_be_explained(change, message):
    words = {"call": linear, "inputs": np.ones((2, 6), np.float32), "targets": [0, 1], "layout": "F", **change}
    assert refused(lambda: explain(words.pop("call"), words.pop("inputs"), words.pop("targets"), **words)) == message


# --- texts -----------------------------------------------------------------------------------------


@given(st.text(max_size=40))
def test_units_are_the_whole_text(text):
    assert "".join(units(text)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a moving, 2010 film", ("a", " ", "moving", ",", " ", "2010", " ", "film")),
        ("it's rock'n'roll!", ("it's", " ", "rock'n'roll", "!")),
        ("东5环海棠", ("东", "5", "环", "海", "棠")),
        ("über Ｇ", ("über", " ", "Ｇ")),
    ],
)
def test_units_are_words_of_alphabets_and_characters_of_others(text, expected):
    assert units(text) == expected


def encode(texts):
    """Counts of good, bad and 好."""
    return np.array([[t.split().count("good"), t.split().count("bad"), t.count("好")] for t in texts])


def judge(rows):
    """Class 1 is what is good less what is bad."""
    score = (rows @ np.array([2.0, -1.0, 3.0], dtype=rows.dtype)).astype(np.float64)
    return np.stack([-score, score], axis=1)


def test_words_and_characters_weigh_what_the_output_loses_without_them():
    texts = ["a good and bad film", "很好吃"]
    found = explain_texts(encode, judge, texts, [1, 1], dtype="int64")
    assert found.units == (("a", " ", "good", " ", "and", " ", "bad", " ", "film"), ("很", "好", "吃"))
    assert [v.tolist() for v in found.values] == [[0, 0, 2, 0, 0, 0, -1, 0, 0], [0, 3, 0]]
    assert found.method == "occlusion"
    against = explain_texts(encode, judge, texts, [0, 0], dtype="float32").values
    assert [v.tolist() for v in against] == [[0, 0, -2, 0, 0, 0, 1, 0, 0], [0, -3, 0]]


def test_a_text_of_one_unit_and_a_long_one():
    found = explain_texts(encode, judge, ["good", "bad " * 150], [1, 1], dtype="int64")
    assert found.values[0].tolist() == [2]
    assert found.values[1].tolist() == [-1, 0] * 150


def test_texts_that_cannot_be_explained():
    assert refused(lambda: explain_texts(encode, judge, [], [], dtype="int64")) == (
        "there is nothing to explain: no texts, or an empty one"
    )
    assert refused(lambda: explain_texts(encode, judge, ["good"], [2], dtype="int64")) == (
        "target 2 is outside 0..1, the model's classes"
    )
    broken = lambda rows: np.full((len(rows), 2), np.nan)  # noqa: E731
    assert refused(lambda: explain_texts(encode, broken, ["good"], [1], dtype="int64")) == (
        "the model's outputs hold NaN or infinity"
    )


# --- pictures --------------------------------------------------------------------------------------


def opened(content):
    image = Image.open(io.BytesIO(content))
    assert image.format == "PNG"
    return np.asarray(image)


def test_a_small_picture_is_enlarged_in_whole_steps():
    raw = RNG.integers(0, 256, (3, 20, 30), dtype=np.uint8)
    shown = opened(picture_png(raw))
    assert shown.shape == (120, 180, 3)
    assert np.array_equal(shown[::6, ::6], raw.transpose(1, 2, 0))
    assert np.array_equal(opened(picture_png(raw.transpose(1, 2, 0), "HWC")), shown)
    assert opened(picture_png(np.zeros((1, 200, 150), np.uint8))).shape == (200, 150, 3)


def test_other_numbers_are_stretched():
    shown = opened(picture_png(np.array([[-1.0, 0.0], [1.0, 3.0]]), "HW"))[::56, ::56, 0]
    assert shown.tolist() == [[0, 64], [128, 255]]
    assert (opened(picture_png(np.full((1, 4, 4), 2.5))) == 0).all()


def test_red_speaks_for_and_blue_against():
    raw = np.full((1, 2, 2), 128, dtype=np.uint8)
    shown = opened(heat_png(raw, np.array([[2.0, -2.0], [0.0, 1.0]])))[::56, ::56].astype(int)
    red, blue, grey, pale = shown[0, 0], shown[0, 1], shown[1, 0], shown[1, 1]
    assert red[0] > red[2] + 100
    assert blue[2] > blue[0] + 100
    assert grey.tolist() == [160, 160, 160]
    assert np.abs(pale - (red + grey) / 2).max() <= 1
    assert (opened(heat_png(raw, np.zeros((2, 2)))) == 160).all()


def test_what_is_no_picture():
    assert refused(lambda: picture_png(np.zeros(6), "F")) == "an example of shape (6,) (F) is no picture"
    assert refused(lambda: picture_png(np.zeros((2, 5, 5)))) == (
        "the picture has 2 channels; grey (1) or colour (3) is needed"
    )
    assert refused(lambda: heat_png(np.zeros((1, 5, 5)), np.zeros((5, 4)))) == (
        "the attribution has shape (5, 4), the picture (5, 5)"
    )
