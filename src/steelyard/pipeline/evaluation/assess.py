"""One model's answers to all that is found about it: scores, curves, boxes, slices, mistakes, gaps."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.metrics import calibration, curves
from steelyard.metrics.areas import scored_classes, top_reliability
from steelyard.metrics.classification import log_losses
from steelyard.metrics.examples import Examples
from steelyard.metrics.families import Evidence
from steelyard.metrics.slices import bins, cuts, gap, judged
from steelyard.metrics.table import Metric, estimate, evidence, expect, find
from steelyard.pipeline.evaluation.request import Answers, Request
from steelyard.records import (
    Box,
    Curve,
    Estimate,
    Evaluated,
    Gap,
    Shown,
    SliceScore,
    Temperature,
    Threshold,
    Unavailable,
)
from steelyard.stats.ranked import Ranked, ranked, scores_of

__all__ = ["assess", "split_gap"]

Say = Callable[[str], None]
Floats = NDArray[np.float64]
Kind = Literal["roc", "pr"]

MOST_CLASSES = 1000  # in a confusion table that is kept whole
MOST_ROWS = 200  # classes with numbers of their own
MOST_CURVES = 6  # classes with curves of their own, the worst
MOST_POINTS = 200
MISTAKES = 12
_BY_PREVALENCE = ("precision", "average_precision", "macro_precision", "macro_average_precision")
_PREVALENCE = (
    "slices: {} is lower where positives are rarer, however good the model; where their shares differ, compare slices by recall, "
    "specificity or --objective ranking"
)
_MANY = 200_000  # examples from which threads gain more than they cost
_CHUNK = 1 << 16  # examples whose losses are added up at once: they stay in the cache
_QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)


def assess(
    answers: Answers, metrics: Sequence[Metric], request: Request, threshold: Threshold | None, say: Say
) -> Evaluated:
    """Everything about one model. `metrics` are in the order they are shown, the leading one first."""
    examples, level = answers.examples, request.level
    say("scores and curves")
    of = evidence(examples, metrics)
    asked = (partial(estimate, of, metric, level) for metric in metrics)
    *scores, lines, boxes = _side_by_side(
        [*asked, lambda: tuple(_curves(of, level)), lambda: tuple(_boxes(of))], len(examples)
    )
    say("slices")
    slices, notes = _sliced(answers, metrics[0], request)
    return Evaluated(
        name=answers.name,
        source=answers.source,
        digest=answers.digest,
        n=len(examples),
        split=answers.split,
        scores=tuple(scores),
        per_class=tuple(_per_class(of, level)),
        confusion=_confusion(of),
        curves=lines,
        boxes=boxes,
        slices=slices,
        corrupted=answers.corrupted,
        mistakes=tuple(_mistakes(answers)),
        explained=answers.explained,
        gaps=(*answers.gaps, *_train_gap(answers, metrics[0], level)),
        threshold=threshold,
        temperature=_temperature(answers, level),
        notes=(*answers.notes, *notes),
    )


def _side_by_side(jobs: Sequence[Callable[[], Any]], examples: int) -> list[Any]:
    """What the jobs give, in their order; those of many examples on two threads: NumPy lets go of the interpreter."""
    if examples < _MANY:
        return [job() for job in jobs]
    with ThreadPoolExecutor(min(2, os.cpu_count() or 1)) as pool:
        return list(pool.map(lambda job: job(), jobs))


# --- classes ---------------------------------------------------------------------------------------------


def _confusion(of: Evidence) -> NDArray[np.int64] | None:
    if of.examples.task not in ("binary", "multiclass") or len(of.examples.classes) > MOST_CLASSES:
        return None
    return of.cells.dense()


def _per_class(of: Evidence, level: float) -> Iterator[tuple[str, tuple[Estimate | Unavailable, ...]]]:
    """Precision, recall and F1 of each class; of very many, of those with the most mistakes."""
    examples = of.examples
    if examples.task != "multiclass":
        return
    counts = of.margins
    order = range(len(examples.classes))
    if len(examples.classes) > MOST_ROWS:
        order = np.argsort(-(counts.actual + counts.predicted - 2 * counts.hits), kind="stable")[:MOST_ROWS].tolist()
    rows = {
        examples.classes[place]: [
            find(f"{name}[{examples.classes[place]}]", "multiclass", examples.classes)
            for name in ("precision", "recall", "f1")
        ]
        for place in order
    }
    expect(of, [row for own in rows.values() for row in own])
    for name, own in rows.items():
        yield name, tuple(_short(estimate(of, row, level)) for row in own)


def _short(found: Estimate | Unavailable) -> Estimate | Unavailable:
    """Without the class, which the row names already."""
    return dataclasses.replace(found, quantity=found.quantity.partition("[")[0])


# --- curves ----------------------------------------------------------------------------------------------


def _curves(of: Evidence, level: float) -> Iterator[Curve]:
    examples = of.examples
    if examples.scores is None or examples.task not in ("binary", "multiclass", "multilabel"):
        return
    if examples.task == "binary":
        yield from _two_class_curves(_order(of), level)
    else:
        yield from _class_curves(examples)
    if examples.calibrated and examples.task != "multilabel":
        yield _reliability(of, level)


def _order(of: Evidence) -> Ranked:
    """Examples of two classes in the order of their scores, which areas, curves and boxes share."""
    labels, ranks = of.examples.labels, of.examples.ranks
    assert ranks is not None
    order: Ranked = of.keep("ranked", lambda: ranked(labels, ranks))
    return order


_KINDS: tuple[Kind, ...] = ("roc", "pr")
_BANDS: Mapping[Kind, Callable[..., curves.Band | None]] = {"roc": curves.roc_band_of, "pr": curves.pr_band_of}


def _two_class_curves(order: Ranked, level: float) -> Iterator[Curve]:
    for kind in _KINDS:
        line, around = curves.drawn(kind, order, MOST_POINTS), _BANDS[kind](order, level)
        if line is not None and around is not None:
            x, y = line
            low, high = (np.interp(x, around.x, side) for side in (around.low, around.high))
            note = f"{100 * level:.3g} % pointwise, by bootstrap"
            yield Curve(kind=kind, of="", x=x, y=y, low=np.minimum(low, y), high=np.maximum(high, y), note=note)


def _class_curves(examples: Examples) -> Iterator[Curve]:
    """The mean over classes at each rate, and the classes that rank worst."""
    found: list[tuple[str, dict[Kind, curves.Curve]]] = []
    for place, positive, scores in scored_classes(examples)[:MOST_ROWS]:
        roc, pr = (draw(positive, scores, most_points=MOST_POINTS) for draw in (curves.roc_curve, curves.pr_curve))
        if roc is not None and pr is not None:
            found.append((examples.classes[place], {"roc": roc, "pr": pr}))
    grid = np.linspace(0, 1, 101)
    for kind in _KINDS if found else ():
        mean = np.mean([np.interp(grid, lines[kind].x, lines[kind].y) for _, lines in found], axis=0)
        yield Curve(kind=kind, of="macro mean", x=grid, y=mean)
        for name, lines in sorted(found, key=lambda row: row[1]["roc"].area)[:MOST_CURVES]:
            yield Curve(kind=kind, of=name, x=lines[kind].x, y=lines[kind].y)


def _reliability(of: Evidence, level: float) -> Curve:
    found = of.keep("reliability", lambda: top_reliability(of.examples))
    bins = calibration.reliability_bins(found, level)
    x, y, low, high, count = np.array(
        [(b.confidence, b.accuracy, b.accuracy_low, b.accuracy_high, b.n) for b in bins], dtype=np.float64
    ).T
    return Curve(kind="reliability", of="", x=x, y=y, low=low, high=high, count=count)


# --- spread ----------------------------------------------------------------------------------------------


def _boxes(of: Evidence) -> Iterator[Box]:
    examples = of.examples
    if examples.task == "regression":
        assert examples.scores is not None
        yield _box("absolute error", "all", np.abs(examples.labels - examples.scores))
    elif examples.task in ("binary", "multiclass") and examples.scores is not None and examples.calibrated:
        sizes, means = _class_losses(examples)
        for place in np.argsort(-means, kind="stable")[:12]:
            if sizes[place]:
                yield _loss_box(of, int(place), int(sizes[place]))


def _box(quantity: str, group: str, values: Floats) -> Box:
    return Box(quantity=quantity, group=group, quantiles=tuple(np.quantile(values, _QUANTILES).tolist()), n=len(values))


def _class_losses(examples: Examples) -> tuple[NDArray[np.int64], Floats]:
    """Examples and mean loss of each class, chunk by chunk in the cache."""
    classes = len(examples.classes)
    sizes, totals = np.zeros(classes, dtype=np.int64), np.zeros(classes)
    for start in range(0, len(examples), _CHUNK):
        part = slice(start, start + _CHUNK)
        labels, losses = examples.labels[part], log_losses(_p_true(examples, part))
        if classes == 2:
            positive = int(np.count_nonzero(labels))
            sizes += (len(labels) - positive, positive)
            totals += [np.einsum("i,i->", losses, labels == place) for place in (0, 1)]  # without BLAS's threads
        else:
            sizes += np.bincount(labels, minlength=classes)
            totals += np.bincount(labels, losses, minlength=classes)
    return sizes, totals / np.maximum(sizes, 1)


def _loss_box(of: Evidence, place: int, size: int) -> Box:
    """Quantiles of a class's losses. Of many examples only those that quantiles lie between are made losses.

    A loss falls as the probability of the true class rises, so the quantiles' neighbours are found among probabilities.
    """
    at = (size - 1) * (1 - np.array(_QUANTILES))
    below, above = np.floor(at).astype(np.int64), np.ceil(at).astype(np.int64)
    low, high = np.split(log_losses(_shares_at(of, place, size, np.concatenate([below, above]))), 2)
    found = low + (high - low) * (at - below)
    return Box(quantity="loss", group=of.examples.classes[place], quantiles=tuple(found.tolist()), n=size)


def _shares_at(of: Evidence, place: int, size: int, at: NDArray[np.int64]) -> Floats:
    """The probabilities of a class's own examples at these ranks from 0, ascending; of two classes they are sorted already."""
    examples = of.examples
    if examples.task == "binary" and examples.logits is None:
        return (
            scores_of(_order(of), at, positive=True)
            if place
            else 1 - scores_of(_order(of), size - 1 - at, positive=False)
        )
    shares = _p_true(examples, examples.labels == place)
    shares.partition(np.unique(at))
    return shares[at]


