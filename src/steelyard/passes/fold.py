"""Fold batch normalisation into the convolution or linear layer before it: fewer operators, the same function."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from steelyard.errors import CannotApply
from steelyard.passes.bench import Bench, Built
from steelyard.subject.artifact import Artifact

if TYPE_CHECKING:
    from torch import fx, nn

__all__ = ["Fold", "fold"]

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d")


@dataclass(frozen=True, slots=True)
class Fold:
    """Convolution and normalisation, or linear layer and normalisation, become one layer (Jacob et al. 2018, section 3.2).

    Works on the exported graph, so modules and programs are folded alike. A layer whose weights serve at two places, or
    whose output goes elsewhere too, is left as it is and named. The activation behind it is fused by the engines.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "torch"
    kind: ClassVar[str] = "fold"

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the folded program. The outputs it must give are those of the program before."""
        from steelyard.passes.modules import export_program, module_of, outputs_of, save_module

        module = module_of(source)
        before = outputs_of(module, bench.examples)
        folded = export_program(module, bench.examples).module()
        done, left = fold(folded)
        if not done:
            why = f": {'; '.join(left)}" if left else ""
            raise CannotApply(f"no convolution or linear layer has a batch normalisation to fold{why}")
        built = save_module(folded, source, bench, tolerance=1e-3)
        notes = (f"batch normalisation folded into {len(done)} layer(s)", *(f"not folded: {said}" for said in left))
        artifact = dataclasses.replace(built.artifact, notes=(*built.artifact.notes, *notes))
        return dataclasses.replace(built, artifact=artifact, outputs=before)


def fold(module: fx.GraphModule) -> tuple[list[str], list[str]]:
    """Fold what can be, in place. Layers that took a normalisation in, and why the others did not."""
    uses = Counter(node.args[1].target for node in module.graph.nodes if _is_product(node))
    done: list[str] = []
    left: list[str] = []
    for norm in list(module.graph.nodes):
        if norm.op != "call_function" or norm.target.__name__ != "batch_norm.default":
            continue
        reason = _why_not(norm, uses)
        if reason:
            left.append(f"{_layer(norm)}: {reason}")
        else:
            done.append(_merge(module, norm, len(done)))
    module.graph.eliminate_dead_code()
    _drop_unused(module)
    module.graph.lint()
    module.recompile()
    return done, left


def _why_not(norm: fx.Node, uses: Counter[Any]) -> str:
    """Why a normalisation cannot go into what comes before it; empty if it can."""
    before: Any = norm.args[0]
    if not _is_product(before):
        return f"it follows {before.name}, which is no convolution or linear layer"
    if norm.args[5]:
        return "it normalises by the batch at hand, as in training"
    if uses[before.args[1].target] > 1:
        return f"the weights of {_layer(before)} serve at {uses[before.args[1].target]} places"
    if len(before.users) > 1:
        return f"the output of {_layer(before)} goes elsewhere too"
    if _kind(before) == "linear" and before.meta["val"].ndim != 2:
        return f"{_layer(before)} gives a sequence, whose positions are normalised and not its features"
    return ""


def _is_product(node: Any) -> bool:
    return _kind(node) in (*_CONVOLUTIONS, "linear") and getattr(node.args[1], "op", "") == "get_attr"


def _kind(node: Any) -> str:
    """The operator without its overload: ``conv2d``, ``linear``; empty for what is none."""
    return str(getattr(node.target, "__name__", "")).partition(".")[0] if node.op == "call_function" else ""


def _merge(module: fx.GraphModule, norm: fx.Node, count: int) -> str:
    """Give the layer before a normalisation its weights and take the normalisation out; the layer's name."""
    from torch.nn.utils.fusion import fuse_conv_bn_weights, fuse_linear_bn_weights

    layer: Any = norm.args[0]
    weight, bias = _value(module, layer.args[1]), _value(module, layer.args[2] if len(layer.args) > 2 else None)
    scale, shift, mean, variance = (_value(module, argument) for argument in norm.args[1:5])
    epsilon: Any = norm.args[7]
    if _kind(layer) == "linear":
        scale = mean.new_ones(mean.shape) if scale is None else scale
        shift = mean.new_zeros(mean.shape) if shift is None else shift
        fused = fuse_linear_bn_weights(weight, bias, mean, variance, epsilon, scale, shift)
    else:
        transposed = _kind(layer).startswith("conv_transpose")
        fused = fuse_conv_bn_weights(weight, bias, mean, variance, epsilon, scale, shift, transposed)
    with module.graph.inserting_before(layer):
        made = [_put(module, f"folded_{count}_{name}", v) for name, v in zip(("weight", "bias"), fused, strict=True)]
    layer.args = (layer.args[0], *made, *layer.args[3:])
    norm.replace_all_uses_with(layer)
    module.graph.erase_node(norm)
    return _layer(layer)


def _drop_unused(module: fx.GraphModule) -> None:
    """Take out the weights that nothing reads any more: the file would keep them."""
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    weights = module.named_parameters(remove_duplicate=False)
    statistics = module.named_buffers(remove_duplicate=False)
    for name in [name for name, _ in (*weights, *statistics) if name not in used]:
        parent, _, leaf = name.rpartition(".")
        delattr(module.get_submodule(parent), leaf)


def _value(module: fx.GraphModule, node: Any) -> Any:
    return None if node is None else attrgetter(node.target)(module)


def _put(module: fx.GraphModule, name: str, value: nn.Parameter) -> fx.Node:
    module.register_parameter(name, value)
    return module.graph.get_attr(name)


def _layer(node: fx.Node) -> str:
    from steelyard.subject.engines.torch import layer_of

    return layer_of(node) or node.name
