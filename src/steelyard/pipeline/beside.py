"""Several run folders side by side on one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from steelyard.errors import InvalidInput
from steelyard.pipeline.render import quality_estimates
from steelyard.records import Run
from steelyard.report.beside import Weighed, weighed
from steelyard.store import kind_of, read_records

__all__ = ["read_beside", "unique_names"]


def read_beside(folders: Sequence[Path], *, allow_unlike_machines: bool = False) -> tuple[Weighed, ...]:
    """The model of each run, by the shortest names that differ.

    Raises `InvalidInput` for fewer than two folders, one that holds no run of a model, and unlike machines unless allowed.
    """
    if len({f.resolve() for f in folders}) < max(2, len(folders)):
        raise InvalidInput(f"give two or more run folders that differ; got {', '.join(map(str, folders)) or 'none'}")
    models = tuple(_read(folder, name) for folder, name in zip(folders, unique_names(folders), strict=True))
    if not allow_unlike_machines:
        _check_machines(folders, models)
    return models


def _read(folder: Path, name: str) -> Weighed:
    if kind_of(folder) not in (Run, None):
        raise InvalidInput(f"{folder} holds no run of a model: give folders of benchmark, profile, optimize or verify")
    records = read_records(folder)
    found = weighed(name, records, quality_estimates(records))
    if found is None:
        raise InvalidInput(f"{folder} has not measured anything yet: let its command end first")
    return found


def _check_machines(folders: Sequence[Path], models: Sequence[Weighed]) -> None:
    first = models[0].records.run.environment
    for folder, model in zip(folders, models, strict=True):
        host = model.records.run.environment
        if host.machine != first.machine:
            raise InvalidInput(
                f"{folders[0]} and {folder} were measured on unlike machines ({first.cpu}, {first.cores} cores; {host.cpu}, "
                f"{host.cores} cores): measure both on one, or add --allow-unlike-machines"
            )


def unique_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """The last parts of each path, as many as tell all of them apart.

    >>> unique_names([Path("runs/a"), Path("runs/b")]), unique_names([Path("x/run"), Path("y/run")])
    (('a', 'b'), ('x/run', 'y/run'))
    """
    parts = [folder.resolve().parts for folder in folders]
    for length in range(1, max(map(len, parts)) + 1):
        names = tuple("/".join(p[-length:]) for p in parts)
        if len(set(names)) == len(names):
            return names
    return tuple(map(str, folders))
