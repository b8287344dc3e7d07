"""What a watched training comes to: plain values derived from its record, and the same as tables for the terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import Estimate, Finding, Floats, Sample, TrainingRun, Unavailable, Watched
from steelyard.report import numbers
from steelyard.stats.changepoint import steady_from
from steelyard.stats.proportion import wilson
from steelyard.stats.survival import restricted_mean

__all__ = [
    "Goal",
    "Part",
    "breakdown",
    "epoch_loss",
    "epoch_seconds",
    "examples_per_s",
    "findings_table",
    "goal",
    "of_run",
    "reading",
    "role_bytes",
    "settled",
    "step_seconds",
    "time_to",
    "training_rows",
    "training_table",
    "value",
    "warm",
]

ROLES = {
    "weights": "weights and buffers",
    "gradients": "gradients",
    "optimiser": "optimiser state",
    "activations": "kept for the backward pass",
}
_WARM_UP = 3  # steps at least in which memory is fetched and kernels are chosen


# --- values ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One phase of the step: its mean seconds, and its share of all steps' time."""

    phase: str
    seconds: float
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """When a training came to a stated quality; where it never did, what it took until its end (it is censored there)."""

    target: float
    by: str  # "the interval's lower end" or "the score itself"
    reached: bool
    epoch: int  # counted from 0
    steps: int
    seconds: float  # steps, and what lies between epochs
    energy_j: tuple[float, float, float] | None  # median with its 5 to 95 % range


