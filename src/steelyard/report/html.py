"""The report: one HTML file that needs no network, made from records alone."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from itertools import groupby
from typing import Any

from steelyard.records import Estimate, Finding, RunRecords, Sample, Unavailable
from steelyard.report import assembly, charts, derive, drawing, energy, memory, numbers, profiling, tables, text
from steelyard.report.assembly import Tile
from steelyard.report.derive import Estimates, Pair

__all__ = ["render_html"]

UNITS = {"_share": "fraction", "_fraction": "fraction", "_flops": "FLOP/s", "_bytes": "byte", "_s": "s"}
PEAKS = {
    "gemm_fp32_flops": "Matrix multiply, fp32",
    "gemm_bf16_flops": "Matrix multiply, bf16",
    "gemm_int8_flops": "Matrix multiply, int8",
    "copy_bandwidth_bytes_per_s": "Memory copy",
}
TILE_READINGS: tuple[tuple[str, str, dict[str, int]], ...] = (
    ("stored_bytes", "Stored size", {}),
    ("memory_running_bytes", "Memory, running", {}),
    ("load_s", "Time to load", {}),
    ("energy_j", "Energy per inference", {"batch": 1}),
)


def render_html(records: RunRecords, estimates: Estimates | None = None) -> str:
    """The whole report as one self-contained HTML page of about 1 MB.

    `estimates` holds metrics with their intervals by ``(str(plan), split)``, with ``"baseline"`` for the baseline:
    the test split for finalists, the validation split for trials. Sections whose records are absent are left out.
    """
    known = estimates or {}
    with drawing.unchecked():
        drawn = {name: draw(records) for name, draw in charts.CHARTS.items()}
        return assembly.render("template.html.j2", drawn, **_context(records, known))


def _context(records: RunRecords, estimates: Estimates) -> dict[str, Any]:
    pair = derive.compared(records)
    shown = pair.after or pair.before
    return {
        "watched_rows": memory.machine_rows(shown) if shown is not None else (),
        "watched_flags": memory.machine_flags(shown) if shown is not None else (),
        "run": records.run,
        "version": records.run.version,
        "pair": pair,
        "outcome": records.outcome,
        "verification": records.verification,
        "headline": _headline(records, pair),
        "conclusion": text.conclusion(records),
        "exit_meaning": _exit_meaning(records),
        "verdicts": derive.verdicts_of(records, pair.plan),
        "tiles": tuple(_tiles(records, pair)),
        "verdict_groups": _by_plan(tables.verdict_rows(records)),
        "score_rows": tables.score_rows(records, estimates),
        "trial_rows": tables.trial_rows(records),
        "refusal_rows": tables.refusal_groups(records),
        "refused_count": len(tables.refusal_rows(records)),
        "findings": [(f, tuple(_evidence(f))) for f in records.findings],
        "forecast_rows": tuple(_forecast_cells(records)),
        "layer_rows": profiling.layer_rows(records, 30),
        "ceiling_rows": profiling.ceiling_cells(records),
        "profile_lines": profiling.profile_lines(records),
        "grid_rows": tables.grid_rows(energy.elsewhere(pair.after or pair.before, records.run.grid)),
        "control": charts.control_words(records.verification.control) if records.verification else "",
        "flags": records.verification.comparison.flags if records.verification else (),
        "command": _command(records),
        "machine_rows": tuple(assembly.machine_rows(records.run.environment)),
        "peak_rows": tuple(_peak_rows(records)),
        "strangers": _strangers(records),
        "subject": _subject(records),
    }


# --- headline --------------------------------------------------------------------------------------


def _exit_meaning(records: RunRecords) -> str:
    status = derive.exit_status(records)
    if status is None:
        return ""
    failed = "a requirement was not met" if records.run.command == "verify" else "nothing passed, the baseline stays"
    return f"Exit status {status}: {failed if status else 'every requirement was met'}."


def _headline(records: RunRecords, pair: Pair) -> str:
    failed = records.outcome is not None and records.outcome.status == "nothing-passed"
    if failed and pair.after is None:
        return "Nothing passed, so the baseline stays"
    if records.outcome is not None and pair.after is None:
        return "The baseline stays: nothing faster meets every requirement"
    if pair.after is None:
        latency = derive.reading(pair.before, "latency_s", batch=1)
        return "Measured" if isinstance(latency, Unavailable) else f"{numbers.seconds(latency.value)} per inference"
    gain = numbers.change(1.0, pair.ratio.value, "faster", "slower") if pair.ratio else ""
    speed = {"": "Latency not measured", "same": "As fast as before"}.get(gain, gain)
    if not pair.verified:
        return f"{speed} so far, not verified yet"
    judged = derive.verdicts_of(records, pair.plan)
    if not judged:
        return speed
    met = sum(v.outcome == "met" for v in judged)
    return f"{speed}, {'every requirement met' if met == len(judged) else f'{met} of {len(judged)} requirements met'}"


def _tiles(records: RunRecords, pair: Pair) -> Iterator[Tile]:
    yield from _latency_tile(pair)
    yield from _quality_tile(records, pair)
    for quantity, name, conditions in TILE_READINGS:
        before = derive.reading(pair.before, quantity, **conditions)
        after = derive.reading(pair.after, quantity, **conditions) if pair.after is not None else None
        if isinstance(before, Sample) and not isinstance(after, Unavailable):
            yield _tile(name, before, after)


def _latency_tile(pair: Pair) -> Iterator[Tile]:
    if pair.ratio is not None:
        shown = numbers.ratio(pair.ratio.value, pair.ratio.low, pair.ratio.high)
        details = (assembly.span(shown), f"{100 * pair.ratio.level:.3g} %, {pair.ratio.n} rounds")
        yield Tile(name="Latency", value=numbers.ratio(pair.ratio.value), details=details, share=pair.ratio.value)
        return
    sample = derive.reading(pair.before, "latency_s", batch=1)
    if isinstance(sample, Sample):
        readings = f"{sample.values.size:,} readings"
        yield Tile(name="Latency, median", value=numbers.seconds(sample.value), details=(readings,))


def _quality_tile(records: RunRecords, pair: Pair) -> Iterator[Tile]:
    """The drop that the first requirement on quality judged; without one, the drop in accuracy."""
    verdicts = derive.verdicts_of(records, pair.plan)
    judged = next((v for v in verdicts if v.requirement.kind == "max_drop" and v.estimate is not None), None)
    if judged is not None and judged.estimate is not None:
        name = f"{tables.metric_name(judged.requirement.quantity)} drop"
        yield _drop_tile(name, tables.verdict_estimate(judged), judged.estimate, pair.split)
    elif pair.before is not None and pair.after is not None:
        drop = derive.accuracy_drop(pair.before.on(pair.split), pair.after.on(pair.split))
        if drop is not None:
            yield _drop_tile("Accuracy drop", numbers.points(drop.value, drop.low, drop.high), drop, pair.split)


def _drop_tile(name: str, shown: str, estimate: Estimate, split: str) -> Tile:
    details = (assembly.span(shown), f"{100 * estimate.level:.3g} %, {split} split")
    return Tile(name=name, value=shown.partition(" (")[0], details=details)


def _tile(name: str, before: Sample, after: Sample | None) -> Tile:
    now = after if after is not None else before
    details = []
    if now.provenance in ("modelled", "calibrated"):
        details.append(f"{assembly.span(numbers.interval(now.value, *derive.spread(now), now.unit))}, {now.provenance}")
    if after is not None:
        details.append(f"was {numbers.quantity(before.value, before.unit)}")
    share = after.value / before.value if after is not None and before.value else None
    return Tile(name=name, value=numbers.quantity(now.value, now.unit), details=tuple(details), share=share)


# --- sections --------------------------------------------------------------------------------------


def _by_plan(rows: tuple[tables.VerdictRow, ...]) -> tuple[tuple[str, list[tables.VerdictRow]], ...]:
    return tuple((plan, list(group)) for plan, group in groupby(rows, key=lambda row: row.plan))


def _evidence(finding: Finding) -> Iterator[tuple[str, str]]:
    for name, value in finding.evidence.items():
        suffix = next((s for s in UNITS if name.endswith(s)), "")
        words = name.removesuffix(suffix if suffix in ("_s", "_bytes") else "").replace("_", " ")
        yield words, numbers.quantity(value, UNITS.get(suffix, "count"))


def _forecast_cells(records: RunRecords) -> Iterator[dict[str, str]]:
    refused = {plan: kind for plan, kind, _ in tables.refusal_rows(records)}
    for prediction, ratio in tables.forecast_rows(records):
        plan = str(prediction.plan)
        obtained = refused.get(plan, tables.NONE)
        if ratio is not None:
            obtained = numbers.interval(1 / ratio.value, 1 / ratio.high, _inverse(ratio.low), "ratio")
        yield {
            "plan": plan,
            "predicted": "will not help" if prediction.hopeless else f"{numbers.significant(prediction.gain)}x",
            "ceiling": f"{numbers.significant(prediction.ceiling)}x",
            "obtained": obtained,
            "because": prediction.because,
        }


def _inverse(value: float) -> float:
    return 1 / value if value else float("inf")


def _peak_rows(records: RunRecords) -> Iterator[tuple[str, str]]:
    for peak in records.run.peaks:
        name = PEAKS.get(peak.quantity, peak.quantity.replace("_", " "))
        yield (
            name,
            numbers.quantity(peak.value, peak.unit) if isinstance(peak, Sample) else f"unavailable: {peak.reason}",
        )


def _strangers(records: RunRecords) -> tuple[str, ...]:
    """Machines other than the run's that measurements came from: their numbers are not comparable."""
    made = [records.baseline, *(t.after for t in records.trials)]
    made += records.verification.measurements if records.verification else ()
    machines = {m.environment.machine for m in made if m is not None}
    return tuple(sorted(machines - {records.run.environment.machine}))


