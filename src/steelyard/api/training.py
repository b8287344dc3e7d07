"""A model trained by a recipe."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from steelyard.api.words import parse_budget, run_folder, spec_of
from steelyard.errors import InvalidInput
from steelyard.pipeline.job import Progress, silent
from steelyard.records import Estimate, Finding, Gap, Scalar, TrainingRun

if TYPE_CHECKING:
    from torch import nn

    from steelyard.pipeline.greener import CleanStart

__all__ = ["Trained", "train"]

_SHOWN = ("accuracy", "balanced_accuracy", "macro_f1", "log_loss")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A training: its folder and its record."""

    folder: Path
    run: TrainingRun

    @property
    def weights(self) -> Path:
        """The kept weights, as ``--weights`` of the other commands reads them."""
        return self.folder / self.run.weights

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    @property
    def passed(self) -> bool:
        """Whether it came to its end with a loss that is a number."""
        return self.run.ended != "diverged"

    @property
    def quality(self) -> Mapping[str, Sequence[Estimate]]:
        """Metrics with their intervals, by split: train (some of it), validation, and test, judged once."""
        from steelyard.metrics.examples import from_predictions
        from steelyard.metrics.table import estimates

        return {
            made.split: [e for e in estimates(from_predictions(made), _SHOWN) if isinstance(e, Estimate)]
            for made in self.run.predictions
        }

    @property
    def gap(self) -> Gap | None:
        """How much better it is on what it was trained on than on the test split; None where that was not judged."""
        from steelyard.metrics.examples import from_predictions
        from steelyard.metrics.table import find
        from steelyard.pipeline.evaluation.assess import split_gap

        made = {p.split: from_predictions(p) for p in self.run.predictions}
        if "test" not in made:
            return None
        metric = find("accuracy", made["test"].task, made["test"].classes)
        return split_gap(made["train"], made["test"], metric, 0.95, unseen="test")

    @property
    def charts(self) -> Mapping[str, Any]:
        """The report's charts by name; None where their readings are absent."""
        from steelyard.report.training import of_run
        from steelyard.report.training_charts import CHARTS, Told

        told = [Told(watched=of_run(self.run), findings=self.findings, run=self.run)]
        return {name: draw(told) for name, draw in CHARTS.items()}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What held it back, and what to try."""
        from steelyard.diagnose.training import diagnose_training
        from steelyard.report.training import of_run

        return diagnose_training(of_run(self.run), overlaps=self.run.overlaps)

    def model(self) -> nn.Module:
        """The trained model, built again from the user's words. Running ``file.py`` runs that file's code."""
        from steelyard.subject.load import load_subject

        model: Any = load_subject(dataclasses.replace(self.run.spec, weights=str(self.weights))).model
        return model.eval()  # type: ignore[no-any-return]


def train(
    source: str | Path,
    *changes: str,
    data: str | Path | None = None,
    recipe: str | Path = "warmup-cosine",
    find_lr: bool = False,
    resume: Literal["auto", "never"] = "auto",
    checkpoint: str | float = "5m",
    deterministic: bool = False,
    skip_bad: bool = False,
    backbone: str | Path | None = None,
    processes: int = 1,
    spread: Literal["data", "sharded"] = "data",
    scaling: bool = False,
    start_when_clean: str | Path | None = None,
    lasts: str | float | None = None,
    within: str | float | None = None,
    out: str | Path | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    progress: Progress = silent,
    **options: Scalar,
) -> Trained:
    """Train a model by a recipe and judge it once on its test split; see ``steelyard train --help`` for the words.

    `recipe` is a YAML file or a ready one's name, and `changes` are words such as ``"lr=0.1"``. ``checkpoint`` is a time
    between checkpoints, such as ``"5m"``, or ``"100 steps"``. ``processes`` train together, each with the whole model or with a part of
    every weight (``spread``), and ``scaling`` measures what they gain over one. The same call on the same folder goes on where a stopped one stood.
    Running ``file.py`` runs that file's code. Raises `InvalidInput` for anything that cannot be understood.
    """
    from steelyard.pipeline.train import TrainingJob
    from steelyard.pipeline.train import train as run
    from steelyard.trainer.recipe_file import read_recipe

    if resume not in ("auto", "never"):
        raise InvalidInput(f"resume is auto or never, got {resume!r}")
    asked = (*changes, "deterministic=true") if deterministic else changes
    steps, seconds = _checkpoint(checkpoint)
    read = read_recipe(recipe, asked)
    folder = run_folder(source, out, "-train")
    job = TrainingJob(
        spec=spec_of(source, data, weights, seed, options),
        recipe=read,
        out=folder,
        find_rate=find_lr,
        resume=resume,
        every_steps=steps,
        every_s=seconds,
        skip_bad=skip_bad,
        backbone=None if backbone is None else Path(backbone),
        processes=processes,
        spread=spread,
        scaling=scaling,
        clean=None if start_when_clean is None else _clean(start_when_clean, lasts, within, read.seconds),
        words=(
            *asked,
            "--recipe",
            str(recipe),
            *(("--find-lr",) if find_lr else ()),
            *(("--backbone", str(backbone)) if backbone else ()),
        ),
    )
    return Trained(folder=folder, run=run(job, progress))


def _clean(
    forecast: str | Path, lasts: str | float | None, within: str | float | None, recipe_s: float | None
) -> CleanStart:
    from steelyard.pipeline.greener import CleanStart, lasting

    seconds = lasting(None if lasts is None else parse_budget(lasts), recipe_s)
    return CleanStart(
        forecast=Path(forecast), lasts_s=seconds, within_s=math.inf if within is None else parse_budget(within)
    )


def _checkpoint(words: str | float) -> tuple[int | None, float]:
    """Steps, or seconds, between checkpoints.

    >>> _checkpoint("100 steps"), _checkpoint("2m")
    ((100, 300.0), (None, 120.0))
    """
    number, _, unit = str(words).strip().partition(" ")
    if unit.strip() in ("step", "steps"):
        if not number.isdigit() or int(number) < 1:
            raise InvalidInput(f"checkpoint is a time such as 5m, or '100 steps'; got {words!r}")
        return int(number), 300.0
    return None, parse_budget(words)
