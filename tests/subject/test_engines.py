"""The contract that every engine keeps, and what each says of models that it cannot take."""

import dataclasses
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import ENGINES, load_runner
from steelyard.subject.engines import onnxruntime as ort_engine
from steelyard.subject.engines import openvino as ov_engine
from steelyard.subject.engines import torch as torch_engine

torch = pytest.importorskip("torch")
pytest.importorskip("onnxruntime")
pytest.importorskip("openvino")
nn = torch.nn


class EngineContract:
    """What an engine owes; a new engine's test class inherits this and names itself.

    `runner` may be overridden where an engine needs more than an artifact of the session's tiny models.
    """

    engine: str
    tolerance = 1e-5  # of the largest output

    @pytest.fixture(params=["conv", "mlp"])
    def model(self, request, tiny):
        return tiny[request.param]

    @pytest.fixture
    def runner(self, model):
        return load_runner(model.artifacts[self.engine])

    def agrees(self, found, expected):
        return np.abs(found - expected).max() <= self.tolerance * np.abs(expected).max()

    def test_outputs_are_those_of_the_module(self, runner, model):
        found = runner(model.inputs)
        assert found.shape == model.expected.shape
        assert found.dtype == np.float32
        assert self.agrees(found, model.expected)

    def test_any_batch_size_gives_the_same(self, runner, model):
        for size in (1, 2, 3):
            parts = [runner(model.inputs[i : i + size]) for i in range(0, len(model.inputs), size)]
            assert self.agrees(np.concatenate(parts), model.expected)

    def test_outputs_are_the_callers_to_keep(self, runner, model):
        first = runner(model.inputs[:1])
        kept = first.copy()
        runner(model.inputs[1:2])
        assert np.array_equal(first, kept)
        first[:] = 7.0  # and to write into
        assert self.agrees(runner(model.inputs[:1]), model.expected[:1])

    def test_inputs_are_left_alone(self, runner, model):
        inputs = model.inputs.copy()
        runner(inputs)
        assert np.array_equal(inputs, model.inputs)

    def test_inputs_of_one_call_do_not_linger(self, runner, model):
        runner(model.inputs[:2])
        assert self.agrees(runner(model.inputs[2:4]), model.expected[2:4])

    def test_several_threads_get_each_their_own_outputs(self, runner, model):
        places = [i % len(model.inputs) for i in range(60)]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(lambda i: runner(model.inputs[i : i + 1]), places))
        assert self.agrees(np.concatenate(found), model.expected[places])

    def test_operators_are_timed(self, runner, model):
        operators = runner.operator_seconds(model.inputs[:1], 5)
        assert operators
        for seconds, calls in operators.values():
            assert 0 < seconds < 1
            assert calls >= 1


class TestEager(EngineContract):
    engine = "eager"


class TestTorch(EngineContract):
    engine = "torch"


class TestOnnxRuntime(EngineContract):
    engine = "onnxruntime"


class TestOpenVino(EngineContract):
    engine = "openvino"


class TestTfLite(EngineContract):
    engine = "tflite"

    @pytest.fixture
    def runner(self, model, tmp_path):
        converter = pytest.importorskip("litert_torch")
        converter.convert(model.module, (torch.from_numpy(model.inputs[:1]),)).export(str(tmp_path / "m.tflite"))
        contract = model.artifacts["torch"].contract
        return load_runner(Artifact(folder=tmp_path, engine="tflite", file="m.tflite", contract=contract))

    def test_operators_are_timed(self, runner, model):
        assert runner.operator_seconds(model.inputs[:1], 5) == {}, "LiteRT shows none in Python"


def test_every_engine_is_held_to_the_contract():
    assert {getattr(kind, "engine", None) for kind in EngineContract.__subclasses__()} >= set(ENGINES)


# --- models whose batch axis is fixed ----------------------------------------------------------------


