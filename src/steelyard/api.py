"""The Python face: the same jobs as the commands, in a call each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from steelyard.errors import InvalidInput
from steelyard.measure.process import Limits
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.records import Compared as ComparedRecord
from steelyard.records import (
    Evaluation,
    GateReport,
    RunRecords,
    Sample,
    Scalar,
    SubjectSpec,
    Suite,
    SuiteCell,
    SuiteChange,
)

if TYPE_CHECKING:
    from steelyard.subject.deployed import Model
    from steelyard.verify.checkup import Checkup

__all__ = [
    "Compared",
    "Drawn",
    "Evaluated",
    "Result",
    "benchmark",
    "carbon",
    "compare",
    "compare_suites",
    "evaluate",
    "gate",
    "load",
    "optimize",
    "parse_budget",
    "parse_share",
    "profile",
    "render_report",
    "run_suite",
    "save_baseline",
    "save_figures",
    "side_by_side",
    "verify_folder",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished run: its folder and its records."""

    folder: Path
    records: RunRecords

    @property
    def met(self) -> bool:
        """Whether a candidate met every requirement."""
        return self.records.outcome is not None and self.records.outcome.status == "met"

    @property
    def best(self) -> Path:
        """The deployable folder."""
        return self.folder / "best"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    def chart(self, name: str) -> Any:
        """An Altair chart of the report, such as ``pareto`` or ``roofline``; None where its records are absent."""
        from steelyard.report.charts import CHARTS

        return _chart(CHARTS, name)(self.records)


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A comparison: its folder and its record."""

    folder: Path
    compared: ComparedRecord

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    def chart(self, name: str) -> Any:
        """An Altair chart of the report, such as ``verdict`` or ``narrowing``; None where nothing was measured."""
        from steelyard.report.comparing_charts import CHARTS

        return _chart(CHARTS, name)(self.compared)

    @property
    def outcome(self) -> str:
        """How the second stands to the first: faster, slower, equivalent or undecided."""
        return self.compared.outcome

    @property
    def ratio(self) -> tuple[float, float, float] | None:
        """The second's time over the first's, with its interval; None before any round."""
        found = self.compared.ratio
        return None if found is None else (found.value, found.low, found.high)

    def __str__(self) -> str:
        """The verdict in one line."""
        from steelyard.report.comparing import verdict_line

        return verdict_line(self.compared).plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A page of a gate, of a suite, or of several runs side by side, and its charts."""

    report: Path
    charts: Mapping[str, Any]  # name -> an Altair chart, or None where its records are absent

    @property
    def folder(self) -> Path:
        """Where the page lies."""
        return self.report.parent

    def chart(self, name: str) -> Any:
        """One of the charts."""
        if name not in self.charts:
            raise InvalidInput(f"there is no chart {name!r}; there are {', '.join(self.charts)}")
        return self.charts[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A finished evaluation: its folder and its record."""

    folder: Path
    evaluation: Evaluation

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return all(gate.passed for gate in self.evaluation.gates)

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    def chart(self, name: str) -> Any:
        """An Altair chart of the report, such as ``roc`` or ``confusion``; None where its data is absent."""
        from steelyard.report.evaluation.charts import CHARTS

        return _chart(CHARTS, name)(self.evaluation)

    @property
    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds."""
        from steelyard.report.evaluation.text import metrics_json

        return metrics_json(self.evaluation)


def optimize(
    source: str | Path,
    *,
    data: str | Path | None = None,
    require: Iterable[str] = (),
    budget: str | float = "10m",
    out: str | Path | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    region: str | None = None,
    progress: Progress = silent,
    limits: Limits | None = None,
    **options: Scalar,
) -> Result:
    """Make a model faster under requirements and prove it; see ``steelyard optimize --help`` for the words.

    ``source`` is ``file.py[:function]``, ``torchvision:NAME`` or a path to .onnx, .xml or .pt2. ``options`` declare
    what a model file does not say: ``scale``, ``mean``, ``std``, ``outputs``, ``labels``, ``label``, ``size``, ``classes``.
    Running ``file.py`` runs that file's code. Raises `InvalidInput` for anything that cannot be understood.
    """
    from steelyard.pipeline.optimize import DEFAULTS
    from steelyard.pipeline.optimize import optimize as run
    from steelyard.verify.requirements import parse_requirement

    folder = _folder(source, out, "")
    job = Job(
        spec=_spec(source, data, weights, seed, options),
        out=folder,
        requirements=tuple(parse_requirement(text) for text in (tuple(require) or DEFAULTS)),
        budget_s=parse_budget(budget),
        limits=limits or Limits(),
        region=_region(region),
    )
    return Result(folder=folder, records=run(job, progress))


def benchmark(
    source: str | Path,
    *,
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32),
    concurrency: Sequence[int] = (1,),
    percentiles: Sequence[float] = (50, 90, 99),
    scenarios: Sequence[str] = (),
    target: str | None = None,
    stress: bool = False,
    budget: str | float = "15s",
    out: str | Path | None = None,
    weights: str | Path | None = None,
    region: str | None = None,
    progress: Progress = silent,
    limits: Limits | None = None,
    **options: Scalar,
) -> Result:
    """What a model costs: size, latency, throughput, memory, loading and energy. No data needed.

    ``scenarios`` are those of MLPerf: single-stream, multi-stream, server, offline. ``target``, such as ``p99 <= 35 ms``, is
    the latency that the recommended batch size and the sustained rate keep; ``stress`` raises the load until it breaks.
    """
    from steelyard.pipeline.asked import ask
    from steelyard.pipeline.benchmark import benchmark as run

    asked = ask(batches, concurrency, percentiles, scenarios, target, stress=stress)
    folder = _folder(source, out, "-benchmark")
    job = Job(
        spec=_spec(source, None, weights, 0, options),
        out=folder,
        requirements=asked.requirements,
        budget_s=parse_budget(budget),
        limits=limits or Limits(),
        region=_region(region),
        percentiles=asked.percentiles,
        words=asked.words,
    )
    return Result(folder=folder, records=run(job, asked, progress))


