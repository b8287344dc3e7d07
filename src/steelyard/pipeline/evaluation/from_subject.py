"""From a live subject to answers: a model run on its own data, damaged data, and its predictions explained."""

from __future__ import annotations

import base64
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.measure.explain import explain, explain_texts, heat_png, picture_png
from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import WORKER
from steelyard.metrics import examples as made
from steelyard.metrics.classification import probabilities
from steelyard.metrics.examples import Examples
from steelyard.metrics.objectives import choose
from steelyard.metrics.table import Metric, estimate, evidence, find
from steelyard.pipeline.evaluation.request import Answers, Request
from steelyard.pipeline.job import Progress
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.records import Contract, Corrupted, Estimate, Overlap, Shown, SubjectSpec, Unavailable
from steelyard.subject.corruptions import corrupted, corruptions_for
from steelyard.subject.engines import Runner, load_runner
from steelyard.subject.near import near_duplicates
from steelyard.subject.splits import Encoded, Split, Splits

if TYPE_CHECKING:
    from torch import nn

__all__ = ["read_subject"]

_BATCH = 64
_MOST_TRAIN = 20_000  # training examples that the gap is measured on
_MOST_DAMAGED = 2_000  # test examples that are damaged

Ask = Callable[[Split], NDArray[Any]]  # a split to probabilities (n, classes)


def read_subject(source: str, request: Request, progress: Progress) -> Answers:
    """Run the subject on its test split (and on validation and training examples). A Python file's code is run."""
    spec = SubjectSpec(
        source=source, data=request.data, weights=request.weights, seed=request.seed, options=request.options
    )
    prepared = prepare_subject(spec, request.out, progress)
    splits, contract = prepared.splits, prepared.baseline.contract
    assert splits is not None
    with Child(WORKER, limits=Limits(), log=request.out / "workers.log") as child:
        child.call("load", folder=str(prepared.baseline.folder), inputs=str(prepared.inputs))

        def ask(split: Split) -> NDArray[Any]:
            return _outputs(child, split, contract)

        def judged(split: Split) -> Examples:
            return _examples(ask(split), split.labels, contract, request)

        progress("predicting the test split", None)
        examples = judged(splits.test)
        progress("predicting the validation split", None)
        validation = judged(splits.validation)
        progress("predicting training examples", None)
        train = judged(_some(splits.train, _MOST_TRAIN, request.seed))
        objective = choose(request.objective, examples.task)
        metric = find(objective.leads, examples.task, examples.classes)
        damaged = (
            tuple(_damaged(splits.test, contract, judged, metric, request, progress)) if request.robustness else ()
        )
    overlaps, notes = _near(splits, progress)
    return Answers(
        name=Path(source.partition(":")[0]).stem if not source.startswith("torchvision:") else source.partition(":")[2],
        source=source,
        digest=prepared.baseline.fingerprint(),
        examples=examples,
        split="test",
        validation=validation,
        validation_name="the validation split",
        train=train,
        texts=splits.test.texts,
        picture=_pictures(splits.test, contract),
        corrupted=damaged,
        explained=tuple(_explained(prepared, splits.test, examples, request, progress)) if request.explain else (),
        overlaps=(*prepared.overlaps, *overlaps),
        notes=(*prepared.warnings, *notes, f"splits: {splits.method}"),
    )


# --- answers -----------------------------------------------------------------------------------------------


def _outputs(child: Child, split: Split, contract: Contract) -> NDArray[Any]:
    parts = []
    for start in range(0, len(split), _BATCH):
        rows = np.arange(start, min(start + _BATCH, len(split)))
        parts.append(child.call("run", inputs=split.take(rows).inputs(contract)))
    return probabilities(np.concatenate(parts), contract.outputs)


def _examples(shares: NDArray[Any], labels: NDArray[np.int32], contract: Contract, request: Request) -> Examples:
    names = contract.labels or tuple(map(str, range(shares.shape[1])))
    if len(names) == 2:
        positive = 1 if request.positive is None else _place(names, request.positive)
        return made.binary(
            labels == positive,
            shares[:, positive],
            threshold=0.5 if request.threshold is None else request.threshold,
            classes=(names[1 - positive], names[positive]),
        )
    return made.multiclass(labels, shares, classes=names)


def _place(names: Sequence[str], positive: str) -> int:
    if positive not in names:
        raise InvalidInput(f"the positive class {positive!r} is not among {', '.join(names)}")
    return list(names).index(positive)


def _some(split: Split, most: int, seed: int) -> Split:
    if len(split) <= most:
        return split
    return split.take(np.sort(np.random.default_rng(seed).permutation(len(split))[:most]))


def _near(splits: Splits, progress: Progress) -> tuple[tuple[Overlap, ...], list[str]]:
    progress("looking for examples that nearly stand in two splits", None)
    try:
        return near_duplicates(splits), []
    except (MissingExtra, InvalidInput) as reason:
        return (), [f"near duplicates were not looked for: {reason}"]


# --- robustness --------------------------------------------------------------------------------------------


