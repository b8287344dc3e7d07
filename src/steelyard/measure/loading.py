"""Time to load and to first prediction, with the model's files in memory (warm) and not (cold).

Fresh processes load one after the other, cold and warm in turns. Before a cold one the pages of the model's files are dropped
from the page cache and it is looked up that they are gone. The engine's libraries stay warm in both: on a machine just booted
the first load takes longer still.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import WORKER
from steelyard.probe.pages import drop_pages, resident_share
from steelyard.records import Sample, Unavailable
from steelyard.subject.artifact import Artifact, model_files

__all__ = ["QUANTITIES", "LoadingSettings", "loading"]

Cache = Literal["cold", "warm"]
QUANTITIES = ("load_s", "first_prediction_s")

_COLD = 0.01  # of the files' pages may still be in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadingSettings:
    """How many processes of each kind at the most, and how long all may take (at least one pair is made)."""

    pairs: int = 3
    seconds: float = 5.0


def loading(
    artifact: Artifact,
    inputs: Path,
    settings: LoadingSettings,
    *,
    worker: str = WORKER,
    limits: Limits | None = None,
    log: Path | None = None,
    on_pair: Callable[[int], None] | None = None,
) -> tuple[Sample | Unavailable, ...]:
    """Readings of ``load_s`` and ``first_prediction_s`` under ``cache`` cold and warm, one of each process.

    No other process may hold the model mapped meanwhile. Raises `WorkerFailed` where a process dies.
    """
    files = model_files(artifact.folder)
    times: dict[Cache, list[tuple[float, float]]] = {"cold": [], "warm": []}
    refused: list[str] = []
    began = time.monotonic()

    def load_once(cache: Cache) -> None:
        if cache == "cold" and (why := _made_cold(files)):
            refused.append(why)
            return
        with Child(worker, limits=limits, log=log) as child:
            loaded = child.call("load", folder=str(artifact.folder), inputs=str(inputs))
            times[cache].append((loaded["load_s"], child.call("first")["first_prediction_s"]))

    for pair in range(settings.pairs):
        for cache in _order(pair):
            load_once(cache)
        if on_pair is not None:
            on_pair(pair + 1)
        spent = time.monotonic() - began
        if spent + spent / (pair + 1) > settings.seconds:
            break
    return tuple(_reading(q, i, cache, times[cache], refused) for cache in times for i, q in enumerate(QUANTITIES))


def _order(pair: int) -> tuple[Cache, Cache]:
    """Cold first, then warm first: either kind comes early as often as late."""
    return ("cold", "warm") if pair % 2 == 0 else ("warm", "cold")


def _made_cold(files: Sequence[Path]) -> str:
    """Drop the files' pages; why that did not work, or nothing."""
    try:
        drop_pages(files)
    except OSError as error:
        return f"the model's files cannot be dropped from memory: {error.strerror}"
    share = resident_share(files)
    if isinstance(share, Unavailable):
        return share.reason
    kept = f"this file system keeps {100 * share:.0f} % of the model's files in memory though asked to drop them"
    return kept if share > _COLD else ""


def _reading(
    quantity: str, column: int, cache: Cache, times: Sequence[tuple[float, float]], refused: Sequence[str]
) -> Sample | Unavailable:
    if not times:
        reason = refused[0] if refused else "no process was started"
        return Unavailable(quantity=quantity, reason=reason, conditions={"cache": cache})
    files = "dropped from memory before" if cache == "cold" else "in memory"
    return Sample(
        quantity=quantity,
        unit="s",
        values=np.array([row[column] for row in times]),
        conditions={"cache": cache},
        note=f"fresh processes; the model's files {files}, the engine's libraries in memory",
    )
