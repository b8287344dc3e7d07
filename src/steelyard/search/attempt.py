"""One candidate, start to finish: built, reloaded and timed against the baseline, then weighed; each in its own process.

A candidate that is too slow to win is not weighed further: its throughput, its counts and its quality cost most and
would decide nothing.

Whatever goes wrong in those processes ends this candidate only, as a refused trial with its reason.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from steelyard.errors import CannotApply, InvalidInput, MissingExtra, StorageFull, WorkerFailed
from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import WORKER, TurnSettings, duel, make_ready
from steelyard.measure.weigh import WeighSettings, weigh, weigh_in
from steelyard.records import Comparison, Environment, Measurement, Plan, Prediction, Refusal, Trial
from steelyard.subject.artifact import read_artifact

__all__ = ["Rival", "Workshop", "attempt", "build"]

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
    contends: Callable[[Comparison], bool] = lambda _: True,
) -> Trial:
    """Build one plan, time it against the baseline, and weigh it fully if it still `contends`.

    Never raises for the candidate's own failures; a full disk does end the run.
    """
    started = time.monotonic()
    say = on_step or (lambda _: None)
    try:
        say("building")
        folder = build(plan, shop)
        after, comparison = _look(plan, folder, shop, rival, say)
        if contends(comparison):
            after = weigh(
                read_artifact(folder), shop.inputs, shop.weigh,
                data=shop.data, host=shop.host, limits=shop.limits, log=shop.log, on_step=say,
            )  # fmt: skip
    except StorageFull:
        raise
    except (CannotApply, InvalidInput, WorkerFailed) as error:
        rival.drop()  # whatever ended the candidate may have hurt its rival
        refusal = Refusal(kind=_kind(error), reason=str(error))
        return Trial(plan=plan, refusal=refusal, prediction=prediction, wall_s=time.monotonic() - started)
    return Trial(
        plan=plan,
        artifact=str(folder.relative_to(shop.root)),
        after=after,
        comparison=comparison,
        prediction=prediction,
        wall_s=time.monotonic() - started,
    )


def _look(
    plan: Plan, folder: Path, shop: Workshop, rival: Rival, say: Callable[[str], None]
) -> tuple[Measurement, Comparison]:
    """What a fresh process tells in a few seconds: that it loads and is right, its size and memory, and its speed."""
    short = dataclasses.replace(shop.weigh, latency_s=0.3 * shop.weigh.latency_s, sweep=(), split=None, count=False)
    with Child(WORKER, limits=shop.limits, log=shop.log) as child:
        after = weigh_in(child, read_artifact(folder), shop.inputs, short, host=shop.host, on_step=say)
        say("taking turns with the baseline")
        return after, duel(rival.child(), child, str(plan), shop.turns)


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
        )
    return Path(folder)


def _kind(error: CannotApply | InvalidInput | WorkerFailed) -> str:
    if isinstance(error, WorkerFailed):
        return error.kind
    if isinstance(error, MissingExtra):
        return "missing-extra"
    return "cannot-apply" if isinstance(error, CannotApply) else "error"
