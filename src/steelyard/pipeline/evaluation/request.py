"""What the user asked of an evaluation, and what an answer sheet looks like once it is read."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steelyard.metrics.examples import Examples, Outputs
from steelyard.metrics.slices import Column
from steelyard.records import Corrupted, Gap, Overlap, Scalar, Shown, Task
from steelyard.subject.columns import Words

__all__ = ["Answers", "Request", "is_subject"]


def is_subject(source: str) -> bool:
    """Whether the words name a model to run, and not a table of predictions.

    >>> is_subject("model.py:subject"), is_subject("predictions.csv")
    (True, False)
    """
    head = source.partition(":")[0]
    return head == "torchvision" or Path(head).suffix in (".py", ".onnx", ".xml", ".pt2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One evaluation in the user's words."""

    source: str  # a table of predictions, or a subject
    out: Path
    compare: tuple[str, ...] = ()  # further models on the same examples
    command: tuple[str, ...] = ()  # the words that repeat it
    # which columns are what
    key: str | None = None
    label: str | None = None
    score: str | None = None
    predicted: str | None = None
    query: str | None = None
    text: str | None = None
    cluster: str | None = None
    split: str | None = None
    slices: tuple[str, ...] = ()
    # what they mean, declared once
    task: Task | None = None
    outputs: Outputs = "probabilities"
    positive: str | None = None
    threshold: float | None = None
    stratified: bool = False
    # what is asked
    metrics: tuple[str, ...] = ()
    objective: str | None = None
    target: str | None = None
    costs: str | None = None
    validation: str | None = None
    fail_under: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    level: float = 0.95
    band: float = 0.01
    seed: int = 0
    stream: bool = False  # count in constant memory, and judge what counts can
    truth: str | None = None  # the references of a field that keeps them in a file of their own
    # a subject
    data: str | None = None
    weights: str | None = None
    robustness: bool = False
    explain: int = 0
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """One model's answers, ready to be judged."""

    name: str
    source: str
    digest: str
    examples: Examples  # those that are judged
    split: str = ""
    validation: Examples | None = None  # those that a threshold or a temperature may be fitted on
    validation_name: str = ""
    train: Examples | None = None
    columns: tuple[Column, ...] = ()  # to slice by
    keys: Words | None = None
    texts: Words | tuple[str, ...] | None = None
    picture: Callable[[int], str] | None = None  # base64 PNG of an example
    corrupted: tuple[Corrupted, ...] = ()
    explained: tuple[Shown, ...] = ()
    gaps: tuple[Gap, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    notes: tuple[str, ...] = ()

    def take(self, rows: NDArray[np.int64]) -> Answers:
        """The answers to these examples alone, in this order."""
        texts = (
            self.texts.take(rows)
            if isinstance(self.texts, Words)
            else self.texts and tuple(self.texts[i] for i in rows)
        )
        return dataclasses.replace(
            self,
            examples=self.examples.take(rows),
            columns=tuple(dataclasses.replace(c, codes=c.codes[rows]) for c in self.columns),
            keys=None if self.keys is None else self.keys.take(rows),
            texts=texts,
        )

    def place(self, row: int) -> str:
        """What an example is called: its key, or its row counted from 1."""
        return self.keys[row] if self.keys is not None else f"row {row + 1}"
