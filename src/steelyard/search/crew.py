"""Who builds and weighs candidates: this process alone, one after the other; `steelyard.search.cluster` has many hands."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol

from steelyard.records import Plan, Prediction, Trial
from steelyard.search.attempt import Contends, Rival, Workshop, attempt
from steelyard.search.bounds import QualityBound

__all__ = ["Alone", "Crew", "Errand", "crew_for"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Errand:
    """One candidate to be tried, and what would end it early."""

    plan: Plan
    prediction: Prediction | None
    contends: Contends
    bounds: Sequence[QualityBound] = ()
    say: Callable[[str], None] = lambda _: None


class Crew(Protocol):
    """Takes errands while it has hands free, and hands back trials as they end."""

    @property
    def busy(self) -> Collection[Plan]:
        """The plans in hand."""
        ...

    @property
    def free(self) -> bool:
        """Whether it can take another errand."""
        ...

    def start(self, errand: Errand, /) -> None:
        """Take an errand."""
        ...

    def finish(self) -> Trial:
        """Wait for one of the errands in hand."""
        ...


class Alone:
    """One candidate at a time, on this machine."""

    def __init__(self, shop: Workshop, rival: Rival) -> None:
        self._shop, self._rival = shop, rival
        self._errand: Errand | None = None

    @property
    def busy(self) -> Collection[Plan]:
        """The plan in hand."""
        return () if self._errand is None else (self._errand.plan,)

    @property
    def free(self) -> bool:
        """Whether nothing is in hand."""
        return self._errand is None

    def start(self, errand: Errand) -> None:
        """Take the errand; the work is done when it is waited for."""
        self._errand = errand

    def finish(self) -> Trial:
        """Build and weigh the candidate in hand."""
        errand = self._errand
        assert errand is not None
        self._errand = None
        return attempt(
            errand.plan, self._shop, self._rival, errand.prediction, errand.say, errand.contends, errand.bounds
        )


def crew_for(shop: Workshop, rival: Rival, ray: str | None, stack: ExitStack) -> Crew:
    """This process alone, or a Ray cluster that is let go when `stack` ends."""
    alone = Alone(shop, rival)
    if ray is None:
        return alone
    from steelyard.search.cluster import Cluster

    return stack.enter_context(Cluster(shop, alone, ray))
