"""MACs of an ONNX file, from its shapes alone: nothing is run. The convention is that of `steelyard.counts.macs`."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence, Set
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.counts.macs import DTYPES, LayerCount, MacCount
from steelyard.errors import InvalidInput, MissingExtra

if TYPE_CHECKING:
    import onnx

__all__ = ["executed_macs", "onnx_macs"]

Shape = tuple[int, ...]


def onnx_macs(path: str | Path, batch: int = 1) -> MacCount:
    """Count one run of an ONNX file with `batch` examples.

    A symbolic first axis of the inputs becomes `batch`; a fixed one stays. In a quantised (QDQ) graph the bytes
    moved are those of the integers behind each quantise/dequantise pair. Nodes whose shapes cannot be
    inferred are reported as ``NAME (shape unknown)``.

    Raises `InvalidInput` for a file that is not ONNX or an input with another symbolic axis, `MissingExtra`
    without ``onnx``.
    """
    onnx, model = _load(path)
    _fix_batch(model, batch, path)
    _spell_fused_nodes_plainly(model)
    count = _count(_inferred(model, onnx))
    if not any(_UNKNOWN_SHAPE in name for name in count.uncounted):
        return count
    folded = _fold_constants(model, Path(path).parent)
    return count if folded is None else _count(_inferred(folded, onnx))


def executed_macs(path: str | Path, shapes: Mapping[str, Sequence[Shape]], batch: int = 1) -> MacCount:
    """Count the graph that ONNX Runtime made of a file and ran, fused and laid out anew as it was.

    ``path`` is the optimised model that the session wrote, ``shapes`` the shapes of each node's outputs as its profiler saw
    them, by node name. The nodes are those of the profile, so every time has its count. Where the engine fills channels up
    to a multiple of its blocks it multiplies more than the file asks for, and that is counted. Raises as `onnx_macs` does.
    """
    onnx, model = _load(path)
    _fix_batch(model, batch, path)
    _name_as_profiled(model, list(shapes))
    graph = _Graph(model, onnx)
    graph.learn_outputs(shapes)
    return _count(graph)


def _name_as_profiled(model: onnx.ModelProto, seen: Sequence[str]) -> None:
    """Name the nodes that have no name as the profiler does: by type and place in the graph, ``Gemm_5``.

    The written file keeps the order of the graph and not the places, so the n-th nameless node of a type is the n-th seen.
    """
    named = {node.name for node in model.graph.node}
    places: dict[str, list[int]] = {}
    for name in seen:
        kind, _, place = name.rpartition("_")
        if name not in named and place.isdigit():
            places.setdefault(kind, []).append(int(place))
    left = {kind: iter(sorted(found)) for kind, found in places.items()}
    for node in model.graph.node:
        number = next(left.get(node.op_type, iter(())), None) if not node.name else None
        if number is not None:
            node.name = f"{node.op_type}_{number}"


def _load(path: str | Path) -> tuple[Any, onnx.ModelProto]:
    try:
        import onnx
    except ImportError:
        raise MissingExtra("onnx", needed_for="counting the MACs of an ONNX file") from None
    try:
        return onnx, onnx.load(str(path), load_external_data=False)
    except Exception as error:  # protobuf raises its own kinds for damaged files
        raise InvalidInput(f"{path} cannot be read as ONNX ({error}); export it again") from None


_UNKNOWN_SHAPE = "(shape unknown)"
_SMALL = 4096  # numbers in a constant that may be a shape; larger ones are weights, whose content infers nothing


def _inferred(model: onnx.ModelProto, onnx: Any) -> _Graph:
    """The graph with every shape that can be inferred, also behind operators of ONNX Runtime's own."""
    light = _without_weights(model, onnx)
    constants = {tensor.name for tensor in model.graph.initializer}
    while True:
        light = onnx.shape_inference.infer_shapes(light, data_prop=True)
        graph = _Graph(light, onnx, constants)
        found = [value for node in graph.nodes for value in _contributed(graph, node, onnx)]
        if not found:
            return graph
        light.graph.value_info.extend(found)


def _without_weights(model: onnx.ModelProto, onnx: Any) -> onnx.ModelProto:
    """A copy in which large constants are inputs of the same shape: inference then takes milliseconds."""
    make = onnx.helper.make_tensor_value_info
    light = type(model)()
    light.CopyFrom(model)
    inputs = {value.name for value in light.graph.input}
    large = [t for t in light.graph.initializer if prod(t.dims) > _SMALL]
    light.graph.input.extend(make(t.name, t.data_type, list(t.dims)) for t in large if t.name not in inputs)
    kept = [t for t in light.graph.initializer if prod(t.dims) <= _SMALL]
    del light.graph.initializer[:]
    light.graph.initializer.extend(kept)
    return light


