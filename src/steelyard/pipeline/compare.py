"""`steelyard compare`: is the second faster, slower or equivalent? Rounds until it is clear, or the budget ends."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import reduce
from pathlib import Path

import numpy as np

from steelyard import __version__
from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.measure.arms import Arm
from steelyard.measure.process import Limits
from steelyard.measure.turns import ArmFailed, Rehearsal, TurnSettings, fitting_slots, log_ratios, rehearse, rounds
from steelyard.pipeline.job import Progress, share_done, silent
from steelyard.pipeline.quality import qualities, settled, time_level
from steelyard.pipeline.sides import Kind, Side, callable_side, command_side, model_sides, short_names
from steelyard.probe.host import environment
from steelyard.records import Compared, Comparison, ControlReading, Scalar
from steelyard.stats.sequence import FIRST, least_detectable, noise_floor
from steelyard.store import RunFolder, append_control, read_controls
from steelyard.verify.compare import TimeVerdict, judge_rounds, more_rounds

__all__ = ["ARMS", "Request", "compare", "floor_of", "spread_of"]

ARMS = ("first", "second", "control")
SLOTS = {"models": 40, "callables": 40, "commands": 4}  # turns of each arm in a round, where the budget has room
MOST_SLOTS = 120
REHEARSED = {"models": 20, "callables": 20, "commands": 2}  # turns of the rehearsal
SLOT_S = {"models": 0.005, "callables": 0.002, "commands": 0.0}
REHEARSED_S = 0.5  # of calls from cold, to see where the warm-up ends
LEAST_WARM_S, MOST_WARM_S = 0.1, 2.0
_RECENT = 20  # controls from which the spread is told


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for. ``band`` and ``level`` are fractions."""

    first: str
    second: str
    out: Path
    kind: Kind = "models"
    data: str | None = None
    metrics: tuple[str, ...] = ("accuracy",)
    band: float = 0.02
    level: float = 0.95
    budget_s: float = 120.0
    batch: int = 1
    shell: bool = False
    history: bool = True
    limits: Limits = field(default_factory=Limits)
    options: dict[str, Scalar] = field(default_factory=dict)
    command: tuple[str, ...] = ()


def compare(request: Request, progress: Progress = silent) -> Compared:
    """Measure until the answer is clear or the budget ends; every round is on disk when the next begins.

    The same words on the same folder go on where a stopped comparison stood, or where a shorter budget ended. Raises
    `InvalidInput` for words that cannot be understood, `WorkerFailed` naming the one of the two that failed.
    """
    _check(request)
    with RunFolder(request.out) as folder:
        known = folder.compared()
        if known is not None:
            _check_same(request, known[0])
        sides = _sides(request, progress)
        arms = dict(zip(ARMS, (sides[0].arm, sides[1].arm, sides[0].arm), strict=True))
        head, played = (_begin(request, sides, arms, progress), ()) if known is None else known
        _check_digests(request, head, sides)
        if known is None:
            folder.append(head)
        progress(_promise(head, request.budget_s), share_done(request.budget_s - head.wall_s, request.budget_s))
        found = _measure(request, head, played, arms, folder, progress)
        final = _concluded(head, found)
        folder.append(final)
        _remember(request, final, found, before=len(played))
        return dataclasses.replace(final, comparison=found)


# --- the words -----------------------------------------------------------------------------------------


def _check(request: Request) -> None:
    if not 0 < request.band < 1:
        raise InvalidInput(f"the band is a share of the time, such as 2%; got {request.band:g}")
    if not 0.5 <= request.level < 1:
        raise InvalidInput(f"a confidence level lies between 0.5 and 1, such as 0.95; got {request.level:g}")
    if request.batch < 1:
        raise InvalidInput(f"the batch is 1 or more, got {request.batch}")
    if request.kind != "models" and (request.data is not None or request.batch != 1):
        raise InvalidInput(f"--data and --batch are for models; {request.kind} are only timed")


def _check_same(request: Request, head: Compared) -> None:
    """The folder goes on only with the same two, asked the same question, on a machine like the one it began on (V9)."""
    here = environment()
    if here.machine != head.environment.machine:
        raise InvalidInput(
            f"{request.out} was begun on another machine ({head.environment.cpu}, {head.environment.cores} cores): "
            "times of unlike machines are not compared; give another --out"
        )
    asked = (request.kind, (request.first, request.second), request.data, request.batch, _options(request))
    had = (head.kind, head.sources, head.data, head.batch, dict(head.options))
    if asked != had or (request.band, request.level) != (head.band, head.level):
        raise InvalidInput(
            f"{request.out} holds another comparison ({head.sources[0]} against {head.sources[1]}, band {head.band:.3g}, "
            f"level {head.level:g}): give another --out, or remove the folder"
        )


