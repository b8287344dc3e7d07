"""A table of two classes that is larger than memory: read in batches, counted, and forgotten (``--stream``)."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.metrics.examples import Outputs
from steelyard.metrics.families import Evidence
from steelyard.metrics.objectives import choose
from steelyard.metrics.streaming import StreamingAreas
from steelyard.metrics.table import Metric, estimate, find, info
from steelyard.pipeline.evaluation.from_table import digest_of, label_and_score
from steelyard.pipeline.evaluation.request import Request
from steelyard.pipeline.job import Progress
from steelyard.records import Estimate, Evaluated, Evaluation, Unavailable
from steelyard.stats.bootstrap import Cells
from steelyard.subject.columns import class_order

__all__ = ["evaluate_stream"]

COUNTED = ("accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1", "mcc")
AREAS = ("roc_auc", "average_precision")

_Batch = tuple[NDArray[Any], NDArray[np.float64]]  # labels as words, scores


def evaluate_stream(request: Request, progress: Progress) -> Evaluation:
    """Metrics of hard predictions with their intervals, and both areas with a guaranteed bound, in constant memory."""
    path = Path(request.source)
    _check(request, path)
    label, score = label_and_score(path, request)
    classes: tuple[str, str] | None = None
    outputs: Outputs = request.outputs
    areas = StreamingAreas("logits" if outputs == "logits" else "probabilities")
    table, seen = np.zeros((2, 2), dtype=np.int64), 0
    cut = _cut(request)
    for labels, scores in _batches(path, label, score):
        classes = classes or _classes(path, label, labels, request)
        positive = labels == classes[1]
        _check_labels(path, label, labels, positive | (labels == classes[0]), seen)
        areas.update(positive, scores)
        table += np.bincount(2 * positive + (scores >= cut), minlength=4).reshape(2, 2)
        seen += len(labels)
        progress(f"counting, {seen:,} examples so far", None)
    if classes is None:
        raise InvalidInput(f"{path} has no rows")
    return _evaluation(request, path, classes, areas, table)


def _check(request: Request, path: Path) -> None:
    if not find_spec("pyarrow"):
        raise MissingExtra("tables", needed_for="--stream")
    if not path.is_file():
        raise InvalidInput(f"no such file: {path}")
    if path.suffix not in (".csv", ".tsv", ".parquet"):
        raise InvalidInput(f"--stream reads a .csv, .tsv or .parquet file, not {path}")
    if request.outputs == "scores":
        raise InvalidInput("--stream needs probabilities or logits: scores that only rank have no fixed range")
    needs_all = {
        "--compare": request.compare, "--slice": request.slices, "--cluster": request.cluster, "--target": request.target,
        "--costs": request.costs, "--validation": request.validation, "--split": request.split, "--key": request.key,
    }  # fmt: skip
    given = next((name for name, value in needs_all.items() if value), None)
    if given is not None:
        raise InvalidInput(f"{given} needs all examples at once: leave it or --stream out")


def _cut(request: Request) -> float:
    """The threshold on the scale of the scores."""
    share = 0.5 if request.threshold is None else request.threshold
    if request.outputs != "logits":
        return share
    return float(np.log(share / (1 - share))) if 0 < share < 1 else np.inf * np.sign(share - 0.5)


def _classes(path: Path, label: str, labels: NDArray[Any], request: Request) -> tuple[str, str]:
    """(negative, positive), told by the first batch."""
    levels = class_order([str(word) for word in np.unique(labels)])
    if len(levels) == 1 and levels[0] in ("0", "1"):
        levels = ("0", "1")
    if len(levels) != 2:
        raise InvalidInput(
            f"{path}: column {label!r} holds {len(levels)} class(es) in its first rows ({', '.join(levels[:4])}): --stream judges two"
        )
    positive = request.positive or levels[1]
    if positive not in levels:
        raise InvalidInput(f"{path}: the positive class {positive!r} is not among {', '.join(levels)}")
    return (levels[0] if positive == levels[1] else levels[1]), positive


def _check_labels(path: Path, label: str, labels: NDArray[Any], known: NDArray[np.bool_], seen: int) -> None:
    if not known.all():
        row = int(np.argmin(known))
        raise InvalidInput(
            f"{path}: column {label!r} holds {str(labels[row])!r} in data row {seen + row + 1}, a third class"
        )


def _batches(path: Path, label: str, score: str) -> Iterator[_Batch]:
    """Labels and scores, some hundred thousand rows at a time."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        for batch in _arrow_batches(path, label, score):
            labels, scores = batch.column(label), batch.column(score)
            if labels.null_count or scores.null_count:
                raise InvalidInput(f"{path}: an empty cell in {label!r} or {score!r}: clean the table first")
            if pa.types.is_floating(labels.type):
                labels = pc.cast(labels, pa.int64())
            yield (
                np.asarray(pc.cast(labels, pa.string()).to_numpy(zero_copy_only=False), dtype=np.str_),
                np.asarray(pc.cast(scores, pa.float64()).to_numpy(zero_copy_only=False)),
            )
    except (OSError, pa.ArrowException) as error:
        raise InvalidInput(f"cannot read {path}: {' '.join(str(error).split())[:200]}") from None


