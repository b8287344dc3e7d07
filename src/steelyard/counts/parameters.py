"""How much a model holds: parameters, buffers and stored bytes, of modules and of files."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.records import Sample

if TYPE_CHECKING:
    import onnx
    import torch

__all__ = ["module_parameters", "onnx_parameters", "openvino_parameters", "stored_bytes"]


def module_parameters(module: torch.nn.Module) -> tuple[Sample, ...]:
    """``parameters``, ``parameters_trainable``, ``parameters_nonzero`` and ``buffers`` of a PyTorch module.

    Counts of numbers, not bytes; a tensor shared by several layers is counted once. ``buffers`` are numbers
    kept beside the parameters, such as batch-norm statistics.
    """
    parameters = list(module.parameters())
    return (
        _count("parameters", sum(p.numel() for p in parameters)),
        _count("parameters_trainable", sum(p.numel() for p in parameters if p.requires_grad)),
        _count("parameters_nonzero", sum(int(p.count_nonzero()) for p in parameters)),
        _count("buffers", sum(b.numel() for b in module.buffers())),
    )


def onnx_parameters(path: str | Path) -> tuple[Sample, ...]:
    """``parameters`` and ``parameters_nonzero`` of an ONNX file: its initializers of one axis or more.

    Scalars (scales, zero points, attributes made into constants) and integer shape constants are not
    parameters. Raises `InvalidInput` for a file that is not ONNX, `MissingExtra` without ``onnx``.
    """
    try:
        import onnx
        from onnx import numpy_helper
    except ImportError:
        raise MissingExtra("onnx", needed_for="counting the parameters of an ONNX file") from None
    try:
        model = onnx.load(str(path))
    except Exception as error:  # protobuf raises its own kinds for damaged files
        raise InvalidInput(f"{path} cannot be read as ONNX ({error}); export it again") from None
    weights = [t for t in model.graph.initializer if _is_weight(t, onnx)]
    return _both(numpy_helper.to_array(tensor, base_dir=str(Path(path).parent)) for tensor in weights)


def openvino_parameters(path: str | Path) -> tuple[Sample, ...]:
    """``parameters`` and ``parameters_nonzero`` of an OpenVINO IR (.xml): constants of one axis or more that feed
    a convolution, a matrix product, an addition or the like; 64-bit shape constants are left out.

    Raises `InvalidInput` for a file that is not IR, `MissingExtra` without ``openvino``.
    """
    try:
        import openvino
    except ImportError:
        raise MissingExtra("openvino", needed_for="counting the parameters of an OpenVINO model") from None
    try:
        model = openvino.Core().read_model(str(path))
    except RuntimeError as error:
        raise InvalidInput(f"{path} cannot be read as OpenVINO IR ({str(error).splitlines()[-1]})") from None
    constants = [op for op in model.get_ops() if op.get_type_name() == "Constant"]
    kept = [
        op for op in constants if op.get_output_shape(0) and op.get_element_type().get_type_name() not in _SHAPE_KINDS
    ]
    return _both(np.asarray(op.data) for op in kept)


def stored_bytes(folder_or_file: str | Path) -> int:
    """Bytes on disk of a model: the file and its external data, or every file of a folder, links followed once.

    For an OpenVINO ``.xml`` the ``.bin`` beside it belongs to it, for an ONNX file ``NAME.data``. Raises
    `InvalidInput` if the path does not exist.
    """
    path = Path(folder_or_file)
    if path.is_dir():
        return sum(f.stat().st_size for f in path.rglob("*") if f.is_file())
    if not path.is_file():
        raise InvalidInput(f"no file or folder at {path}; check the path")
    beside = (path.with_suffix(".bin") if path.suffix == ".xml" else path.with_name(path.name + ".data"),)
    return path.stat().st_size + sum(f.stat().st_size for f in beside if f.is_file())


_SHAPE_KINDS = ("i64", "u64", "string")


def _is_weight(tensor: onnx.TensorProto, onnx: object) -> bool:
    kinds = onnx.TensorProto  # type: ignore[attr-defined]
    return len(tensor.dims) > 0 and tensor.data_type not in (kinds.INT64, kinds.UINT64, kinds.STRING)


def _both(arrays: Iterable[np.ndarray]) -> tuple[Sample, ...]:
    sizes = [(array.size, int(np.count_nonzero(array))) for array in arrays]
    return (
        _count("parameters", sum(size for size, _ in sizes)),
        _count("parameters_nonzero", sum(nonzero for _, nonzero in sizes)),
    )


def _count(quantity: str, number: int) -> Sample:
    return Sample(quantity=quantity, unit="count", values=np.array([float(number)]), provenance="counted")
