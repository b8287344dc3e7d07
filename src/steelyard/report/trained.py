"""What a training of Steelyard's own loop came to, as tables for the terminal: its epochs, and how good its model is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from steelyard.records import Estimate, Floats, Gap, RateSearch, TrainingRun
from steelyard.report import augmenting, numbers, together

__all__ = ["epoch_losses", "epochs_table", "rate_line", "said_lines", "splits_table", "training_json"]

_SHOWN = 12  # epochs
_ENDS = {
    "done": "the recipe's end",
    "time": "the recipe's time was over",
    "patience": "no better validation score for as long as the recipe is patient",
    "gain": "the validation score gained less a kilojoule than the recipe asks",
    "diverged": "the loss is not finite",
}


def epoch_losses(run: TrainingRun) -> Floats:
    """The mean training loss over the examples of each epoch, ``(epochs,)``."""
    starts = np.arange(0, len(run.loss), max(1, run.steps_per_epoch))
    if not len(starts):
        return np.zeros(0)
    sums: Floats = np.add.reduceat(run.loss * run.examples, starts)
    return sums / np.add.reduceat(run.examples, starts)


def epochs_table(run: TrainingRun) -> Table:
    """A row for each epoch, or for some of many: first, last and best among them."""
    losses = epoch_losses(run)
    table = _table(
        f"Training of {run.spec.source}", "epoch", "loss", "validation loss", "validation", "rate", "by then"
    )
    for epoch in _some(len(losses), run.best_epoch):
        last = min(len(run.loss), (epoch + 1) * run.steps_per_epoch) - 1
        table.add_row(
            f"{epoch + 1}{' *' if epoch == run.best_epoch else ''}",
            numbers.significant(float(losses[epoch])),
            _at(run.validation_loss, epoch, numbers.significant),
            _at(run.validation, epoch, lambda share: numbers.quantity(share, "fraction")),
            f"{run.learning_rate[last]:.3g}",
            _at(run.epoch_end_s, epoch, numbers.seconds),
            style="bold" if epoch == run.best_epoch else "",
        )
    kept = "" if run.best_epoch is None else "* whose weights were kept. "
    table.caption = Text(f"{kept}Ended: {_ENDS[run.ended]}, after {len(run.loss):,} steps.", style="dim")
    table.caption_justify = "left"
    return table


def splits_table(judged: Mapping[str, Sequence[Estimate]], gap: Gap | None) -> Table:
    """Each metric on each split with its interval, and what training examples flatter."""
    table = _table("How good it is", "", *judged)
    names = list(dict.fromkeys(e.quantity for found in judged.values() for e in found))
    for name in names:
        cells = ({e.quantity: e for e in found}.get(name) for found in judged.values())
        table.add_row(
            name.replace("_", " "),
            *("" if e is None else numbers.interval(e.value, e.low, e.high, e.unit) for e in cells),
        )
    words = (
        "In brackets: 95 % intervals. The test split was judged once, at the end."
        if "test" in judged
        else "In brackets: 95 % intervals."
    )
    if gap is not None and gap.gap is not None:
        words += (
            f" Gap of {gap.metric} from training to test: {numbers.points(gap.gap.value, gap.gap.low, gap.gap.high)}."
        )
    table.caption = Text(words, style="dim")
    table.caption_justify = "left"
    return table


def rate_line(search: RateSearch) -> str:
    """The range test in words.

    >>> rate_line(RateSearch(rates=np.ones(1), losses=np.ones(1), smoothed=np.ones(1), steepest=0.2, diverged=1.0, suggested=0.1))
    'learning rate 0.1: the loss falls fastest at 0.2, a tenth of where it runs away (1) is 0.1'
    """
    if search.suggested is None or search.steepest is None:
        return f"learning rate: {search.note}; the recipe's stays"
    away = "it ran away nowhere"
    if search.diverged is not None:
        away = f"a tenth of where it runs away ({search.diverged:.3g}) is {search.diverged / 10:.3g}"
    return f"learning rate {search.suggested:.3g}: the loss falls fastest at {search.steepest:.3g}, {away}"


def said_lines(run: TrainingRun) -> tuple[str, ...]:
    """What a reader must know beside the numbers."""
    over = (
        f"{o.count} {o.split} example(s) also stand in {o.other}: the {o.split} quality is flattered"
        for o in run.overlaps
    )
    unread = (
        f"{len(run.unread)} example(s) could not be read and were left out, first {_unread(run)}" if run.unread else ""
    )
    uses = (
        f"the test split has been judged {run.test_uses} times in this folder: each choice made by it flatters it"
        if run.test_uses > 1
        else ""
    )
    return tuple(words for words in (*run.said, *over, unread, uses, *run.warnings) if words)


def training_json(run: TrainingRun, judged: Mapping[str, Sequence[Estimate]], gap: Gap | None) -> dict[str, object]:
    """The same as one document."""

    def plain(e: Estimate) -> dict[str, object]:
        return {"value": e.value, "low": e.low, "high": e.high, "level": e.level, "method": e.method, "n": e.n}

    search = run.search
    return {
        "source": run.spec.source,
        "recipe": {k: list(v) if isinstance(v, tuple) else v for k, v in run.recipe.items()},
        "ended": run.ended,
        "note": run.note,
        "steps": len(run.loss),
        "epochs": {
            "loss": epoch_losses(run).tolist(),
            "validation": run.validation.tolist(),
            "validation_loss": run.validation_loss.tolist(),
            "seconds": run.epoch_end_s.tolist(),
        },
        "best_epoch": run.best_epoch,
        "quality": {split: {e.quantity: plain(e) for e in found} for split, found in judged.items()},
        "gap": None if gap is None or gap.gap is None else plain(gap.gap),
        "learning_rate": None
        if search is None
        else {"suggested": search.suggested, "steepest": search.steepest, "diverged": search.diverged},
        "label_checks": augmenting.checks_json(run.label_checks),
        "together": together.together_json(run),
        "said": list(said_lines(run)),
    }


def _unread(run: TrainingRun) -> str:
    first = run.unread[0]
    return f"{first.split} example {first.example} ({first.reason})"


def _some(count: int, best: int | None) -> list[int]:
    """Epochs to show of `count`, evenly spread, with the best.

    >>> _some(100, 42)
    [0, 9, 18, 27, 36, 42, 45, 54, 63, 72, 81, 90, 99]
    """
    spread = {int(i) for i in np.linspace(0, count - 1, min(_SHOWN, count)).round()}
    return sorted(spread | ({best} if best is not None and best < count else set()))


def _at(values: Floats, place: int, shown: Callable[[float], str]) -> str:
    return shown(float(values[place])) if place < len(values) else ""


def _table(title: str, *names: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False)
    for at, name in enumerate(names):
        table.add_column(name, justify="right" if at else "left", overflow="fold")
    return table
