"""Where a training step's time goes: the loop says which phase it is in, the watch reads one clock at each change.

A step is in one phase at any time, and in ``other`` where the loop names none, so the phases of a step add up to the step.
A phase opened inside another takes its own time out of the outer one (communication inside backward). What happens between
the last step of an epoch and the first of the next (validation, checkpoints) belongs to no step.

>>> watch = StepWatch(clock=iter([0.0, 0.0, 2.0, 2.0, 3.0, 3.5]).__next__)
>>> with watch.phase("data"):
...     pass
>>> with watch.phase("forward"):
...     pass
>>> watch.step(examples=8, loss=0.7, lr=0.1)
>>> watch.phases_s.tolist()  # data, forward, backward, optimiser, communication, other
[[2.0, 1.0, 0.0, 0.0, 0.0, 0.5]]
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import Any, Literal, Protocol, SupportsFloat

import numpy as np
from numpy.typing import NDArray

from steelyard.records import Floats

__all__ = ["PHASES", "DeviceTimes", "Phase", "StepWatch", "Unwatched", "Watch"]

Phase = Literal["data", "forward", "backward", "optimiser", "communication"]
PHASES = ("data", "forward", "backward", "optimiser", "communication", "other")

_OTHER = PHASES.index("other")
_OUTSIDE = len(PHASES)  # between epochs: validation, checkpoints
_INDEX = {name: index for index, name in enumerate(PHASES)}
_NOTHING = nullcontext()


class Watch(Protocol):
    """What a loop tells: ``begin`` once, phases, ``step`` after each step of the optimiser, ``epoch`` after validation, ``end``.

    All calls come from the loop's own thread.
    """

    def begin(self, model: Any, optimiser: Any) -> None:
        """The net and PyTorch's optimiser (not a wrapper of it), before the first step."""
        ...

    def phase(self, name: Phase) -> AbstractContextManager[object]:
        """The stretch in which the loop does this."""
        ...

    def step(self, *, examples: int, loss: SupportsFloat, lr: float) -> None:
        """A step of the optimiser is over; `loss` is the mean over its examples, a detached tensor if that saves waiting."""
        ...

    def epoch(self, index: int, scores: Mapping[str, float]) -> None:
        """An epoch is over and judged; counted from 0.

        Names that the diagnosis knows: ``validation`` and ``training``, scores on these splits, higher better;
        ``validation_loss``, the mean loss. Others are kept beside them.
        """
        ...

    def end(self) -> None:
        """No more steps; hooks come off."""
        ...


class Unwatched:
    """Nobody looks."""

    def begin(self, model: Any, optimiser: Any) -> None:
        """Nothing."""

    def phase(self, name: Phase) -> AbstractContextManager[object]:  # noqa: ARG002
        """Nothing."""
        return _NOTHING

    def step(self, *, examples: int, loss: SupportsFloat, lr: float) -> None:
        """Nothing."""

    def epoch(self, index: int, scores: Mapping[str, float]) -> None:
        """Nothing."""

    def end(self) -> None:
        """Nothing."""


