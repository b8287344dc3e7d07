"""What every room's tests share: the command line in-process, and the real data where it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest


class Ran(NamedTuple):
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The one line of an error, without the program's name."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("steelyard: "), self.err
        return self.err.removeprefix("steelyard: ").rstrip("\n")


@pytest.fixture
def steelyard(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Run a command line in this process; a traceback fails the test by itself."""
    from steelyard.cli import main

    def run(*words: object) -> Ran:
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([str(word) for word in words])
        printed = capsys.readouterr()
        return Ran(int(ended.value.code or 0), printed.out, printed.err)

    return run


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that STEELYARD_DATA names; without it the test is skipped by name."""
    folder = os.environ.get("STEELYARD_DATA")
    if not folder:
        pytest.skip("STEELYARD_DATA names no folder of real data sets")
    return Path(folder)
