"""MACs of an ONNX file, from its shapes alone: nothing is run. The convention is that of `steelyard.counts.macs`."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.counts.macs import LayerCount, MacCount
from steelyard.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import onnx

__all__ = ["onnx_macs"]


def onnx_macs(path: str | Path, batch: int = 1) -> MacCount:
    """Count one run of an ONNX file with `batch` examples.

    A symbolic first axis of the inputs becomes `batch`; a fixed one stays. In a quantised (QDQ) graph the bytes
    moved are those of the integers behind each quantise/dequantise pair. Nodes whose shapes cannot be
    inferred are reported as ``NAME (shape unknown)``.

    Raises `InvalidInput` for a file that is not ONNX or an input with another symbolic axis, `MissingExtra`
    without ``onnx``.
    """
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", needed_for="counting the MACs of an ONNX file") from None
    try:
        model = onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own kinds for damaged files
        raise InvalidInput(f"{path} cannot be read as ONNX ({error}); export it again") from None
    _fix_batch(model, batch, path)
    _spell_fused_nodes_plainly(model)
    count = _count(_Graph(onnx.shape_inference.infer_shapes(model, data_prop=True), onnx))
    if not any(_UNKNOWN_SHAPE in name for name in count.uncounted):
        return count
    folded = _fold_constants(model, Path(path).parent)
    return count if folded is None else _count(_Graph(onnx.shape_inference.infer_shapes(folded, data_prop=True), onnx))


_UNKNOWN_SHAPE = "(shape unknown)"


def _fold_constants(model: onnx.ModelProto, folder: Path) -> onnx.ModelProto | None:
    """The graph after ONNX Runtime's basic optimisation, which works out sizes that the graph computes; None if it fails."""
    try:
        import onnx
        import onnxruntime

        onnx.load_external_data_for_model(model, str(folder))
        with tempfile.TemporaryDirectory() as scratch:
            options = onnxruntime.SessionOptions()
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
            options.optimized_model_filepath = str(Path(scratch) / "folded.onnx")
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
            return onnx.load(options.optimized_model_filepath)
    except Exception:  # not installed, or a graph that does not run here: its nodes are reported instead
        return None


Shape = tuple[int, ...]


class _Graph:
    """Shapes, element sizes and producers by tensor name."""

    def __init__(self, model: onnx.ModelProto, onnx: Any) -> None:
        graph = model.graph
        self.nodes = list(graph.node)
        self._shapes: dict[str, Shape] = {}
        self._bytes: dict[str, int] = {}
        self._dequantised = {n.output[0]: n.input[0] for n in self.nodes if n.op_type == "DequantizeLinear"}
        self._quantised = {n.input[0]: n.output[0] for n in self.nodes if n.op_type == "QuantizeLinear"}
        for value in [*graph.input, *graph.value_info, *graph.output]:
            self._learn(value, onnx)
        for tensor in graph.initializer:
            self._shapes[tensor.name] = tuple(tensor.dims)
            self._bytes[tensor.name] = _element_bytes(tensor.data_type, onnx)

    def _learn(self, value: onnx.ValueInfoProto, onnx: Any) -> None:
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            self._shapes[value.name] = tuple(d.dim_value for d in kind.shape.dim)
            self._bytes[value.name] = _element_bytes(kind.elem_type, onnx)

    def shape(self, name: str) -> Shape:
        """Raises KeyError where shape inference found nothing."""
        return self._shapes[name]

    def moved_bytes(self, node: onnx.NodeProto) -> int:
        """Bytes of a node's inputs and outputs, in the type they are stored in."""
        inputs = [self._dequantised.get(name, name) for name in node.input if name]
        outputs = [self._quantised.get(name, name) for name in node.output if name]
        names = [name for name in inputs + outputs if name in self._shapes]
        return sum(prod(self._shapes[name]) * self._bytes[name] for name in names)


def _element_bytes(kind: int, onnx: Any) -> int:
    return int(onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize) if kind else 4


def _count(graph: _Graph) -> MacCount:
    layers: list[LayerCount] = []
    zero: Counter[str] = Counter()
    uncounted: Counter[str] = Counter()
    for node in graph.nodes:
        formula = _formula(node)
        if formula is None:
            if node.op_type != "Constant":
                (zero if node.op_type in ZERO else uncounted)[node.op_type] += 1
            continue
        try:
            macs = formula(graph, node)
        except KeyError:
            uncounted[f"{node.op_type} {_UNKNOWN_SHAPE}"] += 1
            continue
        layers.append(
            LayerCount(
                layer=node.name or node.output[0],
                operator=node.op_type,
                macs=macs,
                moved_bytes=graph.moved_bytes(node),
            )
        )
    return MacCount(layers=tuple(layers), zero=dict(zero), uncounted=dict(uncounted))


