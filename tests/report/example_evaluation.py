"""Evaluations written out by hand, with the shape and noise of real ones: what the tests of their report read."""

from __future__ import annotations

import base64
import dataclasses
import math
import struct
import zlib
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.records import (
    Box,
    Corrupted,
    Curve,
    Difference,
    Environment,
    Estimate,
    Evaluated,
    Evaluation,
    Gap,
    Gate,
    MetricInfo,
    Objective,
    Overlap,
    Shown,
    SliceScore,
    Temperature,
    Threshold,
    Unavailable,
)
from steelyard.stats.proportion import tango, wilson

HOSTILE = "</script><b>ankle boot</b>"
CLOTHES = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", HOSTILE)
CORRUPTIONS = ("gaussian_noise", "shot_noise", "impulse_noise", "gaussian_blur", "brightness", "contrast", "jpeg",
               "rotation", "pixelate")  # fmt: skip

ENVIRONMENT = Environment(
    machine="7c1f20aa93be",
    cpu="Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz",
    cores=2,
    memory_bytes=8_228_000_000,
    instruction_sets=("avx2", "avx512f"),
    accelerators=(),
    platform="Linux-6.1-x86_64",
    python="3.11.9",
    packages={"numpy": "2.3.0", "scipy": "1.16.0"},
    time="2026-05-04T10:20:30+00:00",
)

INFOS = {
    info.name: info
    for info in (
        MetricInfo(name="accuracy", title="Accuracy", unit="fraction", low=0, high=1, higher_is_better=True),
        MetricInfo(
            name="balanced_accuracy", title="Balanced accuracy", unit="fraction", low=0, high=1, higher_is_better=True
        ),
        MetricInfo(name="precision", title="Precision", unit="fraction", low=0, high=1, higher_is_better=True),
        MetricInfo(name="recall", title="Recall", unit="fraction", low=0, high=1, higher_is_better=True),
        MetricInfo(name="f1", title="F1", unit="fraction", low=0, high=1, higher_is_better=True),
        MetricInfo(name="macro_f1", title="F1, macro", unit="fraction", low=0, high=1, higher_is_better=True),
        MetricInfo(name="micro_f1", title="F1, micro", unit="fraction", low=0, high=1, higher_is_better=True),
        MetricInfo(name="mcc", title="Matthews correlation", unit="", low=-1, high=1, higher_is_better=True),
        MetricInfo(name="auc", title="Area under the ROC curve", unit="fraction", low=0, high=1, higher_is_better=True),
        MetricInfo(
            name="average_precision", title="Average precision", unit="fraction", low=0, high=1, higher_is_better=True
        ),
        MetricInfo(name="ece", title="Calibration error", unit="fraction", low=0, high=1, higher_is_better=False),
        MetricInfo(name="brier", title="Brier score", unit="fraction", low=0, high=1, higher_is_better=False),
        MetricInfo(name="hamming_loss", title="Hamming loss", unit="fraction", low=0, high=1, higher_is_better=False),
        MetricInfo(name="log_loss", title="Log-loss", unit="nat", low=0, high=math.inf, higher_is_better=False),
        MetricInfo(name="rmse", title="Root mean squared error", unit="", low=0, high=math.inf, higher_is_better=False),
        MetricInfo(name="mae", title="Mean absolute error", unit="", low=0, high=math.inf, higher_is_better=False),
        MetricInfo(name="r2", title="Explained variance, R2", unit="", low=-math.inf, high=1, higher_is_better=True),
        MetricInfo(
            name="mape",
            title="Mean absolute percentage error",
            unit="fraction",
            low=0,
            high=math.inf,
            higher_is_better=False,
        ),
    )
}


def metrics(*names: str) -> tuple[MetricInfo, ...]:
    """The metrics' words, the first leading."""
    return tuple(dataclasses.replace(INFOS[name], leads=i == 0) for i, name in enumerate(names))


