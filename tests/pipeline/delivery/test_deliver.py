"""A deployable folder in every form: its servers' files against their own grammars, its script where Steelyard is not."""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import numpy as np
import pytest
from PIL import Image

import steelyard as package
import tiny_models
import triton_config
from steelyard.errors import CannotApply, InvalidInput
from steelyard.measure.process import Limits
from steelyard.measure.turns import TurnSettings
from steelyard.measure.weigh import WeighSettings
from steelyard.passes.build import Builder
from steelyard.pipeline.deliver import deliver
from steelyard.probe.host import environment
from steelyard.records import (
    Measurement,
    Outcome,
    Plan,
    Requirement,
    Run,
    Sample,
    Step,
    SubjectSpec,
    Trial,
)
from steelyard.search.attempt import Workshop
from steelyard.subject.artifact import model_files, read_artifact, read_manifest
from steelyard.verify.checkup import check_folder

RATES = {1: 1000.0, 4: 3000.0, 8: 5000.0, 16: 5100.0}
INT8 = Plan(steps=(Step(name="quantize_static"),))
PLANS = {
    "onnxruntime": INT8,
    "openvino": Plan(steps=(Step(name="openvino"),)),
    "torch": Plan(steps=(Step(name="export"),)),
}


class Delivered(NamedTuple):
    """A folder, the engine of its model, and what made it."""

    best: Path
    engine: str
    shop: Workshop
    run: Run
    trial: Trial


def measured(subject: str) -> Measurement:
    readings = [
        Sample(quantity="throughput_per_s", unit="1/s", values=np.array([rate]), conditions={"batch": size})
        for size, rate in RATES.items()
    ]
    latency = Sample(quantity="latency_s", unit="s", values=np.array([0.001]), conditions={"batch": 1})
    return Measurement(subject=subject, environment=environment(), readings=(latency, *readings))


def made(root: Path, engine: str) -> Delivered:
    source = (
        tiny_models.eager_artifact(root / "baseline")
        if engine == "torch"
        else tiny_models.onnx_artifact(root / "baseline")
    )
    shop = Workshop(
        root=root, baseline=source.folder, inputs=tiny_models.write_inputs(root / "inputs.npy"),
        data=tiny_models.write_data(root / "data"), host=environment(), weigh=WeighSettings(), turns=TurnSettings(), limits=Limits(),
    )  # fmt: skip
    plan = PLANS[engine]
    folder = Builder().build(str(source.folder), str(root / "artifacts"), plan, str(shop.inputs), str(shop.data))
    run = Run(
        command="optimize", spec=SubjectSpec(source="nets/tiny net.py:subject"), contract=tiny_models.CONTRACT, requirements=(),
        budget_s=1.0, environment=environment(), splits={"test": 360},
    )  # fmt: skip
    trial = Trial(
        plan=plan,
        artifact=str(Path(folder).relative_to(root)),
        after=measured(read_artifact(Path(folder)).fingerprint()),
    )
    outcome = Outcome(status="met", chosen=plan, reason="", wall_s=1.0)
    return Delivered(deliver(shop, run, outcome, [trial], None), engine, shop, run, trial)


@pytest.fixture(scope="module")
def deliveries(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Delivered]:
    """A folder for each engine, made once."""

    @functools.cache
    def of(engine: str) -> Delivered:
        for needed in {"torch": ("torch",), "openvino": ("onnx", "openvino")}.get(engine, ("onnx", "onnxruntime")):
            pytest.importorskip(needed)
        return made(tmp_path_factory.mktemp(engine), engine)

    return of


@pytest.fixture(params=["onnxruntime", "openvino", pytest.param("torch", marks=pytest.mark.slow)])
def delivered(request: pytest.FixtureRequest, deliveries: Callable[[str], Delivered]) -> Delivered:
    return deliveries(request.param)


@pytest.fixture
def quantised(deliveries: Callable[[str], Delivered]) -> Delivered:
    """One in 8 bits for ONNX Runtime."""
    return deliveries("onnxruntime")