def _contributed(graph: _Graph, node: Any, onnx: Any) -> list[Any]:
    """The shape of a contributed operator's first output, where it is not known and can be."""
    rule = _CONTRIBUTED_SHAPES.get(node.op_type) if node.domain else None
    if rule is None or graph.knows(node.output[0]):
        return []
    try:
        shape = rule(graph, node)
    except (KeyError, IndexError):
        return []
    return [onnx.helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, list(shape))]


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


class _Graph:
    """Shapes, element types and producers by tensor name."""

    def __init__(self, model: onnx.ModelProto, onnx: Any, constants: Set[str] = frozenset()) -> None:
        graph = model.graph
        self.nodes = list(graph.node)
        self._shapes: dict[str, Shape] = {}
        self._types: dict[str, str] = {}
        self._constants = constants | {tensor.name for tensor in graph.initializer}
        self._dequantised = {n.output[0]: n.input[0] for n in self.nodes if n.op_type == "DequantizeLinear"}
        self._quantised = {n.input[0]: n.output[0] for n in self.nodes if n.op_type == "QuantizeLinear"}
        for value in [*graph.input, *graph.value_info, *graph.output]:
            self._learn(value, onnx)
        for tensor in graph.initializer:
            self._shapes[tensor.name] = tuple(tensor.dims)
            self._types[tensor.name] = _type_name(tensor.data_type, onnx)

    def learn_outputs(self, shapes: Mapping[str, Sequence[Shape]]) -> None:
        """Take the shapes of nodes' outputs, by node name; their types are those of the first input where unknown."""
        for node in self.nodes:
            for name, shape in zip([o for o in node.output if o], shapes.get(node.name, ()), strict=False):
                self._shapes[name] = shape
                self._types.setdefault(name, self._types.get(node.input[0] if node.input else "", "float32"))

    def _learn(self, value: onnx.ValueInfoProto, onnx: Any) -> None:
        kind = value.type.tensor_type
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in kind.shape.dim):
            self._shapes[value.name] = tuple(d.dim_value for d in kind.shape.dim)
            self._types[value.name] = _type_name(kind.elem_type, onnx)

    def knows(self, name: str) -> bool:
        """Whether a tensor's shape is known."""
        return name in self._shapes

    def shape(self, name: str) -> Shape:
        """Raises KeyError where shape inference found nothing."""
        return self._shapes[name]

    def moved_bytes(self, node: onnx.NodeProto) -> int:
        """Bytes of a node's inputs and outputs, in the type they are stored in."""
        inputs = [self._dequantised.get(name, name) for name in node.input if name]
        outputs = [self._quantised.get(name, name) for name in node.output if name]
        return sum(map(self._size, inputs + outputs))

    def weight_bytes(self, node: onnx.NodeProto) -> int:
        """The part of them that are constants."""
        names = [self._dequantised.get(name, name) for name in node.input if name]
        return sum(self._size(name) for name in names if name in self._constants)

    def dtype(self, node: onnx.NodeProto) -> str:
        """What the node computes in: the type behind its first input's dequantisation."""
        name = self._dequantised.get(node.input[0], node.input[0]) if node.input else ""
        return DTYPES.get(self._types.get(name, ""), "")

    def _size(self, name: str) -> int:
        """Bytes of a tensor, 0 where its shape is unknown."""
        return prod(self._shapes[name]) * _element_bytes(self._types[name]) if name in self._shapes else 0


def _type_name(kind: int, onnx: Any) -> str:
    return str(onnx.helper.tensor_dtype_to_np_dtype(kind)) if kind else "float32"


def _element_bytes(name: str) -> int:
    """Bytes of one number; two of those of four bits share one, so they count as a whole."""
    import numpy as np

    try:
        return np.dtype(name).itemsize
    except TypeError:  # bfloat16 and the types of 8 bits are not NumPy's own
        return 2 if name == "bfloat16" else 1