def share(quantity: str, value: float, n: int, method: str = "Wilson", level: float = 0.95) -> Estimate:
    low, high = wilson(value * n, n, level)
    return Estimate(
        quantity=quantity, unit="fraction", value=value, low=low, high=high, level=level, method=method, n=n
    )


def number(quantity: str, unit: str, value: float, half: float, n: int, method: str = "bootstrap") -> Estimate:
    return Estimate(
        quantity=quantity, unit=unit, value=value, low=value - half, high=value + half, level=0.95, method=method, n=n
    )


# --- binary ----------------------------------------------------------------------------------------


def binary() -> Evaluation:
    """A screening test: slices named and discovered, a threshold chosen elsewhere, gates of every outcome."""
    return Evaluation(
        command=("steelyard", "evaluate", "screen <v2>.csv", "--label", "y", "--score", "p", "--slice", "region"),
        task="binary",
        classes=("healthy", "ill"),
        positive="ill",
        metrics=metrics(*_SCREENING),
        models=(screening("screening-v2", 0.0),),
        objective=SCREENING,
        gates=gates("screening-v2"),
        test_uses=4,
        warnings=("12 rows had no value in column 'age'; they belong to no age slice", HOSTILE),
        environment=ENVIRONMENT,
        time="2026-05-04T10:20:30+00:00",
        version="0.2.0",
    )


_SCREENING = ("recall", "precision", "f1", "accuracy", "mcc", "auc", "average_precision", "ece", "brier", "log_loss")
SCREENING = Objective(
    name="medical-screening",
    leads="recall",
    why="a missed illness costs more than a false alarm, so the share of the ill that are found leads",
    others=("precision", "auc"),
)


def screening(name: str, shift: float) -> Evaluated:
    n, positives = 4_200, 310
    labels, scores = scored(n, positives, 1.9 + shift)
    predicted = scores >= 0.21
    table = np.zeros((2, 2), dtype=np.int64)
    np.add.at(table, (labels, predicted.astype(int)), 1)
    tp, fn, fp = int(table[1, 1]), int(table[1, 0]), int(table[0, 1])
    recall, precision, accuracy = tp / (tp + fn), tp / (tp + fp), np.trace(table) / n
    f1 = 2 * precision * recall / (precision + recall)
    return Evaluated(
        name=name,
        source=f"{name} <csv>.csv",
        digest="9f2c" * 16,
        n=n,
        scores=(
            share("recall", recall, tp + fn),
            share("precision", precision, tp + fp),
            share("f1", f1, 2 * tp + fp + fn, "Wilson, effective n by bootstrap"),
            share("accuracy", float(accuracy), n),
            number("mcc", "", f1 - 0.06, 0.034, n, "stratified bootstrap"),
            share("auc", 0.91 + shift / 10, 900, "DeLong, logit scale"),
            share("average_precision", 0.62 + shift / 5, 300, "Poisson bootstrap"),
            share("ece", 0.071, 900, "debiased, bootstrap"),
            share("brier", 0.051, 1200, "t on per-example terms"),
            number("log_loss", "nat", 0.262 - shift / 10, 0.011, n, "t on per-example losses"),
        ),
        per_class=(
            ("healthy", (share("precision", 0.984, 3700), share("recall", 0.953, 3890), share("f1", 0.968, 3800))),
            ("ill", (share("precision", precision, 430), share("recall", recall, 310), share("f1", f1, 360))),
        ),
        confusion=table,
        curves=(*ranked("", labels, scores), *reliability(labels, scores)),
        boxes=(
            box("score", "healthy", scores[labels == 0]),
            box("score", "ill", scores[labels == 1]),
            box("loss", "healthy", -np.log1p(-scores[labels == 0])),
            box("loss", "ill", -np.log(scores[labels == 1])),
        ),
        slices=slices("recall"),
        mistakes=feature_mistakes(),
        explained=(feature_explained(),),
        gaps=gaps("recall", "accuracy"),
        threshold=Threshold(
            value=0.21, target="recall >= 0.85", chosen_on="validation.csv", n=2_100, reached=share("recall", 0.86, 155)
        ),
        temperature=Temperature(
            value=1.62,
            fitted_on="validation.csv",
            n=2_100,
            before=(share("ece", 0.071, 900), share("brier", 0.051, 1200), number("log_loss", "nat", 0.262, 0.011, n)),
            after=(share("ece", 0.018, 900), share("brier", 0.047, 1200), number("log_loss", "nat", 0.231, 0.009, n)),
        ),
        notes=("scores are probabilities of 'ill'",),
    )


