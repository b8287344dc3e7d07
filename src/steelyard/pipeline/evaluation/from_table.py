"""From a table of saved predictions to answers: which column is what, declared or plain from its name."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.metrics import examples as made
from steelyard.metrics.examples import Examples
from steelyard.metrics.slices import MOST_LEVELS, Column, bins
from steelyard.pipeline.evaluation.request import Answers, Request
from steelyard.records import Task
from steelyard.subject.columns import Table, Words, is_number, open_table

__all__ = ["digest_of", "label_and_score", "read_answers"]

LABELS = (
    "y",
    "label",
    "labels",
    "target",
    "y_true",
    "truth",
    "class",
    "true",
    "relevance",
    "reference",
    "answer",
    "bytes",
)
SCORES = (
    "p",
    "score",
    "scores",
    "prob",
    "probability",
    "y_score",
    "y_prob",
    "proba",
    "p_*",
    "prob_*",
    "score_*",
    "logit_*",
)
NUMBERS = ("y_pred", "pred", "prediction", "predicted", "y_hat", "forecast", *SCORES)
PREDICTED = ("y_pred", "pred", "prediction", "predicted", "y_hat")
KEYS = ("id", "key", "example", "example_id")
TEXTS = ("text", "sentence", "title", "review", "content")
SPLITS = ("split", "fold", "part")
_SEPARATORS = "_.-"
_BINARY_WORDS = {"0", "1", "-1", "0.0", "1.0"}
_FEW_LEVELS, _AUTO_BINS = 30, 5


def read_answers(path: Path, request: Request) -> Answers:
    """Read the columns that are needed, in one pass. Raises `InvalidInput` with the column, the row and the cure."""
    table = open_table(path)
    roles = _roles(table, request)
    with ThreadPoolExecutor(1) as beside:  # hashing lets go of the interpreter
        digest = beside.submit(digest_of, path)
        _read(table, roles, request)
        examples = _examples(table, roles, request)
    answers = Answers(
        name=path.stem,
        source=str(path),
        digest=digest.result(),
        examples=_clustered(examples, table, request),
        columns=tuple(_slices(table, roles, request, len(examples))),
        keys=table.words(roles.key) if roles.key else None,
        texts=table.words(roles.text) if roles.text else None,
        notes=tuple(_notes(examples, request)),
    )
    if answers.keys is not None:
        _check_keys(path, roles.key, answers.keys)
    return _parted(table, roles, answers) if roles.split else answers


def label_and_score(path: Path, request: Request) -> tuple[str, str]:
    """The one column of labels and the one of scores of a table of two classes, by the words or by their names."""
    roles = _roles(open_table(path), request)
    if len(roles.labels) != 1 or len(roles.scores) != 1:
        raise InvalidInput(
            f"{path}: one column of labels and one of scores are needed: name them with --label and --score"
        )
    return roles.labels[0], roles.scores[0]


def digest_of(path: Path) -> str:
    """SHA-256 of a file, read through once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# --- which column is what --------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Roles:
    labels: tuple[str, ...]
    scores: tuple[str, ...]
    predicted: tuple[str, ...]
    query: str | None
    key: str | None
    text: str | None
    split: str | None
    task: Task | None


def _roles(table: Table, request: Request) -> _Roles:
    wants_numbers = request.task in ("regression", "ranking", "language")
    labels = _columns(table, request.label) or _first(table, LABELS)
    if not labels:
        raise InvalidInput(
            f"{table.path} has no column called {', '.join(LABELS[:5])} ...: say which holds the labels with --label "
            f"(it has {', '.join(table.names[:12])})"
        )
    scores = (
        _columns(table, request.score)
        or ((), _first(table, NUMBERS if wants_numbers else SCORES))[request.predicted is None]
    )
    predicted = _columns(table, request.predicted)
    if not scores and not predicted:
        predicted = _first(table, PREDICTED)
    if not scores and not predicted:
        raise InvalidInput(
            f"{table.path} has no column called {', '.join(SCORES[:4])} or {PREDICTED[0]}: say which hold the scores with --score "
            f"(--score 'p_*' for one a class) or the predicted classes with --predicted (it has {', '.join(table.names[:12])})"
        )
    return _Roles(
        labels=labels,
        scores=scores,
        predicted=predicted,
        query=_one(table, request.query),
        key=_one(table, request.key) or _one_of(table, KEYS, labels),
        text=_one(table, request.text) or _one_of(table, TEXTS, labels),
        split=_one(table, request.split) or _one_of(table, SPLITS, labels),
        task=request.task or _plain_task(table, labels, request),
    )


