"""Every pass under the contract, and what each refuses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tiny_models
from pass_contract import PassContract
from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes import PASSES, to_pass
from steelyard.passes.bench import Bench
from steelyard.records import Contract, Step, SubjectSpec
from steelyard.subject.artifact import Artifact

Sources = Callable[[str], Artifact]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino.*"),
]


class TestExport(PassContract):
    name, source, gives = "export", "eager", "torch"


class TestChannelsLast(PassContract):
    name, source, gives = "channels_last", "eager", "torch"


class TestChannelsLastOfAProgram(PassContract):
    name, source, gives = "channels_last", "torch", "torch"


class TestBf16(PassContract):
    name, source, gives = "bf16", "eager", "torch"
    loss, across_batches = 0.02, 0.05


class TestBf16OfAProgram(PassContract):
    name, source, gives = "bf16", "torch", "torch"
    loss, across_batches = 0.02, 0.05


class TestCompile(PassContract):
    name, source, gives = "compile", "eager", "torch"


class TestOnnx(PassContract):
    name, source, gives = "onnx", "eager", "onnxruntime"


class TestOnnxOfAProgram(PassContract):
    name, source, gives = "onnx", "torch", "onnxruntime"


class TestQuantizeStatic(PassContract):
    name, source, gives, needs_data, loss = "quantize_static", "onnxruntime", "onnxruntime", True, 0.05


class TestQuantizeStaticPerTensor(PassContract):
    name, source, gives, needs_data, loss = "quantize_static", "onnxruntime", "onnxruntime", True, 0.08
    options = (("per_channel", False),)


class TestQuantizeStaticPercentile(PassContract):
    name, source, gives, needs_data, loss = "quantize_static", "onnxruntime", "onnxruntime", True, 0.1
    options = (("calibrator", "percentile"), ("symmetric", True), ("operators", "products"))


class TestQuantizeStaticEntropy(PassContract):
    name, source, gives, needs_data, loss = "quantize_static", "onnxruntime", "onnxruntime", True, 0.3
    options = (("calibrator", "entropy"), ("form", "qoperator"))


class TestQuantizeDynamic(PassContract):
    name, source, gives, loss = "quantize_dynamic", "onnxruntime", "onnxruntime", 0.02
    across_batches = 0.1  # the range of the activations is that of the whole batch


class TestOpenVino(PassContract):
    name, source, gives = "openvino", "onnxruntime", "openvino"


class TestOpenVinoOfEager(PassContract):
    name, source, gives = "openvino", "eager", "openvino"


class TestOpenVinoBf16(PassContract):
    name, source, gives, loss = "openvino", "onnxruntime", "openvino", 0.02
    across_batches = 0.05
    options = (("precision", "bf16"),)


class TestNncfInt8(PassContract):
    name, source, gives, needs_data, loss = "nncf_int8", "openvino", "openvino", True, 0.15


class TestNncfInt8Mixed(PassContract):
    name, source, gives, needs_data, loss = "nncf_int8", "openvino", "openvino", True, 0.15
    options = (("preset", "mixed"),)


class TestNncfInt8Careful(PassContract):
    name, source, gives, needs_data, loss = "nncf_int8", "openvino", "openvino", True, 0.15
    options = (("bias", "accurate"), ("calibrator", "quantile"), ("narrow", "all"), ("subset", 50))


class Validated(PassContract):
    """A pass that looks at validation examples as well."""

    @pytest.fixture(scope="class")
    @classmethod
    def calibration(cls, tmp_path_factory: pytest.TempPathFactory) -> Path:
        return tiny_models.write_data(tmp_path_factory.mktemp("data"), ("calibration", "validation"))


class TestMixed(Validated):
    name, source, gives, needs_data, loss = "mixed", "onnxruntime", "onnxruntime", True, 0.05
    options = (("sample", 100),)


class TestMixedOfOpenVino(Validated):
    name, source, gives, needs_data, loss = "mixed", "openvino", "openvino", True, 0.15
    options = (("sample", 100),)


class TestWeightOnly(PassContract):
    name, source, gives, loss = "weight_only", "onnxruntime", "onnxruntime", 0.02


class TestWeightOnlyInFourBits(PassContract):
    name, source, gives, loss = "weight_only", "onnxruntime", "onnxruntime", 0.15
    options = (("bits", 4), ("group", 16))


class TestWeightOnlyOfOpenVino(PassContract):
    name, source, gives, loss = "weight_only", "openvino", "openvino", 0.02


class TestWeightOnlyOfEager(PassContract):
    name, source, gives, loss = "weight_only", "eager", "torch", 0.02


class TestFp16(PassContract):
    name, source, gives, loss = "fp16", "onnxruntime", "onnxruntime", 0.002


class TestFp16OfOpenVino(PassContract):
    name, source, gives, loss = "fp16", "openvino", "openvino", 0.002


class TestFp16OfEager(PassContract):
    name, source, gives, loss = "fp16", "eager", "torch", 0.005
    across_batches = 0.02


class TestFold(PassContract):
    name, source, gives = "fold", "eager", "torch"

    @pytest.fixture(scope="class")
    @classmethod
    def sources(cls, tmp_path_factory: pytest.TempPathFactory) -> Sources:
        made = {
            "eager": tiny_models.eager_artifact(tmp_path_factory.mktemp("eager") / "net", normalised=True),
            "onnxruntime": tiny_models.onnx_artifact(tmp_path_factory.mktemp("onnx") / "net"),
        }
        return made.__getitem__


class TestOnnxOptimise(PassContract):
    name, source, gives = "onnx_optimise", "onnxruntime", "onnxruntime"
    options = (("offline", True), ("threads", 1))


class Present(PassContract):
    """A pass that needs what most machines lack."""

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def _present(cls) -> None:
        if reason := PASSES[cls.name].missing():
            pytest.skip(reason)


class TestTensorRt(Present):
    name, source, gives, loss, across_batches = "tensorrt", "onnxruntime", "onnxruntime", 0.01, 0.01


class TestTfLite(Present):
    name, source, gives = "tflite", "eager", "tflite"


class TestPrune(PassContract):
    name, source, gives, needs_data, loss = "prune", "eager", "torch", True, 0.3
    options = (("macs", 0.7), ("round_to", 1), ("epochs", 4), ("lr", 3e-3))


class TestSparsify(PassContract):
    name, source, gives, needs_data, loss = "sparsify", "eager", "torch", True, 0.3
    options = (("ratio", 0.3), ("epochs", 2))


class TestFactorise(PassContract):
    name, source, gives, needs_data, loss = "factorise", "eager", "torch", True, 0.7
    options = (("rank", 0.5), ("epochs", 4), ("lr", 3e-3))


def test_every_pass_is_under_the_contract() -> None:
    elsewhere = {"distill", "qat"}  # test_distill.py, test_qat.py
    kinds = [*PassContract.__subclasses__(), *Validated.__subclasses__(), *Present.__subclasses__()]
    assert {kind.name for kind in kinds if hasattr(kind, "name")} | elsewhere == set(PASSES)


def test_an_unknown_technique_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="unknown technique 'prun'; known: export, channels_last"):
        to_pass(Step(name="prun"))


# --- models that a technique does not fit ------------------------------------------------------------


def _spec_artifact(folder: Path, code: str, contract: Contract) -> Artifact:
    from steelyard.subject.load import load_subject
    from steelyard.subject.safe import save_weights

    folder.mkdir(exist_ok=True)
    path = folder / "odd_subject.py"
    path.write_text("import torch\nfrom torch import nn\nfrom steelyard import Contract, Subject\n" + code)
    spec = SubjectSpec(source=str(path))
    save_weights(load_subject(spec).model, folder / "weights.pt")
    return Artifact(folder=folder, engine="eager", file="weights.pt", contract=contract, spec=spec)


FLAT = Contract(shape=(4,), layout="F", labels=("a", "b"))
LINEAR = """
def subject():
    return Subject(model=nn.Linear(4, 2), contract=Contract(shape=(4,), layout="F", labels=("a", "b")))