def scored(n: int, positives: int, distance: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Labels and scores of two normal populations so far apart, as probabilities."""
    rng = np.random.default_rng(5)
    labels = np.zeros(n, dtype=np.int64)
    labels[:positives] = 1
    return labels, 1 / (1 + np.exp(-(rng.normal(size=n) * 1.1 + labels * distance - 2.2)))


def ranked(of: str, labels: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[Curve, Curve]:
    """ROC and precision-recall points with pointwise bands."""
    order = np.argsort(-scores)
    tp, fp = np.cumsum(labels[order]), np.cumsum(1 - labels[order])
    keep = np.unique(np.linspace(0, len(labels) - 1, 160).astype(int))
    tp, fp = tp[keep], fp[keep]
    tpr, fpr, precision = tp / labels.sum(), fp / (labels == 0).sum(), tp / (tp + fp)
    wide = 1.96 * np.sqrt(tpr * (1 - tpr) / labels.sum() + 1e-5)
    fall = 1.96 * np.sqrt(precision * (1 - precision) / (tp + fp) + 1e-5)
    note = "95 % pointwise, Wilson"
    return (
        Curve(kind="roc", of=of, x=np.r_[0, fpr], y=np.r_[0, tpr], low=np.r_[0, np.clip(tpr - wide, 0, 1)],
              high=np.r_[0, np.clip(tpr + wide, 0, 1)], note=note),
        Curve(kind="pr", of=of, x=tpr, y=precision, low=np.clip(precision - fall, 0, 1),
              high=np.clip(precision + fall, 0, 1), note=note),
    )  # fmt: skip


def reliability(labels: NDArray[np.int64], scores: NDArray[np.float64]) -> tuple[Curve, ...]:
    """Bins of one tenth, before and after a temperature."""
    curves = []
    for of, right in (("", (labels == 1) & (np.arange(labels.size) % 3 > 0)), ("after temperature", labels == 1)):
        bins = np.minimum((scores * 10).astype(int), 9)
        n = np.bincount(bins, minlength=10).astype(float)
        held = n > 0
        x, y = np.bincount(bins, scores, 10)[held] / n[held], np.bincount(bins, right, 10)[held] / n[held]
        ends = np.array([wilson(a * b, b, 0.95) for a, b in zip(y, n[held], strict=True)])
        curves.append(
            Curve(
                kind="reliability", of=of, x=x, y=y, low=ends[:, 0], high=ends[:, 1], count=n[held], note="95 % Wilson"
            )
        )
    return tuple(curves)


def box(quantity: str, group: str, values: NDArray[np.float64]) -> Box:
    quantiles = np.quantile(values, (0, 0.05, 0.25, 0.5, 0.75, 0.95, 1))
    return Box(quantity=quantity, group=group, quantiles=tuple(quantiles.tolist()), n=values.size)


def slice_score(
    conditions: tuple[tuple[str, str], ...], n: int, inside: float, outside: float, *, metric: str, found: bool = False
) -> SliceScore:
    gap, half = outside - inside, 2.2 * math.sqrt(inside * (1 - inside) / n)
    p = math.erfc(abs(gap) / half * 1.96 / math.sqrt(2))
    real = abs(gap) > half
    return SliceScore(
        conditions=conditions,
        n=n,
        score=share(metric, inside, n),
        rest=share(metric, outside, 3_000),
        gap=number(f"{metric}_gap", "fraction", gap, half, n, "Newcombe"),
        p_value=p,
        adjusted=min(1.0, 9 * p),
        verdict="worse" if real and gap > 0 else "better" if real else "undecided",
        discovered=found,
    )


def slices(metric: str) -> tuple[SliceScore, ...]:
    few = SliceScore(
        conditions=(("region", "island"),),
        n=7,
        score=share(metric, 0.571, 7),
        rest=share(metric, 0.86, 4_190),
        verdict="too few",
    )
    empty = SliceScore(
        conditions=(("age", HOSTILE),),
        n=3,
        score=Unavailable(quantity=metric, reason="undefined: no example of class 'ill' in the slice"),
        rest=share(metric, 0.86, 4_190),
        verdict="too few",
    )
    return (
        slice_score((("region", "north"),), 410, 0.71, 0.874, metric=metric),
        slice_score((("age", "70 to 80"),), 520, 0.81, 0.866, metric=metric),
        slice_score((("region", "south"),), 1_300, 0.859, 0.86, metric=metric),
        slice_score((("age", "30 to 40"),), 900, 0.921, 0.85, metric=metric),
        few,
        empty,
        slice_score((("region", "north"), ("device", "mobile")), 160, 0.58, 0.872, metric=metric, found=True),
        slice_score((("device", "mobile"),), 1_450, 0.822, 0.876, metric=metric, found=True),
    )


def gaps(*names: str) -> tuple[Gap, ...]:
    made = tuple(
        Gap(
            metric=name,
            seen="train",
            unseen="test",
            on_seen=share(name, 0.93, 9_000),
            on_unseen=share(name, 0.861, 310),
            gap=number(f"{name}_gap", "fraction", 0.069, 0.038, 310, "Newcombe"),
        )
        for name in names
    )
    lost = Unavailable(quantity="log_loss", reason="unavailable: the training file has no scores")
    return (
        *made,
        Gap(
            metric="log_loss",
            seen="train",
            unseen="test",
            on_seen=lost,
            on_unseen=number("log_loss", "nat", 0.262, 0.011, 4_200),
            gap=None,
        ),
    )


def gates(model: str) -> tuple[Gate, ...]:
    def gate(
        text: str, estimate: Estimate | Unavailable, outcome: Literal["met", "broken", "undecided", "undefined"]
    ) -> Gate:
        return Gate(text=text, model=model, estimate=estimate, outcome=outcome, passed=outcome == "met")

    return (
        gate("auc >= 0.85", share("auc", 0.91, 900), "met"),
        gate("recall >= 0.9", share("recall", 0.86, 310), "broken"),
        gate("f1 >= 0.5", share("f1", 0.51, 700), "undecided"),
        gate("recall >= 0.7 on age=90", Unavailable(quantity="recall", reason="undefined: no positives"), "undefined"),
    )


def feature_mistakes() -> tuple[Shown, ...]:
    return (
        Shown(place="row 1207", true="ill", predicted="healthy", confidence=0.994),
        Shown(place="row 88", true="healthy", predicted="ill", confidence=0.981),
    )


def feature_explained() -> Shown:
    names = ("age", "blood pressure", "cholesterol", "body mass index", "smoker", "glucose", HOSTILE)
    return Shown(
        place="row 1207",
        true="ill",
        predicted="healthy",
        confidence=0.994,
        weights=(-0.31, 0.12, 0.44, -0.05, -0.62, 0.2, 0.01),
        features=names,
        method="integrated gradients, 50 steps",
    )


# --- many classes ----------------------------------------------------------------------------------


def table_of(classes: int, each: int, rng: np.random.Generator, wrong: float) -> NDArray[np.int64]:
    """A confusion table whose errors mostly hit the next two classes."""
    labels = np.repeat(np.arange(classes), each)
    miss = rng.random(labels.size) < wrong * rng.uniform(0.2, 1.9, classes)[labels]
    near = rng.random(labels.size) < 0.7
    step = np.where(near, rng.integers(1, 3, labels.size), rng.integers(1, classes, labels.size))
    table = np.zeros((classes, classes), dtype=np.int64)
    np.add.at(table, (labels, np.where(miss, (labels + step) % classes, labels)), 1)
    return table


def class_scores(names: Sequence[str], table: NDArray[np.int64]) -> tuple[Any, ...]:
    """Precision, recall and F1 of each class; a class never predicted has no precision."""
    rows = []
    for i, name in enumerate(names):
        tp, made, true = int(table[i, i]), int(table[:, i].sum()), int(table[i].sum())
        lost = Unavailable(quantity="precision", reason="undefined: the class is never predicted")
        none = Unavailable(quantity="recall", reason="undefined: no example of the class")
        rows.append(
            (
                name,
                (
                    share("precision", tp / made, made) if made else lost,
                    share("recall", tp / true, true) if true else none,
                    share("f1", 2 * tp / (made + true), made + true) if made + true else none,
                ),
            )
        )
    return tuple(rows)


def multiclass_scores(table: NDArray[np.int64]) -> tuple[Estimate | Unavailable, ...]:
    n = int(table.sum())
    accuracy = float(np.trace(table) / n)
    return (
        share("accuracy", accuracy, n),
        share("balanced_accuracy", accuracy - 0.002, n, "Wilson, effective n by bootstrap"),
        share("macro_f1", accuracy - 0.004, n, "Wilson, effective n by bootstrap"),
        share("auc", 0.985, 2_000, "DeLong, macro"),
        share("ece", 0.034, 2_000, "debiased, bootstrap"),
        number("log_loss", "nat", 0.31, 0.012, n, "t on per-example losses"),
    )


_CLOTHES = ("accuracy", "balanced_accuracy", "macro_f1", "auc", "ece", "log_loss")
BALANCED = Objective(
    name="balanced", leads="accuracy", why="all classes are about equally common and equally dear", others=("macro_f1",)
)


def clothes(name: str, seed: int, wrong: float) -> Evaluated:
    rng = np.random.default_rng(seed)
    table = table_of(10, 1_000, rng, wrong)
    one, two = scored(3_000, 300, 3.1), scored(3_000, 300, 2.2)
    return Evaluated(
        name=name,
        source=f"examples/{name}.py:model",
        digest="ab" * 32,
        n=10_000,
        split="test",
        scores=multiclass_scores(table),
        per_class=class_scores(CLOTHES, table),
        confusion=table,
        curves=(*ranked("macro", *one), *ranked("shirt", *two), *ranked("coat", *one), *reliability(*one)),
        boxes=tuple(box("confidence", c, rng.beta(9 - i / 2, 1.3, 900)) for i, c in enumerate(CLOTHES)),
        slices=slices("accuracy"),
        corrupted=corrupted(rng, float(np.trace(table) / 10_000)),
        mistakes=picture_mistakes(rng),
        explained=(picture_explained(rng),),
        gaps=gaps("accuracy"),
    )


def pictures() -> Evaluation:
    """Ten classes of clothes with pictures, robustness, explanations and a leak between splits."""
    return Evaluation(
        command=("steelyard", "evaluate", "examples/fashion.py:model", "--data", "data/fashion", "--robustness"),
        task="multiclass",
        classes=CLOTHES,
        metrics=metrics(*_CLOTHES),
        models=(clothes("fashion", 3, 0.09),),
        objective=BALANCED,
        overlaps=(
            Overlap(split="test", other="train", count=3, examples=(17, 402, 9120)),
            Overlap(
                split="test",
                other="train",
                count=11,
                kind="near",
                pairs=((5, 881), (40, 12_004)),
                method="perceptual hash, at most 2 of 64 bits apart",
            ),
        ),
        test_uses=1,
        environment=ENVIRONMENT,
        time="2026-05-04T10:20:30+00:00",
        version="0.2.0",
    )


def corrupted(rng: np.random.Generator, clean: float) -> tuple[Corrupted, ...]:
    return tuple(
        Corrupted(
            name=name,
            severity=severity,
            score=share("accuracy", max(0.1, clean - severity * loss * (1 + severity / 6)), 2_000),
        )
        for name, loss in zip(CORRUPTIONS, rng.uniform(0.003, 0.09, len(CORRUPTIONS)), strict=True)
        for severity in range(6)
    )


def png(pixels: NDArray[np.uint8]) -> str:
    """``(height, width, 3)`` as base64 PNG."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width, _ = pixels.shape
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + body).decode()


