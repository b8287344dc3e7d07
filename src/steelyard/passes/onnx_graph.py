"""ONNX graphs for the passes that work on one: brought to a form that quantisers take, with every node named."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import CannotApply, MissingExtra

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto

__all__ = ["OPSET", "PRODUCTS", "layers_of", "name_nodes", "prepared", "products_only", "read_graph", "reader"]

OPSET = 13  # the first whose QuantizeLinear knows an axis, as weights by channel need it
PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")  # the operators whose arithmetic 8 bits make faster


def read_graph(path: Path) -> ModelProto:
    """An ONNX file with its nodes named and its opset at least `OPSET`. Raises `CannotApply` where it cannot be raised."""
    try:
        import onnx
        from onnx import version_converter
    except ImportError:
        raise MissingExtra("onnx", needed_for=f"reading {path.name}") from None
    model = onnx.load(path)
    opset = _opset(model)
    if opset < OPSET:
        try:
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:  # the converter raises RuntimeError and its own kinds
            reason = str(error).splitlines()[0][:200]
            raise CannotApply(f"the graph is of opset {opset} and cannot be raised to {OPSET}: {reason}") from None
    return name_nodes(model)


def _opset(model: ModelProto) -> int:
    return max((entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")), default=OPSET)


def name_nodes(model: ModelProto) -> ModelProto:
    """The same graph; a node without a name, or with another's, is called by its operator and position."""
    seen: set[str] = set()
    for position, node in enumerate(model.graph.node):
        if not node.name or node.name in seen:
            node.name = f"{node.op_type}_{position}"
        seen.add(node.name)
    return model


def prepared(path: Path, folder: Path) -> Path:
    """A copy as ONNX Runtime's quantisers want it: constants folded, normalisations fused, shapes inferred, nodes named."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    logging.getLogger().setLevel(logging.ERROR)
    target = folder / "prepared.onnx"
    if _opset(onnx.load(path, load_external_data=False)) < OPSET:
        onnx.save(read_graph(path), str(target))
        path = target
    quant_pre_process(str(path), str(target), skip_symbolic_shape=True)
    onnx.save(name_nodes(onnx.load(target)), str(target))
    return target


def layers_of(model: ModelProto) -> tuple[str, ...]:
    """Names of the nodes that multiply, in the order of the graph."""
    return tuple(node.name for node in model.graph.node if node.op_type in PRODUCTS)


def reader(base: type[Any], name: str, inputs: NDArray[Any]) -> Any:
    """Calibration inputs as ONNX Runtime wants them: one feed a call and None at the end, a range of them where it asks.

    One example each: any batch axis fits.
    """

    class Reader(base):  # type: ignore[misc]
        def __init__(self) -> None:
            self.feeds: Iterator[dict[str, NDArray[Any]]] = iter(())
            self.set_range(0, len(inputs))

        def __len__(self) -> int:
            return len(inputs)

        def set_range(self, start_index: int, end_index: int) -> None:
            self.feeds = ({name: row[None]} for row in inputs[start_index:end_index])

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(self.feeds, None)

    return Reader()


def products_only(model: ModelProto) -> ModelProto:
    """The same graph with each `Gemm` of constant weights written as `MatMul` and `Add`, which block quantisers know.

    ``Gemm`` is ``alpha A B + beta C``, with A and B transposed where it says so (ONNX's operator specification).
    """
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += _unfolded(node, model, weights) if node.op_type == "Gemm" and node.input[1] in weights else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return model


def _unfolded(node: NodeProto, model: ModelProto, weights: dict[str, Any]) -> list[NodeProto]:
    from onnx import helper, numpy_helper

    said = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    if said.get("transA"):
        return [node]
    matrix = numpy_helper.to_array(weights[node.input[1]])
    matrix = (matrix.T if said.get("transB") else matrix) * np.float32(said.get("alpha", 1.0))
    name = f"{node.name}.weight"
    model.graph.initializer.append(numpy_helper.from_array(np.ascontiguousarray(matrix.astype(np.float32)), name))
    bias = node.input[2] if len(node.input) > 2 else ""
    if bias in weights and said.get("beta", 1.0) != 1.0:
        scaled = numpy_helper.to_array(weights[bias]) * np.float32(said["beta"])
        bias = f"{node.name}.bias"
        model.graph.initializer.append(numpy_helper.from_array(scaled, bias))
    product = node.output[0] if not bias else f"{node.name}.product"
    made = [helper.make_node("MatMul", [node.input[0], name], [product], name=node.name)]
    return made + (
        [helper.make_node("Add", [product, bias], [node.output[0]], name=f"{node.name}.add")] if bias else []
    )