def _plain_task(table: Table, labels: Sequence[str], request: Request) -> Task | None:
    """What the columns' shapes tell alone; the rest is told by their values."""
    if request.query:
        return "ranking"
    return "multilabel" if len(labels) > 1 or table.wide(labels[0]) else None


def _columns(table: Table, words: str | None) -> tuple[str, ...]:
    """Names with commas between, a ``*`` standing for the rest of a name."""
    if words is None:
        return ()
    found: list[str] = []
    for word in (w.strip() for w in words.split(",")):
        if "*" in word:
            head, _, tail = word.partition("*")
            matching = [n for n in table.names if n.startswith(head) and n.endswith(tail) and len(n) > len(word) - 1]
            if not matching:
                raise InvalidInput(
                    f"{table.path} has no column that fits {word!r}; it has {', '.join(table.names[:12])}"
                )
            found += matching
        else:
            table.check(word)
            found.append(word)
    return tuple(dict.fromkeys(found))


def _first(table: Table, names: Sequence[str]) -> tuple[str, ...]:
    lower = {n.lower(): n for n in reversed(table.names)}
    for name in names:
        if name in lower:
            return (lower[name],)
        if name.endswith("*"):
            found = tuple(n for n in table.names if n.lower().startswith(name[:-1]))
            if len(found) > 1:
                return found
    return ()


def _one(table: Table, name: str | None) -> str | None:
    if name is not None:
        table.check(name)
    return name


def _one_of(table: Table, names: Sequence[str], taken: Sequence[str]) -> str | None:
    found = _first(table, names)
    return found[0] if found and found[0] not in taken else None


def _read(table: Table, roles: _Roles, request: Request) -> None:
    """All columns at once: a large file is read through once."""
    numeric_labels = roles.task in ("multilabel", "regression", "ranking", "language")
    numbers = [*roles.scores, *(roles.labels if numeric_labels else ())]
    words = [*(() if numeric_labels else roles.labels)]
    if roles.predicted:
        (numbers if numeric_labels else words).extend(roles.predicted)
    words += [n for n in (roles.query, roles.key, roles.text, roles.split, request.cluster) if n]
    for name, spec in (part.partition("=")[::2] for part in request.slices if part not in ("auto",)):
        if name in table.names:
            (numbers if spec else words).append(name)
    table.read(numbers=list(dict.fromkeys(numbers)), words=list(dict.fromkeys(words)))


# --- examples --------------------------------------------------------------------------------------------


def _examples(table: Table, roles: _Roles, request: Request) -> Examples:
    task = roles.task or _task(table, roles)
    build = {
        "binary": _binary,
        "multiclass": _multiclass,
        "multilabel": _multilabel,
        "regression": _regression,
        "ranking": _ranking,
        "language": _language,
        "answers": _answers,
    }.get(task)
    if build is None:
        raise InvalidInput(f"{task} is not judged from a table: see steelyard evaluate --help for its files")
    _check_words(task, roles, request)
    return build(table, roles, request)


def _check_words(task: Task, roles: _Roles, request: Request) -> None:
    """Refuse what was asked for and would be left unused."""
    if request.positive is not None and task != "binary":
        raise InvalidInput(
            f"--positive {request.positive} needs two classes, and these are {task} answers: leave it out"
        )
    if request.threshold is not None and task not in ("binary", "multilabel"):
        raise InvalidInput(f"--threshold decides between two classes, and these are {task} answers: leave it out")
    if request.query is not None and task != "ranking":
        raise InvalidInput(f"--query is for a ranking, and --task {task} says that these are none: give one of the two")
    twice = next((name for name in roles.labels if name in (*roles.scores, *roles.predicted)), None)
    if twice is not None:
        raise InvalidInput(
            f"column {twice!r} is to be both the labels and the answers to them: say which are with --label and --score"
        )
    most = {"binary": 2, "multiclass": None, "multilabel": None}.get(task, 1)
    if most is not None and len(roles.scores) > most:
        raise InvalidInput(
            f"{task} answers have {'one column' if most == 1 else 'one or two columns'} of scores; got {', '.join(roles.scores[:6])}"
        )


