"""The only writer of run folders: one JSON line per record, appended and synced at once.

A record is on disk before the next step begins, so a killed run loses at most the candidate in flight. A torn last
line, the mark of a kill or a full disk, is cut off when the folder is opened again.
"""

from __future__ import annotations

import dataclasses
import errno
import fcntl
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from steelyard.errors import InvalidInput, RunFolderBusy, StorageFull
from steelyard.records import (
    Compared,
    Comparison,
    ControlReading,
    EnergyCalibration,
    Evaluation,
    Finding,
    GateReport,
    Ledger,
    LedgerCell,
    LedgerEnd,
    LedgerTurns,
    Measurement,
    Outcome,
    Plan,
    Profiled,
    RateSearch,
    Run,
    RunRecords,
    SavedBaseline,
    Suite,
    SuiteCell,
    TrainingRun,
    Trial,
    Verification,
    Watched,
    decode,
    encode,
)

__all__ = [
    "LedgerRecords",
    "RunFolder",
    "append_control",
    "check_idle",
    "holds_evaluations",
    "holds_gates",
    "kind_of",
    "read_baseline",
    "read_calibration",
    "read_compared",
    "read_controls",
    "read_evaluations",
    "read_gates",
    "read_ledger",
    "read_records",
    "read_suite",
    "read_training",
    "read_watched",
    "state_folder",
    "write_baseline",
    "write_calibration",
]

RECORDS = "records.jsonl"


class RunFolder:
    """A run folder held for writing. Use as a context manager; a second writer gets `RunFolderBusy`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._lock: TextIO = (path / ".lock").open("w")
        except OSError as error:
            raise _cannot_write(path, error) from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise RunFolderBusy(f"another run is writing to {path}: wait for it, or give another --out") from None
        _cut_torn_line(path / RECORDS)

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.close()
        if error is not None and self._made:
            self._remove_if_empty()

    def _remove_if_empty(self) -> None:
        """Leave no folder behind for words that were refused before anything was written."""
        if [p.name for p in self.path.iterdir()] == [".lock"]:
            (self.path / ".lock").unlink()
            self.path.rmdir()

    def append(self, *records: object) -> None:
        """Write records, in one go, and wait until they are on disk. Raises `StorageFull`, leaving earlier records whole."""
        if records:
            _append(self.path / RECORDS, *records)

    def records(self) -> RunRecords | None:
        """What the folder holds so far, or None for a fresh one."""
        path = self.path / RECORDS
        return read_records(self.path) if path.exists() and path.stat().st_size else None

    def evaluations(self) -> tuple[Evaluation, ...]:
        """The evaluations that the folder holds, in the order they were made; raises `InvalidInput` for another kind of run."""
        path = self.path / RECORDS
        return read_evaluations(self.path) if path.exists() and path.stat().st_size else ()

    def trainings(self) -> tuple[TrainingRun | RateSearch, ...]:
        """The trainings that the folder holds and their rates' searches, in order; raises `InvalidInput` for another kind of run."""
        path = self.path / RECORDS
        return _trainings(self.path) if path.exists() and path.stat().st_size else ()

    def ledger(self) -> LedgerRecords:
        """What the folder's ledger holds so far; raises `InvalidInput` where it holds none."""
        return read_ledger(self.path)

    def compared(self) -> tuple[Compared, tuple[Comparison, ...]] | None:
        """The words of the comparison that the folder holds and its rounds, or None for a fresh one."""
        path = self.path / RECORDS
        return _compared(self.path) if path.exists() and path.stat().st_size else None

    def clear(self) -> None:
        """Remove what a run wrote, and nothing else that stands in the folder."""
        for name in (RECORDS, "report.html", "gate.html", "workers.log", "trace.json"):
            (self.path / name).unlink(missing_ok=True)
        for name in ("baseline", "data", "artifacts", "best", "figures", "loadgen"):
            shutil.rmtree(self.path / name, ignore_errors=True)


