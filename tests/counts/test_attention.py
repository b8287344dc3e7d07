"""Transformers against sums over their layers written out, published totals, and a second counter; attention in every format."""

import numpy as np
import pytest

from steelyard import counts

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
onnx = pytest.importorskip("onnx")


def encoder_macs(layers: int, length: int, width: int, hidden: int) -> int:
    """Vaswani et al. 2017: q, k, v and output projections 4 L d**2, q k^T and weights v 2 L**2 d, feed-forward 2 L d h."""
    return layers * (4 * length * width**2 + 2 * length**2 * width + 2 * length * width * hidden)


def vit_b_16_macs() -> int:
    """Dosovitskiy et al. 2021, table 1: 196 patches of 16 x 16 x 3 and a class token, 12 layers, a head of 1000."""
    return 196 * (16 * 16 * 3) * 768 + encoder_macs(12, 197, 768, 3072) + 768 * 1000


@pytest.fixture(scope="module")
def bert_base():
    """The shape of BERT-base's encoder (Devlin et al. 2019): 12 layers of width 768, 12 heads, 3072 hidden."""
    layer = torch.nn.TransformerEncoderLayer(768, 12, 3072, batch_first=True, activation="gelu")
    return torch.nn.TransformerEncoder(layer, 12, enable_nested_tensor=False)


def test_vit_b_16_is_its_formula_and_the_published_total():
    weights = torchvision.models.ViT_B_16_Weights.IMAGENET1K_V1
    with torch.device("meta"):
        model, image = torchvision.models.vit_b_16(weights=None), torch.rand(1, 3, 224, 224)
    count = counts.module_macs(model, image)
    assert count.total == vit_b_16_macs() == 17_563_828_224
    assert count.uncounted == {}
    # torchvision publishes GFLOPs that count a multiplication with its addition once
    assert count.total / 1e9 == pytest.approx(weights.meta["_ops"], abs=6e-4)


@pytest.mark.parametrize(
    ("name", "weights"), [("resnet18", "ResNet18_Weights"), ("mobilenet_v2", "MobileNet_V2_Weights")]
)
def test_totals_are_those_that_torchvision_publishes(name, weights):
    with torch.device("meta"):
        model, image = getattr(torchvision.models, name)(weights=None), torch.rand(1, 3, 224, 224)
    published = getattr(torchvision.models, weights).IMAGENET1K_V1.meta["_ops"]
    assert counts.module_macs(model, image).total / 1e9 == pytest.approx(published, abs=6e-4)


def test_bert_base_is_its_formula_and_the_published_total(bert_base):
    """Jiao et al. 2020 (TinyBERT, table 1) give 22.5 billion FLOPs for BERT-base at length 128: 2 a MAC, with the head."""
    meta = bert_base.to("meta")
    count = counts.module_macs(meta, torch.empty(1, 128, 768, device="meta"))
    assert count.total == encoder_macs(12, 128, 768, 3072) == 11_173_625_856
    assert count.flops / 1e9 == pytest.approx(22.5, rel=0.01)
    assert count.uncounted == {}


def test_the_second_counter_agrees_but_for_attention_on_the_processor():
    layer = torch.nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    x = torch.rand(2, 5, 16)
    ours, theirs = counts.module_macs(layer, x), counts.flop_counter_macs(layer, x)
    products = 2 * (4 * 5 * 16**2 + 2 * 5 * 16 * 32)
    assert theirs == {"matmul": products}
    assert ours.total == products + 2 * 2 * 5**2 * 16


def test_multi_head_attention_on_its_fast_path_is_counted():
    attention = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.attention = attention

        def forward(self, x):
            return self.attention(x, x, x, need_weights=False)[0]

    count = counts.module_macs(Net(), torch.rand(3, 7, 8))
    assert count.total == 3 * (4 * 7 * 8**2 + 2 * 7**2 * 8)
    assert set(count.by_layer) == {"attention"}