def _p_true(examples: Examples, rows: slice | NDArray[np.bool_]) -> Floats:
    """The probability of the true class of these examples, in an array of its own."""
    assert examples.scores is not None
    labels, scores = examples.labels[rows], examples.scores[rows]
    if examples.task == "binary":
        return np.where(labels == 1, scores, 1 - scores)
    return np.asarray(scores[np.arange(len(labels)), labels], dtype=np.float64)


# --- slices, mistakes, gaps --------------------------------------------------------------------------------


def _sliced(answers: Answers, metric: Metric, request: Request) -> tuple[tuple[SliceScore, ...], list[str]]:
    columns = [*answers.columns]
    if answers.examples.scores is not None and answers.examples.task in ("binary", "multiclass"):
        named = {c.name for c in columns}
        asked = (s.partition("=")[::2] for s in request.slices)
        specs = [spec or "5" for name, spec in asked if name == "confidence" and name not in named]
        columns += [bins("confidence", _confidence(answers.examples), spec) for spec in specs]
    if not columns:
        return (), []
    found, left_out = cuts(columns)
    notes = [_PREVALENCE.format(metric.title)] if metric.name in _BY_PREVALENCE else []
    if left_out:
        notes.append(
            f"{left_out:,} pairs of slices were not looked at: they are smaller than the {len(found):,} that were"
        )
    return judged(answers.examples, metric, found, request.level), notes


