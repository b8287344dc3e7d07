"""Child processes import their worker by name: the folder with the badly behaved ones is put on their path."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def on_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let children import the modules beside this file."""
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])))
