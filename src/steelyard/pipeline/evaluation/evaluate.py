"""`steelyard evaluate`: answers to labelled examples in, an evaluation that can be trusted out."""

from __future__ import annotations

import dataclasses
import datetime
import hashlib
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from steelyard import __version__
from steelyard.errors import InvalidInput
from steelyard.metrics.examples import Examples
from steelyard.metrics.objectives import choose
from steelyard.metrics.rows import mean_cost
from steelyard.metrics.table import Metric, defaults, find, info
from steelyard.metrics.threshold import parse_costs
from steelyard.pipeline.evaluation.assess import assess
from steelyard.pipeline.evaluation.compare import aligned, compare
from steelyard.pipeline.evaluation.decide import decided, goal_of
from steelyard.pipeline.evaluation.from_fields import FIELDS, evaluate_field
from steelyard.pipeline.evaluation.from_stream import evaluate_stream
from steelyard.pipeline.evaluation.from_table import read_answers
from steelyard.pipeline.evaluation.gates import gates, limit_of
from steelyard.pipeline.evaluation.request import Answers, Request, is_subject
from steelyard.pipeline.job import Progress, silent
from steelyard.probe.host import environment
from steelyard.records import Difference, Evaluation, Objective
from steelyard.report.evaluation.page import render_evaluation
from steelyard.report.evaluation.text import metrics_json
from steelyard.store import RunFolder

__all__ = ["evaluate", "write_evaluation"]


def evaluate(request: Request, progress: Progress = silent) -> Evaluation:
    """The whole way: read, choose metric and threshold, judge each model, compare, check gates, record and render."""
    _check(request)
    with RunFolder(request.out) as folder:
        earlier = folder.evaluations()
        found = _way(request)(request, progress)
        uses = 1 + sum(e.examples == found.examples for e in earlier)
        found = dataclasses.replace(
            found,
            command=request.command,
            gates=(*found.gates, *gates(found, request)),
            test_uses=uses,
            environment=environment(),
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            version=__version__,
        )
        folder.append(found)
        progress("writing the report", None)
        write_evaluation(request.out, found)
        return found


def _way(request: Request) -> Callable[[Request, Progress], Evaluation]:
    """A field's own library, constant memory, or all that is known of the examples."""
    if request.task in FIELDS:
        return evaluate_field
    return evaluate_stream if request.stream else _evaluated


def write_evaluation(folder: Path, found: Evaluation) -> None:
    """Write ``report.html`` and ``metrics.json`` into the run folder."""
    metrics = json.dumps(metrics_json(found), indent=2, ensure_ascii=False, allow_nan=False)
    for name, content in (("report.html", render_evaluation(found)), ("metrics.json", f"{metrics}\n")):
        try:
            (folder / name).write_text(content, encoding="utf-8")
        except OSError as error:
            raise InvalidInput(f"cannot write {folder / name}: {error.strerror}; the records are safe") from None


def _check(request: Request) -> None:
    """What can be said before anything is read."""
    if not 0.5 <= request.level < 1:
        raise InvalidInput(f"--level is a confidence such as 0.95; got {request.level:g}")
    if request.threshold is not None and request.target:
        raise InvalidInput("give --threshold, or a --target that chooses it, not both")
    if request.threshold is not None and not math.isfinite(request.threshold):
        raise InvalidInput(f"--threshold is a number such as 0.5; got {request.threshold:g}")
    if request.predicted is not None and (request.threshold is not None or request.target):
        raise InvalidInput("give --predicted, or a threshold (--threshold, --target) that decides, not both")
    if request.costs:
        parse_costs(request.costs)
    if request.seed < 0:
        raise InvalidInput(f"--seed is a whole number from 0 on; got {request.seed}")
    if request.validation is not None and request.compare:
        raise InvalidInput(
            "--validation holds the answers of one model, and --compare adds others: put the validation rows into each model's own "
            "file, marked in a column 'split'"
        )
    goal_of(request, None)
    for text in (*request.fail_under, *request.require):
        limit_of(text)


