"""`steelyard optimize`: words to subject, measure, diagnose, search, prove, a deployable folder and a report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence

from steelyard.diagnose.findings import diagnose
from steelyard.measure.turns import TurnSettings, log_ratios
from steelyard.measure.weigh import WeighSettings
from steelyard.pipeline.baseline import weigh_baseline
from steelyard.pipeline.begin import begin
from steelyard.pipeline.deliver import deliver
from steelyard.pipeline.explore import explore
from steelyard.pipeline.job import Job, Progress, check_same, silent
from steelyard.pipeline.minutes import training_minutes
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.pipeline.prove import promises, prove
from steelyard.pipeline.render import write_report
from steelyard.records import (
    Finding,
    Measurement,
    Outcome,
    Plan,
    Requirement,
    Run,
    RunRecords,
    Trial,
    Verification,
)
from steelyard.search.attempt import Workshop
from steelyard.search.space import plans_for
from steelyard.store import RunFolder
from steelyard.verify.judge import Case

__all__ = ["DEFAULTS", "optimize"]

DEFAULTS = ("accuracy drop <= 1%", "latency <= 1x")


def optimize(job: Job, progress: Progress = silent) -> RunRecords:
    """The whole way. Every step is on disk before the next begins; the same job on the same folder goes on where it stood."""
    started = time.monotonic()
    with RunFolder(job.out) as folder:
        known = folder.records()
        if known is not None:
            check_same(job, known.run, "optimize")
            if known.outcome is not None and job.budget_s <= known.run.budget_s:
                write_report(job.out, known)
                return known
        prepared = prepare_subject(job.spec, job.out, progress, to_train=True)
        run = _resume(job, known.run, folder) if known else begin(job, prepared, folder, "optimize", progress)
        shop = _workshop(job, prepared, run)
        baseline = (known and known.baseline) or _before(shop, run, folder, progress)
        findings = (known and known.findings) or _diagnose(baseline, run, prepared, folder, job.limits.seconds)
        earlier = [t for t in known.trials if not _unreached(t)] if known else []
        deadline = time.monotonic() + run.budget_s - sum(t.wall_s for t in earlier)
        trials = explore(shop, folder, findings, earlier, deadline, run.budget_s, progress)
        verification = prove(shop, run, baseline, trials, folder, deadline, progress)
        if verification is not None:
            folder.append(verification)
        outcome = _decide(run, trials, verification, started)
        progress("writing the deployable folder", None)
        deliver(shop, run, outcome, trials, verification)
        folder.append(outcome)
        records = folder.records()
        assert records is not None
        write_report(job.out, records)
        return records


def _resume(job: Job, run: Run, folder: RunFolder) -> Run:
    """The run as it was begun; a longer budget is noted, and reaches the plans that the shorter one did not."""
    if job.budget_s <= run.budget_s:
        return run
    longer = dataclasses.replace(run, budget_s=job.budget_s)
    folder.append(longer)
    return longer


def _unreached(trial: Trial) -> bool:
    return trial.refusal is not None and trial.refusal.kind == "budget"


def _workshop(job: Job, prepared: Prepared, run: Run) -> Workshop:
    return Workshop(
        root=job.out,
        baseline=prepared.baseline.folder,
        inputs=prepared.inputs,
        data=prepared.data,
        host=run.environment,
        weigh=WeighSettings(split="validation"),
        turns=TurnSettings(rounds=1, slots=60),
        limits=job.limits,
    )


def _before(shop: Workshop, run: Run, folder: RunFolder, progress: Progress) -> Measurement:
    measured = weigh_baseline(shop, run, progress)
    folder.append(measured)
    return measured


def _diagnose(
    baseline: Measurement, run: Run, prepared: Prepared, folder: RunFolder, limit_s: float
) -> tuple[Finding, ...]:
    hints = training_minutes(baseline, run.splits.get("train", 0), limit_s)
    findings = diagnose(baseline, run.peaks, plans_for(prepared.baseline.engine), hints)
    folder.append(findings)
    return findings


def _decide(run: Run, trials: Sequence[Trial], verification: Verification | None, started: float) -> Outcome:
    """The fastest finalist that meets every requirement, or the baseline and the reason."""
    wall_s = time.monotonic() - started
    if verification is None:
        reason = _why_no_finalist(trials, run.requirements)
        return Outcome(status="nothing-passed", chosen=Plan(), reason=reason, wall_s=wall_s)
    passing = [
        (float(log_ratios(verification.comparison, arm).mean()), plan)
        for arm, (plan, row) in enumerate(zip(verification.plans, verification.verdicts, strict=True), 2)
        if all(v.outcome == "met" for v in row)
    ]
    if passing:
        log_ratio, chosen = min(passing, key=lambda pair: pair[0])
        if log_ratio >= 0 and _stands(verification, run.requirements, run.contract.labels):
            reason = "it meets every requirement, and no candidate that does is faster"
            return Outcome(status="met", chosen=Plan(), reason=reason, wall_s=wall_s)
        return Outcome(status="met", chosen=chosen, reason="the fastest that meets every requirement", wall_s=wall_s)
    failing = [v for row in verification.verdicts for v in row if v.outcome != "met"]
    words = "; ".join(
        dict.fromkeys(f"{v.requirement.text}: {v.outcome}" + (f", {v.advice}" if v.advice else "") for v in failing)
    )
    return Outcome(status="nothing-passed", chosen=Plan(), reason=words, wall_s=wall_s)


def _stands(verification: Verification, requirements: Sequence[Requirement], labels: tuple[str, ...]) -> bool:
    """Whether the baseline does what is required: requirements on quality alone ask for no change."""
    before = verification.measurements[0]
    itself = Case(before=before, after=before, comparison=verification.comparison, arm=0, labels=labels)
    return all(promises(itself, r) for r in requirements)


def _why_no_finalist(trials: Sequence[Trial], requirements: Sequence[Requirement]) -> str:
    measured = sum(trial.comparison is not None for trial in trials)
    if not measured:
        return f"none of {len(trials)} candidates could be measured; each has its reason in the list"
    wanted = " and ".join(r.text for r in requirements)
    return f"of {measured} candidates measured, none promised {wanted} on the validation split"
