"""Which engines this installation can use, and what would add the others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata, util

__all__ = ["ENGINES", "EngineStatus", "compiler", "installed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """One engine: its version or None, what it can run on, and the command that adds it."""

    name: str
    version: str | None  # None: not installed
    extra: str
    devices: tuple[str, ...] = ()  # execution providers or devices; filled in only when asked in detail
    problem: str = ""  # installed, but unusable: why

    @property
    def install(self) -> str:
        """The command that adds this engine."""
        return f"pip install 'steelyard[{self.extra}]'"


# Module (also the distribution's name) -> the extra of ours that brings it.
ENGINES = {
    "torch": "torch",
    "torchvision": "torch",
    "onnx": "onnx",
    "onnxruntime": "onnx",
    "openvino": "openvino",
    "nncf": "openvino",
}


def installed(*, detail: bool = False) -> tuple[EngineStatus, ...]:
    """Status of every engine in `ENGINES`.

    Without ``detail`` nothing is imported. With it, engines are asked for their devices (seconds, the
    first time); one that fails to import is reported with its problem instead of raising.
    """
    return tuple(_status(name, extra, detail) for name, extra in ENGINES.items())


def compiler() -> str | None:
    """Path of the C++ compiler that ``torch.compile`` would use (``CXX``, else g++ or clang++), or None."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++"]
    return next((path for name in names if (path := shutil.which(name))), None)


def _status(name: str, extra: str, detail: bool) -> EngineStatus:
    version = _version(name)
    if version is None or not detail or name not in _DEVICES:
        return EngineStatus(name=name, version=version, extra=extra)
    try:
        return EngineStatus(name=name, version=version, extra=extra, devices=_DEVICES[name]())
    except Exception as error:  # native libraries fail to load in many ways, and doctor must survive them all
        return EngineStatus(name=name, version=version, extra=extra, problem=f"{type(error).__name__}: {error}")


def _version(name: str) -> str | None:
    if util.find_spec(name) is None:
        return None
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # installed under another name, such as onnxruntime-gpu
        return "unknown version"


def _torch_devices() -> tuple[str, ...]:
    import torch

    return ("cpu", *(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())))


def _onnxruntime_devices() -> tuple[str, ...]:
    import onnxruntime

    return tuple(onnxruntime.get_available_providers())


def _openvino_devices() -> tuple[str, ...]:
    import openvino

    return tuple(openvino.Core().available_devices)


_DEVICES: dict[str, Callable[[], tuple[str, ...]]] = {
    "torch": _torch_devices,
    "onnxruntime": _onnxruntime_devices,
    "openvino": _openvino_devices,
}
