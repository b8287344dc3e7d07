import mmap
from pathlib import Path

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.probe.memory import give_back, peak_rss_bytes, reset_peak, rss_bytes
from steelyard.records import Unavailable

MIB = 1 << 20


def touched(size):
    """Fresh pages of the kernel's, whatever the allocator of this process still holds."""
    block = mmap.mmap(-1, size)
    np.frombuffer(block, dtype=np.uint8)[:: mmap.PAGESIZE] = 1
    return block


def test_resident_size_grows_by_what_is_touched():
    before = rss_bytes()
    block = touched(64 * MIB)
    assert 60 * MIB < rss_bytes() - before < 80 * MIB
    block.close()


def test_peak_remembers_freed_memory_until_reset():
    if isinstance(reset_peak(), Unavailable):
        pytest.skip("this kernel does not reset the peak")
    before = peak_rss_bytes()
    touched(64 * MIB).close()
    assert peak_rss_bytes() - before > 60 * MIB
    assert reset_peak() is None
    assert peak_rss_bytes() - before < 30 * MIB


def test_what_the_kernel_does_not_tell_is_unavailable(tmp_path: Path):
    assert isinstance(peak_rss_bytes(proc=tmp_path), Unavailable)
    assert "peak" in reset_peak(proc=tmp_path).reason


def test_no_such_process():
    with pytest.raises(InvalidInput, match="no process"):
        rss_bytes(2**22 + 1)


def test_what_is_not_used_goes_back_to_the_kernel() -> None:
    """Small blocks with a kept one between them now and then: the allocator cannot shrink the heap from its end."""
    blocks = [bytearray(4096) for _ in range(20_000)]
    kept = blocks[::500]
    held = rss_bytes()
    del blocks
    give_back()
    assert rss_bytes() < held - 40e6
    assert len(kept) == 40
