"""From words (`SubjectSpec`) to a live `Subject`: the same words give the same subject in every process."""

from __future__ import annotations

import dataclasses
import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, cast

from steelyard.errors import InvalidInput, MissingExtra, SteelyardError
from steelyard.records import Contract, SubjectSpec
from steelyard.subject.contract import check_contract
from steelyard.subject.safe import load_weights
from steelyard.subject.subject import Subject

__all__ = ["load_subject", "run_file"]

FILES = {".onnx", ".xml", ".pt2"}
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def load_subject(spec: SubjectSpec) -> Subject:
    """Build the subject that `spec` describes.

    ``file.py[:function]`` runs the user's Python file (default function: ``subject``); ``torchvision:NAME`` builds a
    torchvision classifier, with ``weights`` as a state-dict file; a path ending in .onnx, .xml or .pt2 is read by its
    engine. Raises `InvalidInput` with the cure for anything that is none of these.
    """
    source = spec.source
    if source.startswith("torchvision:"):
        subject = _torchvision(spec)
    elif Path(source).suffix in FILES:
        subject = _file(spec)
    elif source.partition(":")[0].endswith(".py"):
        subject = _function(spec)
    else:
        raise InvalidInput(
            f"cannot tell what {source!r} is: give file.py:function, torchvision:NAME, or a path ending in .onnx, .xml or .pt2"
        )
    check_contract(subject.contract)
    return dataclasses.replace(subject, data=_data(spec, subject), seed=spec.seed, options=spec.options)


def _data(spec: SubjectSpec, subject: Subject) -> str | Callable[[], Any] | None:
    """Words on the command line win over the subject's own data, unless the subject's function took them as its argument."""
    if spec.data is None or (subject.data is not None and spec.source.partition(":")[0].endswith(".py")):
        return subject.data
    if spec.data.partition(":")[0].endswith(".py"):
        words = spec.data
        return lambda: _call(words, "data", None)
    return spec.data


def _function(spec: SubjectSpec) -> Subject:
    subject = _call(spec.source, "subject", spec.data)
    if not isinstance(subject, Subject):
        raise InvalidInput(
            f"{spec.source} returned {type(subject).__name__}: return steelyard.Subject(model=..., contract=...)"
        )
    if isinstance(subject.model, Path):
        _check_file(subject.model, spec)
    elif not hasattr(subject.model, "state_dict"):
        raise InvalidInput(
            f"{spec.source}: the model is a {type(subject.model).__name__}: give a torch.nn.Module, or a pathlib.Path to .onnx, .xml or .pt2"
        )
    elif spec.weights is not None:
        load_weights(subject.model, Path(spec.weights))
        subject = dataclasses.replace(subject, fit=None)
    return subject


def _check_file(path: Path, spec: SubjectSpec) -> None:
    if path.suffix not in FILES:
        raise InvalidInput(f"cannot tell what model {path} is: give a path ending in .onnx, .xml or .pt2")
    if not path.is_file():
        raise InvalidInput(f"no such file: {path}")
    if spec.weights is not None:
        raise InvalidInput(f"{path} holds its own weights: leave out --weights {spec.weights}")


def _call(words: str, default: str, argument: str | None) -> Any:
    path, _, name = words.partition(":")
    module = run_file(Path(path))
    function = getattr(module, name or default, None)
    if not callable(function):
        known = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]
        raise InvalidInput(f"{path} has no function {name or default!r}; it has {', '.join(known) or 'none'}")
    takes = inspect.signature(function).parameters
    try:
        return function(argument) if takes else function()
    except SteelyardError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidInput(
            f"{path}: {name or default}() failed: {type(error).__name__}: {_first_line(error)}"
        ) from error


def run_file(path: Path) -> ModuleType:
    """The module that a Python file makes; its code is run. Raises `InvalidInput` where it does not run."""
    if not path.is_file():
        raise InvalidInput(f"no such file: {path}")
    name = f"steelyard_user_{path.stem}"
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise InvalidInput(f"cannot import {path}")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    folder = str(path.resolve().parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)  # so that the file may import its neighbours, as when it is run
    try:
        module_spec.loader.exec_module(module)
    except SteelyardError:
        raise
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{path} does not run: {type(error).__name__}: {_first_line(error)}") from error
    return module


def _torchvision(spec: SubjectSpec) -> Subject:
    try:
        from torchvision import models
    except ImportError:
        raise MissingExtra("torch", needed_for=f"{spec.source}") from None
    name = spec.source.partition(":")[2]
    if name not in models.list_models(module=models):
        from difflib import get_close_matches

        near = get_close_matches(name, models.list_models(module=models), 3)
        raise InvalidInput(f"torchvision has no classifier {name!r}; nearest: {', '.join(near) or 'none'}")
    model = models.get_model(name, weights=None, num_classes=int(spec.options.get("classes") or 1000))
    if spec.weights is not None:
        load_weights(model, Path(spec.weights))
    size = int(spec.options.get("size") or 224)
    contract = Contract(shape=(3, size, size), scale=1 / 255, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
    return Subject(model=model.eval(), contract=_declared(spec, contract))


def _file(spec: SubjectSpec) -> Subject:
    path = Path(spec.source)
    _check_file(path, spec)
    shape, dtype, classes = _signature(path)
    layout = {1: "F", 2: "TF"}.get(len(shape), "CHW" if len(shape) == 3 else "F" * len(shape))
    if len(shape) == 3 and shape[-1] in (1, 3) and shape[0] not in (1, 3):
        layout = "HWC"
    contract = Contract(shape=shape, dtype=dtype, layout=layout, labels=tuple(str(i) for i in range(classes)))
    return Subject(model=path, contract=_declared(spec, contract))


def _signature(path: Path) -> tuple[tuple[int, ...], str, int]:
    """Shape of one example, dtype and number of classes of a model file with one input and one output."""
    if path.suffix == ".onnx":
        from steelyard.subject.engines.onnxruntime import signature
    elif path.suffix == ".xml":
        from steelyard.subject.engines.openvino import signature
    else:
        from steelyard.subject.engines.torch import signature
    return signature(path)


def _declared(spec: SubjectSpec, contract: Contract) -> Contract:
    """The contract with what the command line declares about it."""
    options = spec.options
    changes: dict[str, Any] = {}
    for name in ("mean", "std"):
        if options.get(name) is not None:
            changes[name] = _numbers(name, str(options[name]))
    if options.get("scale") is not None:
        changes["scale"] = _fraction(str(options["scale"]))
    if options.get("outputs") is not None:
        changes["outputs"] = cast("Literal['logits', 'probabilities']", options["outputs"])
    if options.get("labels") is not None:
        changes["labels"] = _label_file(Path(str(options["labels"])))
    return dataclasses.replace(contract, **changes)


def _numbers(name: str, words: str) -> tuple[float, ...]:
    try:
        return tuple(float(word) for word in words.split(","))
    except ValueError:
        raise InvalidInput(
            f"{name} must be numbers with commas between, such as 0.485,0.456,0.406; got {words!r}"
        ) from None


def _fraction(words: str) -> float:
    """A number, or a quotient such as 1/255.

    >>> _fraction("1/255") * 255
    1.0
    """
    top, _, bottom = words.partition("/")
    try:
        return float(top) / float(bottom or 1)
    except (ValueError, ZeroDivisionError):
        raise InvalidInput(f"scale must be a number or a quotient such as 1/255, got {words!r}") from None


def _label_file(path: Path) -> tuple[str, ...]:
    try:
        return tuple(line for line in path.read_text(encoding="utf-8").splitlines() if line)
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read class names from {path}: {error}") from None


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
