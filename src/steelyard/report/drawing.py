"""What all charts share: data as plain rows, titles, colours, tooltips, several panels in one chart, and files."""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.errors import InvalidInput
from steelyard.report import theme

if TYPE_CHECKING:
    import altair as alt

__all__ = [
    "FORMATS",
    "Rows",
    "colour",
    "data",
    "finish",
    "finite",
    "layered",
    "panels",
    "save",
    "stacked",
    "tips",
    "unchecked",
]

WIDTH = 640
FORMATS = ("png", "svg", "pdf")

Rows = list[dict[str, Any]]


@contextmanager
def unchecked() -> Iterator[None]:
    """Charts made in here are not held to Vega-Lite's schema one part at a time, which takes longer than drawing them.

    The tests hold every chart to it.
    """
    from altair.utils import schemapi

    with schemapi.debug_mode(False):
        yield


def data(rows: Rows) -> alt.InlineData:
    """Rows as a chart holds them. JSON has no NaN and no infinity: such a mark is left out."""
    import altair as alt

    values = tuple({key: _drawable(value) for key, value in row.items()} for row in rows)
    return alt.InlineData(values=values)  # a list would be copied with every chart made of it


def _drawable(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def layered(*charts: alt.Chart) -> alt.LayerChart:
    """One layer over the other, the first lowest."""
    import altair as alt

    return alt.LayerChart(layer=list(charts))


def finish(chart: alt.LayerChart, title: str, subtitle: str, height: int) -> alt.LayerChart:
    """The chart with its title, a sentence on how to read it, and its size."""
    import altair as alt

    words = alt.TitleParams(text=title, subtitle=textwrap.wrap(subtitle, 92))
    return chart.properties(width=WIDTH, height=height, title=words, description=f"{title}. {subtitle}")


def stacked(charts: Sequence[alt.LayerChart]) -> alt.LayerChart | alt.VConcatChart | None:
    """Charts under each other, each with its own scales; one alone stays as it is, none is None."""
    import altair as alt

    if len(charts) < 2:
        return charts[0] if charts else None
    own = dict.fromkeys(("color", "shape", "strokeDash", "x", "y"), "independent")
    apart = alt.Resolve.from_dict({"scale": own})
    return alt.VConcatChart(vconcat=list(charts), spacing=34, resolve=apart)


def panels(chart: alt.LayerChart | alt.VConcatChart | None) -> tuple[Any, ...]:
    """The charts that `stacked` put together."""
    import altair as alt

    if chart is None:
        return ()
    return tuple(chart.vconcat) if isinstance(chart, alt.VConcatChart) else (chart,)


def colour(
    field: str, colours: Mapping[str, str], shown: Sequence[str], *, legend: bool = True, columns: int | None = None
) -> alt.Color:
    """The colours of the names that are `shown`, with a legend in the order of `colours`.

    `columns` is for names so short that more of them than usual fit beside each other.
    """
    import altair as alt

    present = set(shown)
    domain = [name for name in colours if name in present]
    scale = alt.Scale(domain=domain, range=[colours[name] for name in domain])
    drawn = alt.Legend() if columns is None else alt.Legend(columns=columns)
    return alt.Color(f"{field}:N", scale=scale, legend=drawn if legend else None)


def tips(**fields: str) -> list[alt.Tooltip]:
    """Tooltip lines: title = field."""
    import altair as alt

    return [alt.Tooltip(f"{name}:N", title=title) for title, name in fields.items()]


def finite(value: float, fallback: float) -> float:
    """`value`, or where it is unbounded the place to draw it at."""
    return value if math.isfinite(value) else fallback


def save(
    charts: Iterable[tuple[str, alt.LayerChart | alt.VConcatChart | None]],
    folder: Path,
    formats: Iterable[str] = FORMATS,
) -> tuple[Path, ...]:
    """Writes every chart that is there as ``folder/<name>.<format>``; needs no browser.

    Raises `InvalidInput` for a format other than png, svg and pdf.
    """
    wanted = tuple(formats)
    for unknown in set(wanted) - set(FORMATS):
        raise InvalidInput(f"figures are written as {', '.join(FORMATS)}; got {unknown!r}")
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(
        _saved(chart, folder / f"{name}.{kind}", kind) for name, chart in charts if chart is not None for kind in wanted
    )


def _saved(chart: alt.LayerChart | alt.VConcatChart, path: Path, kind: str) -> Path:
    import vl_convert

    spec = json.dumps(chart.to_dict())
    settings = {**theme.config(), "background": "white"}
    if kind == "svg":
        path.write_text(vl_convert.vegalite_to_svg(spec, config=settings), encoding="utf-8")
    elif kind == "pdf":
        path.write_bytes(vl_convert.vegalite_to_pdf(spec, config=settings))
    else:
        path.write_bytes(vl_convert.vegalite_to_png(spec, scale=2, config=settings))
    return path
