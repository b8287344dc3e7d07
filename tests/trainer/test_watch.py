import itertools
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.trainer.watch import PHASES, DeviceTimes, StepWatch, Unwatched

NAMES = PHASES[:-1]


class Hand:
    """A clock that is moved by hand."""

    now = 0.0

    def __call__(self):
        return self.now

    def pass_(self, seconds):
        self.now += seconds


@given(
    st.lists(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 5), st.integers(0, 5)), max_size=6), min_size=1)
)
def test_phases_of_a_step_add_up_to_the_step(steps):
    clock = Hand()
    watch = StepWatch(clock=clock)
    for phases in steps:
        with watch.phase("data"):
            clock.pass_(1)
        for name, inside, between in phases:
            with watch.phase(name):
                clock.pass_(inside)
            clock.pass_(between)
        watch.step(examples=3, loss=0.5, lr=0.1)
    assert watch.phases_s.sum() == pytest.approx(clock.now)
    spent = {name: sum(i for phases in steps for n, i, _ in phases if n == name) for name in NAMES}
    spent["data"] += len(steps)
    assert watch.phases_s.sum(axis=0)[:-1].tolist() == [spent[name] for name in NAMES]


def test_a_phase_inside_another_takes_its_time_out_of_it():
    clock = Hand()
    watch = StepWatch(clock=clock)
    with watch.phase("backward"):
        clock.pass_(3)
        with watch.phase("communication"):
            clock.pass_(2)
            with watch.phase("communication"):
                clock.pass_(1)
        clock.pass_(4)
    watch.step(examples=1, loss=1.0, lr=0.1)
    assert dict(zip(PHASES, watch.phases_s[0].tolist(), strict=True)) == {
        "data": 0, "forward": 0, "backward": 7, "optimiser": 0, "communication": 3, "other": 0,
    }  # fmt: skip


def test_what_lies_between_epochs_belongs_to_no_step():
    clock = Hand()
    watch = StepWatch(clock=clock)
    clock.pass_(100)  # before the first step
    for epoch in range(2):
        for _ in range(3):
            with watch.phase("forward"):
                clock.pass_(1)
            watch.step(examples=4, loss=0.25, lr=0.5)
        clock.pass_(10)
        watch.epoch(epoch, {"validation": 0.5 + epoch / 4})
    assert watch.phases_s.sum() == 6
    assert watch.outside_s.tolist() == [110, 10]
    assert watch.epoch_ends.tolist() == [3, 6]
    assert watch.epochs.tolist() == [0, 1]
    assert watch.scores["validation"].tolist() == [0.5, 0.75]
    assert (watch.loss == 0.25).all()
    assert (watch.learning_rate == 0.5).all()
    assert watch.examples.sum() == 24


def test_a_score_that_one_epoch_lacks_is_not_a_number():
    watch = StepWatch()
    watch.epoch(0, {"validation": 0.5})
    watch.epoch(1, {"training": 0.7})
    assert np.isnan(watch.scores["validation"][1])
    assert np.isnan(watch.scores["training"][0])


def test_waiting_for_batches_that_never_come_is_not_of_a_step():
    clock = Hand()
    watch = StepWatch(clock=clock)
    with watch.phase("forward"):
        clock.pass_(1)
    watch.step(examples=1, loss=1.0, lr=0.1)
    with watch.phase("data"):
        clock.pass_(5)
    watch.pause()
    clock.pass_(2)
    watch.epoch(0, {})
    with watch.phase("forward"):
        clock.pass_(1)
    watch.step(examples=1, loss=1.0, lr=0.1)
    assert watch.phases_s.sum(axis=1).tolist() == [1, 1]
    assert watch.outside_s.tolist() == [7]


def test_phases_told_by_hooks_are_those_told_by_stretches():
    clock, hooked = Hand(), None
    hooked = StepWatch(clock=clock)
    for name, seconds in (("data", 1), ("forward", 2), (None, 3), ("backward", 4)):
        hooked.now(name)
        clock.pass_(seconds)
    hooked.step(examples=1, loss=1.0, lr=0.1)
    assert hooked.phases_s[0].tolist() == [1, 2, 4, 0, 0, 3]


def test_losses_may_wait_until_an_epoch_ends():
    read = []

    class Late:
        def __float__(self):
            read.append(self)
            return 2.0

    watch = StepWatch()
    for _ in range(3):
        watch.step(examples=1, loss=Late(), lr=0.1)
    assert not read
    watch.epoch(0, {})
    assert len(read) == 3
    assert watch.loss.tolist() == [2, 2, 2]


def test_an_error_inside_a_phase_passes_through_and_closes_it():
    clock = Hand()
    watch = StepWatch(clock=clock)

    def fails():
        with watch.phase("forward"):
            clock.pass_(1)
            raise KeyError

    with pytest.raises(KeyError):
        fails()
    clock.pass_(2)
    watch.step(examples=1, loss=1.0, lr=0.1)
    assert watch.phases_s[0].tolist() == [0, 1, 0, 0, 0, 2]


def test_device_times_are_those_between_marks_however_often_they_are_read():
    """Events of a scripted device, whose time runs at three times the loop's."""
    ticks = itertools.count()

    def event():
        at = next(ticks)
        return SimpleNamespace(at=at, elapsed_time=lambda later: 3000.0 * (later.at - at), synchronize=lambda: None)

    device = DeviceTimes(event)
    device._HELD = 5  # read back again and again
    watch = StepWatch(clock=Hand(), device=device)
    for _ in range(20):
        for name in ("data", "forward", "backward"):
            with watch.phase(name):
                pass
        watch.step(examples=1, loss=1.0, lr=0.1)
    found = watch.device_s
    assert found.shape == (20, len(PHASES))
    assert (found[1:, :3] == 3).all()
    assert (found[1:].sum(axis=1) == found[1].sum()).all()


def test_unwatched_takes_everything_and_keeps_nothing():
    nobody = Unwatched()
    nobody.begin(None, None)
    with nobody.phase("data"):
        nobody.step(examples=1, loss=1.0, lr=0.1)
    nobody.epoch(0, {})
    nobody.end()
