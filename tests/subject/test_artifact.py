"""Folders that hold a model: their way to disk and back, strangers' manifests, and deployed models."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

import steelyard
from steelyard.errors import InvalidInput, SchemaTooNew
from steelyard.records import Contract, Plan, Sample, Step, SubjectSpec, Unavailable
from steelyard.subject.artifact import (
    Artifact,
    found_while_built,
    keep_findings,
    read_artifact,
    read_manifest,
    write_manifest,
)
from steelyard.subject.deployed import Model


def refused(call, *arguments, kind=InvalidInput):
    with pytest.raises(kind) as error:
        call(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.fixture
def artifact(tmp_path):
    (tmp_path / "model.onnx").write_bytes(b"weights")
    made = Artifact(
        folder=tmp_path,
        engine="onnxruntime",
        file="model.onnx",
        contract=Contract(shape=(3, 4, 4), mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 3.0), labels=("a", "b")),
        options={"precision": "f32", "threads": 2},
        plan=Plan(steps=(Step(name="export", options=(("bits", 8),)),)),
        spec=SubjectSpec(source="m.py", options={"size": 4}),
    )
    write_manifest(made, {"evidence": {"status": "met"}})
    return made


@pytest.fixture
def edit(artifact):
    def change(**fields):
        path = artifact.folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
        return artifact.folder

    return change


def test_an_artifact_comes_back(artifact):
    assert read_artifact(artifact.folder) == artifact
    assert read_manifest(artifact.folder).evidence == {"status": "met"}


def test_the_fingerprint_is_of_the_model_alone(artifact):
    before = artifact.fingerprint()
    assert len(before) == 16
    (artifact.folder / "README.md").write_text("words")
    write_manifest(dataclasses.replace(artifact, options={}))
    assert artifact.fingerprint() == before
    artifact.path.write_bytes(b"other weights")
    assert artifact.fingerprint() != before


def test_notes_and_what_was_read_while_building_come_back_and_are_none_of_the_model(artifact):
    print_before = artifact.fingerprint()
    noted = dataclasses.replace(artifact, notes=("head stays in fp32",))
    write_manifest(noted)
    assert read_artifact(artifact.folder).notes == ("head stays in fp32",)
    assert found_while_built(artifact.folder) == ()
    keep_findings(artifact.folder, ())
    assert not (artifact.folder / "readings.jsonl").exists()
    row = Sample(quantity="sensitivity", unit="fraction", values=np.array([0.5, 0.0]), conditions={"layer": "head"})
    lost = Unavailable(quantity="sensitivity", reason="time", conditions={"layer": "tail"})
    keep_findings(artifact.folder, (row, lost))
    kept = found_while_built(artifact.folder)
    assert kept[0].values.tolist() == [0.5, 0.0]
    assert kept[1] == lost
    assert artifact.fingerprint() == print_before


def test_a_folder_without_a_manifest(tmp_path):
    assert refused(read_artifact, tmp_path) == (
        f"{tmp_path} holds no Steelyard artifact (no manifest.json): give a folder that optimize wrote, such as RUN/best"
    )


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "a/b.onnx", "..", ".", ".hidden", "", "a\nb"])
def test_a_model_file_outside_the_folder_is_refused(edit, name):
    folder = edit(file=name)
    assert refused(read_artifact, folder).startswith(f"{folder / 'manifest.json'}: file: String should match pattern")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"engine": "telepathy"}, "engine: Input should be 'eager', 'torch', 'onnxruntime', 'openvino' or 'tflite'"),
        ({"contract": None}, "contract: Input should be a valid dictionary or instance of _Contract"),
        ({"plan": 3}, "plan: Input should be a valid list"),
    ],
)
def test_a_manifest_that_does_not_fit_names_the_field(edit, fields, message):
    folder = edit(**fields)
    assert refused(read_artifact, folder) == f"{folder / 'manifest.json'}: {message}"


def test_a_contract_that_cannot_be_followed_is_refused(edit, artifact):
    contract = {**dataclasses.asdict(artifact.contract), "std": [0.0]}
    assert refused(read_artifact, edit(contract=contract)) == (
        "scale 1.0, mean (0.1, 0.2, 0.3) and std (0.0,) must be finite, and scale and std not 0"
    )


def test_a_manifest_that_is_no_json(artifact):
    path = artifact.folder / "manifest.json"
    path.write_text("{")
    assert refused(read_artifact, artifact.folder).startswith(f"cannot read {path}: Expecting property name")
    path.write_text("[]")
    assert refused(read_artifact, artifact.folder) == (
        f"{path}: content: Input should be a valid dictionary or instance of Manifest"
    )
    path.write_bytes(b"\xff\xfe")
    assert refused(read_artifact, artifact.folder).startswith(f"cannot read {path}: 'utf-8' codec")


def test_a_manifest_from_a_newer_version(edit):
    folder = edit(schema_version=2)
    assert refused(read_artifact, folder, kind=SchemaTooNew) == (
        f"{folder / 'manifest.json'} has schema 2, this Steelyard reads up to 1: upgrade it (pip install -U steelyard)"
    )


def test_a_folder_without_its_model(artifact):
    artifact.path.unlink()
    assert refused(read_artifact, artifact.folder) == (
        f"{artifact.folder} is incomplete: its model file model.onnx is missing"
    )


# --- deployed models -------------------------------------------------------------------------------


@pytest.mark.parametrize("engine", ["torch", "onnxruntime", "openvino"])
def test_a_deployed_model_gives_the_modules_outputs(tiny, engine):
    model = steelyard.load(tiny["conv"].artifacts[engine].folder)
    np.testing.assert_allclose(model(tiny["conv"].inputs), tiny["conv"].expected, rtol=1e-4, atol=1e-5)


def test_a_deployed_model_says_what_a_picture_shows(tiny, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    model = Model(tiny["conv"].artifacts["onnxruntime"].folder)
    answer = model.predict(tmp_path / "picture.png")
    logits = model((pixels[None, None] / 255).astype(np.float32))[0].astype(float)
    shares = np.exp(logits) / np.exp(logits).sum()
    assert answer.label == "abc"[int(shares.argmax())]
    assert answer.probability == pytest.approx(shares.max(), rel=1e-6)
    assert list(answer.probabilities.values()) == sorted(answer.probabilities.values(), reverse=True)
    assert sum(answer.probabilities.values()) == pytest.approx(1)
    assert model.predict(pixels[None]) == answer


def test_a_deployed_model_refuses_other_inputs(tiny):
    model = Model(tiny["conv"].artifacts["onnxruntime"].folder)
    assert refused(model, np.zeros((1, 1, 9, 9), dtype=np.float32)) == (
        "inputs have shape (1, 1, 9, 9), the model takes (n, 1, 8, 8)"
    )
    assert refused(model, np.zeros((1, 1, 8, 8))) == "inputs are float64, the model takes float32: convert them first"


def test_outputs_that_are_nan_are_an_error(tiny, tmp_path, writers):
    torch = pytest.importorskip("torch")

    class Log(torch.nn.Module):
        def forward(self, x):
            return torch.log(x)

    writers.to_onnx(Log(), (torch.rand(2, 3),), tmp_path / "log.onnx")
    write_manifest(
        Artifact(
            folder=tmp_path, engine="onnxruntime", file="log.onnx", contract=Contract(shape=(3,), layout="F")
        )
    )  # fmt: skip
    model = Model(tmp_path)
    assert np.isfinite(model(np.ones((1, 3), dtype=np.float32))).all()
    assert refused(model, -np.ones((1, 3), dtype=np.float32)) == "the model's outputs hold NaN or infinity"
