"""Limits that fail the command when they are not kept."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Literal

from steelyard.errors import InvalidInput
from steelyard.metrics.table import find
from steelyard.pipeline.evaluation.from_fields import FIELDS
from steelyard.pipeline.evaluation.request import Request
from steelyard.records import Evaluated, Evaluation, Gate, Unavailable

__all__ = ["gates", "limit_of"]

Kind = Literal["value", "proof", "target"]


def limit_of(text: str) -> tuple[str, bool | None, float]:
    """(metric, whether it must be at least, limit) of ``f1=0.9``, ``f1 >= 90%`` or ``log_loss <= 0.3``."""
    match = re.fullmatch(r"\s*(.+?)\s*(>=|<=|≥|≤|=|>|<)\s*(-?\d*\.?\d+(?:e-?\d+)?)\s*(%?)\s*", text)
    if match is None:
        raise InvalidInput(f"cannot read {text!r}: write it like f1=0.9, 'recall >= 95%' or 'log_loss <= 0.3'")
    sign = {"=": None, ">=": True, "≥": True, ">": True}.get(match[2], False)
    return match[1], sign, float(match[3]) / (100 if match[4] else 1)


def gates(found: Evaluation, request: Request) -> Iterator[Gate]:
    """``--fail-under`` asks for the value, ``--require`` for proof, a target only that it is not shown to be missed."""
    known = {m.name: m for m in found.metrics}
    for model in found.models:
        asked: list[tuple[str, Kind]] = [(text, "value") for text in request.fail_under]
        asked += [(text, "proof") for text in request.require]
        if model.threshold is not None and ">=" in model.threshold.target:
            asked.append((model.threshold.target, "target"))
        for text, kind in asked:
            word, at_least, limit = limit_of(text)
            plain = found.task in FIELDS or word in known
            name = word if plain else find(word, found.task, found.classes).name
            if name not in known:
                raise InvalidInput(f"{text!r} names {word!r}, which was not measured; measured: {', '.join(known)}")
            up = known[name].higher_is_better
            if at_least is not None and at_least != up:
                raise InvalidInput(
                    f"{text!r} would ask for a worse model: write {word} {'>=' if up else '<='} {limit:g}"
                )
            yield _gate(text, kind, model, name, up=up, limit=limit)


def _gate(text: str, kind: Kind, model: Evaluated, name: str, *, up: bool, limit: float) -> Gate:
    score = next(
        (s for s in model.scores if s.quantity == name), Unavailable(quantity=name, reason="undefined: not measured")
    )
    if isinstance(score, Unavailable):
        return Gate(text=text, model=model.name, estimate=score, outcome="undefined", passed=False)
    value, least, most = (score.value, score.low, score.high) if up else (-score.value, -score.high, -score.low)
    bound = limit if up else -limit
    outcome: Literal["met", "broken", "undecided"] = "undecided"
    if least >= bound or most < bound:
        outcome = "met" if least >= bound else "broken"
    passed = {"value": value >= bound, "proof": outcome == "met", "target": outcome != "broken"}[kind]
    return Gate(text=text, model=model.name, estimate=score, outcome=outcome, passed=passed)
