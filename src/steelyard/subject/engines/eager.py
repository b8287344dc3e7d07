"""The user's own PyTorch module, run as the user runs it: the baseline that gains are measured against."""

from __future__ import annotations

import dataclasses
import inspect
from typing import TYPE_CHECKING

from steelyard.errors import InvalidInput
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines.torch import TorchRunner
from steelyard.subject.load import load_subject
from steelyard.subject.safe import load_weights

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load", "rebuild"]


def rebuild(artifact: Artifact) -> nn.Module:
    """The module that the artifact's words describe, in evaluation mode, with the artifact's weights."""
    from torch import nn

    if artifact.spec is None:
        raise InvalidInput(f"{artifact.folder} does not say how its module is built")
    spec = dataclasses.replace(artifact.spec, weights=None)
    model = load_subject(spec).model
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"{spec.source} no longer gives a PyTorch module")
    load_weights(model, artifact.path)
    return model.eval()


def load(artifact: Artifact) -> TorchRunner:
    """Run the module without gradients and nothing else changed; the option ``device`` puts it on an accelerator."""
    module = rebuild(artifact)
    _check_inputs(module)
    return TorchRunner(module, device=str(artifact.options.get("device") or "cpu"))


def _check_inputs(module: nn.Module) -> None:
    """Raise `InvalidInput`, naming them, for a module that cannot be called with one input."""
    try:
        taken = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):  # compiled code tells nothing of what it takes
        return
    needed = [p.name for p in taken if p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if len(needed) > 1:
        raise InvalidInput(
            f"the model takes the inputs {', '.join(needed)}; exactly one is supported: wrap it in a module that makes the"
            " others itself"
        )