def profile(
    source: str | Path,
    *,
    data: str | Path | None = None,
    batch: int = 1,
    trace: str | Path | None = None,
    device: str = "cpu",
    budget: str | float = "20s",
    out: str | Path | None = None,
    weights: str | Path | None = None,
    progress: Progress = silent,
    limits: Limits | None = None,
    **options: Scalar,
) -> Result:
    """Where the time of one inference goes: operators, layers on the roofline, a trace for Perfetto, findings.

    ``trace`` is the file for the trace (``trace.json`` in the run folder). With ``data``, how fast it comes is measured too.
    ``device`` is for PyTorch models: ``cuda`` where there is such a device.
    """
    from steelyard.pipeline.profile import Profiling
    from steelyard.pipeline.profile import profile as run

    folder = _folder(source, out, "-profile")
    path = None if trace is None else Path(trace)
    words = [] if batch == 1 else ["--batch", str(batch)]
    words += [] if device == "cpu" else ["--device", device]
    job = Job(
        spec=_spec(source, data, weights, 0, options),
        out=folder,
        budget_s=parse_budget(budget),
        limits=limits or Limits(),
        words=tuple(words),
    )
    return Result(folder=folder, records=run(job, Profiling(batch=batch, trace=path, device=device), progress))


def carbon(energy: Sample | float, *, region: str | None = None) -> Sample:
    """Grams of CO2 equivalent of an energy (a reading of a run, or joules) on the grid of `region`, as draws.

    ``region`` is an ISO code, a US grid subregion or a cloud's region; without one the variable ``STEELYARD_REGION``.

    >>> carbon(3.6e6, region="SE").value < carbon(3.6e6, region="PL").value  # one kilowatt-hour in Sweden and in Poland
    True

    Raises `InvalidInput` for an unknown region, or none.
    """
    import numpy as np

    from steelyard.probe.carbon import carbon as made

    named = _region(region)
    if named is None:
        raise InvalidInput("carbon needs a region: name one, such as FR or us-east-1, or set STEELYARD_REGION")
    if not isinstance(energy, Sample):
        energy = Sample(quantity="energy_j", unit="J", values=np.array([float(energy)]))
    return made(energy, named)


