"""PyTorch modules for the passes that work on one. Imports torch, so passes import it only when applied."""

from __future__ import annotations

import dataclasses
import re
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from steelyard.errors import CannotApply
from steelyard.passes.bench import Bench, Built
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines.eager import rebuild
from steelyard.subject.engines.torch import layer_of, one_tensor, open_program

__all__ = ["Cast", "InLayout", "Packed", "export_program", "module_of", "outputs_of", "save_module", "where_used"]

FILE = "model.pt2"


class InLayout(nn.Module):
    """The inner module, with inputs brought to channels-last first."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner.to(memory_format=torch.channels_last)

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs of the inner module."""
        outputs: torch.Tensor = self.inner(inputs.contiguous(memory_format=torch.channels_last))
        return outputs


class Cast(nn.Module):
    """The inner module in another floating type; inputs and outputs keep theirs."""

    def __init__(self, inner: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.inner = inner.to(dtype)
        self.dtype = dtype

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs of the inner module, cast back to float32."""
        outputs: torch.Tensor = self.inner(inputs.to(self.dtype))
        return outputs.to(torch.float32)


class Packed(nn.Module):
    """A linear layer whose weights torchao quantised to 8 bits, by PyTorch's own kernel: its program needs no torchao."""

    integers: torch.Tensor
    scales: torch.Tensor

    def __init__(self, linear: Any) -> None:
        super().__init__()
        self.register_buffer("integers", linear.weight.qdata.contiguous())
        self.register_buffer("scales", linear.weight.scale.flatten().contiguous())
        self.bias = linear.bias

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """``inputs @ (integers * scales).T + bias`` for ``(..., features)``."""
        rows = torch.ops.aten._weight_int8pack_mm(inputs.flatten(0, -2), self.integers, self.scales)
        outputs: torch.Tensor = rows.unflatten(0, inputs.shape[:-1])
        return outputs if self.bias is None else outputs + self.bias


def module_of(source: Artifact) -> nn.Module:
    """The module in an artifact, a fresh copy in evaluation mode."""
    return rebuild(source) if source.engine == "eager" else open_program(source.path)


def export_program(module: nn.Module, examples: NDArray[Any]) -> torch.export.ExportedProgram:
    """`torch.export` with an open batch axis. Raises `CannotApply` with the tracer's own reason."""
    inputs = torch.from_numpy(np.ascontiguousarray(examples[:2]))
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.export.export(module, (inputs,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    except Exception as error:  # the tracer raises many types, all of which mean the same to the user
        raise CannotApply(f"torch.export cannot trace the model: {_first_line(error)}") from error


def outputs_of(module: nn.Module, examples: NDArray[Any]) -> NDArray[Any]:
    """Outputs of a module on NumPy inputs, without gradients."""
    with torch.no_grad():
        outputs: NDArray[Any] = one_tensor(module(torch.from_numpy(examples))).numpy()
    return outputs


def where_used(program: torch.export.ExportedProgram, text: str) -> str:
    """For an error that names operators: ``: aten.foo in encoder.attention``; empty where it names none of the program's.

    Converters take operators apart first, so the name of a part, such as ``prims.foo`` of ``aten.special_foo``, will do.
    """
    named = set(re.findall(r"\b(?:aten|prims|torchvision)(?:\.|::)(\w+)", text))
    found: dict[str, None] = {}
    for node in program.graph.nodes:
        operator = str(node.target).rpartition(".")[0]
        word = operator.rpartition(".")[2]
        if node.op == "call_function" and any(word == name or word.endswith(f"_{name}") for name in named):
            found[f"{operator} in {layer_of(node) or 'the model itself'}"] = None
    return f": {', '.join(list(found)[:5])}" if found else ""


def save_module(
    module: nn.Module, source: Artifact, bench: Bench, *, tolerance: float, options: Mapping[str, Scalar] | None = None
) -> Built:
    """Export a module into the bench's folder as a .pt2 artifact."""
    outputs = outputs_of(module, bench.examples)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.export.save(export_program(module, bench.examples), bench.folder / FILE)
    artifact = dataclasses.replace(
        source, folder=bench.folder, engine="torch", file=FILE, options={**_kept(source), **(options or {})}, spec=None
    )
    return Built(artifact=artifact, outputs=outputs, tolerance=tolerance)


def _kept(source: Artifact) -> Mapping[str, Scalar]:
    return source.options if source.engine == "torch" else {}


def _first_line(error: BaseException) -> str:
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:250]
