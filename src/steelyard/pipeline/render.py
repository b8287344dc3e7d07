"""Records to report: everything here can be done again from the run folder alone."""

from __future__ import annotations

from pathlib import Path

from steelyard.errors import InvalidInput
from steelyard.metrics.examples import from_predictions
from steelyard.metrics.table import estimates, quality
from steelyard.records import Estimate, Measurement, RunRecords, Unavailable
from steelyard.report.html import render_html

__all__ = ["SHOWN", "quality_estimates", "write_page", "write_report"]

SHOWN = ("accuracy", "balanced_accuracy", "macro_precision", "macro_recall", "macro_f1", "log_loss")
"""Metrics that every run of `optimize` shows, beside those that its requirements name."""


def quality_estimates(records: RunRecords) -> dict[tuple[str, str], tuple[Estimate, ...]]:
    """Every metric with its interval, for each model and the split it was judged on."""
    models: list[tuple[str, Measurement]] = []
    if records.baseline is not None:
        models.append(("baseline", records.baseline))
    models += [(str(t.plan), t.after) for t in records.trials if t.after is not None]
    if records.verification is not None:
        names = ["baseline", *map(str, records.verification.plans)]
        models += zip(names, records.verification.measurements, strict=True)
    wanted = (*SHOWN, *(r.quantity for r in records.run.requirements if quality(r.quantity) is not None))
    return {
        (name, made.split): _defined(estimates(from_predictions(made), tuple(dict.fromkeys(wanted))))
        for name, measured in models
        for made in measured.predictions
    }


def _defined(found: tuple[Estimate | Unavailable, ...]) -> tuple[Estimate, ...]:
    """Those that have a value, each once: `recall` of many classes is `macro_recall`."""
    return tuple({e.quantity: e for e in found if isinstance(e, Estimate)}.values())


def write_report(folder: Path, records: RunRecords) -> Path:
    """Write ``report.html`` into the run folder."""
    return write_page(folder / "report.html", render_html(records, quality_estimates(records)))


def write_page(path: Path, page: str) -> Path:
    """Write a page that was rendered from records. Raises `InvalidInput` where that cannot be done."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; the records are safe") from None
    return path
