"""A held training: steps come one at a time, and the loop does what it does when nobody holds it."""

import itertools
from collections.abc import Callable

import pytest

from steelyard.trainer.stepping import Stepped


def _three(tell: Callable[[int, float], None]) -> None:
    for done in range(1, 4):
        tell(done, done / 3)


def test_steps_come_when_they_are_asked_for() -> None:
    went: list[int] = []

    def training(tell: Callable[[int, float], None]) -> None:
        for done in range(1, 4):
            went.append(done)
            tell(done, done / 3)

    ticks = itertools.count()
    stepped = Stepped(training, clock=lambda: float(next(ticks)))
    assert went == []
    assert [stepped.step(), list(went), stepped.step(), list(went)] == [1.0, [1], 1.0, [1, 2]]


def test_the_end_is_said_every_time() -> None:
    stepped = Stepped(_three)
    times = [stepped.step() for _ in range(3)]
    assert all(seconds >= 0 for seconds in times)
    for _ in range(2):
        with pytest.raises(StopIteration):
            stepped.step()


def test_what_the_training_raises_is_raised_by_the_step() -> None:
    def training(tell: Callable[[int, float], None]) -> None:
        tell(1, 0.5)
        raise ValueError("no more")

    stepped = Stepped(training)
    stepped.step()
    with pytest.raises(ValueError, match="no more"):
        stepped.step()