def evaluate(
    source: str | Path,
    *,
    compare: str | Path | Iterable[str | Path] = (),
    out: str | Path | None = None,
    progress: Progress = silent,
    **words: Any,
) -> Evaluated:
    """Judge saved predictions (CSV, Parquet, NPZ) or a subject; see ``steelyard evaluate --help`` for the words.

    ``words`` are the fields of `steelyard.pipeline.evaluation.request.Request`: ``label``, ``score``, ``key``, ``slices``,
    ``objective``, ``target``, ``fail_under`` and so on. Saved predictions need no deep-learning framework. Raises
    `InvalidInput` for anything that cannot be understood.
    """
    from steelyard.pipeline.evaluation.evaluate import evaluate as run
    from steelyard.pipeline.evaluation.request import Request

    others = (compare,) if isinstance(compare, str | Path) else tuple(compare)
    folder = _folder(source, out, "-evaluate")
    known = {f.name for f in dataclasses.fields(Request)}
    unknown = next((word for word in words if word not in known), None)
    if unknown is not None:
        raise InvalidInput(f"evaluate has no {unknown!r}; it has {', '.join(sorted(known - {'source', 'out'}))}")
    request = Request(source=str(source), out=folder, compare=tuple(map(str, others)), **words)
    return Evaluated(folder=folder, evaluation=run(request, progress))


Kind = Literal["models", "callables", "commands"]


def compare(
    first: str | Path | Callable[[], object],
    second: str | Path | Callable[[], object],
    *,
    kind: Kind | None = None,
    data: str | Path | None = None,
    metrics: Sequence[str] = ("accuracy",),
    band: str | float = 0.02,
    level: float = 0.95,
    budget: str | float = "2m",
    batch: int = 1,
    shell: bool = False,
    history: bool = True,
    out: str | Path | None = None,
    progress: Progress = silent,
    limits: Limits | None = None,
    command: tuple[str, ...] = (),
    **options: Scalar,
) -> Compared:
    """Is the second faster or slower than the first, or equivalent? See ``steelyard compare --help`` for the words.

    Both are models, or functions of no arguments at the top level of a file, or with ``kind="commands"`` commands; they
    run in fresh processes. Raises `InvalidInput` for what cannot be understood, `WorkerFailed` naming the one that failed.
    """
    from steelyard.pipeline.compare import Request
    from steelyard.pipeline.compare import compare as run

    kind, words = _things(first, second, kind)
    folder = Path(out) if out is not None else Path("runs") / "-vs-".join(map(_slug, words))
    request = Request(
        first=words[0],
        second=words[1],
        kind=kind,
        out=folder,
        data=None if data is None else str(data),
        metrics=tuple(metrics),
        band=parse_share(band),
        level=level,
        budget_s=parse_budget(budget),
        batch=batch,
        shell=shell,
        history=history,
        limits=limits or Limits(),
        command=command,
        options={name: value for name, value in options.items() if value is not None},
    )
    return _reported(folder, run(request, progress))


def _reported(folder: Path, found: ComparedRecord) -> Compared:
    """The comparison, its page written from its record."""
    from steelyard.pipeline.render import write_page
    from steelyard.report.comparing_page import render_compared

    write_page(folder / "report.html", render_compared(found))
    return Compared(folder=folder, compared=found)


def _things(first: Any, second: Any, kind: Kind | None) -> tuple[Kind, tuple[str, str]]:
    """Both in words that a fresh process understands, and what kind they are."""
    functions = [callable(thing) for thing in (first, second)]
    if not any(functions):
        return kind or "models", (str(first), str(second))
    if not all(functions):
        raise InvalidInput("cannot compare a function with words: give two functions, two models or two commands")
    from steelyard.measure.arms import where

    (file, name), (other_file, other_name) = where(first), where(second)
    return "callables", (f"{file}:{name}", f"{other_file}:{other_name}")


