"""Rounding to 8 bits that gradients pass through, and the same as a program's own operators. Imports torch.

Values ``x`` become ``s (clamp(round(x / s) + z, low, high) - z)``. The step ``s`` is learned beside the weights (Esser et al.
2020, "Learned step size quantization"), as a logarithm, so that it stays positive and one rate suits steps of any size; the
zero point ``z`` stays where calibration put it.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed
from numpy.typing import NDArray
from torch import fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.lowrank import put
from steelyard.passes.modules import export_program

__all__ = ["FakeQuantised", "Rounding", "Settled", "folded", "rounded"]


class Rounding(nn.Module):
    """Fake quantisation with a learned step, for the whole tensor or along `axis`."""

    def __init__(
        self, step: torch.Tensor, zero: torch.Tensor, low: int, high: int, axis: int = 0, *, narrow: bool = False
    ) -> None:
        super().__init__()
        self.log_step = nn.Parameter(step.detach().flatten().clamp_min(1e-12).log())
        self.zero: torch.Tensor
        self.register_buffer("zero", zero.detach().flatten().float())
        self.low, self.high, self.axis, self.narrow = low, high, axis, narrow

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The values on the grid; the gradient is that of the paper's equations 3 and 5, summed and not scaled."""
        step = self.log_step.exp()
        if step.numel() == 1:
            return torch._fake_quantize_learnable_per_tensor_affine(values, step, self.zero, *self._grid(), 1.0)
        return torch._fake_quantize_learnable_per_channel_affine(values, step, self.zero, self.axis, *self._grid(), 1.0)

    def _grid(self) -> tuple[int, int]:
        """Half of the integers where 8-bit products must not overflow 16 bits."""
        return (self.low // 2, self.high // 2) if self.narrow else (self.low, self.high)

    def fixed(self) -> Settled:
        """The same without anything to learn, in operators that exporters know."""
        return Settled(self.log_step.detach().exp(), self.zero, self.low, self.high, self.axis, self._grid())


class Settled(nn.Module):
    """Fake quantisation with a fixed step. A narrower grid is clamped to before, for formats know whole bytes only."""

    def __init__(
        self, step: torch.Tensor, zero: torch.Tensor, low: int, high: int, axis: int, grid: tuple[int, int]
    ) -> None:
        super().__init__()
        self.step: torch.Tensor
        self.zero: torch.Tensor
        self.register_buffer("step", step)
        self.register_buffer("zero", zero.round().to(torch.int64))
        self.single = (float(step[0]), round(float(zero[0]))) if step.numel() == 1 else None
        self.low, self.high, self.axis, self.grid = low, high, axis, grid
        self.dtype = torch.int8 if low < 0 else torch.uint8

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """The values on the grid."""
        if self.grid != (self.low, self.high):
            values = self._clamped(values)
        known: Any = torch.ops.quantized_decomposed  # both converters know these, and not PyTorch's fake quantisation
        how: tuple[Any, ...] = (self.low, self.high, self.dtype)
        outputs: torch.Tensor
        if self.single is not None:
            how = (*self.single, *how)
            outputs = known.dequantize_per_tensor(known.quantize_per_tensor(values, *how), *how)
        else:
            how = (self.step, self.zero, self.axis, *how)
            outputs = known.dequantize_per_channel(known.quantize_per_channel(values, *how), *how)
        return outputs

    def _clamped(self, values: torch.Tensor) -> torch.Tensor:
        shape = [-1 if axis == self.axis else 1 for axis in range(values.ndim)]
        least, most = ((limit - self.zero) * self.step for limit in self.grid)
        return values.clamp(least.view(shape), most.view(shape))


class FakeQuantised(nn.Module):
    """A model whose weights and activations are rounded where NNCF would round them."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Outputs of the model under rounding."""
        outputs: torch.Tensor = self.inner(inputs)
        return outputs

    def settle(self) -> None:
        """Fix every step, for the model to be exported."""
        _replace(self.inner, Rounding, lambda _name, rounding: rounding.fixed())
        self.eval()

    def plain(self, examples: NDArray[Any]) -> fx.GraphModule:
        """The settled model as one graph of operators, under names that files may hold.

        Raises `CannotApply` where the tracer missed some of the rounding, as it may in a layer that is used more than once.
        """
        traced: Any = export_program(self, examples).module()
        values: dict[str, Any] = {}
        for node in list(traced.graph.nodes):
            if node.op == "call_module":  # checks of the inputs' shapes
                traced.graph.erase_node(node)
            elif node.op == "get_attr":
                name = re.sub(r"\W+", "_", node.target)
                values[name], node.target = attrgetter(node.target)(traced), name
        found = sum("dequantize" in str(node.target) for node in traced.graph.nodes)
        if found < sum(isinstance(m, Settled) for m in self.modules()):
            raise CannotApply("torch.export leaves out some of the rounding: a layer is used more than once, say")
        return fx.GraphModule(values, traced.graph)


def folded(module: nn.Module, inputs: torch.Tensor) -> int:
    """Fold batch normalisation into the convolutions before it, in place; how many. What engines fold is trained folded.

    A normalisation follows a convolution where its input is the very tensor that the convolution gave. Should the
    convolution's output go elsewhere too, other outputs tell, and nothing is folded.
    """
    pairs = _followed(module, inputs)
    before = _run(module, inputs)
    kept: dict[str, Any] = {name: module.get_submodule(name) for pair in pairs.items() for name in pair}
    for norm, convolution in pairs.items():
        put(module, convolution, fuse_conv_bn_eval(kept[convolution], kept[norm]))
        put(module, norm, nn.Identity())
    if torch.allclose(_run(module, inputs), before, rtol=1e-2, atol=1e-3 * float(before.std())):
        return len(pairs)
    for name, layer in kept.items():
        put(module, name, layer)
    return 0


def _followed(module: nn.Module, inputs: torch.Tensor) -> dict[str, str]:
    """By the name of a normalisation, that of the convolution whose output it takes; each of them used once."""
    given: dict[int, str] = {}
    calls: Counter[str] = Counter()
    pairs: dict[str, str] = {}
    alive: list[torch.Tensor] = []  # an identity is one as long as the tensor lives

    def watch(name: str, layer: nn.Module) -> Any:
        def hook(_module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
            calls[name] += 1
            if isinstance(layer, _BatchNorm):
                pairs.update(
                    {name: given[id(args[0])]} if id(args[0]) in given and layer.running_mean is not None else {}
                )
            else:
                given[id(output)] = name
            alive.extend((args[0], output))

        return hook

    kinds = (nn.Conv1d, nn.Conv2d, _BatchNorm)
    hooks = [m.register_forward_hook(watch(n, m)) for n, m in module.named_modules() if isinstance(m, kinds)]
    try:
        _run(module, inputs)
    finally:
        for hook in hooks:
            hook.remove()
    return {norm: layer for norm, layer in pairs.items() if calls[norm] == calls[layer] == 1}


def _run(module: nn.Module, inputs: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        outputs: torch.Tensor = module.eval()(inputs)
    return outputs


def rounded(
    module: nn.Module, calibration: NDArray[Any], *, preset: str, transformer: bool, narrow_weights: bool
) -> FakeQuantised:
    """A copy of `module` with `Rounding` where NNCF puts quantisers, calibrated on these inputs.

    NNCF's own quantisers compile a C++ extension when they are first run, as in correcting biases; PyTorch has the operation
    ready, and biases are left to the training.
    """
    try:
        import nncf
    except ImportError:
        raise MissingExtra("openvino", needed_for="quantisation-aware training") from None
    nncf.set_log_level(logging.ERROR)
    fix = nncf.OverflowFix.ENABLE if narrow_weights else nncf.OverflowFix.DISABLE
    try:
        quantised = nncf.quantize(
            FakeQuantised(module).eval(),  # the outermost gets the hooks as a child, and a Sequential would run them
            nncf.Dataset([torch.from_numpy(row[None].copy()) for row in calibration]),
            preset=nncf.QuantizationPreset(preset),
            subset_size=len(calibration),
            model_type=nncf.ModelType.TRANSFORMER if transformer else None,
            advanced_parameters=nncf.AdvancedQuantizationParameters(overflow_fix=fix, disable_bias_correction=True),
        )
    except (RuntimeError, ValueError, nncf.InternalError, nncf.ValidationError, nncf.UnsupportedModelError) as error:
        raise CannotApply(f"NNCF cannot quantise this module: {' '.join(str(error).split())[:200]}") from error
    return FakeQuantised(_learned(quantised, narrow_weights))


def _learned(model: nn.Module, narrow_weights: bool) -> nn.Module:
    """Put a `Rounding` in the place of each of NNCF's quantisers."""
    from nncf.torch.quantization.layers import BaseQuantizer

    def learned(name: str, quantiser: Any) -> Rounding:
        return _of_nncf(quantiser, narrow=narrow_weights and _rounds_weights(name, quantiser))

    if not _replace(model, BaseQuantizer, learned):
        raise CannotApply("NNCF found nothing to quantise in this model")
    return model.requires_grad_(True)


def _replace(model: nn.Module, kind: type[Any], new: Callable[[str, Any], nn.Module]) -> int:
    """Exchange what NNCF calls between the model's operators; how many there were."""
    from nncf.torch.function_hook.wrapper import get_hook_storage

    storage = get_hook_storage(model)
    found = [(name, hook) for name, hook in storage.named_hooks() if isinstance(hook, kind)]
    for name, hook in found:
        storage.set_submodule(name, new(name, hook))
    return len(found)


def _of_nncf(quantiser: Any, *, narrow: bool) -> Rounding:
    """Its grid and steps. For narrow weights NNCF makes the step twice as coarse, and only training could leave half the grid."""
    low, high, step, zero = quantiser.get_parameters_for_torch_fq()
    axis = int(np.argmax(quantiser.scale_shape)) if step.numel() > 1 else 0
    return Rounding(step, zero, int(low), int(high), axis, narrow=narrow)


def _rounds_weights(name: str, quantiser: Any) -> bool:
    """Weights have a step for each channel, and are not an operator's first input."""
    from nncf.torch.function_hook.hook_storage import decode_hook_name

    kind, _, port = decode_hook_name(name)
    return bool(kind == "pre_hooks" and port > 0 and quantiser.per_channel)
