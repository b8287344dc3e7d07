"""What the calls give back: a folder, its records, and the charts of its report."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.errors import InvalidInput
from steelyard.records import Compared as ComparedRecord
from steelyard.records import Evaluation, RunRecords

if TYPE_CHECKING:
    from steelyard.report.frontier import Candidate

__all__ = ["Compared", "Drawn", "Evaluated", "Result"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """A finished run: its folder and its records."""

    folder: Path
    records: RunRecords

    @property
    def met(self) -> bool:
        """Whether a candidate met every requirement."""
        return self.records.outcome is not None and self.records.outcome.status == "met"

    @property
    def best(self) -> Path:
        """The deployable folder."""
        return self.folder / "best"

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    def chart(self, name: str) -> Any:
        """An Altair chart of the report, such as ``pareto`` or ``roofline``; None where its records are absent.

        Names of two axes with a comma between, such as ``energy,size``, give the candidates on these, and their front.
        """
        from steelyard.report.charts import CHARTS
        from steelyard.report.frontier_chart import frontier

        if "," in name:
            return frontier(self.records, name.split(","))
        return chart_of(CHARTS, name)(self.records)

    def pareto(self, axes: Iterable[str]) -> tuple[Candidate, ...]:
        """The weighed plans that no other beats on all of these axes at once: latency, drop, size, memory, energy.

        Raises `InvalidInput` for fewer than two axes or unknown ones.
        """
        from steelyard.report.frontier import front

        return front(self.records, tuple(axes))


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """A comparison: its folder and its record."""

    folder: Path
    compared: ComparedRecord

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    def chart(self, name: str) -> Any:
        """An Altair chart of the report, such as ``verdict`` or ``narrowing``; None where nothing was measured."""
        from steelyard.report.comparing_charts import CHARTS

        return chart_of(CHARTS, name)(self.compared)

    @property
    def outcome(self) -> str:
        """How the second stands to the first: faster, slower, equivalent or undecided."""
        return self.compared.outcome

    @property
    def ratio(self) -> tuple[float, float, float] | None:
        """The second's time over the first's, with its interval; None before any round."""
        found = self.compared.ratio
        return None if found is None else (found.value, found.low, found.high)

    def __str__(self) -> str:
        """The verdict in one line."""
        from steelyard.report.comparing import verdict_line

        return verdict_line(self.compared).plain


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """A page of a gate, of a suite, or of several runs side by side, and its charts."""

    report: Path
    charts: Mapping[str, Any]  # name -> an Altair chart, or None where its records are absent

    @property
    def folder(self) -> Path:
        """Where the page lies."""
        return self.report.parent

    def chart(self, name: str) -> Any:
        """One of the charts."""
        if name not in self.charts:
            raise InvalidInput(f"there is no chart {name!r}; there are {', '.join(self.charts)}")
        return self.charts[name]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated:
    """A finished evaluation: its folder and its record."""

    folder: Path
    evaluation: Evaluation

    @property
    def passed(self) -> bool:
        """Whether every gate was passed."""
        return all(gate.passed for gate in self.evaluation.gates)

    @property
    def report(self) -> Path:
        """The report."""
        return self.folder / "report.html"

    def chart(self, name: str) -> Any:
        """An Altair chart of the report, such as ``roc`` or ``confusion``; None where its data is absent."""
        from steelyard.report.evaluation.charts import CHARTS

        return chart_of(CHARTS, name)(self.evaluation)

    @property
    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` holds."""
        from steelyard.report.evaluation.text import metrics_json

        return metrics_json(self.evaluation)


def chart_of(charts: Mapping[str, Callable[[Any], Any]], name: str) -> Callable[[Any], Any]:
    if name not in charts:
        raise InvalidInput(f"there is no chart {name!r}; there are {', '.join(charts)}")
    return charts[name]
