"""Quantisation-aware training: the rounding by its formula, the engines' copies of it, and what training wins back."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import nn

import tiny_models
from pass_contract import PassContract
from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes import to_pass
from steelyard.passes.bench import Bench, Built
from steelyard.passes.fakequant import Rounding, Settled, rounded
from steelyard.passes.qat import Qat, _converted
from steelyard.passes.trainable import trainable
from steelyard.records import Step
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

Sources = Callable[[str], Artifact]
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino.*"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:nncf.*"),
    pytest.mark.filterwarnings("ignore::FutureWarning:nncf.*"),
]


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class TestQat(PassContract):
    name, source, gives, needs_data, loss = "qat", "eager", "openvino", True, 0.2
    options = (("epochs", 1), ("distil", 1.0))


# --- the rounding ---------------------------------------------------------------------------------


def on_grid(x: NDArray[Any], step: Any, zero: Any, low: int, high: int) -> NDArray[Any]:
    """The formula, with ties to even as PyTorch rounds."""
    return step * (np.clip(np.rint(x / step) + zero, low, high) - zero)


@given(seed=st.integers(0, 10_000), low=st.sampled_from([-128, 0]), single=st.booleans(), narrow=st.booleans())
def test_values_and_gradients_are_the_formulas(seed: int, low: int, single: bool, narrow: bool) -> None:
    """The gradient of the step (Esser et al. 2020, equation 3): round(x/s) - x/s on the grid, its end minus z beyond."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 2, (3, 4, 5))
    step = rng.uniform(0.005, 0.05, 1 if single else 4)
    ends = (low // 2, (low + 255) // 2) if narrow else (low, low + 255)
    zero = np.zeros_like(step) if low < 0 else rng.integers(*ends, step.shape).astype(float)
    rounding = Rounding(torch.tensor(step).float(), torch.tensor(zero), low, low + 255, axis=1, narrow=narrow)
    x = torch.tensor(values, dtype=torch.float32, requires_grad=True)
    weights = torch.tensor(rng.normal(size=values.shape), dtype=torch.float32)
    out = rounding(x)
    (out * weights).sum().backward()
    s, z = (a if single else a.reshape(1, 4, 1) for a in (rounding.log_step.detach().exp().double().numpy(), zero))
    scaled = values / s
    clear = np.abs(scaled - np.floor(scaled) - 0.5) > 1e-3  # float32 may fall on either side of a tie
    expected = on_grid(values, s, z, *ends)
    np.testing.assert_allclose(out.detach().numpy()[clear], expected[clear], atol=1e-5)
    inside = (np.rint(scaled) + z >= ends[0]) & (np.rint(scaled) + z <= ends[1])
    assert x.grad is not None
    np.testing.assert_allclose(x.grad.numpy()[clear], (weights.numpy() * inside)[clear], atol=1e-6)
    if clear.all():
        slope = (
            np.where(inside, np.rint(scaled) - scaled, np.clip(np.rint(scaled) + z, *ends) - z) * s * weights.numpy()
        )
        slopes = slope.sum() if single else slope.sum(axis=(0, 2))
        assert rounding.log_step.grad is not None
        np.testing.assert_allclose(rounding.log_step.grad.numpy(), slopes, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("single", [False, True])
def test_settled_is_the_same_in_public_operators(single: bool, narrow: bool) -> None:
    torch.manual_seed(0)
    step = torch.rand(1 if single else 4) * 0.02 + 0.001
    rounding = Rounding(step, torch.zeros_like(step), -128, 127, axis=1, narrow=narrow)
    values = torch.randn(3, 4, 5)
    settled = rounding.fixed()
    assert isinstance(settled, Settled)
    torch.testing.assert_close(settled(values), rounding(values), rtol=0, atol=1e-5)
    assert (settled(values).abs() < 128.5 * step.max()).all()


# --- the engines ----------------------------------------------------------------------------------


def bench_of(folder: Path, data: Path | None = None, **more: Any) -> Bench:
    folder.mkdir()
    return Bench(folder=folder, examples=tiny_models.examples(), data=data, **more)


@pytest.mark.parametrize(("to", "narrow"), [("openvino", False), ("openvino", True), ("onnxruntime", True)])
def test_engines_round_as_pytorch_does(
    sources: Sources, calibration: Path, tmp_path: Path, to: str, narrow: bool
) -> None:
    source = sources("eager")
    module, _ = trainable(source)
    bench = bench_of(tmp_path / "made", calibration)
    held = rounded(
        module, bench.calibration(source.contract), preset="performance", transformer=False, narrow_weights=narrow
    )
    roundings = [m for m in held.modules() if isinstance(m, Rounding)]
    assert len(roundings) >= 6  # three layers, their weights and inputs
    inputs = torch.from_numpy(bench.examples)
    with torch.no_grad():
        learning = held.eval()(inputs).numpy()
        held.settle()
        settled = held(inputs).numpy()
    np.testing.assert_allclose(settled, learning, atol=1e-4)
    artifact = _converted(held, to, source, bench)
    assert artifact.engine == to
    outputs = load_runner(artifact)(bench.examples)
    limit = 0.02 if narrow else 0.2  # without VNNI, products of 8-bit weights may overflow
    assert np.sqrt(np.square(outputs - settled).mean()) < limit * settled.std()
    kinds = _operators(artifact)
    assert {"FakeQuantize"} <= kinds if to == "openvino" else {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert not {"Clamp", "Minimum", "Maximum"} & kinds, "OpenVINO gets weights clamped already"
    assert not (bench.folder / "program").exists()


def _operators(artifact: Artifact) -> set[str]:
    if artifact.engine == "onnxruntime":
        import onnx

        return {node.op_type for node in onnx.load(artifact.path).graph.node}
    import openvino

    return {op.get_type_name() for op in openvino.Core().read_model(artifact.path).get_ops()}


# --- what training wins back ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def uneven(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The tiny net, with one channel 300 times as loud and read as much more softly: the same outputs in fp32.

    One step for all channels, as activations have, then leaves the others next to nothing.
    """
    source = tiny_models.eager_artifact(tmp_path_factory.mktemp("uneven"))
    model, _ = trainable(source)
    with torch.no_grad():
        model[0].weight[1] *= 300
        model[2].weight[:, 1] /= 300
    folder = source.folder.with_name("weights")
    folder.mkdir()
    torch.save(model.state_dict(), folder / "weights.pt")
    return dataclasses.replace(source, folder=folder)


def test_training_wins_back_what_rounding_takes(uneven: Artifact, calibration: Path, tmp_path: Path) -> None:
    expected = tiny_models.logits(tiny_models.examples())
    before = load_runner(uneven)(tiny_models.examples())
    np.testing.assert_allclose(before, expected, atol=1e-3)
    made = [
        Qat(epochs=epochs, lr=3e-3, distil=1.0).apply(
            uneven, bench_of(tmp_path / f"{epochs}", calibration, teacher=uneven)
        )
        for epochs in (0, 6)
    ]
    error = [np.square(built.outputs - expected).mean() for built in made]
    right = [(built.outputs.argmax(axis=1) == expected.argmax(axis=1)).mean() for built in made]
    assert error[1] < 0.5 * error[0]
    assert right[1] > right[0] + 0.3
    assert (made[1].artifact.folder / "trainable" / "history-0.json").is_file()


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"to": "tflite"}, "qat: to must be openvino or onnxruntime, got 'tflite'"),
        ({"preset": "mix"}, "qat: preset must be performance or mixed, got 'mix'; nearest: mixed"),
        ({"epochs": -1}, "epochs must be 0 or more"),
    ],
)
def test_options_that_cannot_be_followed(options: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        to_pass(Step(name="qat", options=tuple(options.items())))


def test_sparse_models_and_other_roundings_are_refused(
    sources: Sources, calibration: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = sources("eager")
    sparse: Built = to_pass(Step(name="sparsify", options=(("epochs", 0),))).apply(
        source, bench_of(tmp_path / "sparse")
    )
    with pytest.raises(CannotApply, match="would fill the zeros that sparsify made"):
        Qat().apply(sparse.artifact, bench_of(tmp_path / "one", calibration))
    monkeypatch.setattr("steelyard.passes.qat._APART", 0.0)
    with pytest.raises(CannotApply, match=r"openvino rounds this model otherwise than it was trained: .* apart"):
        Qat(epochs=0).apply(source, bench_of(tmp_path / "two", calibration))


class Nothing(nn.Module):
    """Has a parameter and nothing to round."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(10))

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs.flatten(1)[:, :10].tanh() - self.bias


def test_a_model_with_nothing_to_round(calibration: Path, tmp_path: Path) -> None:
    inputs = bench_of(tmp_path / "made", calibration).calibration(tiny_models.CONTRACT)
    with pytest.raises(CannotApply, match=r"NNCF (found nothing to quantise|cannot quantise this module)"):
        rounded(Nothing(), inputs, preset="performance", transformer=False, narrow_weights=False)
