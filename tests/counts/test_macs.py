"""MACs against formulas written out and against PyTorch's own counter."""

import numpy as np
import pytest

from steelyard import counts
from steelyard.counts.macs import LayerCount, MacCount, canonical, coverage
from steelyard.errors import InvalidInput

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")


def resnet18_macs(classes: int = 1000) -> int:
    """He et al. 2016, table 1, at 224 x 224: kernel**2 x in x out x positions of every convolution, and the classifier."""
    total = 7 * 7 * 3 * 64 * 112**2
    total += 4 * 3 * 3 * 64 * 64 * 56**2
    for channels, side in ((128, 28), (256, 14), (512, 7)):
        half = channels // 2
        total += 3 * 3 * half * channels * side**2 + 3 * 3 * 3 * channels * channels * side**2  # four 3x3
        total += half * channels * side**2  # the 1x1 that changes the width
    return total + 512 * classes


def mobilenet_v2_macs() -> int:
    """Sandler et al. 2018, table 2, at 224 x 224: expand 1x1, depthwise 3x3, project 1x1."""
    total, width, side = 3 * 3 * 3 * 32 * 112**2, 32, 112
    for expand, channels, repeats, stride in (
        (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
    ):  # fmt: skip
        for repeat in range(repeats):
            hidden, after = width * expand, side // (stride if repeat == 0 else 1)
            total += (
                (width * hidden * side**2 if expand > 1 else 0) + 9 * hidden * after**2 + hidden * channels * after**2
            )
            width, side = channels, after
    return total + width * 1280 * side**2 + 1280 * 1000


@pytest.fixture(scope="module")
def image():
    return torch.rand(1, 3, 224, 224)


def test_resnet18_has_the_published_macs(image):
    count = counts.module_macs(torchvision.models.resnet18(weights=None), image)
    assert count.total == resnet18_macs() == 1_814_073_344
    assert count.flops == 2 * 1_814_073_344
    assert count.uncounted == {}
    assert count.by_operator == {"convolution": 1_814_073_344 - 512_000, "addmm": 512_000}
    assert count.by_layer["conv1"] == 7 * 7 * 3 * 64 * 112**2
    assert count.by_layer["fc"] == 512_000


def test_mobilenet_v2_counts_depthwise_convolutions_by_their_group(image):
    count = counts.module_macs(torchvision.models.mobilenet_v2(weights=None), image)
    assert count.total == mobilenet_v2_macs() == 300_774_272


@pytest.mark.parametrize("name", ["resnet18", "googlenet", "shufflenet_v2_x0_5", "swin_t"])
def test_agrees_with_the_counter_of_pytorch(name, image):
    from torch.utils.flop_counter import FlopCounterMode

    kwargs = {"aux_logits": False, "init_weights": False} if name == "googlenet" else {}
    model = getattr(torchvision.models, name)(weights=None, **kwargs).eval()
    count = counts.module_macs(model, image)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(image)
    assert count.flops == counter.get_total_flops()
    assert count.uncounted == {}


def test_transformer_layer_with_attention_on_the_processor():
    """4 d**2 a token for q, k, v and the output, 2 L**2 d for attention, 2 d f a token for the feed-forward part."""
    batch, length, width, hidden = 2, 5, 16, 32
    layer = torch.nn.TransformerEncoderLayer(width, 4, hidden, batch_first=True)
    count = counts.module_macs(layer, torch.rand(batch, length, width))
    assert count.total == batch * (4 * length * width**2 + 2 * length**2 * width + 2 * length * width * hidden)
    assert count.uncounted == {}


def test_lstm_multiplies_input_and_state_at_every_step():
    count = counts.module_macs(torch.nn.LSTM(8, 16, 2), torch.rand(5, 3, 8))
    assert count.total == 5 * 3 * 4 * 16 * ((8 + 16) + (16 + 16))


@pytest.mark.parametrize(
    ("module", "shape", "macs"),
    [
        (torch.nn.Linear(7, 3), (4, 7), 4 * 7 * 3),
        (torch.nn.Linear(7, 3, bias=False), (2, 4, 7), 2 * 4 * 7 * 3),
        (torch.nn.Conv1d(4, 6, 3, groups=2), (1, 4, 10), 8 * 6 * 2 * 3),
        (torch.nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2), (2, 4, 9, 9), 2 * 4 * 4 * 6 * 4 * 9),
        (torch.nn.Conv3d(2, 3, 2), (1, 2, 4, 4, 4), 27 * 3 * 2 * 8),
        (torch.nn.ConvTranspose2d(4, 6, 3, stride=2), (1, 4, 5, 5), 25 * 4 * 6 * 9),
        (torch.nn.ConvTranspose2d(4, 6, 3, groups=2), (1, 4, 5, 5), 25 * 4 * 3 * 9),
        (torch.nn.ReLU(), (3, 4), 0),
    ],
)
def test_single_layers(module, shape, macs):
    count = counts.module_macs(module, np.zeros(shape, dtype=np.float32))
    assert count.total == macs
    assert count.uncounted == {}


