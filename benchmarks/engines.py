"""What `optimize` delivers beside the engines called directly, all arms taking turns in one run, batch 1.

    python -m benchmarks.engines fashion --data DIR     # ResNet-18 trained on Fashion-MNIST, 28x28: latency and quality
    python -m benchmarks.engines resnet224              # ResNet-18 at 224x224: latency alone

Writes `results/engines-NAME.{md,json.gz}`: the table, and every slot's median with the environment.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import steelyard
from benchmarks.direct import DirectWorker
from steelyard.measure.process import Child
from steelyard.measure.turns import TurnSettings, log_ratios, take_turns
from steelyard.measure.weigh import predictions
from steelyard.metrics.examples import from_predictions
from steelyard.metrics.table import drop_estimate, estimate, evidence, find, pair
from steelyard.records import Estimate, encode
from steelyard.report import text
from steelyard.stats.paired import log_ratio_interval
from steelyard.subject.artifact import Artifact, read_artifact
from steelyard.subject.contract import prepare
from steelyard.subject.splits import read_split

RESULTS = Path(__file__).parent / "results"
WORKER = f"{DirectWorker.__module__}:{DirectWorker.__name__}"


@dataclass(frozen=True)
class Case:
    source: str
    require: tuple[str, ...]
    budget: str
    quality: bool
    slots: int


CASES = {
    "fashion": Case(
        "examples/fashion_mnist.py", ("accuracy drop <= 0.5%", "latency <= 0.3x"), "10m", quality=True, slots=20
    ),
    "resnet224": Case("benchmarks/subjects.py:resnet18_224", ("accuracy drop <= 10%",), "10m", quality=False, slots=10),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--data")
    parser.add_argument("--budget", help="of the search and the proof (10m)")
    parser.add_argument("--weights", help="skip the example's training")
    parser.add_argument("--out", default="runs/benchmark-engines")
    parser.add_argument("--rounds", type=int, default=10)
    options = parser.parse_args()
    case, folder = CASES[options.case], Path(options.out) / options.case
    result = steelyard.optimize(
        case.source,
        data=options.data,
        weights=options.weights,
        require=case.require,
        budget=options.budget or case.budget,
        out=folder / "run",
        progress=_say,
    )
    print(text.conclusion(result.records))
    arms = _arms(folder, result.folder)
    settings = TurnSettings(rounds=options.rounds, slots=case.slots)
    inputs = result.folder / "data" / "inputs.npy"
    turns = take_turns(arms, inputs, settings, worker=WORKER, on_round=lambda n: print(f"round {n}", flush=True))
    quality = _quality(arms, result.folder) if case.quality else {}
    words = options.case + (f" --budget {options.budget}" if options.budget else "")
    words += f" --rounds {options.rounds}" if options.rounds != parser.get_default("rounds") else ""
    if waiting := os.environ.get("OMP_WAIT_POLICY"):
        words += f"` under `OMP_WAIT_POLICY={waiting}"
    table = _table(options.case, words, turns.comparison, quality, result)
    print(table)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"engines-{options.case}.md").write_text(table)
    raw = {
        "comparison": encode(turns.comparison),
        "environment": encode(result.records.run.environment),
        "quality": quality,
    }
    with gzip.open(RESULTS / f"engines-{options.case}.json.gz", "wt") as file:
        json.dump(raw, file)


def _arms(folder: Path, run: Path) -> dict[str, Path]:
    """One JSON file per arm. Models are made from the same baseline, each by its own tool's defaults."""
    baseline = read_artifact(run / "baseline")
    made = folder / "direct"
    if not (made / "int8.xml").exists():
        made.mkdir(parents=True, exist_ok=True)
        _export(baseline, run, made)
    arms = {
        "PyTorch eager": {"kind": "eager", "model": str(baseline.folder)},
        "PyTorch eager, again (A/A)": {"kind": "eager", "model": str(baseline.folder)},
        "torch.compile": {"kind": "compiled", "model": str(baseline.folder)},
        "ONNX Runtime fp32": {"kind": "onnxruntime", "model": str(made / "fp32.onnx")},
        "ONNX Runtime INT8": {"kind": "onnxruntime", "model": str(made / "int8.onnx")},
        "OpenVINO fp32": {"kind": "openvino", "model": str(made / "fp32.onnx"), "precision": "f32"},
        "OpenVINO bf16": {"kind": "openvino", "model": str(made / "fp32.onnx"), "precision": "bf16"},
        "OpenVINO + NNCF INT8": {"kind": "openvino", "model": str(made / "int8.xml"), "precision": "f32"},
        "Steelyard": {"kind": "steelyard", "model": str(run / "best")},
    }
    paths = {}
    for number, (name, arm) in enumerate(arms.items()):
        paths[name] = made / f"arm{number}.json"
        paths[name].write_text(json.dumps(arm))
    return paths


