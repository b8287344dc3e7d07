"""What each training technique brings on one model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from steelyard.api.pages import ledger_page
from steelyard.api.words import parse_budget, run_folder, spec_of
from steelyard.errors import InvalidInput
from steelyard.measure.process import Limits
from steelyard.pipeline.job import Progress, silent
from steelyard.records import Ledger, LedgerEnd, LedgerRow, Scalar

__all__ = ["Ledgered", "ledger"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledgered:
    """A ledger that has ended: its folder, what was asked, and what was found."""

    folder: Path
    asked: Ledger
    end: LedgerEnd

    @property
    def rows(self) -> tuple[LedgerRow, ...]:
        """What each technique brings."""
        return self.end.rows

    @property
    def recipe(self) -> Path:
        """The recipe that is left, for ``steelyard train --recipe``."""
        return self.folder / "recipe.yaml"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    @property
    def passed(self) -> bool:
        """Whether any technique pays."""
        return self.end.chosen != "baseline"


def ledger(
    source: str | Path,
    techniques: Sequence[str],
    *changes: str,
    data: str | Path | None = None,
    recipe: str | Path = "warmup-cosine",
    seeds: int | Sequence[int] = 3,
    target: str | None = None,
    require: str = "accuracy drop <= 1%",
    pay: Literal["time", "memory", "energy"] = "time",
    budget: str | float = "5m",
    out: str | Path | None = None,
    weights: str | Path | None = None,
    seed: int = 0,
    limits: Limits | None = None,
    progress: Progress = silent,
    command: tuple[str, ...] = (),
    **options: Scalar,
) -> Ledgered:
    """Train with and without each technique over `seeds`, and say which pay; see ``steelyard ledger --help``.

    `changes` are of the baseline's recipe. ``seeds`` is how many, or which; ``budget`` is for steps that take turns. Running
    ``file.py`` runs that file's code. The same call on the same folder goes on where a stopped one stood.
    """
    from steelyard.pipeline.ledger.ledger import LedgerJob
    from steelyard.pipeline.ledger.ledger import ledger as run
    from steelyard.pipeline.ledger.techniques import Base
    from steelyard.verify.requirements import parse_requirement

    folder = run_folder(source, out, "-ledger")
    job = LedgerJob(
        spec=spec_of(source, data, weights, seed, options),
        base=Base(words=recipe, changes=changes),
        techniques=tuple(techniques),
        out=folder,
        requirement=parse_requirement(require),
        seeds=tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds),
        target=None if target is None else _target(target),
        pay=pay,
        turns_s=parse_budget(budget),
        limits=limits or Limits(seconds=3600),
        words=command,
    )
    found = run(job, progress)
    assert found.end is not None
    ledger_page(folder)
    return Ledgered(folder=folder, asked=found.ledger, end=found.end)


def _target(words: str) -> float:
    """An accuracy to be reached.

    >>> _target("accuracy >= 0.9"), _target("accuracy >= 90%")
    (0.9, 0.9)
    """
    from steelyard.verify.requirements import parse_requirement

    asked = parse_requirement(words)
    if (asked.quantity, asked.kind) != ("accuracy", "min"):
        raise InvalidInput(f"the target is an accuracy to be reached, such as 'accuracy >= 0.9'; got {words!r}")
    return asked.limit
