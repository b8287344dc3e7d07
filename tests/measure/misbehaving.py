"""A worker with every bad habit, for the tests of `steelyard.measure.process`. Runs in a child only."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

from steelyard.errors import CannotApply, InvalidInput, MissingExtra, WorkerFailed


class Misbehaving:
    def add(self, one: int, other: int) -> int:
        return one + other

    def big(self, size: int) -> bytes:
        return bytes(size)

    def length(self, content: bytes) -> int:
        return len(content)

    def prints(self) -> str:
        sys.stdout.write("on stdout\n")
        sys.stderr.write("on stderr\n")
        os.write(1, b"straight to descriptor 1\n")
        subprocess.run(["/bin/sh", "-c", "echo from a grandchild"], check=True)
        sys.stdout.flush()
        return "answer"

    def crashes(self) -> None:
        sys.stderr.write("about to touch address 0\n")
        sys.stderr.flush()
        os.kill(os.getpid(), signal.SIGSEGV)

    def leaves(self) -> None:
        sys.exit("had enough")

    def leaves_silently(self) -> None:
        os._exit(4)

    def goes_silent(self) -> None:
        """Closes its pipe and lives on."""
        os.closerange(3, 256)
        time.sleep(120)

    def is_killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def hangs(self) -> None:
        time.sleep(120)

    def hangs_in_c(self) -> None:
        """Holds the interpreter's lock, so that no Python signal handler can run."""
        ctypes.PyDLL(None).sleep(120)

    def fills(self, size: int) -> None:
        held = bytearray(size)
        for at in range(0, size, 4096):
            held[at] = 1
        time.sleep(120)

    def fills_in_a_grandchild(self, size: int) -> None:
        if os.fork() == 0:
            self.fills(size)
        while True:  # short-lived neighbours come and go while the limit is looked at
            if os.fork() == 0:
                os._exit(0)
            os.wait3(os.WNOHANG)

    def starts_threads(self, count: int) -> None:
        for _ in range(count):
            threading.Thread(target=time.sleep, args=(120,), daemon=True).start()
        time.sleep(120)

    def forks_on_and_on(self) -> None:
        """Each process starts others, some of them in sessions of their own."""
        while True:
            if os.fork() == 0 and os.getpid() % 7 == 0:
                os.setsid()
                time.sleep(120)

    def writes_beyond_the_limit(self, path: str) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        Path(path).write_bytes(bytes(1 << 20))

    def writes_to_a_full_disk(self) -> None:
        Path("/dev/full").write_bytes(b"anything")

    def cannot_allocate(self) -> None:
        raise MemoryError

    def engine_cannot_allocate(self) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes")

    def fails(self) -> None:
        raise ValueError("the answer\nis   not 42")

    def raises(self, kind: str) -> None:
        raise {
            "missing": MissingExtra("onnx", needed_for="this test"),
            "failed": WorkerFailed("parity", "differs by 3"),
            "cannot": CannotApply("does not fit"),
            "invalid": InvalidInput("bits must be 4 or 8, got 3"),
        }[kind]

    def unpicklable(self) -> object:
        return lambda: None

    def litter(self, folder: str, count: int) -> int:
        """Leaves processes behind that each note their id."""
        for number in range(count):
            if os.fork() == 0:
                Path(folder, f"{number}.pid").write_text(str(os.getpid()))
                time.sleep(120)
                os._exit(0)
        while len(list(Path(folder).glob("*.pid"))) < count:
            time.sleep(0.01)
        return count

    def pid(self) -> int:
        return os.getpid()
