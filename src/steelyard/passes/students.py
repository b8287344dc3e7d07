"""Light nets by name, fitted to what the contract says. Imports torch.

Pictures have torchvision's and timm's classifiers, texts the two nets of `steelyard.passes.text_students`, and the subject
may bring its own. All are built without weights of others: what they know they learn from the teacher.
"""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NamedTuple

import torch
from torch import nn

from steelyard.errors import CannotApply, InvalidInput, MissingExtra, SteelyardError
from steelyard.passes.lowrank import put
from steelyard.passes.text_students import TEXT_STUDENTS, text_student
from steelyard.records import Contract
from steelyard.subject.subject import Subject

__all__ = ["LIGHT", "Student", "build_student", "check_student", "enlarge"]

LIGHT = (
    "mobilenet_v3_small",
    "shufflenet_v2_x0_5",
    "efficientnet_b0",
    "squeezenet1_1",
)  # of torchvision, to begin with
_LEAST = 4  # pixels on a side that the smallest feature map should have
_STEM = 2  # layers with a stride that belong to the stem


class Student(NamedTuple):
    """A net, and what about it its name does not tell."""

    model: nn.Module
    note: str = ""


def build_student(words: str, subject: Subject, contract: Contract, rows: int = 2, seed: int = 0) -> Student:
    """The net that `words` name, in evaluation mode, its first weights drawn by `seed`.

    ``rows`` are the codes that a student of texts knows. Raises `InvalidInput`, with the nearest names, for one that is
    unknown, and `CannotApply` for one that does not take what the contract says.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if words in subject.students:
            return Student(_users(words, subject).eval())
        if words.partition(":")[0] in TEXT_STUDENTS:
            model, note = Student(text_student(words, contract, rows))
        else:
            model, note = _of_pictures(words, contract)
    if contract.outputs == "probabilities":
        model = nn.Sequential(model, nn.Softmax(dim=-1))
    return Student(model.eval(), note)


def check_student(model: nn.Module, inputs: torch.Tensor, classes: int) -> None:
    """Raise `CannotApply` for a net that does not run on such inputs or gives something else than the classes' scores."""
    try:
        with torch.no_grad():
            outputs = model(inputs)
    except (RuntimeError, ValueError, TypeError, IndexError, AssertionError) as error:
        raise CannotApply(
            f"the student does not take inputs {tuple(inputs.shape[1:])}: {' '.join(str(error).split())[:200]}"
        ) from error
    shape = tuple(getattr(outputs, "shape", ()))
    if shape != (len(inputs), classes):
        raise CannotApply(
            f"the student gives {shape or type(outputs).__name__}, and {(len(inputs), classes)} is needed"
        )


def _users(name: str, subject: Subject) -> nn.Module:
    try:
        model = subject.students[name]()
    except SteelyardError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidInput(f"the subject's student {name!r} failed: {type(error).__name__}: {reason}") from error
    if not isinstance(model, nn.Module):
        raise InvalidInput(f"the subject's student {name!r} is a {type(model).__name__}: give a torch.nn.Module")
    return model


# --- pictures --------------------------------------------------------------------------------------


def _of_pictures(words: str, contract: Contract) -> Student:
    """A classifier of torchvision or timm for these channels and classes; its stem is opened for small pictures."""
    library, _, name = words.rpartition(":")
    made = _timm(name, contract) if library == "timm" else _torchvision(words, contract)
    opened = enlarge(made, torch.zeros(1, *contract.shape))
    said = f"{words}: without the stride of {' and '.join(opened)}, as pictures are small" if opened else ""
    return Student(made, said)


def _torchvision(words: str, contract: Contract) -> nn.Module:
    try:
        from torchvision import models
    except ImportError:
        raise MissingExtra("torch", needed_for=f"the student {words}") from None
    name = words.removeprefix("torchvision:")
    _known(name, models.list_models(module=models), "torchvision")
    _pictures_only(name, contract)
    model: nn.Module = models.get_model(name, weights=None, num_classes=len(contract.labels))
    first = next((n for n, m in model.named_modules() if isinstance(m, nn.Conv2d)), None)
    if first is not None:
        _take_channels(model, first, contract.shape[0])
    return model


def _timm(name: str, contract: Contract) -> nn.Module:
    try:
        import timm
    except ImportError:
        raise MissingExtra("train", needed_for=f"the student timm:{name}") from None
    _known(name, timm.list_models(), "timm")
    _pictures_only(name, contract)
    model: nn.Module = timm.create_model(name, in_chans=contract.shape[0], num_classes=len(contract.labels))
    return model


def _known(name: str, names: Sequence[str], library: str) -> None:
    if name not in names:
        near = get_close_matches(name, [*names, *TEXT_STUDENTS], 3)
        raise InvalidInput(f"no student {name!r} in {library}; nearest: {', '.join(near) or ', '.join(LIGHT)}")


def _pictures_only(name: str, contract: Contract) -> None:
    if contract.layout != "CHW" or contract.dtype != "float32":
        raise CannotApply(
            f"{name} reads pictures, float32 in the order CHW; this model takes {contract.dtype} in {contract.layout}"
        )


def _take_channels(model: nn.Module, name: str, channels: int) -> None:
    """Give the first convolution as many input channels as pictures have."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Conv2d)
    if layer.in_channels == channels:
        return
    how: Any = {key: getattr(layer, key) for key in ("kernel_size", "stride", "padding", "dilation", "padding_mode")}
    put(model, name, nn.Conv2d(channels, layer.out_channels, bias=layer.bias is not None, **how))


def enlarge(model: nn.Module, inputs: torch.Tensor) -> list[str]:
    """Take the stride from layers of the stem while feature maps end smaller than 4 pixels; the names of those changed.

    Nets for 224 pixels divide the side by 32, which leaves one pixel of a small picture: nothing to look around on.
    """
    changed: list[str] = []
    for _ in range(_STEM):
        smallest, strided = _maps(model, inputs)
        if smallest >= _LEAST or not strided:
            break
        layer: Any = model.get_submodule(strided[0])
        layer.stride = (1, 1) if isinstance(layer, nn.Conv2d) else 1
        changed.append(strided[0])
    return changed


def _maps(model: nn.Module, inputs: torch.Tensor) -> tuple[int, list[str]]:
    """The smallest side of what kernels of more than one pixel give, and the layers with a stride as they are run."""
    sides: list[int] = []
    strided: list[str] = []

    def watch(name: str, layer: Any) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: torch.Tensor) -> None:
            sides.append(min(output.shape[2:]))
            strided.extend([name] if _pair(layer.stride)[0] > 1 else [])

        return hook

    looking = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)
    layers = [(n, m) for n, m in model.named_modules() if isinstance(m, looking) and _pair(m.kernel_size)[0] > 1]
    hooks = [layer.register_forward_hook(watch(name, layer)) for name, layer in layers]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(inputs)
    except (RuntimeError, ValueError):  # a kernel larger than what is left of the picture
        sides.append(0)
    finally:
        model.train(training)
        for hook in hooks:
            hook.remove()
    return min(sides, default=_LEAST), strided


def _pair(size: Any) -> tuple[int, int]:
    return size if isinstance(size, tuple) else (size, size)