class StepWatch:
    """Seconds of each phase of each step, with its loss, rate and examples; and where epochs end.

    `device`, where given, marks the same changes of phase in an accelerator's own stream, since a call returns there before its
    work is done.
    """

    def __init__(self, *, clock: Callable[[], float] = time.perf_counter, device: DeviceTimes | None = None) -> None:
        self._clock, self._device = clock, device
        self._phases: dict[str, _Open] = {name: _Open(self, index) for name, index in _INDEX.items()}
        self._below: list[int] = []
        self._spent = [0.0] * (_OUTSIDE + 1)
        self._at, self._since = _OUTSIDE, clock()
        self._rows = array("d")  # PHASES and rate: a step after the other
        self._losses = array("d")
        self._unread: list[SupportsFloat] = []  # losses that may still be on their way from an accelerator
        self._examples = array("q")
        self._epochs: list[tuple[int, int]] = []  # its number, and the steps done when it was over
        self._scores: list[Mapping[str, float]] = []
        self._outside = array("d")

    def begin(self, model: Any, optimiser: Any) -> None:
        """Time before the first phase belongs to no step."""

    def phase(self, name: Phase) -> AbstractContextManager[object]:
        """A stretch of this phase; nestable."""
        return self._phases[name]

    def now(self, name: Phase | None) -> None:
        """From now on it is this phase, or none: for loops that are seen through hooks and have no stretches to enter."""
        self._turn(_OTHER if name is None else _INDEX[name])

    def pause(self) -> None:
        """What follows, and what came since the last step, belongs to no step, until a phase begins."""
        self._turn(_OUTSIDE)
        self._spent = [*[0.0] * _OUTSIDE, sum(self._spent)]

    def step(self, *, examples: int, loss: SupportsFloat, lr: float) -> None:
        """Close the step."""
        self._turn(self._below[-1] if self._below else _OTHER)
        self._rows.extend((*self._spent[:_OUTSIDE], lr))
        self._unread.append(loss)
        self._examples.append(examples)
        self._spent[:_OUTSIDE] = [0.0] * _OUTSIDE
        if self._device is not None:
            self._device.step()

    def epoch(self, index: int, scores: Mapping[str, float]) -> None:
        """Close the epoch: time since its last step belonged to no step."""
        self.pause()
        self._read_losses()
        self._outside.append(self._spent.pop())
        self._spent.append(0.0)
        self._epochs.append((index, len(self)))
        self._scores.append(dict(scores))

    def end(self) -> None:
        """Nothing is held open."""

    def __len__(self) -> int:
        return len(self._examples)

    @property
    def phases_s(self) -> Floats:
        """Seconds ``(steps, PHASES)`` by the loop's clock."""
        return self._table()[:, :_OUTSIDE]

    @property
    def loss(self) -> Floats:
        """Of each step, the mean over its examples."""
        self._read_losses()
        return np.array(self._losses, dtype=np.float64)

    @property
    def learning_rate(self) -> Floats:
        """Of each step."""
        return self._table()[:, _OUTSIDE]

    @property
    def examples(self) -> NDArray[np.int64]:
        """Of each step."""
        return np.array(self._examples, dtype=np.int64)

    @property
    def epoch_ends(self) -> NDArray[np.int64]:
        """Steps done when each epoch was over."""
        return np.array([steps for _, steps in self._epochs], dtype=np.int64)

    @property
    def epochs(self) -> NDArray[np.int64]:
        """The number of each epoch; a training that was resumed does not begin at 0."""
        return np.array([index for index, _ in self._epochs], dtype=np.int64)

    @property
    def outside_s(self) -> Floats:
        """Seconds of each epoch that belong to no step: before its first, and after its last until it was judged."""
        return np.array(self._outside, dtype=np.float64)

    @property
    def scores(self) -> dict[str, Floats]:
        """By name, a number for each epoch; NaN where an epoch was not given it."""
        names = dict.fromkeys(name for row in self._scores for name in row)
        return {name: np.array([row.get(name, np.nan) for row in self._scores]) for name in names}

    @property
    def device_s(self) -> Floats | None:
        """As `phases_s`, by the accelerator's clock; None without one."""
        return None if self._device is None else self._device.table()

    def _table(self) -> Floats:
        return np.array(self._rows, dtype=np.float64).reshape(-1, _OUTSIDE + 1)

    def _read_losses(self) -> None:
        self._losses.extend(map(float, self._unread))
        self._unread.clear()

    def _turn(self, index: int) -> None:
        """Charge the time since the last change to the phase that it was, and begin another."""
        now = self._clock()
        self._spent[self._at] += now - self._since
        self._at, self._since = index, now
        if self._device is not None:
            self._device.turn(index)


class _Open:
    """One phase of a watch, made once and entered at every step."""

    __slots__ = ("_index", "_watch")

    def __init__(self, watch: StepWatch, index: int) -> None:
        self._watch, self._index = watch, index

    def __enter__(self) -> None:
        watch = self._watch
        watch._below.append(_OTHER if watch._at == _OUTSIDE else watch._at)
        watch._turn(self._index)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._watch._turn(self._watch._below.pop())


class DeviceTimes:
    """Seconds of each phase in a CUDA stream, from timed events at its changes; read back some hundred events at a time.

    `event` makes a started mark that knows ``elapsed_time(later)`` in milliseconds and ``synchronize()``, as `torch.cuda.Event`
    does.
    """

    _HELD = 512

    def __init__(self, event: Callable[[], Any]) -> None:
        self._event = event
        self._marks: list[tuple[Any, int]] = []  # an event, and the phase that it begins
        self._cuts: list[int] = []  # marks that end a step
        self._rows: list[list[float]] = []
        self._row = [0.0] * (_OUTSIDE + 1)

    @classmethod
    def cuda(cls) -> DeviceTimes:
        """Of PyTorch's current stream."""
        import torch

        def event() -> Any:
            made = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            made.record()
            return made

        return cls(event)

    def turn(self, index: int) -> None:
        """A phase begins, and the one before it ends."""
        self._marks.append((self._event(), index))

    def step(self) -> None:
        """The last change of phase ended a step."""
        self._cuts.append(len(self._marks) - 1)
        if len(self._marks) > self._HELD:
            self._read()

    def table(self) -> Floats:
        """``(steps, PHASES)``; waits for the work that was marked."""
        self._read()
        return np.array(self._rows, dtype=np.float64).reshape(-1, _OUTSIDE)

    def _read(self) -> None:
        if not self._marks:
            return
        self._marks[-1][0].synchronize()
        cuts = set(self._cuts)
        for place in range(1, len(self._marks)):
            (before, phase), (after, _) = self._marks[place - 1], self._marks[place]
            self._row[phase] += before.elapsed_time(after) / 1e3
            if place in cuts:
                self._rows.append(self._row[:_OUTSIDE])
                self._row = [0.0] * (_OUTSIDE + 1)
        self._marks, self._cuts = self._marks[-1:], []
