"""From the user's words to requirements: ``accuracy drop <= 0.5%``, ``latency <= 0.3x``, ``p99 <= 35 ms``, ``size <= 10 MB``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Literal

from steelyard.errors import InvalidInput
from steelyard.metrics.table import Metric, names, quality
from steelyard.records import Requirement

__all__ = ["COSTS", "QUANTITIES", "parse_requirement"]

COSTS: Mapping[str, str] = {
    "latency": "s",
    "p50": "s",
    "p90": "s",
    "p95": "s",
    "p99": "s",
    "p99.9": "s",
    "throughput": "1/s",
    "size": "byte",
    "memory": "byte",
    "energy": "J",
}
"""Cost quantities and the base unit of their limits. Latency and percentiles are of one sample (batch 1)."""

QUANTITIES = (*names(), *COSTS)

_UNITS: Mapping[str, tuple[str, float]] = {
    "": ("", 1.0), "%": ("%", 0.01), "points": ("%", 0.01), "x": ("x", 1.0),
    "s": ("s", 1.0), "ms": ("s", 1e-3), "us": ("s", 1e-6), "µs": ("s", 1e-6),
    "b": ("byte", 1.0), "kb": ("byte", 1e3), "mb": ("byte", 1e6), "gb": ("byte", 1e9),
    "kib": ("byte", 2.0**10), "mib": ("byte", 2.0**20), "gib": ("byte", 2.0**30),
    "j": ("J", 1.0), "mj": ("J", 1e-3), "uj": ("J", 1e-6), "µj": ("J", 1e-6), "/s": ("1/s", 1.0),
}  # fmt: skip

_FORM = re.compile(
    r"\s*(?P<name>[A-Za-z][\w.\-]*(?:\[[^\]]+\])?)(?P<drop>\s+drop)?\s*(?P<sign><=|>=|<|>|≤|≥)\s*(?P<number>[\d.]+(?:e-?\d+)?)\s*(?P<unit>\D*)",
    re.IGNORECASE,
)
_EXAMPLES = "'accuracy drop <= 0.5%', 'latency <= 0.3x', 'p99 <= 35 ms', 'size <= 10 MB' or 'accuracy >= 0.9'"


def parse_requirement(text: str) -> Requirement:
    """Read one requirement. Raises `InvalidInput` with examples, or with the nearest quantity's name.

    A drop in percent is in percentage points: 0.5 % of drop takes 93.0 % to 92.5 %.

    >>> parse_requirement("accuracy drop <= 0.5%").limit
    0.005
    >>> r = parse_requirement("p99 <= 35 ms")
    >>> r.quantity, r.kind, r.limit
    ('p99', 'max', 0.035)
    """
    match = _FORM.fullmatch(text)
    if match is None:
        raise InvalidInput(f"cannot read the requirement {text!r}: write it like {_EXAMPLES}")
    name = _quantity(text, _lower(match["name"]))
    unit, factor = _unit(text, match["unit"].strip().lower().replace("\u03bc", "\u00b5"))  # Greek mu is micro too
    try:
        limit = float(match["number"]) * factor
    except ValueError:
        raise InvalidInput(f"cannot read the number {match['number']!r} in the requirement {text!r}") from None
    if not math.isfinite(limit):
        raise InvalidInput(f"the number {match['number']!r} in the requirement {text!r} is no limit")
    kind = _kind(text, name, unit, at_most=match["sign"] in ("<=", "<", "≤"), drop=bool(match["drop"]))
    _check_reachable(text, name, kind, limit)
    return Requirement(quantity=name, kind=kind, limit=limit, text=" ".join(text.split()))


def _check_reachable(text: str, name: str, kind: Kind, limit: float) -> None:
    metric = quality(name)
    if metric is not None and kind in ("min", "max_drop") and limit > metric.high:
        raise InvalidInput(
            f"the requirement {text!r} asks for {limit:g}, and {name} lies within {metric.low:g} to {metric.high:g}: "
            f"did you mean {limit:g}%?"
        )


def _lower(name: str) -> str:
    """A name in lower case; a class in brackets stays as it is written."""
    word, bracket, rest = name.partition("[")
    return f"{word.lower()}{bracket}{rest}"


def _quantity(text: str, word: str) -> str:
    plain, bracket, rest = word.partition("[")
    name = word if word in COSTS else f"{plain.replace('-', '_')}{bracket}{rest}"
    if name not in COSTS and quality(name) is None:
        known = (*QUANTITIES, "mean_cost[fp=1,fn=20]")
        near = get_close_matches(name, known, 1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
        raise InvalidInput(f"the requirement {text!r} names an unknown quantity {word!r}; {hint}")
    return name


def _unit(text: str, word: str) -> tuple[str, float]:
    if word not in _UNITS:
        raise InvalidInput(
            f"the requirement {text!r} has an unknown unit {word!r}; known: %, x, ms, s, kB, MB, GB, J, mJ, /s"
        )
    return _UNITS[word]


Kind = Literal["max_drop", "max_ratio", "min_ratio", "max", "min"]


def _kind(text: str, name: str, unit: str, *, at_most: bool, drop: bool) -> Kind:
    metric = quality(name)
    if metric is not None:
        return _quality_kind(text, metric, name, unit, at_most=at_most, drop=drop)
    if drop:
        raise InvalidInput(
            f"the requirement {text!r}: a drop is of quality; for {name} write '{name} <= 0.5x' or an absolute limit"
        )
    wanted = name != "throughput"
    if at_most != wanted:
        raise InvalidInput(
            f"the requirement {text!r} would ask for a worse model: write {name} {'<=' if wanted else '>='} ..."
        )
    if unit == "x":
        return "max_ratio" if at_most else "min_ratio"
    if unit != COSTS[name] and not (name == "throughput" and unit == ""):
        raise InvalidInput(
            f"the requirement {text!r} needs a unit of {name}: {COSTS[name]} (or x for a ratio to the baseline)"
        )
    return "max" if at_most else "min"


def _quality_kind(text: str, metric: Metric, name: str, unit: str, *, at_most: bool, drop: bool) -> Kind:
    if unit not in ("", "%"):
        raise InvalidInput(f"the requirement {text!r}: {name} is a fraction; write it as 0.9, 90% or 'drop <= 0.5%'")
    if drop:
        if not at_most:
            raise InvalidInput(f"the requirement {text!r} would ask for a worse model: write {name} drop <= ...")
        return "max_drop"
    if at_most == metric.higher_is_better:
        wanted = ">=" if metric.higher_is_better else "<="
        raise InvalidInput(
            f"the requirement {text!r} would ask for a worse model: write {name} {wanted} ... or {name} drop <= ..."
        )
    return "max" if at_most else "min"
