"""What both sides of a gate answer to the same test examples: stored predictions, or ones made now."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.measure.process import Limits
from steelyard.measure.weigh import predict_split
from steelyard.pipeline.gating.processes import log_of
from steelyard.pipeline.gating.sides import Contender
from steelyard.pipeline.job import Progress
from steelyard.records import Predictions, SubjectSpec
from steelyard.subject.load import load_subject
from steelyard.subject.splits import write_split

__all__ = ["answers_of_both", "answers_to"]


def answers_of_both(
    before: Contender,
    after: Contender,
    words: str | None,
    aside: Path,
    limits: Limits,
    progress: Progress,
    *,
    afresh: bool,
) -> tuple[Predictions | None, Predictions | None]:
    """Stored answers where both gave them to the same examples, else made now, else each side's own.

    `words` name data to judge both on; a side that cannot be run keeps its stored answers.
    """
    stored = before.on_test, after.on_test
    if words is None and stored[0] and stored[1] and np.array_equal(stored[0].labels, stored[1].labels):
        return stored
    if words is None and not afresh:
        return stored
    if words is not None:
        made = answers_to(words, after, aside, limits, progress)
        return (answers_to(words, before, aside, limits, progress) if afresh else stored[0]), made
    data = before.data or after.data
    if data is None:
        return stored
    return _predicted(before, data, aside, limits, progress), _predicted(after, data, aside, limits, progress)


def answers_to(words: str, side: Contender, aside: Path, limits: Limits, progress: Progress) -> Predictions:
    """A side's answers to the test split of the data that `words` name, which is read once."""
    if side.artifact is None or side.inputs is None:
        raise InvalidInput(f"--data needs a model to run, and {side.word} holds none: give its run folder")
    data = aside / "data"
    if not data.exists():
        known = side.spec or SubjectSpec(source="")
        if side.artifact.engine != "eager":  # the model's own file, wherever the one that it was made from is now
            known = dataclasses.replace(known, source=str(side.artifact.path))
        progress("reading the data", None)
        write_split(load_subject(dataclasses.replace(known, data=words)).splits().test, data, "test")
    return _predicted(side, data, aside, limits, progress)


def _predicted(side: Contender, data: Path, aside: Path, limits: Limits, progress: Progress) -> Predictions:
    progress(f"predicting the test split with {side.word}", None)
    assert side.artifact is not None
    assert side.inputs is not None
    inputs = aside / "examples.npy"
    np.save(inputs, side.inputs())
    return predict_split(side.artifact, inputs, data, "test", limits=limits, log=log_of(aside))
