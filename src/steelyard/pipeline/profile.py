"""`steelyard profile`: where the time of one inference goes, how far each layer is from the roof, and what could help."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from steelyard.diagnose.findings import diagnose
from steelyard.errors import InvalidInput, SteelyardError, WorkerFailed
from steelyard.measure.process import Child
from steelyard.measure.profile import PROFILER, Profile, data_rate
from steelyard.measure.trace import trace_events, write_trace
from steelyard.pipeline.begin import begin
from steelyard.pipeline.job import Job, Progress, silent
from steelyard.pipeline.prepare import Prepared, prepare_subject
from steelyard.pipeline.render import write_report
from steelyard.probe.peaks import measure_accelerator_peaks, measure_peaks
from steelyard.records import Measurement, Run, RunRecords, Sample, Unavailable
from steelyard.search.space import Space, plans_for
from steelyard.store import RunFolder
from steelyard.subject.artifact import write_manifest
from steelyard.subject.load import load_subject

__all__ = ["Profiling", "profile"]

DATA_BATCH = 32  # examples read at a time, at least
LARGER = 8  # times the batch: one more size tells what larger batches bring
PROFILE, THROUGHPUT, DATA = 0.75, 0.1, 0.15  # of the budget


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiling:
    """What `profile` is asked beside its job. The trace goes into the run folder unless a path is given."""

    batch: int = 1
    trace: Path | None = None
    device: str = "cpu"


def profile(job: Job, asked: Profiling, progress: Progress = silent) -> RunRecords:
    """Profile the model for about `job.budget_s` seconds. A profile of before in the same folder is replaced."""
    _check(asked)
    with RunFolder(job.out) as folder:
        _start_over(job, folder)
        prepared = _placed(prepare_subject(job.spec, job.out, progress, with_data=False), asked.device)
        data = _data(job, asked, progress)  # first: words that name no data cost no measuring
        peaks = measure_peaks if asked.device == "cpu" else partial(measure_accelerator_peaks, asked.device)
        run = begin(job, prepared, folder, "profile", progress, peaks)
        found, readings = _measured(job, asked, prepared, progress)
        measured = Measurement(
            subject=prepared.baseline.fingerprint(),
            environment=run.environment,
            readings=(*found.readings, *readings, data),
        )
        for record in (measured, found.profiled):
            folder.append(record)
        engine = prepared.baseline.engine
        folder.append(diagnose(measured, run.peaks, plans_for(Space(engine), longest=2), profiled=found.profiled))
        _write_trace(asked.trace or job.out / "trace.json", found, run)
        records = folder.records()
        assert records is not None
        progress("rendering the report", 1.0)
        write_report(job.out, records)
        return records


def _check(asked: Profiling) -> None:
    if asked.batch < 1:
        raise InvalidInput(f"a batch holds 1 example or more, got {asked.batch}")
    if asked.trace is not None and asked.trace.is_dir():
        raise InvalidInput(
            f"{asked.trace} is a folder: give --trace the name of a file, such as {asked.trace}/trace.json"
        )


def _placed(prepared: Prepared, device: str) -> Prepared:
    """The subject with its artifact put on a device; only PyTorch can be told to."""
    artifact = prepared.baseline
    if device == "cpu":
        return prepared
    if artifact.engine not in ("eager", "torch"):
        raise InvalidInput(
            f"--device {device} is for PyTorch models; {artifact.file} runs in {artifact.engine} on the processor"
        )
    moved = dataclasses.replace(artifact, options={**artifact.options, "device": device})
    write_manifest(moved)
    return dataclasses.replace(prepared, baseline=moved)


def _measured(
    job: Job, asked: Profiling, prepared: Prepared, progress: Progress
) -> tuple[Profile, tuple[Sample | Unavailable, ...]]:
    progress("profiling: layers and operators", 0.0)
    artifact = prepared.baseline
    with Child(PROFILER, limits=job.limits, log=job.out / "workers.log") as child:
        found: Profile = child.call(
            "profile",
            folder=str(artifact.folder),
            inputs=str(prepared.inputs),
            batch=asked.batch,
            seconds=PROFILE * job.budget_s,
        )
        progress("profiling: a larger batch", PROFILE)
        return found, (_larger(child, found.profiled.batch * LARGER, THROUGHPUT * job.budget_s),)


def _larger(child: Child, batch: int, seconds: float) -> Sample | Unavailable:
    """Throughput at a larger batch size; one that fails costs nothing else."""
    conditions = {"batch": batch}
    try:
        times = child.call("slot", batch=batch, seconds=seconds)
    except WorkerFailed as failure:
        reason = f"out of memory: {failure}" if failure.kind == "out-of-memory" else str(failure)
        return Unavailable(quantity="throughput_per_s", reason=reason, conditions=conditions)
    return Sample(quantity="throughput_per_s", unit="1/s", values=batch / times, conditions=conditions)


def _data(job: Job, asked: Profiling, progress: Progress) -> Sample | Unavailable:
    """How fast the subject's data comes, where it has any. Data that was named must be readable."""
    subject = load_subject(job.spec)
    if subject.data is None:
        return Unavailable(quantity="data_examples_per_s", reason="the subject has no data: give --data")
    progress("reading the data, to see how fast it comes", None)
    try:
        train = subject.splits().train
        return data_rate(train, subject.contract, max(asked.batch, DATA_BATCH), DATA * job.budget_s)
    except SteelyardError as error:
        if job.spec.data is not None:
            raise
        return Unavailable(quantity="data_examples_per_s", reason=str(error))


def _write_trace(path: Path, found: Profile, run: Run) -> None:
    about: dict[str, Any] = {
        "made by": f"steelyard {run.version} profile",
        "subject": run.spec.source,
        "engine": found.profiled.engine,
        "batch": found.profiled.batch,
        "machine": run.environment.cpu,
        "time": run.environment.time,
    }
    if found.profiled.engine == "openvino":
        about["note"] = "OpenVINO tells durations and no times of day: its nodes are laid end to end"
    write_trace(path, trace_events(found.spans, found.counts, f"steelyard profile {run.spec.source}"), about)


def _start_over(job: Job, folder: RunFolder) -> None:
    """A profile is quick to repeat: the one before gives way, but no other kind of run does."""
    known = folder.records()
    if known is not None and known.run.command != "profile":
        raise InvalidInput(f"{job.out} holds a run of {known.run.command}: give another --out, or remove the folder")
    folder.clear()
