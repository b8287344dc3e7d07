"""The deployable folder: a model, how to call it, and the evidence for it."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from steelyard import __version__
from steelyard.errors import CannotApply, WorkerFailed
from steelyard.records import Contract, Outcome, Plan, Run, Step, Trial, Verdict, Verification
from steelyard.search.attempt import Workshop, build
from steelyard.subject.artifact import Artifact, model_files, read_artifact, write_manifest

__all__ = ["deliver"]

_EXTRAS = {"torch": "torch", "eager": "torch", "onnxruntime": "onnx", "openvino": "openvino"}


def deliver(
    shop: Workshop, run: Run, outcome: Outcome, trials: Sequence[Trial], verification: Verification | None
) -> Path:
    """Write ``best/`` beside the records: the chosen plan's artifact, or the baseline where nothing passed."""
    source = read_artifact(_chosen_folder(shop, outcome, trials))
    part, best = shop.root / "best.part", shop.root / "best"
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source.folder, part)
    artifact = read_artifact(part)
    evidence = _evidence(run, outcome, verification)
    (part / "README.md").write_text(_readme(artifact, outcome, evidence), encoding="utf-8")
    write_manifest(
        artifact,
        {
            "steelyard": __version__,
            "instruction_sets": list(run.environment.instruction_sets),
            "machine": run.environment.machine,
            "files": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in model_files(part)},
            "evidence": evidence,
        },
    )
    shutil.rmtree(best, ignore_errors=True)
    part.rename(best)
    return best


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


def _evidence(run: Run, outcome: Outcome, verification: Verification | None) -> dict[str, Any]:
    verdicts: tuple[Verdict, ...] = ()
    latency_s = None
    if verification is not None and outcome.chosen in verification.plans:
        place = verification.plans.index(outcome.chosen)
        verdicts = verification.verdicts[place]
        latency = verification.measurements[place + 1].get("latency_s", batch=1)
        latency_s = getattr(latency, "value", None)
    return {
        "status": outcome.status,
        "reason": outcome.reason,
        "plan": str(outcome.chosen),
        "source": run.spec.source,
        "test_examples": run.splits.get("test", 0),
        "latency_s": latency_s,
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


def _standing(outcome: Outcome) -> str:
    if outcome.chosen.steps:
        return "Every requirement was met on data that nothing had seen."
    found = "Nothing faster met every requirement" if outcome.status == "met" else "Nothing passed"
    return f"{found}; this is the baseline, unchanged."


def _readme(artifact: Artifact, outcome: Outcome, evidence: dict[str, Any]) -> str:
    contract = artifact.contract
    rows = (
        "\n".join(f"| {v['text']} | {v['outcome']} | {_span(v)} |" for v in evidence["requirements"])
        or "| none was judged | | |"
    )
    return f"""# {outcome.chosen}

{_standing(outcome)}

| requirement | outcome | evidence |
|---|---|---|
{rows}

## Call it

```python
import steelyard

model = steelyard.load(".")             # needs: pip install 'steelyard[{_EXTRAS[artifact.engine]}]'
model.predict("picture.png")            # label and probabilities
model(inputs)                           # {contract.dtype} array (n, {", ".join(map(str, contract.shape))}) -> {contract.outputs}
```

An example is prepared as `(raw * {contract.scale:.6g} - mean) / std` with mean {_list(contract, "mean")} and std {_list(contract, "std")}.
The {len(contract.labels)} outputs are, in order: {", ".join(contract.labels)}.

Without Steelyard: `{artifact.file}` is a plain {_FORMATS[artifact.engine]}.

## Check it where it will live

```
steelyard verify .
```
"""


_FORMATS = {
    "torch": "torch.export program (`torch.export.load`)",
    "eager": "PyTorch state dict for the original code",
    "onnxruntime": "ONNX file (`onnxruntime.InferenceSession`)",
    "openvino": "OpenVINO IR (`openvino.Core().compile_model`)",
}


def _span(verdict: dict[str, Any]) -> str:
    if "value" not in verdict:
        return ""
    numbers = f"{verdict['value']:.4g} ({verdict['low']:.4g} to {verdict['high']:.4g}) {verdict['unit']}"
    return f"{numbers}, {verdict['level']:.1%} {verdict['method']}, n = {verdict['n']}"


def _list(contract: Contract, name: str) -> str:
    return ", ".join(f"{v:.4g}" for v in getattr(contract, name))
