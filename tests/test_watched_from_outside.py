"""`steelyard.torch.watch` and the callbacks. The libraries are not installed here: scripted drivers call hooks in their order.

Lightning's order: `lightning/pytorch/loops/{fit_loop,training_epoch_loop}.py` and its hooks' documentation; the Trainer's:
`transformers/trainer.py`; Keras': `keras/src/backend/torch/trainer.py`.
"""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

import steelyard
from steelyard.errors import InvalidInput
from steelyard.trainer.watch import PHASES

INPUTS = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
LABELS = (INPUTS[:, 0] > 0).long()


def made():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Linear(16, 2))
    return net, torch.optim.Adam(net.parameters(), 0.01)


def loop(net, adam, batches, epochs=2, losses=None):
    """A loop as anybody would write it."""
    for _ in range(epochs):
        for inputs, labels in batches:
            loss = F.cross_entropy(net(inputs), labels)
            adam.zero_grad()
            loss.backward()
            adam.step()
            if losses is not None:
                losses.append(float(loss.detach()))
        with torch.no_grad():
            net(INPUTS)


def batches(size=16):
    return DataLoader(TensorDataset(INPUTS, LABELS), batch_size=size)


def used(found, *names):
    return all((found.phases_s[:, PHASES.index(name)] > 0).all() for name in names)


def test_a_loop_is_watched_without_a_change_and_learns_the_same():
    net, adam = made()
    loop(net, adam, batches())
    other, same = made()
    loader, losses = batches(), []
    with steelyard.torch.watch(model=other, optimiser=same, loader=loader) as run:
        loop(other, same, loader, losses=losses)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))
    found = run.watched
    assert found.name == "Sequential"
    assert found.loss == pytest.approx(losses, abs=1e-7)
    assert found.examples.tolist() == [16, 16, 8] * 2
    assert found.epoch_ends.tolist() == [3, 6]
    assert (found.learning_rate == 0.01).all()
    assert used(found, "data", "forward", "backward", "optimiser")
    assert found.gradient_norms.shape[1] == 2


def test_everything_is_as_it_was_afterwards():
    net, adam = made()
    loader, backward = batches(), torch.Tensor.backward
    with steelyard.torch.watch(model=net, optimiser=adam, loader=loader):
        assert torch.Tensor.backward is not backward
        assert isinstance(loader, DataLoader)
    assert torch.Tensor.backward is backward
    assert type(loader) is DataLoader
    assert not net._forward_pre_hooks
    assert not adam._optimizer_step_pre_hooks


def test_batches_that_share_a_step_are_added_up():
    net, adam = made()
    loader, halves = batches(10), []
    with steelyard.torch.watch(model=net, optimiser=adam, loader=loader) as run:
        for i, (inputs, labels) in enumerate(loader):
            half = F.cross_entropy(net(inputs), labels) / 2
            half.backward()
            halves.append(float(half.detach()))
            if i % 2:
                adam.step()
                adam.zero_grad()
    assert run.watched.examples.tolist() == [20, 20]
    assert run.watched.loss == pytest.approx([halves[0] + halves[1], halves[2] + halves[3]])


def test_without_a_loader_examples_are_those_that_the_net_took():
    net, adam = made()
    with steelyard.torch.watch(model=net, optimiser=adam) as run:
        loop(net, adam, batches(), epochs=1)
    assert run.watched.examples.tolist() == [16, 16, 8]
    assert run.watched.epoch_ends.tolist() == [3]


def test_what_has_no_hooks_is_refused():
    net, adam = made()
    with pytest.raises(InvalidInput, match="model must be PyTorch's own"):
        steelyard.torch.watch(model=lambda x: x, optimiser=adam)
    with (
        pytest.raises(InvalidInput, match="cannot be watched from outside"),
        steelyard.torch.watch(model=net, optimiser=adam, loader=[1]),
    ):
        pass


# --- callbacks ---------------------------------------------------------------------------------------


@pytest.fixture
def library(monkeypatch):
    """A module of this name with these things in it."""

    def install(name, **parts):
        made = ModuleType(name)
        vars(made).update(parts)
        monkeypatch.setitem(sys.modules, name, made)
        if "." in name:
            monkeypatch.setitem(sys.modules, name.partition(".")[0], ModuleType(name.partition(".")[0]))

    return install


