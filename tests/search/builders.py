"""Builders that go wrong in every way, in place of `steelyard.passes.build:Builder`. Run in children only."""

from __future__ import annotations

import os
import signal
import time

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.build import Builder
from steelyard.records import Plan


class Wayward(Builder):
    """Does what the first step's option says, then builds without it."""

    def build(
        self, baseline: str, root: str, plan: Plan, examples: str, data: str | None, limit_s: float | None = None
    ) -> str:
        getattr(self, str(dict(plan.steps[0].options).get("does", "nothing")))()
        return super().build(baseline, root, Plan(steps=plan.steps[1:]), examples, data, limit_s)

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

    def eats(self) -> None:
        held = []
        while True:
            held.append(b"\1" * (1 << 24))
            time.sleep(0.005)
