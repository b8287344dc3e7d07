"""Everything read from one artifact in one fresh process."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.measure.energy import Sustained, energy_readings, sustain
from steelyard.measure.process import Child, Limits
from steelyard.measure.turns import WORKER
from steelyard.metrics.classification import probabilities
from steelyard.probe.host import environment
from steelyard.probe.monitor import Monitor
from steelyard.records import Contract, Environment, Measurement, Predictions, Sample, Scalar, Unavailable
from steelyard.stats.changepoint import steady_from
from steelyard.store import read_calibration
from steelyard.subject.artifact import Artifact, found_while_built, model_files
from steelyard.subject.splits import read_split

__all__ = ["WeighSettings", "predict_split", "predictions", "read_parity", "weigh", "weigh_in"]

Reading = Sample | Unavailable

MOST_SCORES = 2_000_000  # probabilities kept with a record; beyond, those of the true class alone


@dataclass(frozen=True, slots=True, kw_only=True)
class WeighSettings:
    """What to read and for how long. Times in seconds."""

    warm_s: float = 0.4
    latency_s: float = 1.0
    sweep: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    sweep_s: float = 0.2
    operator_runs: int = 10
    split: str | None = None
    evaluate_batch: int = 64
    count: bool = True  # parameters and MACs
    health: bool = False  # what weights and units tell, of a baseline
    monitor_hz: float = 0.0  # how often the machine is looked at during the timed run; 0: never


def weigh(
    artifact: Artifact,
    inputs: Path,
    settings: WeighSettings,
    *,
    data: Path | None = None,
    host: Environment | None = None,
    limits: Limits | None = None,
    log: Path | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Measurement:
    """Load the artifact in a fresh process and read cost, and quality on `settings.split`; see `weigh_in`."""
    with Child(WORKER, limits=limits, log=log) as child:
        return weigh_in(child, artifact, inputs, settings, data=data, host=host, on_step=on_step)


def weigh_in(
    child: Child,
    artifact: Artifact,
    inputs: Path,
    settings: WeighSettings,
    *,
    data: Path | None = None,
    host: Environment | None = None,
    on_step: Callable[[str], None] | None = None,
) -> Measurement:
    """Weigh an artifact in a child that has loaded nothing yet, and leave it loaded.

    Raises `WorkerFailed` with the kind ``parity`` where the outputs are not those of the model it was saved from.
    """
    say = on_step or (lambda _: None)
    say("loading")
    readings: list[Reading] = list(_loading(child, artifact, inputs))
    _check_parity(child, artifact)
    say("timing")
    host = host or environment()
    warm = child.call("warm", batch=1, seconds=settings.warm_s)
    run, watched = _sustained(child, settings)
    readings += [*_timing(warm, run), *watched]
    runs = _profiled_runs(settings, run)
    readings += _operators(child, runs)
    if settings.count:
        say("counting")
        readings += _counts(child, runs)
        readings.append(_reading("repeatable", "fraction", [child.call("repeatable")]))
    if settings.health:
        readings += _told(child, ("health",), "health")
    calibration = read_calibration(host.machine)
    readings += energy_readings(run, host, calibration=calibration, counted=readings, plan=artifact.plan)
    if settings.sweep:
        say("throughput")
        readings += _sweep(child, settings)
    made: tuple[Predictions, ...] = ()
    if settings.split is not None and data is not None:
        say(f"quality on {settings.split}")
        made = (_evaluate(child, artifact.contract, data, settings.split, settings.evaluate_batch),)
    stored = sum(path.stat().st_size for path in model_files(artifact.folder))
    readings += [_reading("stored_bytes", "byte", [stored], provenance="counted"), *found_while_built(artifact.folder)]
    return Measurement(subject=artifact.fingerprint(), environment=host, readings=tuple(readings), predictions=made)


def predict_split(
    artifact: Artifact, inputs: Path, data: Path, split: str, *, limits: Limits | None = None, log: Path | None = None
) -> Predictions:
    """Per-example outcome on a whole split, by a fresh process."""
    with Child(WORKER, limits=limits, log=log) as child:
        child.call("load", folder=str(artifact.folder), inputs=str(inputs))
        return _evaluate(child, artifact.contract, data, split, WeighSettings().evaluate_batch)


def predictions(outputs: NDArray[Any], labels: NDArray[np.int32], contract: Contract, split: str) -> Predictions:
    """Per-example outcome from raw outputs ``(n, classes)``; ties go to the lower class, as in NumPy's argmax."""
    shares = probabilities(outputs, contract.outputs)
    return Predictions(
        split=split,
        labels=labels,
        predicted=np.argmax(outputs, axis=1).astype(np.int32),
        p_true=shares[np.arange(len(labels)), labels].astype(np.float32),
        classes=outputs.shape[1],
        scores=shares.astype(np.float32) if shares.size <= MOST_SCORES else None,
    )


def _loading(child: Child, artifact: Artifact, inputs: Path) -> Iterable[Reading]:
    units = {"load_s": "s", "first_prediction_s": "s"}
    values = child.call("load", folder=str(artifact.folder), inputs=str(inputs)) | child.call("first")
    return [_reading(name, units.get(name, "byte"), [value]) for name, value in values.items()]