def test_lightning_tells_every_phase(library):
    class Base:
        pass

    library("lightning.pytorch", Callback=Base)
    callback = steelyard.callbacks.lightning("mine", monitor=False)
    assert isinstance(callback, Base)
    net, adam = made()
    trainer = SimpleNamespace(optimizers=[adam], callback_metrics={})
    callback.on_validation_start(trainer, net)  # the trial run
    callback.on_train_start(trainer, net)
    for epoch in range(2):
        callback.on_train_epoch_start(trainer, net)
        for i, batch in enumerate(batches()):
            callback.on_train_batch_start(trainer, net, batch, i)
            loss = F.cross_entropy(net(batch[0]), batch[1])
            callback.on_before_zero_grad(trainer, net, adam)
            adam.zero_grad()
            callback.on_before_backward(trainer, net, loss)
            loss.backward()
            callback.on_after_backward(trainer, net)
            callback.on_before_optimizer_step(trainer, net, adam)
            adam.step()
            callback.on_train_batch_end(trainer, net, {"loss": loss.detach()}, batch, i)
        callback.on_validation_start(trainer, net)
        trainer.callback_metrics = {"val_loss": torch.tensor(0.5 + epoch), "val_acc": torch.tensor(0.75)}
        callback.on_train_epoch_end(trainer, net)
    callback.on_train_end(trainer, net)
    found = callback.run.watched
    assert found.examples.tolist() == [16, 16, 8] * 2
    assert used(found, "data", "forward", "backward", "optimiser")
    assert found.scores["validation_loss"].tolist() == [0.5, 1.5]
    assert found.scores["validation"].tolist() == [0.75, 0.75]
    assert (found.learning_rate == 0.01).all()
    assert len(found.layers) == 2


def test_the_trainer_is_seen_through_hooks(library):
    class Base:
        pass

    library("transformers", TrainerCallback=Base)
    callback = steelyard.callbacks.transformers("mine", monitor=False)
    net, adam = made()
    wrapped = SimpleNamespace(optimizer=adam)  # Accelerate's
    callback.on_train_begin(None, None, None, model=net, optimizer=wrapped)
    for epoch in range(2):
        callback.on_epoch_begin(None, None, None, model=net)
        for inputs, labels in batches():
            F.cross_entropy(net(inputs), labels).backward()
            adam.step()
            adam.zero_grad()
            callback.on_step_end(None, None, None)
        callback.on_epoch_end(None, None, None)
        with torch.no_grad():
            net(INPUTS)
        callback.on_evaluate(None, None, None, metrics={"eval_loss": 0.5 + epoch, "eval_accuracy": 0.75})
    callback.on_train_end(None, None, None)
    found = callback.run.watched
    assert found.examples.tolist() == [16, 16, 8] * 2
    assert used(found, "data", "forward", "backward", "optimiser")
    assert found.scores["validation_loss"].tolist() == [0.5, 1.5]
    assert found.epoch_ends.tolist() == [3, 6]


def test_keras_is_parted_by_its_backward_pass(library):
    class Base:
        def __init__(self):
            self.model = None

    library("keras", callbacks=SimpleNamespace(Callback=Base), backend=SimpleNamespace(backend=lambda: "torch"))
    callback = steelyard.callbacks.keras("mine", batch_size=16, monitor=False)
    net, adam = made()
    callback.model = SimpleNamespace(optimizer=SimpleNamespace(learning_rate=0.01))
    backward = torch.Tensor.backward
    callback.on_train_begin()
    for epoch in range(2):
        callback.on_epoch_begin(epoch)
        for i, (inputs, labels) in enumerate(batches()):
            callback.on_train_batch_begin(i)
            loss = F.cross_entropy(net(inputs), labels)
            loss.backward()
            adam.step()
            callback.on_train_batch_end(i, {"loss": float(loss.detach())})
        callback.on_test_begin()
        callback.on_epoch_end(epoch, {"loss": 1.0, "accuracy": 0.9, "val_loss": 0.5, "val_accuracy": 0.75})
    callback.on_train_end()
    assert torch.Tensor.backward is backward
    found = callback.run.watched
    assert used(found, "data", "forward", "backward", "optimiser")
    assert found.scores["training"].tolist() == [0.9, 0.9]
    assert found.scores["validation_loss"].tolist() == [0.5, 0.5]
    assert found.epoch_ends.tolist() == [3, 6]


@pytest.mark.parametrize("name", ["lightning", "transformers", "keras"])
def test_a_library_that_is_not_there_is_asked_for(name, monkeypatch):
    for module in ("lightning.pytorch", "pytorch_lightning", "transformers", "keras"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InvalidInput, match=f"pip install {name}"):
        getattr(steelyard.callbacks, name)()