def read_records(folder: Path) -> RunRecords:
    """A run folder's records, grouped. A later record of a kind replaces an earlier one, as does a plan's later trial.

    Raises `InvalidInput` naming the line for a damaged file, `SchemaTooNew` for one from a newer version.
    """
    path = folder / RECORDS
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no run (no {RECORDS}): give the folder that --out named")
    single: dict[type, Any] = {}
    findings: tuple[Finding, ...] = ()
    trials: dict[Plan, Trial] = {}
    uses = 0
    for record in _lines(path):
        uses += isinstance(record, Verification)
        if isinstance(record, Trial):
            trials[record.plan] = record
        elif isinstance(record, tuple):
            findings = record
        else:
            if isinstance(record, Run):  # a run that goes on with a longer budget has not ended yet
                single.pop(Verification, None)
                single.pop(Outcome, None)
            single[type(record)] = record
    run = single.get(Run)
    if run is None:
        raise InvalidInput(f"{path} does not begin with a run: it is not a Steelyard run folder")
    return RunRecords(
        run=run,
        baseline=single.get(Measurement),
        findings=findings,
        trials=tuple(trials.values()),
        verification=single.get(Verification),
        outcome=single.get(Outcome),
        test_uses=uses,
        profiled=single.get(Profiled),
    )


def read_evaluations(folder: Path) -> tuple[Evaluation, ...]:
    """The evaluations recorded in a folder, in order.

    Raises `InvalidInput` where there are none, or the folder holds another kind of run.
    """
    path = folder / RECORDS
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no run (no {RECORDS}): give the folder that --out named")
    found = tuple(_lines(path))
    other = next((record for record in found if not isinstance(record, Evaluation)), None)
    if other is not None:
        kind = other.command if isinstance(other, Run) else "another kind"
        raise InvalidInput(f"{folder} holds a run of {kind}: give another --out, or remove the folder")
    return found


def read_training(folder: Path) -> TrainingRun:
    """The last training recorded in a folder. Raises `InvalidInput` where there is none, or the folder holds another kind of run."""
    runs = [record for record in _trainings(folder) if isinstance(record, TrainingRun)]
    if not runs:
        raise InvalidInput(f"{folder} holds no training that ended: run the same `steelyard train` again to go on")
    return runs[-1]


def read_watched(folder: Path) -> Watched:
    """What was watched of a user's own training. Raises `InvalidInput` where the folder holds none."""
    path = folder / RECORDS
    found = [record for record in _lines(path) if isinstance(record, Watched)] if path.is_file() else []
    if not found:
        raise InvalidInput(
            f"{folder} holds no watched training: give the folder that steelyard.training(out=...) named"
        )
    return found[-1]


def _trainings(folder: Path) -> tuple[TrainingRun | RateSearch, ...]:
    path = folder / RECORDS
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no run (no {RECORDS}): give the folder that --out named")
    found = tuple(record for record in _lines(path) if not isinstance(record, tuple))  # findings stand beside a run
    other = next((record for record in found if not isinstance(record, TrainingRun | RateSearch)), None)
    if other is not None:
        kind = other.command if isinstance(other, Run) else "another kind"
        raise InvalidInput(f"{folder} holds a run of {kind}: give another --out, or remove the folder")
    return found


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LedgerRecords:
    """A training ledger's folder, grouped. A technique's later cell of a seed replaces an earlier one."""

    ledger: Ledger
    cells: tuple[LedgerCell, ...]
    turns: tuple[LedgerTurns, ...]
    end: LedgerEnd | None


