"""Weights in few bits: how far they are from what they were, what the file weighs, and `Gemm` written as a product."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny_models
from steelyard.errors import CannotApply
from steelyard.passes.bench import Bench
from steelyard.passes.fp16 import Fp16, computes_fp16
from steelyard.passes.onnx_graph import name_nodes, products_only
from steelyard.passes.weight_only import WeightOnly
from steelyard.records import Contract
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def products(folder: Path, width: int = 256, deep: int = 64) -> Artifact:
    """One product with random weights: ``(n, width)`` to ``(n, deep)``."""
    from onnx import TensorProto, helper, numpy_helper

    folder.mkdir(exist_ok=True)
    weights = np.random.default_rng(0).standard_normal((width, deep)).astype(np.float32)
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="product")],
        "product",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", deep])],
        [numpy_helper.from_array(weights, "w")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx"
    )
    labels = tuple(map(str, range(deep)))
    contract = Contract(shape=(width,), layout="F", labels=labels)
    return Artifact(folder=folder, engine="onnxruntime", file="model.onnx", contract=contract)


def weights_in(artifact: Artifact, width: int = 256) -> Any:
    """A product's weights, read off its outputs for unit vectors."""
    return load_runner(artifact)(np.eye(width, dtype=np.float32))


@pytest.mark.parametrize("bits", [8, 4])
@pytest.mark.parametrize("group", [16, 32])
def test_each_weight_is_within_half_a_step_of_its_group(tmp_path: Path, bits: Any, group: int) -> None:
    source = products(tmp_path / "source")
    (tmp_path / "new").mkdir()
    bench = Bench(folder=tmp_path / "new", examples=np.eye(256, dtype=np.float32))
    built = WeightOnly(bits=bits, group=group).apply(source, bench)
    before, after = (w.reshape(-1, group, 64) for w in (weights_in(source), weights_in(built.artifact)))
    spans = np.maximum(before.max(axis=1), 0) - np.minimum(before.min(axis=1), 0)
    step = spans / (2**bits - 1)
    assert (np.abs(after - before).max(axis=1) <= 1.02 * step).all()  # the zero point is rounded too
    assert np.abs(after - before).max() > 0.01 * step.min()


def test_the_file_shrinks_to_its_bits(tmp_path: Path) -> None:
    source = products(tmp_path / "source", 512, 128)
    sizes = {}
    chosen: tuple[Any, ...] = (8, 4)
    for bits in chosen:
        folder = tmp_path / str(bits)
        folder.mkdir()
        bench = Bench(folder=folder, examples=np.eye(512, dtype=np.float32)[:4])
        WeightOnly(bits=bits).apply(source, bench)
        sizes[bits] = (folder / "model.onnx").stat().st_size / source.path.stat().st_size
    groups = 512 / 32 * 128 * 4 / (512 * 128 * 4)  # a scale for each 32
    assert sizes[8] == pytest.approx(1 / 4 + groups, abs=0.03)
    assert sizes[4] == pytest.approx(1 / 8 + groups, abs=0.03)


def test_a_model_without_products_is_refused(tmp_path: Path) -> None:
    from onnx import TensorProto, helper

    shapes = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", shapes[:1], shapes[1:])
    onnx.save(helper.make_model(graph, ir_version=8), tmp_path / "model.onnx")
    contract = Contract(shape=(2,), layout="F", labels=("a", "b"))
    source = Artifact(folder=tmp_path, engine="onnxruntime", file="model.onnx", contract=contract)
    with pytest.raises(CannotApply, match="weights of matrix products in few bits, and this model has none"):
        WeightOnly().apply(source, Bench(folder=tmp_path / "new", examples=np.ones((2, 2), dtype=np.float32)))


def test_four_bits_in_pytorch_are_refused_with_the_reason(tmp_path: Path) -> None:
    source = Artifact(folder=tmp_path, engine="eager", file="weights.pt", contract=tiny_models.CONTRACT)
    with pytest.raises(CannotApply, match="kernels for 4-bit weights are for GPUs"):
        WeightOnly(bits=4).apply(source, Bench(folder=tmp_path, examples=tiny_models.examples()))


@pytest.mark.parametrize("attributes", [{}, {"transB": 1}, {"alpha": 0.5, "beta": 2.0, "transB": 1}, {"alpha": -1.5}])
@pytest.mark.parametrize("biased", [True, False])
def test_a_gemm_is_the_product_and_sum_that_onnx_says(attributes: dict[str, Any], biased: bool) -> None:
    """Against ONNX's own reference evaluator."""
    from onnx import TensorProto, helper, numpy_helper
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(0)
    shape = (4, 6) if attributes.get("transB") else (6, 4)
    arrays = {"w": rng.standard_normal(shape).astype(np.float32), "b": rng.standard_normal(4).astype(np.float32)}
    names = ["x", "w", "b"] if biased else ["x", "w"]
    graph = helper.make_graph(
        [helper.make_node("Gemm", names, ["y"], **attributes)],
        "gemm",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])],
        [numpy_helper.from_array(arrays[name], name) for name in names[1:]],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    inputs = {"x": rng.standard_normal((3, 6)).astype(np.float32)}
    expected = ReferenceEvaluator(model).run(None, inputs)[0]
    rewritten = products_only(name_nodes(model))
    assert {node.op_type for node in rewritten.graph.node} == ({"MatMul", "Add"} if biased else {"MatMul"})
    np.testing.assert_allclose(ReferenceEvaluator(rewritten).run(None, inputs)[0], expected, rtol=1e-5, atol=1e-6)


def test_half_precision_says_where_it_is_not_faster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from steelyard.passes import fp16

    source = products(tmp_path / "source")
    for sets, words in ((("avx2", "f16c"), 1), (("avx512_fp16",), 0)):
        host = type("Host", (), {"instruction_sets": sets})
        monkeypatch.setattr(fp16, "environment", lambda host=host: host)
        assert computes_fp16() is (not words)
        folder = tmp_path / sets[0]
        folder.mkdir()
        built = Fp16().apply(source, Bench(folder=folder, examples=np.eye(256, dtype=np.float32)))
        assert len(built.artifact.notes) == words
        np.testing.assert_allclose(built.outputs, weights_in(source).astype(np.float16), rtol=1e-3)
        assert built.artifact.path.stat().st_size < 0.55 * source.path.stat().st_size


def test_values_beyond_half_precision_are_refused(tmp_path: Path) -> None:
    source = products(tmp_path / "source")
    (tmp_path / "new").mkdir()
    bench = Bench(folder=tmp_path / "new", examples=np.full((2, 256), 60_000, dtype=np.float32))
    with pytest.raises(CannotApply, match="fp16 ends at 65,504"):
        Fp16().apply(source, bench)
