"""PyTorch: exported programs (.pt2), as they are or compiled."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from os import environ
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import in_pieces
from steelyard.subject.program import check_program

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["TorchRunner", "load", "open_program", "signature"]


class TorchRunner:
    """A module called on NumPy arrays without gradients; ``module`` is there for counting."""

    def __init__(
        self, module: nn.Module, call: Callable[[Any], Any] | None = None, *, batch: int | None = None
    ) -> None:
        import torch

        self.module = module
        self._batch = batch  # where the module's batch axis is fixed
        self._call = module if call is None else call  # truth of a compiled module is its length, which programs lack
        self._torch = torch
        self._grad_mode = torch.inference_mode if call is None else torch.no_grad

    def __call__(self, inputs: NDArray[Any], /) -> NDArray[Any]:
        if self._batch is not None and len(inputs) != self._batch:
            return in_pieces(self, inputs, self._batch)
        with self._grad_mode():
            outputs: NDArray[Any] = self._call(self._torch.from_numpy(inputs)).numpy()
        return outputs

    def operator_seconds(self, inputs: NDArray[Any], runs: int) -> Mapping[str, tuple[float, int]]:
        from torch.profiler import ProfilerActivity, profile

        self(inputs)
        with profile(activities=[ProfilerActivity.CPU]) as profiler:
            for _ in range(runs):
                self(inputs)
        return {
            event.key: (event.self_cpu_time_total / 1e6 / runs, round(event.count / runs))
            for event in profiler.key_averages()
            if event.self_cpu_time_total > 0
        }


def open_program(path: Path) -> nn.Module:
    """The module of an exported program, after looking the archive through for code."""
    module: nn.Module = _read(path).module()
    return module


def _read(path: Path) -> torch.export.ExportedProgram:
    try:
        import torch
    except ImportError:
        raise MissingExtra("torch", needed_for=f"reading {path.name}") from None
    check_program(path)
    try:
        return torch.export.load(path)
    except Exception as error:  # a damaged graph fails wherever the deserialiser happens to stand
        raise InvalidInput(f"cannot read {path} as an exported program: {_first_line(error)}") from None


def load(artifact: Artifact) -> TorchRunner:
    """Load a .pt2; with the option ``compile`` it is frozen and compiled at the first call, from the on-disk cache if warm."""
    program = _read(artifact.path)
    module, batch = program.module(), _fixed_batch(program)
    if not artifact.options.get("compile"):
        return TorchRunner(module, batch=batch)
    return TorchRunner(module, compiled(module), batch=batch)


def compiled(module: nn.Module) -> Callable[[Any], Any]:
    """`torch.compile` with constants folded into the code (frozen). Raises `CannotApply` without a C++ compiler."""
    import torch
    from torch._inductor import config

    if not shutil.which(environ.get("CXX", "g++")):
        raise CannotApply("torch.compile needs a C++ compiler (g++, or the one that CXX names) and none is installed")
    config.freezing = True
    call: Callable[[Any], Any] = torch.compile(module, dynamic=False)
    return call


def signature(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape of one example, dtype and number of classes of a .pt2 with one input and one output."""
    program = _read(path)
    inputs, outputs = (_values(program, names) for names in _ends(program))
    if len(inputs) != 1 or len(outputs) != 1:
        raise InvalidInput(f"{path} has {len(inputs)} inputs and {len(outputs)} outputs; one of each is supported")
    shape, classes = inputs[0].shape[1:], outputs[0].shape[-1:]
    if not shape or not all(isinstance(d, int) for d in shape):
        raise InvalidInput(f"{path}: input has shape {_shown(inputs[0])}; only the batch axis may be open")
    if not classes or not isinstance(classes[0], int):
        raise InvalidInput(f"{path}: output has shape {_shown(outputs[0])}; (n, classes) is needed")
    return tuple(shape), str(inputs[0].dtype).removeprefix("torch."), classes[0]


def _ends(program: torch.export.ExportedProgram) -> tuple[Sequence[Any], Sequence[Any]]:
    return program.graph_signature.user_inputs, program.graph_signature.user_outputs


def _values(program: torch.export.ExportedProgram, names: Sequence[Any]) -> list[Any]:
    """The traced tensors of these names: shapes and dtypes without content."""
    known = {node.name: node.meta.get("val") for node in program.graph.nodes}
    return [value for name in names if hasattr(value := known.get(name), "shape")]


def _shown(value: Any) -> str:
    return "(" + ", ".join(str(d) if isinstance(d, int) else "?" for d in value.shape) + ")"


def _fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    first = next(iter(_values(program, _ends(program)[0])), None)
    size = None if first is None or not len(first.shape) else first.shape[0]
    return size if isinstance(size, int) else None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
