"""The example runs and their pages, made once: rendering the page loads a JavaScript bundle of 900 kB."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from steelyard.records import RunRecords
from steelyard.report.html import render_html

KINDS = ("full", "interrupted", "benchmark", "nothing_passed")


def _load(name: str) -> ModuleType:
    path = Path(__file__).with_name(f"{name}.py")
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def example() -> ModuleType:
    """The module of hand-written runs."""
    return _load("example_run")


@pytest.fixture(scope="session")
def example_load() -> ModuleType:
    """The module of a hand-written benchmark under load."""
    return _load("example_load")


@pytest.fixture(scope="session")
def example_compare() -> ModuleType:
    """The module of comparisons made up from a known truth."""
    return _load("example_compare")


@pytest.fixture(scope="session")
def runs(example: ModuleType) -> dict[str, RunRecords]:
    return {kind: getattr(example, kind)() for kind in KINDS}


@pytest.fixture(scope="session")
def pages(example: ModuleType, runs: dict[str, RunRecords]) -> dict[str, str]:
    return {
        kind: render_html(records, {} if kind == "benchmark" else example.estimates()) for kind, records in runs.items()
    }
