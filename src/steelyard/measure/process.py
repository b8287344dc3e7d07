"""A child process that answers calls: its own process group, a time limit, a memory limit, and a death that is explained.

The parent names a class as ``module:Class``; the child builds one and answers its methods over a private pipe. What
the child or the user's code prints goes to a log, never into the pipe. When the parent dies, by whatever means, so do
its children.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from importlib import import_module
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import psutil

from steelyard.errors import SteelyardError, WorkerFailed
from steelyard.privacy import decline_telemetry

__all__ = ["Child", "Limits"]

_POLL_S = 0.2  # how often limits are looked at while waiting for an answer
_LAST_S = 2.0  # for a child that closed its pipe to end by itself
_PR_SET_PDEATHSIG = 1


class Limits(NamedTuple):
    """What a child may take: seconds per call, and bytes resident over all its processes."""

    seconds: float = 600.0
    memory_bytes: int = 0  # 0: four fifths of the machine's memory


class Child:
    """A running child. Use as a context manager; leaving it ends the whole process group."""

    def __init__(self, target: str, *, limits: Limits | None = None, log: Path | None = None) -> None:
        limits = limits or Limits()
        self._limits = limits._replace(memory_bytes=limits.memory_bytes or int(psutil.virtual_memory().total * 0.8))
        self._log = log
        self._failure: WorkerFailed | None = None
        ours, theirs = socket.socketpair()
        command = [sys.executable, "-m", "steelyard.measure.process", str(theirs.fileno()), target]
        with (log or Path(os.devnull)).open("ab") as errors:
            self._log_from = errors.tell()  # what others wrote before are not its words
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=errors,
                stderr=errors,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        theirs.close()
        self._pipe = Connection(ours.detach())

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether it can still be called."""
        return self._failure is None and self._process.poll() is None

    def start(self, method: str, /, **arguments: Any) -> None:
        """Send a call without waiting, so that several children can work up at the same time."""
        if self._failure is not None:
            raise self._failure
        try:
            self._pipe.send((method, arguments))
        except (BrokenPipeError, ConnectionResetError):
            raise self._died() from None

    def result(self) -> Any:
        """The answer to the call in flight.

        Raises what the child raised if it is a `SteelyardError`, and `WorkerFailed` for anything else: a crash, a
        time-out, too much memory, an unexpected error.
        """
        limit = self._limits.seconds
        deadline = time.monotonic() + limit
        while not self._pipe.poll(min(_POLL_S, max(0.0, deadline - time.monotonic()))):
            if self._process.poll() is not None and not self._pipe.poll():
                raise self._died()
            if time.monotonic() >= deadline:
                raise self._ended("timeout", f"no answer within {limit:g} s, so it was stopped")
            self._check_memory()
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionResetError):
            raise self._died() from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def call(self, method: str, /, **arguments: Any) -> Any:
        """`start` and `result` in one."""
        self.start(method, **arguments)
        return self.result()

    def close(self) -> None:
        """End the child and everything it started."""
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()

    def _check_memory(self) -> None:
        resident = _resident_bytes(self._process.pid)
        if resident > self._limits.memory_bytes:
            raise self._ended(
                "out-of-memory",
                f"it held {resident / 1e9:.1f} GB, the limit is {self._limits.memory_bytes / 1e9:.1f} GB, so it was stopped",
            )

    def _died(self) -> WorkerFailed:
        try:
            code = self._process.wait(_LAST_S)
        except subprocess.TimeoutExpired:
            return self._ended("crash", f"the process closed its pipe and lived on{self._last_words()}")
        if code == -signal.SIGKILL:
            return self._ended("out-of-memory", "it was killed from outside (SIGKILL), most likely for want of memory")
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"
        return self._ended("crash", f"the process ended with {how}{self._last_words()}")

    def _ended(self, kind: str, reason: str) -> WorkerFailed:
        """End what is left, and remember why, for calls that may still come."""
        self.close()
        self._failure = WorkerFailed(kind, reason)
        return self._failure

    def _last_words(self) -> str:
        try:
            written = self._log.read_bytes()[self._log_from :] if self._log else b""
        except OSError:
            return ""
        lines = written.decode(errors="replace").splitlines()
        last = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f"; its last words: {last[:200]}" if last else ""


def _resident_bytes(pid: int) -> int:
    """Of a process and all it started; those that end while being looked at count nothing."""
    total = 0
    with contextlib.suppress(psutil.Error):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.Error):
                total += process.memory_info().rss
    return total


def _serve(pipe: Connection, target: str) -> None:
    module, _, name = target.partition(":")
    worker = getattr(import_module(module), name)()
    while True:
        try:
            method, arguments = pipe.recv()
        except EOFError:
            return
        pipe.send(_answer(worker, method, arguments))


def _answer(worker: Any, method: str, arguments: dict[str, Any]) -> Any:
    try:
        return getattr(worker, method)(**arguments)
    except SteelyardError as error:
        return error
    except MemoryError:
        return WorkerFailed("out-of-memory", "an allocation failed for want of memory")
    except Exception as error:
        traceback.print_exc()
        sys.stderr.flush()
        text = " ".join(str(error).split())[:300]
        kind = "out-of-memory" if "not enough memory" in text or "bad_alloc" in text else "error"
        return WorkerFailed(kind, f"{type(error).__name__}: {text}")


def main() -> None:
    """Entry point of the child: ``python -m steelyard.measure.process FD MODULE:CLASS``."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphans after `kill -9` on the parent
    _first_to_go()
    decline_telemetry()
    _serve(Connection(int(sys.argv[1])), sys.argv[2])
    os._exit(0)  # engines' thread pools may hang an orderly exit; nothing is left to save


def _first_to_go() -> None:
    """If the machine runs out of memory, the kernel should take the candidate, not the run."""
    try:
        Path("/proc/self/oom_score_adj").write_text("1000")
    except OSError:
        return


if __name__ == "__main__":
    main()
