"""`steelyard optimize`: words to subject, measure, diagnose, search, verify, a deployable folder and a report."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from steelyard.diagnose.findings import diagnose
from steelyard.errors import InvalidInput
from steelyard.measure.turns import TurnSettings, log_ratios, take_turns
from steelyard.measure.weigh import WeighSettings, predict_split, weigh
from steelyard.pipeline.begin import begin
from steelyard.pipeline.deliver import deliver
from steelyard.pipeline.job import Job, Progress, check_same, silent
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.pipeline.render import write_report
from steelyard.records import (
    Finding,
    Measurement,
    Outcome,
    Plan,
    Prediction,
    Requirement,
    Run,
    RunRecords,
    Sample,
    Trial,
    Unavailable,
    Verification,
)
from steelyard.search.attempt import Rival, Workshop, attempt
from steelyard.search.ordered import OrderedSearch, out_of_time, skipped
from steelyard.search.space import plans_for
from steelyard.store import RunFolder
from steelyard.subject.artifact import read_artifact
from steelyard.verify.judge import Case, control_ratio, judge, point

__all__ = ["DEFAULTS", "optimize"]

DEFAULTS = ("accuracy drop <= 1%", "latency <= 1x")
FINALISTS = 2
ROUNDS, SLOTS = 10, 12  # of the verification, at the least


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
        prepared = prepare_subject(job.spec, job.out, progress)
        run = _resume(job, known.run, folder) if known else begin(job, prepared, folder, "optimize", progress)
        shop = _workshop(job, prepared, run)
        baseline = (known and known.baseline) or _weigh_baseline(shop, folder, run, progress)
        findings = (known and known.findings) or _diagnose(baseline, run, prepared, folder)
        earlier = [t for t in known.trials if not _unreached(t)] if known else []
        deadline = time.monotonic() + run.budget_s - sum(t.wall_s for t in earlier)
        trials = _search(shop, folder, findings, earlier, deadline, run.budget_s, progress)
        verification = _verify(shop, run, baseline, trials, deadline, progress)
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
        turns=TurnSettings(rounds=1, slots=16),
        limits=job.limits,
    )


def _weigh_baseline(shop: Workshop, folder: RunFolder, run: Run, progress: Progress) -> Measurement:
    """Before: everything, and whether the baseline is sane enough to be compared with."""
    measured = weigh(
        read_artifact(shop.baseline),
        shop.inputs,
        shop.weigh,
        data=shop.data,
        host=shop.host,
        limits=shop.limits,
        log=shop.log,
        on_step=lambda step: progress(f"baseline: {step}", 0.0),
    )
    _check_sane(measured, run)
    folder.append(measured)
    return measured


def _check_sane(measured: Measurement, run: Run) -> None:
    made = measured.on("validation")
    if made is None:
        return
    majority = np.bincount(made.labels).max() / len(made.labels)
    if made.correct.mean() <= majority:
        raise InvalidInput(
            f"the baseline is right on {made.correct.mean():.1%} of the validation split, and always answering the commonest class "
            f"on {majority:.1%}: check the weights, the order of the labels, and scale, mean and std (now {run.contract.scale:.4g}, "
            f"{run.contract.mean}, {run.contract.std})"
        )
    same = measured.get("repeatable")
    if isinstance(same, Sample) and not same.value:
        raise InvalidInput(
            "the baseline gives other outputs for the same inputs: turn off what is random in it (dropout, noise)"
        )


def _diagnose(baseline: Measurement, run: Run, prepared: Prepared, folder: RunFolder) -> tuple[Finding, ...]:
    findings = diagnose(baseline, run.peaks, plans_for(prepared.baseline.engine))
    folder.append(findings)
    return findings


def _search(
    shop: Workshop,
    folder: RunFolder,
    findings: Sequence[Finding],
    earlier: Sequence[Trial],
    deadline: float,
    budget_s: float,
    progress: Progress,
) -> tuple[Trial, ...]:
    """Best prospect first, until the plans or the search's share of the budget run out."""
    expected = {p.plan: p for finding in findings for p in finding.predictions}
    search = OrderedSearch(list(expected.values()) or _unpredicted(shop), earlier)
    slowest = max((t.wall_s for t in earlier), default=0.0)
    with Rival(shop) as rival:
        rival.child()
        stop = deadline - _verification_s(rival.start_s)
        while (prediction := search.ask()) is not None:
            left = stop - time.monotonic()
            if prediction.hopeless:
                trial = skipped(prediction)
            elif slowest > left and _weighed(search.trials):
                trial = out_of_time(prediction)
            else:
                done = _share_done(deadline - time.monotonic(), budget_s)
                say = _named(progress, str(prediction.plan), done)
                trial = attempt(prediction.plan, shop, rival, expected.get(prediction.plan), say)
                slowest = max(slowest, trial.wall_s)
            folder.append(trial)
            search.tell(trial)
    return search.trials


def _unpredicted(shop: Workshop) -> list[Prediction]:
    """Every plan, for a model that could not be diagnosed: nothing is known of them, which is no reason not to try."""
    because = "the model could not be diagnosed, so nothing is predicted"
    return [
        Prediction(plan=plan, gain=1.0, ceiling=1.0, minutes=1.0, because=because)
        for plan in plans_for(read_artifact(shop.baseline).engine)
    ]


def _verification_s(start_s: float) -> float:
    """What the verification will take: every round starts baseline, control and finalists afresh, two at a time."""
    per_round = start_s * (1 + 0.25 * FINALISTS) + SLOTS * (2 + FINALISTS) * 0.035
    return ROUNDS * per_round + (1 + FINALISTS) * start_s


