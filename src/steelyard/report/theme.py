"""Colours and chart settings. Charts are drawn in the light palette; the page swaps each colour in the dark."""

from __future__ import annotations

from typing import Any

__all__ = ["DARK", "GRID", "INK", "MODELS", "MUTED", "OUTCOMES", "SERIES", "config", "series_css"]

INK = "#1b2330"
MUTED = "#5b6878"
GRID = "#dfe4ea"
BASELINE = "#76828f"
CONTROL = "#b3bcc7"
CHOSEN = "#1767c9"
BAND = "#dbe9fb"
MET, BROKEN, UNDECIDED = "#1a7f4b", "#c23b34", "#96690a"
OTHERS = ("#b5561c", "#7a51c4", "#0f7f86", "#a33d7a", "#6d7a1e", "#8a5a3c")
SHADES = ("#f3f6fa", "#0c4a96")  # from none to all of a heat map's row
ON_SHADE = "#fdfeff"  # text on the darkest shade
SERIES = (CHOSEN, *OTHERS)  # models, classes or corruptions side by side, in turn

MODELS = {"baseline": BASELINE, "control": CONTROL}
OUTCOMES = {"met": MET, "broken": BROKEN, "undecided": UNDECIDED, "unavailable": MUTED}

DARK = {
    INK: "#e6ebf2",
    MUTED: "#98a5b5",
    GRID: "#2b3441",
    BASELINE: "#909cab",
    CONTROL: "#5f6b7a",
    CHOSEN: "#5aa4ff",
    BAND: "#18304f",
    MET: "#45c07e",
    BROKEN: "#f2716a",
    UNDECIDED: "#dfae46",
    OTHERS[0]: "#f0925a",
    OTHERS[1]: "#b698f2",
    OTHERS[2]: "#45c3ca",
    OTHERS[3]: "#ea8bc0",
    OTHERS[4]: "#bccb5c",
    OTHERS[5]: "#cf9c7a",
    SHADES[0]: "#1a222d",
    SHADES[1]: "#7db8ff",
    ON_SHADE: "#0e141b",
}

_FONT = '-apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, "Liberation Sans", system-ui, sans-serif'


def series_css() -> str:
    """The colours of `SERIES` for the page itself: elements of class ``s0``, ``s1`` ... hold theirs in ``--series``."""
    light = "".join(f".s{i}{{--series:{colour}}}" for i, colour in enumerate(SERIES))
    dark = "".join(f".s{i}{{--series:{DARK[colour]}}}" for i, colour in enumerate(SERIES))
    return f"{light}\n@media (prefers-color-scheme: dark){{{dark}}}\n"


def config() -> dict[str, Any]:
    """Vega-Lite configuration that all charts share."""
    return {
        "background": "transparent",
        "font": _FONT,
        "view": {"stroke": None},
        "axis": {
            "labelColor": MUTED,
            "titleColor": MUTED,
            "titleFontWeight": "normal",
            "titleFontSize": 12,
            "labelFontSize": 12,
            "titlePadding": 10,
            "gridColor": GRID,
            "domainColor": GRID,
            "tickColor": GRID,
            "labelLimit": 220,
        },
        "legend": {
            "orient": "top",
            "title": None,
            "labelColor": INK,
            "labelFontSize": 12,
            "labelLimit": 300,
            "columns": 2,
            "symbolType": "circle",
            "symbolOpacity": 1,
            "columnPadding": 18,
        },
        "axisQuantitative": {"tickCount": 6},
        "title": {
            "anchor": "start",
            "color": INK,
            "fontSize": 16,
            "subtitleColor": MUTED,
            "subtitleFontSize": 12,
            "subtitlePadding": 6,
            "offset": 14,
        },
        "text": {"color": INK, "fontSize": 12},
    }