# --- reading ---------------------------------------------------------------------------------------------


def _evaluated(request: Request, progress: Progress) -> Evaluation:
    progress("reading the answers", None)
    models = [_read(source, request, progress) for source in (request.source, *request.compare)]
    first = models[0]
    models = [first, *(aligned(first, other) for other in models[1:])]
    models = _named_apart(models)
    objective = choose(request.objective, first.examples.task)
    models, thresholds, warnings = decided(models, objective, request)
    first = models[0]
    metrics = _metrics(first.examples, objective, request)
    judged = []
    for model, threshold in zip(models, thresholds, strict=True):
        judged.append(assess(model, metrics, request, threshold, _saying(progress, model.name)))
    differences: tuple[Difference, ...] = ()
    if len(models) > 1:
        differences = tuple(
            d for other in models[1:] for d in compare(first, other, metrics, request, _saying(progress, other.name))
        )
    return Evaluation(
        command=request.command,
        task=first.examples.task,
        classes=first.examples.classes,
        positive=first.examples.classes[1] if first.examples.task == "binary" else "",
        metrics=tuple(info(metric, leads=metric is metrics[0]) for metric in metrics),
        models=tuple(judged),
        objective=objective,
        level=request.level,
        differences=differences,
        overlaps=tuple(dict.fromkeys(o for model in models for o in model.overlaps)),
        examples=_fingerprint(first),
        warnings=tuple(warnings),
    )


def _saying(progress: Progress, name: str) -> Callable[[str], None]:
    return lambda step: progress(f"{name}: {step}", None)


def _read(source: str, request: Request, progress: Progress) -> Answers:
    if is_subject(source):
        from steelyard.pipeline.evaluation.from_subject import read_subject  # brings what runs models

        return read_subject(source, request, progress)
    asked = {
        "--robustness": request.robustness,
        "--explain": request.explain,
        "--data": request.data,
        "--weights": request.weights,
    }
    word = next((word for word, given in asked.items() if given), None)
    if word is not None:
        raise InvalidInput(f"{word} is for a model that can be run, and {source} holds saved predictions: leave it out")
    return read_answers(Path(source), request)


def _named_apart(models: Sequence[Answers]) -> list[Answers]:
    """Files of one name in two folders are told apart by their whole paths."""
    names = [m.name for m in models]
    return [dataclasses.replace(m, name=m.source) if names.count(m.name) > 1 else m for m in models]


def _fingerprint(answers: Answers) -> str:
    labels = answers.examples.labels
    content = "\n".join(map(str, labels)).encode() if labels.dtype == object else np.ascontiguousarray(labels).tobytes()
    return hashlib.sha256(content + str(labels.shape).encode()).hexdigest()[:16]


# --- which metrics ------------------------------------------------------------------------------------------


def _metrics(examples: Examples, objective: Objective, request: Request) -> list[Metric]:
    """The leading metric, those beside it, those that were asked for, and the task's usual ones."""
    limits = [limit_of(text)[0] for text in (*request.fail_under, *request.require)]
    usual = () if request.metrics else defaults(examples.task)
    words = [objective.leads, *objective.others, *request.metrics, *limits, *usual]
    cost = _cost(examples, request)
    known = {metric.name: metric for metric in cost}
    leads, *others = dict.fromkeys(known.get(w) or find(w, examples.task, examples.classes) for w in words)
    return list(dict.fromkeys((leads, *cost, *others)))


def _cost(examples: Examples, request: Request) -> list[Metric]:
    """The mean cost on the examples that are judged, whatever chose the threshold."""
    if request.costs is None:
        return []
    if examples.task != "binary":
        raise InvalidInput(f"--costs are for two classes, and these are {examples.task} answers: leave them out")
    return [mean_cost(parse_costs(request.costs))]