def _export(baseline: Artifact, run: Path, made: Path) -> None:
    import nncf
    import openvino as ov
    import torch
    from onnxruntime import quantization as quant

    from steelyard.subject.engines.eager import rebuild

    calibration = prepare(baseline.contract, np.asarray(read_split(run / "data", "calibration").raw))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(rebuild(baseline), (torch.from_numpy(calibration[:1]),), made / "fp32.onnx", dynamo=True)
    name = quant.onnx_model.ONNXModel(_load(made / "fp32.onnx")).model.graph.input[0].name

    class Reader(quant.CalibrationDataReader):
        def __init__(self) -> None:
            self.rows = iter([{name: row[None]} for row in calibration])

        def get_next(self) -> dict[str, Any] | None:
            return next(self.rows, None)

    quant.quant_pre_process(str(made / "fp32.onnx"), str(made / "prepared.onnx"))
    quant.quantize_static(str(made / "prepared.onnx"), str(made / "int8.onnx"), Reader())
    model = nncf.quantize(ov.Core().read_model(made / "fp32.onnx"), nncf.Dataset([row[None] for row in calibration]))
    ov.save_model(model, made / "int8.xml")


def _load(path: Path) -> Any:
    import onnx

    return onnx.load(path)


def _quality(arms: dict[str, Path], run: Path) -> dict[str, Any]:
    """Accuracy on the whole test split, and the drop from eager on the same examples."""
    contract = read_artifact(run / "baseline").contract
    split = read_split(run / "data", "test")
    inputs = run / "data" / "test.inputs.npy"
    np.save(inputs, split.inputs(contract))
    found = {}
    for name, path in arms.items():
        with Child(WORKER) as child:
            child.call("load", folder=str(path), inputs=str(run / "data" / "inputs.npy"))
            batch = (
                100 if json.loads(path.read_text())["kind"] in ("eager", "compiled") else 1
            )  # ONNX is exported for 1
            outputs = child.call("outputs", inputs=str(inputs), batch=batch)
            found[name] = from_predictions(predictions(outputs, split.labels, contract, "test"))
    inputs.unlink()
    rows = {}
    eager = found["PyTorch eager"]
    metric = find("accuracy", eager.task, eager.classes)
    for name, made in found.items():
        accuracy = estimate(evidence(made, [metric]), metric)
        drop = drop_estimate(pair(eager, made, [metric]), metric)
        assert isinstance(accuracy, Estimate)
        assert isinstance(drop, Estimate)
        rows[name] = {
            "accuracy": accuracy.value,
            "drop": drop.value,
            "drop_low": drop.low,
            "drop_high": drop.high,
            "n": drop.n,
        }
    return rows


def _table(name: str, words: str, comparison: Any, quality: dict[str, Any], result: Any) -> str:
    host = result.records.run.environment
    versions = ", ".join(
        f"{p} {v}" for p, v in host.packages.items() if p in ("torch", "onnxruntime", "openvino", "nncf")
    )
    best = min(range(2, len(comparison.arms) - 1), key=lambda arm: float(np.mean(log_ratios(comparison, arm))))
    head = "| arm | median of one inference | times faster than eager (95 % interval) |"
    head += " accuracy | drop in points (95 % interval) |" if quality else ""
    lines = [
        f"# `{CASES[name].source}`: batch 1, all arms taking turns",
        "",
        (
            f"{host.cpu}, {host.cores} cores; {versions}. {len(comparison.seconds)} rounds of fresh processes, "
            f"{comparison.seconds.shape[1]} slots each. Made by `python -m benchmarks.engines {words}`."
        ),
        "",
        head,
        "|---|---|---|" + ("---|---|" if quality else ""),
    ]
    for arm, label in enumerate(comparison.arms):
        seconds = float(np.median(comparison.seconds[:, :, arm]))
        ratio, low, high = log_ratio_interval(log_ratios(comparison, arm))
        row = f"| {label} | {seconds * 1e3:.3f} ms | "
        row += "1" if arm == 0 else f"{1 / ratio:.2f} ({1 / high:.2f} to {1 / low:.2f})"
        if quality:
            q = quality[label]
            row += f" | {q['accuracy']:.2%} | {q['drop'] * 100:.2f} ({q['drop_low'] * 100:.2f} to {q['drop_high'] * 100:.2f})"
        lines.append(row + " |")
    against = log_ratios(comparison, "Steelyard") - log_ratios(comparison, best)
    ratio, low, high = log_ratio_interval(against)
    chosen = result.records.outcome.chosen
    lines += [
        "",
        (
            f"Delivered: `{chosen}`. Its time over that of the best direct arm ({comparison.arms[best]}): "
            f"{ratio:.3f} ({low:.3f} to {high:.3f})."
        ),
        "",
    ]
    return "\n".join(lines)


def _say(what: str, _share: float | None) -> None:
    print(what, flush=True)


if __name__ == "__main__":
    main()
