"""Who holds the pages: against memory whose owner is known, and against files written by hand."""

from __future__ import annotations

import ctypes
import mmap
import threading
from pathlib import Path

import numpy as np
import pytest

from steelyard.probe import memory
from steelyard.probe.memory import Heap, MemoryMap, heap, memory_map, rss_bytes
from steelyard.records import Unavailable

MB = 1_000_000


@pytest.fixture
def pages() -> MemoryMap:
    found = memory_map()
    if isinstance(found, Unavailable):
        pytest.skip(found.reason)
    return found


def test_parts_add_up_to_the_resident_size(pages: MemoryMap) -> None:
    parts = pages.anonymous_bytes + pages.library_bytes + pages.model_bytes
    assert parts == pages.resident_bytes == pytest.approx(rss_bytes(), abs=8 * MB)
    assert pages.library_bytes > MB


def test_memory_that_is_written_moves_from_untouched_to_anonymous(pages: MemoryMap) -> None:
    block = mmap.mmap(-1, 64 * MB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    asked = memory_map()
    np.frombuffer(block, dtype=np.uint8)[:: mmap.PAGESIZE] = 1
    written = memory_map()
    block.close()
    assert isinstance(asked, MemoryMap)
    assert isinstance(written, MemoryMap)
    assert asked.untouched_bytes - pages.untouched_bytes == pytest.approx(64 * MB, abs=4 * MB)
    assert written.anonymous_bytes - asked.anonymous_bytes == pytest.approx(64 * MB, abs=4 * MB)
    assert written.untouched_bytes - pages.untouched_bytes == pytest.approx(0, abs=4 * MB)


def test_stacks_of_threads_are_not_untouched_memory(pages: MemoryMap) -> None:
    over = threading.Event()
    threads = [threading.Thread(target=over.wait) for _ in range(8)]
    for thread in threads:
        thread.start()
    after = memory_map()
    over.set()
    for thread in threads:
        thread.join()
    assert isinstance(after, MemoryMap)
    assert after.untouched_bytes - pages.untouched_bytes < 16 * MB  # eight stacks ask for 64 MB


def test_files_of_the_model_are_the_models(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(16 * MB))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as block:
        np.frombuffer(block, dtype=np.uint8)[:: mmap.PAGESIZE].sum()
        found = memory_map(tmp_path)
    assert isinstance(found, MemoryMap)
    assert found.model_bytes == pytest.approx(16 * MB, abs=mmap.PAGESIZE)


SMAPS = """\
1000-2000 r-xp 00000000 00:01 7 /opt/my libs/a.so
Size:                  4 kB
Rss:                   4 kB
2000-4000 rw-p 00000000 00:00 0
Size:                  8 kB
Rss:                   4 kB
5000-6000 ---p 00000000 00:00 0
Size:                  4 kB
Rss:                   0 kB
6000-a000 rw-p 00000000 00:00 0
Size:                 16 kB
Rss:                   4 kB
b000-d000 rw-p 00000000 00:00 0 [stack]
Size:                  8 kB
Rss:                   4 kB
"""


def test_reads_the_kernels_own_words(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self" / "smaps").write_text(SMAPS)
    found = memory_map(proc=tmp_path)
    assert found == MemoryMap(
        resident_bytes=16384, anonymous_bytes=12288, library_bytes=4096, model_bytes=0, untouched_bytes=4096
    )
    assert isinstance(memory_map(proc=tmp_path / "none"), Unavailable)


def test_the_heap_counts_what_malloc_hands_out() -> None:
    before = heap()
    if isinstance(before, Unavailable):
        pytest.skip(before.reason)
    libc = ctypes.CDLL(None)
    libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    block = libc.malloc(ctypes.c_size_t(40 * MB))
    during = heap()
    libc.free(block)
    after = heap()
    assert isinstance(during, Heap)
    assert isinstance(after, Heap)
    assert during.used_bytes - before.used_bytes == pytest.approx(40 * MB, abs=MB)
    assert after.used_bytes - before.used_bytes == pytest.approx(0, abs=MB)


def test_another_c_library_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_mallinfo2", lambda: None)
    found = heap()
    assert isinstance(found, Unavailable)
    assert "mallinfo2" in found.reason
