"""Models made better, and models that were delivered."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from steelyard.api.results import Result
from steelyard.api.words import known_region, parse_budget, run_folder, spec_of
from steelyard.measure.process import Limits
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.records import Scalar

if TYPE_CHECKING:
    from steelyard.subject.deployed import Model
    from steelyard.verify.checkup import Checkup

__all__ = ["load", "optimize", "verify_folder"]


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

    folder = run_folder(source, out, "")
    job = Job(
        spec=spec_of(source, data, weights, seed, options),
        out=folder,
        requirements=tuple(parse_requirement(text) for text in (tuple(require) or DEFAULTS)),
        budget_s=parse_budget(budget),
        limits=limits or Limits(),
        region=known_region(region),
    )
    return Result(folder=folder, records=run(job, progress))


def load(folder: str | Path, *, run_code: bool = False) -> Model:
    """A deployed folder, ready to predict. `run_code` allows a folder that needs its author's Python file."""
    from steelyard.subject.deployed import Model

    return Model(Path(folder), run_code=run_code)


def verify_folder(folder: str | Path, *, seconds: float = 5.0, progress: Progress = silent) -> Checkup:
    """Check a deployed folder on this machine: whole, same outputs, cost."""
    from steelyard.verify.checkup import check_folder

    return check_folder(Path(folder), seconds=seconds, on_step=lambda step: progress(f"checking: {step}", None))
