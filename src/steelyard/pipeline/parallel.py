"""Ranks started together and watched: they answer together, or end together with one line that says who failed."""

from __future__ import annotations

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from steelyard.errors import InvalidInput, SteelyardError, WorkerFailed
from steelyard.measure.process import Child
from steelyard.pipeline.job import Progress
from steelyard.records import Floats

__all__ = ["Rank", "in_turns", "launch"]

_LOOK_S, _TOLD_S = 0.05, 0.2
_GRACE_S = 3.0  # for the other ranks to say what they died of, after the first one failed
_DEATHS = ("crash", "out-of-memory", "timeout")


class Rank:
    """What one of the processes does: meet the others, then run a function."""

    def join(self, rank: int, count: int, meeting: str, device: str, threads: int) -> None:
        """Meet the others at a file, with this many threads to compute with."""
        import torch

        from steelyard.trainer.parallel import join

        os.environ["OMP_NUM_THREADS"] = str(threads)
        torch.set_num_threads(threads)
        join(rank, count, meeting, device=device)  # type: ignore[arg-type]  # checked by launch

    def run(self, function: str, arguments: Mapping[str, Any], told: str | None) -> Any:
        """What ``module:function`` gives for these arguments; where `told` is a file, also for a `Progress` that writes there."""
        module, _, name = function.partition(":")
        more = {} if told is None else {"progress": _Told(Path(told))}
        return getattr(import_module(module), name)(**arguments, **more)


class _Told:
    """A `Progress` that leaves its last words in a file, a few times a second at most."""

    def __init__(self, path: Path) -> None:
        self._path, self._next = path, 0.0

    def __call__(self, what: str, share: float | None) -> None:
        if time.monotonic() < self._next:
            return
        self._next = time.monotonic() + _TOLD_S
        beside = self._path.with_suffix(".new")
        beside.write_text(json.dumps([what, share]), encoding="utf-8")
        beside.replace(self._path)


def launch(
    function: str,
    processes: int,
    arguments: Mapping[str, Any],
    *,
    device: str = "cpu",
    threads: int | None = None,
    logs: Path | None = None,
    progress: Progress | None = None,
) -> Any:
    """Run ``module:function`` on `processes` ranks at once; rank 0's answer.

    The function finds its rank by `steelyard.trainer.parallel.Ranks.here`. ``threads`` are of each rank (the machine's cores shared
    out); `logs` is a folder for what the ranks print. With `progress` the function is given one too, and what rank 0 tells it is
    passed on. Raises `InvalidInput` as the ranks did, and `WorkerFailed` that names the rank where one died; by then none is left.
    """
    if processes < 1:
        raise InvalidInput(f"processes must be 1 or more, got {processes}")
    if device not in ("cpu", "cuda"):
        raise InvalidInput(f"processes compute on cpu or cuda, got {device!r}")
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        home = logs or Path(folder)
        home.mkdir(parents=True, exist_ok=True)
        target = "steelyard.pipeline.parallel:Rank"
        ranks = [stack.enter_context(Child(target, log=home / f"rank{rank}.log")) for rank in range(processes)]
        shared = {"count": processes, "meeting": f"{folder}/meeting", "device": device}
        for rank, child in enumerate(ranks):
            child.start("join", rank=rank, threads=threads or _share(processes), **shared)
        _answers(ranks, lambda: None)
        told = [None if progress is None else f"{folder}/told{rank}" for rank in range(processes)]
        for child, path in zip(ranks, told, strict=True):
            child.start("run", function=function, arguments=dict(arguments), told=path)
        return _answers(ranks, lambda: _pass_on(told[0], progress))[0]


def in_turns(
    function: str, processes: int, arguments: Mapping[str, Any], *, device: str = "cpu", rounds: int = 4
) -> tuple[Floats, Floats]:
    """What one process gives and what several give, each ``(rounds,)``, by fresh processes that take turns: ABBA.

    One has as many threads as each of the several.
    """
    found: dict[int, list[float]] = {1: [], processes: []}
    threads = _share(processes)
    for turn in range(rounds):
        for count in (1, processes) if turn % 2 == 0 else (processes, 1):
            found[count].append(launch(function, count, arguments, device=device, threads=threads))
    return np.array(found[1]), np.array(found[processes])


def _pass_on(told: str | None, progress: Progress | None) -> None:
    """What rank 0 said last."""
    if told is not None and progress is not None:
        with suppress(FileNotFoundError):
            progress(*json.loads(Path(told).read_text(encoding="utf-8")))


def _answers(ranks: Sequence[Child], meanwhile: Callable[[], None]) -> list[Any]:
    """Every rank's answer; the first failure ends the others soon, and is raised."""
    answers: dict[int, Any] = {}
    failures: dict[int, SteelyardError] = {}
    until = float("inf")
    while len(answers) + len(failures) < len(ranks) and time.monotonic() < until:
        for rank, child in enumerate(ranks):
            if rank in answers or rank in failures or not child.settled:
                continue
            try:
                answers[rank] = child.result()
            except SteelyardError as error:
                failures[rank] = error
                until = min(until, time.monotonic() + _GRACE_S)
        meanwhile()
        time.sleep(_LOOK_S)
    if failures:
        raise _cause(failures, len(ranks))
    return [answers[rank] for rank in range(len(ranks))]


def _cause(failures: Mapping[int, SteelyardError], count: int) -> SteelyardError:
    """What began it: a death before a user's mistake, and both before the errors of ranks that were left alone."""

    def order(rank: int) -> int:
        error = failures[rank]
        if isinstance(error, WorkerFailed):
            return 0 if error.kind in _DEATHS else 2
        return 1

    rank = min(failures, key=lambda r: (order(r), r))
    error = failures[rank]
    if not isinstance(error, WorkerFailed):
        return error
    others = "" if count == 1 else "; the other was stopped" if count == 2 else f"; the other {count - 1} were stopped"
    return WorkerFailed(error.kind, f"rank {rank} of {count} failed: {error}{others}")


def _share(processes: int) -> int:
    """Threads of each rank, where all cores of this process are shared out."""
    return max(1, len(os.sched_getaffinity(0)) // processes)
