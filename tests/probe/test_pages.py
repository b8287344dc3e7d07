"""The page cache, seen through mincore and through the time that reading takes no part in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from steelyard.probe.pages import drop_pages, resident_share
from steelyard.records import Unavailable


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "weights.bin"
    path.write_bytes(os.urandom(3_000_000))
    return path


def test_what_was_just_written_is_in_memory(model: Path) -> None:
    assert resident_share([model]) == 1.0


def test_dropped_pages_are_gone_and_come_back_when_read(model: Path) -> None:
    drop_pages([model])
    share = resident_share([model])
    if isinstance(share, Unavailable) or share > 0:
        pytest.skip("this file system keeps its pages")
    content = model.read_bytes()
    assert len(content) == 3_000_000
    assert resident_share([model]) == 1.0


def test_shares_of_several_files_are_weighed_by_their_pages(model: Path, tmp_path: Path) -> None:
    small = tmp_path / "graph.json"
    small.write_bytes(b"{}")
    empty = tmp_path / "empty"
    empty.touch()
    drop_pages([model, empty])
    if resident_share([model]) != 0:
        pytest.skip("this file system keeps its pages")
    pages = 1 + -(-3_000_000 // os.sysconf("SC_PAGE_SIZE"))
    assert resident_share([model, small, empty]) == pytest.approx(1 / pages)
