"""What every trace must be, for the tests of all rooms."""

from __future__ import annotations

from typing import Any


def check_trace(document: dict[str, Any]) -> None:
    """Every event has what its phase needs, and slices of a track nest or follow each other."""
    assert document["displayTimeUnit"] == "ms"
    open_until: dict[tuple[int, int], list[float]] = {}
    for event in document["traceEvents"]:
        assert {"ph", "pid", "tid", "name", "ts"} <= event.keys()
        if event["ph"] != "X":
            assert event["ph"] in "MC"
            assert event["args"]
            continue
        assert event["dur"] >= 0
        ends = open_until.setdefault((event["pid"], event["tid"]), [])
        while ends and ends[-1] <= event["ts"] + 1e-9:
            ends.pop()
        assert all(event["ts"] + event["dur"] <= end + 1e-6 for end in ends), event["name"]
        ends.append(event["ts"] + event["dur"])
