"""A training that waits after every step: so that the steps of several trainings can take turns.

The loop runs unchanged in a thread of its own and is held in what it calls to tell its progress; a step's time is from
being let go to telling again, as whoever trains meets it.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

__all__ = ["Stepped"]

Tell = Callable[[int, float], None]


class Stepped:
    """`training` is called with what it must call after every step, and ends only when it is let go no more."""

    def __init__(self, training: Callable[[Tell], object], *, clock: Callable[[], float] = time.perf_counter) -> None:
        self._training, self._clock = training, clock
        self._go = threading.Semaphore(0)
        self._told: queue.SimpleQueue[float | BaseException] = queue.SimpleQueue()
        self._released = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def step(self) -> float:
        """Seconds of the next step. Raises what the training raised, and `StopIteration` after its end."""
        if not self._thread.is_alive() and self._thread.ident is not None:
            raise StopIteration
        self._released = self._clock()
        if self._thread.ident is None:
            self._thread.start()
        else:
            self._go.release()
        told = self._told.get()
        if isinstance(told, BaseException):
            self._thread.join()
            raise told
        return told

    def _run(self) -> None:
        try:
            self._training(self._hold)
        except BaseException as error:
            self._told.put(error)
        else:
            self._told.put(StopIteration())

    def _hold(self, _steps: int, _share: float) -> None:
        self._told.put(self._clock() - self._released)
        self._go.acquire()
