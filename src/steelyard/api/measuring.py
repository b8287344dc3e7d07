"""What models cost: benchmark, profile, carbon, and two compared."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

from steelyard.api.pages import compared_page
from steelyard.api.results import Compared, Result
from steelyard.api.words import known_region, parse_budget, parse_share, run_folder, slug, spec_of
from steelyard.errors import InvalidInput
from steelyard.measure.process import Limits
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.records import Sample, Scalar

__all__ = ["Kind", "benchmark", "carbon", "compare", "profile"]

Kind = Literal["models", "callables", "commands"]


def benchmark(
    source: str | Path,
    *,
    batches: Sequence[int] = (1, 2, 4, 8, 16, 32),
    concurrency: Sequence[int] = (1,),
    percentiles: Sequence[float] = (50, 90, 99),
    scenarios: Sequence[str] = (),
    target: str | None = None,
    stress: bool = False,
    budget: str | float = "30s",
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
    folder = run_folder(source, out, "-benchmark")
    job = Job(
        spec=spec_of(source, None, weights, 0, options),
        out=folder,
        requirements=asked.requirements,
        budget_s=parse_budget(budget),
        limits=limits or Limits(),
        region=known_region(region),
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

    folder = run_folder(source, out, "-profile")
    path = None if trace is None else Path(trace)
    words = [] if batch == 1 else ["--batch", str(batch)]
    words += [] if device == "cpu" else ["--device", device]
    job = Job(
        spec=spec_of(source, data, weights, 0, options),
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

    named = known_region(region)
    if named is None:
        raise InvalidInput("carbon needs a region: name one, such as FR or us-east-1, or set STEELYARD_REGION")
    if not isinstance(energy, Sample):
        energy = Sample(quantity="energy_j", unit="J", values=np.array([float(energy)]))
    return made(energy, named)


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
    folder = Path(out) if out is not None else Path("runs") / "-vs-".join(map(slug, words))
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
    return compared_page(folder, run(request, progress))


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