def _task(table: Table, roles: _Roles) -> Task:
    """Told by the columns and the number of classes; --task says otherwise."""
    width = sum(_width(table, n) for n in roles.scores)
    levels = _classes(table, roles.labels[0]).levels
    if width > 1:
        return "multiclass"
    if len(levels) <= 2:
        return "binary"
    if roles.predicted:
        return "multiclass"
    if all(map(is_number, levels)):
        return "regression"
    raise InvalidInput(
        f"{table.path}: column {roles.labels[0]!r} holds {len(levels):,} classes ({', '.join(levels[:4])} ...) and {roles.scores[0]!r} "
        "is one column of scores: give one a class (--score 'p_*'), or the predicted classes (--predicted)"
    )


def _width(table: Table, name: str) -> int:
    """Columns behind one name: an array of an NPZ may hold one for each class."""
    values = table.numbers(name)
    return values.shape[1] if values.ndim == 2 else 1


def _classes(table: Table, name: str) -> Words:
    """A column of class names. What is missing is no class: an empty cell, and NaN among numbers, are refused."""
    words = table.words(name)
    numeric = any(map(is_number, words.levels))
    missing = [i for i, level in enumerate(words.levels) if not level or (numeric and level.lower() == "nan")]
    if missing:
        row = int(np.argmax(np.isin(words.codes, missing)))
        raise InvalidInput(
            f"{table.path}: column {name!r} holds {repr(words[row]) if words[row] else 'an empty cell'} in data row {row + 1}; a class "
            "is needed in every row"
        )
    return words


def _labels_and_guess(table: Table, roles: _Roles) -> tuple[Words, Words | None]:
    """The true classes, and the predicted ones where they are given; 1 and 1.0 must not stand for the same."""
    labels = _classes(table, roles.labels[0])
    guess = _classes(table, roles.predicted[0]) if roles.predicted else None
    names = dict.fromkeys((*labels.levels, *(guess.levels if guess is not None else ())))
    seen: dict[float, str] = {}
    for name in filter(is_number, names):
        other = seen.setdefault(float(name), name)
        if other != name:
            where = " and ".join(repr(c) for c in (*roles.labels, *roles.predicted))
            raise InvalidInput(
                f"{table.path}: {where} hold {other!r} and {name!r}, one number written in two ways: write each class in one"
            )
    return labels, guess


def _binary(table: Table, roles: _Roles, request: Request) -> Examples:
    labels, guess = _labels_and_guess(table, roles)
    names = _two_classes(table, roles, request, labels, guess)
    scores = table.numbers(roles.scores[0]) if roles.scores else None
    if scores is not None and scores.ndim == 2:
        if scores.shape[1] != 2:
            raise InvalidInput(f"{table.path}: {roles.scores[0]!r} has {scores.shape[1]} columns for 2 classes")
        scores = scores[:, 1]
    elif len(roles.scores) == 2:
        scores = table.numbers(_column_of(table, roles.scores, names))
    return made.binary(
        _indices(table, roles.labels[0], labels, names),
        scores,
        predicted=None if guess is None else _indices(table, roles.predicted[0], guess, names),
        outputs=request.outputs,
        threshold=0.5 if request.threshold is None else request.threshold,
        classes=names,
        stratified=request.stratified,
    )


def _two_classes(table: Table, roles: _Roles, request: Request, labels: Words, guess: Words | None) -> tuple[str, str]:
    """(negative, positive): the positive class is named, or the last in order."""
    levels = list(dict.fromkeys((*labels.levels, *(guess.levels if guess is not None else ()))))
    if len(levels) == 1 and levels[0] in _BINARY_WORDS:
        levels = ["0", "1"] if levels[0] in ("0", "1") else [levels[0], "1" if float(levels[0]) != 1 else "0"]
    if len(levels) == 1:
        raise InvalidInput(
            f"{table.path}: column {roles.labels[0]!r} holds one class only ({levels[0]!r}): quality cannot be measured on one class"
        )
    if len(levels) > 2:
        raise InvalidInput(f"{table.path}: {len(levels)} classes ({', '.join(levels[:5])}) where two were expected")
    ordered = sorted(levels, key=float) if all(map(is_number, levels)) else sorted(levels)
    positive = request.positive or ordered[-1]
    if positive not in levels:
        raise InvalidInput(f"{table.path}: the positive class {positive!r} is not among {', '.join(levels)}")
    return next(name for name in ordered if name != positive), positive


