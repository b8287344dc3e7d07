"""Arms taking turns: the only way two times are compared (see docs/measuring.md).

A round is a set of fresh processes, one for each arm, all alive at once. They run one at a time, in short slots: one
slot is a pass over all arms in random order, the next the same order backwards (ABBA or BAAB), so that drift of the
machine falls on all arms alike. A round's reading for an arm is the median of its slots' log-ratios to arm 0.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import WorkerFailed
from steelyard.measure.process import Child, Limits
from steelyard.probe.host import load_now
from steelyard.records import Comparison, Sample, Unavailable

__all__ = ["ArmFailed", "TurnSettings", "Turns", "log_ratios", "take_turns"]

WORKER = "steelyard.measure.worker:Worker"


class ArmFailed(WorkerFailed):
    """The process of one arm failed; ``arm`` says which."""

    def __init__(self, arm: int, failure: WorkerFailed) -> None:
        super().__init__(failure.kind, str(failure))
        self.arm = arm


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSettings:
    """How long arms take turns. Times in seconds."""

    rounds: int = 10
    slots: int = 12
    slot_s: float = 0.03
    warm_s: float = 0.25
    rest_s: float = 0.004  # before each turn, for the threads of the arm that just ran to go to sleep
    batch: int = 1
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Turns:
    """A comparison, and for each arm every call's time and each process's peak memory, with rounds as blocks."""

    comparison: Comparison
    readings: tuple[tuple[Sample | Unavailable, ...], ...]


def take_turns(
    arms: Mapping[str, Path],
    inputs: Path,
    settings: TurnSettings,
    *,
    worker: str = WORKER,
    limits: Limits | None = None,
    log: Path | None = None,
    on_round: Callable[[int], None] | None = None,
) -> Turns:
    """Time every arm's artifact in `settings.rounds` rounds of fresh processes.

    The first arm is the baseline. `inputs` is an .npy file of model-ready examples. `worker` names the class that runs
    an arm (`steelyard.measure.worker.Worker` or a subclass that loads something else than artifacts). Raises `WorkerFailed` where an arm
    dies; `on_round` is told how many rounds are done.
    """
    rng = np.random.default_rng(settings.seed)
    orders = np.stack([_abba(rng, settings.slots, len(arms)) for _ in range(settings.rounds)])
    rounds: list[_Round] = []
    flags: list[str] = []
    for done, order in enumerate(orders, 1):
        before = load_now()
        rounds.append(_round(list(arms.values()), inputs, settings, order, worker, limits, log))
        flags += [f"round {done}: {flag}" for flag in load_now().since(before).flags()]
        if on_round is not None:
            on_round(done)
    return Turns(
        comparison=_comparison(tuple(arms), settings, [r.times for r in rounds], orders, flags),
        readings=tuple(_pooled(rounds, arm, settings.batch) for arm in range(len(arms))),
    )


def duel(baseline: Child, candidate: Child, name: str, settings: TurnSettings) -> Comparison:
    """One round between two children that are already loaded and warm."""
    order = _abba(np.random.default_rng(settings.seed), settings.slots, 2)
    before = load_now()
    times = _play([baseline, candidate], settings, order)
    flags = load_now().since(before).flags()
    return _comparison(("baseline", name), settings, [times], order[None], flags)


def make_ready(child: Child, folder: Path, inputs: Path, settings: TurnSettings) -> None:
    """Load an artifact in a child and run it until warm."""
    child.call("load", folder=str(folder), inputs=str(inputs))
    _warm_up(child, settings)


def log_ratios(comparison: Comparison, arm: int | str) -> NDArray[np.float64]:
    """One reading per round: the median over slots of log(arm / baseline)."""
    index = comparison.arms.index(arm) if isinstance(arm, str) else arm
    slots = np.log(comparison.seconds[:, :, index] / comparison.seconds[:, :, 0])
    return np.asarray(np.median(slots, axis=1), dtype=np.float64)


_Times = list[list[NDArray[np.float64]]]  # [slot][arm]: every call of the turn


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Round:
    times: _Times
    peaks: list[int | Unavailable]  # [arm]: peak resident bytes of the process


def _round(
    folders: Sequence[Path],
    inputs: Path,
    settings: TurnSettings,
    order: NDArray[np.int32],
    worker: str,
    limits: Limits | None,
    log: Path | None,
) -> _Round:
    with ExitStack() as stack:
        children = [stack.enter_context(Child(worker, limits=limits, log=log)) for _ in folders]
        for arm, (child, folder) in enumerate(zip(children, folders, strict=True)):
            with _blaming(arm):
                child.start("load", folder=str(folder), inputs=str(inputs))
        for arm, child in enumerate(children):
            with _blaming(arm):
                child.result()
        for arm, child in enumerate(children):
            with _blaming(arm):
                _warm_up(child, settings)
        return _Round(times=_play(children, settings, order), peaks=[child.call("peak") for child in children])


@contextmanager
def _blaming(arm: int) -> Iterator[None]:
    """Say whose fault it was."""
    try:
        yield
    except WorkerFailed as failure:
        raise ArmFailed(arm, failure) from failure


def _warm_up(child: Child, settings: TurnSettings) -> None:
    child.call("first")
    child.call("warm", batch=settings.batch, seconds=settings.warm_s)


def _play(children: Sequence[Child], settings: TurnSettings, order: NDArray[np.int32]) -> _Times:
    return [_slot(children, settings, places) for places in order]


def _slot(children: Sequence[Child], settings: TurnSettings, places: NDArray[np.int32]) -> list[NDArray[np.float64]]:
    times: dict[int, NDArray[np.float64]] = {}
    for arm in np.argsort(places):
        time.sleep(settings.rest_s)
        with _blaming(int(arm)):
            times[int(arm)] = children[arm].call("slot", batch=settings.batch, seconds=settings.slot_s)
    return [times[arm] for arm in range(len(children))]


def _comparison(
    arms: tuple[str, ...],
    settings: TurnSettings,
    rounds: Sequence[_Times],
    order: NDArray[np.int32],
    flags: Sequence[str],
) -> Comparison:
    seconds = np.array([[[np.median(times) for times in slot] for slot in slots] for slots in rounds])
    return Comparison(arms=arms, batch=settings.batch, seconds=seconds, order=order, flags=tuple(flags))


def _pooled(rounds: list[_Round], arm: int, batch: int) -> tuple[Sample | Unavailable, ...]:
    calls = [np.concatenate([slot[arm] for slot in r.times]) for r in rounds]
    latency = Sample(
        quantity="latency_s",
        unit="s",
        values=np.concatenate(calls),
        blocks=np.repeat(np.arange(len(calls), dtype=np.int32), [len(c) for c in calls]),
        conditions={"batch": batch},
    )
    peaks = [r.peaks[arm] for r in rounds]
    missing = next((p for p in peaks if isinstance(p, Unavailable)), None)
    if missing is not None:
        return latency, Unavailable(quantity="memory_running_bytes", reason=missing.reason)
    memory = Sample(quantity="memory_running_bytes", unit="byte", values=np.array(peaks, dtype=np.float64))
    return latency, memory


def _abba(rng: np.random.Generator, slots: int, arms: int) -> NDArray[np.int32]:
    """Places of the arms in each slot: random orders, each followed by its reverse."""
    rows = [rng.permutation(arms) for _ in range((slots + 1) // 2)]
    return np.array([row for r in rows for row in (r, arms - 1 - r)][:slots], dtype=np.int32)
