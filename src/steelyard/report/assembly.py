"""Putting a page together: one HTML file with its style, scripts and charts inside, which needs no network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from markupsafe import Markup

from steelyard.records import Environment
from steelyard.report import drawing, numbers, theme
from steelyard.report.library import library

__all__ = ["Figure", "Tile", "machine_rows", "pretty", "render", "span"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One large number of the headline; `share` (after / before) draws the bar under it."""

    name: str
    value: str
    details: tuple[str, ...]  # one short line each
    share: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A chart's place on the page."""

    name: str
    title: str
    caption: str


def render(template: str, charts: Mapping[str, Any], **context: Any) -> str:
    """The page of a template with its charts, each an Altair chart or None.

    The template finds ``figures``: for each chart that is there, the `Figure` of each of its panels.
    """
    specs = {name: found for name, chart in charts.items() if (found := _specs(name, chart))}
    script, bundle = _asset("page.js"), library()
    page: str = _template(template).render(
        **context,
        figures={name: tuple(_figure(part, spec) for part, spec in found.items()) for name, found in specs.items()},
        charts_json=_safe_json({part: _bare(spec) for found in specs.values() for part, spec in found.items()}),
        theme_json=_safe_json({"config": theme.config(), "dark": theme.DARK}),
        style=Markup(_asset("page.css") + theme.series_css()),  # noqa: S704 - a file of this package
        script=Markup(script),  # noqa: S704 - a file of this package
        library=Markup(bundle),  # noqa: S704 - the Vega bundle that vl-convert ships
        policy=_policy(script, bundle),
    )
    return page


def _specs(name: str, chart: Any) -> dict[str, dict[str, Any]]:
    """The panels of a chart, each to be drawn in a box of its own."""
    return {
        f"{name}-{i}" if i else name: panel.to_dict(validate=False) for i, panel in enumerate(drawing.panels(chart))
    }


def _figure(name: str, spec: dict[str, Any]) -> Figure:
    title = spec["title"]
    return Figure(name=name, title=title["text"], caption=" ".join(title["subtitle"]))


def _bare(spec: dict[str, Any]) -> dict[str, Any]:
    """The spec as the page draws it: as wide as its box, and titled by the page."""
    kept = {key: value for key, value in spec.items() if key not in ("title", "config", "$schema")}
    return {**kept, "width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}


def machine_rows(environment: Environment) -> Iterator[tuple[str, str]]:
    """Name and value of each thing known about a machine."""
    yield "Processor", f"{environment.cpu}, {environment.cores} cores"
    yield "Memory", numbers.size(environment.memory_bytes)
    yield "Instruction sets", ", ".join(environment.instruction_sets) or "none recorded"
    yield "Accelerators", ", ".join(environment.accelerators) or "none"
    yield "Platform", environment.platform
    yield "Python", environment.python
    yield "Packages", ", ".join(f"{name} {version}" for name, version in sorted(environment.packages.items()))
    yield "Machine fingerprint", environment.machine
    yield "Time", environment.time


def span(shown: str) -> str:
    """The bracket of a number that has one.

    >>> span("0.214x (0.208-0.221)")
    '0.208-0.221'
    """
    return shown.partition("(")[2].rstrip(")")


def pretty(shown: str) -> str:
    """Typographic signs for a number made by :mod:`steelyard.report.numbers`.

    >>> pretty("0.214x (0.208-0.221)"), pretty("-0.05 to 0.29")
    ('0.214× (0.208–0.221)', '−0.05 to 0.29')
    """
    shown = re.sub(r"(?<=\d)x\b", "×", shown)
    shown = re.sub(r"(?<=\d)-(?=\d)", "–", shown)
    shown = re.sub(r"(?<![\w-])-(?=\d)", "−", shown)
    return shown.replace("<=", "≤").replace(">=", "≥").replace(" %", "\u00a0%")


def _safe_json(value: object) -> Markup:
    """JSON for a script element: no character in it can end the element or open a comment.

    >>> str(_safe_json({"label": "</script><b>"}))
    '{"label":"\\\\u003c/script\\\\u003e\\\\u003cb\\\\u003e"}'
    """
    plain = json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    for character in "<>&":
        plain = plain.replace(character, f"\\u{ord(character):04x}")
    return Markup(plain)  # noqa: S704 - escaped above


def _policy(*scripts: str) -> str:
    """A content security policy under which only these scripts run and nothing is fetched."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data: blob:; base-uri 'none'"


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


@cache
def _asset(name: str) -> str:
    from importlib.resources import files

    return files("steelyard.report").joinpath(name).read_text(encoding="utf-8")


@cache
def _template(name: str) -> Any:
    from jinja2 import Environment as Templates
    from jinja2 import PackageLoader, StrictUndefined

    templates = Templates(
        loader=PackageLoader("steelyard.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters.update(pretty=pretty, seconds=numbers.seconds, size=numbers.size)
    return templates.get_template(name)