def _slug(words: str) -> str:
    """A folder's name for a model, a function or a command.

    >>> _slug("zoo/resnet18.onnx"), _slug("a.py:f"), _slug("python b.py --fast"), _slug("torchvision:resnet18")
    ('resnet18', 'a-f', 'python-b.py---fast', 'resnet18')
    """
    plain = words.removeprefix("torchvision:")
    if " " not in plain:
        head, _, name = plain.partition(":")
        path = Path(head)
        last = f"{path.parent.name}-{path.name}" if path.name in ("best", "baseline") else path.stem
        plain = f"{last}-{name}" if name else last
    return re.sub(r"[^\w.\-]+", "-", plain).strip("-.")[:60] or "it"


def render_report(folder: str | Path) -> Result | Evaluated | Compared | Drawn:
    """Render a run folder's report again, from its records alone; the folder may be a comparison's, a gate's or a suite's too."""
    from steelyard.pipeline.render import write_report
    from steelyard.store import kind_of, read_compared, read_evaluations, read_records

    path = Path(folder)
    kind = kind_of(path)
    if kind is ComparedRecord:
        return _reported(path, read_compared(path))
    if kind is GateReport:
        return _gate_page(path)
    if kind is Suite:
        return _suite_page(path)
    if kind is Evaluation:
        from steelyard.pipeline.evaluation.evaluate import write_evaluation

        evaluation = read_evaluations(path)[-1]
        write_evaluation(path, evaluation)
        return Evaluated(folder=path, evaluation=evaluation)
    records = read_records(path)
    write_report(path, records)
    return Result(folder=path, records=records)


def _gate_page(folder: Path) -> Drawn:
    from steelyard.pipeline.render import write_page
    from steelyard.report.gating_page import CHARTS, render_gate
    from steelyard.store import read_gates

    reports = read_gates(folder)
    page = write_page(folder / "gate.html", render_gate(reports))
    return Drawn(report=page, charts={name: draw(reports[-1]) for name, draw in CHARTS.items()})


def _suite_page(folder: Path) -> Drawn:
    from steelyard.pipeline.render import write_page
    from steelyard.report.suites_page import render_suite, suite_charts
    from steelyard.store import read_suite

    suite, cells = read_suite(folder)
    page = write_page(folder / "report.html", render_suite(suite, cells))
    return Drawn(report=page, charts=suite_charts(cells))


def side_by_side(
    folders: Iterable[str | Path], *, out: str | Path = "runs/side-by-side", allow_unlike_machines: bool = False
) -> Drawn:
    """One page over the models of several run folders: latency, throughput, memory, energy, roofline, and all axes at once."""
    from steelyard.pipeline.beside import read_beside
    from steelyard.pipeline.render import write_page
    from steelyard.report.beside import CHARTS, render_beside

    page = _page_of_its_own(Path(out))
    models = read_beside(tuple(map(Path, folders)), allow_unlike_machines=allow_unlike_machines)
    write_page(page, render_beside(models))
    return Drawn(report=page, charts={name: draw(models) for name, draw in CHARTS.items()})


def save_figures(result: Result | Compared | Drawn) -> tuple[Path, ...]:
    """Every chart of a report that is there, as PNG, SVG and PDF in ``figures`` of its folder."""
    from steelyard.report import charts, comparing_charts, drawing

    folder = result.folder / "figures"
    if isinstance(result, Compared):
        drawn = ((name, draw(result.compared)) for name, draw in comparing_charts.CHARTS.items())
        return drawing.save(drawn, folder)
    if isinstance(result, Drawn):
        return drawing.save(result.charts.items(), folder)
    return charts.save_figures(result.records, folder)


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

    known = {f.name for f in dataclasses.fields(GateJob)}
    unknown = next((word for word in words if word not in known), None)
    if unknown is not None:
        raise InvalidInput(f"gate has no {unknown!r}; it has {', '.join(sorted(known))}")
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
        _gate_page(job.out)
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
    _suite_page(folder)
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

        write_page(_page_of_its_own(Path(out)), render_changes(changes, band))
    return changes


