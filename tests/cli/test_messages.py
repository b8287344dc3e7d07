"""A user's mistake is one line on stderr, exit status 2, and nothing is left behind that would hinder the next try."""

import dataclasses
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from steelyard import records as r
from steelyard.probe.host import environment
from steelyard.records import Contract, encode
from steelyard.store import RunFolder
from steelyard.subject.artifact import Artifact, write_manifest

USER = """
import pathlib
from torch import nn
from steelyard import Contract, Subject

def subject():
    return Subject(model=nn.Linear(2, 2), contract=Contract(shape=(2,), layout="F", labels=("a", "b")))

def square():
    return Subject(model=nn.Flatten(), contract=Contract(shape=(1, 4, 4)))
"""


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def user(here):
    pytest.importorskip("torch")
    (here / "user.py").write_text(USER)
    return here


@pytest.fixture
def says(steelyard):
    """The message of a command that ends with exit status 2 and one line."""

    def run(*words):
        ran = steelyard(*words, "--quiet")
        assert ran.status == 2
        assert ran.out == ""
        return ran.message

    return run


# --- words -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optimize", "gone.py"], "no such file: gone.py"),
        (["optimize", "gone.onnx"], "no such file: gone.onnx"),
        (["benchmark", "gone.pt2"], "no such file: gone.pt2"),
        (["report", "gone"], "gone holds no run (no records.jsonl): give the folder that --out named"),
        (
            ["verify", "gone"],
            "gone holds no Steelyard artifact (no manifest.json): give a folder that optimize wrote, such as RUN/best",
        ),
        (
            ["predict", "gone", "p.png"],
            "gone holds no Steelyard artifact (no manifest.json): give a folder that optimize wrote, such as RUN/best",
        ),
        (
            ["optimize", "resnet18"],
            "cannot tell what 'resnet18' is: give file.py:function, torchvision:NAME, or a path ending in .onnx, .xml or .pt2",
        ),
        (
            ["optimize", "m.py", "--require", "latency < fast"],
            (
                "cannot read the requirement 'latency < fast': write it like 'accuracy drop <= 0.5%', 'latency <= 0.3x', "
                "'p99 <= 35 ms', 'size <= 10 MB' or 'accuracy >= 0.9'"
            ),
        ),
        (
            ["optimize", "m.py", "--require", "latancy <= 3 ms"],
            "the requirement 'latancy <= 3 ms' names an unknown quantity 'latancy'; did you mean 'latency'?",
        ),
        (
            ["optimize", "m.py", "--require", "accuracy <= 0.9"],
            "the requirement 'accuracy <= 0.9' would ask for a worse model: write accuracy >= ... or accuracy drop <= ...",
        ),
        (["optimize", "m.py", "--budget", "soon"], "cannot read the time 'soon': write 90s, 10m, 1h or 1h30m"),
        (["optimize", "m.py", "--timeout", "1.2.3s"], "cannot read the time '1.2.3s': write 90s, 10m, 1h or 1h30m"),
        (["benchmark", "m.py", "--budget", "0s"], "a budget must be more than nothing, got '0s'"),
        (
            ["benchmark", "m.py", "--batch", "1,two"],
            "batch sizes are whole numbers with commas between, such as 1,8,32; got '1,two'",
        ),
        (["benchmark", "m.py", "--batch", "0,1"], "batch sizes must be 1 or more, got [0, 1]"),
    ],
)
def test_words_that_mean_nothing(here, says, words, message):
    assert says(*words) == message
    assert [p.name for p in here.iterdir() if p.name != "runs"] == []


@pytest.mark.parametrize(
    "words", [["fly"], ["optimize"], ["optimize", "m.py", "--classes", "one"], ["verify", "--fast"]]
)
def test_usage_errors_have_exit_status_two(here, steelyard, words):
    ran = steelyard(*words)
    assert ran.status == 2
    assert "Traceback" not in ran.err
    assert "Error: " in ran.err


def test_an_unknown_torchvision_name(here, says):
    pytest.importorskip("torchvision")
    assert says("benchmark", "torchvision:resnet81").startswith("torchvision has no classifier 'resnet81'; nearest: ")


# --- weights ---------------------------------------------------------------------------------------


class Evil:
    def __init__(self, flag):
        self.flag = flag

    def __reduce__(self):
        return (os.mkdir, (str(self.flag),))


def test_weights_with_code_in_them_are_not_run(user, says):
    flag = user / "ran"
    (user / "w.pt").write_bytes(pickle.dumps({"weight": Evil(flag)}))
    assert says("optimize", "user.py", "--data", "digits", "--weights", "w.pt") == (
        "w.pt could run code when opened, so it was not: save the weights with "
        "safetensors.torch.save_file(model.state_dict(), 'model.safetensors') and give that file"
    )
    assert not flag.exists()


