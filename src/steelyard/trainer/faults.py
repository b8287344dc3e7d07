"""Where numbers stopped being finite: the step, the batch, and the first layer."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from steelyard.trainer.examples import Batch

__all__ = ["NotFinite", "first_not_finite", "where"]


class NotFinite(Exception):
    """A loss that is no number, and its batch."""

    def __init__(self, loss: float, batch: Batch) -> None:
        self.loss, self.batch = loss, batch


def first_not_finite(model: nn.Module, again: Callable[[], object]) -> str:
    """The first layer, in the order they run, whose output is not finite when the batch passes the net `again`; in words.

    Empty where every layer's is: then it was the loss itself, or what dropout drew.
    """
    found: list[str] = []

    def watch(name: str, layer: nn.Module) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            if not found and not _finite(output):
                own = all(_finite(p) for p in layer.parameters(recurse=False))
                found.append(f"{name or 'the net'} ({type(layer).__name__}{'' if own else ', its weights too'})")

        return hook

    layers = [(name, layer) for name, layer in model.named_modules() if not any(True for _ in layer.children())]
    hooks = [layer.register_forward_hook(watch(name, layer)) for name, layer in layers]
    try:
        with torch.no_grad(), _eager(model):
            again()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""


def _eager(model: nn.Module) -> AbstractContextManager[object]:
    """A compiled net runs as it was written, so that its layers' hooks are called."""
    compiled = getattr(model, "_compiled_call_impl", None) is not None
    return torch.compiler.set_stance("force_eager") if compiled else nullcontext()


def where(found: NotFinite, step: int, epoch: int, layer: str) -> str:
    """In words: step and epoch (counted from 0), the batch's examples, the layer, and what may help."""
    positions = ", ".join(map(str, found.batch.index[:5]))
    inputs = found.batch.inputs
    finite = not inputs.is_floating_point() or bool(torch.isfinite(inputs).all())
    cause = "a lower rate or clip_norm may help" if finite else "its inputs are not finite either: clean the data"
    first = f"first in layer {layer}; " if layer and finite else ""
    return (
        f"the loss became {found.loss:g} at step {step + 1}, in epoch {epoch + 1}, on the batch of examples {positions}"
        f"{' ...' if len(found.batch) > 5 else ''}: {first}{cause}"
    )


def _finite(value: Any) -> bool:
    if isinstance(value, torch.Tensor):
        return not value.is_floating_point() or bool(torch.isfinite(value).all())
    return all(map(_finite, value)) if isinstance(value, tuple | list) else True
