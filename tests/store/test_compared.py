"""Comparisons on disk round by round, and the history of controls."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from scripted_rounds import comparison
from steelyard import records as r
from steelyard.errors import InvalidInput
from steelyard.records import encode
from steelyard.store import RunFolder, append_control, kind_of, read_compared, read_controls

HOST = r.Environment(
    machine="f00", cpu="c", cores=1, memory_bytes=1, instruction_sets=(), accelerators=(), platform="p", python="3",
    packages={}, time="t",
)  # fmt: skip
HEAD = r.Compared(
    kind="models", names=("a", "b"), sources=("a.onnx", "b.onnx"), digests=("1", "2"), command=("steelyard",), band=0.02,
    level=0.95, time_level=0.95, batch=1, slots=4, slot_s=0.03, warm_s=0.1, environment=HOST, round_s=2.0,
)  # fmt: skip


def one_round(value: float) -> r.Comparison:
    return comparison({"second": np.array([value]), "control": np.zeros(1)})


def test_rounds_come_back_as_one_comparison_in_their_order(tmp_path: Path) -> None:
    parts = [dataclasses.replace(one_round(value), flags=(f"f{value}",)) for value in (0.1, 0.2, 0.3)]
    with RunFolder(tmp_path / "run") as folder:
        assert folder.compared() is None
        folder.append(HEAD)
        for part in parts:
            folder.append(part)
        folder.append(dataclasses.replace(HEAD, outcome="slower"))
    found = read_compared(tmp_path / "run")
    assert found.outcome == "slower"  # the last word counts
    whole = found.comparison
    assert whole is not None
    assert np.array_equal(whole.seconds, np.concatenate([p.seconds for p in parts]))
    assert whole.flags == ("f0.1", "f0.2", "f0.3")
    assert whole.ended_s is not None
    assert len(whole.ended_s) == 3
    memory = whole.readings[2][0]
    assert isinstance(memory, r.Sample)
    assert memory.values.tolist() == [1e6] * 3


def test_a_torn_round_is_cut_off(tmp_path: Path) -> None:
    with RunFolder(tmp_path / "run") as folder:
        folder.append(HEAD)
        folder.append(one_round(0.1))
    with (tmp_path / "run" / "records.jsonl").open("a") as file:
        file.write(encode(one_round(0.2))[:50])
    with RunFolder(tmp_path / "run") as folder:
        known = folder.compared()
        assert known is not None
        assert len(known[1]) == 1
        folder.append(one_round(0.3))
    whole = read_compared(tmp_path / "run").comparison
    assert whole is not None
    assert np.log(whole.seconds[:, 0, 1] / 0.01) == pytest.approx([0.1, 0.3])


def test_a_reading_that_once_failed_is_not_read(tmp_path: Path) -> None:
    gone = r.Unavailable(quantity="memory_running_bytes", reason="no VmHWM")
    later = dataclasses.replace(one_round(0.2), readings=((gone,), (gone,), (gone,)))
    assert one_round(0.1).with_more(later).readings[0] == (gone,)


def test_rounds_of_another_comparison_are_refused() -> None:
    with pytest.raises(InvalidInput, match="not of one comparison"):
        one_round(0.1).with_more(comparison({"second": np.zeros(1)}))


def test_the_first_record_tells_the_kind(tmp_path: Path) -> None:
    assert kind_of(tmp_path) is None
    with RunFolder(tmp_path / "run") as folder:
        folder.append(HEAD)
    assert kind_of(tmp_path / "run") is r.Compared


def test_what_is_no_comparison_is_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="holds no run"):
        read_compared(tmp_path)
    with RunFolder(tmp_path / "run") as folder:
        folder.append(one_round(0.1))
    with pytest.raises(InvalidInput, match="holds a run of another kind: give another --out"):
        read_compared(tmp_path / "run")


def test_controls_are_kept_by_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    reading = r.ControlReading(
        machine="f00", kind="models", log_ratio=0.001, spread=0.01, rounds=10, slots=12, time="t"
    )
    assert read_controls("f00") == ()
    append_control(reading)
    path = append_control(dataclasses.replace(reading, log_ratio=0.002))
    append_control(dataclasses.replace(reading, machine="other"))
    assert [c.log_ratio for c in read_controls("f00")] == [0.001, 0.002]
    path.write_text("no record\n")
    assert read_controls("f00") == ()
