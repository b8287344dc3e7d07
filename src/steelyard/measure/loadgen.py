"""MLPerf's LoadGen drives a loaded model in its four scenarios, in this process (MLCommons; Reddi et al. 2020).

LoadGen draws the queries, times them on its own clock and judges its own rules; its summary stays in the run folder. Beside it
stand our own times of the same queries, from when LoadGen issued a query to its answer. The runs are short, so these are
readings in MLPerf's terms, not MLPerf results, which need ten minutes and more.
"""

from __future__ import annotations

import json
import queue
import re
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.records import Sample, Unavailable

__all__ = ["NO_LIMIT_S", "SCENARIOS", "Driven", "Name", "Scenario", "check_loadgen", "drive", "readings"]

Name = Literal["single-stream", "multi-stream", "server", "offline"]

SCENARIOS: Mapping[str, str] = {
    "single-stream": "SingleStream",
    "multi-stream": "MultiStream",
    "server": "Server",
    "offline": "Offline",
}
NO_LIMIT_S = 60.0  # for a server without a target
_LIBRARY = 64  # samples LoadGen may ask for; the model's inputs are repeated to so many
_RATES = ("result_completed_samples_per_sec", "result_qps_without_loadgen_overhead", "result_samples_per_second")
_LATENCY = re.compile(r"result_(?:(?P<word>min|max|mean)|(?P<share>[\d.]+)_percentile)_latency_ns")
_SHORTEST = 0.5  # of the expected time of a call; LoadGen draws its queries before it begins
_MOST_REASON = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One run of LoadGen. Times in seconds."""

    name: Name
    seconds: float
    callers: int = 1  # threads that answer queries
    batch: int = 1  # samples answered in one call, offline
    streams: int = 8  # samples a query, multi-stream
    rate_per_s: float = 1.0  # of arrivals (server), or expected (offline)
    call_s: float = (
        0.0  # expected of one call, so that LoadGen draws enough queries (single- and multi-stream); 0: unknown
    )
    limit_s: float = NO_LIMIT_S  # latency bound of the server scenario
    quantile: float | None = None  # that LoadGen rules by; else its own: 0.9 single-stream, 0.99 the others
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Driven:
    """What a run gave: LoadGen's own results, and our times of each call from its query's issue to its answer."""

    results: Mapping[str, Any]  # the keys of LoadGen's detail log that begin with "result_", times in ns
    latency_s: NDArray[np.float64]
    version: str


def check_loadgen() -> None:
    """Raise `MissingExtra` unless LoadGen is installed."""
    try:
        import mlperf_loadgen  # noqa: F401
    except ImportError:
        raise MissingExtra("load", needed_for="MLPerf scenarios") from None


def drive(call: Callable[[NDArray[np.int64]], None], scenario: Scenario, folder: Path) -> Driven:
    """Run a scenario against `call`, which takes the positions of the samples to infer. Logs go to `folder`.

    Raises what `call` raised, once LoadGen has ended; `MissingExtra` without LoadGen.
    """
    check_loadgen()
    import mlperf_loadgen as loadgen

    folder.mkdir(parents=True, exist_ok=True)
    answering = _Answering(call, loadgen, _size(scenario))
    sut = loadgen.ConstructSUT(answering.issue, _nothing)
    qsl = loadgen.ConstructQSL(_LIBRARY, _LIBRARY, _nothing_of, _nothing_of)
    threads = [threading.Thread(target=answering.work, daemon=True) for _ in range(scenario.callers)]
    for thread in threads:
        thread.start()
    try:
        loadgen.StartTestWithLogSettings(sut, qsl, _settings(loadgen, scenario), _logs(loadgen, folder))
    finally:
        answering.stop(len(threads))
        for thread in threads:
            thread.join()
        loadgen.DestroyQSL(qsl)
        loadgen.DestroySUT(sut)
    if answering.failed is not None:
        raise answering.failed
    results = read_log(folder / "mlperf_log_detail.txt")
    return Driven(
        results={k: v for k, v in results.items() if k.startswith("result_") or k == "early_stopping_result"},
        latency_s=np.array(answering.latency_s),
        version=str(results.get("loadgen_version", "unknown")).partition(" ")[0],
    )


class _Answering:
    """The queue between LoadGen's threads and ours."""

    def __init__(self, call: Callable[[NDArray[np.int64]], None], loadgen: Any, size: int) -> None:
        self._call, self._loadgen, self._size = call, loadgen, size
        self._waiting: queue.SimpleQueue[tuple[float, list[Any]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self.latency_s: list[float] = []
        self.failed: Exception | None = None

    def issue(self, samples: list[Any]) -> None:
        """LoadGen's call: queue the samples in pieces and return at once."""
        now = time.perf_counter()
        for start in range(0, len(samples), self._size):
            self._waiting.put((now, samples[start : start + self._size]))

    def work(self) -> None:
        while (taken := self._waiting.get()) is not None:
            issued, samples = taken
            self._infer(samples)
            now = time.perf_counter()
            with self._lock:
                self.latency_s.append(now - issued)
            self._loadgen.QuerySamplesComplete([self._loadgen.QuerySampleResponse(s.id, 0, 0) for s in samples])

    def _infer(self, samples: list[Any]) -> None:
        """After a failure answer without inferring: LoadGen waits for every answer."""
        if self.failed is not None:
            return
        try:
            self._call(np.array([s.index for s in samples], dtype=np.int64))
        except Exception as error:  # whatever the model raises is told when LoadGen has ended
            self.failed = error

    def stop(self, threads: int) -> None:
        for _ in range(threads):
            self._waiting.put(None)


def _size(scenario: Scenario) -> int:
    """Samples of a query that are answered in one call."""
    return {"multi-stream": scenario.streams, "offline": scenario.batch}.get(scenario.name, 1)


def _settings(loadgen: Any, scenario: Scenario) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, SCENARIOS[scenario.name])
    settings.mode = loadgen.TestMode.PerformanceOnly
    settings.min_duration_ms = max(1, round(scenario.seconds * 1000))
    settings.min_query_count = 1
    if scenario.quantile is not None:
        settings.single_stream_target_latency_percentile = scenario.quantile
        settings.multi_stream_target_latency_percentile = scenario.quantile
        settings.server_target_latency_percentile = scenario.quantile
    settings.multi_stream_samples_per_query = scenario.streams
    settings.server_target_qps = settings.offline_expected_qps = scenario.rate_per_s
    if scenario.call_s:
        settings.single_stream_expected_latency_ns = max(1, round(scenario.call_s * 1e9 * _SHORTEST))
        settings.multi_stream_expected_latency_ns = max(1, round(scenario.call_s * 1e9 * _SHORTEST))
    settings.server_target_latency_ns = round(scenario.limit_s * 1e9)
    settings.qsl_rng_seed = settings.sample_index_rng_seed = settings.schedule_rng_seed = scenario.seed
    return settings


def _logs(loadgen: Any, folder: Path) -> Any:
    output = loadgen.LogOutputSettings()
    output.outdir = str(folder)
    output.copy_summary_to_stdout = False
    logs = loadgen.LogSettings()
    logs.log_output = output
    logs.enable_trace = False
    return logs


def read_log(path: Path) -> dict[str, Any]:
    """Keys and values of LoadGen's detail log: one JSON object a line after ``:::MLLOG``. A later value replaces an earlier."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError as error:
        raise InvalidInput(f"cannot read LoadGen's log {path}: {error.strerror}") from None
    events = [json.loads(line.partition(" ")[2]) for line in lines if line.startswith(":::MLLOG {")]
    return {event["key"]: event["value"] for event in events}


def _nothing() -> None:
    """LoadGen's flush: no query is held back here."""


def _nothing_of(_samples: list[int]) -> None:
    """LoadGen's loading of samples: they are in memory already."""


# --- what it says ------------------------------------------------------------------------------------


def readings(scenario: Scenario, driven: Driven) -> tuple[Sample | Unavailable, ...]:
    """Our own latencies of a scenario, and LoadGen's percentiles, rate and ruling beside them."""
    which = {"scenario": scenario.name}
    said = f"MLPerf LoadGen {driven.version}, {ruling(driven.results)}"
    own = Sample(quantity="scenario_latency_s", unit="s", values=driven.latency_s, conditions=which, note=said)
    valid = float(driven.results.get("result_validity") == "VALID")
    rate = _rate(scenario, driven.results)
    per_s = (
        Unavailable(quantity="scenario_per_s", reason="LoadGen gave no rate", conditions=which)
        if rate is None
        else _one("scenario_per_s", "1/s", rate, which, said)
    )
    return (own, _one("scenario_valid", "", valid, which, said), per_s, *_statistics(driven.results, which))


def ruling(results: Mapping[str, Any]) -> str:
    """LoadGen's ruling with its reasons.

    >>> ruling({"result_validity": "INVALID", "result_invalid_reason": "too few queries"})
    'INVALID: too few queries'
    """
    word = str(results.get("result_validity", "without a ruling"))
    reasons = (results.get("result_invalid_reason"), results.get("early_stopping_result"))
    why = " ".join(" ".join(str(reason).replace("*", "").split()) for reason in reasons if reason)
    return f"{word}: {why[:_MOST_REASON]}" if why and word != "VALID" else word


def _rate(scenario: Scenario, results: Mapping[str, Any]) -> float | None:
    """Samples a second. A multi-stream run has no rate of LoadGen's: its queries follow each other, so it is samples by time."""
    if scenario.name == "multi-stream" and results.get("result_mean_latency_ns"):
        return scenario.streams * 1e9 / float(results["result_mean_latency_ns"])
    return next((float(results[key]) for key in _RATES if key in results), None)


def _statistics(results: Mapping[str, Any], which: Mapping[str, Any]) -> list[Sample]:
    """LoadGen's own statistics of latency: mean, min, max and its percentiles."""
    found = [(match, value) for key, value in results.items() if (match := _LATENCY.fullmatch(key))]
    return [
        _one("loadgen_latency_s", "s", float(value) / 1e9, {**which, "statistic": _statistic(match)}, "")
        for match, value in found
    ]


def _statistic(match: re.Match[str]) -> str:
    """LoadGen's key in our words.

    >>> _statistic(_LATENCY.fullmatch("result_99.90_percentile_latency_ns"))
    'p99.9'
    """
    return match["word"] or f"p{float(match['share']):g}"


def _one(quantity: str, unit: str, value: float, which: Mapping[str, Any], note: str) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=np.array([value]), conditions=dict(which), note=note)
