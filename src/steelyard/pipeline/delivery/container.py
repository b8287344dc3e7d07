"""A container for the folder: the engine's packages with their versions, a user without rights, a check of health."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from steelyard.records import Environment
from steelyard.subject.artifact import Artifact
from steelyard.verify.target import pins

__all__ = ["needed", "write_container"]

_ENGINES = {"torch": "torch", "onnxruntime": "onnxruntime", "openvino": "openvino", "tflite": "ai-edge-litert"}


def needed(artifact: Artifact, host: Environment) -> dict[str, str]:
    """The packages that run the artifact, and the versions that it was measured with.

    >>> from steelyard.probe.host import environment
    >>> from steelyard.records import Contract
    >>> flat = Contract(shape=(4,), layout="F")
    >>> list(needed(Artifact(folder=Path(), engine="onnxruntime", file="m.onnx", contract=flat), environment()))
    ['numpy', 'onnxruntime']
    """
    names = ["numpy", *filter(None, [_ENGINES.get(artifact.engine)])]
    if sorted(artifact.contract.layout) == ["C", "H", "W"]:
        names.append("pillow")
    return {name: version for name in names if (version := _version(name, host.packages))}


def write_container(folder: Path, artifact: Artifact, host: Environment) -> None:
    """``requirements.txt``, ``Dockerfile`` and ``.dockerignore``; nothing for weights that need their author's code."""
    if artifact.engine not in _ENGINES:
        return
    packages = needed(artifact, host)
    (folder / "requirements.txt").write_text("".join(f"{pin}\n" for pin in pins(packages)), encoding="utf-8")
    (folder / "Dockerfile").write_text(_dockerfile(artifact, host.python), encoding="utf-8")
    (folder / ".dockerignore").write_text("Dockerfile\n.dockerignore\ntriton\novms\nfallback\n", encoding="utf-8")


def _version(name: str, packages: Mapping[str, str]) -> str:
    try:
        return packages.get(name) or metadata.version(name)
    except metadata.PackageNotFoundError:  # installed under another name, such as onnxruntime-gpu
        return ""


def _dockerfile(artifact: Artifact, python: str) -> str:
    minor = ".".join(python.split(".")[:2])
    cpu = (
        "# The public index gives PyTorch with CUDA's libraries, which are large: to build with the small CPU wheels, give\n"
        "# --build-arg PIP_INDEX_URL=... with PyTorch's own index for them.\n"
        if artifact.engine == "torch"
        else ""
    )
    return f"""# docker build --tag model . && docker run --rm --volume "$PWD/pictures:/data:ro" model /data
# It answers and ends; triton/ and ovms/ hold configurations of servers.
FROM python:{minor}-slim

ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
WORKDIR /model

{cpu}ARG PIP_INDEX_URL
COPY requirements.txt ./
RUN pip install --no-cache-dir --requirement requirements.txt

COPY . ./
USER 10001:10001

HEALTHCHECK --interval=5m --timeout=60s --start-period=30s CMD ["python", "predict.py", "--check"]
ENTRYPOINT ["python", "predict.py"]
CMD ["--check"]
"""