def read_ledger(folder: Path) -> LedgerRecords:
    """The training ledger recorded in a folder. Raises `InvalidInput` where there is none, or another kind of run."""
    path = folder / RECORDS
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no run (no {RECORDS}): give the folder that --out named")
    first, *further = _lines(path)
    if not isinstance(first, Ledger):
        kind = first.command if isinstance(first, Run) else "another kind"
        raise InvalidInput(f"{folder} holds a run of {kind}: give another --out, or remove the folder")
    return LedgerRecords(
        ledger=first,
        cells=tuple({(c.technique, c.seed): c for c in further if isinstance(c, LedgerCell)}.values()),
        turns=tuple(r for r in further if isinstance(r, LedgerTurns)),
        end=next((r for r in reversed(further) if isinstance(r, LedgerEnd)), None),
    )


def holds_evaluations(folder: Path) -> bool:
    """Whether the folder's records begin with an evaluation."""
    return kind_of(folder) is Evaluation


def kind_of(folder: Path) -> type | None:
    """The type of the first record, which tells what kind of run a folder holds; None where it holds none.

    `Run` for optimize, benchmark and verify (``run.command`` says which), `Evaluation`, `Compared` and so on.
    """
    path = folder / RECORDS
    first = next(_lines(path), None) if path.is_file() else None
    return None if first is None else type(first)


def read_compared(folder: Path) -> Compared:
    """The comparison recorded in a folder, with all its rounds as one; ``comparison`` is None where none was played.

    Raises `InvalidInput` where there is none, or the folder holds another kind of run.
    """
    head, rounds = _compared(folder)
    return dataclasses.replace(head, comparison=reduce(Comparison.with_more, rounds) if rounds else None)


def _compared(folder: Path) -> tuple[Compared, tuple[Comparison, ...]]:
    path = folder / RECORDS
    if not path.is_file():
        raise InvalidInput(f"{folder} holds no run (no {RECORDS}): give the folder that --out named")
    found = tuple(_lines(path))
    heads = [record for record in found if isinstance(record, Compared)]
    if not heads or not all(isinstance(record, Compared | Comparison) for record in found):
        kind = next((r.command for r in found if isinstance(r, Run)), "another kind")
        raise InvalidInput(f"{folder} holds a run of {kind}: give another --out, or remove the folder")
    return heads[-1], tuple(record for record in found if isinstance(record, Comparison))


def read_gates(folder: Path) -> tuple[GateReport, ...]:
    """The reports of gates that a folder holds, in order; a run's folder may hold some too. Raises `InvalidInput` for none.

    One that was stopped between its stages stands there only until another follows.
    """
    path = folder / RECORDS
    known = tuple(r for r in _lines(path) if isinstance(r, GateReport)) if path.is_file() else ()
    found = (*(r for r in known[:-1] if not r.open), *known[-1:])
    if not found:
        raise InvalidInput(f"{folder} holds no gate's report: give the folder that `steelyard gate --out` named")
    return found


def holds_gates(folder: Path) -> bool:
    """Whether any gate's report stands in a folder."""
    path = folder / RECORDS
    return path.is_file() and any(isinstance(record, GateReport) for record in _lines(path))


def check_idle(folder: Path) -> None:
    """Raise `RunFolderBusy` where a run is still writing to the folder: what it holds is not yet what it will say."""
    lock = folder / ".lock"
    if not lock.is_file():
        return
    try:
        with lock.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except PermissionError:
        return  # not ours, so no run of ours
    except OSError:
        raise RunFolderBusy(f"a run is still writing to {folder}: wait for it") from None


