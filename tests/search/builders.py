"""Builders that go wrong in every way, in place of `steelyard.passes.build:Builder`. Run in children only."""

from __future__ import annotations

import os
import resource
import signal
import threading
import time
from pathlib import Path

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.build import Builder
from steelyard.records import Plan


class Wayward(Builder):
    """Does what the first step's option says, then builds without it."""

    def build(
        self, baseline: str, root: str, plan: Plan, examples: str, data: str | None, limit_s: float | None = None,
        shared: str | None = None,
    ) -> str:  # fmt: skip
        self.root = Path(root)
        getattr(self, str(dict(plan.steps[0].options).get("does", "nothing")))()
        return super().build(baseline, root, Plan(steps=plan.steps[1:]), examples, data, limit_s, shared)

    def nothing(self) -> None:
        """Goes on."""

    def raises(self) -> None:
        raise KeyError("layer3")

    def refuses(self) -> None:
        raise CannotApply("no convolutions here")

    def lacks(self) -> None:
        raise MissingExtra("openvino", needed_for="this")

    def crashes(self) -> None:
        os.kill(os.getpid(), signal.SIGSEGV)

    def hangs(self) -> None:
        time.sleep(120)

    def fills_the_disk(self) -> None:
        """Leaves a part behind, and meets a disk without room."""
        part = self.root / "half-made.part"
        part.mkdir(parents=True)
        (part / "weights").write_bytes(bytes(1000))
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, resource.RLIM_INFINITY))
        (part / "more").write_bytes(bytes(1 << 20))

    def finds_it_full(self) -> None:
        Path("/dev/full").write_bytes(b"anything")

    def forks(self) -> None:
        """Processes that start processes, as fast as the machine can."""
        while True:
            os.fork()

    def threads(self) -> None:
        for _ in range(2000):
            threading.Thread(target=time.sleep, args=(120,), daemon=True).start()
        time.sleep(120)

    def eats(self) -> None:
        held = []
        while True:
            held.append(b"\1" * (1 << 24))
            time.sleep(0.005)
