"""Applies a plan to the baseline, in a child process; every prefix of the chain is kept and reused."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
import time
from pathlib import Path

import numpy as np

from steelyard.errors import CannotApply
from steelyard.passes import to_pass
from steelyard.passes.bench import Bench
from steelyard.passes.shared import Shared, origin
from steelyard.records import Plan, encode
from steelyard.subject.artifact import Artifact, keep_findings, read_artifact, write_manifest

__all__ = ["TRAINING", "Builder", "artifact_folder"]

TRAINING = 0.7  # of the time that is left for building


def artifact_folder(root: Path, baseline: str, plan: Plan) -> Path:
    """Where a plan's artifact lives: named by its steps and by a digest of steps and baseline weights."""
    digest = hashlib.sha256(f"{baseline} {encode(plan)}".encode()).hexdigest()[:10]
    return root / f"{'-'.join(step.name for step in plan.steps)}-{digest}"


class Builder:
    """The child's side of building (see `steelyard.measure.process`)."""

    def build(
        self,
        baseline: str,
        root: str,
        plan: Plan,
        examples: str,
        data: str | None,
        limit_s: float | None = None,
        shared: str | None = None,
    ) -> str:
        """Apply the plan's steps that are not on disk yet; the folder of the last artifact.

        Steps that train may take `TRAINING` of what is left of `limit_s`, so that the rest is done before the parent
        gives up waiting. In `shared` artifacts of other runs are found, and slow ones left for them.
        """
        deadline = None if limit_s is None else time.monotonic() + limit_s
        artifact = teacher = read_artifact(Path(baseline))
        fingerprint = artifact.fingerprint()
        inputs = np.load(examples)
        where = None if data is None else Path(data)
        pool = Shared(Path(shared), origin(artifact, Path(examples), where, limit_s)) if shared else Shared()
        for count in range(1, len(plan.steps) + 1):
            prefix = Plan(steps=plan.steps[:count])
            folder = artifact_folder(Path(root), fingerprint, prefix)
            if not (folder / "manifest.json").exists() and not pool.fetch(prefix, folder):
                began = time.monotonic()
                seconds = None if deadline is None else TRAINING * (deadline - began)
                part = folder.with_name(folder.name + ".part")
                bench = Bench(folder=part, examples=inputs, data=where, teacher=teacher, seconds=seconds)
                _apply(artifact, prefix, folder, bench)
                pool.keep(prefix, folder, time.monotonic() - began)
            artifact = read_artifact(folder)
        return str(artifact.folder)


def _apply(source: Artifact, plan: Plan, folder: Path, bench: Bench) -> None:
    """Build beside the final place and rename, so that a kill leaves no half-made artifact under its name."""
    step = plan.steps[-1]
    technique = to_pass(step)
    if source.engine not in technique.takes:
        raise CannotApply(f"{step.name} starts from {' or '.join(sorted(technique.takes))}, not from {source.engine}")
    part = bench.folder
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    built = technique.apply(source, bench)
    keep_findings(part, built.readings)
    np.savez(part / "parity.npz", inputs=bench.examples, outputs=built.outputs, tolerance=built.tolerance)
    write_manifest(dataclasses.replace(built.artifact, plan=plan))
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)
