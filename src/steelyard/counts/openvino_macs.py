"""MACs of an OpenVINO IR, from its shapes alone. The convention is that of `steelyard.counts.macs`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any

from steelyard.counts.macs import LayerCount, MacCount
from steelyard.errors import InvalidInput, MissingExtra

__all__ = ["openvino_followers", "openvino_macs", "openvino_model_macs"]


def openvino_macs(path: str | Path, batch: int = 1) -> MacCount:
    """Count one run of an OpenVINO IR (.xml) with `batch` examples.

    A dynamic first axis of the inputs becomes `batch`; a fixed one stays. Weights are weighed in the type they are
    stored in, activations behind a FakeQuantize as one byte each.

    Raises `InvalidInput` for a file that is not IR or an input with another dynamic axis, `MissingExtra`
    without ``openvino``.
    """
    try:
        import openvino
    except ImportError:
        raise MissingExtra("openvino", needed_for="counting the MACs of an OpenVINO model") from None
    try:
        model = openvino.Core().read_model(str(path))
    except RuntimeError as error:
        raise InvalidInput(f"{path} cannot be read as OpenVINO IR ({str(error).splitlines()[-1]})") from None
    return openvino_model_macs(model, batch, str(path))


def openvino_model_macs(model: Any, batch: int = 1, name: str = "the model") -> MacCount:
    """Count an `openvino.Model` that is loaded already; its batch size is set in place.

    The names of nodes that had none in their file are made when it is read, so a profile is joined to the counts of the very
    model that was compiled.
    """
    _fix_batch(model, batch, name)
    return _count(model.get_ordered_ops())


def openvino_followers(model: Any) -> dict[str, str]:
    """The name of the only operation that reads each operation's result: where a fused pair may go by the second's name."""
    pairs = {}
    for op in model.get_ordered_ops():
        readers = {
            target.get_node().get_friendly_name() for port in op.outputs() for target in port.get_target_inputs()
        }
        if len(readers) == 1:
            pairs[op.get_friendly_name()] = readers.pop()
    return pairs


def _fix_batch(model: Any, batch: int, path: str | Path) -> None:
    shapes = {}
    for port in model.inputs:
        shape = port.get_partial_shape()
        if any(axis.is_dynamic for axis in list(shape)[1:]):
            name = port.get_any_name()
            cure = "save the model with fixed sizes beyond the batch axis"
            raise InvalidInput(f"input {name!r} of {path} has no fixed size ({shape}); {cure}")
        if shape[0].is_dynamic:
            shapes[port] = [batch, *(axis.get_length() for axis in list(shape)[1:])]
    if shapes:
        model.reshape(shapes)


def _count(operations: list[Any]) -> MacCount:
    layers: list[LayerCount] = []
    others: list[LayerCount] = []
    zero: Counter[str] = Counter()
    uncounted: Counter[str] = Counter()
    for op in operations:
        kind = op.get_type_name()
        formula = FORMULAS.get(kind)
        if formula is None:
            if kind not in _NOT_RUN and not _is_constant(op):
                (zero if kind in ZERO else uncounted)[kind] += 1
                others.append(_layer(op, kind, 0))
            continue
        layers.append(_layer(op, kind, formula(op)))
    return MacCount(layers=tuple(layers), zero=dict(zero), uncounted=dict(uncounted), others=tuple(others))


def _layer(op: Any, kind: str, macs: int) -> LayerCount:
    return LayerCount(
        layer=op.get_friendly_name(),
        operator=kind,
        macs=macs,
        moved_bytes=0 if kind in _VIEWS else _moved_bytes(op),
        weight_bytes=sum(_read_bytes(p) for p in _sources(op) if _constant_port(p)),
        dtype=_dtype(op),
    )


_VIEWS = frozenset({"Reshape", "ShapeOf", "Squeeze", "Unsqueeze"})  # the same bytes, seen otherwise


def _dtype(op: Any) -> str:
    """What the operation computes in: behind a FakeQuantize whole numbers of 8 bits."""
    source = next(iter(_sources(op)), None)
    if source is None:
        return ""
    if source.get_node().get_type_name() == "FakeQuantize":
        return "int8"
    return {"f32": "fp32", "f16": "fp16", "bf16": "bf16", "f64": "fp64", "i8": "int8", "u8": "int8"}.get(
        source.get_element_type().get_type_name(), ""
    )


Formula = Callable[[Any], int]


def _out(op: Any) -> int:
    return prod(op.get_output_shape(0))


def _in(op: Any) -> int:
    return prod(op.get_input_shape(0))


def _matmul(op: Any) -> int:
    """Outputs times the axis summed over: the last of the left operand, or the one before it if transposed."""
    shape = list(op.get_input_shape(0))
    transposed = op.get_attributes()["transpose_a"] and len(shape) > 1
    return _out(op) * int(shape[-2] if transposed else shape[-1])


def _attention(op: Any) -> int:
    """q k^T and then the weights times v: b h Lq Lk (E + Ev)."""
    q, k, v = (list(op.get_input_shape(i)) for i in range(3))
    return int(prod(q[:-1]) * k[-2] * (q[-1] + v[-1]))


def _recurrent(weights: int) -> Formula:
    """Every step multiplies the input and the hidden state by their weights, inputs `weights` and the next.

    T N (|W| + |R|) with X (N, T, I) for a sequence, (N, I) for a cell. Of a sequence in both directions the weights
    have both, so their product is the same.
    """

    def macs(op: Any) -> int:
        steps = prod(list(op.get_input_shape(0))[:-1])
        return int(steps * (prod(op.get_input_shape(weights)) + prod(op.get_input_shape(weights + 1))))

    return macs


# Weights are (out, in, kernel...) or (group, out, in, kernel...); transposed ones begin with `in`.
FORMULAS: dict[str, Formula] = {
    "Convolution": lambda op: _out(op) * prod(list(op.get_input_shape(1))[1:]),
    "GroupConvolution": lambda op: _out(op) * prod(list(op.get_input_shape(1))[2:]),
    "ConvolutionBackpropData": lambda op: _in(op) * prod(list(op.get_input_shape(1))[1:]),
    "GroupConvolutionBackpropData": lambda op: _in(op) * prod(list(op.get_input_shape(1))[2:]),
    "MatMul": _matmul,
    "ScaledDotProductAttention": _attention,
    "LSTMSequence": _recurrent(4),
    "GRUSequence": _recurrent(3),
    "RNNSequence": _recurrent(3),
    "LSTMCell": _recurrent(3),
    "GRUCell": _recurrent(2),
    "RNNCell": _recurrent(2),
}

_NOT_RUN = frozenset({"Constant", "Parameter", "Result"})

_ZERO = """
    Abs AdaptiveAvgPool AdaptiveMaxPool Add AvgPool BatchNormInference Broadcast Ceiling Clamp Concat Convert
    ConvertLike Cos DepthToSpace Divide Elu Equal Erf Exp FakeConvert FakeQuantize Floor Gather Gelu Greater
    GreaterEqual GroupNormalization HSigmoid HSwish Interpolate Less LessEqual Log LogSoftmax LogicalAnd LogicalNot
    LogicalOr MVN MatrixNms MaxPool Maximum Minimum Mish Mod Multiply Negative NormalizeL2 NotEqual PRelu Pad Power
    RMS Range ReduceL2 ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum Relu ReLU Reshape Roll ScatterNDUpdate
    Select Selu ShapeOf ShuffleChannels Sigmoid Sign Sin Slice SoftMax SoftPlus Softmax Split SpaceToDepth Sqrt
    SquaredDifference Squeeze StridedSlice Subtract Swish Tan Tanh Tile TopK Transpose Unsqueeze VariadicSplit
