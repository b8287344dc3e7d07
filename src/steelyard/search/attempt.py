"""One candidate, start to finish: built, reloaded and timed against the baseline, then weighed; each in its own process.

A candidate that is too slow to win is not weighed further: its throughput, its counts and its quality cost most and
would decide nothing. One that a small sample shows to miss a requirement on quality is refused there and then.

Whatever goes wrong in those processes ends this candidate only, as a refused trial with its reason; what it left half
built goes, so that one that filled the disk does not fill it for the others.
"""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from steelyard.errors import CannotApply, InvalidInput, MissingExtra, StorageFull, WorkerFailed
from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import WORKER, TurnSettings, duel, make_ready
from steelyard.measure.weigh import WeighSettings, weigh, weigh_in
from steelyard.records import Comparison, Environment, Measurement, Plan, Prediction, Refusal, Trial
from steelyard.search.bounds import QualityBound, shown_to_miss
from steelyard.subject.artifact import read_artifact

__all__ = ["Contends", "Rival", "Workshop", "attempt", "build"]

Contends = Callable[[Measurement, Comparison], bool]
"""Whether a candidate may still win, by a first look and its round against the baseline."""

BUILDER = "steelyard.passes.build:Builder"


@dataclass(frozen=True, slots=True, kw_only=True)
class Workshop:
    """Where candidates are made: folders, and the limits each candidate works under."""

    root: Path  # the run folder
    baseline: Path
    inputs: Path
    data: Path | None
    host: Environment
    weigh: WeighSettings
    turns: TurnSettings
    limits: Limits
    shared: Path | None = None  # artifacts of other runs

    @property
    def log(self) -> Path:
        """What children print, kept for whoever wants to know more than one line."""
        return self.root / "workers.log"


class Rival:
    """The baseline, loaded and warm in its own process, for candidates to take turns with; started again if lost."""

    def __init__(self, shop: Workshop) -> None:
        self._shop = shop
        self._child: Child | None = None
        self.start_s = 0.0  # what one fresh process of the baseline costs to start

    def __enter__(self) -> Rival:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()

    def child(self) -> Child:
        """The running child; one that ended meanwhile, for want of memory say, is no fault of the next candidate."""
        if self._child is not None and not self._child.alive:
            self.drop()
        if self._child is None:
            started = time.monotonic()
            self._child = Child(WORKER, limits=self._shop.limits, log=self._shop.log)
            try:
                make_ready(self._child, self._shop.baseline, self._shop.inputs, self._shop.turns)
            except BaseException:
                self.drop()
                raise
            self.start_s = time.monotonic() - started
        return self._child

    def drop(self) -> None:
        """End the child."""
        if self._child is not None:
            self._child.close()
            self._child = None


def attempt(
    plan: Plan,
    shop: Workshop,
    rival: Rival,
    prediction: Prediction | None,
    on_step: Callable[[str], None] | None = None,
    contends: Contends = lambda *_: True,
    bounds: Sequence[QualityBound] = (),
) -> Trial:
    """Build one plan, time it against the baseline, and weigh it fully if it still `contends` and no bound is broken.

    Never raises for the candidate's own failures; a full disk where the run itself must write does end the run.
    """
    started = time.monotonic()
    say = on_step or (lambda _: None)
    try:
        say("building")
        folder = build(plan, shop)
        seen = _look(plan, folder, shop, rival, say, contends, bounds)
        after = seen.after
        if seen.contends and not seen.missed:
            after = weigh(
                read_artifact(folder), shop.inputs, shop.weigh,
                data=shop.data, host=shop.host, limits=shop.limits, log=shop.log, on_step=say,
            )  # fmt: skip
    except StorageFull:
        raise
    except (CannotApply, InvalidInput, WorkerFailed) as error:
        rival.drop()  # whatever ended the candidate may have hurt its rival
        _clear(shop)
        refusal = Refusal(kind=_kind(error), reason=str(error))
        return Trial(plan=plan, refusal=refusal, prediction=prediction, wall_s=time.monotonic() - started)
    hopeless = Refusal(kind="hopeless", reason=seen.missed) if seen.missed else None
    return Trial(
        plan=plan,
        artifact=None if hopeless else str(folder.relative_to(shop.root)),
        after=None if hopeless else after,
        comparison=seen.comparison,
        refusal=hopeless,
        prediction=prediction,
        wall_s=time.monotonic() - started,
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Seen:
    """What a fresh process tells in a few seconds."""

    after: Measurement
    comparison: Comparison
    contends: bool
    missed: str  # the requirement that it is shown to miss


def _look(
    plan: Plan,
    folder: Path,
    shop: Workshop,
    rival: Rival,
    say: Callable[[str], None],
    contends: Contends,
    bounds: Sequence[QualityBound],
) -> _Seen:
    """That it loads and is right, its size and memory, its speed, and whether its quality is hopeless."""
    short = dataclasses.replace(shop.weigh, latency_s=0.3 * shop.weigh.latency_s, sweep=(), split=None, count=False)
    with Child(WORKER, limits=shop.limits, log=shop.log) as child:
        after = weigh_in(child, read_artifact(folder), shop.inputs, short, host=shop.host, on_step=say)
        say("taking turns with the baseline")
        comparison = duel(rival.child(), child, str(plan), shop.turns)
        wins = contends(after, comparison)
        missed = ""
        if wins and bounds and shop.data is not None:
            say("quality on a sample")
            missed = shown_to_miss(child, shop.data, bounds)
        return _Seen(after=after, comparison=comparison, contends=wins, missed=missed)


def _clear(shop: Workshop) -> None:
    """Remove what a candidate left half built."""
    for part in (shop.root / "artifacts").glob("*.part"):
        shutil.rmtree(part, ignore_errors=True)


def build(plan: Plan, shop: Workshop) -> Path:
    """The artifact of a plan, made in a child process unless it is already there."""
    with Child(BUILDER, limits=shop.limits, log=shop.log) as child:
        folder = child.call(
            "build",
            baseline=str(shop.baseline),
            root=str(shop.root / "artifacts"),
            plan=plan,
            examples=str(shop.inputs),
            data=str(shop.data) if shop.data else None,
            limit_s=shop.limits.seconds,
            shared=str(shop.shared) if shop.shared else None,
        )
    return Path(folder)


def _kind(error: CannotApply | InvalidInput | WorkerFailed) -> str:
    if isinstance(error, WorkerFailed):
        return error.kind
    if isinstance(error, MissingExtra):
        return "missing-extra"
    return "cannot-apply" if isinstance(error, CannotApply) else "error"
