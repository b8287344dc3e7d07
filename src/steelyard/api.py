"""The Python face: the same jobs as the commands, in a call each."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.errors import InvalidInput
from steelyard.measure.process import Limits
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.records import Evaluation, GateReport, RunRecords, Scalar, SubjectSpec

if TYPE_CHECKING:
    from steelyard.subject.deployed import Model
    from steelyard.verify.checkup import Checkup

__all__ = [
    "Evaluated",
    "Result",
    "benchmark",
    "evaluate",
    "gate",
    "load",
    "optimize",
    "parse_budget",
    "render_report",
    "save_baseline",
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
    )
    return Result(folder=folder, records=run(job, progress))


def benchmark(
    source: str | Path,
    *,
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32),
    budget: str | float = "15s",
    out: str | Path | None = None,
    weights: str | Path | None = None,
    progress: Progress = silent,
    limits: Limits | None = None,
    **options: Scalar,
) -> Result:
    """What a model costs: size, latency, throughput, memory, loading and energy. No data needed."""
    from steelyard.pipeline.benchmark import benchmark as run

    if not batches or min(batches) < 1:
        raise InvalidInput(f"batch sizes must be 1 or more, got {list(batches)}")
    folder = _folder(source, out, "-benchmark")
    job = Job(
        spec=_spec(source, None, weights, 0, options),
        out=folder,
        budget_s=parse_budget(budget),
        limits=limits or Limits(),
    )
    return Result(folder=folder, records=run(job, batches, progress))


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


def render_report(folder: str | Path) -> Result | Evaluated:
    """Render a run folder's report again, from its records alone."""
    from steelyard.pipeline.render import write_report
    from steelyard.store import holds_evaluations, read_evaluations, read_records

    path = Path(folder)
    if holds_evaluations(path):
        from steelyard.pipeline.evaluation.evaluate import write_evaluation

        evaluation = read_evaluations(path)[-1]
        write_evaluation(path, evaluation)
        return Evaluated(folder=path, evaluation=evaluation)
    records = read_records(path)
    write_report(path, records)
    return Result(folder=path, records=records)


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
    `steelyard.pipeline.gate.GateJob`: ``data``, ``stored``, ``undecided``, ``allow_unlike_machines``, ``noise_floor``,
    ``command``. The report's ``passed`` says whether the gate lets the candidate through.
    """
    from steelyard.pipeline.gate import GateJob
    from steelyard.pipeline.gate import gate as run
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
    return run(job, progress)


def save_baseline(
    run: str | Path,
    path: str | Path,
    *,
    budget: str | float = "1m",
    scores: bool = False,
    progress: Progress = silent,
) -> Path:
    """Write what a gate must know of a run later into one small file, for the repository."""
    from steelyard.pipeline.gate import save_baseline as save

    save(Path(run), Path(path), budget_s=parse_budget(budget), scores=scores, progress=progress)
    return Path(path)


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
