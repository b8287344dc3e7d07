"""The loop against the same loop in plain PyTorch, gradients against the whole batch's, and what ends a training."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.subject.data import digits
from steelyard.trainer.examples import Batch, Examples, shuffled
from steelyard.trainer.loop import fit, right, score_of
from steelyard.trainer.recipe import Recipe

CONTRACT = Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=tuple("0123456789"))


@pytest.fixture(autouse=True)
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def train() -> Examples:
    return Examples.of(digits().train.take(np.arange(300)), CONTRACT)


@pytest.fixture(scope="module")
def held() -> Examples:
    return Examples.of(digits().validation, CONTRACT)


def net(*, norm: bool = False, dropout: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    normed = [nn.BatchNorm2d(8)] if norm else []
    return nn.Sequential(
        nn.Conv2d(1, 8, 3, stride=2), *normed, nn.ReLU(), nn.Flatten(), nn.Dropout(dropout), nn.Linear(72, 10)
    )


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


# --- the same as plain PyTorch -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "make"),
    [
        ({"optimiser": "sgd", "nesterov": True}, lambda p: torch.optim.SGD(p, 0.05, 0.9, 0, 1e-3, nesterov=True)),
        ({"optimiser": "adam"}, lambda p: torch.optim.Adam(p, 0.05, weight_decay=1e-3)),
        ({"optimiser": "adamw"}, lambda p: torch.optim.AdamW(p, 0.05, weight_decay=1e-3)),
        ({"optimiser": "rmsprop"}, lambda p: torch.optim.RMSprop(p, 0.05, momentum=0.9, weight_decay=1e-3)),
    ],
)
def test_it_is_the_loop_that_one_would_write(train: Examples, settings: dict[str, Any], make: Any) -> None:
    recipe = Recipe(lr=0.05, weight_decay=1e-3, epochs=2, batch=64, clip_norm=1.0, seed=3, **settings)
    ours, theirs = net(norm=True), net(norm=True)
    history = fit(ours, train, recipe)
    optimiser = make(theirs.parameters())
    schedule = CosineAnnealingLR(optimiser, 10)
    losses = []
    theirs.train()
    for epoch in range(2):
        for index in shuffled(len(train), 64, 3, epoch):
            batch = train.batch(index)
            optimiser.zero_grad()
            loss = nn.functional.cross_entropy(theirs(batch.inputs), batch.labels)
            loss.backward()
            nn.utils.clip_grad_norm_(theirs.parameters(), 1.0)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
    assert torch.equal(weights(ours), weights(theirs))
    assert torch.equal(ours[1].running_var, theirs[1].running_var)
    np.testing.assert_allclose(history.loss, losses, rtol=1e-6)
    assert history.ended == "done"
    assert history.examples.tolist() == [64, 64, 64, 64, 44] * 2
    assert not ours.training


def test_an_epochs_loss_counts_each_example_once(train: Examples) -> None:
    """At a rate of nearly nothing the weights stand still, so the epoch's loss is the set's."""
    model = net()
    history = fit(model, train, Recipe(lr=1e-12, epochs=2, batch=64))
    everything = train.batch(np.arange(len(train)))
    with torch.no_grad():
        whole = nn.functional.cross_entropy(model(everything.inputs), everything.labels).item()
    np.testing.assert_allclose(history.epoch_loss, [whole, whole], rtol=1e-5)
    assert abs(history.loss[:5].mean() - whole) > 1e-4 * whole, "the mean of batch means is another number"


@pytest.mark.parametrize("accumulation", [2, 3, 5])
def test_accumulated_gradients_are_those_of_the_whole_batch(train: Examples, accumulation: int) -> None:
    """Batches of 64, 64, 64, 64 and 44: in groups of any size, however uneven, the mean is over examples."""
    some, whole = net(), net()
    fit(some, train, Recipe(lr=0.1, steps=1, batch=64, accumulation=accumulation, schedule="constant"))
    index = np.concatenate(shuffled(len(train), 64, 0, 0)[:accumulation])
    batch = train.batch(index)
    nn.functional.cross_entropy(whole(batch.inputs), batch.labels).backward()
    expected = torch.cat([(p - 0.1 * p.grad).detach().flatten() for p in whole.parameters()])  # type: ignore[operator]
    torch.testing.assert_close(weights(some), expected, rtol=1e-4, atol=1e-6)


def test_one_seed_gives_one_training_and_leaves_the_callers_chance_alone(train: Examples) -> None:
    recipe = Recipe(lr=0.05, steps=6, batch=32, seed=5)
    torch.manual_seed(11)
    before = torch.get_rng_state()
    first, second, other = net(dropout=0.3), net(dropout=0.3), net(dropout=0.3)
    torch.set_rng_state(before)
    fit(first, train, recipe)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(7)
    fit(second, train, recipe)
    fit(other, train, Recipe(lr=0.05, steps=6, batch=32, seed=6))
    assert torch.equal(weights(first), weights(second))
    assert not torch.equal(weights(first), weights(other))


# --- what it adds ------------------------------------------------------------------------------------


def test_the_average_forgets_as_its_decay_says(train: Examples) -> None:
    recipe = Recipe(lr=0.05, steps=6, batch=32, schedule="constant")
    seen: list[torch.Tensor] = []
    model = net()

    class Watching(nn.Module):
        def forward(self, inner: nn.Module, batch: Batch) -> torch.Tensor:
            seen.append(weights(inner))
            return nn.functional.cross_entropy(inner(batch.inputs), batch.labels)

    fit(model, train, recipe, objective=Watching())
    averaged = net()
    fit(averaged, train, Recipe(lr=0.05, steps=6, batch=32, schedule="constant", ema=0.5))
    expected = seen[1]  # after the first step
    for count, now in enumerate([*seen[2:], weights(model)], 1):
        decay = min(0.5, (1 + count) / (10 + count))
        expected = decay * expected + (1 - decay) * now
    torch.testing.assert_close(weights(averaged), expected, rtol=1e-4, atol=1e-6)


def test_the_best_epochs_weights_are_kept(train: Examples, held: Examples) -> None:
    """A rate that wrecks the net after a while: the last epoch is not the best."""
    model = net()
    history = fit(
        model, train, Recipe(lr=0.9, epochs=6, batch=32, schedule="hold-then-decay", hold=99), validation=held
    )
    assert history.best_epoch == int(np.flatnonzero(history.validation == history.validation.max())[-1])
    assert score_of(model, held) == pytest.approx(history.validation.max())
    last = net()
    kept = fit(
        last,
        train,
        Recipe(lr=0.9, epochs=6, batch=32, schedule="hold-then-decay", hold=99, keep="last"),
        validation=held,
    )
    assert score_of(last, held) == pytest.approx(kept.validation[-1])


def test_patience_ends_a_training_that_no_longer_learns(train: Examples, held: Examples) -> None:
    history = fit(net(), train, Recipe(lr=1e-12, epochs=50, batch=64, patience=3), validation=held)
    assert history.ended == "patience"
    assert len(history.validation) == 4
    assert history.best_epoch == 3, "of equals the last"


def test_scores_count_each_example_once(held: Examples) -> None:
    model = net()
    everything = held.batch(np.arange(len(held)))
    expected = right(model.eval()(everything.inputs), everything.labels).mean().item()
    assert score_of(model, held, size=7) == pytest.approx(expected)
    assert score_of(model, held, size=1000) == pytest.approx(expected)


def test_a_last_batch_of_one_does_not_stop_batch_normalisation(train: Examples) -> None:
    some = Examples(train.raw, train.labels[:65], CONTRACT)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10), nn.BatchNorm1d(10))
    assert fit(model, some, Recipe(epochs=1, batch=32)).examples.tolist() == [32, 33]
    with pytest.raises(
        InvalidInput, match="batch normalisation cannot train on batches of 1 example: give a batch of 2"
    ):
        fit(model, some, Recipe(epochs=1, batch=1))


def test_augmentation_sees_every_training_batch_and_no_validation(train: Examples, held: Examples) -> None:
    seen: list[int] = []

    def darker(batch: Batch) -> Batch:
        seen.extend(batch.index.tolist())
        return Batch(0 * batch.inputs, batch.labels, batch.teacher, batch.index)

    model = net()
    history = fit(model, train, Recipe(lr=0.01, epochs=1, batch=64), augment=darker, validation=held)
    assert sorted(seen) == list(range(len(train)))
    assert history.loss.min() > 2.0, "nothing can be learned from darkness"


@pytest.mark.parametrize("settings", [{"amp": "bf16"}, {"channels_last": True}])
def test_other_precisions_and_layouts_learn_alike_and_leave_the_model_as_it_was(
    train: Examples, settings: dict[str, Any]
) -> None:
    plain, other = net(norm=True), net(norm=True)
    fit(plain, train, Recipe(lr=0.05, steps=8, batch=32))
    fit(other, train, Recipe(lr=0.05, steps=8, batch=32, **settings))
    torch.testing.assert_close(weights(other), weights(plain), rtol=0.1, atol=0.02)
    assert vars(other).keys() == vars(net(norm=True)).keys()
    assert all(p.is_contiguous() and p.dtype == torch.float32 and p.grad is None for p in other.parameters())
    copy.deepcopy(other)


def test_fp16_scales_its_loss(train: Examples) -> None:
    """On the processor too, where Accelerate would go on in fp32 and say nothing."""
    seen: set[torch.dtype] = set()
    model = net()
    model[0].register_forward_hook(lambda _m, _i, output: seen.add(output.dtype) or None)
    history = fit(model, train, Recipe(lr=0.05, steps=25, batch=32, amp="fp16", clip_norm=1.0, l1=1e-5))
    assert history.loss[-5:].mean() < 0.7 * history.loss[:5].mean()
    assert seen == {torch.float16}


# --- the end -----------------------------------------------------------------------------------------


class Ticking:
    """A clock that moves on by a step each time it is looked at."""

    def __init__(self, seconds: float) -> None:
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        self.now += self.seconds
        return self.now


def test_a_time_limit_holds_between_steps_and_the_rate_still_comes_down(train: Examples) -> None:
    long = fit(net(), train, Recipe(lr=0.1, epochs=1000, seconds=100, batch=32), clock=Ticking(0.1))
    assert long.ended == "time"
    assert 10 < len(long) < 1000
    assert long.learning_rate[0] == pytest.approx(0.1)
    assert long.learning_rate[-1] < 0.001
    assert (np.diff(long.learning_rate) < 1e-3).all()


def test_time_that_is_plenty_changes_nothing(train: Examples) -> None:
    limited, free = net(), net()
    fit(limited, train, Recipe(lr=0.05, epochs=2, batch=64, seconds=1e6))
    fit(free, train, Recipe(lr=0.05, epochs=2, batch=64))
    assert torch.equal(weights(limited), weights(free))


def test_time_alone_ends_it_too(train: Examples) -> None:
    history = fit(net(), train, Recipe(lr=0.1, seconds=50, batch=32), clock=Ticking(0.1))
    assert history.ended == "time"
    assert history.learning_rate[-1] < 0.005


@pytest.mark.parametrize("kept", [False, True])
def test_a_loss_that_is_not_finite_stops_with_the_last_good_weights(
    train: Examples, held: Examples, kept: bool
) -> None:
    """In the second epoch the loss of one batch is made NaN."""
    calls = 0
    after_first: list[torch.Tensor] = []

    def objective(model: nn.Module, batch: Batch) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 6:
            after_first.append(weights(model))
        loss = nn.functional.cross_entropy(model(batch.inputs), batch.labels)
        return loss * float("nan") if calls == 8 else loss

    model = net()
    history = fit(
        model, train, Recipe(lr=0.05, epochs=9, batch=64), objective=objective, validation=held if kept else None
    )
    assert history.ended == "diverged"
    index = shuffled(300, 64, 0, 1)[2][:5]
    assert history.note.startswith(
        f"the loss became nan at step 8, in epoch 2, on the batch of examples {', '.join(map(str, index))} ...:"
    )
    assert "a lower rate or clip_norm may help" in history.note
    assert len(history) == 7
    assert torch.equal(weights(model), after_first[0])


def test_inputs_that_are_not_finite_are_blamed(train: Examples) -> None:
    raw = np.asarray(train.raw).astype(np.float32)
    raw[17] = np.inf
    model = net()
    before = weights(model)
    history = fit(model, Examples(raw, train.labels, CONTRACT), Recipe(lr=0.05, epochs=1, batch=300))
    assert history.ended == "diverged"
    assert "its inputs are not finite either: clean the data" in history.note
    assert torch.equal(weights(model), before)
    assert len(history) == 0
    assert len(history.epoch_loss) == 0


def test_nothing_to_train_is_bad_input(train: Examples) -> None:
    frozen = net()
    frozen.requires_grad_(False)
    with pytest.raises(InvalidInput, match="no parameters that require gradients"):
        fit(frozen, train, Recipe(epochs=1))
    with pytest.raises(InvalidInput, match="no examples"):
        fit(net(), Examples(train.raw, train.labels[:0], CONTRACT), Recipe(epochs=1))


def test_a_history_is_written_as_json(train: Examples, held: Examples, tmp_path: Path) -> None:
    told: list[tuple[int, float]] = []
    history = fit(
        net(), train, Recipe(epochs=2, batch=64), validation=held, tell=lambda step, share: told.append((step, share))
    )
    history.write(tmp_path / "history.json")
    read = json.loads((tmp_path / "history.json").read_text())
    assert read["loss"] == history.loss.tolist()
    assert read["ended"] == "done"
    assert len(read["validation"]) == 2
    assert (history.wait_s <= history.step_s).all()
    assert told == [(step, pytest.approx(step / 10)) for step in range(1, 11)]


# --- averages, faults, what is left out ------------------------------------------------------------------


def test_equal_averages_are_the_mean_of_the_epochs_weights_with_statistics_of_the_data(train: Examples) -> None:
    """Izmailov et al. 2018, algorithm 1: batch normalisation's statistics are made by a pass over the data."""
    recipe = Recipe(lr=0.05, epochs=4, batch=60, schedule="constant")
    plain, averaged = net(norm=True), net(norm=True)
    ends: list[torch.Tensor] = []
    fit(plain, train, recipe, tell=lambda step, _share: ends.append(weights(plain)) if step % 5 == 0 else None)
    fit(averaged, train, Recipe(lr=0.05, epochs=4, batch=60, schedule="constant", swa=0.5))
    torch.testing.assert_close(weights(averaged), torch.stack(ends[1:]).mean(0), rtol=1e-4, atol=1e-6)
    inputs = train.batch(np.arange(len(train))).inputs
    with torch.no_grad():
        seen = averaged[0](inputs).transpose(0, 1).flatten(1)
    torch.testing.assert_close(averaged[1].running_mean, seen.mean(1), rtol=1e-3, atol=1e-4)