def blob(rng: np.random.Generator, tint: tuple[float, float, float] = (1, 1, 1)) -> str:
    """A picture of 28 x 28: a bright smudge."""
    y, x = np.mgrid[:28, :28]
    cx, cy, w = [*rng.uniform(10, 18, 2).tolist(), rng.uniform(4, 8)]
    light = np.exp(-((x - cx) ** 2 + (y - cy) ** 2 * rng.uniform(0.3, 1)) / w**2)[..., None] * np.array(tint) * 255
    return png(light.astype(np.uint8))


def picture_mistakes(rng: np.random.Generator) -> tuple[Shown, ...]:
    pairs = [("shirt", "t-shirt"), ("coat", "pullover"), (HOSTILE, "sneaker"), ("dress", "shirt"), ("bag", "coat")]
    return tuple(
        Shown(
            place=f"test {int(rng.integers(10_000))}",
            true=true,
            predicted=predicted,
            confidence=float(0.999 - i * 0.004),
            picture=blob(rng),
        )
        for i, (true, predicted) in enumerate(pairs * 2)
    )


def picture_explained(rng: np.random.Generator) -> Shown:
    return Shown(
        place="test 17",
        true="shirt",
        predicted="t-shirt",
        confidence=0.97,
        picture=blob(rng),
        heat=blob(rng, (0.2, 0.4, 1)),
        method="integrated gradients, 50 steps, delta 0.002",
    )


