"""Which engines this installation can use, and what would add the others."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata, util
from pathlib import Path

from steelyard.probe.host import environment
from steelyard.records import Unavailable

__all__ = ["ENGINES", "PROVIDERS", "EngineStatus", "compiler", "installed", "openvino_device", "provider", "providers"]


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
    "litert_torch": "tflite",
    "ai_edge_litert": "tflite",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """An execution provider of ONNX Runtime: its own name, what brings it, and what it runs on."""

    name: str
    comes_with: str
    runs_on: str


PROVIDERS: Mapping[str, Provider] = {
    "cuda": Provider(name="CUDAExecutionProvider", comes_with="pip install onnxruntime-gpu", runs_on="an NVIDIA GPU"),
    "tensorrt": Provider(
        name="TensorrtExecutionProvider",
        comes_with="pip install onnxruntime-gpu tensorrt",
        runs_on="an NVIDIA GPU",
    ),
    "openvino": Provider(
        name="OpenVINOExecutionProvider",
        comes_with="pip install onnxruntime-openvino",
        runs_on="an Intel processor, GPU or NPU",
    ),
    "dml": Provider(
        name="DmlExecutionProvider",
        comes_with="pip install onnxruntime-directml",
        runs_on="a DirectX 12 GPU under Windows",
    ),
    "coreml": Provider(
        name="CoreMLExecutionProvider", comes_with="onnxruntime for macOS", runs_on="a machine made by Apple"
    ),
    "qnn": Provider(name="QNNExecutionProvider", comes_with="pip install onnxruntime-qnn", runs_on="a Qualcomm NPU"),
    "vitisai": Provider(
        name="VitisAIExecutionProvider", comes_with="AMD's Ryzen AI software", runs_on="an NPU made by AMD"
    ),
}
"""By the words that options use. The packages take one another's place: one build of ONNX Runtime is installed at a time."""


def provider(word: str) -> str | Unavailable:
    """ONNX Runtime's name of an execution provider, or what is missing for it here: the package, or the device.

    ``word`` is a key of `PROVIDERS`. CUDA's and TensorRT's are built into packages that install without a GPU, so the device
    is looked for too; the others say themselves, when a session starts, whether theirs is there.
    """
    known, quantity = PROVIDERS[word], f"execution provider {word}"
    if "NVIDIA" in known.runs_on and not _has_nvidia():
        reason = f"{known.name} runs on {known.runs_on}, and this machine has none; it comes with {known.comes_with}"
        return Unavailable(quantity=quantity, reason=reason)
    try:
        have = _onnxruntime_devices()
    except ImportError:
        return Unavailable(quantity=quantity, reason="ONNX Runtime is not installed: pip install 'steelyard[onnx]'")
    if known.name not in have:
        reason = f"this ONNX Runtime has no {known.name}: it comes with {known.comes_with} and runs on {known.runs_on}"
        return Unavailable(quantity=quantity, reason=reason)
    return known.name


@cache
def _has_nvidia() -> bool:
    return bool(environment().accelerators or list(Path("/dev").glob("nvidia[0-9]*")))


def providers() -> dict[str, str | Unavailable]:
    """Every execution provider by its word: its name, or what is missing."""
    return {word: provider(word) for word in PROVIDERS}


def openvino_device(name: str) -> str | Unavailable:
    """A device of OpenVINO's (CPU, GPU, NPU or AUTO, with a number behind it where there are several), or what is missing."""
    try:
        have = _openvino_devices()
    except ImportError:
        return Unavailable(quantity=name, reason="OpenVINO is not installed: pip install 'steelyard[openvino]'")
    if name == "AUTO" or any(device == name or device.partition(".")[0] == name for device in have):
        return name
    needs = {"GPU": "an Intel GPU and its compute runtime", "NPU": "an Intel NPU and its driver"}
    cure = needs.get(name.partition(".")[0], "a name from that list, or AUTO")
    reason = f"OpenVINO finds no device {name} here, only {', '.join(have) or 'none'}: {name} needs {cure}"
    return Unavailable(quantity=name, reason=reason)


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
