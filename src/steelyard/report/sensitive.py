"""The chart of what layers bear: how far each shifts the outputs when it alone is quantised."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from steelyard.records import Measurement, RunRecords, Sample
from steelyard.report import derive, drawing, theme
from steelyard.report.drawing import Rows

if TYPE_CHECKING:
    import altair as alt

__all__ = ["sensitivity", "sensitivity_rows"]

MOST_LAYERS = 25
KINDS = {"INT8": theme.CHOSEN, "fp32": theme.BASELINE}


def sensitivity(records: RunRecords) -> alt.LayerChart | None:
    """Mean shift of each layer with its interval, the most sensitive first; None where no candidate measured it."""
    import altair as alt

    measured = _measured(records)
    rows = sensitivity_rows(measured)[:MOST_LAYERS] if measured is not None else []
    if not rows:
        return None
    base = alt.Chart(drawing.data(rows)).encode(
        y=alt.Y("layer:N", title=None, sort=[row["layer"] for row in rows], axis=alt.Axis(labelLimit=250)),
        tooltip=drawing.tips(layer="layer", shift="shown", precision="kind"),
    )
    bars = base.mark_bar(cornerRadiusEnd=2, size=14).encode(
        x=alt.X("mean:Q", title="total variation of the probabilities, mean"),
        color=drawing.colour("kind", KINDS, [row["kind"] for row in rows]),
    )
    spread = base.mark_rule(color=theme.INK, strokeWidth=1, opacity=0.7).encode(x="low:Q", x2="high:Q")
    return drawing.finish(
        drawing.layered(bars, spread),
        "What each layer bears",
        "How far the probabilities shift when this layer alone is quantised: 0 is not at all, 1 is wholly. Line: 95 % interval"
        " of the mean over validation examples. Colour: what the layer became.",
        height=24 * len(rows) + 20,
    )


def sensitivity_rows(measured: Measurement) -> Rows:
    """Each layer's mean shift, its interval (normal, of a mean over examples) and its precision, the largest first."""
    rows: Rows = []
    for sample in measured.all("sensitivity"):
        mean = float(sample.values.mean())
        half = 1.96 * float(sample.values.std(ddof=1)) / np.sqrt(len(sample.values)) if len(sample.values) > 1 else 0.0
        low, high = max(0.0, mean - half), min(1.0, mean + half)
        rows.append(
            {
                "layer": str(sample.conditions.get("layer", "")),
                "mean": mean,
                "low": low,
                "high": high,
                "kind": "fp32" if sample.note else "INT8",
                "shown": f"{mean:.3g} ({low:.3g} to {high:.3g})",
            }
        )
    return sorted(rows, key=lambda row: -row["mean"])


def _measured(records: RunRecords) -> Measurement | None:
    """The chosen candidate's measurement if it measured its layers, else that of the first that did."""
    chosen = derive.compared(records).plan
    found = [t for t in records.trials if isinstance(t.after, Measurement) and _has_layers(t.after)]
    found.sort(key=lambda trial: trial.plan != chosen)
    return found[0].after if found else None


def _has_layers(measured: Measurement) -> bool:
    return any(isinstance(r, Sample) and r.quantity == "sensitivity" for r in measured.readings)
