"""A net of known memory in every form: a square linear layer, and one wide intermediate made of it.

``y = W x`` (width), repeated `times` times and passed through a cosine, ``(times, width)`` for each example, then the largest of
each column and a small linear head. Weights are ``4 width**2`` bytes, the intermediate is ``4 times width`` an example.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Contract, SubjectSpec
from steelyard.subject.artifact import Artifact, write_manifest

CLASSES = tuple("0123456789")


def weight_bytes(width: int) -> int:
    """Of all parameters."""
    return 4 * (width * width + len(CLASSES) * width + len(CLASSES))


def intermediate_bytes(rows: int, *, width: int, times: int) -> int:
    """Of one wide value."""
    return 4 * rows * times * width


def inputs(rows: int, width: int) -> NDArray[np.float32]:
    """Examples ready for the model."""
    return np.random.default_rng(0).standard_normal((rows, width)).astype(np.float32)


def artifact(folder: Path, engine: str, *, width: int, times: int) -> Artifact:
    """The net on disk for an engine: ``eager``, ``onnxruntime`` or ``openvino``."""
    folder.mkdir(parents=True)
    contract = Contract(shape=(width,), layout="F", labels=CLASSES)
    if engine == "eager":
        return _eager(folder, contract, width, times)
    path = _write_onnx(folder / "model.onnx", width, times)
    if engine == "openvino":
        import openvino

        openvino.save_model(openvino.convert_model(path), folder / "model.xml", compress_to_fp16=False)
        path.unlink()
        path = folder / "model.xml"
    made = Artifact(folder=folder, engine=engine, file=path.name, contract=contract)  # type: ignore[arg-type]
    write_manifest(made)
    return made


_SUBJECT = """
import torch
from torch import nn
from steelyard import Contract, Subject

class Wide(nn.Module):
    def __init__(self):
        super().__init__()
        self.square = nn.Linear({width}, {width}, bias=False)
        self.head = nn.Linear({width}, 10)

    def forward(self, x):
        wide = self.square(x).unsqueeze(1).expand(-1, {times}, -1).contiguous()
        return self.head(torch.amax(torch.cos(wide), dim=1))

def subject():
    return Subject(model=Wide().eval(), contract=Contract(shape=({width},), layout="F", labels=tuple("0123456789")))
"""


def _eager(folder: Path, contract: Contract, width: int, times: int) -> Artifact:
    import torch

    from steelyard.subject.load import load_subject
    from steelyard.subject.safe import save_weights

    source = folder.parent / "wide.py"
    source.write_text(_SUBJECT.format(width=width, times=times))
    spec = SubjectSpec(source=f"{source}:subject")
    model: Any = load_subject(spec).model
    assert isinstance(model, torch.nn.Module)
    save_weights(model, folder / "weights.pt")
    made = Artifact(folder=folder, engine="eager", file="weights.pt", contract=contract, spec=spec)
    write_manifest(made)
    return made


def _write_onnx(path: Path, width: int, times: int) -> Path:
    from onnx import TensorProto, helper, numpy_helper, save

    rng = np.random.default_rng(0)
    constants = {
        "square": rng.standard_normal((width, width)).astype(np.float32),
        "head": rng.standard_normal((width, len(CLASSES))).astype(np.float32),
        "bias": np.zeros(len(CLASSES), dtype=np.float32),
        "axis": np.array([1], dtype=np.int64),
        "repeats": np.array([1, times, 1], dtype=np.int64),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "square"], ["y"]),
        helper.make_node("Unsqueeze", ["y", "axis"], ["row"]),
        helper.make_node("Tile", ["row", "repeats"], ["wide"]),
        helper.make_node("Cos", ["wide"], ["cosine"]),
        helper.make_node("ReduceMax", ["cosine", "axis"], ["most"], keepdims=0),
        helper.make_node("Gemm", ["most", "head", "bias"], ["z"]),
    ]
    graph = helper.make_graph(
        nodes,
        "wide",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, ["batch", len(CLASSES)])],
        [numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), str(path))
    return path