def again(delivered: Delivered, root: Path, outcome: Outcome, **run: Any) -> Path:
    """The folder delivered once more, from a copy of the run's."""
    kept = delivered.shop
    shutil.copytree(kept.root, root)
    moved = {name: root / getattr(kept, name).relative_to(kept.root) for name in ("baseline", "inputs", "data")}
    shop = dataclasses.replace(kept, root=root, **moved)
    return deliver(shop, dataclasses.replace(delivered.run, **run), outcome, [delivered.trial], None)


# --- servers -----------------------------------------------------------------------------------------------


def test_triton_reads_its_configuration(delivered: Delivered) -> None:
    home = delivered.best / "triton" / "tiny-net"
    config = triton_config.parse(home / "config.pbtxt")
    assert config.name == home.name
    assert config.backend == {"torch": "python"}.get(delivered.engine, delivered.engine)
    assert (home / "1" / config.default_model_filename).is_file()
    (taken,), (given,) = config.input, config.output
    assert (list(taken.dims), list(given.dims)) == ([1, 8, 8], [10])
    assert (taken.data_type, given.data_type) == (11, 11)  # TYPE_FP32
    assert (home / given.label_filename).read_text().split("\n") == [*"0123456789", ""]
    assert (config.max_batch_size, list(config.dynamic_batching.preferred_batch_size)) == (16, [8, 16])
    assert config.dynamic_batching.max_queue_delay_microseconds == 500
    assert [(g.count, g.kind) for g in config.instance_group] == [(1, 2)]  # KIND_CPU


def test_the_names_in_triton_are_the_models_own(delivered: Delivered) -> None:
    config = triton_config.parse(delivered.best / "triton" / "tiny-net" / "config.pbtxt")
    path = delivered.best / read_artifact(delivered.best).file
    names = (config.input[0].name, config.output[0].name)
    if delivered.engine == "onnxruntime":
        import onnx

        graph = onnx.load(str(path)).graph
        assert names == (graph.input[0].name, graph.output[0].name)
    elif delivered.engine == "openvino":
        import openvino

        model = openvino.Core().read_model(path)
        assert names[0] in model.input(0).get_names()
        assert names[1] in model.output(0).get_names()
    else:
        code = (path.parent / "triton" / "tiny-net" / "1" / "model.py").read_text()
        compile(code, "model.py", "exec")
        assert all(f'"{name}"' in code for name in names)
        assert f'"{path.name}"' in code


# As far as a plain model goes: https://github.com/openvinotoolkit/model_server/blob/main/src/schema.cpp
OVMS = {
    "type": "object",
    "required": ["model_config_list"],
    "additionalProperties": False,
    "properties": {
        "model_config_list": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["config"],
                "additionalProperties": False,
                "properties": {
                    "config": {
                        "type": "object",
                        "required": ["name", "base_path"],
                        "additionalProperties": False,
                        "properties": {
                            "name": {"type": "string"},
                            "base_path": {"type": "string"},
                            "batch_size": {"type": ["integer", "string"], "minimum": 0},
                            "shape": {"type": ["object", "string"]},
                            "nireq": {"type": "integer", "minimum": 0},
                            "target_device": {"type": "string"},
                            "plugin_config": {"type": "object"},
                        },
                    }
                },
            },
        }
    },
}


def test_the_model_servers_configuration_fits_its_schema(delivered: Delivered) -> None:
    path = delivered.best / "ovms" / "config.json"
    if delivered.engine == "torch":
        assert not path.parent.exists()
        assert "does not read PyTorch's programs" in (delivered.best / "README.md").read_text()
        return
    document = json.loads(path.read_text())
    jsonschema.validate(document, OVMS)
    (entry,) = document["model_config_list"]
    version = path.parent / entry["config"]["base_path"] / "1"
    assert {p.name for p in version.iterdir()} == {p.name for p in model_files(delivered.best)}