def test_the_first_layer_that_is_not_finite_is_named(train: Examples) -> None:
    model = net(norm=True)

    def broken(inner: nn.Module, batch: Batch) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 3:
            with torch.no_grad():
                inner[5].bias[2] = float("inf")
        return nn.functional.cross_entropy(inner(batch.inputs), batch.labels)

    calls: list[int] = []
    history = fit(model, train, Recipe(lr=0.05, epochs=2, batch=64), objective=broken)
    assert history.ended == "diverged"
    assert "at step 3, in epoch 1" in history.note
    assert "first in layer 5 (Linear, its weights too); a lower rate" in history.note


class Torn:
    """Pictures, some of which cannot be read from some reading on."""

    def __init__(self, rows: Any, bad: dict[int, int]) -> None:
        self.rows, self.bad, self.reads = rows, bad, 0

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        self.reads += 1
        for position in np.atleast_1d(index):
            if self.reads > self.bad.get(int(position), 10**9):
                raise OSError(f"picture-{position}.png is cut off")
        return self.rows[index]


def test_an_example_that_cannot_be_read_is_named(train: Examples) -> None:
    data = Examples(Torn(train.raw, {17: 7}), train.labels, CONTRACT)
    with pytest.raises(
        InvalidInput, match=r"training example 17 cannot be read: picture-17\.png is cut off; --skip-bad"
    ):
        fit(net(), data, Recipe(epochs=3, batch=64))


