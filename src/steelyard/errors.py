"""Everything a user can meet when something goes wrong, on one screen.

::

    SteelyardError
    ├── InvalidInput            bad words or bad files: exit status 2
    │   ├── MissingExtra        an optional part is not installed; names the command that adds it
    │   ├── UnsafeFile          a file that could run code when opened
    │   ├── SchemaTooNew        a folder written by a newer Steelyard
    │   └── RunFolderBusy       another run is writing to this folder
    ├── StorageFull             the disk is full; what was written before is safe
    ├── CannotApply             a technique does not fit this model; becomes a refused trial
    └── WorkerFailed            a child process crashed, hung or ran out of memory
"""

from __future__ import annotations

__all__ = [
    "CannotApply",
    "InvalidInput",
    "MissingExtra",
    "RunFolderBusy",
    "SchemaTooNew",
    "SteelyardError",
    "StorageFull",
    "UnsafeFile",
    "WorkerFailed",
]


class SteelyardError(Exception):
    """Base of all errors that Steelyard raises on purpose; its text is one line fit for a user."""

    exit_status = 2

    def __str__(self) -> str:
        """One line, whatever stood in the file, name or path that it tells of."""
        return " ".join(super().__str__().split())

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle whole, whatever the constructor takes: children send their errors to the parent."""
        return _rebuilt, (type(self), self.args, self.__dict__)


def _rebuilt(kind: type[SteelyardError], args: tuple[object, ...], state: dict[str, object]) -> SteelyardError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    return error


class InvalidInput(SteelyardError):
    """What was wrong, the value, and the cure."""


class MissingExtra(InvalidInput):
    """An optional dependency is absent.

    >>> str(MissingExtra("openvino", needed_for="reading OpenVINO IR"))
    "reading OpenVINO IR needs the 'openvino' extra: pip install 'steelyard[openvino]'"
    """

    def __init__(self, extra: str, *, needed_for: str) -> None:
        super().__init__(f"{needed_for} needs the '{extra}' extra: pip install 'steelyard[{extra}]'")
        self.extra = extra


class UnsafeFile(InvalidInput):
    """Opening this file could execute code; the message names the safe way."""


class SchemaTooNew(InvalidInput):
    """The records were written by a newer schema than this version reads."""


class RunFolderBusy(InvalidInput):
    """Two runs must not write to one folder."""


class StorageFull(SteelyardError):
    """No space left; every record before this one is intact and the run can resume."""


class CannotApply(SteelyardError):
    """A technique does not fit this model or machine; the text says why."""


class WorkerFailed(SteelyardError):
    """A child process ended without an answer.

    ``kind`` is ``"crash"``, ``"timeout"``, ``"out-of-memory"``, ``"threads"``, ``"disk-full"`` or ``"error"``.
    """

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind
