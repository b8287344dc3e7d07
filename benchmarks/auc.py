"""Exact AUC with its interval beside NumPy's sort, scikit-learn, torchmetrics and confidenceinterval, taking turns.

    python -m benchmarks.auc

10 million binary predictions (float64 probabilities, 10 % positives), one process, one thread each; every round runs
all arms in random order. The sort is `np.sort` of the scores into a new array. `confidenceinterval` ranks the examples in
a Python loop, in single precision (`compute_midrank` in its `delong.py`), and is given a tenth of them; its interval is
DeLong's on the raw scale. Logits have both signs; single-precision scores are compared with the same sort of doubles.
Seconds of the processor are kept beside those of the clock, so that a busy machine can be told from slow code. Writes
`results/auc.{md,json}`.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"  # before NumPy loads: one thread each

import numpy as np  # noqa: E402

from steelyard.probe.host import environment  # noqa: E402
from steelyard.stats.auc import auc_interval  # noqa: E402
from steelyard.stats.ranked import ranked  # noqa: E402

RESULTS = Path(__file__).parent / "results"
EXAMPLES, ROUNDS, SLOW_ROUNDS = 10_000_000, 15, 2
PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "torchmetrics", "confidenceinterval")


def main() -> None:
    labels, scores = predictions()
    arms = _arms(labels, scores)
    seconds: dict[str, list[float]] = {name: [] for name in arms}
    processor: dict[str, list[float]] = {name: [] for name in arms}
    values = {name: call() for name, (call, _) in arms.items()}  # warms up, and what each answers
    rng = np.random.default_rng(0)
    for at in range(ROUNDS):
        for which in rng.permutation(len(arms)):
            name = list(arms)[which]
            call, rounds = arms[name]
            if at < rounds:
                start, used = time.perf_counter(), time.process_time()
                call()
                seconds[name].append(time.perf_counter() - start)
                processor[name].append(time.process_time() - used)
    _write(seconds, processor, values)


def predictions() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(7)
    labels = rng.random(EXAMPLES) < 0.1
    return labels, 1 / (1 + np.exp(-(rng.normal(size=EXAMPLES) + 1.5 * labels)))


def _arms(labels: np.ndarray, scores: np.ndarray) -> dict[str, tuple[Callable[[], object], int]]:
    import torch
    from confidenceinterval import roc_auc_score as with_interval
    from sklearn.metrics import roc_auc_score
    from torchmetrics.functional.classification import binary_auroc

    torch.set_num_threads(1)
    preds, target = torch.from_numpy(scores), torch.from_numpy(labels.astype(np.int64))
    tenth = EXAMPLES // 10
    logits, narrow = np.log(scores / (1 - scores)), scores.astype(np.float32)
    few_labels, few_scores = labels[:tenth].astype(np.int64), scores[:tenth].copy()
    return {
        "np.sort of the scores": (lambda: float(np.sort(scores)[0]), ROUNDS),
        "Steelyard: exact AUC and interval": (lambda: auc_interval(ranked(labels, scores)), ROUNDS),
        "Steelyard: the same of logits": (lambda: auc_interval(ranked(labels, logits)), ROUNDS),
        "Steelyard: the same in single precision": (lambda: auc_interval(ranked(labels, narrow)), ROUNDS),
        "scikit-learn: exact AUC": (lambda: float(roc_auc_score(labels, scores)), SLOW_ROUNDS),
        "torchmetrics: exact AUC (thresholds=None)": (
            lambda: float(binary_auroc(preds, target, thresholds=None)),
            SLOW_ROUNDS,
        ),
        "confidenceinterval: AUC and interval, a tenth of the examples": (
            lambda: (
                [float(v) for v in np.ravel(with_interval(few_labels, few_scores)[0])]
                + [float(v) for v in with_interval(few_labels, few_scores)[1]]
            ),
            SLOW_ROUNDS,
        ),
    }


def _write(seconds: dict[str, list[float]], processor: dict[str, list[float]], values: dict[str, object]) -> None:
    host = environment(PACKAGES)
    of_sort = {name: _ratios(seconds, name) for name in seconds}
    rows = [
        f"| {name} | {np.median(taken):.3f} | {min(taken):.3f} to {max(taken):.3f} | {np.median(of_sort[name]):.2f} "
        f"| {np.median(processor[name]):.3f} | {np.median(_ratios(processor, name)):.2f} | {len(taken)} |"
        for name, taken in seconds.items()
    ]
    ratios, used = (_ratios(times, "Steelyard: exact AUC and interval") for times in (seconds, processor))
    shown = "; ".join(f"{name}: {value}" for name, value in values.items() if not name.startswith("np.sort"))
    table = "\n".join(
        [
            "# Exact AUC of 10 million predictions",
            "",
            f"{host.cpu}, {host.cores} cores, one thread each; arms take turns in random order, {ROUNDS} rounds.",
            f"{', '.join(f'{k} {v}' for k, v in host.packages.items())}. Made by `python -m benchmarks.auc`.",
            "",
            (
                f"Steelyard over the sort, round by round: median {np.median(ratios):.2f}, {ratios.min():.2f} to {ratios.max():.2f} by "
                f"the clock; {np.median(used):.2f}, {used.min():.2f} to {used.max():.2f} by processor time. Load {os.getloadavg()[0]:.0f} "
                "at the end."
            ),
            "",
            "| | median s | range s | times the sort | processor s | times the sort | runs |",
            "|---|---|---|---|---|---|---|",
            *rows,
            "",
            f"Values: {shown}.",
            "",
        ]
    )
    print(table)
    (RESULTS / "auc.md").write_text(table)
    raw = {
        "cpu": host.cpu,
        "cores": host.cores,
        "packages": dict(host.packages),
        "seconds": seconds,
        "processor_s": processor,
        "values": values,
    }
    (RESULTS / "auc.json").write_text(json.dumps(raw, indent=1))


def _ratios(seconds: dict[str, list[float]], name: str) -> np.ndarray:
    """An arm's times over the sort's of the same round."""
    return np.array(seconds[name]) / np.array(seconds["np.sort of the scores"][: len(seconds[name])])


if __name__ == "__main__":
    main()