def test_an_exported_program_names_its_layers_again():
    model = torch.nn.Sequential(torch.nn.Linear(4, 6), torch.nn.ReLU(), torch.nn.Linear(6, 2))
    x = torch.rand(3, 4)
    program = torch.export.export(model.eval(), (x,)).module()
    from steelyard.subject.engines.torch import TorchRunner

    count = counts.module_macs(program, x, TorchRunner(program).node_layers)
    assert count.by_layer == {"0": 3 * 4 * 6, "2": 3 * 6 * 2}
    assert {part.layer for part in count.others if part.operator == "relu"} == {"1"}


def test_views_move_no_bytes_and_weights_are_told_apart():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 5), torch.nn.ReLU())
    count = counts.module_macs(model, torch.rand(2, 3, 4))
    (linear,) = count.layers
    assert linear.weight_bytes == 4 * (12 * 5 + 5)
    assert linear.moved_bytes == 4 * (2 * 12 + 12 * 5 + 5 + 2 * 5)
    assert linear.dtype == "fp32"
    assert {part.operator: part.moved_bytes for part in count.others} == {"view": 0, "t": 0, "relu": 4 * 2 * 10}


# --- ONNX -------------------------------------------------------------------------------------------


def onnx_file(path, nodes, inputs, constants, outputs):
    from onnx import TensorProto, helper, numpy_helper

    def value(name, shape):
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        nodes,
        "g",
        [value(name, shape) for name, shape in inputs.items()],
        [value(name, shape) for name, shape in outputs.items()],
        [numpy_helper.from_array(np.zeros(shape, np.float32), name) for name, shape in constants.items()],
    )
    sets = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=sets, ir_version=8), str(path))
    return path


def test_attention_of_onnx_runtime_and_what_comes_after_it(tmp_path):
    """com.microsoft Attention projects too; shape inference knows neither, yet the product behind them is counted."""
    make, b, n, d, heads = onnx.helper.make_node, 2, 5, 16, 4
    nodes = [
        make("Attention", ["x", "w", "bias"], ["a"], name="self", domain="com.microsoft", num_heads=heads),
        make("SkipLayerNormalization", ["a", "x", "gamma"], ["s"], name="norm", domain="com.microsoft"),
        make("MultiHeadAttention", ["s", "s", "s"], ["m"], name="cross", domain="com.microsoft", num_heads=heads),
        make("MatMul", ["m", "out"], ["y"], name="out"),
    ]
    constants = {"w": (d, 3 * d), "bias": (3 * d,), "gamma": (d,), "out": (d, 300)}
    path = onnx_file(tmp_path / "a.onnx", nodes, {"x": ("n", n, d)}, constants, {"y": ("n", n, 300)})
    count = counts.onnx_macs(path, batch=b)
    assert count.uncounted == {}
    assert count.by_layer == {
        "self": b * n * d * 3 * d + b * 2 * n * n * d,
        "cross": b * 2 * n * n * d,
        "out": b * n * d * 300,
    }
    assert {part.layer: part.weight_bytes for part in count.layers}["out"] == 4 * d * 300  # beyond the size of a shape


@pytest.mark.parametrize(
    ("shapes", "macs"),
    [
        ({"q": (2, 5, 4, 3, 8)}, 2 * 5 * 5 * 2 * 32),  # all packed
        ({"q": (2, 5, 32), "k": (2, 7, 4, 2, 8)}, 2 * 5 * 7 * 2 * 32),  # keys and values packed
        ({"q": (2, 5, 32), "k": (2, 7, 32), "v": (2, 7, 24)}, 2 * 5 * 7 * (32 + 24)),
        ({"q": (2, 5, 32), "k": (2, 4, 7, 8), "v": (2, 4, 7, 8)}, 2 * 5 * 7 * 64),  # by heads
    ],
)
def test_forms_of_multi_head_attention(tmp_path, shapes, macs):
    node = onnx.helper.make_node("MultiHeadAttention", list(shapes), ["y"], domain="com.microsoft", num_heads=4)
    path = onnx_file(tmp_path / "m.onnx", [node], shapes, {}, {"y": (2, 5, 32)})
    assert counts.onnx_macs(path).total == macs