def _count(graph: _Graph) -> MacCount:
    layers: list[LayerCount] = []
    others: list[LayerCount] = []
    zero: Counter[str] = Counter()
    uncounted: Counter[str] = Counter()
    for node in graph.nodes:
        formula = _formula(node)
        if formula is None:
            if node.op_type != "Constant":
                (zero if node.op_type in ZERO else uncounted)[node.op_type] += 1
                others.append(_layer(graph, node, 0))
            continue
        try:
            layers.append(_layer(graph, node, formula(graph, node)))
        except (KeyError, IndexError):
            uncounted[f"{node.op_type} {_UNKNOWN_SHAPE}"] += 1
    return MacCount(layers=tuple(layers), zero=dict(zero), uncounted=dict(uncounted), others=tuple(others))


def _layer(graph: _Graph, node: Any, macs: int) -> LayerCount:
    return LayerCount(
        layer=node.name or node.output[0],
        operator=node.op_type,
        macs=macs,
        moved_bytes=0 if node.op_type in _VIEWS else graph.moved_bytes(node),
        weight_bytes=graph.weight_bytes(node),
        dtype=graph.dtype(node),
    )


_VIEWS = frozenset(
    {"Flatten", "Identity", "Reshape", "Shape", "Squeeze", "Unsqueeze"}
)  # the same bytes, seen otherwise


Formula = Callable[[_Graph, Any], int]


def _convolution(weight: int) -> Formula:
    """Outputs times the kernel and one group's input channels; `weight` is the weight's place among the inputs."""
    return lambda graph, node: prod(graph.shape(node.output[0])) * prod(graph.shape(node.input[weight])[1:])


def _transposed(graph: _Graph, node: Any) -> int:
    return prod(graph.shape(node.input[0])) * prod(graph.shape(node.input[1])[1:])


def _matmul(graph: _Graph, node: Any) -> int:
    """Outputs times the axis summed over: the last of the left operand, or the one before it if transposed."""
    left = graph.shape(node.input[0])
    return prod(graph.shape(node.output[0])) * (left[-2] if _attribute(node, "transA") and len(left) > 1 else left[-1])


def _attribute(node: Any, name: str) -> int:
    return next((int(a.i) for a in node.attribute if a.name == name), 0)


def _gemm(graph: _Graph, node: Any) -> int:
    a = graph.shape(node.input[0])
    return prod(graph.shape(node.output[0])) * (a[0] if _attribute(node, "transA") else a[-1])


def _packed_matmul(graph: _Graph, node: Any) -> int:
    """Weights of few bits are packed, so their inner size K is an attribute."""
    return prod(graph.shape(node.output[0])) * _attribute(node, "K")


def _einsum(graph: _Graph, node: Any) -> int:
    """Of two operands: one MAC for each combination of all indices that occur."""
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")
    terms = equation.partition("->")[0].split(",")
    if len(terms) != 2 or "." in equation:
        raise KeyError(equation)
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        sizes.update(zip(term, graph.shape(name), strict=True))
    return prod(sizes.values())


def _recurrent(graph: _Graph, node: Any) -> int:
    """Every step multiplies the input and the hidden state by their weights: T N (|W| + |R|)."""
    steps = prod(graph.shape(node.input[0])[:2])
    return steps * (prod(graph.shape(node.input[1])) + prod(graph.shape(node.input[2])))