@pytest.fixture(scope="session")
def fixed(tiny, writers, tmp_path_factory):
    """The tiny convolutional net exported at batch 2 for each engine."""
    folder, model = tmp_path_factory.mktemp("fixed"), tiny["conv"]
    example = (torch.from_numpy(model.inputs[:2]),)
    onnx_file = writers.to_onnx(model.module, example, folder / "m.onnx", dynamic=False)
    files = {
        "onnxruntime": onnx_file,
        "openvino": writers.to_ir(onnx_file, folder / "m.xml"),
        "torch": writers.to_program(model.module, example, folder / "m.pt2", dynamic=False),
    }
    contract = model.artifacts["torch"].contract
    return {e: Artifact(folder=folder, engine=e, file=f.name, contract=contract) for e, f in files.items()}


class FixedBatchContract(EngineContract):
    """The same duties for a model exported at one batch size."""

    @pytest.fixture(params=["conv"])
    def model(self, request, tiny):
        return tiny[request.param]

    @pytest.fixture
    def runner(self, fixed):
        return load_runner(fixed[self.engine])


class TestTorchFixed(FixedBatchContract):
    engine = "torch"


class TestOnnxRuntimeFixed(FixedBatchContract):
    engine = "onnxruntime"


class TestOpenVinoFixed(FixedBatchContract):
    engine = "openvino"


# --- signatures --------------------------------------------------------------------------------------


class Two(nn.Module):
    def forward(self, x, y):
        return x + y


class Flat(nn.Module):
    def forward(self, x):
        return x.flatten(1)


def refused(call, *arguments):
    with pytest.raises(InvalidInput) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("name", ["conv", "mlp"])
@pytest.mark.parametrize(
    ("engine", "signature"),
    [("torch", torch_engine.signature), ("onnxruntime", ort_engine.signature), ("openvino", ov_engine.signature)],
)
def test_signatures_agree(tiny, name, engine, signature):
    artifact = tiny[name].artifacts[engine]
    assert signature(artifact.path) == (artifact.contract.shape, "float32", len(artifact.contract.labels))


def test_two_inputs_are_said(writers, tmp_path):
    example = (torch.rand(2, 3), torch.rand(2, 3))
    onnx_file = writers.to_onnx(Two(), example, tmp_path / "m.onnx", names=("x", "y"))
    assert refused(ort_engine.signature, onnx_file) == (
        f"{onnx_file} has inputs ['x', 'y']; models with exactly one input are supported"
    )
    ir = writers.to_ir(onnx_file, tmp_path / "m.xml")
    assert refused(ov_engine.signature, ir) == (
        f"{ir} has inputs ['x', 'y']; models with exactly one input are supported"
    )
    program = writers.to_program(Two(), example, tmp_path / "m.pt2", dynamic=False)
    assert refused(torch_engine.signature, program) == (
        f"{program} has 2 inputs and 1 outputs (x, y, add); one of each is supported"
    )


class Both(nn.Module):
    def forward(self, x):
        return x + 1, x - 1


def test_two_outputs_are_said(writers, tmp_path):
    example = (torch.rand(2, 3),)
    onnx_file = writers.to_onnx(Both(), example, tmp_path / "m.onnx")
    assert "; models with exactly one output, the logits, are supported" in refused(ort_engine.signature, onnx_file)
    ir = writers.to_ir(onnx_file, tmp_path / "m.xml")
    assert "; models with exactly one output, the logits, are supported" in refused(ov_engine.signature, ir)


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ((torch.zeros(1), torch.zeros(1)), "the model gives 2 outputs; one tensor"),
        ({"loss": torch.zeros(1), "logits": torch.zeros(1)}, "the model gives outputs loss, logits; one tensor"),
        (3.0, "the model gives a float; one tensor"),
    ],
)
def test_outputs_that_are_not_one_tensor_are_named(outputs, words):
    assert refused(torch_engine.one_tensor, outputs).startswith(words)


def test_a_module_that_takes_more_than_one_input_is_said():
    from steelyard.subject.engines.eager import _check_inputs

    assert refused(_check_inputs, Two()).startswith("the model takes the inputs x, y; exactly one is supported")
    _check_inputs(Flat())
    _check_inputs(nn.Linear(2, 2))