def of_run(run: TrainingRun) -> Watched:
    """What was watched of a run; of one without a watch, its curves, and its time as waiting and the rest."""
    ended = f"{run.ended}: {run.note}" if run.ended == "diverged" else run.note
    if run.watched is not None:
        counts = run.watched.label_counts or _label_counts(run)
        return dataclasses.replace(run.watched, ended=ended, label_counts=counts)
    per_epoch = max(1, run.steps_per_epoch)
    epochs = max(len(run.validation), -(-len(run.loss) // per_epoch))
    scores = {"validation": run.validation, "validation_loss": run.validation_loss}
    return Watched(
        name=run.spec.source,
        environment=run.environment,
        version=run.version,
        phases=("data", "other"),
        phases_s=np.stack([run.wait_s, run.step_s - run.wait_s], axis=1),
        loss=run.loss,
        learning_rate=run.learning_rate,
        examples=run.examples,
        epochs=np.arange(epochs),
        epoch_ends=np.minimum((np.arange(epochs) + 1) * per_epoch, len(run.loss)),
        outside_s=np.zeros(epochs),
        scores={name: scored for name, scored in scores.items() if len(scored) == epochs},
        score_examples=run.validation_examples,
        readings=run.readings,
        label_counts=_label_counts(run),
        ended=ended,
    )


def _label_counts(run: TrainingRun) -> tuple[int, ...]:
    """Of the training examples that the kept weights were judged on."""
    judged = next((made for made in run.predictions if made.split == "train"), None)
    return () if judged is None else tuple(np.bincount(judged.labels, minlength=judged.classes).tolist())


def warm(watched: Watched) -> slice:
    """The steps that count for speed: all but the first tenth, three at least, where there are enough."""
    count = len(watched.loss)
    first = max(_WARM_UP, count // 10)
    return slice(first if count > 2 * first else 0, None)


def step_seconds(watched: Watched) -> Floats:
    """Of each step, by the loop's clock."""
    return np.asarray(watched.phases_s.sum(axis=1))


def breakdown(watched: Watched) -> tuple[Part, ...]:
    """Where the time of warm steps went, phases without any left out."""
    spent = watched.phases_s[warm(watched)]
    if not len(spent) or not spent.sum() > 0:
        return ()
    means, whole = spent.mean(axis=0), spent.mean(axis=0).sum()
    return tuple(
        Part(phase=name, seconds=float(mean), share=float(mean / whole))
        for name, mean in zip(watched.phases, means, strict=True)
        if mean > 0
    )


def examples_per_s(watched: Watched) -> float | None:
    """Over all warm steps."""
    seconds = step_seconds(watched)[warm(watched)].sum()
    return float(watched.examples[warm(watched)].sum() / seconds) if seconds > 0 else None


def epoch_loss(watched: Watched) -> Floats:
    """The training loss of each epoch: the mean over its examples, however they came in batches."""
    starts = np.concatenate([[0], watched.epoch_ends[:-1]]).astype(np.int64)
    sums = np.concatenate([[0.0], np.cumsum(watched.loss * watched.examples)])
    counts = np.concatenate([[0], np.cumsum(watched.examples)])
    ends = watched.epoch_ends.astype(np.int64)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray((sums[ends] - sums[starts]) / (counts[ends] - counts[starts]))


def epoch_seconds(watched: Watched) -> Floats:
    """Seconds from the beginning to the end of each epoch, validation included."""
    steps = np.concatenate([[0.0], np.cumsum(step_seconds(watched))])
    return np.asarray(steps[watched.epoch_ends.astype(np.int64)] + np.cumsum(watched.outside_s))


def settled(watched: Watched) -> int | None:
    """Steps after which the loss was stable, by change-point; None where it never was, or is not finite."""
    return steady_from(watched.loss) if np.isfinite(watched.loss).all() else None


def goal(watched: Watched, target: float, score: str = "validation") -> Goal | None:
    """When the score reached `target`; None where it was never taken.

    Reached is the first epoch at which the lower end of Wilson's 95 % interval is at `target` or above, where the number of
    examples behind the score is known; else the first whose score itself is.
    """
    found = watched.scores.get(score)
    if found is None or not np.isfinite(found).any():
        return None
    n = watched.score_examples
    held = [(wilson(s * n, n)[0] if n else s) >= target for s in np.nan_to_num(found, nan=0.0).tolist()]
    epoch = held.index(True) if any(held) else len(held) - 1
    return Goal(
        target=target,
        by="the interval's lower end" if n else "the score itself",
        reached=any(held),
        epoch=epoch,
        steps=int(watched.epoch_ends[epoch]),
        seconds=float(epoch_seconds(watched)[epoch]),
        energy_j=_energy_until(watched, epoch),
    )


def time_to(runs: Sequence[Watched], target: float) -> Estimate | None:
    """Mean seconds to the target over trainings alike but for their seed; None where a run has no validation score.

    A run that takes longer than the longest one that was seen counts as that long: see `steelyard.stats.survival`.
    """
    goals = [goal(watched, target) for watched in runs]
    known = [found for found in goals if found is not None]
    if not known or len(known) < len(goals):
        return None
    seconds, reached = np.array([g.seconds for g in known]), np.array([g.reached for g in known])
    horizon = float(seconds.max())
    value, low, high = restricted_mean(seconds, reached, horizon)
    method = f"Kaplan-Meier, restricted to {numbers.seconds(horizon)}; {int((~reached).sum())} of {len(known)} censored"
    return Estimate(
        quantity=f"time to {target:g}",
        unit="s",
        value=value,
        low=low,
        high=high,
        level=0.95,
        method=method,
        n=len(known),
    )


def _energy_until(watched: Watched, epoch: int) -> tuple[float, float, float] | None:
    """Energy of the first epochs: the whole's, as the epochs share it."""
    whole, parts = reading(watched, "energy_j"), reading(watched, "epoch_energy_j")
    if whole is None or parts is None or not parts.values.sum() > 0:
        return None
    share = float(parts.values[: epoch + 1].sum() / parts.values.sum())
    low, high = np.quantile(whole.values, (0.05, 0.95))
    return share * whole.value, share * float(low), share * float(high)


def role_bytes(watched: Watched) -> dict[str, float | Unavailable]:
    """Bytes by role, in the order of `ROLES`."""
    found = {str(r.conditions["role"]): r for r in watched.readings if r.quantity == "training_memory_bytes"}
    read = {role: found[role] for role in ROLES if role in found}
    return {role: r if isinstance(r, Unavailable) else r.value for role, r in read.items()}


def reading(watched: Watched, quantity: str) -> Sample | None:
    """The first reading of a quantity."""
    return next((r for r in watched.readings if isinstance(r, Sample) and r.quantity == quantity), None)


def value(watched: Watched, quantity: str) -> float | None:
    """Its median."""
    found = reading(watched, quantity)
    return None if found is None else found.value


# --- tables ------------------------------------------------------------------------------------------


def training_rows(watched: Watched, target: float | None = None) -> Iterator[tuple[str, str]]:
    """Name and value of all that a training came to."""
    seconds = step_seconds(watched)[warm(watched)]
    yield "Steps", f"{len(watched.loss):,}, in {len(watched.epochs)} epochs"
    if len(seconds):
        yield "Time of a step, median", numbers.seconds(float(np.median(seconds)))
    rate = examples_per_s(watched)
    if rate is not None:
        yield "Examples per second", numbers.quantity(rate, "1/s")
    yield "Loss stable from", _settled_words(watched)
    target = watched.target if target is None else target
    if target is not None:
        yield f"Quality of {target:g}", _goal_words(goal(watched, target))
    yield from _memory_rows(watched)
    yield from _energy_rows(watched)


def _settled_words(watched: Watched) -> str:
    if not np.isfinite(watched.loss).all():
        return f"never: it is not finite from step {int(np.argmin(np.isfinite(watched.loss))) + 1} on"
    first = settled(watched)
    return "never: it still moved at the end" if first is None else f"step {first + 1:,}"


def _goal_words(found: Goal | None) -> str:
    if found is None:
        return "no validation score was told"
    took = f"{found.steps:,} steps, {numbers.seconds(found.seconds)}"
    if found.energy_j is not None:
        took += f", {numbers.interval(*found.energy_j, 'J')}"
    return f"after {took}, by {found.by}" if found.reached else f"not reached within {took} (censored)"


def _memory_rows(watched: Watched) -> Iterator[tuple[str, str]]:
    for role, size in role_bytes(watched).items():
        shown = f"unavailable: {size.reason}" if isinstance(size, Unavailable) else numbers.size(size)
        yield f"Memory: {ROLES[role]}", shown
    for quantity, name in (
        ("peak_bytes", "Memory of the process, highest"),
        ("cuda_peak_bytes", "CUDA memory, highest"),
    ):
        found = value(watched, quantity)
        if found is not None:
            yield name, numbers.size(found)


def _energy_rows(watched: Watched) -> Iterator[tuple[str, str]]:
    whole = reading(watched, "energy_j")
    lacking = next((r for r in watched.readings if isinstance(r, Unavailable) and r.quantity == "energy_j"), None)
    if whole is None:
        if lacking is not None:
            yield "Energy", f"unavailable: {lacking.reason}"
        return
    low, high = (float(end) for end in np.quantile(whole.values, (0.05, 0.95)))
    yield "Energy", f"{numbers.interval(whole.value, low, high, 'J')}, {whole.provenance}"
    parts = reading(watched, "epoch_energy_j")
    if parts is not None and parts.values.sum() > 0:
        each = whole.value * float(np.median(parts.values) / parts.values.sum())
        yield "Energy of an epoch, median", numbers.quantity(each, "J")


def training_table(watched: Watched, target: float | None = None) -> Table:
    """All of it, and where the time of a step went."""
    table = _table(f"Training {watched.name}", "", "value", "of the step")
    for name, shown in training_rows(watched, target):
        table.add_row(name, shown, "", style="dim" if shown.startswith("unavailable") else "")
    table.add_section()
    for part in breakdown(watched):
        table.add_row(f"Step: {part.phase}", numbers.seconds(part.seconds), numbers.quantity(part.share, "fraction"))
    table.caption = Text("Phases are means over warm steps and add up to the step.", style="dim")
    table.caption_justify = "left"
    return table


def findings_table(findings: Sequence[Finding]) -> Table | None:
    """What holds the training back, and what to try; None where nothing was found."""
    if not findings:
        return None
    table = _table("Diagnosis", "finding", "evidence", "try", "gain")
    for finding in findings:
        tried = finding.ceilings or (None,)
        for place, ceiling in enumerate(tried):
            gain = "" if ceiling is None or ceiling.ceiling <= 1 else f"{numbers.significant(ceiling.gain)}x"
            told = (finding.name, finding.claim) if not place else ("", "")
            table.add_row(*told, "" if ceiling is None else ceiling.technique, gain)
    return table


def _table(title: str, first: str, *rest: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column(first, overflow="fold")
    for name in rest:
        table.add_column(name, overflow="fold")
    return table
