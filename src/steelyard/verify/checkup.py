"""A delivered folder on the machine where it will live: is it whole, does it give the same answers, how fast is it here?"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steelyard.errors import CannotApply, InvalidInput, MissingExtra, WorkerFailed
from steelyard.measure.process import Limits
from steelyard.measure.weigh import WeighSettings, weigh
from steelyard.probe.host import environment
from steelyard.records import Measurement, Sample, Step
from steelyard.subject.artifact import (
    FALLBACK,
    Artifact,
    Manifest,
    model_files,
    read_artifact,
    read_manifest,
    refuse_code,
)
from steelyard.subject.encoder import carried
from steelyard.verify.target import (
    absent,
    difference,
    lacking,
    other_versions,
    pins,
    quantises,
    saturates,
    stored_inputs,
)

__all__ = ["Check", "Checkup", "check_folder"]

Outcome = Literal["passed", "failed", "noted"]
Say = Callable[[str], None]


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
    folder: Path,
    *,
    seconds: float = 5.0,
    limits: Limits | None = None,
    on_step: Say | None = None,
    sets: Sequence[str] | None = None,
) -> Checkup:
    """Integrity, packages, instruction sets, parity and cost of a delivered folder, in a fresh process.

    Where the outputs differ, the folder's fallback is tried too, and named if it keeps its own. `sets` are this
    processor's instruction sets. Raises `InvalidInput` where the folder holds no artifact or no example inputs to run it on.
    """
    manifest, artifact = read_manifest(folder), read_artifact(folder)
    refuse_code(artifact)
    if not (folder / "parity.npz").exists():
        raise InvalidInput(f"{folder} holds no example inputs (parity.npz): it was not written by a finished run")
    sets = environment().instruction_sets if sets is None else sets
    checks = [_integrity(folder, manifest), *_packages(manifest), _instructions(manifest, sets)]
    if any(check.outcome == "failed" for check in checks):
        return Checkup(checks=tuple(checks), measured=None)
    measured: Measurement | None = None
    try:
        measured = _weigh(artifact, seconds, limits, on_step)
    except MissingExtra as missing:
        checks.append(Check(name="packages", outcome="failed", detail=str(missing)))
    except WorkerFailed as failure:
        found = _parity(folder, limits, on_step) if failure.kind == "parity" else []
        checks += found or [Check(name="runs here", outcome="failed", detail=str(failure))]
    except CannotApply as failure:
        checks.append(Check(name="runs here", outcome="failed", detail=str(failure)))
    else:
        same = "as the model it was saved from, in a clean process"
        checks += [Check(name="same outputs", outcome="passed", detail=same), _latency(manifest, measured)]
    return Checkup(checks=tuple(checks), measured=measured)


def _weigh(artifact: Artifact, seconds: float, limits: Limits | None, say: Say | None) -> Measurement:
    settings = WeighSettings(
        warm_s=0.2 * seconds, latency_s=0.5 * seconds, sweep=(1, 4, 16), sweep_s=0.1 * seconds, count=False
    )
    with stored_inputs(artifact.folder) as examples:
        return weigh(artifact, examples, settings, limits=limits, on_step=say)


def _integrity(folder: Path, manifest: Manifest) -> Check:
    files = [*model_files(folder), *carried(folder)]
    found = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    changed = [name for name, digest in manifest.files.items() if found.get(name) != digest]
    if not manifest.files:
        return Check(name="files", outcome="noted", detail="the manifest lists no checksums")
    if changed:
        return Check(
            name="files", outcome="failed", detail=f"{', '.join(changed)} changed since delivery: deliver again"
        )
    return Check(name="files", outcome="passed", detail=f"{len(found)} file(s) as delivered")


def _packages(manifest: Manifest) -> Iterable[Check]:
    """What is missing, with the line that brings it; other versions than at delivery. None where the manifest names none."""
    missing, other = lacking(manifest.packages), other_versions(manifest.packages)
    if missing:
        line = f"pip install {' '.join(pins(missing))}"
        yield Check(name="packages", outcome="failed", detail=f"{', '.join(missing)} not installed here: {line}")
    elif other:
        words = ", ".join(f"{name} {now} here, {then} when delivered" for name, (then, now) in other.items())
        yield Check(name="packages", outcome="noted", detail=words)
    elif manifest.packages:
        words = ", ".join(f"{name} {version}" for name, version in manifest.packages.items())
        yield Check(name="packages", outcome="passed", detail=f"{words}, as when delivered")


def _instructions(manifest: Manifest, sets: Sequence[str]) -> Check:
    """INT8 made for VNNI or AMX may saturate without them, and bf16 runs emulated."""
    telling = absent(manifest, sets)
    steps = [Step(name=s.name, options=tuple(s.options.items())) for s in manifest.plan]
    narrow = any(quantises(step) or "bf16" in str(step) for step in steps)
    if not telling or not narrow:
        return Check(name="instruction sets", outcome="passed", detail="what the model was made for is here")
    made = f"made where {', '.join(telling)} was present, absent here"
    if saturates(manifest, sets):
        detail = f"{made}: sums of 8-bit products may overflow 16 bits and be cut, and they are slower; the outputs below say whether"
        return Check(name="instruction sets", outcome="noted", detail=detail)
    return Check(
        name="instruction sets", outcome="noted", detail=f"{made}: expect less speed, and check quality on this machine"
    )


def _parity(folder: Path, limits: Limits | None, say: Say | None) -> list[Check]:
    """By how much the outputs differ, and whether the fallback keeps its own here."""
    found = difference(folder, limits=limits)
    checks = [Check(name="same outputs", outcome="failed", detail=str(found))]
    if not (folder / FALLBACK / "manifest.json").exists():
        return checks
    if say is not None:
        say("trying the fallback")
    try:
        twin = difference(folder / FALLBACK, limits=limits)
    except (CannotApply, InvalidInput, WorkerFailed) as failure:
        return [*checks, Check(name=FALLBACK, outcome="failed", detail=f"does not run here either: {failure}")]
    if not twin.alike:
        return [*checks, Check(name=FALLBACK, outcome="failed", detail=str(twin))]
    detail = (
        f"the model before it was quantised gives its own outputs here: use {folder / FALLBACK}, as steelyard.load does"
    )
    return [*checks, Check(name=FALLBACK, outcome="noted", detail=detail)]


def _latency(manifest: Manifest, measured: Measurement) -> Check:
    latency = measured.get("latency_s", batch=1)
    then = manifest.evidence.get("latency_s")
    if not isinstance(latency, Sample) or not isinstance(then, int | float) or then <= 0:
        return Check(name="latency", outcome="noted", detail="nothing recorded to compare with")
    ratio = latency.value / then
    where = manifest.evidence.get("cpu", "another machine")
    detail = f"median {latency.value * 1e3:.3g} ms here, {then * 1e3:.3g} ms when delivered ({where}): {ratio:.2f}x"
    return Check(name="latency", outcome="noted", detail=detail)
