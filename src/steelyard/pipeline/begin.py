"""The first record of a run: its words, its machine, its data."""

from __future__ import annotations

from collections.abc import Callable

from steelyard import __version__
from steelyard.metrics.table import find, quality
from steelyard.pipeline.job import Job, Progress
from steelyard.pipeline.prepare import Prepared
from steelyard.probe.carbon import grid, named_region
from steelyard.probe.host import environment
from steelyard.probe.peaks import measure_peaks
from steelyard.records import Run, Sample, Task, Unavailable
from steelyard.store import RunFolder

__all__ = ["begin"]


def begin(
    job: Job,
    prepared: Prepared,
    folder: RunFolder,
    command: str,
    progress: Progress,
    peaks: Callable[[], tuple[Sample | Unavailable, ...]] | None = None,
) -> Run:
    """Measure the ceilings, of this machine's processor unless `peaks` knows others, and write the run's first record."""
    _check_classes(job, prepared.baseline.contract.labels)
    region = named_region(job.region)
    progress("measuring this machine's ceilings", 0.0)
    run = Run(
        command=command,
        spec=job.spec,
        contract=prepared.baseline.contract,
        requirements=job.requirements,
        budget_s=job.budget_s,
        environment=environment(),
        peaks=(peaks or measure_peaks)(),
        splits=prepared.sizes,
        split_method=prepared.method,
        overlaps=prepared.overlaps,
        warnings=prepared.cautions,
        version=__version__,
        grid=() if region is None else grid(region),
        percentiles=job.percentiles,
        words=job.words,
        minimise=job.minimise,
    )
    folder.append(run)
    return run


def _check_classes(job: Job, labels: tuple[str, ...]) -> None:
    """Requirements that name a class are read before the classes are known; now they are."""
    task: Task = "binary" if len(labels) == 2 else "multiclass"
    for requirement in job.requirements:
        if labels and quality(requirement.quantity) is not None:
            find(requirement.quantity, task, labels)
