import json

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import steelyard
from steelyard.errors import InvalidInput
from steelyard.pipeline.watching import size_of
from steelyard.records import decode
from steelyard.report.training import role_bytes
from steelyard.trainer.watch import PHASES

INPUTS = torch.randn(60, 5, generator=torch.Generator().manual_seed(0))
LABELS = (INPUTS[:, 0] > 0).long()


def made(seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
    return net, torch.optim.SGD(net.parameters(), 0.1, momentum=0.9)


def loader(batch=16):
    return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=batch)


def told(run, net, sgd, epochs=3, batch=16):
    for _ in range(epochs):
        for inputs, labels in run.batches(loader(batch)):
            with run.forward():
                loss = F.cross_entropy(net(inputs), labels)
            with run.backward():
                loss.backward()
            with run.optimiser():
                sgd.step()
                sgd.zero_grad()
            run.step(loss)
        run.epoch(validation=0.5)


def test_a_loop_that_is_watched_learns_the_same_bit_for_bit():
    net, sgd = made()
    for _ in range(3):
        for inputs, labels in loader():
            F.cross_entropy(net(inputs), labels).backward()
            sgd.step()
            sgd.zero_grad()
    other, adam = made()
    with steelyard.training(model=other, optimiser=adam, every=1, monitor=False) as run:
        told(run, other, adam)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_the_record_holds_steps_epochs_examples_and_rates():
    net, sgd = made()
    with steelyard.training("mine", model=net, optimiser=sgd, every=1, monitor=False) as run:
        told(run, net, sgd)
    found = run.watched
    assert found.name == "mine"
    assert found.examples.tolist() == [16, 16, 16, 12] * 3
    assert found.epoch_ends.tolist() == [4, 8, 12]
    assert found.scores["validation"].tolist() == [0.5] * 3
    assert (found.learning_rate == 0.1).all()
    assert found.loader == {
        "num_workers": 0,
        "pin_memory": False,
        "persistent_workers": False,
        "batch_size": 16,
        "drop_last": False,
    }
    assert found.label_counts == tuple(np.bincount(LABELS.numpy()) * 3)
    assert (found.phases_s[:, : PHASES.index("optimiser") + 1] > 0).all()
    assert not [w for w in found.readings if w.quantity == "training_memory_bytes" and not hasattr(w, "values")]
    assert (
        role_bytes(found)["activations"] == 4 * 16 * (5 + 16) + 4 * 16 * 2 + 8 * 16 + 4
    )  # and log-softmax, labels, the total


def test_epochs_that_are_not_told_are_seen_at_the_loaders_end():
    net, sgd = made()
    with steelyard.training(model=net, optimiser=sgd, monitor=False) as run:
        for _ in range(2):
            for inputs, labels in run.batches(loader()):
                F.cross_entropy(net(inputs), labels).backward()
                sgd.step()
                run.step(0.5)
    assert run.watched.epoch_ends.tolist() == [4, 8]
    assert run.watched.scores == {}


def test_any_loop_can_be_told_without_a_net():
    with steelyard.training(monitor=False) as run:
        for batch in run.batches([np.zeros((4, 2)), {"x": np.zeros((3, 2))}, [7]]):
            run.step(1.0, lr=0.5)
            assert batch is not None
    assert run.watched.examples.tolist() == [4, 3, 1]
    assert run.watched.gradient_norms.size == 0


def test_an_error_passes_through_and_leaves_what_was_seen(tmp_path):
    net, sgd = made()
    run = steelyard.training(out=tmp_path / "run", model=net, optimiser=sgd, monitor=False)

    def fails():
        with run:
            told(run, net, sgd, epochs=1)
            raise KeyError("mine")

    with pytest.raises(KeyError):
        fails()
    assert run.watched.ended == "KeyError: 'mine'"
    assert len(run.watched.loss) == 4
    record = decode((tmp_path / "run/records.jsonl").read_text().splitlines()[0])
    assert record.loss == pytest.approx(run.watched.loss)


def test_folder_holds_record_findings_and_page_and_printing_says_it(tmp_path):
    net, sgd = made()
    with steelyard.training("mine", out=tmp_path / "run", model=net, optimiser=sgd, validation_examples=100) as run:
        told(run, net, sgd, epochs=4, batch=2)
    lines = (tmp_path / "run/records.jsonl").read_text().splitlines()
    assert [json.loads(line)["record"][0]["type"] if i else json.loads(line)["record"]["type"] for i, line in enumerate(lines)] == [
        "Watched", "Finding",
    ]  # fmt: skip
    assert "under-filled-batch" in str(run)
    assert "Examples per second" in str(run)
    assert run.report.read_text().startswith("<!doctype html>")


def test_a_name_that_is_a_net_is_refused():
    with pytest.raises(InvalidInput, match="name is a string"):
        steelyard.training(nn.Linear(1, 1))


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (torch.zeros(3, 2), 3),
        ([torch.zeros(4), torch.zeros(1)], 4),
        ({"a": np.zeros((5, 1))}, 5),
        (7, 1),
        ((), 0),
        (torch.tensor(1), 1),
    ],
)
def test_sizes_of_batches(batch, size):
    assert size_of(batch) == size