def _command(records: RunRecords) -> str:
    """The words that started the run, to be typed again."""
    run = records.run
    words = ["steelyard", run.command, run.spec.source]
    words += [
        w
        for flag, value in (("--data", run.spec.data), ("--weights", run.spec.weights))
        if value
        for w in (flag, value)
    ]
    words += [w for r in run.requirements if run.command != "benchmark" for w in ("--require", r.text)]
    words += run.words
    words += [w for name, value in run.spec.options.items() for w in (f"--{name.replace('_', '-')}", str(value))]
    words += ["--region", run.grid[0].region] if run.grid else []
    words += ["--seed", str(run.spec.seed)] if run.spec.seed else []
    words += ["--budget", f"{run.budget_s:g}s"] if run.budget_s else []
    return shlex.join(words)


def _subject(records: RunRecords) -> tuple[tuple[str, str], ...]:
    run = records.run
    contract = run.contract
    scaling = f"(raw x {contract.scale:.4g} - {_few(contract.mean)}) / {_few(contract.std)}"
    rows = [
        ("Model", run.spec.source),
        ("Weights", run.spec.weights or "as the source gives them"),
        ("Data", run.spec.data or "none"),
        ("One input", f"{' x '.join(map(str, contract.shape))} ({contract.layout}), {contract.dtype}"),
        ("Scaling", scaling),
        ("Outputs", f"{contract.outputs}, {len(contract.labels) or 'unnamed'} classes"),
        *_uses(records.test_uses),
    ]
    return tuple(rows)


def _uses(count: int) -> list[tuple[str, str]]:
    """Each further look at the test split makes what is chosen by it look better than it is."""
    if not count:
        return []
    words = (
        "once" if count == 1 else f"{count} times: what was chosen by the first looks is flattered in the later ones"
    )
    return [("Test split judged on", words)]


def _few(values: tuple[float, ...]) -> str:
    return ", ".join(f"{v:.4g}" for v in values)