"""
BRANCHING = """
class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 2)

    def forward(self, inputs):
        return self.linear(inputs) if float(inputs.sum()) > 0 else -self.linear(inputs)

def subject():
    return Subject(model=Branching(), contract=Contract(shape=(4,), layout="F", labels=("a", "b")))
"""


def test_channels_last_is_for_pictures(tmp_path: Path) -> None:
    source = _spec_artifact(tmp_path / "linear", LINEAR, FLAT)
    bench = Bench(folder=tmp_path, examples=np.ones((4, 4), dtype=np.float32))
    with pytest.raises(CannotApply, match=r"channels-last is for pictures; this model takes shape \(4,\)"):
        to_pass(Step(name="channels_last")).apply(source, bench)


@pytest.mark.parametrize("name", ["export", "bf16", "compile", "onnx", "openvino"])
def test_a_model_that_cannot_be_traced_is_refused_with_the_tracers_reason(tmp_path: Path, name: str) -> None:
    source = _spec_artifact(tmp_path / "branching", BRANCHING, FLAT)
    bench = Bench(folder=tmp_path, examples=np.ones((4, 4), dtype=np.float32))
    with pytest.raises(CannotApply, match=r"torch\.export cannot trace the model: \S+"):
        to_pass(Step(name=name)).apply(source, bench)


def test_dynamic_quantisation_needs_a_matrix_product(tmp_path: Path) -> None:
    from onnx import TensorProto, helper, save

    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "relu",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
    )
    save(helper.make_model(graph, ir_version=8), str(tmp_path / "model.onnx"))
    source = Artifact(folder=tmp_path, engine="onnxruntime", file="model.onnx", contract=FLAT)
    bench = Bench(folder=tmp_path / "new", examples=np.ones((2, 2), dtype=np.float32))
    with pytest.raises(CannotApply, match="acts on matrix products, and this model has none"):
        to_pass(Step(name="quantize_dynamic")).apply(source, bench)


def test_compiling_without_a_compiler_is_refused(
    sources: Sources, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/g++")
    bench = Bench(folder=tmp_path, examples=tiny_models.examples())
    with pytest.raises(CannotApply, match=r"needs a C\+\+ compiler"):
        to_pass(Step(name="compile")).apply(sources("eager"), bench)


def test_what_pytorch_exports_is_quantised_by_all(sources: Sources, tmp_path: Path) -> None:
    """Its graphs differ from those written by hand: names, shapes of weights, data kept aside."""
    data = tiny_models.write_data(tmp_path / "data", ("calibration", "validation"))
    examples = tiny_models.examples()
    (tmp_path / "onnx").mkdir()
    bench = Bench(folder=tmp_path / "onnx", examples=examples, data=data)
    exported = to_pass(Step(name="onnx")).apply(sources("eager"), bench)
    for name in ("quantize_static", "quantize_dynamic", "mixed", "weight_only", "fp16", "onnx_optimise"):
        (tmp_path / name).mkdir()
        built = to_pass(Step(name=name)).apply(
            exported.artifact, Bench(folder=tmp_path / name, examples=examples, data=data)
        )
        assert (built.outputs.argmax(axis=1) == exported.outputs.argmax(axis=1)).mean() > 0.9, name


# --- calibration -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "engine"), [("quantize_static", "onnxruntime"), ("nncf_int8", "openvino")])
def test_calibration_looks_at_training_examples_alone(sources: Sources, tmp_path: Path, name: str, engine: str) -> None:
    data = tiny_models.write_data(tmp_path / "data")
    for path in (*data.glob("validation.*"), *data.glob("test.*")):
        path.write_bytes(b"not to be opened")
    folder = tmp_path / "new"
    folder.mkdir()
    built = to_pass(Step(name=name)).apply(
        sources(engine), Bench(folder=folder, examples=tiny_models.examples(), data=data)
    )
    assert np.isfinite(built.outputs).all()


def test_calibration_examples_decide_the_ranges(sources: Sources, tmp_path: Path) -> None:
    """The same pass on other training examples gives another model: it is these that it looks at."""
    splits = tiny_models.data()
    outputs = []
    for name, factor in (("real", 1), ("dark", 0)):
        from steelyard.subject.splits import Split, write_split

        some = splits.train.take(np.arange(50))
        write_split(Split(raw=np.asarray(some.raw) * np.uint8(factor), labels=some.labels), tmp_path, "calibration")
        folder = tmp_path / name
        folder.mkdir()
        bench = Bench(folder=folder, examples=tiny_models.examples(), data=tmp_path)
        outputs.append(to_pass(Step(name="quantize_static")).apply(sources("onnxruntime"), bench).outputs)
    assert np.abs(outputs[0] - outputs[1]).max() > 1
