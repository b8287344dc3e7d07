"""The trace's form: what viewers of the Trace Event Format need."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.measure.trace import Count, Span, nested, trace_events, write_trace
from trace_form import check_trace


def span(name, start, seconds, track="inference"):
    return Span(track=track, name=name, start_s=start, seconds=seconds)


def test_events_of_a_small_trace():
    spans = [span("load", 0.0, 1.0, "phases"), span("conv", 2.0, 0.5), span("inference 1", 2.0, 1.0)]
    events = trace_events(spans, [Count(name="resident_bytes", time_s=0.5, value=3e6)], "p")
    check_trace({"displayTimeUnit": "ms", "traceEvents": events})
    assert [e["name"] for e in events] == [
        "process_name", "thread_name", "thread_name", "load", "inference 1", "conv", "resident_bytes",
    ]  # fmt: skip
    assert events[5] == {
        "ph": "X", "pid": 1, "tid": 2, "ts": 2e6, "dur": 5e5, "name": "conv", "cat": "inference", "args": {},
    }  # fmt: skip
    assert events[6]["args"] == {"value": 3e6}


@given(st.lists(st.tuples(st.floats(0, 10), st.floats(0, 5)), max_size=30))
def test_any_spans_nest_and_keep_their_number(times):
    spans = [span(str(i), start, seconds) for i, (start, seconds) in enumerate(times)]
    found = list(nested(spans, "inference"))
    assert sorted(s.name for s, _, _ in found) == sorted(s.name for s in spans)
    events = trace_events(spans, [], "p")
    check_trace({"displayTimeUnit": "ms", "traceEvents": events})


def test_spans_that_nest_are_left_as_they_are():
    spans = [span("a", 0.0, 1.0), span("b", 0.1, 0.3), span("c", 0.4, 0.6), span("d", 0.5, 0.1)]
    assert [(s.name, start, end) for s, start, end in nested(spans, "inference")] == [
        ("a", 0, 10**9), ("b", 10**8, 4 * 10**8), ("c", 4 * 10**8, 10**9), ("d", 5 * 10**8, 6 * 10**8),
    ]  # fmt: skip


def test_a_trace_is_json_and_an_unwritable_place_is_said(tmp_path):
    path = tmp_path / "deep" / "t.json"
    write_trace(path, trace_events([span("a", 0.0, 1.0)], [], "p"), {"engine": "torch"})
    document = json.loads(path.read_text())
    check_trace(document)
    assert document["otherData"] == {"engine": "torch"}
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="give another --trace"):
        write_trace(tmp_path / "file" / "t.json", [], {})
