"""Parameters and stored bytes against sums written out."""

import io
import warnings

import pytest

from steelyard import counts
from steelyard.errors import InvalidInput

torch = pytest.importorskip("torch")


def values(samples):
    return {s.quantity: int(s.value) for s in samples}


@pytest.fixture
def net():
    torch.manual_seed(0)
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Flatten(), torch.nn.Linear(144, 5)
    )
    with torch.no_grad():
        net[0].weight[0] = 0
        net[1].bias.fill_(0.5)
    net[0].weight.requires_grad_(False)
    return net.eval()


def test_module(net):
    total = 4 * 9 + 4 + 4 + 4 + 144 * 5 + 5
    assert values(counts.module_parameters(net)) == {
        "parameters": total,
        "parameters_trainable": total - 36,
        "parameters_nonzero": total - 9,
        "buffers": 4 + 4 + 1,
    }


def test_tied_weights_count_once():
    first, second = torch.nn.Linear(3, 3, bias=False), torch.nn.Linear(3, 3, bias=False)
    second.weight = first.weight
    assert values(counts.module_parameters(torch.nn.Sequential(first, second)))["parameters"] == 9


def export(net, path):
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(net, (torch.rand(1, 1, 8, 8),), buffer, dynamo=False, opset_version=17)
    path.write_bytes(buffer.getvalue())
    return path


def test_onnx_and_openvino_hold_the_folded_weights(net, tmp_path):
    """Batch normalisation is folded into the convolution, so its four numbers a channel are gone; zeros stay zeros."""
    pytest.importorskip("onnx")
    path = export(net, tmp_path / "net.onnx")
    folded = 4 * 9 + 4 + 144 * 5 + 5
    assert values(counts.onnx_parameters(path)) == {"parameters": folded, "parameters_nonzero": folded - 9}
    openvino = pytest.importorskip("openvino")
    openvino.save_model(openvino.convert_model(str(path)), str(tmp_path / "net.xml"), compress_to_fp16=False)
    assert values(counts.openvino_parameters(tmp_path / "net.xml")) == {
        "parameters": folded,
        "parameters_nonzero": folded - 9,
    }


def test_stored_bytes_of_files_folders_and_what_stands_beside(tmp_path):
    (tmp_path / "m.xml").write_bytes(b"x" * 10)
    (tmp_path / "m.bin").write_bytes(b"x" * 100)
    (tmp_path / "m.onnx").write_bytes(b"x" * 7)
    (tmp_path / "m.onnx.data").write_bytes(b"x" * 70)
    assert counts.stored_bytes(tmp_path / "m.xml") == 110
    assert counts.stored_bytes(tmp_path / "m.onnx") == 77
    assert counts.stored_bytes(tmp_path / "m.bin") == 100
    assert counts.stored_bytes(tmp_path) == 187
    with pytest.raises(InvalidInput, match="no file or folder"):
        counts.stored_bytes(tmp_path / "none")
