"""A child process that answers calls: its own process group, limits of time, memory and threads, and a death that is explained.

The parent names a class as ``module:Class``; the child builds one and answers its methods over a private pipe. What
the child or the user's code prints goes to a log, never into the pipe. When the parent dies, by whatever means, so do
its children.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
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
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36
_PASSES = 50  # over what a child started, until none is left: they may start others meanwhile
_SOME_THREADS, _EACH_CORE = 512, 32  # engines and compilers start a few for each core
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Limits(NamedTuple):
    """What a child may take: seconds per call, and bytes resident and threads over all its processes."""

    seconds: float = 600.0
    memory_bytes: int = 0  # 0: four fifths of the machine's memory
    threads: int = 0  # 0: `_SOME_THREADS`, and `_EACH_CORE` more for each core


class Child:
    """A running child. Use as a context manager; leaving it ends the whole process group."""

    def __init__(self, target: str, *, limits: Limits | None = None, log: Path | None = None) -> None:
        limits = limits or Limits()
        self._limits = limits._replace(
            memory_bytes=limits.memory_bytes or int(psutil.virtual_memory().total * 0.8),
            threads=limits.threads or _SOME_THREADS + _EACH_CORE * (os.cpu_count() or 1),
        )
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

    @property
    def settled(self) -> bool:
        """Whether `result` has something to say now: an answer, or a death."""
        return self._failure is not None or self._pipe.poll() or self._process.poll() is not None

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
        time-out, too much memory, too many threads, a full disk, an unexpected error.
        """
        limit = self._limits.seconds
        deadline = time.monotonic() + limit
        while not self._pipe.poll(min(_POLL_S, max(0.0, deadline - time.monotonic()))):
            if self._process.poll() is not None and not self._pipe.poll():
                raise self._died()
            if time.monotonic() >= deadline:
                raise self._ended("timeout", f"no answer within {limit:g} s, so it was stopped")
            self._check_taken()
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
        """End the child and everything it started, those that left its process group too."""
        self._pipe.close()
        self._signal(signal.SIGSTOP)  # nobody forks on while the others are looked for; orphans are the child's
        for _ in range(_PASSES):
            strays = [process for process in _family(self._process.pid)[1:] if _alive(process)]
            for stray in strays:
                with contextlib.suppress(psutil.Error):
                    stray.kill()
            if not strays:
                break
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)

    def _check_taken(self) -> None:
        resident, threads = _taken(self._process.pid)
        if resident > self._limits.memory_bytes:
            raise self._ended(
                "out-of-memory",
                f"it held {resident / 1e9:.1f} GB, the limit is {self._limits.memory_bytes / 1e9:.1f} GB, so it was stopped",
            )
        if threads > self._limits.threads:
            raise self._ended(
                "threads", f"it ran {threads:,} threads, the limit is {self._limits.threads:,}, so it was stopped"
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


def _family(pid: int) -> list[psutil.Process]:
    """A process and all it started; empty where it is gone."""
    try:
        parent = psutil.Process(pid)
        return [parent, *parent.children(recursive=True)]
    except psutil.Error:
        return []


def _alive(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _taken(pid: int) -> tuple[int, int]:
    """Bytes resident and threads of a process and all it started; those that end while being looked at count nothing."""
    resident = threads = 0
    for process in _family(pid):
        with contextlib.suppress(psutil.Error), process.oneshot():
            resident += process.memory_info().rss
            threads += process.num_threads()
    return resident, threads


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
        if isinstance(error, OSError) and error.errno in _FULL:
            return WorkerFailed("disk-full", f"the disk had no room for what it wrote ({error.strerror})")
        traceback.print_exc()
        sys.stderr.flush()
        text = " ".join(str(error).split())[:300]
        kind = "out-of-memory" if "not enough memory" in text or "bad_alloc" in text else "error"
        return WorkerFailed(kind, f"{type(error).__name__}: {text}")


def main() -> None:
    """Entry point of the child: ``python -m steelyard.measure.process FD MODULE:CLASS``."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # no orphans after `kill -9` on the parent
    prctl(_PR_SET_CHILD_SUBREAPER, 1)  # who loses its parent among those it started stays its own, to be found
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