# --- options of an artifact --------------------------------------------------------------------------


def with_options(tiny, engine, **options):
    return dataclasses.replace(tiny["conv"].artifacts[engine], options=options)


@pytest.mark.parametrize("level", ["none", "basic", "extended", "all"])
def test_onnx_runtime_takes_threads_and_level(tiny, level):
    model = tiny["conv"]
    runner = load_runner(with_options(tiny, "onnxruntime", threads=1, level=level))
    settings = runner._session.get_session_options()
    assert settings.intra_op_num_threads == 1
    assert settings.graph_optimization_level.name == ort_engine._LEVELS[level]
    assert np.allclose(runner(model.inputs), model.expected, atol=1e-5)


def test_onnx_runtime_says_a_provider_that_is_not_there(tiny):
    said = refused(load_runner, with_options(tiny, "onnxruntime", provider="QNNExecutionProvider"))
    assert "runs by QNNExecutionProvider, which this ONNX Runtime lacks (it has " in said


def test_a_provider_that_does_not_start_is_no_silent_fallback(tiny, monkeypatch):
    import onnxruntime

    have = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: have)
    real = onnxruntime.InferenceSession
    monkeypatch.setattr(
        onnxruntime,
        "InferenceSession",
        lambda path, settings, providers: real(path, settings, providers=providers[-1:]),
    )
    said = refused(load_runner, with_options(tiny, "onnxruntime", provider="CUDAExecutionProvider"))
    assert said.startswith("CUDAExecutionProvider does not start here")


def test_tensorrt_leaves_to_cuda_what_it_cannot_take_and_keeps_its_engines(tmp_path):
    have = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    options = {"provider": "TensorrtExecutionProvider", "trt_fp16_enable": True, "threads": 2}
    first, *rest = ort_engine._providers(tmp_path / "model.onnx", options, have)
    assert rest == ["CUDAExecutionProvider", "CPUExecutionProvider"]
    assert first == (
        "TensorrtExecutionProvider",
        {
            "trt_fp16_enable": "True",
            "trt_engine_cache_enable": "True",
            "trt_engine_cache_path": str(tmp_path / "engine_cache"),
        },
    )


def test_openvino_takes_streams_threads_and_hint(tiny):
    model = tiny["conv"]
    runner = load_runner(with_options(tiny, "openvino", streams=1, threads=1, hint="throughput"))
    compiled = next(iter(runner._compiled.values()))
    assert int(compiled.get_property("INFERENCE_NUM_THREADS")) == 1
    assert int(compiled.get_property("NUM_STREAMS")) == 1
    assert "THROUGHPUT" in str(compiled.get_property("PERFORMANCE_HINT"))
    assert np.allclose(runner(model.inputs), model.expected, atol=1e-5)


def test_openvino_says_a_device_that_is_not_there(tiny):
    said = refused(load_runner, with_options(tiny, "openvino", device="NPU.7"))
    assert said.startswith("OpenVINO cannot run this model on NPU.7 (it finds CPU")


def test_open_axes_are_said(tmp_path):
    path, program = tmp_path / "m.onnx", tmp_path / "m.pt2"
    axes = {"x": {0: "n", 2: "h"}}
    import io
    import warnings

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Flat(), (torch.rand(2, 1, 4),), buffer, dynamo=False, input_names=["x"], dynamic_axes=axes, opset_version=17
        )
        shapes = ({0: torch.export.Dim("n"), 2: torch.export.Dim("h")},)
        torch.export.save(torch.export.export(Flat(), (torch.rand(2, 1, 4),), dynamic_shapes=shapes), program)
    path.write_bytes(buffer.getvalue())
    assert refused(ort_engine.signature, path) == (
        f"{path}: input x has shape ['n', 1, 'h']; only the batch axis may be open"
    )
    assert refused(ov_engine.signature, path) == f"{path}: input has shape [?,1,?]; only the batch axis may be open"
    assert refused(torch_engine.signature, program) == (
        f"{program}: input has shape (?, 1, ?); only the batch axis may be open"
    )