def test_the_servers_files_are_links_and_take_no_room(delivered: Delivered) -> None:
    for path in model_files(delivered.best):
        served = delivered.best / "triton" / "tiny-net" / "1" / path.name
        assert served.stat().st_ino == path.stat().st_ino
    kept = delivered.shop.root / str(delivered.trial.artifact)
    for path in model_files(delivered.best):
        assert path.stat().st_ino != (kept / path.name).stat().st_ino  # what is done to best/ leaves the run alone


def test_where_there_are_no_links_there_are_copies(
    quantised: Delivered, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links on this file system")

    monkeypatch.setattr(os, "link", refuse)
    best = again(
        quantised, tmp_path / "again", Outcome(status="met", chosen=quantised.trial.plan, reason="", wall_s=1.0)
    )
    for path in model_files(best):
        assert (best / "triton" / "tiny-net" / "1" / path.name).read_bytes() == path.read_bytes()


# --- the container -------------------------------------------------------------------------------------------


def test_the_dockerfile_keeps_the_rules(delivered: Delivered) -> None:
    """Those of hadolint that apply: DL3000, 3002, 3006, 3007, 3013, 3020, 3025, 3042, 3045, 3057, 4000, 4003, 4004."""
    lines = (delivered.best / "Dockerfile").read_text().splitlines()
    steps = [line.split(maxsplit=1) for line in lines if line and not line.startswith("#")]
    by_word: dict[str, list[str]] = {}
    for word, rest in steps:
        by_word.setdefault(word, []).append(rest)
    assert steps[0][0] == "FROM"
    assert set(by_word) <= {"FROM", "ENV", "WORKDIR", "ARG", "COPY", "RUN", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"}
    (base,) = by_word["FROM"]
    assert re.fullmatch(r"python:3\.\d+-slim", base)
    assert by_word["WORKDIR"][0].startswith("/")
    assert [line for line in by_word["RUN"] if "pip install" in line and "--no-cache-dir" not in line] == []
    assert not any(word in line for line in by_word["RUN"] for word in ("sudo", "apt-get", "curl", "chmod"))
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", by_word["USER"][-1])
    assert [w for w, _ in steps].index("USER") < [w for w, _ in steps].index("ENTRYPOINT")
    for word in ("ENTRYPOINT", "CMD"):
        assert len(by_word[word]) == 1
        json.loads(by_word[word][0])
    (health,) = by_word["HEALTHCHECK"]
    assert json.loads(health.partition("CMD ")[2]) == ["python", "predict.py", "--check"]
    assert {p.split()[0] for p in by_word["COPY"]} == {"requirements.txt", "."}


def test_the_packages_are_few_and_pinned_to_what_is_installed(delivered: Delivered) -> None:
    from importlib.metadata import version

    pins = dict(line.split("==") for line in (delivered.best / "requirements.txt").read_text().splitlines())
    assert set(pins) == {"numpy", delivered.engine, "pillow"}
    assert all(version(name).partition("+")[0] == pin for name, pin in pins.items())
    assert read_manifest(delivered.best).packages.keys() == pins.keys()
    ignored = (delivered.best / ".dockerignore").read_text().split()
    assert {"triton", "ovms", "fallback"} <= set(ignored)


# --- the script ----------------------------------------------------------------------------------------------

ALONE = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("steelyard", "scipy", "pydantic", "click"):
            raise ImportError(name)

sys.meta_path.insert(0, Blocker())
"""


def run_script(folder: Path, tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    aside = tmp_path / "aside"
    aside.mkdir(exist_ok=True)
    (aside / "sitecustomize.py").write_text(ALONE)
    return subprocess.run(
        [sys.executable, str(folder / "predict.py"), *map(str, words)],
        capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": str(aside)},
    )  # fmt: skip


def read_rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_script_answers_as_the_model_does(delivered: Delivered, tmp_path: Path) -> None:
    """Pictures of another size and kind among them; 40 are more than one batch."""
    folder = Path(shutil.copytree(delivered.best, tmp_path / "best"))
    rng = np.random.default_rng(0)
    (tmp_path / "pictures").mkdir()
    for i in range(40):
        size = (8, 8) if i % 3 else (11, 14)
        kind = np.uint16 if i % 5 == 0 else np.uint8
        Image.fromarray(rng.integers(0, np.iinfo(kind).max, size, dtype=kind)).save(
            tmp_path / "pictures" / f"{i:02d}.png"
        )
    ran = run_script(folder, tmp_path, tmp_path / "pictures", "--out", tmp_path / "answers.csv")
    assert (ran.returncode, ran.stdout) == (0, ""), ran.stderr
    rows = read_rows(tmp_path / "answers.csv")
    package.predict(folder, tmp_path / "pictures", tmp_path / "ours.csv")
    ours = read_rows(tmp_path / "ours.csv")
    assert [(r["id"], r["pred"]) for r in rows] == [(r["id"], r["pred"]) for r in ours]
    columns = [f"p_{i}" for i in range(10)]
    np.testing.assert_allclose(
        [[float(r[c]) for c in columns] for r in rows], [[float(r[c]) for c in columns] for r in ours], atol=1e-5
    )


def test_the_script_checks_the_folder(quantised: Delivered, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(quantised.best, tmp_path / "best"))
    assert run_script(folder, tmp_path, "--check").returncode == 0
    with np.load(folder / "parity.npz") as saved:
        content = dict(saved)
    np.savez(folder / "parity.npz", **{**content, "outputs": content["outputs"] + 1})
    ran = run_script(folder, tmp_path, "--check")
    assert ran.returncode == 1
    assert "outputs differ by up to 1" in ran.stderr


def test_the_script_reads_raw_arrays_and_says_what_is_missing(quantised: Delivered, tmp_path: Path) -> None:
    raw = np.asarray(tiny_models.data().test.raw[:5])
    np.save(tmp_path / "raw.npy", raw)
    ran = run_script(quantised.best, tmp_path, tmp_path / "raw.npy")
    expected = package.load(quantised.best).probabilities(raw).argmax(axis=1)
    assert [line.split(",")[1] for line in ran.stdout.splitlines()[1:]] == [str(i) for i in expected]
    assert "no such file" in run_script(quantised.best, tmp_path, "gone.png").stderr


# --- the folder as a whole -------------------------------------------------------------------------------------


def test_the_folder_is_an_artifact_that_verifies(quantised: Delivered) -> None:
    kept = quantised.shop.root / str(quantised.trial.artifact)
    assert read_artifact(quantised.best).fingerprint() == read_artifact(kept).fingerprint()
    checkup = check_folder(quantised.best, seconds=0.05)
    assert checkup.passed
    assert [c.name for c in checkup.checks] == ["files", "packages", "instruction sets", "same outputs", "latency"]


def test_a_quantised_model_has_the_whole_one_beside_it(quantised: Delivered) -> None:
    twin, examples = quantised.best / "fallback", tiny_models.examples()
    np.testing.assert_allclose(package.load(twin)(examples), tiny_models.logits(examples), atol=1e-4)
    assert (read_artifact(twin).plan, read_manifest(twin).files.keys()) == (Plan(), {"model.onnx"})
    assert "`fallback/` is the same model before it was quantised" in (quantised.best / "README.md").read_text()


def test_one_that_is_not_has_none(deliveries: Callable[[str], Delivered]) -> None:
    assert not (deliveries("openvino").best / "fallback").exists()


def test_whoever_counts_bytes_gets_no_second_model(quantised: Delivered, tmp_path: Path) -> None:
    limit = Requirement(quantity="size", kind="max", limit=1e6, text="size <= 1 MB")
    outcome = Outcome(status="met", chosen=quantised.trial.plan, reason="", wall_s=1.0)
    best = again(quantised, tmp_path / "again", outcome, requirements=(limit,))
    assert not (best / "fallback").exists()


def test_the_baseline_can_be_verified_too(quantised: Delivered, tmp_path: Path) -> None:
    """Where nothing passed; the examples' outputs are made now, by a fresh process."""
    outcome = Outcome(status="nothing-passed", chosen=Plan(), reason="", wall_s=1.0)
    best = again(quantised, tmp_path / "again", outcome)
    assert check_folder(best, seconds=0.05).passed
    with np.load(best / "parity.npz") as saved:
        np.testing.assert_allclose(saved["outputs"], tiny_models.logits(saved["inputs"]), atol=1e-4)


# --- texts ---------------------------------------------------------------------------------------------------

ENCODE = """
from pathlib import Path
import numpy as np

WORDS = Path(__file__).with_name("words.txt").read_text(encoding="utf-8").split()

def encode(texts):
    rows = np.zeros((len(texts), 4), dtype=np.int64)
    for row, text in zip(rows, texts):
        codes = [1 + WORDS.index(word) for word in text.split()[:4] if word in WORDS]
        row[: len(codes)] = codes
    return rows
"""
SUBJECT = """
from pathlib import Path
import numpy as np
from encoding import encode
from steelyard import Contract, Split, Splits, Subject

HERE = Path(__file__).parent

def splits():
    texts = [f"good film {i}" if i % 2 else f"bad film {i}" for i in range(40)]
    labels = (np.arange(40) % 2).astype(np.int32)
    return Splits.of(Split.of_texts(texts, labels, encode), labels=("no", "yes"))

def subject():
    contract = Contract(shape=(4,), layout="T", dtype="int64", labels=("no", "yes"))
    return Subject(model=HERE / "words.onnx", contract=contract, data=splits, encode=encode, encode_files=FILES)
"""


def write_texts(folder: Path, files: str = "[HERE / 'encoding.py', HERE / 'words.txt']") -> Path:
    """A net that says yes where code 1 ("good") stands first, and its vocabulary in a file."""
    onnx = pytest.importorskip("onnx")
    folder.mkdir()
    (folder / "words.txt").write_text("good bad film\n", encoding="utf-8")
    (folder / "encoding.py").write_text(ENCODE)
    (folder / "texts.py").write_text(SUBJECT.replace("FILES", files))
    table = np.array([[0, 0], [-3, 3], [3, -3], [0, 0]], dtype=np.float32)
    initializers = [onnx.numpy_helper.from_array(table, "table"), onnx.numpy_helper.from_array(np.array([1]), "axes")]
    nodes = [
        onnx.helper.make_node("Gather", ["table", "x"], ["e"]),
        onnx.helper.make_node("ReduceSum", ["e", "axes"], ["y"], keepdims=0),
    ]
    ends = [
        onnx.helper.make_tensor_value_info("x", onnx.TensorProto.INT64, ["n", 4]),
        onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["n", 2]),
    ]
    graph = onnx.helper.make_graph(nodes, "words", ends[:1], ends[1:], initializers)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (folder / "words.onnx").write_bytes(model.SerializeToString())
    return folder / "texts.py"


def deliver_texts(root: Path, source: Path) -> Path:
    from steelyard.pipeline.job import silent
    from steelyard.pipeline.prepare import prepare_subject

    for name in ("steelyard_user_encoding", "encoding"):
        sys.modules.pop(name, None)
    spec = SubjectSpec(source=str(source))
    prepared = prepare_subject(spec, root, silent)
    shop = Workshop(
        root=root, baseline=prepared.baseline.folder, inputs=prepared.inputs, data=prepared.data, host=environment(),
        weigh=WeighSettings(), turns=TurnSettings(), limits=Limits(),
    )  # fmt: skip
    run = Run(
        command="optimize", spec=spec, contract=prepared.baseline.contract, requirements=(), budget_s=1.0,
        environment=environment(),
    )  # fmt: skip
    return deliver(shop, run, Outcome(status="nothing-passed", chosen=Plan(), reason="", wall_s=1.0), [], None)


@pytest.fixture(scope="module")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("texts")
    return deliver_texts(root / "run", write_texts(root / "user"))


def test_what_encodes_texts_travels_where_the_user_says_so(text_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(text_folder, tmp_path / "elsewhere"))
    assert (folder / "encode" / "words.txt").read_text() == "good bad film\n"
    model = package.load(folder, run_code=True)
    assert [model.predict(text).label for text in ("good film", "a bad film")] == ["yes", "no"]
    assert set(read_manifest(folder).files) == {"words.onnx", "encode/encoding.py", "encode/words.txt"}


def test_the_code_is_not_run_by_those_who_do_not_trust_it(text_folder: Path, steelyard: Callable[..., Any]) -> None:
    ran = steelyard("predict", text_folder, "--text", "good film")
    assert ran.status == 2
    assert "carries encoding.py, code that makes inputs of texts" in ran.message
    trusted = steelyard("predict", text_folder, "--text", "good film", "--run-code", "--top", 1)
    assert trusted.out == " 99.75%  yes\n"


def test_a_changed_vocabulary_fails_the_check(text_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(text_folder, tmp_path / "changed"))
    (folder / "encode" / "words.txt").write_text("bad good film\n")
    assert (
        check_folder(folder, seconds=0.05).checks[0].detail == "encode/words.txt changed since delivery: deliver again"
    )


def test_a_table_of_texts_is_answered_and_evaluated(
    text_folder: Path, tmp_path: Path, steelyard: Callable[..., Any]
) -> None:
    (tmp_path / "texts.csv").write_text('text,label\ngood film,yes\nbad film,no\n"a bad, bad film",yes\ngood,yes\n')
    made = steelyard("predict", text_folder, tmp_path / "texts.csv", "--out", tmp_path / "p.csv", "--run-code")
    assert (made.status, made.out.splitlines()[0]) == (0, f"4 answers  {tmp_path / 'p.csv'}")
    judged = steelyard("evaluate", tmp_path / "p.csv", "--out", tmp_path / "out", "--json")
    assert json.loads(judged.out)["models"][0]["metrics"]["accuracy"]["value"] == 0.75


def test_without_the_users_word_it_stays_and_is_said(tmp_path: Path) -> None:
    best = deliver_texts(tmp_path / "run", write_texts(tmp_path / "user", "()"))
    assert not (best / "encode").exists()
    with pytest.raises(InvalidInput, match="what encodes them did not travel with it: name it in the subject"):
        package.load(best).predict("good film")
    assert "did not travel: the subject named no `encode_files`" in (best / "README.md").read_text()
    assert package.load(best)(np.array([[1, 0, 0, 0]])).argmax() == 1


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ("[HERE / 'gone.py']", "encode_files names .*gone.py"),
        ("[HERE / 'words.txt']", "encode_files names .*words.txt: give the Python file that holds"),
        ("[HERE / 'encoding.py']", "does not run: FileNotFoundError"),  # its vocabulary was forgotten
    ],
)
def test_files_that_would_not_encode_elsewhere_are_refused(tmp_path: Path, files: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        deliver_texts(tmp_path / "run", write_texts(tmp_path / "user", files))


@pytest.mark.slow
def test_a_folder_from_an_engine_without_a_script_has_none(tmp_path: Path) -> None:
    """Weights for the user's own code, where nothing could be exported."""
    source = tiny_models.eager_artifact(tmp_path / "baseline")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("steelyard.pipeline.deliver.build", _cannot)
        shop = Workshop(
            root=tmp_path, baseline=source.folder, inputs=tiny_models.write_inputs(tmp_path / "inputs.npy"), data=None,
            host=environment(), weigh=WeighSettings(), turns=TurnSettings(), limits=Limits(),
        )  # fmt: skip
        run = Run(
            command="optimize", spec=SubjectSpec(source="m.py"), contract=tiny_models.CONTRACT, requirements=(), budget_s=1.0,
            environment=environment(),
        )  # fmt: skip
        best = deliver(shop, run, Outcome(status="nothing-passed", chosen=Plan(), reason="", wall_s=1.0), [], None)
    assert {p.name for p in best.iterdir()} == {"weights.pt", "manifest.json", "README.md", "labels.txt"}


def _cannot(*_: object) -> Path:
    raise CannotApply("it branches on its input")