def _check_digests(request: Request, head: Compared, sides: tuple[Side, Side]) -> None:
    for side, digest in zip(sides, head.digests, strict=True):
        if side.digest != digest:
            raise InvalidInput(
                f"{side.source} has changed since {request.out} was begun: give another --out, or remove the folder"
            )


def _options(request: Request) -> dict[str, Scalar]:
    return {**request.options, "metrics": ",".join(request.metrics), "shell": request.shell}


def _sides(request: Request, progress: Progress) -> tuple[Side, Side]:
    if request.kind == "callables":
        return callable_side(request.first), callable_side(request.second)
    if request.kind == "commands":
        return command_side(request.first, shell=request.shell), command_side(request.second, shell=request.shell)
    return model_sides((request.first, request.second), request.out, request.data, request.options, progress)


# --- before the first round ----------------------------------------------------------------------------


def _begin(request: Request, sides: tuple[Side, Side], arms: dict[str, Arm], progress: Progress) -> Compared:
    """Quality first, since Holm's level for the time follows from it; then a rehearsal, and what the budget can find."""
    names = short_names(request.first, request.second) if request.kind != "commands" else _shortened(request)
    log = request.out / "workers.log"
    found = qualities(sides, names, request.metrics, request.level, request.limits, log, progress)
    progress("rehearsing", None)
    settings = TurnSettings(
        slots=REHEARSED[request.kind], slot_s=SLOT_S[request.kind], warm_s=REHEARSED_S, batch=request.batch
    )
    began = time.perf_counter()
    with _naming(names, "before the first round"):
        rehearsal = rehearse(list(arms.values()), settings, limits=request.limits, log=log)
    rehearsed_s = time.perf_counter() - began
    warm_s, unsteady = (0.0, ()) if request.kind == "commands" else rehearsal.warm_s(LEAST_WARM_S, MOST_WARM_S)
    start_s = rehearsal.start_s - len(arms) * (REHEARSED_S - warm_s) * (request.kind != "commands")
    slots = _slots(request, start_s, rehearsal.turn_s)
    host = environment()
    round_s = start_s + slots * rehearsal.turn_s
    level = time_level([d.p_value for d in found.differences], request.level)
    spread, told_from = spread_of(host.machine, request.kind, slots, rehearsal.spread)
    least = least_detectable(spread, int((request.budget_s - rehearsed_s) / round_s), level)
    return Compared(
        kind=request.kind,
        names=names,
        sources=(request.first, request.second),
        digests=(sides[0].digest, sides[1].digest),
        command=request.command,
        band=request.band,
        level=request.level,
        time_level=level,
        batch=request.batch,
        slots=slots,
        slot_s=SLOT_S[request.kind],
        warm_s=warm_s,
        environment=host,
        round_s=round_s,
        detectable=None if math.isinf(least) else least,
        detectable_from=told_from,
        data=request.data,
        examples=found.examples,
        options=_options(request),
        qualities=found.pairs,
        differences=found.differences,
        noise_floor=floor_of(host.machine, request.kind),
        warnings=_warnings(sides, names, rehearsal, unsteady),
        wall_s=rehearsed_s,
        time=host.time,
        version=__version__,
    )


def _shortened(request: Request) -> tuple[str, str]:
    first, second = (" ".join(words.split()) for words in (request.first, request.second))
    return (first, second) if first != second else (f"{first} (1)", f"{second} (2)")


def _slots(request: Request, start_s: float, turn_s: float) -> int:
    """An even number of turns: as long as the processes take to start, but so that ten rounds fit the budget."""
    least = fitting_slots(turn_s, SLOTS[request.kind])
    wanted = SLOTS["commands"] if request.kind == "commands" else max(least, round(start_s / turn_s))
    room = int((0.7 * request.budget_s / FIRST - start_s) / turn_s)
    slots = int(np.clip(min(wanted, room), 2, MOST_SLOTS))
    return slots - slots % 2


