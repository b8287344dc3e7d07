import threading

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from small_training import some
from steelyard.errors import InvalidInput
from steelyard.trainer.examples import shuffled
from steelyard.trainer.loading import Ahead, Cached


class Counted(Dataset):
    """Examples that count how often they were read."""

    def __init__(self, made):
        self.made, self.reads = made, torch.zeros(8, dtype=torch.int64).share_memory_()

    def __len__(self):
        return 8

    def __getitem__(self, i):
        self.reads[i] += 1
        return self.made(i)


def test_examples_are_read_once_and_come_as_they_were():
    plain = Counted(lambda i: (np.full((2, 3), i, dtype=np.float32), i))
    cached = Cached(plain)
    for _ in range(3):
        for i in range(8):
            picture, label = cached[i]
            assert torch.equal(picture, torch.full((2, 3), float(i)))
            assert int(label) == i
            picture.zero_()  # the caller's own
    assert plain.reads.tolist() == [2] + [1] * 7  # the first tells what the others will be


def test_loader_processes_share_what_was_read():
    plain = Counted(lambda i: torch.full((4,), float(i)))
    cached = Cached(plain)
    for _ in range(3):
        found = torch.cat([batch[:, 0] for batch in DataLoader(cached, batch_size=2, num_workers=2)])
        assert found.tolist() == list(range(8))
    assert plain.reads[1:].tolist() == [1] * 7


def test_a_folder_holds_sets_larger_than_memory(tmp_path):
    cached = Cached(Counted(lambda i: (torch.full((4,), float(i)), i)), tmp_path / "kept")
    assert [int(cached[i][1]) for i in range(8)] == list(range(8))
    kept = np.fromfile(tmp_path / "kept/examples-0.bin", dtype=np.float32).reshape(8, 4)
    assert kept[:, 0].tolist() == list(range(8))


@pytest.mark.parametrize(
    ("make", "words"),
    [(lambda i: torch.zeros(i + 1), "one shape and type"), (lambda i: object(), "tensors, arrays and numbers")],
)
def test_examples_that_cannot_be_kept_are_refused(make, words):
    with pytest.raises(InvalidInput, match=words):
        _ = Cached(Counted(make))[3]


@pytest.mark.parametrize("workers", [1, 3])
def test_batches_made_ahead_are_the_same_in_the_same_order(workers):
    plain = some(100)
    ahead = Ahead.over(plain, workers=workers)
    for epoch in range(2):
        order = shuffled(100, 16, 0, epoch)
        ahead.expect(order, epoch)
        for index in order:
            one, other = plain.batch(index, epoch), ahead.batch(index, epoch)
            assert torch.equal(one.inputs, other.inputs)
            assert torch.equal(one.labels, other.labels)
            assert one.epoch == other.epoch
    ahead.close()


def test_batches_are_made_by_threads_before_they_are_asked_for():
    made, waiting = threading.Event(), threading.Event()

    class Slow:
        def __len__(self):
            return 4

        def __getitem__(self, index):
            made.set()
            assert waiting.wait(5)
            return np.zeros((len(index), 1, 8, 8), dtype=np.uint8)

    plain = some(4)
    ahead = Ahead.over(type(plain)(Slow(), plain.labels, plain.contract), workers=1)
    ahead.expect([np.arange(2), np.arange(2, 4)])
    assert made.wait(5)  # nobody has asked yet
    waiting.set()
    assert len(ahead.batch(np.arange(2))) == 2
    ahead.close()


def test_a_batch_that_nobody_expected_is_made_at_once_and_faults_come_through():
    ahead = Ahead.over(some(10), workers=1)
    assert len(ahead.batch(np.arange(5))) == 5
    ahead.expect([np.array([99])])
    with pytest.raises(IndexError):
        ahead.batch(np.array([99]))
    with pytest.raises(InvalidInput):
        Ahead.over(some(10), workers=0)
    ahead.close()
