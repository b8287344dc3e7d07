"""One tiny net in every form, for the tests of all rooms: two convolutions and a linear layer on 1x8x8 pictures.

The convolutions are random features; the linear layer is fitted on the training part of scikit-learn's digits, so that
the net is right on about 90 % of the others. Counted by hand: 1,626 parameters and 8,192 MACs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Contract, Plan, SubjectSpec
from steelyard.subject.artifact import Artifact, write_manifest
from steelyard.subject.data import digits
from steelyard.subject.splits import Split, Splits, write_split

CONTRACT = Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=tuple("0123456789"))
PARAMETERS = (4 * 9 + 4) + (8 * 4 * 9 + 8) + (128 * 10 + 10)
MACS = 8 * 8 * 4 * 9 + 4 * 4 * 8 * 4 * 9 + 128 * 10

Arrays = Mapping[str, NDArray[np.float32]]


@functools.cache
def data() -> Splits:
    """The digits, split 6:2:2."""
    return digits()


@functools.cache
def weights() -> Arrays:
    """Random convolutions and a fitted linear layer."""
    from sklearn.linear_model import LogisticRegression

    rng = np.random.default_rng(0)
    made = {
        "0.weight": rng.standard_normal((4, 1, 3, 3)) / 3,
        "0.bias": np.zeros(4),
        "2.weight": rng.standard_normal((8, 4, 3, 3)) / 6,
        "2.bias": np.zeros(8),
    }
    arrays = {name: array.astype(np.float32) for name, array in made.items()}
    train = data().train
    fitted = LogisticRegression(C=0.1, max_iter=500).fit(features(arrays, train.inputs(CONTRACT)), train.labels)
    return {**arrays, "5.weight": fitted.coef_.astype(np.float32), "5.bias": fitted.intercept_.astype(np.float32)}


def features(arrays: Arrays, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """What the two convolutions give, in NumPy alone."""
    hidden = np.maximum(_convolve(inputs, arrays["0.weight"], arrays["0.bias"], 1), 0)
    return np.maximum(_convolve(hidden, arrays["2.weight"], arrays["2.bias"], 2), 0).reshape(len(inputs), -1)


def logits(inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """The whole net in NumPy alone: the oracle of every engine."""
    arrays = weights()
    return features(arrays, inputs) @ arrays["5.weight"].T + arrays["5.bias"]


def _convolve(inputs: NDArray[Any], kernel: NDArray[Any], bias: NDArray[Any], stride: int) -> NDArray[Any]:
    padded = np.pad(inputs, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))[:, :, ::stride, ::stride]
    return np.einsum("nchwij,ocij->nohw", windows, kernel, optimize=True) + bias[None, :, None, None]


def examples(count: int = 64) -> NDArray[np.float32]:
    """Model-ready validation pictures."""
    return data().validation.take(np.arange(count)).inputs(CONTRACT)


# --- as files --------------------------------------------------------------------------------------


def write_onnx(
    path: Path, *, batch: str | int = "batch", tail: str = "", head: Callable[[Arrays], Arrays] = dict
) -> Path:
    """The net as ONNX. `tail` spoils the outputs (``"Sqrt"`` gives NaN, ``"noise"`` is random); `head` changes weights."""
    from onnx import TensorProto, checker, helper, numpy_helper, save

    arrays = head(weights())
    nodes = [
        helper.make_node("Conv", ["x", "0.weight", "0.bias"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"]),
        helper.make_node("Conv", ["b", "2.weight", "2.bias"], ["c"], pads=[1, 1, 1, 1], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"]),
        helper.make_node("Flatten", ["d"], ["e"]),
        helper.make_node("Gemm", ["e", "5.weight", "5.bias"], ["f" if tail else "y"], transB=1),
    ]
    if tail == "noise":
        nodes.append(helper.make_node("RandomNormalLike", ["f"], ["n"]))
        nodes.append(helper.make_node("Add", ["f", "n"], ["y"]))
    elif tail:
        nodes.append(helper.make_node(tail, ["f"], ["y"]))
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 1, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, len(arrays["5.bias"])])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, str(path))
    return path


SUBJECT = """
import pathlib
import numpy as np
import torch
from torch import nn
from steelyard import Contract, Subject

CONTRACT = Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=tuple("0123456789"))

def net():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(),
        nn.Linear(128, 10),
    )

def subject():
    model = net()
    with np.load(pathlib.Path(__file__).with_name("tiny.npz")) as arrays:
        model.load_state_dict({name: torch.from_numpy(arrays[name]) for name in arrays.files})
    return Subject(model=model.eval(), contract=CONTRACT, data="digits")
"""


def write_subject(folder: Path, *, normalised: bool = False) -> Path:
    """The net as a Python file for PyTorch, with its weights beside it; see `normalised_weights`."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "tiny.npz", **(normalised_weights() if normalised else weights()))
    path = folder / "tiny_subject.py"
    code = SUBJECT.replace("stride=2, padding=1)", "stride=2, padding=1), nn.BatchNorm2d(8)") if normalised else SUBJECT
    path.write_text(code, encoding="utf-8")
    return path


def normalised_weights() -> Arrays:
    """The same net with a batch normalisation behind the second convolution, whose weights undo it beforehand."""
    rng = np.random.default_rng(1)
    arrays = dict(weights())
    scale, shift, mean = (rng.standard_normal(8).astype(np.float32) for _ in range(3))
    variance = rng.uniform(0.5, 2, 8).astype(np.float32)
    spread = np.sqrt(variance + np.float32(1e-5)) / scale
    arrays["2.weight"] = arrays["2.weight"] * spread[:, None, None, None]
    arrays["2.bias"] = (arrays["2.bias"] - shift) * spread + mean
    head = {f"6.{name}": arrays.pop(f"5.{name}") for name in ("weight", "bias")}
    norm = {"weight": scale, "bias": shift, "running_mean": mean, "running_var": variance}
    return {**arrays, **{f"3.{name}": array for name, array in norm.items()}, **head}


# --- as artifacts -----------------------------------------------------------------------------------


def onnx_artifact(folder: Path, **spoiled: Any) -> Artifact:
    """The net as an artifact for ONNX Runtime."""
    write_onnx(folder / "model.onnx", **spoiled)
    return _artifact(folder, "onnxruntime", "model.onnx")


def eager_artifact(folder: Path, *, normalised: bool = False) -> Artifact:
    """The net as the user's own PyTorch code with saved weights; see `normalised_weights`."""
    from steelyard.subject.load import load_subject
    from steelyard.subject.safe import save_weights

    spec = SubjectSpec(source=f"{write_subject(folder / 'code', normalised=normalised)}:subject")
    save_weights(load_subject(spec).model, folder / "weights.pt")
    return _artifact(folder, "eager", "weights.pt", spec=spec)


def _artifact(folder: Path, engine: str, file: str, **more: Any) -> Artifact:
    artifact = Artifact(folder=folder, engine=engine, file=file, contract=CONTRACT, plan=Plan(), **more)
    write_manifest(artifact)
    return artifact


def write_inputs(path: Path) -> Path:
    """The file of example inputs that measuring processes cycle through."""
    np.save(path, examples())
    return path


def write_data(folder: Path, names: tuple[str, ...] = ("validation", "test", "calibration")) -> Path:
    """Splits on disk as a run folder has them; the calibration split is drawn from training data."""
    splits = data()
    known: dict[str, Split] = {**dict(splits.items()), "calibration": splits.train.take(np.arange(100))}
    for name in names:
        write_split(known[name], folder, name)
    return folder