def test_bytes_are_inputs_weights_bias_and_outputs():
    count = counts.module_macs(torch.nn.Linear(7, 3), torch.rand(4, 7))
    assert count.moved_bytes == 4 * (4 * 7 + 7 * 3 + 3 + 4 * 3)
    half = counts.module_macs(torch.nn.Linear(7, 3).bfloat16(), torch.rand(4, 7).bfloat16())
    assert half.moved_bytes == count.moved_bytes / 2


def test_an_unknown_operator_is_reported_by_name_and_not_as_zero():
    class Odd(torch.nn.Module):
        def forward(self, x):
            return torch.linalg.qr(x)[0] @ x

    count = counts.module_macs(Odd(), torch.rand(4, 4))
    assert count.uncounted == {"linalg_qr": 1}
    assert count.total == 64


def test_counting_leaves_the_module_as_it_was():
    module = torch.nn.Sequential(torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Dropout())
    module[1].eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}
    counts.module_macs(module, torch.rand(2, 1, 8, 8))
    assert [layer.training for layer in module] == [True, False, True]
    assert all(torch.equal(before[name], value) for name, value in module.state_dict().items())
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in module)
    assert torch.backends.mha.get_fastpath_enabled()


def test_modes_are_put_back_after_a_crash():
    module = torch.nn.Sequential(torch.nn.Linear(3, 2))
    with pytest.raises(RuntimeError):
        counts.module_macs(module, torch.rand(1, 4))
    assert module[0].training


def test_an_exported_program_counts_as_its_module_does():
    module = torch.nn.Sequential(
        torch.nn.Conv2d(1, 2, 3), torch.nn.BatchNorm2d(2), torch.nn.Flatten(), torch.nn.Linear(72, 4)
    )
    x = torch.rand(1, 1, 8, 8)
    exported = torch.export.export(module.eval(), (x,)).module()
    count = counts.module_macs(exported, x)
    assert count.total == counts.module_macs(module, x).total == 36 * 2 * 9 + 72 * 4
    assert count.uncounted == {}


def test_samples_carry_totals_and_shares():
    samples = counts.module_macs(
        torch.nn.Sequential(torch.nn.Linear(7, 3), torch.nn.ReLU()), torch.rand(1, 7)
    ).samples()
    found = {(s.quantity, s.conditions.get("operator")): s.value for s in samples}
    assert found[("macs", None)] == 21
    assert found[("operator_macs", "addmm")] == 21
    assert found[("operator_calls", None)] == 3  # t, addmm, relu
    assert {s.provenance for s in samples} == {"counted"}


def test_coverage_is_a_share_of_time_whatever_the_spelling():
    layers = (LayerCount(layer="c", operator="convolution", macs=1, moved_bytes=1),)
    count = MacCount(layers=layers)
    assert (
        coverage({"aten::mkldnn_convolution": 2.0, "aten::_slow_conv2d_forward": 1.0, "aten::relu": 1.0}, count) == 0.75
    )
    assert coverage({"FusedConv": 1.0, "MatMul": 1.0}, count) == 0.5
    with pytest.raises(InvalidInput, match="operator times"):
        coverage({}, count)


@pytest.mark.parametrize(
    ("spellings", "name"),
    [
        (("aten::conv2d", "aten.convolution.default", "QLinearConv", "GroupConvolution"), "convolution"),
        (("aten::addmm", "aten.bmm.default", "MatMulInteger", "Gemm", "FullyConnected", "aten::linear"), "matmul"),
        (("aten::_scaled_dot_product_flash_attention_for_cpu", "Attention"), "attention"),
        (("aten::relu", "Relu"), "relu"),
    ],
)
def test_canonical_names(spellings, name):
    assert {canonical(s) for s in spellings} == {name}
