"""Records to report: everything here can be done again from the run folder alone."""

from __future__ import annotations

from pathlib import Path

from steelyard.errors import InvalidInput
from steelyard.metrics.table import estimates
from steelyard.records import Estimate, Measurement, RunRecords
from steelyard.report.html import render_html

__all__ = ["quality_estimates", "write_report"]


def quality_estimates(records: RunRecords) -> dict[tuple[str, str], tuple[Estimate, ...]]:
    """Every metric with its interval, for each model and the split it was judged on."""
    models: list[tuple[str, Measurement]] = []
    if records.baseline is not None:
        models.append(("baseline", records.baseline))
    models += [(str(t.plan), t.after) for t in records.trials if t.after is not None]
    if records.verification is not None:
        names = ["baseline", *map(str, records.verification.plans)]
        models += zip(names, records.verification.measurements, strict=True)
    return {(name, made.split): estimates(made) for name, measured in models for made in measured.predictions}


def write_report(folder: Path, records: RunRecords) -> Path:
    """Write ``report.html`` into the run folder."""
    path = folder / "report.html"
    try:
        path.write_text(render_html(records, quality_estimates(records)), encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror}; the records are safe") from None
    return path