def _page_of_its_own(folder: Path) -> Path:
    """``report.html`` of a folder that holds no run, whose own page it would replace."""
    from steelyard.store import kind_of

    if kind_of(folder) is not None:
        raise InvalidInput(f"{folder} holds a run, which has its own report.html: give another --out")
    return folder / "report.html"


def load(folder: str | Path, *, run_code: bool = False) -> Model:
    """A deployed folder, ready to predict. `run_code` allows a folder that needs its author's Python file."""
    from steelyard.subject.deployed import Model

    return Model(Path(folder), run_code=run_code)


def verify_folder(folder: str | Path, *, seconds: float = 5.0, progress: Progress = silent) -> Checkup:
    """Check a deployed folder on this machine: whole, same outputs, cost."""
    from steelyard.verify.checkup import check_folder

    return check_folder(Path(folder), seconds=seconds, on_step=lambda step: progress(f"checking: {step}", None))


def parse_budget(words: str | float) -> float:
    """Seconds in ``90``, ``90s``, ``10m``, ``1h`` or ``1h30m``.

    >>> parse_budget("1h30m")
    5400.0
    """
    if isinstance(words, int | float):
        seconds = float(words)
    else:
        match = re.fullmatch(r"(?:([\d.]+)h)?(?:([\d.]+)m)?(?:([\d.]+)s?)?", words.strip())
        if not match or not any(match.groups()):
            raise InvalidInput(f"cannot read the time {words!r}: write 90s, 10m, 1h or 1h30m")
        try:
            hours, minutes, rest = (float(part or 0) for part in match.groups())
        except ValueError:
            raise InvalidInput(f"cannot read the time {words!r}: write 90s, 10m, 1h or 1h30m") from None
        seconds = 3600 * hours + 60 * minutes + rest
    if not 0 < seconds < float("inf"):
        raise InvalidInput(f"a budget must be more than nothing, got {words!r}")
    return seconds


def parse_share(words: str | float) -> float:
    """The fraction in ``2%`` or ``0.02``.

    >>> parse_share("2%"), parse_share(0.02)
    (0.02, 0.02)
    """
    plain = str(words).strip()
    try:
        found = float(plain.rstrip("% ")) / (100 if plain.endswith("%") else 1)
    except ValueError:
        found = -1.0
    if not 0 < found < 1:
        raise InvalidInput(f"a band is a share of the time, such as 2%; got {words!r}")
    return found


def _region(region: str | None) -> str | None:
    """The region of the call or of ``STEELYARD_REGION``, known to have a grid factor."""
    from steelyard.probe.carbon import grid_factor, named_region

    named = named_region(region)
    return None if named is None else grid_factor(named).region


def _chart(charts: Mapping[str, Callable[[Any], Any]], name: str) -> Callable[[Any], Any]:
    if name not in charts:
        raise InvalidInput(f"there is no chart {name!r}; there are {', '.join(charts)}")
    return charts[name]


def _spec(
    source: str | Path, data: str | Path | None, weights: str | Path | None, seed: int, options: dict[str, Scalar]
) -> SubjectSpec:
    return SubjectSpec(
        source=str(source),
        data=None if data is None else str(data),
        weights=None if weights is None else str(weights),
        seed=seed,
        options={name: value for name, value in options.items() if value is not None},
    )


def _folder(source: str | Path, out: str | Path | None, suffix: str) -> Path:
    if out is not None:
        return Path(out)
    words = str(source)
    name = words.partition(":")[2] if words.startswith("torchvision:") else Path(words.partition(":")[0]).stem
    return Path("runs") / f"{name}{suffix}"