def _attention(graph: _Graph, node: Any) -> int:
    """q k^T and then the weights times v: b h Lq Lk (E + Ev). Cached keys and values are not sized here."""
    if any(node.input[4:6]):
        raise KeyError(node.input[4])
    q, k, v = (graph.shape(name) for name in node.input[:3])
    if len(q) == 4:
        return prod(q[:-1]) * k[-2] * (q[-1] + v[-1])
    heads = {a.name: a.i for a in node.attribute if a.name in ("q_num_heads", "kv_num_heads")}
    return q[0] * q[1] * k[1] * (q[-1] + int(heads["q_num_heads"]) * v[-1] // int(heads["kv_num_heads"]))


def _projected_attention(graph: _Graph, node: Any) -> int:
    """com.microsoft Attention: the products that make q, k and v, then q k^T and the weights times v.

    The input is (B, L, D), the weights (D, Dq + Dk + Dv): B L D (Dq + Dk + Dv) + B L Lk (Dk + Dv). A past makes Lk
    longer than the shapes tell, so it is left unknown. Source: ONNX Runtime's ContribOperators.md.
    """
    if len(node.input) > 4 and node.input[4]:
        raise KeyError(node.input[4])
    batch, length, width = graph.shape(node.input[0])
    made = graph.shape(node.input[1])[-1]
    value = _value_width(node, made)
    return batch * length * width * made + batch * length * length * ((made - value) // 2 + value)


def _value_width(node: Any, made: int) -> int:
    sizes = next((list(a.ints) for a in node.attribute if a.name == "qkv_hidden_sizes"), [])
    return int(sizes[2]) if sizes else made // 3


def _multi_head_attention(graph: _Graph, node: Any) -> int:
    """com.microsoft MultiHeadAttention: B Lq Lk (D + Dv), from q (B, Lq, D) with k and v beside it or packed into it.

    Packed: q alone (B, L, H, 3, E), or k with v (B, Lk, H, 2, E); k and v may also come as (B, H, Lk, E). Source: ONNX
    Runtime's ContribOperators.md.
    """
    if any(node.input[6:8]):
        raise KeyError(node.input[6])
    q = graph.shape(node.input[0])
    if len(q) == 5:
        return q[0] * q[1] * q[1] * 2 * q[2] * q[4]
    k = graph.shape(node.input[1])
    width = q[-1]
    if len(k) == 5:
        return q[0] * q[1] * k[1] * 2 * width
    v = graph.shape(node.input[2])
    return q[0] * q[1] * (k[2] if len(k) == 4 else k[1]) * (width + (v[1] * v[3] if len(v) == 4 else v[-1]))


CONTRIBUTED: dict[str, Formula] = {"Attention": _projected_attention}

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
    "FusedMatMul": _matmul,
    "MatMulNBits": _packed_matmul,
    "Gemm": _gemm,
    "QGemm": _gemm,
    "Einsum": _einsum,
    "NhwcFusedConv": _convolution(1),
    "MultiHeadAttention": _multi_head_attention,
    "LSTM": _recurrent,
    "GRU": _recurrent,
    "RNN": _recurrent,
}


def _formula(node: Any) -> Formula | None:
    """Contributed operators are named apart from the standard ones, except Attention, which means another thing there."""
    if node.domain and node.op_type in CONTRIBUTED:
        return CONTRIBUTED[node.op_type]
    return FORMULAS.get(node.op_type)


def _attended(graph: _Graph, node: Any) -> Shape:
    return (*graph.shape(node.input[0])[:2], _value_width(node, graph.shape(node.input[1])[-1]))


def _attended_by_heads(graph: _Graph, node: Any) -> Shape:
    q = graph.shape(node.input[0])
    if len(q) == 5:
        return (q[0], q[1], q[2] * q[4])
    v = graph.shape(node.input[2]) if len(node.input) > 2 and node.input[2] else q
    return (*q[:2], v[1] * v[3] if len(v) == 4 else v[-1])


def _alike(graph: _Graph, node: Any) -> Shape:
    return graph.shape(node.input[0])


_CONTRIBUTED_SHAPES: dict[str, Callable[[_Graph, Any], Shape]] = {
    "Attention": _attended,
    "MultiHeadAttention": _attended_by_heads,
    **dict.fromkeys(
        ("BiasGelu", "FastGelu", "Gelu", "QuickGelu", "SkipLayerNormalization", "SkipSimplifiedLayerNormalization"),
        _alike,
    ),
}


_ZERO = """
    Abs Add And ArgMax ArgMin AveragePool BatchNormalization BiasGelu BiasSoftmax Cast Ceil Clip Concat ConstantOfShape Cos
    CumSum DepthToSpace DequantizeLinear Div Dropout DynamicQuantizeLinear Elu Equal Erf Exp Expand FastGelu Flatten Floor
    Gather GatherElements GatherND Gelu GlobalAveragePool GlobalMaxPool Greater GreaterOrEqual GroupNormalization
    HardSigmoid HardSwish Identity InstanceNormalization LRN LayerNormalization LeakyRelu Less LessOrEqual Log
    LogSoftmax Max MaxPool Min Mish Mod Mul Neg Not Or PRelu Pad Pow QLinearAdd QLinearAveragePool QLinearConcat
    QLinearGlobalAveragePool QLinearLeakyRelu QLinearMul QLinearSigmoid QLinearSoftmax QuantizeLinear QuickGelu Range Reciprocal
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReorderInput ReorderOutput Relu Reshape Resize Round
    ScatterND Selu Shape Sigmoid Sign SimplifiedLayerNormalization Sin SkipLayerNormalization SkipSimplifiedLayerNormalization Slice Softmax
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
