"""The chart of what layers bear: one bar a layer, the worst first, its interval against scipy's."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from scipy import stats

from steelyard.records import RunRecords, Sample, Unavailable
from steelyard.report.sensitive import sensitivity, sensitivity_rows


def measured(records: RunRecords) -> RunRecords:
    """The run with one candidate whose layers were quantised alone."""
    rng = np.random.default_rng(0)
    rows = [
        Sample(
            quantity="sensitivity",
            unit="fraction",
            values=np.clip(rng.normal(mean, 0.02, 200), 0, 1),
            conditions={"layer": layer},
            note="stays in fp32" if layer == "head" else "",
        )
        for layer, mean in (("stem", 0.1), ("head", 0.6), ("middle", 0.2))
    ]
    lost = Unavailable(quantity="sensitivity", reason="time", conditions={"layer": "tail"})
    place = next(i for i, trial in enumerate(records.trials) if trial.after is not None)
    after = records.trials[place].after
    assert after is not None
    trial = dataclasses.replace(
        records.trials[place], after=dataclasses.replace(after, readings=(*after.readings, *rows, lost))
    )
    return dataclasses.replace(records, trials=(*records.trials[:place], trial, *records.trials[place + 1 :]))


def test_layers_stand_by_their_mean_with_its_interval(runs: dict[str, RunRecords]) -> None:
    records = measured(runs["full"])
    after = next(t.after for t in records.trials if t.after is not None and t.after.all("sensitivity"))
    rows = sensitivity_rows(after)
    assert [(row["layer"], row["kind"]) for row in rows] == [("head", "fp32"), ("middle", "INT8"), ("stem", "INT8")]
    values = after.get("sensitivity", layer="middle").values  # type: ignore[union-attr]
    low, high = stats.norm.interval(0.95, values.mean(), stats.sem(values))
    assert (rows[1]["low"], rows[1]["high"]) == pytest.approx((low, high), rel=1e-3)


def test_the_chart_is_valid_and_absent_where_nothing_was_measured(runs: dict[str, RunRecords]) -> None:
    assert sensitivity(runs["full"]) is None
    chart = sensitivity(measured(runs["full"]))
    assert chart is not None
    assert len(chart.to_dict()["description"]) > 20