def read_parity(path: Path) -> tuple[NDArray[Any], NDArray[Any], float]:
    """Example inputs, the outputs expected for them, and the tolerance; raises `InvalidInput` for a damaged file."""
    try:
        with np.load(path) as saved:
            return saved["inputs"], saved["outputs"], float(saved["tolerance"])
    except (OSError, EOFError, ValueError, KeyError, AttributeError, BadZipFile) as error:
        raise InvalidInput(f"cannot read {path}, the example inputs and outputs: {error}") from None


def _check_parity(child: Child, artifact: Artifact) -> None:
    """The saved artifact in a clean process against the in-memory model it was saved from (V8)."""
    path = artifact.folder / "parity.npz"
    if not path.exists():
        return
    inputs, expected, tolerance = read_parity(path)
    outputs = child.call("run", inputs=inputs)
    if outputs.shape != expected.shape:
        raise WorkerFailed(
            "parity",
            f"reloaded in a clean process, its outputs have shape {outputs.shape}; "
            f"the model it was saved from gave {expected.shape}",
        )
    difference = float(np.abs(outputs - expected).max())
    allowed = tolerance * max(float(expected.std()), 1e-6)
    if not difference <= allowed:  # NaN is no agreement
        raise WorkerFailed(
            "parity",
            f"reloaded in a clean process, its outputs differ by up to {difference:.2g} from the model it was saved from "
            f"(allowed {allowed:.2g})",
        )


def _sustained(child: Child, settings: WeighSettings) -> tuple[Sustained, Sequence[Reading]]:
    """The timed run, and what the machine did meanwhile."""
    if not settings.monitor_hz:
        return sustain(child, settings.latency_s), ()
    with Monitor(child.pid, rate_hz=settings.monitor_hz) as monitor:
        run = sustain(child, settings.latency_s)
    return run, monitor.series()


def _timing(warm: NDArray[np.float64], run: Sustained) -> Iterable[Reading]:
    times = np.concatenate([warm, run.times])
    steady = steady_from(times)
    note = "no steady state: the times still drift at the end" if steady is None else ""
    kept = times[len(warm) if steady is None else min(steady, len(times) // 2) :]
    yield Sample(quantity="latency_s", unit="s", values=kept, conditions={"batch": 1}, note=note)
    yield _reading("warmup_calls", "count", [len(times) - len(kept)])
    peak = run.peak_bytes
    yield (
        Unavailable(quantity="memory_running_bytes", reason=peak.reason)
        if isinstance(peak, Unavailable)
        else _reading("memory_running_bytes", "byte", [peak])
    )


def _profiled_runs(settings: WeighSettings, run: Sustained) -> int:
    """As many as were asked for; of a slow model those that take as long as its timed run, and one at the least."""
    fitting = int(settings.latency_s / float(np.median(run.times)))
    return max(1, min(settings.operator_runs, fitting))


def _operators(child: Child, runs: int) -> Iterable[Reading]:
    operators = child.call("operators", batch=1, runs=runs)
    for name, (seconds, calls) in sorted(operators.items(), key=lambda item: -item[1][0]):
        yield _reading("operator_s", "s", [seconds], {"operator": name})
        yield _reading("operator_calls", "count", [calls], {"operator": name})


def _counts(child: Child, runs: int) -> Iterable[Reading]:
    """Parameters and MACs."""
    return _told(child, ("parameters", "macs", "macs_coverage"), "count", runs=runs)


def _told(child: Child, names: Sequence[str], method: str, **arguments: Any) -> Iterable[Reading]:
    """What a child reads of its model; a model that cannot be looked into is no worse a model."""
    try:
        told: tuple[Reading, ...] = child.call(method, **arguments)
    except (WorkerFailed, InvalidInput) as failure:
        if isinstance(failure, WorkerFailed) and failure.kind != "error":
            raise
        return [Unavailable(quantity=name, reason=str(failure)) for name in names]
    return told


def _sweep(child: Child, settings: WeighSettings) -> Iterable[Reading]:
    for batch in settings.sweep:
        try:
            times = child.call("slot", batch=batch, seconds=settings.sweep_s)
        except WorkerFailed as failure:
            if failure.kind != "error":
                raise
            yield Unavailable(quantity="throughput_per_s", reason=str(failure), conditions={"batch": batch})
            continue
        yield _reading("throughput_per_s", "1/s", batch / times, {"batch": batch})


def _evaluate(child: Child, contract: Contract, data: Path, split: str, batch: int) -> Predictions:
    outputs = child.call("predict", folder=str(data), split=split, batch=batch)
    return predictions(outputs, read_split(data, split).labels, contract, split)


def _reading(
    quantity: str,
    unit: str,
    values: Any,
    conditions: Mapping[str, Scalar] | None = None,
    *,
    provenance: str = "measured",
) -> Sample:
    return Sample(
        quantity=quantity,
        unit=unit,
        values=np.asarray(values, dtype=np.float64),
        conditions=conditions or {},
        provenance=provenance,
    )
