"""`steelyard optimize`: words to subject, measure, diagnose, search, prove, a deployable folder and a report."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

from steelyard.errors import InvalidInput
from steelyard.measure.turns import TurnSettings
from steelyard.measure.weigh import WeighSettings
from steelyard.passes.shared import shared_folder
from steelyard.pipeline.baseline import weigh_baseline
from steelyard.pipeline.begin import begin
from steelyard.pipeline.deliver import deliver
from steelyard.pipeline.explore import explore
from steelyard.pipeline.foresee import foresee, predictor, trimmed
from steelyard.pipeline.job import Job, Progress, check_same, silent
from steelyard.pipeline.objective import BEST, goal_of, promises, ratio_of
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.pipeline.prove import prove
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
    Trial,
    Verification,
)
from steelyard.search.attempt import Workshop
from steelyard.search.cluster import load_ray
from steelyard.search.ordered import OrderedSearch
from steelyard.search.space import Space, plans_for
from steelyard.search.tuner import without_optuna
from steelyard.store import RunFolder
from steelyard.verify.judge import Case

__all__ = ["DEFAULTS", "explain", "optimize", "words_of"]

DEFAULTS = ("accuracy drop <= 1%", "latency <= 1x")


def optimize(job: Job, progress: Progress = silent) -> RunRecords:
    """The whole way. Every step is on disk before the next begins; the same job on the same folder goes on where it stood."""
    started = time.monotonic()
    if job.ray is not None:
        load_ray()  # refused before anything is measured
    with RunFolder(job.out) as folder:
        known = _known(job, folder)
        if known is not None and known.outcome is not None and not _asks_more(job, known.run):
            write_report(job.out, known)
            return known
        begun = _begun(job, known, folder, progress)
        run, shop, baseline = begun.run, begun.shop, begun.baseline
        earlier = [t for t in known.trials if not _unreached(t)] if known else []
        deadline = time.monotonic() + run.budget_s - sum(t.wall_s for t in earlier)
        predict = predictor(baseline, run, job.limits.seconds)
        trials = explore(
            shop, folder, begun.space, begun.findings, predict, earlier, deadline, run.budget_s, progress, job.ray
        )
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


def explain(job: Job, progress: Progress = silent) -> tuple[RunRecords, tuple[Prediction, ...]]:
    """What would be tried, in order, and what is hopeless: the baseline is weighed and diagnosed, and nothing is built."""
    with RunFolder(job.out) as folder:
        known = _known(job, folder)
        begun = _begun(job, known, folder, progress)
        records = folder.records()
        assert records is not None
        predict = predictor(begun.baseline, begun.run, job.limits.seconds)
        named = trimmed([predict(plan) for plan in plans_for(begun.space)])
        goal = goal_of(records)
        search = OrderedSearch(named, records.trials, obtained=goal.obtained, predict=predict)
        lead = max([1.0, *(goal.gain_of(t) for t in goal.promising(records.trials))])
        return records, search.queue(lead)


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class _Begun:
    """What stands before the search begins."""

    run: Run
    shop: Workshop
    baseline: Measurement
    findings: tuple[Finding, ...]
    space: Space


def _known(job: Job, folder: RunFolder) -> RunRecords | None:
    known = folder.records()
    if known is not None:
        check_same(job, known.run, "optimize")
    return known


def _begun(job: Job, known: RunRecords | None, folder: RunFolder, progress: Progress) -> _Begun:
    prepared = prepare_subject(job.spec, job.out, progress, to_train=True)
    space = Space(prepared.baseline.engine, job.techniques, job.engines)
    _check_space(space)
    if known is None and (said := without_optuna()):
        prepared = dataclasses.replace(prepared, warnings=(*prepared.warnings, said))
    run = _resume(job, known.run, folder) if known else begin(job, prepared, folder, "optimize", progress)
    shop = _workshop(job, prepared, run)
    baseline = (known and known.baseline) or _before(shop, run, folder, progress)
    _check_read(baseline, run.minimise)
    findings = (known and known.findings) or _diagnose(baseline, run, space, folder, job.limits.seconds)
    return _Begun(run=run, shop=shop, baseline=baseline, findings=findings, space=space)


def words_of(minimise: str, techniques: Sequence[str], engines: Sequence[str]) -> tuple[str, ...]:
    """The words of the command that differ from its defaults. Raises `InvalidInput` for what cannot be minimised."""
    if minimise not in BEST:
        raise InvalidInput(f"--minimise takes {', '.join(BEST)}; got {minimise!r}")
    said = [] if minimise == "latency" else ["--minimise", minimise]
    said += ["--techniques", ",".join(techniques)] if techniques else []
    return (*said, *(["--engine", ",".join(engines)] if engines else []))


def _check_read(baseline: Measurement, minimise: str) -> None:
    found = ratio_of(Case(before=baseline, after=baseline), minimise) if minimise != "latency" else 1.0
    if found is None:
        raise InvalidInput(
            f"--minimise {minimise}: it was not read of the baseline (see `steelyard doctor`), so no plan can have less"
        )


def _check_space(space: Space) -> None:
    if not plans_for(space):
        raise InvalidInput(
            f"no plan starts from {space.engine} with --techniques {','.join(space.techniques) or 'any'} and --engine "
            f"{','.join(space.engines) or 'any'}: allow more of them"
        )


def _asks_more(job: Job, run: Run) -> bool:
    """Whether the words ask for what the run has not done: more time, or other techniques or engines."""
    return job.budget_s > run.budget_s or job.words != run.words


def _resume(job: Job, run: Run, folder: RunFolder) -> Run:
    """The run as it was begun; a longer budget is noted, and reaches the plans that the shorter one did not."""
    if not _asks_more(job, run):
        return run
    longer = dataclasses.replace(run, budget_s=max(job.budget_s, run.budget_s), words=job.words)
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
        shared=shared_folder(),
    )


def _before(shop: Workshop, run: Run, folder: RunFolder, progress: Progress) -> Measurement:
    measured = weigh_baseline(shop, run, progress)
    folder.append(measured)
    return measured


def _diagnose(baseline: Measurement, run: Run, space: Space, folder: RunFolder, limit_s: float) -> tuple[Finding, ...]:
    findings = foresee(baseline, run, plans_for(space), limit_s)
    folder.append(findings)
    return findings


def _decide(run: Run, trials: Sequence[Trial], verification: Verification | None, started: float) -> Outcome:
    """The finalist that meets every requirement at the least cost, or the baseline and the reason."""
    wall_s = time.monotonic() - started
    if verification is None:
        reason = _why_no_finalist(trials, run.requirements)
        return Outcome(status="nothing-passed", chosen=Plan(), reason=reason, wall_s=wall_s)
    passing = [
        (_verified_ratio(verification, arm, run.minimise), plan)
        for arm, (plan, row) in enumerate(zip(verification.plans, verification.verdicts, strict=True), 2)
        if all(v.outcome == "met" for v in row)
    ]
    if passing:
        ratio, chosen = min(passing, key=lambda pair: pair[0])
        if ratio >= 1 and _stands(verification, run.requirements, run.contract.labels):
            reason = f"it meets every requirement, and no candidate that does has less {run.minimise}"
            return Outcome(status="met", chosen=Plan(), reason=reason, wall_s=wall_s)
        reason = f"{BEST[run.minimise]} that meets every requirement"
        return Outcome(status="met", chosen=chosen, reason=reason, wall_s=wall_s)
    failing = [v for row in verification.verdicts for v in row if v.outcome != "met"]
    words = "; ".join(
        dict.fromkeys(f"{v.requirement.text}: {v.outcome}" + (f", {v.advice}" if v.advice else "") for v in failing)
    )
    return Outcome(status="nothing-passed", chosen=Plan(), reason=words, wall_s=wall_s)


def _verified_ratio(verification: Verification, arm: int, quantity: str) -> float:
    """What is minimised, the finalist's over the baseline's; infinite where it was not read of both."""
    measured = verification.measurements
    case = Case(before=measured[0], after=measured[arm - 1], comparison=verification.comparison, arm=arm)
    return ratio_of(case, quantity) or math.inf


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
