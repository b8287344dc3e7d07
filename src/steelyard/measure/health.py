"""What a baseline's weights and units tell before anything is changed: zeros, low rank, 8 bits, units that never answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Sample
from steelyard.subject.artifact import Artifact

__all__ = ["answering", "batch_gap", "health", "rank_share"]

LARGEST = 64  # weight matrices that are looked at, the largest first
SIDE = 512  # rows and columns of a matrix that are looked at
LEAST = 16  # a matrix with a shorter side has no rank to spare
ENERGY = 0.99  # of the sum of squares, that the counted singular values hold
_TOGETHER = 8
_AT_ONCE = 2  # examples whose inner outputs are held at a time: a net may need gigabytes for many

Weights = Mapping[str, NDArray[Any]]


def health(artifact: Artifact, runner: Any, inputs: NDArray[Any]) -> tuple[Sample, ...]:
    """Readings of a loaded model, for `steelyard.diagnose.condition`.

    ``batch_gap``: how much an example's outputs change with what stands beside it, in standard deviations of the outputs.
    ``narrow_weights_share``: of the weights, those of 8 bits or fewer. By layer: ``zero_weights_share``,
    ``weight_rank_share`` (see `rank_share`), and ``dead_units_share``, channels of a rectifier that gave nothing for any of
    the inputs; layers of OpenVINO's have no such reading, nor have exported programs.
    """
    weights = dict(_weights(artifact, runner))
    whole = sum(w.size for w in weights.values())
    narrow = sum(w.size for w in weights.values() if w.dtype.itemsize == 1)
    return (
        _share("batch_gap", batch_gap(runner, inputs)),
        *((_share("narrow_weights_share", narrow / whole),) if whole else ()),
        *_layers(weights),
        *(_share("dead_units_share", share, layer=name) for name, share in _dead(artifact, runner, inputs)),
    )


def batch_gap(runner: Any, inputs: NDArray[Any]) -> float:
    """The largest change of an output between an example alone and among others, over the outputs' standard deviation.

    Zero but for rounding, unless something in the model mixes examples, as batch normalisation does while training.
    """
    if runner.fixed_batch is not None:
        return 0.0
    some = inputs[:_TOGETHER]
    together = np.asarray(runner(some), dtype=np.float64)
    alone = np.concatenate([np.asarray(runner(some[i : i + 1]), dtype=np.float64) for i in range(len(some))])
    return float(np.abs(together - alone).max() / max(float(together.std()), 1e-12))


def rank_share(matrix: NDArray[Any]) -> float:
    """The fewest singular values that hold 99 % of the sum of squares, over the matrix's shorter side; 0 to 1.

    Of a large matrix a part is looked at, whose rank is at most the whole's.

    >>> rank_share(np.outer(np.arange(1.0, 41), np.ones(20)))
    0.05
    """
    part = np.asarray(matrix[:SIDE, :SIDE], dtype=np.float64)
    gram = part @ part.T if len(part) <= part.shape[1] else part.T @ part
    squares = np.sort(np.linalg.eigvalsh(gram).clip(0))[::-1]
    short = np.cumsum(squares) < (ENERGY - 1e-12) * squares.sum()
    return (1 + int(short.sum())) / len(squares)


def _layers(weights: Weights) -> Iterator[Sample]:
    matrices = [(name, w) for name, w in weights.items() if w.dtype.kind == "f" and w.ndim > 1]
    for name, w in sorted(matrices, key=lambda pair: -pair[1].size)[:LARGEST]:
        matrix = w.reshape(len(w), -1)
        yield _share("zero_weights_share", 1 - np.count_nonzero(w) / w.size, layer=name, weights=w.size)
        if min(matrix.shape) >= LEAST:
            yield _share("weight_rank_share", rank_share(matrix), layer=name, weights=w.size)


def _weights(artifact: Artifact, runner: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """Everything stored that has two axes or more, by its name."""
    if artifact.engine == "onnxruntime":
        import onnx

        for tensor in onnx.load(str(artifact.path)).graph.initializer:
            if len(tensor.dims) > 1:
                yield tensor.name, onnx.numpy_helper.to_array(tensor, base_dir=str(artifact.folder))
    elif artifact.engine == "openvino":
        for op in runner.model.get_ops():
            if op.get_type_name() == "Constant" and len(op.get_output_shape(0)) > 1:
                yield op.get_friendly_name(), np.asarray(op.data)
    elif hasattr(runner, "module"):
        for name, parameter in runner.module.named_parameters():
            if parameter.ndim > 1:
                yield name, parameter.detach().cpu().numpy()


def _dead(artifact: Artifact, runner: Any, inputs: NDArray[Any]) -> list[tuple[str, float]]:
    """By rectifier, in the order in which they run: the share of its channels that gave nothing."""
    if artifact.engine == "onnxruntime":
        return _dead_in_onnx(artifact, inputs)
    if artifact.engine != "eager" or runner.device != "cpu":
        return []
    import torch

    from steelyard.measure.learning import Rectified

    seen = Rectified()
    for some in _few(inputs):
        with torch.enable_grad(), seen:  # which looks at what a training would learn from
            runner.module(torch.from_numpy(some))
    return [(f"rectifier {i}", float(share)) for i, share in enumerate(seen.dead_shares(), 1)]


def _dead_in_onnx(artifact: Artifact, inputs: NDArray[Any]) -> list[tuple[str, float]]:
    import onnx
    import onnxruntime

    model = onnx.load(str(artifact.path))
    names = [node.output[0] for node in model.graph.node if node.op_type == "Relu"]
    ends = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in ends)
    if not names or model.ByteSize() > _MOST:
        return []
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.get_inputs()[0]
    fixed = wanted.shape[0] if isinstance(wanted.shape[0], int) else None
    alive: dict[str, NDArray[np.bool_]] = {}
    for some in _few(inputs):
        fed = some if fixed is None else np.resize(some, (fixed, *some.shape[1:]))
        for name, out in zip(names, session.run(names, {wanted.name: fed}), strict=True):
            if out.ndim > 1:
                alive[name] = answering(out) | alive.get(name, np.False_)
    return [(name, 1 - float(channels.mean())) for name, channels in alive.items()]


_MOST = 1 << 28  # bytes of a model that is opened a second time


def _few(inputs: NDArray[Any]) -> Iterator[NDArray[Any]]:
    for start in range(0, len(inputs), _AT_ONCE):
        yield np.ascontiguousarray(inputs[start : start + _AT_ONCE])


def answering(outputs: NDArray[Any]) -> NDArray[np.bool_]:
    """Which channels of a rectifier's outputs give anything; a channel is the second axis, or the last of three.

    >>> answering(np.array([[0.0, 1.0], [0.0, 0.0]]))
    array([False,  True])
    """
    channel = outputs.ndim - 1 if outputs.ndim == 3 else 1
    return np.asarray(outputs.max(axis=tuple(axis for axis in range(outputs.ndim) if axis != channel)) > 0)


def _share(quantity: str, value: float, **conditions: str | int) -> Sample:
    return Sample(
        quantity=quantity, unit="fraction", values=np.array([value]), conditions=conditions, provenance="counted"
    )