def hundred() -> Evaluation:
    """A hundred classes, one of them never predicted."""
    table = table_of(100, 100, np.random.default_rng(4), 0.24)
    table[41, 42] += table[41, 41]
    table[:, 41] = 0
    names = tuple(f"species {i:03d}" for i in range(100))
    model = Evaluated(
        name="vit-small",
        source="preds.parquet",
        digest="cd" * 32,
        n=int(table.sum()),
        scores=multiclass_scores(table),
        per_class=class_scores(names, table),
        confusion=table,
    )
    return Evaluation(
        command=("steelyard", "evaluate", "preds.parquet"),
        task="multiclass",
        classes=names,
        metrics=metrics(*_CLOTHES),
        models=(model,),
        objective=BALANCED,
        version="0.2.0",
    )


# --- regression and multi-label --------------------------------------------------------------------


def regression() -> Evaluation:
    """House prices: metrics without an upper end, and one that is undefined."""
    rng = np.random.default_rng(6)
    n = 2_044
    scores: tuple[Estimate | Unavailable, ...] = (
        number("rmse", "", 48.31, 2.2, n, "delta method, log scale"),
        number("mae", "", 31.9, 1.1, n, "t on per-example errors"),
        number("r2", "", 0.812, 0.021, n, "delta method, log(1 - R2)"),
        Unavailable(quantity="mape", reason="undefined: 3 targets are 0"),
    )
    errors = rng.exponential(32, n)
    model = Evaluated(
        name="boosted trees",
        source="prices.csv",
        digest="ef" * 32,
        n=n,
        scores=scores,
        boxes=tuple(
            box("absolute error", f"{g}", errors[i::3] * f)
            for i, (g, f) in enumerate((("flat", 0.8), ("house", 1.0), ("villa", 1.9)))
        ),
        slices=tuple(
            SliceScore(
                conditions=(("kind", kind),),
                n=600,
                score=number("rmse", "", 48 + gap, 4.0, 600),
                rest=number("rmse", "", 48, 2.5, 1_444),
                gap=number("rmse_gap", "", gap, 5.1, 600),
                p_value=p,
                adjusted=min(1, 3 * p),
                verdict=verdict,
            )
            for kind, gap, p, verdict in (
                ("villa", 41.0, 1e-9, "worse"),
                ("house", 2.1, 0.41, "undecided"),
                ("flat", -9.0, 0.0005, "better"),
            )
        ),
    )
    return Evaluation(
        command=("steelyard", "evaluate", "prices.csv", "--label", "price", "--prediction", "estimate"),
        task="regression",
        classes=(),
        metrics=metrics("rmse", "mae", "r2", "mape"),
        models=(model,),
        objective=Objective(name="regression", leads="rmse", why="large errors hurt more than many small ones"),
        test_uses=12,
        environment=ENVIRONMENT,
        version="0.2.0",
    )


