"""Two tiny models in every form that an engine reads, made once a session."""

from __future__ import annotations

import io
import textwrap
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steelyard.records import Contract, SubjectSpec
from steelyard.subject.artifact import Artifact, write_manifest

SOURCE = """
import torch
from torch import nn
from steelyard import Contract, Subject

def conv():
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3),
    )
    return Subject(model=net, contract=Contract(shape=(1, 8, 8), scale=1 / 255, labels=("a", "b", "c")))

def mlp():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(6, 16), nn.GELU(), nn.Linear(16, 2))
    return Subject(model=net, contract=Contract(shape=(6,), layout="F", labels=("no", "yes")))
"""
CONTRACTS = {
    "conv": Contract(shape=(1, 8, 8), scale=1 / 255, labels=("a", "b", "c")),
    "mlp": Contract(shape=(6,), layout="F", labels=("no", "yes")),
}


@dataclass(frozen=True)
class Tiny:
    """One model: the module, inputs, what it gives for them, and its artifacts by engine."""

    module: Any
    inputs: np.ndarray
    expected: np.ndarray
    artifacts: Mapping[str, Artifact]


def to_onnx(module: Any, inputs: Any, path: Path, *, dynamic: bool = True, names: tuple[str, ...] = ("x",)) -> Path:
    import torch

    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter without onnxscript is called old, and is quicker
        torch.onnx.export(
            module, inputs, buffer, dynamo=False, opset_version=17, input_names=list(names),
            dynamic_axes={name: {0: "n"} for name in names} if dynamic else None,
        )  # fmt: skip
    path.write_bytes(buffer.getvalue())
    return path


def to_program(module: Any, inputs: Any, path: Path, *, dynamic: bool = True) -> Path:
    import torch

    shapes = tuple({0: torch.export.Dim("n")} for _ in inputs) if dynamic else None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(torch.export.export(module, inputs, dynamic_shapes=shapes), path)
    return path


def to_ir(onnx_file: Path, path: Path) -> Path:
    import openvino

    openvino.save_model(openvino.convert_model(onnx_file), path, compress_to_fp16=False)
    return path


@pytest.fixture(scope="session")
def writers() -> SimpleNamespace:
    return SimpleNamespace(to_onnx=to_onnx, to_program=to_program, to_ir=to_ir)


@pytest.fixture(scope="session")
def source_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's Python file with the functions ``conv`` and ``mlp``."""
    path = tmp_path_factory.mktemp("user") / "nets.py"
    path.write_text(textwrap.dedent(SOURCE))
    return path


def _tiny(name: str, source: Path, root: Path) -> Tiny:
    import torch

    from steelyard.subject.load import load_subject
    from steelyard.subject.safe import save_weights

    spec = SubjectSpec(source=f"{source}:{name}")
    module, contract = load_subject(spec).model.eval(), CONTRACTS[name]
    inputs = np.random.default_rng(0).standard_normal((5, *contract.shape)).astype(np.float32)
    example = (torch.from_numpy(inputs[:2]),)
    files = {"eager": "weights.pt", "torch": "model.pt2", "onnxruntime": "model.onnx", "openvino": "model.xml"}
    artifacts = {}
    for engine, file in files.items():
        (root / engine).mkdir(parents=True)
        artifacts[engine] = Artifact(
            folder=root / engine, engine=engine, file=file, contract=contract, spec=spec if engine == "eager" else None
        )
    save_weights(module, artifacts["eager"].path)
    to_program(module, example, artifacts["torch"].path)
    to_ir(to_onnx(module, example, artifacts["onnxruntime"].path), artifacts["openvino"].path)
    for artifact in artifacts.values():
        write_manifest(artifact)
    with torch.no_grad():
        return Tiny(module, inputs, module(torch.from_numpy(inputs)).numpy(), artifacts)


@pytest.fixture(scope="session")
def tiny(source_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Tiny]:
    """``conv`` and ``mlp``, exported for every engine."""
    for needed in ("torch", "onnx", "onnxruntime", "openvino"):
        pytest.importorskip(needed)
    root = tmp_path_factory.mktemp("tiny")
    return {name: _tiny(name, source_file, root / name) for name in CONTRACTS}
