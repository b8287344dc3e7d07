"""Pages made of sections with figures and tables alone: comparisons, gates, suites, models side by side."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steelyard.report import assembly
from steelyard.report.assembly import Tile

__all__ = ["Badge", "Column", "Grid", "Page", "Section", "render"]

_BADGES = {
    "met": "met",
    "faster": "met",
    "better": "met",
    "equivalent": "equal",
    "undecided": "undecided",
    "broken": "broken",
    "slower": "broken",
    "worse": "broken",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Badge:
    """An outcome, or words about one, in its colour."""

    words: str
    outcome: str

    @property
    def css(self) -> str:
        """The class of its colour."""
        return _BADGES.get(self.outcome, "unavailable")


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table and what its cells hold. Names and code are shown as they are, the rest with typographic signs."""

    name: str
    kind: Literal["", "name", "number", "how", "words", "code", "badge"] = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """A table: the first cell of each row names it. A cell of a badge column is an outcome, "" for none."""

    label: str
    caption: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]

    @property
    def badges(self) -> tuple[tuple[Badge | None, ...], ...]:
        """The outcomes of the badge columns, cell by cell."""
        return tuple(tuple(Badge(words=cell, outcome=cell) if cell else None for cell in row) for row in self.rows)


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """A part of the page. Figures are names of charts, drawn where they are there, those in `wide` across the page."""

    id: str
    title: str
    words: str = ""
    alarm: str = ""
    figures: tuple[str, ...] = ()
    wide: tuple[str, ...] = ()
    grids: tuple[Grid, ...] = ()
    facts: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()  # (caption, (name, value) rows)
    notes: tuple[str, ...] = ()
    pictures: tuple[tuple[str, str], ...] = ()  # (words, a PNG in base64)
    command: str = ""
    methods: tuple[tuple[str, str], ...] = ()

    def shown(self, drawn: Iterable[str]) -> bool:
        """Whether anything stands in it."""
        content = (
            *(g for g in self.grids if g.rows),
            *self.facts,
            *self.notes,
            *self.pictures,
            *self.methods,
            self.command,
        )
        return any(content) or bool(set(self.figures) & set(drawn))


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """All that a page says beside its charts."""

    headline: str
    brand: str
    lede: str
    sections: tuple[Section, ...]
    plan: str = ""
    time: str = ""
    version: str = ""
    badges: tuple[Badge, ...] = ()
    tiles: tuple[Tile, ...] = ()


def render(page: Page, charts: Mapping[str, Any]) -> str:
    """One self-contained HTML page. Sections that would be empty are left out."""
    drawn = [name for name, chart in charts.items() if chart is not None]
    shown = tuple(section for section in page.sections if section.shown(drawn))
    return assembly.render("sections.html.j2", charts, page=page, sections=shown, version=page.version)
