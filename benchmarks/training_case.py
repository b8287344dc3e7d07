"""A published case of cheaper training, as a ledger: torchvision's ResNet-18, ten classes, pictures of 32x32.

    python -m benchmarks.training_case --data DIR

The case: activation checkpointing, mixed precision and channel pruning together took 40 % less memory and trained 25 %
faster. Here `steelyard ledger` measures each technique that fits this machine and all of them together, over seeds, with
steps that take turns; quality is judged on the same validation pictures, and of what is chosen on the test split. DIR
holds Fashion-MNIST's four idx files; pictures are padded to 32x32 and repeated to three channels, and `--train` of them are
trained on. Writes `results/training-case.{md,json}`, with the ledger's records beside them; a stopped one goes on.
"""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path

import numpy as np

import steelyard
from steelyard.report import ledger as words
from steelyard.report.ledger import ledger_json

RESULTS = Path(__file__).parent / "results"
SUBJECT = f"{Path(__file__).with_name('training_subject.py')}:subject"
RECIPE = ("optimiser=sgd", "lr=0.05", "weight_decay=5e-4", "batch=128")
TECHNIQUES = ("prune=0.3", "accumulate", "channels-last", "checkpoint", "amp")
TOGETHER = "prune=0.3+accumulate+channels-last"


def main() -> None:
    said = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    said.add_argument("--data", required=True, help="folder of Fashion-MNIST's idx files")
    said.add_argument("--seeds", type=int, default=3)
    said.add_argument("--epochs", type=float, default=4)
    said.add_argument("--techniques", default=",".join((*TECHNIQUES, TOGETHER)))
    said.add_argument("--pay", default="time", choices=["time", "memory", "energy"])
    said.add_argument("--budget", default="10m", help="for steps that take turns")
    said.add_argument("--out", type=Path, default=Path("runs/training-case"))
    asked = said.parse_args()
    found = steelyard.ledger(
        SUBJECT,
        asked.techniques.split(","),
        *RECIPE,
        f"epochs={asked.epochs:g}",
        data=asked.data,
        recipe="classic",
        seeds=asked.seeds,
        require="accuracy drop <= 2%",
        pay=asked.pay,
        budget=asked.budget,
        out=asked.out,
        progress=lambda what, _share: print(what, flush=True),
    )
    _write(found)


def _write(found: steelyard.Ledgered) -> None:
    document = ledger_json(found.asked, found.end)
    (RESULTS / "training-case.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    shutil.copyfile(found.folder / "records.jsonl", RESULTS / "training-case-records.jsonl")
    rows = [
        "| technique | step | training | peak memory | energy | accuracy drop | verdict |",
        "|---|---|---|---|---|---|---|",
    ]
    rows += [f"| {row.technique} | {' | '.join(words.row_cells(row))} | {row.outcome} |" for row in found.rows]
    accuracy = {
        name: np.mean([run.validation.max() for run in runs.values()])
        for name, runs in ((n, _runs(found, n)) for n in ("baseline", *(r.technique for r in found.rows)))
        if runs
    }
    best = ", ".join(f"{name} {100 * value:.1f} %" for name, value in accuracy.items())
    lines = [
        "# A published case of cheaper training",
        "",
        "Made by `python -m benchmarks.training_case`, whose first lines say how. Ratios to the baseline; under 1 is less.",
        (
            f"Intervals at {100 * found.end.level:.4g} %, so that all hold together at 95 %; {len(found.asked.seeds)} seeds; "
            f"{found.asked.environment.cpu}, {found.asked.environment.cores} cores."
        ),
        "",
        *rows,
        "",
        f"Accuracy on validation, mean over seeds: {best}.",
        "",
        words.conclusion(found.asked, found.end),
    ]
    if found.end.test_drop is not None and hasattr(found.end.test_drop, "value"):
        drop = found.end.test_drop
        lines.append(
            f"On the test split: drop {100 * drop.value:.2f} points ({100 * drop.low:.2f} to {100 * drop.high:.2f})."
        )
    (RESULTS / "training-case.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def _runs(found: steelyard.Ledgered, technique: str) -> dict[int, object]:
    from steelyard.pipeline.ledger.ledger import evidence_of
    from steelyard.store import read_ledger

    return evidence_of(read_ledger(found.folder), found.folder).runs(technique)


if __name__ == "__main__":
    main()
