"""ONNX and OpenVINO counts against the PyTorch module that they came from, and against formulas."""

import io
import warnings

import numpy as np
import pytest

from steelyard import counts
from steelyard.errors import InvalidInput

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.a = torch.nn.Conv2d(1, 4, 3, padding=1)
        self.b = torch.nn.Conv2d(4, 4, 3, groups=4)
        self.up = torch.nn.ConvTranspose2d(4, 2, 2, stride=2)
        self.fc = torch.nn.Linear(2 * 12 * 12, 5)
        self.mix = torch.nn.Parameter(torch.rand(5, 5))

    def forward(self, x):
        x = self.up(torch.relu(self.b(torch.relu(self.a(x)))))
        return self.fc(x.flatten(1)) @ self.mix


NET_MACS = 64 * 4 * 9 + 36 * 4 * 9 + 36 * 4 * 2 * 4 + 288 * 5 + 5 * 5


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def exported(net, tmp_path_factory):
    path = tmp_path_factory.mktemp("net") / "net.onnx"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            net,
            (torch.rand(1, 1, 8, 8),),
            buffer,
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            dynamic_axes={"x": {0: "n"}},
        )
    path.write_bytes(buffer.getvalue())
    return path


def test_module_onnx_and_formula_agree(net, exported):
    assert counts.module_macs(net, torch.rand(1, 1, 8, 8)).total == NET_MACS
    count = counts.onnx_macs(exported)
    assert count.total == NET_MACS
    assert count.uncounted == {}
    assert counts.onnx_macs(exported, batch=3).total == 3 * NET_MACS


def test_bytes_of_an_onnx_convolution(exported):
    first = counts.onnx_macs(exported).layers[0]
    assert first.operator == "Conv"
    assert first.moved_bytes == 4 * (64 + (4 * 9 + 4) + 4 * 64)


def test_a_quantised_graph_has_the_same_macs_and_about_a_quarter_of_the_bytes(exported, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    feeds = iter([{"x": np.random.default_rng(0).random((1, 1, 8, 8), dtype=np.float32)}])

    class Reader(quantization.CalibrationDataReader):
        def get_next(self):
            return next(feeds, None)

    target = tmp_path / "q.onnx"
    quantization.quantize_static(str(exported), str(target), Reader(), op_types_to_quantize=["Conv", "Gemm", "MatMul"])
    plain, quantised = counts.onnx_macs(exported), counts.onnx_macs(target)
    assert quantised.total == plain.total
    assert quantised.uncounted == {}
    assert quantised.moved_bytes < 0.5 * plain.moved_bytes


def test_a_dynamically_quantised_graph_has_the_same_macs(exported, tmp_path):
    quantization = pytest.importorskip("onnxruntime.quantization")
    target = tmp_path / "d.onnx"
    quantization.quantize_dynamic(str(exported), str(target))
    assert counts.onnx_macs(target).total == NET_MACS


def test_an_optimised_graph_with_fused_convolutions_has_the_same_macs(exported, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "fused.onnx")
    onnxruntime.InferenceSession(str(exported), options, providers=["CPUExecutionProvider"])
    count = counts.onnx_macs(tmp_path / "fused.onnx")
    assert "FusedConv" in {node.op_type for node in onnx.load(tmp_path / "fused.onnx").graph.node}
    assert count.total == NET_MACS


def one_node(tmp_path, node, inputs, output, opset=23):
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [node],
        "g",
        [make(name, onnx.TensorProto.FLOAT, shape) for name, shape in inputs.items()],
        [make("y", onnx.TensorProto.FLOAT, output)],
    )
    domains = [onnx.helper.make_opsetid("", opset), onnx.helper.make_opsetid("strange", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=domains), tmp_path / "one.onnx")
    return tmp_path / "one.onnx"


def test_attention_with_heads_in_the_shape_and_in_the_attributes(tmp_path):
    node = onnx.helper.make_node("Attention", ["q", "k", "v"], ["y"])
    path = one_node(tmp_path, node, {"q": (2, 4, 5, 8), "k": (2, 4, 7, 8), "v": (2, 4, 7, 6)}, (2, 4, 5, 6))
    assert counts.onnx_macs(path).total == 2 * 4 * 5 * 7 * (8 + 6)
    node = onnx.helper.make_node("Attention", ["q", "k", "v"], ["y"], q_num_heads=4, kv_num_heads=2)
    path = one_node(tmp_path, node, {"q": (2, 5, 32), "k": (2, 7, 16), "v": (2, 7, 12)}, (2, 5, 24))
    assert counts.onnx_macs(path).total == 2 * 4 * 5 * 7 * (8 + 6)


def test_unknown_operators_are_reported_by_name(tmp_path):
    node = onnx.helper.make_node("Wonder", ["x"], ["y"], domain="strange")
    assert counts.onnx_macs(one_node(tmp_path, node, {"x": (1, 3)}, (1, 3))).uncounted == {"Wonder": 1}


def test_a_symbolic_axis_beyond_the_batch_is_refused_with_the_cure(tmp_path):
    node = onnx.helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(InvalidInput, match=r"axis 1 of input 'x'.*fixed sizes"):
        counts.onnx_macs(one_node(tmp_path, node, {"x": ("n", "m")}, ("n", "m")))


def test_damaged_files_are_refused(tmp_path):
    (tmp_path / "bad.onnx").write_bytes(b"not a model at all")
    (tmp_path / "bad.xml").write_text("<net>")
    for read in (counts.onnx_macs, counts.onnx_parameters):
        with pytest.raises(InvalidInput, match="cannot be read as ONNX"):
            read(tmp_path / "bad.onnx")
    pytest.importorskip("openvino")
    for read in (counts.openvino_macs, counts.openvino_parameters):
        with pytest.raises(InvalidInput, match="cannot be read as OpenVINO"):
            read(tmp_path / "bad.xml")


def test_openvino_agrees_and_weighs_compressed_weights_as_stored(exported, tmp_path):
    openvino = pytest.importorskip("openvino")
    model = openvino.convert_model(str(exported))
    sizes = {}
    for half in (False, True):
        path = tmp_path / f"net{half}.xml"
        openvino.save_model(model, str(path), compress_to_fp16=half)
        count = counts.openvino_macs(path)
        assert count.total == NET_MACS
        assert count.uncounted == {}
        assert counts.openvino_macs(path, batch=2).total == 2 * NET_MACS
        sizes[half] = count.moved_bytes
    assert sizes[True] < sizes[False]
