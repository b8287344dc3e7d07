"""The example runs and their pages, made once: rendering the page loads a JavaScript bundle of 900 kB."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from steelyard.records import RunRecords
from steelyard.report.html import render_html

KINDS = ("full", "interrupted", "benchmark", "nothing_passed")


def _load() -> ModuleType:
    path = Path(__file__).with_name("example_run.py")
    spec = importlib.util.spec_from_file_location("example_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def example() -> ModuleType:
    """The module of hand-written runs."""
    return _load()


@pytest.fixture(scope="session")
def runs(example: ModuleType) -> dict[str, RunRecords]:
    return {kind: getattr(example, kind)() for kind in KINDS}


@pytest.fixture(scope="session")
def pages(example: ModuleType, runs: dict[str, RunRecords]) -> dict[str, str]:
    return {
        kind: render_html(records, {} if kind == "benchmark" else example.estimates()) for kind, records in runs.items()
    }