def write_baseline(path: Path, saved: SavedBaseline) -> None:
    """Write a baseline file whole or not at all. A file there that is no baseline is refused, not overwritten."""
    if path.exists():
        read_baseline(path)
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(encode(saved) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise _cannot_write(path, error) from None


def read_baseline(path: Path) -> SavedBaseline:
    """A baseline file. Raises `InvalidInput` for a damaged one or another file, `SchemaTooNew` for one of a newer version."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidInput(f"cannot read {path}: {reason}") from None
    try:
        found = decode(text)
    except InvalidInput as error:
        raise type(error)(f"{path}: {error}") from None
    if not isinstance(found, SavedBaseline):
        raise InvalidInput(f"{path} is no baseline file: write one with `steelyard gate RUN --save {path.name}`")
    return found


def read_suite(folder: Path) -> tuple[Suite, tuple[SuiteCell, ...]]:
    """A suite's folder: what was asked, and the cells read so far. A cell that was read again replaces the one before."""
    path = folder / RECORDS
    if not path.is_file():
        raise InvalidInput(
            f"{folder} holds no suite (no {RECORDS}): give the folder that `steelyard suite run --out` named"
        )
    first, *rest = tuple(_lines(path)) or (None,)
    if not isinstance(first, Suite):
        raise InvalidInput(
            f"{path} does not begin with a suite: give the folder that `steelyard suite run --out` named"
        )
    cells = {record.key: record for record in rest if isinstance(record, SuiteCell)}
    return first, tuple(cells[key] for key in first.cells if key in cells)


def state_folder() -> Path:
    """Where Steelyard keeps what it learns of a machine: ``$XDG_STATE_HOME/steelyard``, or ``~/.local/state/steelyard``."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))  # by the XDG specification a relative one is ignored
    return (named if named.is_absolute() else Path.home() / ".local/state") / "steelyard"


def write_calibration(calibration: EnergyCalibration) -> Path:
    """Keep a machine's energy calibration, whole or not at all, in place of the one before; where it lies."""
    path = _calibration_path(calibration.machine)
    part = path.with_suffix(".part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(encode(calibration) + "\n", encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    return path


def read_calibration(machine: str) -> EnergyCalibration | None:
    """The energy calibration of the machine with this fingerprint; None where there is none that can be read."""
    try:
        found = decode(_calibration_path(machine).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, InvalidInput):
        return None  # it only refines a model: a damaged one must not stop a run
    return found if isinstance(found, EnergyCalibration) and found.machine == machine else None


def append_control(reading: ControlReading) -> Path:
    """Add what an A/A control found to its machine's history, in the user's state folder; the path written."""
    path = _controls_path(reading.machine)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _cannot_write(path, error) from None
    _append(path, reading)
    return path


def read_controls(machine: str) -> tuple[ControlReading, ...]:
    """What A/A controls found on the machine with this fingerprint, in the order of time; a damaged history counts as none."""
    path = _controls_path(machine)
    if not path.is_file():
        return ()
    try:
        return tuple(record for record in _lines(path) if isinstance(record, ControlReading))
    except InvalidInput:
        return ()


def _controls_path(machine: str) -> Path:
    return state_folder() / "controls" / f"{machine}.jsonl"


def _calibration_path(machine: str) -> Path:
    return state_folder() / "energy" / f"{machine}.json"


def _lines(path: Path) -> Iterator[Any]:
    try:
        file = path.open(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    with file:
        for number, line in enumerate(file, 1):
            if not line.endswith("\n"):
                return  # torn by a kill; everything before it counts
            try:
                yield decode(line)
            except InvalidInput as error:
                raise type(error)(f"{path}, line {number}: {error}") from None


def _append(path: Path, *records: object) -> None:
    """Write records and wait until they are on disk. Raises `StorageFull`, leaving earlier records whole."""
    lines = "".join(encode(record) + "\n" for record in records).encode()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    except OSError as error:
        raise _cannot_write(path, error) from None
    try:
        size = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, lines)
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, size)
            raise _cannot_write(path, error) from None
    finally:
        os.close(descriptor)


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    content = path.read_bytes()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        os.truncate(path, whole)


def _write_all(descriptor: int, content: bytes) -> None:
    while content:
        content = content[os.write(descriptor, content) :]


def _cannot_write(path: Path, error: OSError) -> InvalidInput | StorageFull:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageFull(
            f"no space left to write {path}; what was recorded before is safe: free some space and run the same command again to go on"
        )
    return InvalidInput(f"cannot write to {path}: {error.strerror}")
