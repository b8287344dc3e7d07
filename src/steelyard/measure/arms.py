"""What can take turns besides models: Python functions of no arguments, and commands. Workers run in a child.

Little is imported here, so that a fresh process begins at once.
"""

from __future__ import annotations

import importlib.util
import inspect
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.measure.calls import time_calls
from steelyard.probe.memory import peak_rss_bytes
from steelyard.records import Unavailable

__all__ = ["CALLABLE", "COMMAND", "WORKER", "Arm", "CallableWorker", "CommandWorker", "load_callable", "where"]

WORKER = "steelyard.measure.worker:Worker"
CALLABLE = "steelyard.measure.arms:CallableWorker"
COMMAND = "steelyard.measure.arms:CommandWorker"

Floats = NDArray[np.float64]

_READING_S = 2e-4  # one reading lasts at least so long, or reading the clock (0.2 us) would be part of it


@dataclass(frozen=True, slots=True, kw_only=True)
class Arm:
    """Something that takes turns: the class that runs it in a child, and what that is told to load."""

    worker: str = WORKER
    load: Mapping[str, Any] = field(default_factory=dict)


# --- functions -----------------------------------------------------------------------------------------


class CallableWorker:
    """Runs one function of no arguments, found by its file and qualified name."""

    def __init__(self) -> None:
        self._call: Callable[[], object]
        self._number = 1

    def load(self, file: str, name: str) -> None:
        """Run the file and find the function."""
        self._call = load_callable(Path(file), name)

    def first(self) -> dict[str, Any]:
        """The first call: how long it took, and what it gave, in words."""
        started = time.perf_counter()
        given = self._call()
        return {"first_prediction_s": time.perf_counter() - started, **_described(given)}

    def warm(self, seconds: float, **_: Any) -> Floats:
        """Times of every call from cold; then a reading becomes as many calls as last long enough for the clock."""
        times = time_calls(self._once, None, seconds)
        self._number = max(1, math.ceil(_READING_S / max(float(np.median(times[len(times) // 2 :])), 1e-9)))
        return times

    def slot(self, seconds: float, **_: Any) -> Floats:
        """Seconds of one call, by readings of one call or of many; after one untimed call."""
        self._call()
        if self._number == 1:
            return time_calls(self._once, None, seconds)
        return time_calls(self._many, None, seconds) / self._number

    def peak(self) -> int | Unavailable:
        """Peak resident bytes of the process."""
        return peak_rss_bytes()

    def _once(self, _: object) -> None:
        self._call()

    def _many(self, _: object) -> None:
        call = self._call
        for _again in repeat(None, self._number):
            call()


def load_callable(file: Path, name: str) -> Callable[[], object]:
    """The function `name` (``f``, ``Class.method``) of a Python file, which is run.

    Raises `InvalidInput` where there is no such file or function, or it needs arguments.
    """
    if not file.is_file():
        raise InvalidInput(f"no such file: {file}")
    module_name = f"steelyard_user_{file.stem}"
    spec = importlib.util.spec_from_file_location(module_name, file)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"cannot import {file}: give a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    sys.path.insert(0, str(file.resolve().parent))
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        raise InvalidInput(f"{file} cannot be run: {_line(error)}") from error
    return _found(module, file, name)


def _found(module: object, file: Path, name: str) -> Callable[[], object]:
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        known = [n for n, v in vars(module).items() if inspect.isfunction(v) and v.__module__ == module.__name__]  # type: ignore[attr-defined]
        raise InvalidInput(f"{file} has no function {name!r}; it has {', '.join(known) or 'none'}")
    needed = _needed(found)
    if needed:
        raise InvalidInput(
            f"{file}:{name} needs {', '.join(needed)}: compare functions of no arguments (wrap the call)"
        )
    return found  # type: ignore[no-any-return]


def _needed(function: Any) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # built in
        return []
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is inspect.Parameter.empty and p.kind not in free]


def where(function: Callable[[], object]) -> tuple[Path, str]:
    """The file and qualified name by which a fresh process finds a function again.

    Raises `InvalidInput` for what it could not: a lambda, a function within a function, one typed at a prompt.
    """
    name = getattr(function, "__qualname__", "")
    cure = "define it at the top level of a .py file, so that a fresh process finds it by file and name"
    if not name or "<lambda>" in name or "<locals>" in name:
        raise InvalidInput(f"cannot compare {name or type(function).__name__}: {cure}")
    try:
        file = inspect.getsourcefile(inspect.unwrap(function))
    except TypeError:
        file = None
    if file is None or not Path(file).is_file():
        raise InvalidInput(f"cannot compare {name}: it has no file of its own; {cure}")
    return Path(file).resolve(), name


def _described(given: object) -> dict[str, Any]:
    """Kind and shape of a result, and whether its numbers are finite; other things are known by their type alone."""
    if isinstance(given, bool | int | float | complex | np.ndarray | np.generic):
        array = np.asarray(given)
        finite = not np.issubdtype(array.dtype, np.inexact) or bool(np.isfinite(array).all())
        return {
            "given": f"{type(given).__name__} of shape {array.shape}" if array.shape else "a number",
            "finite": finite,
        }
    shape = getattr(given, "shape", None)
    kind = type(given).__name__
    return {"given": kind if shape is None else f"{kind} of shape {tuple(shape)}", "finite": True}


# --- commands ------------------------------------------------------------------------------------------


class CommandWorker:
    """Runs one command again and again; a reading is one run, from start to exit."""

    def __init__(self) -> None:
        self._words: Sequence[str] = ()
        self._cpu_s: list[float] = []
        self._peaks: list[int] = []

    def load(self, words: Sequence[str]) -> None:
        """The command's words, as the kernel will take them."""
        self._words = list(words)

    def first(self) -> dict[str, Any]:
        """One run that counts for nothing: it brings the command's files into memory, and shows whether it runs at all."""
        seconds = self._run()
        self._cpu_s.clear()
        self._peaks.clear()
        return {"first_prediction_s": seconds, "given": "an exit", "finite": True}

    def warm(self, **_: Any) -> Floats:
        """Every run is cold, as commands are."""
        return np.empty(0)

    def slot(self, **_: Any) -> Floats:
        """Wall seconds of one run."""
        return np.array([self._run()])

    def cpu(self) -> list[float]:
        """Processor seconds, user and system, of each run with all that it waited for."""
        return self._cpu_s

    def peak(self) -> int | Unavailable:
        """The largest resident bytes of any run."""
        return max(self._peaks) if self._peaks else Unavailable(quantity="peak_rss_bytes", reason="nothing ran")

    def _run(self) -> float:
        """Raises `WorkerFailed` with its last words where the command fails.

        What it forks and leaves behind stays in the worker's process group, and ends with it.
        """
        with tempfile.TemporaryFile() as errors:
            started = time.perf_counter()
            try:
                process = subprocess.Popen(
                    self._words, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors
                )
            except OSError as error:
                raise InvalidInput(f"cannot run {self._words[0]}: {error.strerror}; give a program's path") from None
            _, status, used = os.wait4(process.pid, 0)
            seconds = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                raise WorkerFailed("crash", f"it ended with {_ending(process.returncode)}{_last_words(errors)}")
        self._cpu_s.append(used.ru_utime + used.ru_stime)
        self._peaks.append(used.ru_maxrss * 1024)
        return seconds


def _last_words(errors: IO[bytes]) -> str:
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 4096))
    lines = errors.read().decode(errors="replace").splitlines()
    last = next((line.strip() for line in reversed(lines) if line.strip()), "")
    return f"; its last words: {last[:200]}" if last else ""


def _ending(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
