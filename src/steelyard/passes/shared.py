"""Artifacts shared between runs: what took long to build from a baseline and its data is not built again.

An artifact stands under a digest of all that it was made from: the baseline's files and contract, the user's code, the plan,
the data, the example inputs, the time that training might take, the processor's instructions and the versions of the engines. Whoever needs it
copies it, so that a run folder stays whole without the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from steelyard import __version__
from steelyard.probe.host import environment
from steelyard.records import Plan, encode
from steelyard.subject.artifact import Artifact

__all__ = ["Shared", "origin", "shared_folder"]

MOST_BYTES = 20e9  # of the shared folder; what was not needed for longest goes first
SLOW_S = 5.0  # what is quicker to build is not kept


def shared_folder() -> Path | None:
    """``$STEELYARD_CACHE``, or ``artifacts`` in ``$XDG_CACHE_HOME/steelyard`` (``~/.cache/steelyard``); None where it is ``off``."""
    named = os.environ.get("STEELYARD_CACHE", "")
    if named.lower() in ("off", "0", "no"):
        return None
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return Path(named) if named else (cache if cache.is_absolute() else Path.home() / ".cache") / "steelyard/artifacts"


def origin(baseline: Artifact, examples: Path, data: Path | None, limit_s: float | None) -> str:
    """A digest of all that every plan of a run starts from."""
    digest = hashlib.sha256(f"{__version__} {baseline.fingerprint()} {baseline.engine} {limit_s}".encode())
    digest.update(encode(baseline.contract).encode())
    host = environment()
    digest.update(f"{sorted(host.packages.items())} {host.instruction_sets}".encode())
    code = Path(baseline.spec.source.partition(":")[0]) if baseline.spec else None
    if code is not None and code.suffix == ".py" and code.is_file():
        digest.update(code.read_bytes())
    digest.update(f"{_contents([examples])} {'' if data is None else _of_data(data)}".encode())
    return digest.hexdigest()[:24]


def _of_data(folder: Path) -> str:
    """A digest of the splits, worked out once a run folder: they do not change."""
    kept = folder / "digest.txt"
    if not kept.exists():
        kept.write_text(_contents(p for p in sorted(folder.glob("*.npy")) if not p.name.startswith("teacher-")))
    return kept.read_text()


def _contents(files: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        digest.update(path.name.encode())
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class Shared:
    """The shared folder, as plans that start from one `origin` see it; without a folder there is nothing to find or keep."""

    folder: Path | None = None
    begun: str = ""

    def fetch(self, plan: Plan, target: Path) -> bool:
        """Copy the artifact of a plan to `target`, whole or not at all; False where it is not there."""
        kept = self._place(plan)
        if kept is None or not (kept / "manifest.json").exists():
            return False
        try:
            os.utime(kept)
            _copy(kept, target)
        except OSError:
            return False  # taken away meanwhile, or no room: it is built
        return True

    def keep(self, plan: Plan, source: Path, took_s: float) -> None:
        """Copy a slow artifact into the folder and make room; that this cannot be done is no failure of the run."""
        place = self._place(plan)
        if place is None or took_s < SLOW_S:
            return
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            _copy(source, place)
            _make_room(place.parent)

    def _place(self, plan: Plan) -> Path | None:
        name = hashlib.sha256(f"{self.begun} {encode(plan)}".encode()).hexdigest()[:24]
        return None if self.folder is None else self.folder / name


def _copy(source: Path, target: Path) -> None:
    part = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        shutil.copytree(source, part)
        shutil.rmtree(target, ignore_errors=True)
        part.rename(target)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _make_room(shared: Path) -> None:
    """Remove what was not needed for longest, until the rest is within `MOST_BYTES`."""
    folders = sorted((p for p in shared.iterdir() if p.is_dir()), key=lambda p: -p.stat().st_mtime)
    held = 0
    for folder in folders:
        held += sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())
        if held > MOST_BYTES:
            shutil.rmtree(folder, ignore_errors=True)
