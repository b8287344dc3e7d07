"""This machine's ceilings, measured: how fast it multiplies, how fast it moves bytes, what one operator call costs.

A reading is one timed repetition. The ceiling is the *best* reading (`best`): other load on the machine and warm-up can only make a
reading worse than what the hardware can do. Dispatch is a cost, not a ceiling: there the median is meant.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.probe.host import environment
from steelyard.records import Sample, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PEAKS", "best", "measure_peaks"]

PEAKS = ("gemm_fp32_flops", "gemm_bf16_flops", "gemm_int8_flops", "copy_bandwidth_bytes_per_s", "dispatch_s")

# Two sizes, because libraries differ in where they are fastest: large enough to amortise the call, small
# enough that a reading takes milliseconds on two cores.
_SIDES = (1024, 1536)
_LEAST_READINGS = 3
_CALLS = 200  # eager operators per dispatch reading

Work = Callable[[], object]


def measure_peaks(seconds: float = 2.0, *, threads: int | None = None) -> tuple[Sample | Unavailable, ...]:
    """Measure the five `PEAKS` in about `seconds` in all (each takes three readings at least).

    - ``gemm_fp32_flops``, ``gemm_bf16_flops`` in FLOP/s: square matrix products of 1024 and 1536 a side by
      PyTorch, at 2 operations a multiply-add; fp32 by NumPy where PyTorch is absent.
    - ``gemm_int8_flops`` in the same unit, int8 x int8 -> int32: by ONNX Runtime's MatMulInteger and by
      ``torch._int_mm``; the faster is kept and named in the note. (On a Cascade Lake with VNNI: ONNX Runtime
      690, OpenVINO's quantised MatMul 210, torch 160 GFLOP/s, against 240 in fp32.)
    - ``copy_bandwidth_bytes_per_s``: bytes read plus bytes written by copying arrays at least four times the
      last-level cache, shared among `threads`.
    - ``dispatch_s`` in seconds: one eager PyTorch operator on 16 numbers, no gradients.

    ``threads`` defaults to the cores this process may use. What cannot be measured is `Unavailable` with its
    reason. Raises `InvalidInput` unless ``seconds`` is positive.
    """
    if not seconds > 0:
        raise InvalidInput(f"measuring peaks needs a positive time, got {seconds} s")
    used = threads or environment(()).cores
    share = seconds / len(PEAKS)
    with _torch_threads(used):
        return (
            _gemm_fp32(share),
            _gemm_bf16(share),
            _gemm_int8(share, used),
            _copy_bandwidth(share, used),
            _dispatch(share),
        )


def best(peak: Sample) -> float:
    """The ceiling in a peak's readings: the largest rate.

    >>> best(Sample(quantity="gemm_fp32_flops", unit="FLOP/s", values=np.array([1e9, 3e9, 2e9])))
    3000000000.0
    """
    return float(np.max(peak.values))


def _gemm_fp32(seconds: float) -> Sample | Unavailable:
    torch = _torch()
    if torch is None:
        return _gemm("gemm_fp32_flops", seconds, [_numpy_product(side) for side in _SIDES], "NumPy")
    products = [_torch_product(torch, torch.rand(side, side)) for side in _SIDES]
    return _gemm("gemm_fp32_flops", seconds, products, "PyTorch")


def _gemm_bf16(seconds: float) -> Sample | Unavailable:
    torch = _torch()
    if torch is None:
        return Unavailable(quantity="gemm_bf16_flops", reason="needs the 'torch' extra: NumPy has no bfloat16")
    products = [_torch_product(torch, torch.rand(side, side).bfloat16()) for side in _SIDES]
    return _gemm("gemm_bf16_flops", seconds, products, "PyTorch")


def _gemm_int8(seconds: float, threads: int) -> Sample | Unavailable:
    """The fastest int8 product among the engines that are installed."""
    candidates = {"ONNX Runtime MatMulInteger": _onnx_int8(threads), "torch._int_mm": _torch_int8()}
    available = {name: work for name, work in candidates.items() if work}
    measured = [_gemm("gemm_int8_flops", seconds / len(available), work, name) for name, work in available.items()]
    if not measured:
        return Unavailable(quantity="gemm_int8_flops", reason="needs the 'onnx' or 'torch' extra for an int8 product")
    return max(measured, key=best)


def _gemm(quantity: str, seconds: float, products: Sequence[Work], by: str) -> Sample:
    """FLOP/s of `products`, one for each of `_SIDES` in order."""
    rates = [
        2 * side**3 / took
        for side, work in zip(_SIDES, products, strict=True)
        for took in _timed(work, seconds / len(_SIDES))
    ]
    return Sample(quantity=quantity, unit="FLOP/s", values=np.array(rates), note=f"by {by}; the best reading counts")


def _timed(work: Work, seconds: float) -> list[float]:
    """Seconds of each repetition, for about `seconds`, after one that warms up."""
    work()
    took: list[float] = []
    while sum(took) < seconds or len(took) < _LEAST_READINGS:
        start = time.perf_counter()
        work()
        took.append(time.perf_counter() - start)
    return took


def _torch() -> Any:
    try:
        import torch
    except ImportError:
        return None
    return torch


@contextmanager
def _torch_threads(threads: int) -> Iterator[None]:
    torch = _torch()
    if torch is None:
        yield
        return
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(before)


def _numpy_product(side: int) -> Work:
    a = np.random.default_rng(0).random((side, side), dtype=np.float32)
    out = np.empty_like(a)
    return lambda: np.matmul(a, a, out=out)


def _torch_product(torch: Any, a: Any) -> Work:
    out = torch.empty_like(a)
    return lambda: torch.mm(a, a, out=out)


def _torch_int8() -> list[Work]:
    torch = _torch()
    if torch is None or not hasattr(torch, "_int_mm"):
        return []
    operands = [torch.randint(-127, 127, (side, side), dtype=torch.int8) for side in _SIDES]
    return [lambda a=a: torch._int_mm(a, a) for a in operands]


def _onnx_int8(threads: int) -> list[Work]:
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return []
    rng = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    works: list[Work] = []
    for side in _SIDES:
        model = _int8_model(onnx, rng.integers(-127, 128, (side, side), dtype=np.int8))
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = {"a": rng.integers(0, 256, (side, side), dtype=np.uint8)}
        works.append(lambda session=session, feed=feed: session.run(None, feed))
    return works


def _int8_model(onnx: Any, weights: np.ndarray[Any, Any]) -> bytes:
    """A model of one MatMulInteger: uint8 activations times constant int8 weights."""
    helper, kinds, shape = onnx.helper, onnx.TensorProto, list(weights.shape)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "peak",
        [helper.make_tensor_value_info("a", kinds.UINT8, shape)],
        [helper.make_tensor_value_info("y", kinds.INT32, shape)],
        [onnx.numpy_helper.from_array(weights, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(model.SerializeToString())


def _copy_bandwidth(seconds: float, threads: int) -> Sample:
    source = np.ones(_array_bytes() // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        took = _timed(lambda: list(pool.map(lambda part: np.copyto(part[1], part[0]), parts)), seconds)
    return Sample(
        quantity="copy_bandwidth_bytes_per_s",
        unit="B/s",
        values=2 * source.nbytes / np.array(took),
        note=f"read plus written, {threads} threads, arrays of {source.nbytes >> 20} MiB; the best reading counts",
    )


def _array_bytes() -> int:
    """Four times the last-level cache, at least 64 MiB, at most a sixteenth of the memory."""
    return min(max(4 * _last_level_cache_bytes(), 64 << 20), environment(()).memory_bytes // 16)


def _last_level_cache_bytes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Size of the largest cache that the first core sees; 0 where the kernel does not tell."""
    sizes = [path.read_text().strip() for path in root.glob("index*/size")]
    scale = {"K": 1 << 10, "M": 1 << 20}
    return max((int(size[:-1]) * scale[size[-1]] for size in sizes if size[-1:] in scale), default=0)


def _dispatch(seconds: float) -> Sample | Unavailable:
    torch = _torch()
    if torch is None:
        return Unavailable(quantity="dispatch_s", reason="needs the 'torch' extra: it is the cost of an eager operator")
    x = torch.rand(16)

    def calls() -> None:
        for _ in range(_CALLS):
            torch.relu(x)

    took = np.array(_timed(calls, seconds))
    return Sample(
        quantity="dispatch_s", unit="s", values=took / _CALLS, note="eager relu of 16 numbers; the median counts"
    )
