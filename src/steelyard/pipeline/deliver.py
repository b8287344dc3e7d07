"""The deployable folder: a model, how to call, contain and serve it, and the evidence for it."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from steelyard import __version__
from steelyard.errors import CannotApply, WorkerFailed
from steelyard.measure.process import Child
from steelyard.measure.turns import WORKER
from steelyard.pipeline.delivery import standalone
from steelyard.pipeline.delivery.container import needed, write_container
from steelyard.pipeline.delivery.serving import write_ovms, write_triton
from steelyard.pipeline.delivery.words import readme
from steelyard.records import Measurement, Outcome, Plan, Run, Step, Trial, Verdict, Verification
from steelyard.search.attempt import Workshop, build
from steelyard.subject.artifact import FALLBACK, READINGS, Artifact, model_files, read_artifact, write_manifest
from steelyard.subject.encoder import carried, travelling
from steelyard.verify.target import quantises

__all__ = ["deliver"]

PARITY = 1e-3  # of the outputs' spread, that a baseline's outputs may differ by elsewhere


def deliver(
    shop: Workshop, run: Run, outcome: Outcome, trials: Sequence[Trial], verification: Verification | None
) -> Path:
    """Write ``best/`` beside the records: the chosen plan's artifact, or the baseline where nothing passed."""
    source = _chosen_folder(shop, outcome, trials)
    part, best = shop.root / "best.part", shop.root / "best"
    shutil.rmtree(part, ignore_errors=True)
    artifact = _copy(source, part, shop)
    twin = _twin(artifact, source, shop, run)
    if twin is not None:
        write_manifest(_copy(twin, part / FALLBACK, shop), _certificate(part / FALLBACK, run))
    name, encode = _name(run.spec.source), travelling(shop.root, part)
    document = {
        **_certificate(part, run),
        "packages": needed(artifact, run.environment),
        "evidence": _evidence(run, outcome, verification),
        "texts": shop.data is not None and (shop.data / "validation.texts.json").exists(),
        "encode": encode,
        "fallback": FALLBACK if twin is not None else None,
    }
    if artifact.engine != "eager":
        shutil.copyfile(standalone.__file__, part / "predict.py")
        write_container(part, artifact, run.environment)
        write_triton(part, artifact, name, _measured(outcome, trials))
        write_ovms(part, artifact, name)
    if artifact.contract.labels:
        (part / "labels.txt").write_text("".join(f"{label}\n" for label in artifact.contract.labels), encoding="utf-8")
    (part / "README.md").write_text(readme(artifact, outcome, document, name), encoding="utf-8")
    write_manifest(artifact, document)
    shutil.rmtree(best, ignore_errors=True)
    part.rename(best)
    return best


def _copy(source: Path, target: Path, shop: Workshop) -> Artifact:
    """The artifact's own files, with the outputs that every machine is to give: what a fresh process gives here if none are kept."""
    target.mkdir(parents=True)
    for path in (*model_files(source), *(source / name for name in ("manifest.json", "parity.npz", READINGS))):
        if path.exists():
            shutil.copyfile(path, target / path.name)
    artifact = read_artifact(target)
    if not (target / "parity.npz").exists() and artifact.engine != "eager":
        inputs = np.load(shop.inputs)
        with Child(WORKER, limits=shop.limits, log=shop.log) as child:
            child.call("load", folder=str(target), inputs=str(shop.inputs))
            outputs = child.call("run", inputs=inputs)
        np.savez(target / "parity.npz", inputs=inputs, outputs=outputs, tolerance=PARITY)
    return artifact


def _certificate(folder: Path, run: Run) -> dict[str, Any]:
    files = [*model_files(folder), *carried(folder)]
    return {
        "steelyard": __version__,
        "instruction_sets": list(run.environment.instruction_sets),
        "machine": run.environment.machine,
        "files": {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files},
    }


def _chosen_folder(shop: Workshop, outcome: Outcome, trials: Sequence[Trial]) -> Path:
    for trial in trials:
        if trial.plan == outcome.chosen and trial.artifact is not None:
            return shop.root / trial.artifact
    if read_artifact(shop.baseline).engine != "eager":
        return shop.baseline
    try:
        return build(Plan(steps=(Step(name="export"),)), shop)
    except (CannotApply, WorkerFailed):
        return shop.baseline  # it cannot be exported: weights, to be run with the user's own code


def _measured(outcome: Outcome, trials: Sequence[Trial]) -> Measurement | None:
    """What was read of the chosen candidate when it was weighed."""
    return next((trial.after for trial in trials if trial.plan == outcome.chosen), None)


# --- the model before it was quantised ---------------------------------------------------------------------


def _twin(artifact: Artifact, source: Path, shop: Workshop, run: Run) -> Path | None:
    """The chosen plan's longest beginning without 8-bit steps, if it is on disk and runs without its author's code.

    It is left out where a requirement limits the size: whoever counts bytes has no room for a second model.
    """
    steps = artifact.plan.steps
    whole = next((i for i, step in enumerate(steps) if quantises(step)), len(steps))
    if whole == len(steps) or any(r.quantity == "size" for r in run.requirements):
        return None
    before = Plan(steps=steps[:whole])
    beside = [shop.baseline, *(p for p in source.parent.iterdir() if (p / "manifest.json").exists())]
    found = next((folder for folder in beside if read_artifact(folder).plan == before), None)
    return None if found is None or read_artifact(found).engine == "eager" else found


# --- evidence ------------------------------------------------------------------------------------------------


def _name(source: str) -> str:
    """What servers call the model.

    >>> _name("nets/my net.py:subject"), _name("torchvision:resnet18"), _name("a/model.onnx")
    ('my-net', 'resnet18', 'model')
    """
    head, _, tail = source.partition(":")
    plain = tail if head == "torchvision" else Path(head).stem
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", plain).strip("-.") or "model"


def _evidence(run: Run, outcome: Outcome, verification: Verification | None) -> dict[str, Any]:
    verdicts: tuple[Verdict, ...] = ()
    measured: Measurement | None = None
    if verification is not None and outcome.chosen in verification.plans:
        place = verification.plans.index(outcome.chosen)
        verdicts, measured = verification.verdicts[place], verification.measurements[place + 1]
    elif verification is not None and not outcome.chosen.steps:
        measured = verification.measurements[0]
    latency = None if measured is None else measured.get("latency_s", batch=1)
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "plan": str(outcome.chosen),
        "source": run.spec.source,
        "test_examples": run.splits.get("test", 0),
        "latency_s": getattr(latency, "value", None),
        "cpu": run.environment.cpu,
        "requirements": [_verdict(v) for v in verdicts],
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    estimate = verdict.estimate
    shown = {} if estimate is None else {
        "value": estimate.value, "low": estimate.low, "high": estimate.high, "unit": estimate.unit,
        "level": estimate.level, "method": estimate.method, "n": estimate.n,
    }  # fmt: skip
    return {"text": verdict.requirement.text, "outcome": verdict.outcome, **shown}