def _confidence(examples: Examples, rows: NDArray[np.int64] | slice = slice(None)) -> Floats:
    """The probability of what was predicted."""
    assert examples.scores is not None
    assert examples.predicted is not None
    scores = examples.scores[rows]
    if examples.task == "binary":
        return np.where(examples.predicted[rows] == 1, scores, 1 - scores)
    return np.asarray(scores.max(axis=1), dtype=np.float64)


def _largest(values: Floats, most: int) -> NDArray[np.int64]:
    """Places of the largest values, the first of equals first; the rest is not sorted."""
    if len(values) <= most:
        return np.argsort(-values, kind="stable")
    least = np.partition(values, len(values) - most)[len(values) - most]
    near = np.flatnonzero(values >= least)
    return np.asarray(near[np.argsort(-values[near], kind="stable")][:most])


def _mistakes(answers: Answers) -> Iterator[Shown]:
    """The wrong answers that the model was surest of."""
    examples = answers.examples
    if examples.task == "regression":
        yield from _largest_errors(answers)
    if examples.task not in ("binary", "multiclass") or examples.predicted is None:
        return
    wrong = np.flatnonzero(examples.predicted != examples.labels)
    sure = np.zeros(len(wrong)) if examples.scores is None else _confidence(examples, wrong)
    for place in _largest(sure, MISTAKES):
        row = wrong[place]
        yield Shown(
            place=answers.place(int(row)),
            true=examples.classes[examples.labels[row]],
            predicted=examples.classes[examples.predicted[row]],
            confidence=float(sure[place]),
            picture=answers.picture(int(row)) if answers.picture is not None else "",
            text=answers.texts[int(row)] if answers.texts is not None else "",
        )


