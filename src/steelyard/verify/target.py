"""Is this machine like the one that a folder was made for: its instructions, its packages, the outputs that it gives?

8-bit products of x86 without VNNI are added in pairs to 16 bits, where they can overflow and are cut (Intel's ``vpmaddubsw``);
ONNX Runtime's documentation calls it saturation. So a model quantised for VNNI may answer otherwise where it is absent.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import WORKER
from steelyard.measure.weigh import read_parity
from steelyard.records import Step
from steelyard.subject.artifact import FALLBACK, Manifest, read_manifest
from steelyard.subject.deployed import Model

__all__ = [
    "Difference",
    "absent",
    "compare",
    "difference",
    "for_this_machine",
    "lacking",
    "other_versions",
    "pins",
    "quantises",
    "saturates",
    "stored_inputs",
]

PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})  # 8-bit products that add up in 32 bits


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Outputs for the stored examples here against those at delivery."""

    largest: float
    allowed: float
    changed: int  # examples whose likeliest class is another one
    examples: int

    @property
    def alike(self) -> bool:
        """Whether the outputs are those of delivery, within the stated tolerance; NaN is no agreement."""
        return self.largest <= self.allowed

    def __str__(self) -> str:
        return (
            f"outputs differ by up to {self.largest:.2g} from those at delivery ({self.allowed:.2g} allowed); "
            f"{self.changed} of {self.examples} examples get another class"
        )


def quantises(step: Step) -> bool:
    """Whether a step makes 8-bit products.

    >>> quantises(Step(name="nncf_int8")), quantises(Step(name="openvino", options=(("precision", "bf16"),)))
    (True, False)
    """
    return any(word in f"{step.name} {step.options}" for word in ("quantize", "int8", "qat", "mixed"))


def saturates(manifest: Manifest, sets: Sequence[str]) -> bool:
    """Whether a model in 8 bits, made where their products add up in 32 bits, meets a processor where they do not."""
    quantised = any(quantises(Step(name=s.name, options=tuple(s.options.items()))) for s in manifest.plan)
    return quantised and bool(PRODUCTS & set(manifest.instruction_sets)) and not PRODUCTS & set(sets)


def absent(manifest: Manifest, sets: Sequence[str]) -> list[str]:
    """Instruction sets that the model was made with, that decide how fast its data types are, and that are not here."""
    missing = sorted(set(manifest.instruction_sets) - set(sets))
    return [name for name in missing if "vnni" in name or name.startswith("amx") or "bf16" in name]


def lacking(packages: Mapping[str, str]) -> dict[str, str]:
    """Of packages and their versions at delivery, those that are not installed here."""
    return {name: version for name, version in packages.items() if _installed(name) is None}


def pins(packages: Mapping[str, str]) -> list[str]:
    """For pip; a local version such as 2.14.1+cpu names a build that the public index does not have.

    >>> pins({"numpy": "2.4.6", "torch": "2.14.1+cpu"})
    ['numpy==2.4.6', 'torch==2.14.1']
    """
    return [f"{name}=={version.partition('+')[0]}" for name, version in packages.items()]


def other_versions(packages: Mapping[str, str]) -> dict[str, tuple[str, str]]:
    """Of packages and their versions at delivery, those with another version here: (then, here)."""
    here = {name: _installed(name) for name in packages}
    return {name: (then, now) for name, then in packages.items() if (now := here[name]) is not None and now != then}


def difference(folder: Path, *, limits: Limits | None = None) -> Difference:
    """The stored examples' outputs by a fresh process here, against those at delivery. Raises what loading the model raises."""
    inputs, expected, tolerance = read_parity(folder / "parity.npz")
    with stored_inputs(folder) as examples, Child(WORKER, limits=limits) as child:
        child.call("load", folder=str(folder), inputs=str(examples))
        outputs = child.call("run", inputs=inputs)
    return compare(outputs, expected, tolerance)


@contextmanager
def stored_inputs(folder: Path) -> Iterator[Path]:
    """The stored examples' inputs in a file of their own, outside the folder, which may be read-only."""
    with tempfile.TemporaryDirectory() as aside:
        path = Path(aside) / "inputs.npy"
        np.save(path, read_parity(folder / "parity.npz")[0])
        yield path


def compare(outputs: np.ndarray, expected: np.ndarray, tolerance: float) -> Difference:
    """Both ``(n, classes)``; the tolerance is a fraction of the expected outputs' standard deviation.

    >>> str(compare(np.array([[0.0, 1.0]]), np.array([[2.0, 1.0]]), 0.1))
    'outputs differ by up to 2 from those at delivery (0.05 allowed); 1 of 1 examples get another class'
    """
    alike = outputs.shape == expected.shape
    return Difference(
        largest=float(np.abs(outputs - expected).max()) if alike else float("inf"),
        allowed=tolerance * max(float(expected.std()), 1e-6),
        changed=int((outputs.argmax(axis=1) != expected.argmax(axis=1)).sum()) if alike else len(expected),
        examples=len(expected),
    )


def for_this_machine(folder: Path, sets: Sequence[str], *, run_code: bool = False) -> tuple[Model, str]:
    """A deployed model, or its fallback where 8-bit products may saturate and its outputs are seen to differ; a warning, or "".

    `sets` are this processor's instruction sets. The stored examples decide, not they: those are run only where these lack.
    """
    manifest, model = read_manifest(folder), Model(folder, run_code=run_code)
    parity = folder / "parity.npz"
    if not saturates(manifest, sets) or not parity.exists():
        return model, ""
    inputs, expected, tolerance = read_parity(parity)
    found = compare(model(inputs), expected, tolerance)
    if found.alike:
        return model, ""
    where = f"{folder} was quantised for {', '.join(absent(manifest, sets))}, absent here: {found}"
    twin = folder / FALLBACK
    if not (twin / "manifest.json").exists():
        return model, f"{where}; it holds no fallback, so do not rely on its answers on this machine"
    return Model(twin, run_code=run_code), f"{where}; {FALLBACK}/, the model before it was quantised, is used instead"


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
