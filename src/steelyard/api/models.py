"""Models made better, and models that were delivered."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.api.results import Result
from steelyard.api.words import known_region, parse_budget, run_folder, spec_of
from steelyard.measure.process import Limits
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.records import Prediction, Scalar

if TYPE_CHECKING:
    from steelyard.pipeline.predicting import Predicted
    from steelyard.subject.deployed import Model
    from steelyard.verify.checkup import Checkup

__all__ = ["explain_plan", "load", "optimize", "predict", "verify_folder"]


def optimize(
    source: str | Path,
    *,
    data: str | Path | None = None,
    require: Iterable[str] = (),
    minimise: str = "latency",
    techniques: Iterable[str] = (),
    engine: Iterable[str] = (),
    budget: str | float = "10m",
    out: str | Path | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    region: str | None = None,
    ray: str | None = None,
    progress: Progress = silent,
    limits: Limits | None = None,
    **options: Scalar,
) -> Result:
    """Make a model better under requirements and prove it; see ``steelyard optimize --help`` for the words.

    ``source`` is ``file.py[:function]``, ``torchvision:NAME`` or a path to .onnx, .xml or .pt2. Among the plans that keep
    every requirement the one with least latency, energy, size or memory wins, as ``minimise`` says. ``techniques`` and
    ``engine`` restrict what plans are made of and end in. ``options`` declare what a model file does not say: ``scale``, ``mean``,
    ``std``, ``outputs``, ``labels``, ``label``, ``size``, ``classes``. Running ``file.py`` runs that file's code. Raises `InvalidInput`
    for anything that cannot be understood.
    """
    from steelyard.pipeline.optimize import optimize as run

    job = _job(
        source, data=data, require=require, minimise=minimise, techniques=techniques, engine=engine, budget=budget, out=out,
        weights=weights, seed=seed, region=region, ray=ray, limits=limits, **options,
    )  # fmt: skip
    return Result(folder=job.out, records=run(job, progress))


def explain_plan(
    source: str | Path, *, progress: Progress = silent, **words: Any
) -> tuple[Result, tuple[Prediction, ...]]:
    """What `optimize` would try with the same words, in order, with the hopeless plans last; nothing is built.

    The baseline is weighed and diagnosed, in the run folder, where `optimize` goes on from.
    """
    from steelyard.pipeline.optimize import explain

    job = _job(source, **words)
    records, predictions = explain(job, progress)
    return Result(folder=job.out, records=records), predictions


def _job(
    source: str | Path,
    *,
    data: str | Path | None = None,
    require: Iterable[str] = (),
    minimise: str = "latency",
    techniques: Iterable[str] = (),
    engine: Iterable[str] = (),
    budget: str | float = "10m",
    out: str | Path | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    region: str | None = None,
    ray: str | None = None,
    limits: Limits | None = None,
    **options: Scalar,
) -> Job:
    from steelyard.pipeline.optimize import DEFAULTS, words_of
    from steelyard.search.space import checked
    from steelyard.verify.requirements import parse_requirement

    names, engines = checked(techniques, engine)
    return Job(
        spec=spec_of(source, data, weights, seed, options),
        out=run_folder(source, out, ""),
        requirements=tuple(parse_requirement(text) for text in (tuple(require) or DEFAULTS)),
        budget_s=parse_budget(budget),
        limits=limits or Limits(),
        region=known_region(region),
        words=words_of(minimise, names, engines),
        minimise=minimise,
        techniques=names,
        engines=engines,
        ray=ray,
    )


def load(folder: str | Path, *, run_code: bool = False) -> Model:
    """A deployed folder, ready to predict. `run_code` allows a folder that needs its author's Python file.

    A model in 8 bits on a processor without the instructions that it was made with is tried on the examples it came with; where
    its outputs differ, its fallback is loaded instead, with a `UserWarning`.
    """
    from steelyard.probe.host import environment
    from steelyard.verify.target import for_this_machine

    model, said = for_this_machine(Path(folder), environment(()).instruction_sets, run_code=run_code)
    if said:
        warnings.warn(said, stacklevel=2)
    return model


def predict(
    folder: str | Path,
    examples: str | Path,
    out: str | Path | None = None,
    *,
    label: str | None = None,
    run_code: bool = False,
    progress: Progress = silent,
) -> Predicted:
    """Answers of a deployed folder for many examples, as a table that `evaluate` reads; see ``steelyard predict --help``.

    ``examples`` is a folder of pictures, one folder a class or none, or a table (.csv, .tsv, .parquet, .npz) of features or
    texts. Without ``out`` the table goes to standard output. Raises `InvalidInput` for what cannot be read.
    """
    from steelyard.pipeline.predicting import predict as run

    return run(load(folder, run_code=run_code), Path(examples), None if out is None else Path(out), label, progress)


def verify_folder(folder: str | Path, *, seconds: float = 5.0, progress: Progress = silent) -> Checkup:
    """Check a deployed folder on this machine: whole, packages, instructions, same outputs, cost."""
    from steelyard.verify.checkup import check_folder

    return check_folder(Path(folder), seconds=seconds, on_step=lambda step: progress(f"checking: {step}", None))
