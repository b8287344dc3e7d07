"""This machine's ceilings, measured: how fast it multiplies, how fast it moves bytes, what one operator call costs.

The probes take turns in rounds, so that a busy moment of the machine does not fall on one of them alone. A reading is
the best repetition of its round, and the ceiling is the *best* reading (`best`): other load and warm-up can only
make a repetition worse than what the hardware can do. Dispatch is a cost, not a ceiling: there the median is meant.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.probe.host import environment
from steelyard.records import Sample, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["PEAKS", "best", "measure_accelerator_peaks", "measure_peaks"]

PEAKS = (
    "gemm_fp32_flops",
    "gemm_bf16_flops",
    "gemm_int8_flops",
    "copy_bandwidth_bytes_per_s",
    "read_bandwidth_bytes_per_s",
    "cache_bandwidth_bytes_per_s",
    "dispatch_s",
)

# Two sizes, because libraries differ in where they are fastest: large enough to amortise the call, small
# enough that a reading takes milliseconds on two cores.
_SIDES = (1024, 1536)
_SMALL = 256  # for PyTorch's emulation of a data type: without the instructions a product of 1024 takes seconds
_ROUNDS = 6  # over which the time is spread
_LEAST_ROUNDS = 3
_CALLS = 200  # eager operators per dispatch reading

Work = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Probe:
    """Pieces of work for one quantity, each with the amount (operations, bytes or calls) that it does."""

    quantity: str
    by: str
    work: tuple[tuple[float, Work], ...]
    conditions: Mapping[str, int] = field(default_factory=dict)


def measure_peaks(seconds: float = 2.0, *, threads: int | None = None) -> tuple[Sample | Unavailable, ...]:
    """Measure the `PEAKS` in about `seconds` in all, besides loading the frameworks (three rounds at least).

    - ``gemm_fp32_flops``, ``gemm_bf16_flops`` in FLOP/s: square matrix products of 1024 and 1536 a side by
      PyTorch, at 2 operations a multiply-add; fp32 by NumPy where PyTorch is absent.
    - ``gemm_int8_flops`` in the same unit, int8 x int8 -> int32: by ONNX Runtime's MatMulInteger and by
      ``torch._int_mm``; the faster is kept and named in the note. (On a 2-core Cascade Lake with VNNI either may
      win, at 700 to 950 GFLOP/s against 240 in fp32; OpenVINO's quantised MatMul was slower in the same run.)
    - ``copy_bandwidth_bytes_per_s``: bytes read plus bytes written by copying arrays at least four times the
      last-level cache, shared among `threads`.
    - ``read_bandwidth_bytes_per_s``: the same array read alone, as weights are; ``cache_bandwidth_bytes_per_s``: an
      array of a quarter of the last-level cache read again and again, with the cache's size as the condition
      ``cache_bytes``.
    - ``dispatch_s`` in seconds: one eager PyTorch operator on 16 numbers, no gradients.

    ``threads`` defaults to the cores this process may use. What cannot be measured is `Unavailable` with its
    reason. Raises `InvalidInput` unless ``seconds`` is positive.
    """
    if not seconds > 0:
        raise InvalidInput(f"measuring peaks needs a positive time, got {seconds} s")
    used = threads or environment(()).cores
    with _torch_threads(used), ThreadPoolExecutor(used) as pool:
        probes = [_fp32(), *_bf16(), *_int8(used), _copy(pool, used), *_reads(pool, used), *_dispatch()]
        rates = _take_turns(probes, seconds)
    measured = [_sample(probe, values) for probe, values in zip(probes, rates, strict=True)]
    return tuple(_fastest(quantity, measured) for quantity in PEAKS)


def measure_accelerator_peaks(device: str, seconds: float = 2.0) -> tuple[Sample | Unavailable, ...]:
    """The same ceilings of a CUDA device, timed by CUDA events: products of 4096 a side and copies of 256 MiB.

    ``dispatch_s`` is the processor's time for launching one operator. Reading alone and the cache are not measured there.
    Where there is no such device all are `Unavailable` with the reason.
    """
    torch = _torch()
    if torch is None or not torch.cuda.is_available():
        reason = f"no CUDA device {device!r}: PyTorch finds no accelerator here"
        return tuple(Unavailable(quantity=quantity, reason=reason) for quantity in PEAKS)
    works = _device_works(torch, device)
    with torch.inference_mode():
        rates = {name: _device_rates(torch, amount, work, seconds / len(works)) for name, amount, work in works}
    host = {probe.quantity: _sample(probe, _repeat(probe, 0.2)) for probe in _dispatch()}
    missing = "not measured on an accelerator"
    return tuple(
        _device_sample(quantity, rates[quantity], device)
        if quantity in rates
        else host.get(quantity, Unavailable(quantity=quantity, reason=missing))
        for quantity in PEAKS
    )


_DEVICE_SIDE = 4096
_DEVICE_BYTES = 256 << 20


def _device_works(torch: Any, device: str) -> list[tuple[str, float, Work]]:
    """Quantity, amount and work of each probe of a device."""
    works: list[tuple[str, float, Work]] = []
    for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
        a = torch.rand(_DEVICE_SIDE, _DEVICE_SIDE, device=device, dtype=dtype)
        works.append((f"gemm_{name}_flops", 2.0 * _DEVICE_SIDE**3, partial(torch.mm, a, a)))
    whole = torch.randint(-127, 127, (_DEVICE_SIDE, _DEVICE_SIDE), device=device, dtype=torch.int8)
    works.append(("gemm_int8_flops", 2.0 * _DEVICE_SIDE**3, partial(torch._int_mm, whole, whole.t().contiguous().t())))
    source = torch.ones(_DEVICE_BYTES // 4, device=device)
    works.append(("copy_bandwidth_bytes_per_s", 2.0 * _DEVICE_BYTES, torch.empty_like(source).copy_.__get__(source)))
    return works


def _device_rates(torch: Any, amount: float, work: Work, seconds: float) -> list[float]:
    """Amounts per second of single repetitions, by events that the device itself stamps."""
    work()
    torch.cuda.synchronize()
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while not rates or time.perf_counter() < end:
        begin, done = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        done.record()
        torch.cuda.synchronize()
        rates.append(amount / (begin.elapsed_time(done) / 1e3))
    return rates


def _device_sample(quantity: str, rates: list[float], device: str) -> Sample:
    unit = "byte/s" if "bytes" in quantity else "FLOP/s"
    note = f"by PyTorch on {device}, CUDA events; the best reading counts"
    return Sample(quantity=quantity, unit=unit, values=np.array(rates), note=note)


def best(peak: Sample) -> float:
    """The ceiling in a peak's readings: the largest rate.

    >>> best(Sample(quantity="gemm_fp32_flops", unit="FLOP/s", values=np.array([1e9, 3e9, 2e9])))
    3000000000.0
    """
    return float(np.max(peak.values))


def _take_turns(probes: Sequence[_Probe], seconds: float) -> list[list[float]]:
    """Amounts per second of each probe: rounds in which each repeats its work for a fair share of a round."""
    share = seconds / _ROUNDS / len(probes)
    for probe in probes:
        for _, work in probe.work:
            work()
    rates: list[list[float]] = [[] for _ in probes]
    end = time.perf_counter() + seconds
    rounds = 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() < end:
        for probe, found in zip(probes, rates, strict=True):
            found.append(max(_repeat(probe, share)))
        rounds += 1
    return rates


def _repeat(probe: _Probe, seconds: float) -> list[float]:
    rates: list[float] = []
    end = time.perf_counter() + seconds
    while not rates or time.perf_counter() < end:
        for amount, work in probe.work:
            start = time.perf_counter()
            work()
            rates.append(amount / (time.perf_counter() - start))
    return rates


def _sample(probe: _Probe, rates: list[float]) -> Sample:
    values = np.array(rates)
    if probe.quantity == "dispatch_s":
        return Sample(quantity=probe.quantity, unit="s", values=1 / values, note=f"{probe.by}; the median counts")
    unit = "byte/s" if "bytes" in probe.quantity else "FLOP/s"
    note = f"by {probe.by}; the best reading counts"
    return Sample(quantity=probe.quantity, unit=unit, values=values, conditions=dict(probe.conditions), note=note)


def _fastest(quantity: str, measured: Sequence[Sample]) -> Sample | Unavailable:
    found = [sample for sample in measured if sample.quantity == quantity]
    if found:
        return max(found, key=best)
    return Unavailable(quantity=quantity, reason=_REASONS[quantity])


_REASONS = {
    "gemm_bf16_flops": "needs the 'torch' extra: NumPy has no bfloat16",
    "gemm_int8_flops": "needs the 'torch' or 'onnx' extra: NumPy does not use the processor's int8 instructions",
    "cache_bandwidth_bytes_per_s": "the kernel does not tell the size of the last-level cache",
    "dispatch_s": "needs the 'torch' extra: it is the cost of an eager PyTorch operator",
}


def _products(quantity: str, by: str, works: Sequence[Work], sides: Sequence[int] = _SIDES) -> _Probe:
    """Square products of `sides`, in order: 2 n**3 operations each."""
    return _Probe(quantity=quantity, by=by, work=tuple((2.0 * n**3, w) for n, w in zip(sides, works, strict=True)))


def _sides(*instructions: str) -> tuple[int, ...]:
    """`_SIDES` where the processor has one of the instruction sets; else a small one."""
    return _SIDES if set(instructions) & set(environment(()).instruction_sets) else (_SMALL,)


def _emulated(sides: Sequence[int], dtype: str) -> str:
    """Words for a data type that the processor has no instructions for: its rate is then that of an emulation."""
    return "" if sides == _SIDES else f" without {dtype} instructions"


def _fp32() -> _Probe:
    torch = _torch()
    if torch is None:
        return _products("gemm_fp32_flops", "NumPy", [_numpy_product(side) for side in _SIDES])
    return _products("gemm_fp32_flops", "PyTorch", [_torch_product(torch, torch.rand(n, n)) for n in _SIDES])


def _bf16() -> list[_Probe]:
    torch = _torch()
    if torch is None:
        return []
    sides = _sides("avx512_bf16", "amx_bf16", "bf16")
    works = [_torch_product(torch, torch.rand(n, n).bfloat16()) for n in sides]
    return [_products("gemm_bf16_flops", f"PyTorch{_emulated(sides, 'bf16')}", works, sides)]


def _int8(threads: int) -> list[_Probe]:
    """One probe for each engine that is installed."""
    sides = _sides("avx512_vnni", "avx_vnni", "amx_int8", "i8mm", "asimddp")
    engines = {
        "ONNX Runtime MatMulInteger": (_onnx_int8(threads), _SIDES),
        "torch._int_mm": (_torch_int8(sides), sides),
    }
    said = _emulated(sides, "int8")
    return [_products("gemm_int8_flops", by + said, works, own) for by, (works, own) in engines.items() if works]


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


def _torch_int8(sides: Sequence[int]) -> list[Work]:
    torch = _torch()
    if torch is None or not hasattr(torch, "_int_mm"):
        return []
    operands = [torch.randint(-127, 127, (side, side), dtype=torch.int8) for side in sides]
    return [partial(torch._int_mm, a, a) for a in operands]


def _onnx_int8(threads: int) -> list[Work]:
    try:
        import onnx
        import onnxruntime
    except ImportError:
        return []
    rng = np.random.default_rng(0)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # a resting engine must not spin
    works: list[Work] = []
    for side in _SIDES:
        model = _int8_model(onnx, rng.integers(-127, 128, (side, side), dtype=np.int8))
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        feed = {"a": rng.integers(0, 256, (side, side), dtype=np.uint8)}
        works.append(partial(session.run, None, feed))
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


def _copy(pool: ThreadPoolExecutor, threads: int) -> _Probe:
    source = np.ones(_array_bytes() // 8)
    target = np.zeros_like(source)
    pairs = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))

    def copy() -> None:
        list(pool.map(lambda pair: np.copyto(*pair), pairs))

    by = f"NumPy, {threads} threads, arrays of {source.nbytes >> 20} MiB"
    return _Probe(quantity="copy_bandwidth_bytes_per_s", by=by, work=((2.0 * source.nbytes, copy),))


def _reads(pool: ThreadPoolExecutor, threads: int) -> list[_Probe]:
    """Reading from memory, and from the last-level cache where its size is known."""
    cache_bytes = _last_level_cache_bytes()
    sizes = {"read_bandwidth_bytes_per_s": _array_bytes(), "cache_bandwidth_bytes_per_s": cache_bytes // 4}
    return [
        _Probe(quantity=quantity, by=by, work=((float(size), work),), conditions={"cache_bytes": cache_bytes})
        for quantity, size in sizes.items()
        if size
        for by, work in _readers(np.ones(size // 4, np.float32), pool, threads).items()
    ]


def _readers(array: np.ndarray[Any, Any], pool: ThreadPoolExecutor, threads: int) -> dict[str, Work]:
    """Ways to read every byte of an array; which is fastest differs between machines."""
    parts = np.array_split(array, threads)
    readers: dict[str, Work] = {f"NumPy's max, {threads} threads": lambda: list(pool.map(np.max, parts))}
    torch = _torch()
    if torch is not None:
        readers["PyTorch's sum"] = torch.from_numpy(array).sum
    return readers


def _array_bytes() -> int:
    """Four times the last-level cache, at least 64 MiB, at most a sixteenth of the memory."""
    return min(max(4 * _last_level_cache_bytes(), 64 << 20), environment(()).memory_bytes // 16)


def _last_level_cache_bytes(root: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> int:
    """Size of the largest cache that the first core sees; 0 where the kernel does not tell."""
    sizes = [path.read_text().strip() for path in root.glob("index*/size")]
    scale = {"K": 1 << 10, "M": 1 << 20}
    return max((int(size[:-1]) * scale[size[-1]] for size in sizes if size[-1:] in scale), default=0)


def _dispatch() -> list[_Probe]:
    torch = _torch()
    if torch is None:
        return []
    x = torch.rand(16)

    def calls() -> None:
        for _ in range(_CALLS):
            torch.relu(x)

    return [_Probe(quantity="dispatch_s", by="eager relu of 16 numbers", work=((float(_CALLS), calls),))]
