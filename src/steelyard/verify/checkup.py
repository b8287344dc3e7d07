"""A delivered folder on the machine where it will live: is it whole, does it give the same answers, how fast is it here?"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from steelyard.errors import CannotApply, InvalidInput, WorkerFailed
from steelyard.measure.process import Limits
from steelyard.measure.weigh import WeighSettings, read_parity, weigh
from steelyard.probe.host import environment
from steelyard.records import Measurement, Sample
from steelyard.subject.artifact import Manifest, model_files, read_artifact, read_manifest, refuse_code

__all__ = ["Check", "Checkup", "check_folder"]

Outcome = Literal["passed", "failed", "noted"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at."""

    name: str
    outcome: Outcome
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkup:
    """All checks, and what was measured here."""

    checks: tuple[Check, ...]
    measured: Measurement | None

    @property
    def passed(self) -> bool:
        """Whether nothing failed."""
        return all(check.outcome != "failed" for check in self.checks)


def check_folder(
    folder: Path, *, seconds: float = 5.0, limits: Limits | None = None, on_step: Callable[[str], None] | None = None
) -> Checkup:
    """Integrity, instruction sets, parity and cost of a delivered folder, in a fresh process.

    Raises `InvalidInput` where the folder holds no artifact or no example inputs to run it on.
    """
    manifest, artifact = read_manifest(folder), read_artifact(folder)
    refuse_code(artifact)
    inputs = folder / "parity.npz"
    if not inputs.exists():
        raise InvalidInput(f"{folder} holds no example inputs (parity.npz): it was not written by a finished run")
    checks = [_integrity(folder, manifest), _instructions(manifest)]
    if checks[0].outcome == "failed":
        return Checkup(checks=tuple(checks), measured=None)
    settings = WeighSettings(
        warm_s=0.2 * seconds, latency_s=0.5 * seconds, sweep=(1, 4, 16), sweep_s=0.1 * seconds, count=False
    )
    try:
        with tempfile.TemporaryDirectory() as aside:  # the delivered folder stays as it is, and may be read-only
            examples = Path(aside) / "inputs.npy"
            np.save(examples, read_parity(inputs)[0])
            measured = weigh(artifact, examples, settings, limits=limits, on_step=on_step)
    except (CannotApply, WorkerFailed) as failure:
        checks.append(Check(name="runs here", outcome="failed", detail=str(failure)))
        return Checkup(checks=tuple(checks), measured=None)
    checks.append(
        Check(name="same outputs", outcome="passed", detail="as the model it was saved from, in a clean process")
    )
    checks.append(_latency(manifest, measured))
    return Checkup(checks=tuple(checks), measured=measured)


def _integrity(folder: Path, manifest: Manifest) -> Check:
    found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in model_files(folder)}
    changed = [name for name, digest in manifest.files.items() if found.get(name) != digest]
    if not manifest.files:
        return Check(name="files", outcome="noted", detail="the manifest lists no checksums")
    if changed:
        return Check(
            name="files", outcome="failed", detail=f"{', '.join(changed)} changed since delivery: deliver again"
        )
    return Check(name="files", outcome="passed", detail=f"{len(found)} file(s) as delivered")


def _instructions(manifest: Manifest) -> Check:
    """INT8 made for VNNI or AMX may saturate without them, and bf16 runs emulated."""
    missing = sorted(set(manifest.instruction_sets) - set(environment().instruction_sets))
    telling = [m for m in missing if "vnni" in m or m.startswith("amx") or "bf16" in m]
    quantised = any(word in f"{s.name} {s.options}" for s in manifest.plan for word in ("quantize", "int8", "bf16"))
    if telling and quantised:
        detail = f"made where {', '.join(telling)} was present, absent here: expect less speed, and check quality on this machine"
        return Check(name="instruction sets", outcome="noted", detail=detail)
    return Check(name="instruction sets", outcome="passed", detail="what the model was made for is here")


def _latency(manifest: Manifest, measured: Measurement) -> Check:
    latency = measured.get("latency_s", batch=1)
    then = manifest.evidence.get("latency_s")
    if not isinstance(latency, Sample) or not isinstance(then, int | float) or then <= 0:
        return Check(name="latency", outcome="noted", detail="nothing recorded to compare with")
    ratio = latency.value / then
    where = manifest.evidence.get("cpu", "another machine")
    detail = f"median {latency.value * 1e3:.3g} ms here, {then * 1e3:.3g} ms when delivered ({where}): {ratio:.2f}x"
    return Check(name="latency", outcome="noted", detail=detail)