def _multiclass(table: Table, roles: _Roles, request: Request) -> Examples:
    labels, guess = _labels_and_guess(table, roles)
    if not roles.scores:
        assert guess is not None
        names = Words.of([*labels.levels, *guess.levels]).levels
        scores = None
    else:
        names = _class_names(table, roles, labels)
        scores = _stacked(table, roles.scores)
    return made.multiclass(
        _indices(table, roles.labels[0], labels, names),
        scores,
        predicted=None if guess is None else _indices(table, roles.predicted[0], guess, names),
        outputs=request.outputs,
        classes=names,
        stratified=request.stratified,
    )


def _class_names(table: Table, roles: _Roles, labels: Words) -> tuple[str, ...]:
    """Classes in the order of the score columns: by what the columns' names do not share, else by their whole names."""
    if len(roles.scores) == 1:
        width = _width(table, roles.scores[0])
        known = _npz_classes(table)
        if known:
            return known
        if all(map(is_number, labels.levels)):
            return tuple(map(str, range(width)))
        if len(labels.levels) == width:
            return labels.levels
        raise InvalidInput(
            f"{table.path}: {roles.scores[0]!r} has {width} columns and the labels {len(labels.levels)} classes: add an array "
            "'classes' with their names in order"
        )
    return _named_after(roles.scores, set(labels.levels))


def _named_after(columns: Sequence[str], classes: set[str]) -> tuple[str, ...]:
    """What the columns' names say without what they all begin with, or with as much of it as the classes have too."""
    stem = _shared_stem(columns)
    stems = [stem, *(stem[: i + 1] for i in reversed(range(len(stem) - 1)) if stem[i] in _SEPARATORS), ""]
    named = [tuple(name[len(s) :] for name in columns) for s in stems]
    return next((names for names in named if classes <= set(names)), named[0])


def _column_of(table: Table, columns: Sequence[str], names: tuple[str, str]) -> str:
    """The positive class's column, of one for each of two classes."""
    named = _named_after(columns, set(names))
    if set(named) != set(names):
        raise InvalidInput(
            f"{table.path}: the score columns {' and '.join(columns)} are not named after the classes {' and '.join(names)}: give the "
            "positive class's alone"
        )
    return columns[named.index(names[1])]


def _npz_classes(table: Table) -> tuple[str, ...]:
    if "classes" not in table.names:
        return ()
    words = table.words("classes")
    return tuple(words[i] for i in range(len(words)))


def _shared_stem(names: Sequence[str]) -> str:
    """What all names begin with, up to the last ``_``, ``.`` or ``-`` of it."""
    shortest, longest = min(names), max(names)
    same = next((i for i, (a, b) in enumerate(zip(shortest, longest, strict=False)) if a != b), len(shortest))
    stem = shortest[:same]
    return stem[: max(stem.rfind(c) for c in _SEPARATORS) + 1]


def _indices(table: Table, column: str, words: Words, names: Sequence[str]) -> NDArray[np.integer]:
    place = {name: i for i, name in enumerate(names)}
    if not any(level in place for level in words.levels) and "classes" in table.names:
        place = {str(i): i for i in range(len(names))}  # an NPZ with its classes' names apart
    places = [place.get(level, -1) for level in words.levels]
    found = words.mapped(places)
    if min(places) < 0:
        row = int(np.argmax(found < 0))
        shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
        what = repr(words[row]) if words[row] else "an empty cell"
        raise InvalidInput(
            f"{table.path}: column {column!r} holds {what} in data row {row + 1}, which is not among the classes {shown}"
        )
    return found


