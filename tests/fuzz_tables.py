"""Tables of predictions, good ones and damaged ones, for `steelyard evaluate` to judge or to refuse in one line.

`case(seed)` makes a file, the words of the command, and what stands in the file cell by cell. `trial(case)` evaluates
it and looks for what must never be: an exception that is no `SteelyardError`, a message of several lines, a warning, a
number that differs from one computed here from the cells by scikit-learn and plain counting.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.api import evaluate
from steelyard.errors import SteelyardError
from steelyard.pipeline.evaluation import evaluate as pipeline
from steelyard.probe.host import environment
from steelyard.records import Environment, Estimate, Evaluation, Unavailable, decode, encode
from steelyard.report.evaluation.text import metrics_json

__all__ = ["Case", "Trial", "case", "trial"]

FORMATS = ("csv", "tsv", "parquet", "npz")
NAMES = (  # class names that files hold sooner or later
    "cat", "dog", "0", "1", "yes", "no", "</script>", "🐈", "a b", " lead", "x" * 300, 'say "no"', "a,b", "é", "类", "a_b",
    "p_1", "=1+1", "None", "true", "[b]", "%s", "a\tb", "two\nlines", "-1", "1.0", "{x}", "\\", "'", "NULL",
)  # fmt: skip
ODD = (  # cells that stand where a number or a name was
    "", "nan", "NaN", "inf", "-inf", "1e400", "-0.0", "0.0", "5e-324", "1e-310", "99999999999999999999999", "1e308", "-1",
    "2", "1.0000001", "abc", " 0.5", "0.5 ", "0,5", "１", "1_000", "0x10", "TRUE", "🙂", "y" * 3000, "</script>", '"', '"a',
    "a\nb", "\\N", "NULL", "-", "1e", "+0.5", ".5", "5.",
)  # fmt: skip


@dataclass(slots=True)
class Sheet:
    """Columns of equally many cells, in words as a person would type them."""

    cells: dict[str, list[str]]
    label: str
    score: tuple[str, ...]
    predicted: str | None = None
    other: dict[str, str] = field(default_factory=dict)  # role -> column

    def __len__(self) -> int:
        return len(next(iter(self.cells.values()), []))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One file and what is asked of it."""

    seed: int
    kind: str
    suffix: str
    content: bytes
    words: dict[str, Any]
    damage: tuple[str, ...]
    sheet: Sheet | None  # what stands in the file, unless its bytes were hurt


# --- good tables ---------------------------------------------------------------------------------------------


def _numbers(values: np.ndarray) -> list[str]:
    return [repr(float(v)) for v in values]


def _classes(rng: np.random.Generator, k: int) -> list[str]:
    if rng.random() < 0.4:
        return [str(i) for i in range(k)]
    names = list(rng.permutation(NAMES)[:k])
    return names if k <= len(names) else [f"class {i}" for i in range(k)]


def _scores(rng: np.random.Generator, n: int, width: int) -> np.ndarray:
    """Probabilities, some with ties, some squeezed into [0, 0.02], some certain."""
    shape = rng.choice(["smooth", "ties", "squeezed", "certain"])
    p = rng.random((n, width))
    if shape == "ties":
        p = np.round(p, 1)
    if shape == "squeezed":
        p *= 0.02
    if shape == "certain":
        p = np.where(rng.random((n, width)) < 0.5, np.round(p), p)
    return p


def _binary(rng: np.random.Generator, n: int) -> Sheet:
    names = _classes(rng, 2)
    labels = [str(names[i]) for i in (rng.random(n) < rng.choice([0.05, 0.3, 0.5])).astype(int)]
    sheet = Sheet(cells={"y": labels, "p": _numbers(_scores(rng, n, 1)[:, 0])}, label="y", score=("p",))
    if rng.random() < 0.2:
        sheet.cells["pred"] = [str(names[i]) for i in rng.integers(0, 2, n)]
        sheet.predicted = "pred"
    return sheet


def _multiclass(rng: np.random.Generator, n: int) -> Sheet:
    k = int(rng.choice([3, 4, 8, 25])) if rng.random() < 0.95 else 120
    names = _classes(rng, k)
    shares = rng.dirichlet(np.ones(k), n)
    cells = {"y": [str(names[i]) for i in rng.integers(0, k, n)]}
    for place, name in enumerate(names):
        cells[f"p_{name}"] = _numbers(shares[:, place])
    return Sheet(cells=cells, label="y", score=tuple(f"p_{name}" for name in names))


