"""Activations counted by each engine, against sizes that follow from the net, and by a brute force over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import wide_net
from steelyard.measure.activations import Block, activation_bytes, arena_peak, live_peak, outliving
from steelyard.records import Unavailable
from steelyard.subject.engines import load_runner

spans = st.tuples(st.integers(0, 20), st.integers(1, 10), st.integers(1, 100))


@given(st.lists(spans, max_size=12))
def test_the_peak_is_that_of_looking_at_every_moment(found: list[tuple[int, int, int]]) -> None:
    blocks = [Block(size=size, taken=start, freed=start + length) for start, length, size in found]
    moments = [sum(b.size for b in blocks if b.taken <= t < b.freed) for t in range(32)]
    assert live_peak(blocks) == max(moments)


def test_what_an_operator_gives_back_before_it_ends_is_workspace() -> None:
    kept = Block(size=1, taken=1, freed=9, within=5)
    scratch = Block(size=2, taken=1, freed=4, within=5)
    between = Block(size=4, taken=6, freed=7)  # a buffer of compiled code, outside of operators
    assert outliving([kept, scratch, between]) == [kept, between]


@pytest.mark.parametrize("rows", [1, 3])
@pytest.mark.parametrize("engine", ["eager", "onnxruntime", "openvino"])
def test_activations_are_those_that_the_net_must_hold(engine: str, rows: int, tmp_path: Path) -> None:
    artifact = wide_net.artifact(tmp_path / "model", engine, width=64, times=2000)
    inputs = wide_net.inputs(rows, 64)
    found = activation_bytes(artifact, load_runner(artifact), inputs)
    wide = wide_net.intermediate_bytes(rows, width=64, times=2000)
    assert found == pytest.approx(2 * wide, rel=0.02)  # the value and its cosine


def _event(in_use: int, delta: int) -> dict[str, Any]:
    arguments = {"mem_bytes_requested_in_use": str(in_use), "mem_requested_in_use_delta": str(delta)}
    return {"cat": "Node", "name": "conv_kernel_time", "args": arguments}


def test_weights_that_lie_in_the_arena_are_no_activations() -> None:
    assert arena_peak([_event(1100, 100), _event(1300, 200), _event(1250, 50)]) == 300


@pytest.mark.parametrize("events", [[], [{"cat": "Node", "name": "conv_kernel_time", "args": {}}]])
def test_a_profile_that_says_nothing_of_its_arena_is_unavailable(events: list[dict[str, Any]]) -> None:
    assert isinstance(arena_peak(events), Unavailable)