def multilabel() -> Evaluation:
    """Topics of short texts, with mistakes to read and characters weighed."""
    names = ("sport", "economy", "politics", "culture", HOSTILE)
    n = 3_000
    rows = tuple(
        (c, (share("precision", 0.9 - i * 0.07, 500), share("recall", 0.84 - i * 0.09, 420 - 80 * i)))
        for i, c in enumerate(names[:-1])
    )
    lost = Unavailable(quantity="precision", reason="undefined: the label is never predicted")
    words = "The match was called off after the bank refused to <b>pay</b> the players."
    chinese = "央行宣布下调存款准备金率，股市应声上涨"
    rng = np.random.default_rng(8)
    model = Evaluated(
        name="topics",
        source="topics.npz",
        digest="0a" * 32,
        n=n,
        scores=(
            share("micro_f1", 0.83, n, "delta method"),
            share("macro_f1", 0.74, 900, "delta method"),
            share("hamming_loss", 0.061, n, "delta method"),
        ),
        per_class=(*rows, (HOSTILE, (lost, share("recall", 0.0, 12)))),
        mistakes=(
            Shown(place="line 8", true="economy", predicted="sport", confidence=0.97, text=words),
            Shown(place="line 91", true="economy", predicted="politics", confidence=0.93, text=chinese),
        ),
        explained=(
            Shown(
                place="line 8",
                true="economy",
                predicted="sport",
                confidence=0.97,
                text=words,
                weights=tuple(np.convolve(rng.normal(size=len(words) + 4), np.ones(5) / 5, "valid").tolist()),
                method="occlusion of characters",
            ),
            Shown(
                place="line 91",
                true="economy",
                predicted="politics",
                confidence=0.93,
                text=chinese,
                weights=tuple(rng.normal(size=len(chinese)).tolist()),
                method="occlusion of characters",
            ),
        ),
    )
    return Evaluation(
        command=("steelyard", "evaluate", "topics.npz"),
        task="multilabel",
        classes=names,
        metrics=metrics("micro_f1", "macro_f1", "hamming_loss"),
        models=(model,),
        objective=Objective(name="balanced", leads="micro_f1", why="each assigned label counts once"),
        version="0.2.0",
    )