def _hard(rng: np.random.Generator, n: int) -> Sheet:
    names = _classes(rng, int(rng.integers(2, 12)))
    pick = [[str(names[i]) for i in rng.integers(0, len(names), n)] for _ in range(2)]
    return Sheet(cells={"label": pick[0], "pred": pick[1]}, label="label", score=(), predicted="pred")


def _multilabel(rng: np.random.Generator, n: int) -> Sheet:
    names = _classes(rng, int(rng.integers(2, 5)))
    cells = {f"y_{name}": [str(v) for v in rng.integers(0, 2, n)] for name in names}
    p = _scores(rng, n, len(names))
    cells |= {f"p_{name}": _numbers(p[:, i]) for i, name in enumerate(names)}
    return Sheet(cells=cells, label="y_*", score=tuple(f"p_{name}" for name in names))


def _regression(rng: np.random.Generator, n: int) -> Sheet:
    scale = float(rng.choice([1.0, 1e-8, 1e9]))
    y = scale * rng.normal(size=n)
    cells = {"target": _numbers(y), "prediction": _numbers(y + scale * rng.normal(size=n))}
    return Sheet(cells=cells, label="target", score=("prediction",), other={"task": "regression"})


def _ranking(rng: np.random.Generator, n: int) -> Sheet:
    cells = {
        "q": [f"q{i}" for i in rng.integers(0, max(1, n // 6), n)],
        "relevance": [str(v) for v in rng.integers(0, 4, n)],
        "score": _numbers(np.round(rng.normal(size=n), 1)),
    }
    return Sheet(cells=cells, label="relevance", score=("score",), other={"query": "q"})


def _answers(rng: np.random.Generator, n: int) -> Sheet:
    pick = [[str(v) for v in rng.choice(NAMES, n)] for _ in range(2)]
    return Sheet(
        cells={"answer": pick[0], "pred": pick[1]},
        label="answer",
        score=(),
        predicted="pred",
        other={"task": "answers"},
    )


KINDS: dict[str, Callable[[np.random.Generator, int], Sheet]] = {
    "binary": _binary, "multiclass": _multiclass, "hard": _hard, "multilabel": _multilabel, "regression": _regression,
    "ranking": _ranking, "answers": _answers,
}  # fmt: skip
_SHARES = (0.4, 0.2, 0.12, 0.08, 0.1, 0.06, 0.04)


def _with_more(rng: np.random.Generator, sheet: Sheet) -> dict[str, Any]:
    """Columns to slice, cluster and tell rows apart by, and options that use them."""
    n, words = len(sheet), {}
    if rng.random() < 0.3:
        sheet.cells["region"] = [str(v) for v in rng.choice(["north", "south", "</script>", ""], n)]
        words["slices"] = ("region",)
    if rng.random() < 0.2:
        sheet.cells["age"] = [str(v) for v in rng.integers(18, 90, n)]
        words["slices"] = (
            *words.get("slices", ()),
            str(rng.choice(["age=4", "age=30,60", "age", "auto", "confidence"])),
        )
    if rng.random() < 0.3:
        sheet.cells["id"] = [f"#{i}" for i in range(n)]
    if rng.random() < 0.1:
        sheet.cells["patient"] = [f"p{v}" for v in rng.integers(0, 5, n)]
        words["cluster"] = "patient"
    if rng.random() < 0.1:
        sheet.cells["split"] = [str(v) for v in rng.choice(["test", "validation", "train"], n)]
    return words


def _options(rng: np.random.Generator, kind: str) -> dict[str, Any]:
    words: dict[str, Any] = {}
    if rng.random() < 0.1:
        words["level"] = float(rng.choice([0.5, 0.8, 0.99]))
    if kind == "binary":
        draw = rng.random()
        if draw < 0.1:
            words["outputs"] = str(rng.choice(["logits", "scores"]))
        elif draw < 0.2:
            words["threshold"] = float(rng.choice([0.0, 0.2, 0.9, 1.0]))
        elif draw < 0.3:
            words["target"] = str(rng.choice(["recall >= 0.9", "precision >= 0.8", "f1", "specificity >= 99%"]))
        elif draw < 0.35:
            words["costs"] = "fp=1,fn=5"
    if kind == "multiclass" and rng.random() < 0.15:
        words["outputs"] = str(rng.choice(["logits", "scores"]))
    if rng.random() < 0.1:
        words["metrics"] = tuple(
            str(v) for v in rng.choice(["accuracy", "f1", "f0.5", "mcc", "mape", "recall[cat]", "ndcg@3"], 2)
        )
    return words


# --- damage to cells -----------------------------------------------------------------------------------------


def _odd_cell(rng: np.random.Generator, sheet: Sheet) -> None:
    cells = sheet.cells[str(rng.choice(list(sheet.cells)))]
    for _ in range(int(rng.integers(1, 4))):
        if cells:
            cells[int(rng.integers(len(cells)))] = str(rng.choice(ODD))


def _constant_column(rng: np.random.Generator, sheet: Sheet) -> None:
    name = str(rng.choice(list(sheet.cells)))
    sheet.cells[name] = [(sheet.cells[name] or ["1"])[0]] * len(sheet)


def _odd_column(rng: np.random.Generator, sheet: Sheet) -> None:
    sheet.cells[str(rng.choice(list(sheet.cells)))] = [str(rng.choice(ODD))] * len(sheet)


def _repeated_rows(rng: np.random.Generator, sheet: Sheet) -> None:
    rows = rng.integers(0, max(1, len(sheet)), len(sheet))
    for name, cells in sheet.cells.items():
        sheet.cells[name] = [cells[i] for i in rows]


def _few_rows(rng: np.random.Generator, sheet: Sheet) -> None:
    keep = int(rng.choice([0, 1, 1, 2, 3]))
    for name, cells in sheet.cells.items():
        sheet.cells[name] = cells[:keep]


def _swapped_columns(rng: np.random.Generator, sheet: Sheet) -> None:
    one, other = (str(v) for v in rng.choice(list(sheet.cells), 2))
    sheet.cells[one], sheet.cells[other] = sheet.cells[other], sheet.cells[one]


def _scaled_scores(rng: np.random.Generator, sheet: Sheet) -> None:
    factor = float(rng.choice([-1.0, 2.0, 100.0, 1e300, 1e-320]))
    for name in sheet.score:
        sheet.cells[name] = [repr(factor * float(v)) if _float(v) is not None else v for v in sheet.cells[name]]


CELLS: dict[str, Callable[[np.random.Generator, Sheet], None]] = {
    "odd cell": _odd_cell, "constant column": _constant_column, "odd column": _odd_column, "repeated rows": _repeated_rows,
    "few rows": _few_rows, "swapped columns": _swapped_columns, "scaled scores": _scaled_scores,
}  # fmt: skip


# --- writing, and damage to files ------------------------------------------------------------------------------


def _written(rng: np.random.Generator, sheet: Sheet, suffix: str) -> tuple[bytes, Sheet]:
    """The file, and the sheet as a reader should find it: typed columns hold values, not words."""
    if suffix in ("csv", "tsv"):
        out = io.StringIO()
        ends = str(rng.choice(["\n", "\r\n"]))
        writer = csv.writer(out, delimiter="\t" if suffix == "tsv" else ",", lineterminator=ends)
        writer.writerow(list(sheet.cells))
        writer.writerows(zip(*sheet.cells.values(), strict=True))
        return out.getvalue().encode(), sheet
    typed = {name: _typed(rng, cells) for name, cells in sheet.cells.items()}
    found = dataclasses.replace(sheet, cells={name: _shown(values) for name, values in typed.items()})
    out = io.BytesIO()
    if suffix == "npz":
        np.savez(out, **{f"{name}": values for name, values in typed.items()})
    else:
        import pyarrow as pa
        import pyarrow.parquet as pq

        names, columns = list(typed), [_arrow(rng, values) for values in typed.values()]
        pq.write_table(pa.Table.from_arrays(columns, names=names), out)
    return out.getvalue(), found


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _typed(rng: np.random.Generator, cells: list[str]) -> np.ndarray:
    values = [_float(c) for c in cells]
    if cells and all(v is not None for v in values):
        array = np.array(values, dtype=np.float64)
        if np.isfinite(array).all() and (np.abs(array) < 2**31).all() and (array == np.trunc(array)).all():
            return array.astype(
                str(rng.choice(["int64", "int8" if (np.abs(array) < 100).all() else "int32", "float64"]))
            )
        return array
    return np.array(cells, dtype=np.str_)


def _shown(values: np.ndarray) -> list[str]:
    """Numbers as Python writes them, whole ones as integers, and -0.0 as the 0.0 that it equals."""
    if values.dtype.kind == "f":
        values = values + 0.0
        if np.isfinite(values).all() and (values == np.trunc(values)).all() and (np.abs(values) < 2**63).all():
            values = values.astype(np.int64)
    return [str(v) for v in values.tolist()]


def _arrow(rng: np.random.Generator, values: np.ndarray) -> Any:
    import pyarrow as pa

    if values.dtype.kind != "U":
        return pa.array(values)
    column = pa.array(values.tolist(), type=pa.string())
    return column.dictionary_encode() if rng.random() < 0.3 else column


def _truncated(rng: np.random.Generator, content: bytes) -> bytes:
    return content[: int(rng.integers(0, max(1, len(content))))]


def _flipped(rng: np.random.Generator, content: bytes) -> bytes:
    array = bytearray(content)
    for _ in range(int(rng.integers(1, 6))):
        if array:
            array[int(rng.integers(len(array)))] = int(rng.integers(256))
    return bytes(array)


def _recoded(rng: np.random.Generator, content: bytes) -> bytes:
    text = content.decode("utf-8", "replace")
    return text.encode(str(rng.choice(["utf-16", "latin-1", "gbk", "utf-8-sig"])), "replace")


def _ragged(rng: np.random.Generator, content: bytes) -> bytes:
    lines = content.split(b"\n")
    at = int(rng.integers(len(lines)))
    lines[at] = lines[at] + b",extra" if rng.random() < 0.5 else lines[at].rpartition(b",")[0]
    return b"\n".join(lines)


def _blank_lines(rng: np.random.Generator, content: bytes) -> bytes:
    lines = content.split(b"\n")
    lines.insert(int(rng.integers(len(lines) + 1)), b"")
    return b"\n".join(lines)


def _bytes_put_in(rng: np.random.Generator, content: bytes) -> bytes:
    at = int(rng.integers(len(content) + 1))
    return content[:at] + [b"\x00", b"\xff\xfe", b'"', b"\r", b"\xef\xbb\xbf"][int(rng.integers(5))] + content[at:]


def _no_header(_rng: np.random.Generator, content: bytes) -> bytes:
    return content.partition(b"\n")[2]


def _other_kind(_rng: np.random.Generator, content: bytes) -> bytes:
    return b"PK\x03\x04" + content


def _doubled(_rng: np.random.Generator, content: bytes) -> bytes:
    return content + content


FILES: dict[str, Callable[[np.random.Generator, bytes], bytes]] = {
    "truncated": _truncated, "flipped bytes": _flipped, "recoded": _recoded, "ragged": _ragged, "blank line": _blank_lines,
    "bytes put in": _bytes_put_in, "no header": _no_header, "another kind's magic": _other_kind, "doubled": _doubled,
}  # fmt: skip


def case(seed: int) -> Case:
    """The file of that number; the same number gives the same file."""
    rng = np.random.default_rng([20251, seed])
    kind = str(rng.choice(list(KINDS), p=_SHARES))
    n = int(rng.choice([5, 20, 30, 60, 200]))
    sheet = KINDS[kind](rng, n)
    words = _with_more(rng, sheet) | _options(rng, kind) | sheet.other
    if rng.random() < 0.5 or kind in ("multiclass", "multilabel"):
        words |= {"label": sheet.label}
        words |= {"score": "p_*" if len(sheet.score) > 1 else sheet.score[0]} if sheet.score else {}
    if sheet.predicted is not None:
        words["predicted"] = sheet.predicted
    damage = [] if rng.random() < 0.3 else list(rng.choice(list(CELLS), int(rng.choice([1, 1, 2]))))
    for name in damage:
        CELLS[name](rng, sheet)
    suffix = str(rng.choice(FORMATS, p=[0.5, 0.1, 0.2, 0.2]))
    content, found = _written(rng, sheet, suffix)
    whole: Sheet | None = found
    if rng.random() < 0.3:
        name = str(rng.choice(list(FILES)))
        content, whole, damage = FILES[name](rng, content), None, [*damage, name]
    return Case(
        seed=seed, kind=kind, suffix=suffix, content=content, words=words, damage=tuple(map(str, damage)), sheet=whole
    )


# --- judging -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What became of a case: "judged", "refused" or "fault", and how many numbers were compared."""

    outcome: str
    message: str = ""
    compared: int = 0


def trial(made: Case, *, render: bool = False) -> Trial:
    """Evaluate the case as a user would; a fault names what must not be."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        path = Path(folder) / f"t.{made.suffix}"
        path.write_bytes(made.content)
        written, read = pipeline.write_evaluation, pipeline.environment
        if not render:
            pipeline.write_evaluation = lambda *_: None  # type: ignore[assignment]
            pipeline.environment = _environment  # the same for every file, and half of the time
        try:
            found = evaluate(path, out=Path(folder) / "out", **made.words).evaluation
        except SteelyardError as error:
            bad = _bad_message(str(error)) or _said(said)
            return Trial(outcome="fault" if bad else "refused", message=bad or str(error).replace(str(path), "FILE"))
        except Exception:
            return Trial(outcome="fault", message=traceback.format_exc(limit=-2))
        finally:
            pipeline.write_evaluation, pipeline.environment = written, read
    faults, compared = [], 0
    try:
        faults += list(_unsound(found))
        if made.sheet is not None:
            for name, ours, theirs in _both(made, found):
                compared += 1
                if not (ours == theirs or math.isclose(ours, theirs, rel_tol=1e-9, abs_tol=1e-12)):
                    faults.append(f"{name}: {ours!r}, and {theirs!r} was computed from the cells")
    except Exception:
        faults.append(traceback.format_exc(limit=-2))
    bad = _said(said) or "; ".join(faults)
    return Trial(outcome="fault" if bad else "judged", message=bad, compared=compared)


@cache
def _environment() -> Environment:
    return environment()


def _bad_message(message: str) -> str:
    """What is wrong with an error's words, or nothing."""
    if "\n" in message or not message.strip():
        return f"not one line: {message!r}"
    return f"{len(message):,} characters: {message[:100]!r}" if len(message) > 5000 else ""


def _said(said: list[warnings.WarningMessage]) -> str:
    return f"warned: {said[0].message} ({said[0].filename}:{said[0].lineno})" if said else ""


def _unsound(found: Evaluation) -> Iterator[str]:
    """What no evaluation may hold, whatever the file was."""
    json.dumps(metrics_json(found), allow_nan=False)
    if encode(decode(encode(found))) != encode(found):
        yield "its record is not read back as it was written"
    for model in found.models:
        for score in (*model.scores, *(s for _, row in model.per_class for s in row)):
            if isinstance(score, Unavailable):
                if not score.reason:
                    yield f"{score.quantity} is undefined and does not say why"
            elif not score.low <= score.value <= score.high or not score.low < score.high:
                yield f"{score.quantity} is {score.value}, its interval {score.low} to {score.high}"


def _both(made: Case, found: Evaluation) -> Iterator[tuple[str, float, float]]:
    """(what, Steelyard's number, one computed here) of everything that can be computed plainly."""
    assert made.sheet is not None
    cells = made.sheet.cells
    model = found.models[0]
    rows = (
        [i for i, part in enumerate(cells["split"]) if part == "test"]
        if "split" in cells
        else list(range(len(made.sheet)))
    )
    scores = {s.quantity: s.value for s in model.scores if isinstance(s, Estimate)}
    if "split" not in cells and made.words.keys() & {"target", "costs"}:
        return  # judged on a random half
    yield "n", model.n, len(rows)
    judge = {"binary": _binary_truth, "multiclass": _class_truth, "multilabel": _label_truth, "regression": _number_truth,
             "answers": _answer_truth}.get(found.task)  # fmt: skip
    if judge is not None:
        for name, value in judge(made, found, rows):
            if name == "confusion" and model.confusion is not None:
                yield name, float(np.abs(model.confusion - value).sum()), 0.0
            elif name in scores:
                yield name, scores[name], float(value)


def _binary_truth(made: Case, found: Evaluation, rows: list[int]) -> Iterator[tuple[str, Any]]:
    from scipy.special import expit
    from sklearn.metrics import confusion_matrix, roc_auc_score

    sheet = made.sheet
    assert sheet is not None
    given = sheet.cells[sheet.label]
    true = np.array([found.classes.index(given[i]) for i in rows])
    score = np.array([float(sheet.cells[sheet.score[0]][i]) for i in rows]) if _scored(made) else None
    places = None if score is None else _places(score)
    if score is not None and made.words.get("outputs") == "logits":
        score = expit(score)  # the largest become 1 and tie, where the logits do not
    if sheet.predicted is not None:
        guess = np.array([found.classes.index(sheet.cells[sheet.predicted][i]) for i in rows])
    else:
        threshold = found.models[0].threshold
        guess = (score >= (0.5 if threshold is None else threshold.value)).astype(int)
    yield "accuracy", np.mean(true == guess)
    yield "confusion", confusion_matrix(true, guess, labels=[0, 1])
    if score is not None and 0 < true.sum() < len(true):
        yield "roc_auc", roc_auc_score(true, places)
    if true.any():
        yield "recall", np.sum(true & guess) / true.sum()
    if true.any() or guess.any():
        yield "f1", 2 * np.sum(true & guess) / (true.sum() + guess.sum())


def _scored(made: Case) -> bool:
    """Whether scores are read: where predicted classes are named, only those that are named too."""
    assert made.sheet is not None
    return bool(made.sheet.score) and ("predicted" not in made.words or "score" in made.words)


def _places(scores: np.ndarray) -> np.ndarray:
    """Ranks of distinct values: the same order, for those that differ by less than scikit-learn sees."""
    return np.unique(scores, return_inverse=True)[1]


def _class_truth(made: Case, found: Evaluation, rows: list[int]) -> Iterator[tuple[str, Any]]:
    from sklearn.metrics import confusion_matrix, roc_auc_score

    sheet = made.sheet
    assert sheet is not None
    k = len(found.classes)
    true = np.array([found.classes.index(sheet.cells[sheet.label][i]) for i in rows])
    if _scored(made):
        shares = np.array([[float(sheet.cells[name][i]) for name in sheet.score] for i in rows])
        guess = shares.argmax(axis=1)
        if made.words.get("outputs") == "logits":
            yield from _softmax_truth(true, shares)
            return
        held = [c for c in range(k) if 0 < np.sum(true == c) < len(true)]
        if held:
            yield "macro_roc_auc", np.mean([roc_auc_score(true == c, _places(shares[:, c])) for c in held])
    else:
        assert sheet.predicted is not None
        guess = np.array([found.classes.index(sheet.cells[sheet.predicted][i]) for i in rows])
    yield "accuracy", np.mean(true == guess)
    yield "confusion", confusion_matrix(true, guess, labels=range(k))


def _softmax_truth(true: np.ndarray, logits: np.ndarray) -> Iterator[tuple[str, Any]]:
    from scipy.special import softmax

    with np.errstate(over="ignore"):
        shares = softmax(logits, axis=1)
    yield "accuracy", np.mean(true == shares.argmax(axis=1))
    yield "brier", np.mean(((shares - np.eye(shares.shape[1])[true]) ** 2).sum(axis=1))


def _label_truth(made: Case, found: Evaluation, rows: list[int]) -> Iterator[tuple[str, Any]]:
    sheet = made.sheet
    assert sheet is not None
    true, p = (
        np.array([[float(sheet.cells[f"{stem}_{name}"][i]) for name in found.classes] for i in rows]) for stem in "yp"
    )
    guess = p >= 0.5
    yield "subset_accuracy", np.mean((true == guess).all(axis=1))
    yield "hamming_loss", np.mean(true != guess)


def _number_truth(made: Case, found: Evaluation, rows: list[int]) -> Iterator[tuple[str, Any]]:
    sheet = made.sheet
    assert sheet is not None
    column = sheet.score[0] if sheet.score else sheet.predicted
    assert column is not None
    y, p = (np.array([float(sheet.cells[name][i]) for i in rows]) for name in (sheet.label, column))
    yield "mae", np.mean(np.abs(y - p))
    yield "rmse", math.sqrt(np.mean((y - p) ** 2))


def _answer_truth(made: Case, found: Evaluation, rows: list[int]) -> Iterator[tuple[str, Any]]:
    sheet = made.sheet
    assert sheet is not None
    assert sheet.predicted is not None
    yield "n", len(rows)