def test_recurrent_and_einsum_of_onnx(tmp_path):
    make = onnx.helper.make_node
    nodes = [
        make("LSTM", ["x", "w", "r"], ["h"], hidden_size=6),
        make("Einsum", ["a", "b"], ["e"], equation="bij,bjk->bik"),
    ]
    inputs = {"x": (5, 2, 3), "a": (2, 4, 7), "b": (2, 7, 9)}
    weights = {"w": (1, 24, 3), "r": (1, 24, 6)}
    path = onnx_file(tmp_path / "r.onnx", nodes, inputs, weights, {"h": (5, 1, 2, 6), "e": (2, 4, 9)})
    assert counts.onnx_macs(path).by_operator == {"LSTM": 5 * 2 * 4 * 6 * (3 + 6), "Einsum": 2 * 4 * 7 * 9}


def test_a_past_of_unknown_length_is_reported_and_not_guessed(tmp_path):
    make = onnx.helper.make_node
    node = make("Attention", ["x", "w", "b", "", "past"], ["y"], domain="com.microsoft", num_heads=2)
    inputs = {"x": (1, 3, 8), "past": (2, 1, 2, 4, 4)}
    path = onnx_file(tmp_path / "p.onnx", [node], inputs, {"w": (8, 24), "b": (24,)}, {"y": (1, 3, 8)})
    assert counts.onnx_macs(path).uncounted == {"Attention (shape unknown)": 1}


# --- OpenVINO ---------------------------------------------------------------------------------------


def test_attention_and_recurrence_of_openvino(tmp_path):
    openvino = pytest.importorskip("openvino")
    from openvino import opset13 as ops

    q, k = (ops.parameter([2, 4, n, 8], np.float32) for n in (5, 7))
    attention = ops.scaled_dot_product_attention(q, k, k)
    x, h, w, r = (
        ops.parameter([3, 6], np.float32), ops.parameter([3, 10], np.float32),
        ops.constant(np.zeros((40, 6), np.float32)), ops.constant(np.zeros((40, 10), np.float32)),
    )  # fmt: skip
    bias = ops.constant(np.zeros(40, np.float32))
    cell = ops.lstm_cell(x, h, ops.parameter([3, 10], np.float32), w, r, bias, 10)
    parameters = [q, k, x, h, cell.input_value(2).get_node()]
    openvino.save_model(openvino.Model([attention, cell], parameters), tmp_path / "m.xml", compress_to_fp16=False)
    count = counts.openvino_macs(tmp_path / "m.xml", batch=2)
    assert count.by_operator == {"ScaledDotProductAttention": 2 * 4 * 5 * 7 * 16, "LSTMCell": 3 * 40 * (6 + 10)}
    recurrent = next(part for part in count.layers if part.operator == "LSTMCell")
    assert recurrent.weight_bytes == 4 * 40 * (6 + 10 + 1)


# --- the graph that ran -----------------------------------------------------------------------------


@pytest.mark.parametrize(("channels", "padded"), [(8, 8), (4, 8)])
def test_the_executed_graph_is_counted_node_by_node(tmp_path, channels, padded):
    """ONNX Runtime fuses and lays out anew, in blocks of 8 channels at least: it may multiply more than the file asks for."""
    pytest.importorskip("onnxruntime")
    from steelyard.subject.engines.onnxruntime import OnnxRunner

    make = onnx.helper.make_node
    nodes = [make("Conv", ["x", "w"], ["c"], name="conv", pads=[1, 1, 1, 1]), make("Relu", ["c"], ["y"], name="relu")]
    shapes = {"x": ("n", 8, 16, 16)}, {"w": (channels, 8, 3, 3)}, {"y": ("n", channels, 16, 16)}
    path = onnx_file(tmp_path / "m.onnx", nodes, *shapes)
    profiling = OnnxRunner(path).profiling(np.zeros((3, 8, 16, 16), np.float32))
    profiling.turn(2)
    slices = profiling.slices()
    count = counts.executed_macs(profiling.optimised, {s.layer: s.shapes for s in slices}, batch=3)
    each = 3 * 16 * 16 * 8 * 9
    assert counts.onnx_macs(path, batch=3).total == each * channels
    assert count.total in (each * channels, each * padded)  # processors without blocks pad nothing
    assert {part.layer for part in count.layers} <= {s.layer for s in slices}
