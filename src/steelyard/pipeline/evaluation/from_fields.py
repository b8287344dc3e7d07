"""Detection, segmentation, translation, summaries and speech: each field's files, scored by its own library."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from scipy.special import ndtr

from steelyard.errors import InvalidInput
from steelyard.metrics.fields import field_metric
from steelyard.pipeline.evaluation.from_table import digest_of
from steelyard.pipeline.evaluation.request import Request
from steelyard.pipeline.job import Progress
from steelyard.records import Difference, Estimate, Evaluated, Evaluation, MetricInfo, Objective, Task, Unavailable
from steelyard.stats.multiple import holm
from steelyard.stats.quantiles import normal_critical

__all__ = ["FIELDS", "evaluate_field"]

FIELDS: tuple[Task, ...] = ("detection", "segmentation", "translation", "summary", "speech")

_LEADS: dict[Task, tuple[str, str]] = {
    "detection": ("map", "it averages over classes and over how well the boxes must fit, as the field reports it"),
    "segmentation": ("miou", "every class counts the same, however few pixels it has"),
    "translation": ("chrf", "it agrees better with people's judgement than BLEU and needs no tokeniser"),
    "summary": ("rougeL", "it rewards the reference's words in their order"),
    "speech": ("wer", "it counts the words that must be put right"),
}


def evaluate_field(request: Request, progress: Progress) -> Evaluation:
    """Score one or more models of a field. Raises `InvalidInput` for files that are not the field's."""
    task = request.task
    assert task is not None
    sources = (request.source, *request.compare)
    progress("reading the answers", None)
    data = [_read(task, source, request) for source in sources]
    score, compare = _functions(task, request)
    names = _names(sources)
    judged = []
    for name, source, one in zip(names, sources, data, strict=True):
        progress(f"{name}: scores", None)
        judged.append(_judged(task, name, source, score(one)))
    leads, why = _LEADS[task]
    quantities = list(dict.fromkeys(s.quantity for model in judged for s in model.scores))
    differences = []
    for name, other in zip(names[1:], data[1:], strict=True):
        progress(f"{name}: comparing", None)
        differences += _corrected(compare(data[0], other), names[0], name, request)
    return Evaluation(
        command=request.command,
        task=task,
        classes=(),
        metrics=tuple(_info(quantity, leads) for quantity in quantities),
        models=tuple(judged),
        objective=Objective(name=task, leads=leads, why=why),
        level=request.level,
        differences=tuple(differences),
        examples=_fingerprint(request),
    )


def _read(task: Task, source: str, request: Request) -> Any:
    if task == "detection":
        from steelyard.metrics.fields import detection

        return detection.read(_truth(request, "its annotations"), source, cluster=request.cluster)
    if task == "segmentation":
        from steelyard.metrics.fields import segmentation

        classes = request.options.get("classes")
        if not classes:
            raise InvalidInput("segmentation needs the number of classes: give --classes")
        return segmentation.read(_truth(request, "the true label maps"), source, int(classes))
    from steelyard.metrics.fields import sentences

    if request.truth is not None:
        return sentences.read_lines(source, *request.truth.split(","))
    return sentences.read_table(
        source,
        hypothesis=request.predicted or request.score or "hypothesis",
        references=tuple((request.label or "reference").split(",")),
        cluster=request.cluster,
    )


def _truth(request: Request, what: str) -> str:
    if request.truth is None:
        raise InvalidInput(f"{request.task} needs {what}: give --truth")
    return request.truth


def _functions(task: Task, request: Request) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The field's `score` and `compare` with what was asked for."""
    words: dict[str, Any] = {"level": request.level, "seed": request.seed}
    if task == "detection":
        from steelyard.metrics.fields import detection as field
    elif task == "segmentation":
        from steelyard.metrics.fields import segmentation as field  # type: ignore[no-redef]
    elif task == "speech":
        from steelyard.metrics.fields import speech as field  # type: ignore[no-redef]
    else:
        from steelyard.metrics.fields import text as field  # type: ignore[no-redef]

        words["metrics"] = request.metrics or (field.SUMMARIES if task == "summary" else field.TRANSLATION)  # type: ignore[attr-defined]
        words["tokenizer"] = str(request.options.get("tokenizer") or "13a")
    return (
        lambda one: field.score(one, **words),
        lambda one, other: field.compare(one, other, **words),
    )


def _judged(task: Task, name: str, source: str, scores: Sequence[Estimate | Unavailable]) -> Evaluated:
    leads = _LEADS[task][0]
    ordered = sorted(scores, key=lambda s: s.quantity != leads)
    n = max((s.n for s in scores if isinstance(s, Estimate)), default=0)
    path = Path(source)
    digest = digest_of(path) if path.is_file() else ""
    return Evaluated(name=name, source=source, digest=digest, n=n, scores=tuple(ordered))


def _names(sources: Sequence[str]) -> list[str]:
    stems = [Path(s).stem for s in sources]
    return [source if stems.count(stem) > 1 else stem for source, stem in zip(sources, stems, strict=True)]


def _info(quantity: str, leads: str) -> MetricInfo:
    row = field_metric(quantity)
    tag = quantity.partition("[")[2].rstrip("]")
    title = row.title.replace("of one class", f"of {tag}") if tag else row.title
    return MetricInfo(
        name=quantity, title=title, unit=row.unit, low=row.low, high=row.high, higher_is_better=row.higher_is_better,
        leads=quantity == leads,
    )  # fmt: skip


def _corrected(found: Sequence[Estimate | Unavailable], first: str, second: str, request: Request) -> list[Difference]:
    """Drops with outcomes: the bootstrap's interval is judged at the level that Holm leaves to as many metrics."""
    rows = []
    for drop in found:
        name = drop.quantity.removesuffix("_drop")
        if isinstance(drop, Unavailable):
            rows.append(Difference(metric=name, first=first, second=second, drop=drop, outcome="undefined"))
            continue
        p = _p_value(drop)
        rows.append(Difference(metric=name, first=first, second=second, drop=drop, n=drop.n, p_value=p))
    claims = iter(holm([r.p_value for r in rows if r.p_value is not None], 1 - request.level))
    return [_decided(row, next(claims)) if row.p_value is not None else row for row in rows]


def _p_value(drop: Estimate) -> float:
    """Two-sided p of "no difference", taking the bootstrap's interval as that of a normal estimate."""
    side = drop.value - drop.low if drop.value > 0 else drop.high - drop.value
    error = side / normal_critical(drop.level)
    return float(2 * ndtr(-abs(drop.value) / error)) if error > 0 and math.isfinite(error) else 1.0


def _decided(row: Difference, claim: Any) -> Difference:
    assert isinstance(row.drop, Estimate)
    outcome = row.outcome
    if claim.rejected:
        outcome = "worse" if row.drop.value > 0 else "better"
    return dataclasses.replace(row, adjusted=claim.adjusted, outcome=outcome)


def _fingerprint(request: Request) -> str:
    path = Path(request.truth) if request.truth is not None else Path(request.source)
    content = path.read_bytes() if path.is_file() else str(path).encode()
    return hashlib.sha256(content + str(request.label).encode()).hexdigest()[:16]
