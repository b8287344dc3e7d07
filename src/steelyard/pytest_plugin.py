"""A fixture for pytest: a test that fails when a candidate breaks what its baseline kept, or code became slower.

::

    def test_release(steelyard_gate):
        steelyard_gate(baseline="baselines/main.json", candidate="runs/pr", require=["latency <= 1.02x"])

    def test_fast_path(steelyard_gate):
        steelyard_gate.faster_than(fast_path, slow_path)  # functions of no arguments at the top level of a file

pytest loads this with every session where Steelyard is installed, so that nothing heavy is imported before a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from steelyard.api import Compared
    from steelyard.records import GateReport

__all__ = ["Gate", "steelyard_gate"]

_UNDECIDED = pytest.StashKey[list[str]]()
_Code = str | Path | Callable[[], object]


class Gate:
    """Calls that end a test with their verdict; what they found also becomes properties of the test's JUnit entry."""

    def __init__(self, record: Callable[[str, object], None], undecided: list[str], folder: Path, name: str) -> None:
        self._record = record
        self._undecided = undecided
        self._folder = folder
        self._name = name

    def __call__(
        self, *, baseline: str | Path, candidate: str | Path, require: Iterable[str], **words: Any
    ) -> GateReport:
        """As `steelyard.gate`: fail the test unless the gate lets the candidate through."""
        from steelyard.api import gate
        from steelyard.report.gating import plain_text
        from steelyard.report.tables import verdict_estimate

        with _told():
            report = gate(baseline, candidate, require=require, **words)
        for verdict in report.verdicts:
            self._record(f"steelyard: {verdict.requirement.text}", f"{verdict.outcome}: {verdict_estimate(verdict)}")
            if verdict.outcome == "undecided" and report.passed:
                self._undecided.append(f"{self._name}: {verdict.requirement.text}: {verdict_estimate(verdict)}")
        if not report.passed:
            pytest.fail(plain_text(report), pytrace=False)
        return report

    def faster_than(self, first: _Code, second: _Code, **words: Any) -> Compared:
        """Fail the test unless `first` is shown to be faster than `second`; both as `steelyard.compare` takes them."""
        return self._compared(second, first, {"faster"}, "is not shown to be faster than", words)

    def no_slower_than(self, first: _Code, second: _Code, **words: Any) -> Compared:
        """Fail the test unless `first` is shown to be faster than `second`, or as fast within the band."""
        return self._compared(second, first, {"faster", "equivalent"}, "is not shown to be as fast as", words)

    def _compared(
        self, baseline: _Code, candidate: _Code, wanted: set[str], said: str, words: dict[str, Any]
    ) -> Compared:
        from steelyard.api import compare

        with _told():
            found = compare(baseline, candidate, **{"out": self._folder / "compare", **words})
        self._record("steelyard: compare", str(found))
        if found.outcome not in wanted:
            before, after = found.compared.names
            pytest.fail(f"{after} {said} {before}: {found}", pytrace=False)
        return found


@contextmanager
def _told() -> Iterator[None]:
    """A mistake in the words, or code that crashed, is one line and no traceback through Steelyard."""
    from steelyard.errors import SteelyardError

    said = None
    try:
        yield
    except SteelyardError as error:
        said = f"steelyard: {error}"
    if said is not None:  # outside, so that pytest shows no chain of exceptions
        pytest.fail(said, pytrace=False)


@pytest.fixture
def steelyard_gate(
    request: pytest.FixtureRequest, record_property: Callable[[str, object], None], tmp_path: Path
) -> Gate:
    """Judge a candidate against a baseline, or two pieces of code against each other, and fail the test by the verdict."""
    undecided = request.config.stash.setdefault(_UNDECIDED, [])
    return Gate(record_property, undecided, tmp_path, request.node.nodeid)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Gates that passed because nothing was decided are not silent."""
    undecided = config.stash.get(_UNDECIDED, [])
    if undecided:
        terminalreporter.section("steelyard: undecided")
        for line in undecided:
            terminalreporter.line(line, yellow=True)