def _named(progress: Progress, plan: str, done: float) -> Callable[[str], None]:
    return lambda step: progress(f"{plan}: {step}", done)


def _weighed(trials: Sequence[Trial]) -> int:
    return sum(trial.comparison is not None for trial in trials)


def _finalists(baseline: Measurement, trials: Sequence[Trial], requirements: Sequence[Requirement]) -> list[Trial]:
    """The fastest trials whose point estimates on validation data promise every requirement."""
    passing = []
    for trial in trials:
        if trial.after is None or trial.comparison is None:
            continue
        case = Case(before=baseline, after=trial.after, comparison=trial.comparison, arm=1, split="validation")
        if all(_promises(case, r) for r in requirements):
            passing.append((float(log_ratios(trial.comparison, 1).mean()), trial))
    return [trial for _, trial in sorted(passing, key=lambda pair: pair[0])][:FINALISTS]


def _promises(case: Case, requirement: Requirement) -> bool:
    value = point(case, requirement)
    if value is None:
        return False
    return value >= requirement.limit if requirement.kind in ("min", "min_ratio") else value <= requirement.limit


def _verify(
    shop: Workshop, run: Run, baseline: Measurement, trials: Sequence[Trial], deadline: float, progress: Progress
) -> Verification | None:
    """Baseline, control and finalists afresh, on test data that nothing has seen, judged jointly."""
    finalists = _finalists(baseline, trials, run.requirements)
    if not finalists:
        return None
    folders = [shop.root / str(t.artifact) for t in finalists]
    names = [str(t.plan) for t in finalists]
    arms = dict(zip(["baseline", "control", *names], [shop.baseline, shop.baseline, *folders], strict=True))
    measured = [_on_test(baseline, shop.baseline, shop, progress)]
    measured += [_on_test(t.after, f, shop, progress) for t, f in zip(finalists, folders, strict=True) if t.after]
    settings = _verify_settings(len(arms), deadline - time.monotonic())
    began = time.monotonic()
    turns = take_turns(
        arms,
        shop.inputs,
        settings,
        limits=shop.limits,
        log=shop.log,
        on_round=lambda done: _say_round(progress, done, time.monotonic() - began, run.budget_s),
    )
    places = (0, *range(2, len(arms)))  # the control is the baseline again
    measured = [_renewed(m, turns.readings[arm]) for m, arm in zip(measured, places, strict=True)]
    control, alarm = control_ratio(turns.comparison, 1)
    widen = max(abs(np.log(control.low)), abs(np.log(control.high))) if alarm else 0.0
    cases = [
        Case(before=measured[0], after=after, comparison=turns.comparison, arm=arm, widen=float(widen))
        for arm, after in enumerate(measured[1:], 2)
    ]
    return Verification(
        plans=tuple(t.plan for t in finalists),
        comparison=turns.comparison,
        measurements=tuple(measured),
        verdicts=judge(cases, run.requirements),
        control=control,
        control_alarm=alarm,
    )


def _on_test(measured: Measurement, folder: Path, shop: Workshop, progress: Progress) -> Measurement:
    """The measurement with predictions on the test split, made now and by a fresh process."""
    progress("predicting the test split", None)
    assert shop.data is not None
    artifact = read_artifact(folder)
    made = predict_split(artifact, shop.inputs, shop.data, "test", limits=shop.limits, log=shop.log)
    return dataclasses.replace(measured, predictions=(made,))


def _renewed(measured: Measurement, newer: Sequence[Sample | Unavailable]) -> Measurement:
    """The measurement with some readings taken again, taking turns."""
    replaced = {(r.quantity, *r.conditions.items()) for r in newer}
    kept = [r for r in measured.readings if (r.quantity, *r.conditions.items()) not in replaced]
    return dataclasses.replace(measured, readings=(*newer, *kept))


def _verify_settings(arms: int, left_s: float) -> TurnSettings:
    """At least ten rounds; where the budget has more, longer ones."""
    per_round = left_s / ROUNDS
    slots = int(np.clip(0.5 * per_round / (arms * 0.035), SLOTS, 60))
    return TurnSettings(rounds=ROUNDS, slots=slots - slots % 2)


def _say_round(progress: Progress, done: int, spent_s: float, budget_s: float) -> None:
    left_s = spent_s / done * (ROUNDS - done)
    progress(f"taking turns, round {done} of {ROUNDS}", _share_done(left_s, budget_s))


def _share_done(left_s: float, budget_s: float) -> float:
    """Of the budget; a run that takes longer than its budget is not less than begun nor more than done."""
    return min(1.0, max(0.0, 1 - left_s / budget_s))


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
        chosen = min(passing, key=lambda pair: pair[0])[1]
        return Outcome(status="met", chosen=chosen, reason="the fastest that meets every requirement", wall_s=wall_s)
    failing = [v for row in verification.verdicts for v in row if v.outcome != "met"]
    words = "; ".join(
        dict.fromkeys(f"{v.requirement.text}: {v.outcome}" + (f", {v.advice}" if v.advice else "") for v in failing)
    )
    return Outcome(status="nothing-passed", chosen=Plan(), reason=words, wall_s=wall_s)


def _why_no_finalist(trials: Sequence[Trial], requirements: Sequence[Requirement]) -> str:
    measured = _weighed(trials)
    if not measured:
        return f"none of {len(trials)} candidates could be measured; each has its reason in the list"
    wanted = " and ".join(r.text for r in requirements)
    return f"of {measured} candidates measured, none promised {wanted} on the validation split"