def spread_of(machine: str, kind: str, slots: int, rehearsed: float) -> tuple[float, str]:
    """The spread of rounds' log-ratios to expect, and what that is told from.

    Earlier comparisons on this machine know it. Without any, the rehearsal's turns tell that of a median of `slots` of
    them (1.2533 s / sqrt(n) for normal turns), and nothing of how processes differ, for which 0.3 % are added.
    """
    known = [r.spread for r in read_controls(machine) if r.kind == kind][-_RECENT:]
    if known:
        return float(np.median(known)), f"{len(known)} earlier comparison{'s' * (len(known) > 1)} on this machine"
    return math.hypot(1.2533 * rehearsed / math.sqrt(slots), 0.003), "the turns of a rehearsal: a rough guess"


def floor_of(machine: str, kind: str = "models") -> float | None:
    """This machine's noise floor, as a share of the time: what controls of that kind have "found"; None for fewer than five.

    A gate's band is the larger of it and its own (docs/comparing.md).
    """
    return noise_floor([r.log_ratio for r in read_controls(machine) if r.kind == kind])


def _promise(head: Compared, budget_s: float) -> str:
    """The least detectable effect, said before the first round."""
    if head.detectable is None:
        return f"a round takes {_duration(head.round_s)}: the budget of {_duration(budget_s)} has no room for {FIRST}"
    return f"this budget finds a difference of {_share(head.detectable)} nine times in ten"


def _warnings(
    sides: tuple[Side, Side], names: tuple[str, str], rehearsal: Rehearsal, unsteady: tuple[int, ...]
) -> tuple[str, ...]:
    found = [warning for side in sides for warning in side.warnings]
    if sides[0].digest == sides[1].digest and sides[0].arm.load == sides[1].arm.load:
        found.append("both are the same: this compares it with itself")
    first, second, _ = rehearsal.calls
    if first.get("given") != second.get("given"):
        found.append(f"they do not return alike: {names[0]} gives {first['given']}, {names[1]} {second['given']}")
    found += [
        f"{name} returns NaN or infinity"
        for name, call in zip(names, rehearsal.calls, strict=False)
        if call.get("finite") is False
    ]
    found += [f"{names[arm]}: no steady state in {REHEARSED_S:g} s of calls from cold" for arm in unsteady if arm < 2]
    return tuple(dict.fromkeys(found))


# --- rounds --------------------------------------------------------------------------------------------


def _measure(
    request: Request,
    head: Compared,
    played: tuple[Comparison, ...],
    arms: dict[str, Arm],
    folder: RunFolder,
    progress: Progress,
) -> Comparison | None:
    """Rounds until the verdict is clear, or another would not fit into the budget."""
    found = reduce(Comparison.with_more, played) if played else None
    spent_s = _spent(head, found)
    settings = TurnSettings(slots=head.slots, slot_s=head.slot_s, warm_s=head.warm_s, batch=head.batch)
    further = rounds(
        arms, settings, done=len(played), spent_s=spent_s, limits=request.limits, log=request.out / "workers.log"
    )
    while not _clear(head, found) and _fits(head, found, request.budget_s):
        done = 0 if found is None else len(found.seconds)
        progress(
            f"taking turns, round {done + 1}{_so_far(head, found)}",
            share_done(request.budget_s - spent_s, request.budget_s),
        )
        with _naming(head.names, f"in round {done + 1}"):
            latest = next(further)
        folder.append(latest)
        found = latest if found is None else found.with_more(latest)
        spent_s = _spent(head, found)
    return found


def _spent(head: Compared, found: Comparison | None) -> float:
    return head.wall_s if found is None or found.ended_s is None else float(found.ended_s[-1])


def _pace(head: Compared, found: Comparison | None) -> float:
    """Seconds that a round takes."""
    if found is None or found.ended_s is None or len(found.ended_s) < 2:
        return head.round_s
    return float(np.mean(np.diff(found.ended_s)))


def _fits(head: Compared, found: Comparison | None, budget_s: float) -> bool:
    """Whether one more round fits. The first ten may overrun by a tenth: without them all the others were for nothing."""
    few = found is None or len(found.seconds) < FIRST
    return _spent(head, found) + _pace(head, found) <= budget_s * (1.1 if few else 1.0)


def _verdict(head: Compared, found: Comparison) -> TimeVerdict:
    return judge_rounds(found, "second", "control", band=head.band, level=head.time_level)