def _damaged(
    split: Split,
    contract: Contract,
    judged: Callable[[Split], Examples],
    metric: Metric,
    request: Request,
    progress: Progress,
) -> Iterator[Corrupted]:
    """The leading metric under every damage that fits the data, at five severities."""
    some = _some(split, _MOST_DAMAGED, request.seed)
    fitting = corruptions_for(some, contract)
    if isinstance(fitting, Unavailable):
        raise InvalidInput(f"--robustness: these examples cannot be damaged: {fitting.reason}")
    clean = _score(judged(some), metric, request)
    for count, damage in enumerate(fitting):
        yield Corrupted(name=damage.name, severity=0, score=clean)
        for severity in range(1, 6):
            done = (5 * count + severity - 1) / (5 * len(fitting))
            progress(f"damaging: {damage.name.replace('_', ' ')}", done)
            hurt = corrupted(some, damage, severity, contract=contract, seed=request.seed)
            yield Corrupted(name=damage.name, severity=severity, score=_score(judged(hurt), metric, request))


def _score(examples: Examples, metric: Metric, request: Request) -> Estimate | Unavailable:
    return estimate(evidence(examples, [metric]), metric, request.level)


# --- pictures and explanations -------------------------------------------------------------------------------


def _pictures(split: Split, contract: Contract) -> Callable[[int], str] | None:
    if split.texts is not None or not {"H", "W"} <= set(contract.layout):
        return None

    def picture(row: int) -> str:
        raw = np.asarray(split.raw[np.array([row])])[0]
        try:
            return base64.b64encode(picture_png(raw, contract.layout)).decode()
        except InvalidInput:
            return ""

    return picture


def _explained(
    prepared: Prepared, split: Split, examples: Examples, request: Request, progress: Progress
) -> Iterator[Shown]:
    """The wrong answers that the model was surest of, then the first right ones, each with what drove it."""
    progress("explaining predictions", None)
    assert examples.predicted is not None
    rows = _chosen(examples, request.explain)
    contract = prepared.baseline.contract
    runner = load_runner(prepared.baseline)
    module: nn.Module | None = getattr(runner, "module", None)
    targets = _columns(examples, contract, rows)
    part = split.take(rows)
    if part.texts is not None:
        yield from _explained_texts(runner, part, examples, rows, targets, contract)
        return
    inputs = part.inputs(contract)
    how = "integrated_gradients" if module is not None else "occlusion"
    found = explain(runner, inputs, targets, method=how, module=module, layout=contract.layout)  # type: ignore[arg-type]
    raw = np.asarray(part.raw[np.arange(len(rows))])
    for i, row in enumerate(rows):
        shown = _shown(examples, int(row), _how(found.method, found.note))
        if {"H", "W"} <= set(contract.layout):
            picture, heat = picture_png(raw[i], contract.layout), heat_png(raw[i], found.values[i], contract.layout)
            yield dataclasses.replace(
                shown, picture=base64.b64encode(picture).decode(), heat=base64.b64encode(heat).decode()
            )
        else:
            weights = tuple(float(v) for v in found.values[i].ravel())
            yield dataclasses.replace(
                shown, weights=weights, features=tuple(f"feature {j + 1}" for j in range(len(weights)))
            )


def _explained_texts(
    runner: Runner,
    part: Split,
    examples: Examples,
    rows: NDArray[np.int64],
    targets: NDArray[np.int64],
    contract: Contract,
) -> Iterator[Shown]:
    assert part.texts is not None
    if not isinstance(part.raw, Encoded):
        raise InvalidInput("texts can be explained where the subject gives encode: add it to the Subject")
    found = explain_texts(part.raw.encode, runner, part.texts, targets, dtype=contract.dtype)
    for i, row in enumerate(rows):
        pairs = zip(found.units[i], found.values[i], strict=True)
        weights = tuple(float(value) for unit, value in pairs for _ in unit)
        shown = _shown(examples, int(row), _how(found.method, found.note))
        yield dataclasses.replace(shown, text=part.texts[i], weights=weights)


def _how(method: str, note: str) -> str:
    """The method in words, once.

    >>> _how("occlusion", "occlusion: what is left out"), _how("integrated_gradients", "64 steps")
    ('occlusion: what is left out', 'integrated gradients; 64 steps')
    """
    return note if note.startswith(method) else f"{method.replace('_', ' ')}; {note}"


def _chosen(examples: Examples, count: int) -> NDArray[np.int64]:
    assert examples.scores is not None
    sure = np.abs(examples.scores - 0.5) if examples.task == "binary" else examples.scores.max(axis=1)
    wrong = np.flatnonzero(examples.predicted != examples.labels)
    right = np.flatnonzero(examples.predicted == examples.labels)
    order = [*wrong[np.argsort(-sure[wrong], kind="stable")][: (count + 1) // 2], *right]
    return np.asarray(order[:count], dtype=np.int64)


def _columns(examples: Examples, contract: Contract, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """The model's output columns of what was predicted; the positive class may stand in either."""
    assert examples.predicted is not None
    names = [examples.classes[int(p)] for p in examples.predicted[rows]]
    known = contract.labels or examples.classes
    return np.array([list(known).index(name) for name in names], dtype=np.int64)


def _shown(examples: Examples, row: int, method: str) -> Shown:
    assert examples.predicted is not None
    assert examples.scores is not None
    guess = int(examples.predicted[row])
    if examples.task == "binary":
        sure = float(examples.scores[row]) if guess == 1 else 1 - float(examples.scores[row])
    else:
        sure = float(examples.scores[row, guess])
    return Shown(
        place=f"row {row + 1}",
        true=examples.classes[int(examples.labels[row])],
        predicted=examples.classes[guess],
        confidence=sure,
        method=method,
    )