# --- two models ------------------------------------------------------------------------------------


def compared() -> Evaluation:
    """Two screening tests on the same examples."""
    first, second = screening("screening-v2", 0.0), screening("screening-v3", 0.6)
    return dataclasses.replace(
        binary(),
        command=("steelyard", "evaluate", "v2.csv", "--compare", "v3.csv", "--key", "id"),
        models=(first, dataclasses.replace(second, mistakes=())),
        differences=differences(first.name, second.name),
        gates=gates(second.name)[:2],
    )


def clothes_compared() -> Evaluation:
    """Two models of ten classes, side by side."""
    old, new = clothes("fashion", 3, 0.09), clothes("fashion-wide", 3, 0.07)
    low, high = tango(310, 120, 10_000, 0.95)
    better = Difference(
        metric="accuracy",
        first=old.name,
        second=new.name,
        drop=number("accuracy_drop", "fraction", -(low + high) / 2, (high - low) / 2, 10_000, "Tango"),
        n=10_000,
        p_value=1e-12,
        adjusted=1e-12,
        outcome="better",
    )
    return dataclasses.replace(pictures(), models=(old, new), differences=(better,))


def differences(first: str, second: str) -> tuple[Difference, ...]:
    def one(metric: str, drop: Estimate | Unavailable, p: float | None, outcome: Any, **more: Any) -> Difference:
        adjusted = None if p is None else min(1.0, 4 * p)
        return Difference(
            metric=metric,
            first=first,
            second=second,
            drop=drop,
            n=more.pop("n", 4_200),
            p_value=p,
            adjusted=adjusted,
            outcome=outcome,
            **more,
        )

    def drop(metric: str, value: float, half: float, unit: str = "fraction") -> Estimate:
        return number(f"{metric}_drop", unit, value, half, 4_200, "Tango")

    return (
        one("recall", drop("recall", -0.048, 0.022), 2e-5, "better", tests=(("McNemar, exact", 3e-5), ("mid-p", 2e-5))),
        one("precision", drop("precision", 0.031, 0.018), 7e-4, "worse"),
        one(
            "f1",
            drop("f1", -0.004, 0.013),
            0.54,
            "undecided",
            advice="needs about 18,000 examples to resolve this gap",
        ),
        one("auc", drop("auc", 0.0004, 0.0031), 0.8, "equivalent"),
        one(
            "mcc",
            Unavailable(quantity="mcc_drop", reason="undefined: the first model predicts one class only"),
            None,
            "undefined",
        ),
        one("log_loss", drop("log_loss", -0.061, 0.009, "nat"), 1e-12, "better"),
        one("recall", drop("recall", 0.11, 0.082), 0.009, "worse", conditions=(("region", "north"),), n=410),
        one(
            "recall",
            drop("recall", -0.02, 0.09),
            0.66,
            "undecided",
            conditions=(("region", "south"), ("age", HOSTILE)),
            n=130,
        ),
    )


