"""Reports written from records: of a folder again, of several side by side, and their charts as files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from steelyard.api.results import Compared, Drawn, Evaluated, Result
from steelyard.api.training import Trained
from steelyard.errors import InvalidInput
from steelyard.records import Compared as ComparedRecord
from steelyard.records import Evaluation, GateReport, Ledger, RateSearch, Suite, TrainingRun, Watched

__all__ = [
    "compared_page",
    "gate_page",
    "ledger_page",
    "page_of_its_own",
    "render_report",
    "save_figures",
    "side_by_side",
    "suite_page",
    "training_page",
    "trainings_page",
    "watched_page",
]

_TRAININGS = (TrainingRun, RateSearch, Watched)


def render_report(folder: str | Path) -> Result | Evaluated | Compared | Trained | Drawn:
    """Render a run folder's report again, from its records alone; the folder may be a comparison's, a gate's or a suite's too."""
    from steelyard.pipeline.render import write_report
    from steelyard.store import kind_of, read_compared, read_evaluations, read_records

    path = Path(folder)
    kind = kind_of(path)
    drawn = {GateReport: gate_page, Ledger: ledger_page, Suite: suite_page, Watched: watched_page}
    if kind in drawn:
        return drawn[kind](path)
    if kind is ComparedRecord:
        return compared_page(path, read_compared(path))
    if kind is Evaluation:
        from steelyard.pipeline.evaluation.evaluate import write_evaluation

        evaluation = read_evaluations(path)[-1]
        write_evaluation(path, evaluation)
        return Evaluated(folder=path, evaluation=evaluation)
    if kind in (TrainingRun, RateSearch):
        return training_page(path)
    records = read_records(path)
    write_report(path, records)
    return Result(folder=path, records=records)


def side_by_side(
    folders: Iterable[str | Path], *, out: str | Path = "runs/side-by-side", allow_unlike_machines: bool = False
) -> Drawn:
    """One page over the models of several run folders: latency, throughput, memory, energy, roofline, and all axes at once.

    Folders of trainings give a page of trainings: curves, steps, memory, and boxes over those that differ in their seed alone.
    """
    from steelyard.pipeline.beside import read_beside
    from steelyard.pipeline.render import write_page
    from steelyard.report.beside import CHARTS, render_beside
    from steelyard.store import kind_of

    page, paths = page_of_its_own(Path(out)), tuple(map(Path, folders))
    if all(kind_of(path) in _TRAININGS for path in paths):
        return trainings_page(paths, page)
    models = read_beside(paths, allow_unlike_machines=allow_unlike_machines)
    write_page(page, render_beside(models))
    return Drawn(report=page, charts={name: draw(models) for name, draw in CHARTS.items()})


def save_figures(result: Result | Compared | Trained | Drawn) -> tuple[Path, ...]:
    """Every chart of a report that is there, as PNG, SVG and PDF in ``figures`` of its folder."""
    from steelyard.report import charts, comparing_charts, drawing

    folder = result.folder / "figures"
    if isinstance(result, Compared):
        drawn = ((name, draw(result.compared)) for name, draw in comparing_charts.CHARTS.items())
        return drawing.save(drawn, folder)
    if isinstance(result, Drawn | Trained):
        return drawing.save(result.charts.items(), folder)
    return charts.save_figures(result.records, folder)


def compared_page(folder: Path, found: ComparedRecord) -> Compared:
    """The comparison, its page written from its record."""
    from steelyard.pipeline.render import write_page
    from steelyard.report.comparing_page import render_compared

    write_page(folder / "report.html", render_compared(found))
    return Compared(folder=folder, compared=found)


def training_page(folder: Path) -> Trained:
    """The folder's last training, its page written from its record."""
    from steelyard.pipeline.train import write_training
    from steelyard.store import read_training

    run = read_training(folder)
    write_training(folder, run)
    return Trained(folder=folder, run=run)


def watched_page(folder: Path) -> Drawn:
    """A user's own training that was watched."""
    return trainings_page([folder], folder / "report.html")


def trainings_page(folders: Sequence[Path], page: Path) -> Drawn:
    """Trainings side by side: those of `steelyard train`, and users' own that were watched."""
    from steelyard.pipeline.render import write_page
    from steelyard.pipeline.watching import read_told
    from steelyard.report.training_charts import CHARTS
    from steelyard.report.training_page import render_training

    runs = read_told(folders)
    write_page(page, render_training(runs))
    return Drawn(report=page, charts={name: draw(runs) for name, draw in CHARTS.items()})


def gate_page(folder: Path) -> Drawn:
    from steelyard.pipeline.render import write_page
    from steelyard.report.gating_page import CHARTS, render_gate
    from steelyard.store import read_gates

    reports = read_gates(folder)
    page = write_page(folder / "gate.html", render_gate(reports))
    return Drawn(report=page, charts={name: draw(reports[-1]) for name, draw in CHARTS.items()})


def ledger_page(folder: Path) -> Drawn:
    """A training ledger that has ended."""
    from steelyard.pipeline.ledger.ledger import evidence_of
    from steelyard.pipeline.render import write_page
    from steelyard.report.ledger_page import ledger_charts, render_ledger
    from steelyard.store import read_ledger

    found = read_ledger(folder)
    if found.end is None:
        raise InvalidInput(f"{folder} holds a ledger that has not ended: run the same `steelyard ledger` again")
    evidence = evidence_of(found, folder)
    refused = [f"{name}, seed {seed}: {reason}" for (name, seed), reason in evidence.refused.items()]
    page = write_page(folder / "report.html", render_ledger(found.ledger, evidence.trained, found.end, refused))
    return Drawn(report=page, charts=ledger_charts(found.ledger, evidence.trained, found.end))


def suite_page(folder: Path) -> Drawn:
    from steelyard.pipeline.render import write_page
    from steelyard.report.suites_page import render_suite, suite_charts
    from steelyard.store import read_suite

    suite, cells = read_suite(folder)
    page = write_page(folder / "report.html", render_suite(suite, cells))
    return Drawn(report=page, charts=suite_charts(cells))


def page_of_its_own(folder: Path) -> Path:
    """``report.html`` of a folder that holds no run, whose own page it would replace."""
    from steelyard.store import kind_of

    if kind_of(folder) is not None:
        raise InvalidInput(f"{folder} holds a run, which has its own report.html: give another --out")
    return folder / "report.html"