"""
ZERO = frozenset(_ZERO.split())


def _is_constant(op: Any) -> bool:
    """Whether nothing but constants feeds this operation: it is folded when the model is compiled."""
    sources = [port.get_source_output().get_node() for port in op.inputs()]
    return bool(sources) and all(s.get_type_name() == "Constant" or _is_constant(s) for s in sources)


def _moved_bytes(op: Any) -> int:
    read = sum(map(_read_bytes, _sources(op)))
    readers = [target.get_node().get_type_name() for target in op.output(0).get_target_inputs()]
    written = 1 if readers == ["FakeQuantize"] else op.get_output_element_type(0).size
    return int(read + _out(op) * written)


def _sources(op: Any) -> list[Any]:
    return [port.get_source_output() for port in op.inputs()]


def _read_bytes(port: Any) -> int:
    return int(prod(port.get_shape()) * _stored_bytes(port))


def _constant_port(port: Any) -> bool:
    """Whether what comes from here is a weight: a constant, or one that is only unpacked or quantised on the way."""
    node = port.get_node()
    return node.get_type_name() == "Constant" or _is_constant(node)


def _stored_bytes(port: Any) -> int:
    """Bytes of one number as stored: behind a FakeQuantize one, behind the unpacking of a constant the constant's."""
    node = port.get_node()
    if node.get_type_name() == "FakeQuantize":
        return 1
    if node.get_type_name() in ("Convert", "Subtract", "Multiply", "Reshape") and _is_constant(node):
        return _stored_bytes(node.input(0).get_source_output())
    return int(port.get_element_type().size)