def test_weights_that_do_not_fit(user, says):
    import torch

    torch.save(torch.nn.Linear(3, 2).state_dict(), user / "w.pt")
    assert says("optimize", "user.py", "--weights", "w.pt") == (
        "w.pt does not fit the model: weight has shape (2, 3), the model's is (2, 2)"
    )


def test_weights_that_are_missing(user, says):
    assert says("optimize", "user.py", "--weights", "w.pt") == "no such weights file: w.pt"


# --- data ------------------------------------------------------------------------------------------


def table(folder, **columns):
    np.savez(folder / "d.npz", **columns)
    return "d.npz"


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (np.zeros((20, 3)), np.arange(20) % 2, "examples have shape (3,), the model takes (2,): "),
        (np.zeros((20, 2)), np.arange(20) % 3, "label 2 in the train split is outside 0..1: the subject declares 2 classes"),
        (np.zeros((20, 2)), np.zeros(20, int), "every label in the train split is 0 ('a'): quality cannot be measured on one class"),
        (np.zeros((0, 2)), np.zeros(0, int), "the data has 0 training example(s); at least 2 are needed in each split: give more data"),
        (np.zeros((1, 2)), np.zeros(1, int), "the data has 1 training example(s); at least 2 are needed in each split: give more data"),
        (np.full((20, 2), np.nan), np.arange(20) % 2, "example 0 of the data holds NaN or infinity: clean the data before measuring on it"),
    ],
)  # fmt: skip
def test_data_that_cannot_be_used(user, says, x, y, message):
    assert says("optimize", "user.py", "--data", table(user, x=x, y=y)).startswith(message)


def test_no_data(user, says):
    assert says("optimize", "user.py") == "this subject has no data: give --data, or data=... in the subject"


def test_data_that_is_not_there(user, says):
    assert says("optimize", "user.py", "--data", "gone") == (
        "no such data: gone (give 'digits', a folder, or an .npz, .csv or .parquet file)"
    )