def _arrow_batches(path: Path, label: str, score: str) -> Iterator[Any]:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow import csv

    if path.suffix == ".parquet":
        yield from pq.ParquetFile(path).iter_batches(columns=[label, score], batch_size=1 << 18)
        return
    convert = csv.ConvertOptions(
        column_types={label: pa.string(), score: pa.float64()}, include_columns=[label, score], null_values=[""]
    )
    parse = csv.ParseOptions(delimiter="\t" if path.suffix == ".tsv" else ",")
    with csv.open_csv(path, convert_options=convert, parse_options=parse) as reader:
        yield from reader


def _evaluation(
    request: Request, path: Path, classes: tuple[str, str], areas: StreamingAreas, table: NDArray[np.int64]
) -> Evaluation:
    objective = choose(request.objective, "binary")
    asked = (*request.metrics, objective.leads, *objective.others) if request.metrics else ()
    wanted = [find(word, "binary", classes) for word in (asked or (*COUNTED, *AREAS))]
    leading = find(objective.leads, "binary", classes)
    metrics = sorted(dict.fromkeys(wanted), key=lambda m: m is not leading)
    of = Evidence.counted(Cells.of(table), classes)
    scores = tuple(_score(metric, of, areas, request.level) for metric in metrics)
    n = int(table.sum())
    share = table[1].sum() / n
    notes = (f"positive class: {classes[1]} ({share:.4%} of {n:,})", *_bounds(areas))
    judged = Evaluated(
        name=path.stem, source=str(path), digest=digest_of(path), n=n, scores=scores, confusion=table, notes=notes
    )
    return Evaluation(
        command=request.command,
        task="binary",
        classes=classes,
        positive=classes[1],
        metrics=tuple(info(metric, leads=metric is leading) for metric in metrics),
        models=(judged,),
        objective=objective,
        level=request.level,
        examples=judged.digest[:16],
    )


def _score(metric: Metric, of: Evidence, areas: StreamingAreas, level: float) -> Estimate | Unavailable:
    if metric.name not in AREAS:
        if metric.name not in COUNTED:
            return Unavailable(
                quantity=metric.name, reason="not counted by --stream: leave it out to have all examples read"
            )
        return estimate(of, metric, level)
    roc = metric.name == "roc_auc"
    found, ends = areas.compute(), areas.interval(level) if roc else areas.precision_interval(level)
    if found is None or ends is None:
        return Unavailable(quantity=metric.name, reason="undefined: 0 positives, or 0 negatives")
    bounded = found.auc if roc else found.average_precision
    how = "DeLong, score" if roc else "Wilson, effective n by bootstrap"
    return Estimate(
        quantity=metric.name, unit="fraction", value=bounded.value, low=ends[0], high=ends[1], level=level,
        method=f"{how}; streamed, off by at most {bounded.error:.1e}", n=of.n,
    )  # fmt: skip


def _bounds(areas: StreamingAreas) -> Iterator[str]:
    found = areas.compute()
    if found is not None:
        for name, value in (("AUC-ROC", found.auc), ("AUC-PR", found.average_precision)):
            yield f"{name}: the exact value of these examples lies within {value.low:.7f} to {value.high:.7f}, guaranteed"
