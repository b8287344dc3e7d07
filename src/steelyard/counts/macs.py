"""Multiply-accumulates of a model, layer by layer, and the bytes its layers move.

Convention: one MAC is one multiplication with its addition, 2 FLOPs. Convolutions, matrix products, attention
and recurrent layers are counted; adding a bias, activations, normalisation, pooling and other element-wise
work is not, and moving or reshaping costs no MACs. An operator is in one of three states: *counted*, *zero*
by this convention, or *uncounted*: unknown here, and reported by name.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.records import Sample

if TYPE_CHECKING:
    import torch

__all__ = ["DTYPES", "LayerCount", "MacCount", "canonical", "coverage", "flop_counter_macs", "module_macs"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCount:
    """One operator of one layer: its MACs, and the bytes of its inputs, weights and outputs, over all its calls."""

    layer: str  # the module's or node's name; "" for the whole model
    operator: str
    macs: int
    moved_bytes: int
    calls: int = 1
    weight_bytes: int = 0  # the part of `moved_bytes` that does not grow with the batch
    dtype: str = ""  # of the first operand: fp32, bf16, fp16, fp64 or int8; "" where it is none of these


@dataclass(frozen=True, slots=True, kw_only=True)
class MacCount:
    """What one forward pass of one example batch asks for."""

    layers: tuple[LayerCount, ...]
    zero: Mapping[str, int] = field(default_factory=dict)  # operators that cost no MACs: calls of each
    uncounted: Mapping[str, int] = field(default_factory=dict)  # operators not known here: calls of each
    others: tuple[LayerCount, ...] = ()  # the operators of `zero` and `uncounted` layer by layer, for their bytes

    @property
    def total(self) -> int:
        """MACs of the counted operators."""
        return sum(layer.macs for layer in self.layers)

    @property
    def flops(self) -> int:
        """2 FLOPs a MAC."""
        return 2 * self.total

    @property
    def moved_bytes(self) -> int:
        """Bytes of inputs, weights and outputs of the counted operators, as if nothing stayed in a cache."""
        return sum(layer.moved_bytes for layer in self.layers)

    @property
    def operator_calls(self) -> int:
        """Operators run, counted or not: what a dispatch-bound model pays for."""
        return sum(layer.calls for layer in self.layers) + sum(self.zero.values()) + sum(self.uncounted.values())

    @property
    def by_operator(self) -> dict[str, int]:
        """MACs of each counted operator."""
        return _grouped((layer.operator, layer.macs) for layer in self.layers)

    @property
    def by_layer(self) -> dict[str, int]:
        """MACs of each layer, in the order they first ran."""
        return _grouped((layer.layer, layer.macs) for layer in self.layers)

    def samples(self) -> tuple[Sample, ...]:
        """Readings for a Measurement: ``macs``, ``moved_bytes``, ``operator_calls``, and ``operator_macs`` each.

        ``operator_macs`` has the condition ``operator``; the note of ``macs`` names the uncounted operators.
        """
        missing = ", ".join(sorted(self.uncounted))
        note = "1 MAC = 2 FLOPs; bias and element-wise work not counted"
        return (
            _counted("macs", "MAC", self.total, note=note + (f"; unknown operators: {missing}" if missing else "")),
            _counted("moved_bytes", "byte", self.moved_bytes),
            _counted("operator_calls", "count", self.operator_calls),
            *(_counted("operator_macs", "MAC", macs, operator=name) for name, macs in self.by_operator.items()),
        )


def coverage(operator_seconds: Mapping[str, float], count: MacCount) -> float:
    """Share of operator *time*, 0 to 1, spent in operators whose MACs were counted.

    ``operator_seconds`` come from a profile, in its spelling: ``aten::mkldnn_convolution``, ``Conv``,
    ``FusedConv`` and ``aten.convolution.default`` are one operator to `canonical`. The rest of the time went
    to operators that cost no MACs or that are not known. Raises `InvalidInput` if no time is given.

    >>> count = MacCount(layers=(LayerCount(layer="fc", operator="addmm", macs=6, moved_bytes=48),))
    >>> coverage({"aten::addmm": 3.0, "aten::relu": 1.0}, count)
    0.75
    """
    total = sum(operator_seconds.values())
    if not total > 0:
        raise InvalidInput(f"coverage needs operator times, got {total} s in {len(operator_seconds)} operators")
    known = {canonical(layer.operator) for layer in count.layers}
    return sum(s for name, s in operator_seconds.items() if canonical(name) in known) / total


def canonical(operator: str) -> str:
    """One name for an operator in the spellings of PyTorch, its profiler, ONNX Runtime and OpenVINO.

    >>> canonical("aten::mkldnn_convolution"), canonical("FusedConv"), canonical("aten.addmm.default")
    ('convolution', 'convolution', 'matmul')
    >>> canonical("Convert"), canonical("QuantizeLinear"), canonical("aten::upsample_bilinear2d")
    ('convert', 'quantizelinear', 'upsamplebilinear2d')
    """
    base = operator.replace("::", ".").split(".")
    name = base[1] if len(base) > 1 else base[0]
    plain = name.lower().replace("_", "")
    if any(part in plain for part in _ALIKE):
        return plain
    if plain in _PRODUCTS:
        return "matmul"
    return next((group for group, parts in _GROUPS if any(part in plain for part in parts)), plain)


# spelled like one of the groups below, and none of them
_ALIKE = ("convert", "bilinear", "trilinear", "quantizelinear")
_PRODUCTS = frozenset({"mm", "mv", "addmv", "dot"})


_GROUPS = (
    ("attention", ("attention", "scaleddotproduct", "mha")),
    ("recurrent", ("lstm", "gru", "rnn")),
    ("convolution", ("conv",)),
    ("matmul", ("matmul", "gemm", "addmm", "bmm", "linear", "fullyconnected", "innerproduct", "einsum")),
)


def module_macs(
    module: torch.nn.Module,
    example: np.ndarray[Any, Any] | torch.Tensor,
    node_layers: Mapping[str, str] | None = None,
) -> MacCount:
    """Count one forward pass of a PyTorch module on `example` (batch axis included), by running it.

    The pass runs in evaluation mode without gradients, with fused attention taken apart where that is needed
    to see it; the module's modes are put back. Layers are the names of ``named_modules``; in an exported program, whose
    modules are gone, those that `node_layers` gives for the nodes of its graph.
    """
    import torch

    x = _tensor(module, example)
    counter = _Counter(_pointers(module))
    run = _naming_nodes(module, node_layers, counter) if node_layers else module
    with _evaluation(module), counter.naming_layers(module), torch.no_grad(), _dispatch_mode(counter):
        run(x)
    return counter.result()


def flop_counter_macs(module: torch.nn.Module, example: np.ndarray[Any, Any] | torch.Tensor) -> dict[str, int]:
    """The same forward pass by PyTorch's own counter (`torch.utils.flop_counter`): MACs by canonical operator.

    A second opinion made by others. Its formulas do not know attention on the processor, nor recurrent layers, so there
    it gives nothing. Its FLOPs are 2 a MAC.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with _evaluation(module), FlopCounterMode(display=False) as counter, torch.no_grad():
        module(_tensor(module, example))
    counts = counter.get_flop_counts().get("Global", {})
    return _grouped((canonical(str(operator)), flops // 2) for operator, flops in counts.items())


def _tensor(module: torch.nn.Module, example: np.ndarray[Any, Any] | torch.Tensor) -> torch.Tensor:
    """The example as a tensor where the module's weights are."""
    import torch

    x = torch.from_numpy(example) if isinstance(example, np.ndarray) else example
    first = next(module.parameters(), None)
    return x if first is None else x.to(first.device)


def _pointers(module: torch.nn.Module) -> frozenset[int]:
    """Where the module's weights lie in memory: what an operator reads from there does not grow with the batch."""
    return frozenset(t.data_ptr() for t in (*module.parameters(), *module.buffers()))


def _naming_nodes(module: Any, layers: Mapping[str, str], counter: _Counter) -> Callable[[Any], Any]:
    """Run a traced graph node by node, telling the counter which layer each node came from."""
    from torch import fx

    class Naming(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            with counter.within(layers.get(n.name, "")):
                return super().run_node(n)

    return Naming(module).run


Formula = Callable[[Sequence[Any], Any], int]


def _convolution(args: Sequence[Any], out: Any) -> int:
    """Each output is a sum over the kernel and one group's input channels; transposed: each input is spread."""
    x, weight, transposed = args[0], args[1], args[6]
    return int((x if transposed else out).numel() * prod(weight.shape[1:]))


def _product(left: int) -> Formula:
    """Each output of a product is a sum over the last axis of operand `left`."""
    return lambda args, out: int(out.numel() * args[left].shape[-1])


def _attention(args: Sequence[Any], _out: Any) -> int:
    """q k^T and then the weights times v: b h Lq Lk (E + Ev). A causal mask is not subtracted."""
    q, k, v = args[:3]
    return int(prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1]))


def _recurrent(args: Sequence[Any], _out: Any) -> int:
    """Every step multiplies the input and the hidden state by their weights: T N (|W_ih| + |W_hh|)."""
    x, w_ih, w_hh = args[:3]
    return int(prod(x.shape[:-1]) * (w_ih.numel() + w_hh.numel()))


FORMULAS: dict[str, Formula] = {
    "convolution": _convolution,
    "mm": _product(0),
    "bmm": _product(0),
    "mv": _product(0),
    "dot": lambda args, _out: int(args[0].numel()),
    "addmm": _product(1),
    "addmv": _product(1),
    "baddbmm": _product(1),
    "_scaled_dot_product_flash_attention_for_cpu": _attention,
    "_scaled_dot_product_flash_attention": _attention,
    "_scaled_dot_product_efficient_attention": _attention,
    "_scaled_dot_product_cudnn_attention": _attention,
    "_scaled_dot_product_fused_attention_overrideable": _attention,
    "mkldnn_rnn_layer": _recurrent,
}

# In-place forms (trailing underscore) and overloads count under their base name.
_ZERO = """
    abs add addcdiv addcmul alias all amax amin any arange argmax argmin as_strided avg_pool1d avg_pool2d avg_pool3d
    _adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d bernoulli bitwise_and bitwise_not bitwise_or cat
    ceil channel_shuffle clamp clamp_max clamp_min clone constant_pad_nd copy cos cumsum detach diagonal div dropout
    elu embedding empty empty_like empty_strided eq erf exp expand eye fill flip floor floor_divide full full_like
    gather ge gelu glu group_norm gt hardsigmoid hardswish hardtanh index index_select isnan le leaky_relu
    lift_fresh linspace log log1p _log_softmax logical_and logical_not logical_or lt masked_fill max
    max_pool2d_with_indices max_pool3d_with_indices maximum mean min minimum mish mul native_batch_norm
    _native_batch_norm_legit_no_training native_dropout native_group_norm native_layer_norm ne neg new_empty
    new_full new_ones new_zeros ones ones_like permute pixel_shuffle pow _prelu_kernel rand randn reciprocal
    reflection_pad1d reflection_pad2d relu remainder repeat replication_pad1d replication_pad2d
    _reshape_alias roll rsqrt rsub _safe_softmax scalar_tensor scatter select sigmoid sign silu sin slice
    _softmax softplus split split_with_sizes sqrt squeeze stack std sub sum t tanh _to_copy topk transpose tril triu
    unbind unfold _unsafe_view unsafe_split unsqueeze upsample_bicubic2d upsample_bilinear2d upsample_nearest1d
    upsample_nearest2d var var_mean view where zeros zeros_like zero
"""
ZERO = frozenset(_ZERO.split())


class _Counter:
    """Gathers counts while operators run; one for each pass."""

    def __init__(self, weights: frozenset[int] = frozenset()) -> None:
        self._weights = weights
        self._macs: Counter[tuple[str, str]] = Counter()
        self._bytes: Counter[tuple[str, str]] = Counter()
        self._weight_bytes: Counter[tuple[str, str]] = Counter()
        self._calls: Counter[tuple[str, str]] = Counter()
        self._dtypes: dict[tuple[str, str], str] = {}
        self._zero: Counter[str] = Counter()
        self._uncounted: Counter[str] = Counter()
        self._within: list[str] = [""]

    def saw(self, operator: str, args: Sequence[Any], out: Any, *, view: bool = False) -> None:
        formula = FORMULAS.get(operator)
        first = out[0] if isinstance(out, tuple | list) and out else out
        key = (self._within[-1], operator)
        if formula is not None:
            self._macs[key] += formula(args, first)
        elif operator.rstrip("_") in ZERO:
            self._zero[operator] += 1
        else:
            self._uncounted[operator] += 1
        self._weigh(key, () if view else (*_flat(args), first))

    def _weigh(self, key: tuple[str, str], values: Sequence[Any]) -> None:
        """Bytes of inputs and output; a view moves none."""
        self._calls[key] += 1
        self._bytes[key] += _bytes(values)
        self._weight_bytes[key] += _bytes(
            [v for v in values if hasattr(v, "data_ptr") and v.data_ptr() in self._weights]
        )
        self._dtypes.setdefault(key, _dtype(values))

    @contextmanager
    def within(self, layer: str) -> Iterator[None]:
        """Know that the operators run meanwhile belong to `layer`."""
        self._within.append(layer)
        try:
            yield
        finally:
            self._leave()

    @contextmanager
    def naming_layers(self, module: torch.nn.Module) -> Iterator[None]:
        """Know, while operators run, which of the module's layers they belong to."""
        handles = []
        for name, layer in module.named_modules():
            handles.append(layer.register_forward_pre_hook(lambda *_, name=name: self._within.append(name)))
            handles.append(layer.register_forward_hook(lambda *_: self._leave(), always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _leave(self) -> None:
        self._within.pop()

    def result(self) -> MacCount:
        return MacCount(
            layers=tuple(self._layer(key) for key in self._macs),
            zero=dict(self._zero),
            uncounted=dict(self._uncounted),
            others=tuple(self._layer(key) for key in self._calls if key not in self._macs),
        )

    def _layer(self, key: tuple[str, str]) -> LayerCount:
        return LayerCount(
            layer=key[0],
            operator=key[1],
            macs=self._macs.get(key, 0),
            moved_bytes=self._bytes[key],
            calls=self._calls[key],
            weight_bytes=self._weight_bytes[key],
            dtype=self._dtypes[key],
        )


def _dispatch_mode(counter: _Counter) -> Any:
    """A mode that shows `counter` every operator; composite operators are taken apart first."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Mode(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves this class unannotated
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            name = func.overloadpacket.__name__
            if name not in FORMULAS and name.rstrip("_") not in ZERO:
                with self:
                    parts = func.decompose(*args, **(kwargs or {}))
                if parts is not NotImplemented:
                    return parts
            out = func(*args, **(kwargs or {}))
            counter.saw(name, args, out, view=_is_view(func))
            return out

    return Mode()  # type: ignore[no-untyped-call]


def _is_view(func: Any) -> bool:
    """Whether the operator only looks at its input in another way, by what its schema says of its result."""
    if func.overloadpacket.__name__ in ("_unsafe_view", "_reshape_alias"):  # views that do not own up to it
        return True
    return any(r.alias_info is not None and not r.alias_info.is_write for r in func._schema.returns)


@contextmanager
def _evaluation(module: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode, and no fused encoder layer that would hide its products; both put back afterwards."""
    import torch

    modes = {layer: layer.training for layer in module.modules()}
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    for layer in modes:
        layer.training = False  # by the flag, because eval() is forbidden on exported programs
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)
        for layer, training in modes.items():
            layer.training = training


def _flat(args: Sequence[Any]) -> Iterator[Any]:
    """Arguments, with those that stand in lists (of `cat`, say) beside the others."""
    for value in args:
        yield from value if isinstance(value, list | tuple) else (value,)


def _bytes(values: Sequence[Any]) -> int:
    return sum(int(v.numel()) * v.element_size() for v in values if hasattr(v, "element_size"))


DTYPES = {"float32": "fp32", "float64": "fp64", "float16": "fp16", "bfloat16": "bf16", "int8": "int8", "uint8": "int8"}


def _dtype(values: Sequence[Any]) -> str:
    """The first data type among tensors that arithmetic is done in."""
    named = (str(v.dtype).removeprefix("torch.") for v in values if hasattr(v, "element_size"))
    return next((DTYPES[name] for name in named if name in DTYPES), "")


def _grouped(pairs: Iterator[tuple[str, int]]) -> dict[str, int]:
    grouped: Counter[str] = Counter()
    for name, macs in pairs:
        grouped[name] += macs
    return dict(grouped)


def _counted(quantity: str, unit: str, number: int, *, note: str = "", **conditions: str) -> Sample:
    return Sample(
        quantity=quantity,
        unit=unit,
        values=np.array([float(number)]),
        conditions=dict(conditions),
        provenance="counted",
        note=note,
    )