def _multilabel(table: Table, roles: _Roles, request: Request) -> Examples:
    labels = _stacked(table, roles.labels)
    scores = _stacked(table, roles.scores) if roles.scores else None
    guess = _stacked(table, roles.predicted) if roles.predicted else None
    for what, names, other in (("scores", roles.scores, scores), ("predictions", roles.predicted, guess)):
        if other is not None and other.shape[1] != labels.shape[1]:
            raise InvalidInput(
                f"{table.path}: {labels.shape[1]} label columns but {other.shape[1]} of {what} ({', '.join(names[:4])})"
            )
    stem = _shared_stem(roles.labels) if len(roles.labels) > 1 else ""
    names = tuple(n[len(stem) :] for n in roles.labels) if len(roles.labels) > 1 else ()
    order = _matching(table, roles.scores or roles.predicted, names)
    return made.multilabel(
        labels,
        None if scores is None else scores[:, order],
        predicted=None if guess is None else guess[:, order],
        outputs=request.outputs,
        threshold=0.5 if request.threshold is None else request.threshold,
        classes=names,
    )


def _stacked(table: Table, names: Sequence[str]) -> NDArray[np.float64]:
    columns = [table.numbers(n) for n in names]
    return columns[0] if len(columns) == 1 and columns[0].ndim == 2 else np.stack(columns, axis=1)


def _matching(table: Table, others: Sequence[str], names: Sequence[str]) -> Any:
    """Places of the other columns in the labels' order, matched by the ends of their names."""
    if len(others) < 2 or not names:
        return slice(None)
    stem = _shared_stem(others)
    short = [n[len(stem) :] for n in others]
    missing = [n for n in names if n not in short]
    if missing:
        raise InvalidInput(f"{table.path}: label {missing[0]!r} has no column among {', '.join(others[:6])}")
    return [short.index(n) for n in names]


def _regression(table: Table, roles: _Roles, _request: Request) -> Examples:
    column = (roles.scores or roles.predicted)[0]
    return made.regression(table.numbers(roles.labels[0]), table.numbers(column))


def _ranking(table: Table, roles: _Roles, _request: Request) -> Examples:
    if roles.query is None:
        raise InvalidInput("a ranking needs the query of each row: say which column holds it with --query")
    return made.ranking(table.numbers(roles.labels[0]), table.numbers(roles.scores[0]), table.words(roles.query).codes)


def _language(table: Table, roles: _Roles, _request: Request) -> Examples:
    return made.language(table.numbers(roles.scores[0]), table.numbers(roles.labels[0]))


def _answers(table: Table, roles: _Roles, _request: Request) -> Examples:
    guess, truth = table.words((roles.predicted or roles.scores)[0]), table.words(roles.labels[0])
    return made.answers([truth[i] for i in range(len(truth))], [guess[i] for i in range(len(guess))])


def _clustered(examples: Examples, table: Table, request: Request) -> Examples:
    if request.cluster is None:
        return examples
    codes = table.words(request.cluster).codes.astype(np.int64)
    if len(np.unique(codes)) < 2:
        raise InvalidInput(
            f"{table.path}: every row has the same {request.cluster!r}: clusters need two or more values"
        )
    return dataclasses.replace(examples, clusters=codes)


def _notes(examples: Examples, request: Request) -> list[str]:
    found = []
    if examples.task == "regression" and request.task is None:
        found.append(
            "the labels are numbers and the answers one column of them, so the task is regression; if they are classes, give a score "
            "column for each (--score 'p_*') or the predicted classes (--predicted)"
        )
    if (
        not examples.calibrated
        and examples.task == "binary"
        and request.threshold is None
        and request.predicted is None
    ):
        found.append("the scores only rank: 0.5 was taken as their threshold; --threshold or --target sets another")
    if examples.task == "binary":
        share = float(np.mean(examples.labels == 1))
        found.append(f"positive class: {examples.classes[1]} ({share:.2%} of {len(examples):,})" + _hint(request))
        if 0 < min(share, 1 - share) < 0.1 and request.objective is None:
            rare = "positive" if share < 0.5 else "negative"
            found.append(
                f"only {min(share, 1 - share):.1%} are {rare}: accuracy says little here, consider --objective imbalanced"
            )
    return found