def _clear(head: Compared, found: Comparison | None) -> bool:
    return found is not None and len(found.seconds) >= FIRST and _verdict(head, found).outcome != "undecided"


def _so_far(head: Compared, found: Comparison | None) -> str:
    if found is None or len(found.seconds) < FIRST:
        return f" of at least {FIRST}"
    ratio = _verdict(head, found).ratio
    return f": {ratio.value:.3f}x ({ratio.low:.3f} to {ratio.high:.3f}) so far"


@contextmanager
def _naming(names: tuple[str, str], when: str) -> Iterator[None]:
    """Say which of the two failed."""
    try:
        yield
    except ArmFailed as failure:
        which, name = ("second", names[1]) if failure.arm == 1 else ("first", names[0])
        raise WorkerFailed(failure.kind, f"the {which}, {name}, failed {when}: {failure}") from failure


# --- after the last ------------------------------------------------------------------------------------


def _concluded(head: Compared, found: Comparison | None) -> Compared:
    if found is None:
        return dataclasses.replace(head, advice=_too_short(head))
    verdict = _verdict(head, found)
    time_p = None if verdict.alarm else log_ratios(found, "second")
    return dataclasses.replace(
        head,
        outcome=verdict.outcome,
        ratio=verdict.ratio,
        control=verdict.control,
        control_alarm=verdict.alarm,
        differences=settled(head.differences, time_p, head.level),
        advice=_advice(head, found, verdict),
        wall_s=_spent(head, found),
    )


def _too_short(head: Compared) -> str:
    needed = head.wall_s + FIRST * head.round_s
    return f"no round fits the budget; ten rounds take about {_duration(needed)}: give --budget {_budget(needed)}"


def _advice(head: Compared, found: Comparison, verdict: TimeVerdict) -> str:
    if verdict.outcome in ("faster", "slower"):
        return _too_small(head, verdict)
    if verdict.outcome == "equivalent":
        return ""
    pace, done = _pace(head, found), len(found.seconds)
    if done < FIRST:
        needed = _spent(head, found) + (FIRST - done) * pace
        return (
            f"a verdict takes {FIRST} rounds, {done} fitted: the same command with --budget {_budget(needed)} goes on"
        )
    more = more_rounds(found, verdict, "second", band=head.band)
    if more is None:
        return "more rounds of this would not decide it: the machine is too noisy for this band now"
    needed = _spent(head, found) + more * pace
    return (
        f"about {_duration(more * pace)} more would decide ({more} rounds), if mean and spread stay as seen: the same command with "
        f"--budget {_budget(needed)} goes on"
    )


def _too_small(head: Compared, verdict: TimeVerdict) -> str:
    """A difference that is shown, but perhaps does not matter."""
    if head.noise_floor is not None and abs(math.log(verdict.ratio.value)) < math.log1p(head.noise_floor):
        return f"this machine has found as much between a thing and itself (noise floor {head.noise_floor:.1%})"
    nearest = min(abs(math.log(verdict.ratio.low)), abs(math.log(verdict.ratio.high)))
    return f"it may be less than the band of {head.band:.3g}" if nearest < math.log1p(head.band) else ""


def _share(value: float) -> str:
    """A share, or, where noise leaves nothing to be told, a word.

    >>> _share(0.0123), _share(3e5)
    ('1.2 %', 'a factor of two or more')
    """
    return "a factor of two or more" if value > 1 else f"{100 * value:.2g} %"


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.1f} min"


def _budget(seconds: float) -> str:
    """A budget's words for at least so many seconds, and a tenth more.

    >>> _budget(50), _budget(200)
    ('60s', '4m')
    """
    wanted = 1.1 * seconds
    return f"{10 * math.ceil(wanted / 10)}s" if wanted < 120 else f"{math.ceil(wanted / 60)}m"


def _remember(request: Request, final: Compared, found: Comparison | None, *, before: int) -> None:
    """One entry a comparison in the machine's history of controls, once it has enough rounds to say something."""
    if not request.history or found is None or not before < FIRST <= len(found.seconds):
        return
    readings = log_ratios(found, "control")
    append_control(
        ControlReading(
            machine=final.environment.machine,
            kind=final.kind,
            log_ratio=float(readings.mean()),
            spread=float(log_ratios(found, "second").std(ddof=1)),
            rounds=len(readings),
            slots=final.slots,
            time=final.time,
        )
    )
