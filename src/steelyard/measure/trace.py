"""A profile as a trace that Perfetto, TensorBoard and chrome://tracing open: the Trace Event Format in JSON.

Source: "Trace Event Format" (Google, 2016). Complete events (``"ph": "X"``) with ``ts`` and ``dur`` in microseconds nest by
time within a track (``pid`` and ``tid``); counters (``"C"``) draw a line; ``"M"`` names processes and tracks.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from steelyard.errors import InvalidInput

__all__ = ["TRACKS", "Count", "Span", "nested", "trace_events", "write_trace"]

TRACKS = ("phases", "inference", "accelerator")
_PID = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time on one of the `TRACKS`. Seconds since the process began to work."""

    track: str
    name: str
    start_s: float
    seconds: float
    category: str = ""
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """A reading of a counter at a moment."""

    name: str
    time_s: float
    value: float


def trace_events(spans: Iterable[Span], counts: Iterable[Count], process: str) -> list[dict[str, Any]]:
    """Events of the format: names of process and tracks, then spans track by track, then counters, each in order of time."""
    ordered = list(spans)
    return [
        {"ph": "M", "pid": _PID, "tid": 0, "ts": 0, "name": "process_name", "args": {"name": process}},
        *(_named(track) for track in TRACKS if any(span.track == track for span in ordered)),
        *(_complete(span, start, end) for track in TRACKS for span, start, end in nested(ordered, track)),
        *(_counter(count) for count in sorted(counts, key=lambda c: c.time_s)),
    ]


def write_trace(path: Path, events: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> None:
    """Write the events with what is known `about` them. Raises `InvalidInput` where the file cannot be written."""
    document = {"traceEvents": list(events), "displayTimeUnit": "ms", "otherData": dict(about)}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(document, separators=(",", ":")), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write the trace {path}: {error.strerror}; give another --trace") from None


def nested(spans: Iterable[Span], track: str) -> Iterator[tuple[Span, int, int]]:
    """The spans of a track with beginning and end in nanoseconds, each inside the one that it began in.

    Clocks of engines round, so that a span may seem to end after the one that holds it, or to begin before its neighbour has
    ended; viewers then draw nonsense. Such an end is brought back, and such a beginning on.
    """
    ends: list[int] = []  # of the spans that are open, the outermost first
    last = 0  # where the neighbour before ended
    for span in sorted((s for s in spans if s.track == track), key=lambda s: (s.start_s, -s.seconds)):
        start, end = round(span.start_s * 1e9), round((span.start_s + span.seconds) * 1e9)
        while ends and ends[-1] <= start:
            last = ends.pop()
        start = max(start, last)
        end = max(start, min([end, *ends[-1:]]))
        ends.append(end)
        yield span, start, end


def _complete(span: Span, start: int, end: int) -> dict[str, Any]:
    place = {"ph": "X", "pid": _PID, "tid": 1 + TRACKS.index(span.track)}
    return {
        **place,
        "ts": start / 1000,
        "dur": (end - start) / 1000,
        "name": span.name,
        "cat": span.category or span.track,
        "args": dict(span.details),
    }


def _counter(count: Count) -> dict[str, Any]:
    where = {"ph": "C", "pid": _PID, "tid": 0, "ts": round(count.time_s * 1e9) / 1000}
    return {**where, "name": count.name, "args": {"value": count.value}}


def _named(track: str) -> dict[str, Any]:
    where = {"ph": "M", "pid": _PID, "tid": 1 + TRACKS.index(track), "ts": 0}
    return {**where, "name": "thread_name", "args": {"name": track}}
