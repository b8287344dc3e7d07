"""`steelyard benchmark`: what a model costs, with no data and nothing changed."""

from __future__ import annotations

from collections.abc import Sequence

from steelyard.diagnose.findings import diagnose
from steelyard.errors import InvalidInput
from steelyard.measure.weigh import WeighSettings, weigh
from steelyard.pipeline.begin import begin
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.pipeline.prepare import prepare_subject
from steelyard.pipeline.render import write_report
from steelyard.records import RunRecords
from steelyard.search.space import plans_for
from steelyard.store import RunFolder

__all__ = ["benchmark"]


def benchmark(job: Job, batches: Sequence[int], progress: Progress = silent) -> RunRecords:
    """Weigh the model for about `job.budget_s` seconds. A benchmark of before in the same folder is replaced."""
    with RunFolder(job.out) as folder:
        _start_over(job, folder)
        prepared = prepare_subject(job.spec, job.out, progress, with_data=False)
        run = begin(job, prepared, folder, "benchmark", progress)
        sweep_s = 0.4 * job.budget_s / len(batches)
        settings = WeighSettings(
            warm_s=0.1 * job.budget_s,
            latency_s=0.5 * job.budget_s,
            sweep=tuple(batches),
            sweep_s=sweep_s,
            operator_runs=20,
        )
        measured = weigh(
            prepared.baseline,
            prepared.inputs,
            settings,
            host=run.environment,
            limits=job.limits,
            log=job.out / "workers.log",
            on_step=lambda step: progress(f"measuring: {step}", None),
        )
        folder.append(measured)
        folder.append(diagnose(measured, run.peaks, plans_for(prepared.baseline.engine)))
        records = folder.records()
        assert records is not None
        write_report(job.out, records)
        return records


def _start_over(job: Job, folder: RunFolder) -> None:
    """A benchmark is quick to repeat: the one before gives way, but no other kind of run does."""
    known = folder.records()
    if known is not None and known.run.command != "benchmark":
        raise InvalidInput(f"{job.out} holds a run of {known.run.command}: give another --out, or remove the folder")
    folder.clear()
