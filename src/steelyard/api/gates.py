"""Gates for continuous integration, and suites of models."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from steelyard.api.pages import gate_page, page_of_its_own, suite_page
from steelyard.api.words import parse_budget, refuse_unknown
from steelyard.measure.process import Limits
from steelyard.pipeline.job import Progress, silent
from steelyard.records import GateReport, Suite, SuiteCell, SuiteChange

__all__ = ["compare_suites", "gate", "run_suite", "save_baseline"]


def gate(
    baseline: str | Path,
    candidate: str | Path,
    *,
    require: Iterable[str],
    budget: str | float = "2m",
    out: str | Path | None = None,
    progress: Progress = silent,
    limits: Limits | None = None,
    **words: Any,
) -> GateReport:
    """Judge a candidate against a baseline; see ``steelyard gate --help``.

    Each is a run folder, a deployed folder, or a baseline file. ``words`` are further fields of
    `steelyard.pipeline.gating.request.GateJob`: ``data``, ``stored``, ``undecided``, ``allow_unlike_machines``, ``noise_floor``,
    ``history``, ``command``. The report's ``passed`` says whether the gate lets the candidate through.
    """
    from steelyard.pipeline.gating.gate import gate as run
    from steelyard.pipeline.gating.request import GateJob
    from steelyard.verify.requirements import parse_requirement

    refuse_unknown(words, "gate", GateJob)
    job = GateJob(
        baseline=Path(baseline),
        candidate=Path(candidate),
        requirements=tuple(dict.fromkeys(parse_requirement(text) for text in require)),
        budget_s=parse_budget(budget),
        out=None if out is None else Path(out),
        limits=limits or Limits(),
        **words,
    )
    report = run(job, progress)
    if job.out is not None:
        gate_page(job.out)
    return report


def save_baseline(
    run: str | Path,
    path: str | Path,
    *,
    data: str | Path | None = None,
    budget: str | float = "1m",
    scores: bool = False,
    progress: Progress = silent,
) -> Path:
    """Write what a gate must know of a run later into one small file, for the repository."""
    from steelyard.pipeline.gating.gate import save_baseline as save

    words = None if data is None else str(data)
    save(Path(run), Path(path), data=words, budget_s=parse_budget(budget), scores=scores, progress=progress)
    return Path(path)


def run_suite(
    file: str | Path | None = None,
    *,
    out: str | Path | None = None,
    budget: str | float | None = None,
    progress: Progress = silent,
    limits: Limits | None = None,
) -> tuple[Suite, tuple[SuiteCell, ...], Path]:
    """Read every cell of a suite's YAML file, or of the built-in suite: the suite, its cells, and their folder."""
    from steelyard.pipeline.suite.definition import DEFAULT, read_definition
    from steelyard.pipeline.suite.run import run_suite as run

    path = DEFAULT if file is None else Path(file)
    definition = read_definition(path)
    folder = Path("runs") / f"suite-{definition.name}" if out is None else Path(out)
    seconds = parse_budget(definition.budget if budget is None else budget)
    suite, cells = run(definition, path.parent, folder, seconds, limits=limits, progress=progress)
    suite_page(folder)
    return suite, cells, folder


def compare_suites(
    folders: Iterable[str | Path],
    *,
    band: float = 0.02,
    level: float = 0.95,
    allow_unlike_machines: bool = False,
    out: str | Path | None = None,
) -> tuple[SuiteChange, ...]:
    """Every further suite against the first, cell by cell, and the geometric mean of the ratios.

    With ``out`` a page is written into that folder.
    """
    from steelyard.pipeline.suite.compare import compare_suites as compare

    paths = tuple(map(Path, folders))
    changes = compare(paths, band=band, level=level, allow_unlike_machines=allow_unlike_machines)
    if out is not None:
        from steelyard.pipeline.render import write_page
        from steelyard.report.suites_page import render_changes

        write_page(page_of_its_own(Path(out)), render_changes(changes, band))
    return changes