@pytest.mark.parametrize(
    ("signature", "suffix", "words"),
    [
        (ort_engine.signature, ".onnx", "ONNX Runtime cannot load {}: "),
        (ov_engine.signature, ".xml", "OpenVINO cannot read {}: "),
        (torch_engine.signature, ".pt2", "cannot read {} as an exported program (.pt2): "),
    ],
)
@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000)])
def test_files_that_hold_no_model_are_said(tmp_path, signature, suffix, words, content):
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    assert refused(signature, path).startswith(words.format(path))


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize(
    ("engine", "signature"), [("torch", torch_engine.signature), ("onnxruntime", ort_engine.signature)]
)
def test_truncated_models_are_said(tiny, tmp_path, engine, signature, share):
    whole = tiny["conv"].artifacts[engine].path
    path = tmp_path / whole.name
    path.write_bytes(whole.read_bytes()[: int(share * whole.stat().st_size)])
    assert str(path) in refused(signature, path)


def test_ir_without_its_weights_is_said(tiny, tmp_path):
    whole = tiny["conv"].artifacts["openvino"].path
    path = tmp_path / "model.xml"
    path.write_bytes(whole.read_bytes())
    assert refused(ov_engine.signature, path).startswith(f"OpenVINO cannot read {path}: ")


# --- ONNX external data ------------------------------------------------------------------------------


def external(path, location):
    onnx = pytest.importorskip("onnx")
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[4, 3], data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", location), ("offset", "0"), ("length", "48")):
        tensor.external_data.add(key=key, value=value)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(n, 1, ["n", k]) for n, k in (("x", 4), ("y", 3))]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [tensor])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path


def test_external_data_beside_the_model_is_read(tmp_path):
    path = external(tmp_path / "m" / "m.onnx", "w.bin")
    np.ones((4, 3), dtype=np.float32).tofile(path.parent / "w.bin")
    assert ort_engine.signature(path) == ((4,), "float32", 3)


@pytest.mark.parametrize("how", ["relative", "absolute", "link"])
def test_external_data_outside_the_folder_is_refused(tmp_path, how):
    secret = tmp_path / "secret.bin"
    np.ones((4, 3), dtype=np.float32).tofile(secret)
    location = {"relative": "../secret.bin", "absolute": str(secret), "link": "w.bin"}[how]
    path = external(tmp_path / "m" / "m.onnx", location)
    if how == "link":
        (path.parent / "w.bin").symlink_to(secret)
    message = refused(ort_engine.signature, path)
    assert message.startswith(f"ONNX Runtime cannot load {path}: ")
    assert "xternal data path" in message


def test_external_data_that_is_missing_is_said(tmp_path):
    path = external(tmp_path / "m" / "m.onnx", "w.bin")
    assert "External data path does not exist" in refused(ort_engine.signature, path)


# --- engines that are not there ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("engine", "module", "message"),
    [
        ("torch", "torch", "reading model.pt2 needs the 'torch' extra: pip install 'steelyard[torch]'"),
        ("onnxruntime", "onnxruntime", "running model.onnx needs the 'onnx' extra: pip install 'steelyard[onnx]'"),
        ("openvino", "openvino", "running model.xml needs the 'openvino' extra: pip install 'steelyard[openvino]'"),
    ],
)
def test_a_missing_engine_names_its_extra(tiny, monkeypatch, engine, module, message):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra) as missing:
        load_runner(tiny["mlp"].artifacts[engine])
    assert str(missing.value) == message


def test_eager_without_its_words_is_said(tiny):
    artifact = tiny["mlp"].artifacts["eager"]
    bare = dataclasses.replace(artifact, spec=None)
    assert refused(load_runner, bare) == f"{artifact.folder} does not say how its module is built"


def test_compiling_without_a_compiler_is_said(tiny, monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "no-such-compiler"))
    artifact = dataclasses.replace(tiny["mlp"].artifacts["torch"], options={"compile": True})
    with pytest.raises(CannotApply, match=r"^torch\.compile needs a C\+\+ compiler"):
        load_runner(artifact)