Formula = Callable[[_Graph, Any], int]


def _convolution(weight: int) -> Formula:
    """Outputs times the kernel and one group's input channels; `weight` is the weight's place among the inputs."""
    return lambda graph, node: prod(graph.shape(node.output[0])) * prod(graph.shape(node.input[weight])[1:])


def _transposed(graph: _Graph, node: Any) -> int:
    return prod(graph.shape(node.input[0])) * prod(graph.shape(node.input[1])[1:])


def _matmul(graph: _Graph, node: Any) -> int:
    """Outputs times the axis summed over, which is the last of the left operand."""
    return prod(graph.shape(node.output[0])) * graph.shape(node.input[0])[-1]


def _gemm(graph: _Graph, node: Any) -> int:
    a = graph.shape(node.input[0])
    transposed = any(attribute.name == "transA" and attribute.i for attribute in node.attribute)
    return prod(graph.shape(node.output[0])) * (a[0] if transposed else a[-1])


def _attention(graph: _Graph, node: Any) -> int:
    """q k^T and then the weights times v: b h Lq Lk (E + Ev). Cached keys and values are not sized here."""
    if any(node.input[4:6]):
        raise KeyError(node.input[4])
    q, k, v = (graph.shape(name) for name in node.input[:3])
    if len(q) == 4:
        return prod(q[:-1]) * k[-2] * (q[-1] + v[-1])
    heads = {a.name: a.i for a in node.attribute if a.name in ("q_num_heads", "kv_num_heads")}
    return q[0] * q[1] * k[1] * (q[-1] + int(heads["q_num_heads"]) * v[-1] // int(heads["kv_num_heads"]))


FORMULAS: dict[str, Formula] = {
    "Attention": _attention,
    "Conv": _convolution(1),
    "ConvInteger": _convolution(1),
    "QLinearConv": _convolution(3),
    "ConvTranspose": _transposed,
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "QLinearMatMul": _matmul,
    "DynamicQuantizeMatMul": _matmul,
    "MatMulIntegerToFloat": _matmul,
    "Gemm": _gemm,
    "QGemm": _gemm,
}


def _formula(node: Any) -> Formula | None:
    """Contrib operators are named apart from the standard ones, except Attention, which means another thing there."""
    return None if node.op_type == "Attention" and node.domain else FORMULAS.get(node.op_type)


_ZERO = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization Cast Ceil Clip Concat ConstantOfShape Cos
    CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand Flatten Floor
    Gather GatherElements GatherND Gelu GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
    HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax Max MaxPool Min Mish Mod Mul Neg Not Or PRelu Pad Pow QLinearAdd QLinearAveragePool QLinearConcat
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid QuantizeLinear QuickGelu Range Reciprocal
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReorderInput ReorderOutput Relu Reshape Resize Round
    ScatterND Selu Shape Sigmoid Sign SimplifiedLayerNormalization Sin SkipLayerNormalization Slice Softmax
    Softplus SpaceToDepth Split Sqrt Squeeze Sub Sum Tanh Tile TopK Transpose Trilu Unsqueeze Where
"""
ZERO = frozenset(_ZERO.split())


def _fix_batch(model: onnx.ModelProto, batch: int, path: str | Path) -> None:
    constants = {tensor.name for tensor in model.graph.initializer}
    symbols = set()
    for value in model.graph.input:
        if value.name in constants:
            continue
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value > 0:
                continue
            if axis > 0:
                size = f"axis {axis} of input {value.name!r} in {path} has no fixed size ({dim.dim_param or '?'})"
                raise InvalidInput(f"{size}; export the model with fixed sizes beyond the batch axis")
            symbols.add(dim.dim_param)
            dim.dim_value = batch
    for value in [*model.graph.value_info, *model.graph.output]:
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param and dim.dim_param in symbols:
                dim.dim_value = batch


def _spell_fused_nodes_plainly(model: onnx.ModelProto) -> None:
    """Give ONNX Runtime's fused nodes the name of what they extend, because shape inference knows only that.

    Their activation does not change the shape, and neither does a sum that was fused in (input 3).
    """
    for node in model.graph.node:
        plain = {"FusedConv": "Conv", "FusedGemm": "Gemm"}.get(node.op_type)
        if plain is None:
            continue
        node.op_type, node.domain = plain, ""
        kept = [attribute for attribute in node.attribute if "activation" not in attribute.name]
        del node.attribute[:], node.input[3:]
        node.attribute.extend(kept)