def test_skipped_examples_are_counted_and_the_rest_train_as_without_them(train: Examples) -> None:
    """Two of a batch cannot be read from the first step on: the mean is over the others, and dropout is drawn anew."""
    bad = [int(i) for i in shuffled(300, 64, 0, 0)[0][[3, 9]]]
    ours, theirs = net(norm=True), net(norm=True)
    history = fit(
        ours, Examples(Torn(train.raw, dict.fromkeys(bad, 0)), train.labels, CONTRACT),
        Recipe(lr=0.1, steps=1, batch=64, momentum=0.0), skip_bad=True,
    )  # fmt: skip
    assert history.unread == tuple((i, f"picture-{i}.png is cut off") for i in sorted(bad))
    assert history.examples.tolist() == [62]
    index = np.array([i for i in shuffled(300, 64, 0, 0)[0] if i not in bad])
    batch = train.batch(index)
    theirs.train()
    nn.functional.cross_entropy(theirs(batch.inputs), batch.labels).backward()
    expected = torch.cat([(p - 0.1 * p.grad).detach().flatten() for p in theirs.parameters()])  # type: ignore[operator]
    torch.testing.assert_close(weights(ours), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(ours[1].running_mean, theirs[1].running_mean)


def test_data_of_which_nothing_can_be_read_is_bad_input(train: Examples) -> None:
    data = Examples(Torn(train.raw, dict.fromkeys(range(300), 0)), train.labels, CONTRACT)
    with pytest.raises(InvalidInput, match=r"no example of a batch can be read: OSError: picture-\d+\.png is cut off"):
        fit(net(), data, Recipe(epochs=1, batch=64), skip_bad=True)


# --- what is told -------------------------------------------------------------------------------------------


def test_a_watch_is_told_every_phase_step_and_epoch(train: Examples, held: Examples) -> None:
    from steelyard.trainer.watch import StepWatch

    watch = StepWatch()
    history = fit(
        net(), train, Recipe(epochs=2, batch=64, accumulation=2, micro_batch=32), validation=held, watch=watch
    )
    assert watch.loss.tolist() == history.loss.tolist()
    assert watch.learning_rate.tolist() == history.learning_rate.tolist()
    assert watch.examples.tolist() == history.examples.tolist() == [128, 128, 44] * 2
    assert (watch.phases_s[:, :4] > 0).all()
    assert watch.epoch_ends.tolist() == [3, 6]
    assert watch.scores["validation"].tolist() == history.validation.tolist()
    assert watch.scores["validation_loss"].tolist() == history.validation_loss.tolist()


def test_validation_loss_is_the_plain_cross_entropy_over_all(train: Examples, held: Examples) -> None:
    model = net()
    history = fit(model, train, Recipe(epochs=1, batch=64, label_smoothing=0.2), validation=held)
    everything = held.batch(np.arange(len(held)))
    with torch.no_grad():
        expected = nn.functional.cross_entropy(model(everything.inputs), everything.labels).item()
    assert history.validation_loss[0] == pytest.approx(expected, rel=1e-5)
    assert (np.diff(history.epoch_end_s) > 0).all()


# --- faster ------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_compiled_net_learns_alike_and_is_left_plain(train: Examples) -> None:
    def make() -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))

    plain, compiled = make(), make()
    fit(plain, train, Recipe(lr=0.05, steps=3, batch=32))
    fit(compiled, train, Recipe(lr=0.05, steps=3, batch=32, compile=True))
    torch.testing.assert_close(weights(compiled), weights(plain), rtol=1e-2, atol=1e-4)
    assert vars(compiled).keys() == vars(make()).keys()


def test_deterministic_mode_refuses_what_is_not_and_ends_with_the_training(train: Examples) -> None:
    def chancy(model: nn.Module, batch: Batch) -> torch.Tensor:
        assert torch.are_deterministic_algorithms_enabled()
        return nn.functional.cross_entropy(model(batch.inputs), batch.labels)

    one, other = net(dropout=0.3), net(dropout=0.3)
    for model in (one, other):
        fit(model, train, Recipe(steps=3, batch=64, deterministic=True), objective=chancy)
    assert torch.equal(weights(one), weights(other))
    assert not torch.are_deterministic_algorithms_enabled()
