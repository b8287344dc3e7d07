"""Ask and tell: candidates in the order of predicted gain per minute, hopeless ones skipped with their reason."""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.records import Prediction, Refusal, Trial

__all__ = ["OrderedSearch", "out_of_time", "skipped"]


class OrderedSearch:
    """Hands out plans best prospect first and remembers what came of them.

    ``ask`` gives the next prediction or None when the space is exhausted; ``tell`` takes the trial. Trials of an
    earlier, interrupted run are told first, and their plans are not asked for again.
    """

    def __init__(self, predictions: Sequence[Prediction], told: Sequence[Trial] = ()) -> None:
        self._waiting = sorted(predictions, key=lambda p: -_per_minute(p))
        self._told: list[Trial] = []
        for trial in told:
            self.tell(trial)

    def ask(self) -> Prediction | None:
        """The most promising plan not yet told of."""
        done = {trial.plan for trial in self._told}
        return next((p for p in self._waiting if p.plan not in done), None)

    def tell(self, trial: Trial) -> None:
        """Note what came of a plan."""
        self._told.append(trial)

    @property
    def trials(self) -> tuple[Trial, ...]:
        """All that was told, in order."""
        return tuple(self._told)


def skipped(prediction: Prediction) -> Trial:
    """A trial for a plan that the diagnosis calls hopeless: the reason is kept, the time is not spent (D4)."""
    refusal = Refusal(kind="skipped", reason=f"will not help here: {prediction.because}")
    return Trial(plan=prediction.plan, refusal=refusal, prediction=prediction)


def out_of_time(prediction: Prediction) -> Trial:
    """A trial for a plan that the budget did not reach."""
    refusal = Refusal(kind="budget", reason="the budget ended before its turn; give a longer --budget")
    return Trial(plan=prediction.plan, refusal=refusal, prediction=prediction)


def _per_minute(prediction: Prediction) -> float:
    """Gain over one, per minute; what is hopeless comes last."""
    if prediction.hopeless:
        return float("-inf")
    return (prediction.gain - 1.0) / max(prediction.minutes, 1e-3)
