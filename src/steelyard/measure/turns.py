"""Arms taking turns: the only way two times are compared (see docs/measuring.md).

A round is a set of fresh processes, one for each arm, all alive at once. They run one at a time, in short slots: one
slot is a pass over all arms in random order, the next the same order backwards (ABBA or BAAB), so that drift of the
machine falls on all arms alike. A round's reading for an arm is the median of its slots' log-ratios to arm 0.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import SteelyardError, WorkerFailed
from steelyard.measure.arms import COMMAND, WORKER, Arm
from steelyard.measure.process import Child, Limits
from steelyard.probe.watch import Moment, disturbances, moment
from steelyard.records import Comparison, Sample, Unavailable
from steelyard.stats.changepoint import steady_from

__all__ = [
    "WORKER",
    "ArmFailed",
    "Rehearsal",
    "TurnSettings",
    "Turns",
    "fitting_slots",
    "log_ratios",
    "rehearse",
    "rounds",
    "take_turns",
]


class ArmFailed(WorkerFailed):
    """The process of one arm failed; ``arm`` says which."""

    def __init__(self, arm: int, failure: SteelyardError) -> None:
        super().__init__(failure.kind if isinstance(failure, WorkerFailed) else "error", str(failure))
        self.arm = arm


@dataclass(frozen=True, slots=True, kw_only=True)
class TurnSettings:
    """How long arms take turns. Times in seconds."""

    rounds: int = 10
    slots: int = 40
    slot_s: float = 0.005  # short against other tenants, who come and go within tens of milliseconds
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
    crew = [Arm(worker=worker, load={"folder": str(folder), "inputs": str(inputs)}) for folder in arms.values()]
    played: list[_Round] = []
    flags: list[str] = []
    for done, order in enumerate(orders, 1):
        before = moment()
        played.append(_round(crew, settings, order, limits, log))
        flags += _flags(done, before)
        if on_round is not None:
            on_round(done)
    return Turns(
        comparison=_comparison(tuple(arms), settings, [r.times for r in played], orders, flags),
        readings=tuple(_pooled(played, arm, settings.batch) for arm in range(len(arms))),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Rehearsal:
    """A short round that is not recorded: does everything run, how long does it take, and when is it warm?"""

    start_s: float  # until all processes are warm
    turn_s: float  # one pass over all arms
    calls: tuple[dict[str, object], ...]  # what each arm's first call told
    warm: tuple[NDArray[np.float64], ...]  # every call's time from cold, for each arm
    spread: float  # standard deviation of one turn's log-ratio of the last arm to the first

    def warm_s(self, least: float, most: float) -> tuple[float, tuple[int, ...]]:
        """Seconds of warm-up that all arms need, by their change-points, and the arms that found no steady state."""
        ends = [steady_from(times) if len(times) else 0 for times in self.warm]
        needed = [float(times[:end].sum()) for times, end in zip(self.warm, ends, strict=True) if end is not None]
        unsteady = tuple(arm for arm, end in enumerate(ends) if end is None)
        return float(np.clip(1.5 * max(needed, default=0.0), least, most)), unsteady


def rehearse(
    arms: Sequence[Arm], settings: TurnSettings, *, limits: Limits | None = None, log: Path | None = None
) -> Rehearsal:
    """One round of `settings.slots`. Raises `ArmFailed` for an arm that cannot run."""
    began = time.perf_counter()
    order = _abba(np.random.default_rng(settings.seed), settings.slots, len(arms))
    with _alive(arms, settings, limits, log) as (children, calls, warm):
        ready = time.perf_counter()
        times = _play(children, settings, order)
        turn_s = (time.perf_counter() - ready) / settings.slots
        logs = [math.log(float(np.median(slot[-1])) / float(np.median(slot[0]))) for slot in times]
        return Rehearsal(
            start_s=ready - began,
            turn_s=turn_s,
            calls=tuple(calls),
            warm=tuple(warm),
            spread=float(np.std(logs, ddof=1)),
        )


def rounds(
    arms: Mapping[str, Arm],
    settings: TurnSettings,
    *,
    done: int = 0,
    spent_s: float = 0.0,
    limits: Limits | None = None,
    log: Path | None = None,
) -> Iterator[Comparison]:
    """Rounds without end, each as a `Comparison` of one, numbered on from `done`; the caller stops when it has enough.

    `spent_s` is what earlier rounds took. Raises `ArmFailed` where an arm's process dies or gives something unlawful.
    """
    number = done
    began = time.perf_counter() - spent_s
    while True:
        number += 1
        order = _abba(np.random.default_rng([settings.seed, number]), settings.slots, len(arms))
        before = moment()
        played = _round(list(arms.values()), settings, order, limits, log)
        found = _comparison(tuple(arms), settings, [played.times], order[None], _flags(number, before))
        yield dataclasses.replace(
            found,
            ended_s=np.array([time.perf_counter() - began]),
            readings=tuple(_beside(played, arm, number) for arm in range(len(arms))),
        )


def duel(baseline: Child, candidate: Child, name: str, settings: TurnSettings) -> Comparison:
    """One round between two children that are already loaded and warm; slow ones get fewer than `settings.slots`.

    A first pass over both is not kept: it tells how long one takes.
    """
    children = [baseline, candidate]
    began = time.perf_counter()
    _slot(children, settings, np.arange(2, dtype=np.int32))
    slots = fitting_slots(time.perf_counter() - began, settings.slots)
    order = _abba(np.random.default_rng(settings.seed), slots, 2)
    before = moment()
    times = _play(children, settings, order)
    return _comparison(("baseline", name), settings, [times], order[None], disturbances(before, moment()))


def fitting_slots(pass_s: float, most: int) -> int:
    """An even number of slots, `most` where all arms pass in milliseconds; slow ones get as many as fill 1.6 s, and 12 at least.

    >>> [fitting_slots(s, 40) for s in (0.02, 0.1, 1.0)]
    [40, 16, 12]
    """
    return min(most, max(12, int(1.6 / pass_s) // 2 * 2))


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
    cpu_s: list[list[float]]  # [arm]: processor time of each run, of arms that are commands


def _round(
    arms: Sequence[Arm], settings: TurnSettings, order: NDArray[np.int32], limits: Limits | None, log: Path | None
) -> _Round:
    with _alive(arms, settings, limits, log) as (children, _, _):
        times = _play(children, settings, order)
        peaks = [child.call("peak") for child in children]
        cpu_s = [child.call("cpu") if arm.worker == COMMAND else [] for arm, child in zip(arms, children, strict=True)]
        return _Round(times=times, peaks=peaks, cpu_s=cpu_s)


@contextmanager
def _alive(
    arms: Sequence[Arm], settings: TurnSettings, limits: Limits | None, log: Path | None
) -> Iterator[tuple[list[Child], list[dict[str, object]], list[NDArray[np.float64]]]]:
    """All arms in fresh processes, loaded side by side and warmed one after the other; what their first calls told."""
    with ExitStack() as stack:
        children = [stack.enter_context(Child(arm.worker, limits=limits, log=log)) for arm in arms]
        for place, (arm, child) in enumerate(zip(arms, children, strict=True)):
            with _blaming(place):
                child.start("load", **arm.load)
        for place, child in enumerate(children):
            with _blaming(place):
                child.result()
        calls, warm = [], []
        for place, child in enumerate(children):
            with _blaming(place):
                calls.append(child.call("first"))
                warm.append(child.call("warm", batch=settings.batch, seconds=settings.warm_s))
        yield children, calls, warm


@contextmanager
def _blaming(arm: int) -> Iterator[None]:
    """Say whose fault it was."""
    try:
        yield
    except SteelyardError as failure:
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


def _beside(played: _Round, arm: int, number: int) -> tuple[Sample | Unavailable, ...]:
    """What was read of one round beside the times: peak memory, and of commands the processor time of each run."""
    peak, cpu_s = played.peaks[arm], np.array(played.cpu_s[arm])
    blocks = np.full(len(cpu_s), number - 1, dtype=np.int32)
    memory: Sample | Unavailable = (
        Unavailable(quantity="memory_running_bytes", reason=peak.reason)
        if isinstance(peak, Unavailable)
        else Sample(quantity="memory_running_bytes", unit="byte", values=np.array([peak], dtype=np.float64))
    )
    return (memory, Sample(quantity="cpu_s", unit="s", values=cpu_s, blocks=blocks)) if len(cpu_s) else (memory,)


def _flags(number: int, before: Moment) -> list[str]:
    return [f"round {number}: {flag}" for flag in disturbances(before, moment())]


def _abba(rng: np.random.Generator, slots: int, arms: int) -> NDArray[np.int32]:
    """Places of the arms in each slot: random orders, each followed by its reverse."""
    rows = [rng.permutation(arms) for _ in range((slots + 1) // 2)]
    return np.array([row for r in rows for row in (r, arms - 1 - r)][:slots], dtype=np.int32)
