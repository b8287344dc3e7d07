"""How good predictions are."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from steelyard.api.results import Evaluated
from steelyard.api.words import refuse_unknown, run_folder
from steelyard.pipeline.job import Progress, silent

__all__ = ["evaluate"]


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
    folder = run_folder(source, out, "-evaluate")
    refuse_unknown(words, "evaluate", Request)
    request = Request(source=str(source), out=folder, compare=tuple(map(str, others)), **words)
    return Evaluated(folder=folder, evaluation=run(request, progress))