def _largest_errors(answers: Answers) -> Iterator[Shown]:
    labels, scores = answers.examples.labels, answers.examples.scores
    assert scores is not None
    for row in _largest(np.abs(labels - scores), MISTAKES):
        yield Shown(
            place=answers.place(int(row)),
            true=f"{labels[row]:.6g}",
            predicted=f"{scores[row]:.6g}",
            confidence=float("nan"),
            text=answers.texts[int(row)] if answers.texts is not None else "",
        )


def _train_gap(answers: Answers, metric: Metric, level: float) -> Iterator[Gap]:
    if answers.train is not None:
        yield split_gap(answers.train, answers.examples, metric, level, unseen=answers.split or "test")


def split_gap(seen: Examples, unseen_examples: Examples, metric: Metric, level: float, *, unseen: str) -> Gap:
    """How much better a metric is on the examples that the model was trained on (Q13)."""
    here, there = evidence(unseen_examples, [metric]), evidence(seen, [metric])
    on_seen, on_unseen = estimate(there, metric, level), estimate(here, metric, level)
    known = isinstance(on_seen, Estimate) and isinstance(on_unseen, Estimate)
    return Gap(
        metric=metric.name,
        seen="train",
        unseen=unseen,
        on_seen=on_seen,
        on_unseen=on_unseen,
        gap=gap(here, there, metric, level) if known else None,
    )


def _temperature(answers: Answers, level: float) -> Temperature | None:
    """A temperature fitted on validation examples, and what it does to calibration on those judged."""
    examples, fitted = answers.examples, answers.validation
    if fitted is None or fitted.scores is None or examples.scores is None or not examples.calibrated:
        return None
    if examples.task not in ("binary", "multiclass"):
        return None
    found = calibration.fit_temperature(fitted.scores, fitted.labels, "probabilities")
    cooled = dataclasses.replace(examples, scores=calibration.calibrated(examples.scores, found, "probabilities"))
    rows = [find(name, examples.task) for name in ("ece", "brier", "log_loss")]
    before, after = (evidence(side, rows) for side in (examples, cooled))
    return Temperature(
        value=found.value,
        fitted_on=answers.validation_name,
        n=len(fitted),
        before=tuple(estimate(before, row, level) for row in rows),
        after=tuple(estimate(after, row, level) for row in rows),
    )