def _hint(request: Request) -> str:
    return "" if request.positive else "; --positive changes it"


def _check_keys(path: Path, name: str | None, keys: Words) -> None:
    counts = np.bincount(keys.codes)
    if counts.max(initial=0) > 1:
        twice = int(np.argmax(counts))
        rows = np.flatnonzero(keys.codes == twice)[:2] + 1
        raise InvalidInput(
            f"{path}: column {name!r} holds {keys.levels[twice]!r} more than once (data rows {rows[0]} and {rows[1]}): keys must be unique"
        )


# --- slices and splits -------------------------------------------------------------------------------------


def _slices(table: Table, roles: _Roles, request: Request, rows: int) -> list[Column]:
    found = []
    for words in dict.fromkeys(request.slices):
        if words == "auto":
            found += _automatic(table, roles, request, rows)
            continue
        name, _, spec = words.partition("=")
        if name == "confidence" and name not in table.names:
            continue  # of the model, not of the table: made when it is judged
        table.check(name)
        found.append(_ranges(table, name, spec) if spec else _by_value(table, name))
    return found


def _by_value(table: Table, name: str) -> Column:
    words = table.words(name)
    if len(words.levels) > MOST_LEVELS:
        raise InvalidInput(
            f"{table.path}: column {name!r} holds {len(words.levels):,} values, too many to slice by: give ranges ({name}=10) if "
            "they are numbers, or a column of fewer"
        )
    return _column(name, words)


def _column(name: str, words: Words) -> Column:
    return Column(
        name=name, codes=words.codes.astype(np.int64), levels=tuple(level or "(empty)" for level in words.levels)
    )


def _ranges(table: Table, name: str, spec: str) -> Column:
    values = table.numbers(name)
    _check_finite(table, name, values)
    try:
        return bins(name, values, spec)
    except ValueError:
        raise InvalidInput(
            f"cannot read the slice '{name}={spec}': write {name}=10 for ten ranges, or {name}=18,40,65 for their edges"
        ) from None


def _check_finite(table: Table, name: str, values: NDArray[np.float64]) -> None:
    bad = np.flatnonzero(~np.isfinite(values))
    if len(bad):
        raise InvalidInput(
            f"{table.path}: column {name!r} holds {values[bad[0]]} in data row {bad[0] + 1}, which no range holds: clean it first"
        )


def _automatic(table: Table, roles: _Roles, request: Request, rows: int) -> list[Column]:
    """Every column that is nothing else: words of few values as they are, numbers as five ranges."""
    taken = {
        *roles.labels,
        *roles.scores,
        *roles.predicted,
        roles.key,
        roles.text,
        roles.split,
        roles.query,
        request.cluster,
    }
    left = [n for n in table.names if n not in taken and table.has_rows(n, rows)]
    table.read(words=left)
    found = []
    for name in left:
        words = table.words(name)
        if 2 <= len(words.levels) <= _FEW_LEVELS:
            found.append(_column(name, words))
        elif len(words.levels) > _FEW_LEVELS and all(map(is_number, words.levels)):
            found.append(_ranges(table, name, str(_AUTO_BINS)))
    return found


def _parted(table: Table, roles: _Roles, answers: Answers) -> Answers:
    """The rows of the test split are judged; validation and training rows, where there are some, help."""
    assert roles.split is not None
    words = table.words(roles.split)
    names = {"val": "validation", "valid": "validation", "dev": "validation", "training": "train"}
    kinds = np.array([names.get(level.lower(), level.lower()) for level in words.levels])[words.codes]
    if not np.isin("test", kinds):
        raise InvalidInput(
            f"{table.path}: column {roles.split!r} holds {', '.join(words.levels[:6])}: rows to judge must be called test (and "
            "validation, train where there are some); give --split another column, or rename it"
        )
    test = np.flatnonzero(kinds == "test")
    return dataclasses.replace(
        answers.take(test),
        split="test",
        validation=_part(answers.examples, kinds == "validation"),
        validation_name="the validation rows",
        train=_part(answers.examples, kinds == "train"),
    )


def _part(examples: Examples, rows: NDArray[np.bool_]) -> Examples | None:
    return examples.take(rows) if rows.any() else None