def test_a_broken_picture_in_a_folder(user, says):
    for name in ("cats", "dogs"):
        (user / "set" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("L", (4, 4), i).save(user / "set" / name / f"{i}.png")
    (user / "set" / "dogs" / "3.png").write_text("broken")
    assert says("optimize", "user.py:square", "--data", "set") == (
        "cannot read set/dogs/3.png as a picture: cannot identify image file 'set/dogs/3.png'"
    )


# --- folders ---------------------------------------------------------------------------------------


def run_record(**more):
    host = dataclasses.replace(environment(), **more)
    return r.Run(
        command="optimize",
        spec=r.SubjectSpec(source="other.py"),
        contract=r.Contract(shape=(1,), layout="F"),
        requirements=(),
        budget_s=1.0,
        environment=host,
    )


def test_a_folder_that_another_run_is_writing(user, says):
    with RunFolder(user / "run"):
        assert says("optimize", "user.py", "--out", "run") == (
            "another run is writing to run: wait for it, or give another --out"
        )


def test_a_folder_of_another_run_is_left_alone(user, says):
    with RunFolder(user / "run") as folder:
        folder.append(run_record())
    before = (user / "run" / "records.jsonl").read_bytes()
    assert says("optimize", "user.py", "--out", "run").startswith("run holds a run with other subject (other.py; )")
    assert says("benchmark", "user.py", "--out", "run") == (
        "run holds a run of optimize: give another --out, or remove the folder"
    )
    assert (user / "run" / "records.jsonl").read_bytes() == before


def test_a_folder_from_another_machine(user, says):
    with RunFolder(user / "run") as folder:
        folder.append(run_record(machine="f00", cpu="a processor", cores=96))
    assert says("optimize", "user.py", "--out", "run") == (
        "run was begun on another machine (a processor, 96 cores): numbers of unlike machines are not compared; "
        "give another --out"
    )


@pytest.mark.parametrize("command", [["report", "run"], ["optimize", "user.py", "--out", "run"]])
def test_a_folder_from_a_newer_version(user, says, command):
    (user / "run").mkdir()
    (user / "run" / "records.jsonl").write_text('{"schema":7,"record":{}}\n')
    assert says(*command) == (
        "run/records.jsonl, line 1: records have schema 7, this Steelyard reads up to 2: "
        "upgrade it (pip install -U steelyard)"
    )


def test_a_damaged_record(here, says):
    (here / "run").mkdir()
    (here / "run" / "records.jsonl").write_text(encode(run_record()) + "\n{}\n")
    assert says("report", "run") == "run/records.jsonl, line 2: not a Steelyard record: '{}\\n' ('schema')"


def test_a_file_where_the_run_folder_should_be(user, says):
    (user / "run").touch()
    assert says("optimize", "user.py", "--out", "run") == "cannot write to run: File exists"


# --- deployed folders ------------------------------------------------------------------------------


@pytest.fixture
def deployed(here):
    """A deployed folder around the smallest ONNX model: it flattens a picture of 2x2."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    node = onnx.helper.make_node("Flatten", ["x"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["n", 1, 2, 2]), ("y", ["n", 4]))]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (here / "best").mkdir()
    (here / "best" / "m.onnx").write_bytes(model.SerializeToString())
    contract = Contract(shape=(1, 2, 2), scale=0.1, labels=("nw", "ne", "sw", "se"))
    write_manifest(Artifact(folder=here / "best", engine="onnxruntime", file="m.onnx", contract=contract))
    Image.fromarray(np.array([[0, 20], [50, 10]], dtype=np.uint8)).save(here / "p.png")
    return here


def test_predicting_a_picture(deployed, steelyard):
    ran = steelyard("predict", "best", "p.png", "--top", "2")
    powers = np.exp([0.0, 2.0, 5.0, 1.0])
    shares = powers / powers.sum()
    assert (ran.status, ran.err) == (0, "")
    assert ran.out == f"{shares[2]:7.2%}  sw\n{shares[1]:7.2%}  ne\n"


def test_predicting_as_json(deployed, steelyard):
    found = json.loads(steelyard("predict", "best", "p.png", "--json").out)
    assert found["label"] == "sw"
    assert sum(found["probabilities"].values()) == pytest.approx(1)


def test_a_picture_that_is_not_there(deployed, says):
    assert says("predict", "best", "gone.png") == "no such picture: gone.png"


def test_a_picture_that_is_none(deployed, says):
    (deployed / "p.txt").write_text("words")
    assert says("predict", "best", "p.txt") == "cannot read p.txt as a picture: cannot identify image file 'p.txt'"


def test_a_manifest_that_points_elsewhere(deployed, says):
    path = deployed / "best" / "manifest.json"
    path.write_text(path.read_text().replace("m.onnx", "../p.png"))
    assert says("predict", "best", "p.png").startswith("best/manifest.json: file: String should match pattern")


def test_a_deployed_folder_without_examples_cannot_be_verified(deployed, says):
    assert says("verify", "best") == ("best holds no example inputs (parity.npz): it was not written by a finished run")


def test_a_missing_extra_names_its_command(deployed, says, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert says("predict", "best", "p.png") == ("running m.onnx needs the 'onnx' extra: pip install 'steelyard[onnx]'")


def test_a_manifest_with_other_classes_than_the_model(deployed, says):
    path = deployed / "best" / "manifest.json"
    path.write_text(path.read_text().replace('"sw",', ""))
    assert says("predict", "best", "p.png") == (
        "the model gives outputs of shape (4,) for one example; 3 classes are declared"
    )


# --- the disk --------------------------------------------------------------------------------------


def test_a_disk_that_fills_while_data_is_written(user):
    """RLIMIT_FSIZE cuts every file at 16 kB, as a full disk would."""
    table(user, x=np.zeros((9000, 2)), y=np.arange(9000) % 2)
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (2**14, resource.RLIM_INFINITY))\n"
        "from steelyard.cli import main; main(['optimize', 'user.py', '--data', 'd.npz', '--out', 'run', '--quiet'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("steelyard: ")
    assert done.stderr.endswith("; what was recorded before is safe, and the same command goes on from there\n")


# --- outputs ---------------------------------------------------------------------------------------


def test_outputs_that_are_nan_or_of_a_wrong_shape(deployed):
    """What a measuring process says; it ends as a refused trial, or as the command's one line for the baseline."""
    from steelyard.errors import InvalidInput
    from steelyard.measure.worker import Worker

    np.save(deployed / "in.npy", np.full((1, 1, 2, 2), np.nan, dtype=np.float32))
    worker = Worker()
    worker.load(folder=str(deployed / "best"), inputs=str(deployed / "in.npy"))
    with pytest.raises(InvalidInput, match=r"^the model's outputs hold NaN or infinity$"):
        worker.first()
    contract = Contract(shape=(1, 2, 2), labels=("a", "b"))
    write_manifest(Artifact(folder=deployed / "best", engine="onnxruntime", file="m.onnx", contract=contract))
    worker.load(folder=str(deployed / "best"), inputs=str(deployed / "in.npy"))
    with pytest.raises(
        InvalidInput, match=r"^the model gives outputs of shape \(1, 4\) for 1 example\(s\); expected \(1, 2\)"
    ):
        worker.first()
