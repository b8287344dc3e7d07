"""`steelyard benchmark`: what a model costs, with no data and nothing changed."""

from __future__ import annotations

import shutil
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
from steelyard.store import RunFolder, read_records

__all__ = ["benchmark"]


def benchmark(job: Job, batches: Sequence[int], progress: Progress = silent) -> RunRecords:
    """Weigh the model for about `job.budget_s` seconds. A benchmark of before in the same folder is replaced."""
    _clear(job)
    with RunFolder(job.out) as folder:
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


def _clear(job: Job) -> None:
    if not (job.out / "records.jsonl").exists():
        return
    if read_records(job.out).run.command != "benchmark":
        raise InvalidInput(f"{job.out} holds an optimize run: give another --out, or remove the folder")
    shutil.rmtree(job.out)