def bare() -> Evaluation:
    """One number and nothing else."""
    model = Evaluated(name="m", source="m.csv", digest="", n=30, scores=(share("accuracy", 0.9, 30),))
    return Evaluation(
        command=("steelyard", "evaluate", "m.csv"),
        task="multiclass",
        classes=("a", "b"),
        metrics=metrics("accuracy"),
        models=(model,),
        objective=BALANCED,
    )


def nothing_defined() -> Evaluation:
    """Every metric is undefined."""
    whole = bare()
    lost = Unavailable(quantity="accuracy", reason="undefined: no examples")
    model = dataclasses.replace(whole.models[0], n=0, scores=(lost,))
    return dataclasses.replace(whole, models=(model,))


def enormous(classes: int = 10_000, count: int = 500) -> Evaluation:
    """More classes, slices, mistakes and models than a page can show."""
    whole = pictures()
    rng = np.random.default_rng(9)
    names = tuple(f"class number {i}" for i in range(classes))
    table = table_of(1_200, 10, rng, 0.3)
    rows = tuple((n, (share("precision", 0.9, 40), share("recall", float(rng.uniform(0.1, 1)), 40))) for n in names)
    many = tuple(
        slice_score(
            (("shop", f"shop {i}"),), 300, float(rng.uniform(0.7, 0.95)), 0.86, metric="accuracy", found=i % 2 > 0
        )
        for i in range(count)
    )
    made = tuple(
        dataclasses.replace(
            whole.models[0],
            name=f"model {i}",
            per_class=rows,
            confusion=table,
            slices=many,
            mistakes=tuple(
                Shown(place=f"row {j}", true="a", predicted="b", confidence=0.9, text="long " * 2_000)
                for j in range(300)
            ),
            explained=(),
            curves=tuple(c for j in range(60) for c in ranked(f"class number {j}", *scored(2_000, 200, 2 + j / 40))),
            boxes=tuple(box("confidence", n, rng.random(9)) for n in names[:400]),
        )
        for i in range(3)
    )
    return dataclasses.replace(whole, classes=names, models=made)


EXAMPLES = {
    make.__name__: make
    for make in (
        binary, pictures, hundred, regression, multilabel, compared, clothes_compared, bare, nothing_defined,
    )
}  # fmt: skip
