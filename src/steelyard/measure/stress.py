"""Load that rises until the latency target breaks: the rate a model sustains, and how it comes back.

Rates rise step by step from well under the capacity that callers in a closed loop saw. Where two steps in a row break, an
easy rate follows and shows the recovery. A step is short, so what is left of the time goes to the highest rates
below the break, one after the other, until one is shown to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from steelyard.measure.load import Requests
from steelyard.measure.process import Child
from steelyard.records import Sample, Scalar, Unavailable
from steelyard.stats.order import LEAST_SEEN, holding

__all__ = ["StressSettings", "recovery_s", "stress"]

STEPS = (0.4, 0.55, 0.7, 0.8, 0.9, 1.0, 1.1, 1.25, 1.5, 2.0, 3.0)  # of the capacity
EASY = 0.4
_RAMP, _RECOVERY = 0.4, 0.15  # of the time; the rest proves that a rate holds
_PROOFS = 3
_SPARE = 1.6  # times the requests that would prove a rate if none were late
_CALM = 10  # requests in time, one after the other, that end a recovery


@dataclass(frozen=True, slots=True, kw_only=True)
class StressSettings:
    """The target, and what was seen of the model before. Times in seconds."""

    limit_s: float
    quantile: float
    capacity_per_s: float  # examples of batch 1 that `callers` got answered in a closed loop
    callers: int = 1
    seconds: float = 6.0
    seed: int = 0


def stress(
    child: Child, settings: StressSettings, *, on_phase: Callable[[str], None] | None = None
) -> tuple[Sample | Unavailable, ...]:
    """Readings of requests under rising load, by a child that runs a `LoadWorker` and has loaded an artifact.

    ``request_latency_s`` (from due to answered, in the order due), ``request_due_s`` and ``generator_lag_s`` of every step, with
    its rate and phase (ramp, recovery, proof); ``broken_per_s``, the lowest rate that broke; ``recovery_s``.
    """
    say = on_phase or (lambda _: None)
    rates = [settings.capacity_per_s * step for step in STEPS]
    say("raising the load")
    made, broken_at_s, broken = child.call(
        "ramp",
        callers=settings.callers,
        rates=rates,
        step_s=_RAMP * settings.seconds / len(rates),
        limit_s=settings.limit_s,
        quantile=settings.quantile,
        recovery=(settings.capacity_per_s * EASY, _RECOVERY * settings.seconds),
        seed=settings.seed,
    )
    readings = [*_by_step(made, rates, settings), _broken(rates, broken), _recovery(made, broken_at_s, settings)]
    say("proving the rate that holds")
    return (*readings, *_proofs(child, settings, rates, broken))


def _proofs(
    child: Child, settings: StressSettings, rates: Sequence[float], broken: int | None
) -> Iterator[Sample | Unavailable]:
    """Longer runs of the rates below the break, the highest first, until one is shown to hold."""
    left_s = (1 - _RAMP - _RECOVERY) * settings.seconds
    for number, rate in enumerate(_candidates(rates, broken)):
        wanted = _SPARE * max(_requests_to_hold(settings.quantile), LEAST_SEEN) / rate
        seconds = min(left_s, wanted)
        made, _, _ = child.call(
            "ramp",
            callers=settings.callers,
            rates=[rate],
            step_s=seconds,
            limit_s=settings.limit_s,
            quantile=settings.quantile,
            seed=settings.seed + 1 + number,
        )
        yield from _step(made, {"rate_per_s": rate, "phase": "proof", "step": number})
        left_s -= seconds
        if holding(made.latency_s > settings.limit_s, settings.quantile) == "held" or left_s < 0.5 * wanted:
            return


def _candidates(rates: Sequence[float], broken: int | None) -> list[float]:
    """Rates to prove. One that broke at once is halved instead."""
    below = list(rates[:broken])[::-1][:_PROOFS]
    return below or [rates[0] / 2, rates[0] / 4]


def _requests_to_hold(quantile: float) -> float:
    """Requests, none of them late, whose Wilson interval at 95 % ends at the share that may be: z^2 q / (1 - q).

    >>> round(_requests_to_hold(0.99))
    380
    """
    return 1.96**2 * quantile / (1 - quantile)


def recovery_s(
    due_s: NDArray[np.float64], end_s: NDArray[np.float64], broken_at_s: float, limit_s: float
) -> float | None:
    """Seconds from the break until the answer after which ten in a row were in time, or None where that never was.

    Requests in the order due, those of the recovery and of the backlog that was due before it.
    """
    late = end_s - due_s > limit_s
    if len(late) < _CALM:
        return None
    calm = np.flatnonzero(~np.lib.stride_tricks.sliding_window_view(late, _CALM).any(axis=1))
    if not len(calm):
        return None
    return max(0.0, float(end_s[calm[0] - 1]) - broken_at_s) if calm[0] else 0.0


# --- readings ----------------------------------------------------------------------------------------


def _by_step(made: Requests, rates: Sequence[float], settings: StressSettings) -> Iterator[Sample]:
    for number in np.unique(made.step):
        risen = number < len(rates)
        rate = rates[number] if risen else settings.capacity_per_s * EASY
        conditions = {"rate_per_s": rate, "phase": "ramp" if risen else "recovery", "step": int(number)}
        chosen = made.step == number
        yield from _step(
            Requests(
                due_s=made.due_s[chosen],
                free_s=made.free_s[chosen],
                start_s=made.start_s[chosen],
                end_s=made.end_s[chosen],
                step=made.step[chosen],
            ),
            conditions,
        )


def _step(made: Requests, conditions: dict[str, Scalar]) -> Iterator[Sample]:
    columns = (
        ("request_latency_s", made.latency_s),
        ("request_due_s", made.due_s),
        ("generator_lag_s", made.lag_s),
    )
    for quantity, values in columns:
        yield Sample(quantity=quantity, unit="s", values=values, conditions=conditions)


def _broken(rates: Sequence[float], broken: int | None) -> Sample | Unavailable:
    if broken is None:
        return Unavailable(quantity="broken_per_s", reason=f"did not break up to {rates[-1]:.3g} requests a second")
    return Sample(quantity="broken_per_s", unit="1/s", values=np.array([rates[broken]]))


def _recovery(made: Requests, broken_at_s: float | None, settings: StressSettings) -> Sample | Unavailable:
    if broken_at_s is None:
        return Unavailable(quantity="recovery_s", reason="the load did not break it")
    after = made.end_s >= broken_at_s
    found = recovery_s(made.due_s[after], made.end_s[after], broken_at_s, settings.limit_s)
    if found is None:
        seconds = _RECOVERY * settings.seconds
        return Unavailable(
            quantity="recovery_s",
            reason=f"latency did not come back in {seconds:.2g} s at {100 * EASY:.0f} % of the capacity",
        )
    return Sample(quantity="recovery_s", unit="s", values=np.array([found]))
