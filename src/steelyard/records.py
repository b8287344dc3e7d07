"""The frozen types that flow through Steelyard, and their versioned JSON form.

Raw readings are stored and statistics are derived from them, so an old run can be rendered and judged
again. Units stand in the quantity's name (``latency_s``, ``energy_j``, ``stored_bytes``). A reading that
could not be taken is an :class:`Unavailable` with its reason, never a zero.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import types
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, SchemaTooNew

__all__ = [
    "SCHEMA",
    "Box",
    "Ceiling",
    "CellChange",
    "Compared",
    "Comparison",
    "Contract",
    "ControlReading",
    "Corrupted",
    "Curve",
    "Difference",
    "EnergyCalibration",
    "Environment",
    "Estimate",
    "Evaluated",
    "Evaluation",
    "Finding",
    "Gap",
    "Gate",
    "GateReport",
    "GateSide",
    "GateStage",
    "GridFactor",
    "LayerTime",
    "Measurement",
    "MetricInfo",
    "Objective",
    "Outcome",
    "Overlap",
    "Plan",
    "Prediction",
    "Predictions",
    "Profiled",
    "Refusal",
    "Requirement",
    "Run",
    "RunRecords",
    "Sample",
    "SavedBaseline",
    "Shown",
    "SliceScore",
    "Step",
    "SubjectSpec",
    "Suite",
    "SuiteCell",
    "SuiteChange",
    "Task",
    "Temperature",
    "Threshold",
    "Trial",
    "Unavailable",
    "Verdict",
    "Verification",
    "decode",
    "encode",
]

SCHEMA = 2

Floats = NDArray[np.float64]
Scalar = str | float | int | bool | None
Task = Literal[
    "binary", "multiclass", "multilabel", "regression", "ranking",
    "detection", "segmentation", "translation", "summary", "answers", "speech", "language",
]  # fmt: skip


# --- what is studied -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectSpec:
    """The user's words for a subject: enough for a fresh process to build the same one again."""

    source: str  # "file.py:function", "torchvision:NAME", or a path to .onnx, .xml or .pt2
    data: str | None = None
    weights: str | None = None
    seed: int = 0
    options: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contract:
    """What the model takes and gives, declared once.

    A raw example ``r`` becomes the input ``(r * scale - mean) / std``, with ``mean`` and ``std`` per
    channel (the axis that ``layout`` calls ``C``) or one value for all.
    """

    shape: tuple[int, ...]  # one example as the model takes it, without the batch axis
    layout: str = "CHW"  # one letter per axis of `shape`; "F" is a plain feature axis
    dtype: str = "float32"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    resize: Literal["crop", "stretch"] = "crop"  # how a picture of another size is fitted to `shape`
    outputs: Literal["logits", "probabilities"] = "logits"
    labels: tuple[str, ...] = ()  # class names, in the order of the output columns
    task: Literal["classification"] = "classification"


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Examples of one split that also stand in another: byte for byte, or nearly."""

    split: str
    other: str
    count: int
    examples: tuple[int, ...] = ()  # positions in `split`, the first few
    kind: Literal["exact", "near"] = "exact"
    pairs: tuple[tuple[int, int], ...] = ()  # (position in `split`, position in `other`), the first few
    method: str = ""  # how near ones were told


# --- what was read ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """Where a number was taken. Records from machines whose `machine` differs are not comparable."""

    machine: str  # fingerprint of processor, core count, memory and accelerator
    cpu: str
    cores: int
    memory_bytes: int
    instruction_sets: tuple[str, ...]
    accelerators: tuple[str, ...]
    platform: str
    python: str
    packages: Mapping[str, str]
    time: str  # ISO 8601, UTC


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One quantity and its raw readings.

    ``values`` has one entry per reading (iteration, block or Monte Carlo draw); ``blocks``, where present,
    has the same length and names the process or round that each reading came from.
    """

    quantity: str
    unit: str
    values: Floats
    blocks: NDArray[np.int32] | None = None
    conditions: Mapping[str, Scalar] = field(default_factory=dict)  # {"batch": 8}, {"operator": "conv"}
    provenance: str = "measured"  # measured | counted | calibrated | modelled
    note: str = ""
    times_s: Floats | None = None  # of a series: seconds since its run began, one for each value

    @property
    def value(self) -> float:
        """The median reading."""
        return float(np.median(self.values))


@dataclass(frozen=True, slots=True, kw_only=True)
class Unavailable:
    """A quantity that could not be read, and why."""

    quantity: str
    reason: str
    conditions: Mapping[str, Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Predictions:
    """Raw per-example outcome of one model on one split, in the split's order.

    ``labels`` and ``predicted`` are class indices; ``p_true`` is the probability given to the true class. ``scores``
    ``(n, classes)`` holds all probabilities, or None where they were too many to keep.
    """

    split: str
    labels: NDArray[np.int32]
    predicted: NDArray[np.int32]
    p_true: NDArray[np.float32]
    classes: int
    scores: NDArray[np.float32] | None = None

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Whether each example was predicted right."""
        return np.equal(self.labels, self.predicted)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """Everything read from one model on one machine."""

    subject: str  # fingerprint of the weights or file
    environment: Environment
    readings: tuple[Sample | Unavailable, ...]
    predictions: tuple[Predictions, ...] = ()

    def get(self, quantity: str, **conditions: Scalar) -> Sample | Unavailable:
        """The reading of `quantity` under exactly these conditions, or an `Unavailable` saying it was not taken."""
        for reading in self.readings:
            if reading.quantity == quantity and dict(reading.conditions) == conditions:
                return reading
        return Unavailable(quantity=quantity, reason="not measured in this run", conditions=conditions)

    def all(self, quantity: str) -> tuple[Sample, ...]:
        """Every available reading of `quantity`, whatever its conditions."""
        return tuple(r for r in self.readings if isinstance(r, Sample) and r.quantity == quantity)

    def on(self, split: str) -> Predictions | None:
        """Predictions on `split`, if they were made."""
        return next((p for p in self.predictions if p.split == split), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A point with its interval; derived from a Sample, never stored in its place."""

    quantity: str
    unit: str
    value: float
    low: float
    high: float
    level: float  # two-sided confidence, such as 0.95
    method: str
    n: int


# --- what was concluded ----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One pass and its options, hashable: ``Step(name="quantize_static", options=(("per_channel", True),))``."""

    name: str
    options: tuple[tuple[str, Scalar], ...] = ()

    def __str__(self) -> str:
        shown = ", ".join(f"{k}={v}" for k, v in self.options)
        return f"{self.name}({shown})" if shown else self.name


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A chain of passes applied in order; the empty plan is the baseline."""

    steps: tuple[Step, ...] = ()

    def __str__(self) -> str:
        return " > ".join(map(str, self.steps)) or "baseline"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prediction:
    """What the diagnosis expects of a plan: baseline latency divided by the candidate's."""

    plan: Plan
    gain: float
    ceiling: float
    minutes: float  # expected time to build and weigh it
    because: str
    hopeless: bool = False  # "will not help here": skipped, with `because` as the reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """What one technique can give here, by Amdahl's law over the layers that it touches. Gains are time now / time then."""

    technique: str  # "INT8 quantisation", "fusing element-wise operators", ...
    share: float  # of an inference's time, 0 to 1, that goes to the layers it touches
    gain: float  # where those layers keep their present distance from the roof
    ceiling: float  # where they reach it: more is not to be had
    helps: bool
    because: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A claim about what holds the model back and the numbers behind it."""

    name: str  # "dispatch-bound", "compute-bound", "memory-bound", "under-utilised"
    claim: str
    evidence: Mapping[str, float]
    predictions: tuple[Prediction, ...] = ()
    ceilings: tuple[Ceiling, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What must hold. ``limit`` is in the quantity's base unit (s, byte, J, fraction)."""

    quantity: str  # "accuracy", "latency", "p99", "size", ...
    kind: Literal["max_drop", "max_ratio", "min_ratio", "max", "min"]
    limit: float
    text: str  # as the user wrote it


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A requirement, its interval and one of three outcomes (four with ``unavailable``).

    ``estimate.level`` is the level after Holm, so interval and outcome always agree.
    """

    requirement: Requirement
    outcome: Literal["met", "broken", "undecided", "unavailable"]
    estimate: Estimate | None
    p_value: float | None = None  # of the claim "the requirement does not hold", before Holm
    advice: str = ""  # what would decide it: "needs about 1,000 more test examples"


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a candidate was not measured."""

    kind: str  # cannot-apply | missing-extra | crash | timeout | out-of-memory | parity | error | skipped | budget
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """Raw times of several arms that took turns.

    ``seconds[r, s, a]`` is the median time of one inference of arm ``a`` in slot ``s`` of round ``r``; each
    round is a set of fresh processes. ``order[r, s, a]`` is the arm's place in the slot. Arm 0 is the
    baseline; the arm called ``control`` is a second copy of it (the A/A control).
    """

    arms: tuple[str, ...]
    batch: int
    seconds: Floats  # (rounds, slots, arms)
    order: NDArray[np.int32]  # (rounds, slots, arms)
    flags: tuple[str, ...] = ()  # rounds flagged for steal, throttling or the like; nothing is removed
    ended_s: Floats | None = None  # (rounds,): seconds of measuring after which each round ended
    readings: tuple[tuple[Sample | Unavailable, ...], ...] = ()  # by arm: peak memory a round, processor time a run

    def with_more(self, later: Comparison) -> Comparison:
        """These rounds and later ones of the same comparison.

        Raises `InvalidInput` where they are not of the same arms and slots.
        """
        if later.arms != self.arms or later.seconds.shape[1:] != self.seconds.shape[1:]:
            raise InvalidInput("the rounds are not of one comparison: their arms or slots differ; give another --out")
        rows = zip(self.readings, later.readings, strict=True)
        return Comparison(
            arms=self.arms,
            batch=self.batch,
            seconds=np.concatenate([self.seconds, later.seconds]),
            order=np.concatenate([self.order, later.order]),
            flags=self.flags + later.flags,
            ended_s=None if self.ended_s is None or later.ended_s is None else np.append(self.ended_s, later.ended_s),
            readings=tuple(tuple(map(_chained, earlier, more)) for earlier, more in rows),
        )


def _chained(earlier: Sample | Unavailable, later: Sample | Unavailable) -> Sample | Unavailable:
    """One quantity over more rounds; what was once not read is not read."""
    if isinstance(earlier, Unavailable) or isinstance(later, Unavailable):
        return earlier if isinstance(earlier, Unavailable) else later
    both = None if earlier.blocks is None or later.blocks is None else np.append(earlier.blocks, later.blocks)
    return dataclasses.replace(earlier, values=np.append(earlier.values, later.values), blocks=both)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One candidate: weighed, or refused with its reason. One JSON line, appended at once."""

    plan: Plan
    artifact: str | None = None  # folder, relative to the run folder
    after: Measurement | None = None  # quality on the validation split and cost
    comparison: Comparison | None = None  # quick latency against the baseline, taking turns
    refusal: Refusal | None = None
    prediction: Prediction | None = None
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """Finalists against the baseline on the untouched test split."""

    plans: tuple[Plan, ...]
    comparison: Comparison  # arms: baseline, control, then the plans in order
    measurements: tuple[Measurement, ...]  # baseline, then the plans; predictions on "test"
    verdicts: tuple[tuple[Verdict, ...], ...]  # one row per plan, one verdict per requirement
    control: Estimate  # ratio of the A/A control
    control_alarm: bool  # the control "found" a difference: intervals of times were widened by as much
    confirmed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GridFactor:
    """What a kilowatt-hour emits somewhere, over a year: grams of CO2 equivalent, with a 5 to 95 % range and its source."""

    region: str  # as the user writes it: "FR", "us-east-1"
    name: str  # in words: "France", "N. Virginia (AWS)"
    g_per_kwh: float
    low: float
    high: float
    year: int
    source: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EnergyCalibration:
    """Loads that were run on one machine beside its energy counter, from which a model of its power is fitted.

    Row i of ``rates`` ``(n, columns)`` says what ran while ``watts[i]`` were drawn; ``kinds[i]`` is the kind of load.
    """

    machine: str  # fingerprint, as in Environment
    cpu: str
    source: str  # the counter that was read
    columns: tuple[str, ...]  # "busy_cores", "moved_bytes_per_s", "fp32_macs_per_s", ...
    rates: Floats
    watts: Floats  # of the idle machine and of each load
    kinds: tuple[str, ...]
    seconds: Floats  # how long each was read for
    time: str  # ISO 8601, UTC
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayerTime:
    """One kind of operator in one layer (module or node): its time in each profiled inference, and what it was asked for.

    MACs and bytes are of one inference of the whole batch; what the engine fused into this layer is counted here.
    """

    layer: str  # "" for operators outside any named layer
    operator: str  # one name for all spellings, as in `steelyard.counts.macs.canonical`
    names: tuple[str, ...]  # what the engine calls it
    seconds: Floats  # (runs,)
    calls: float  # per inference
    macs: int = 0
    moved_bytes: int = 0
    weight_bytes: int = 0  # the part of `moved_bytes` that is the same for any batch
    state: Literal["counted", "zero", "unknown"] = "zero"
    dtype: str = ""  # fp32, bf16, fp16, fp64 or int8
    kernel: str = ""  # the engine's kernel, where it names it


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Profiled:
    """Where the time of one inference goes, by the engine's own profiler; unprofiled inferences took turns with it."""

    engine: str
    device: str  # "cpu" or an accelerator's name for PyTorch
    batch: int
    layers: tuple[LayerTime, ...]  # in the order they first ran
    profiled_s: Floats  # (runs,) whole inferences under the profiler
    plain_s: Floats  # (runs,) whole inferences without it
    blocks: NDArray[np.int32] | None = None  # (runs,): the turn that each run was taken in
    plain_blocks: NDArray[np.int32] | None = None
    unknown: tuple[tuple[str, int], ...] = ()  # operators that could not be counted: calls of each
    second_counter: str = ""  # who counted again
    opinions: tuple[tuple[str, int, int], ...] = ()  # operator, MACs counted here, MACs by the second counter
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How the run ended."""

    status: Literal["met", "nothing-passed"]
    chosen: Plan
    reason: str
    wall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The first record of a run: its words and what they became."""

    command: str  # optimize | benchmark | verify
    spec: SubjectSpec
    contract: Contract
    requirements: tuple[Requirement, ...]
    budget_s: float
    environment: Environment
    peaks: tuple[Sample | Unavailable, ...] = ()  # this machine's ceilings, see steelyard.probe.peaks
    splits: Mapping[str, int] = field(default_factory=dict)  # {"train": 1077, ...}
    split_method: str = ""
    overlaps: tuple[Overlap, ...] = ()
    warnings: tuple[str, ...] = ()
    version: str = ""
    grid: tuple[GridFactor, ...] = ()  # of the region the user named, first, then of others to compare it with
    percentiles: tuple[float, ...] = ()  # of latency, in per cent, that the user asked for; none: 50, 90, 99
    words: tuple[str, ...] = ()  # further words of the command that repeats the run


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecords:
    """A run folder's records, grouped: all that a report needs."""

    run: Run
    baseline: Measurement | None = None
    findings: tuple[Finding, ...] = ()
    trials: tuple[Trial, ...] = ()
    verification: Verification | None = None
    outcome: Outcome | None = None
    test_uses: int = 0  # how often finalists were judged on the test split in this folder
    profiled: Profiled | None = None


# --- what an evaluation found --------------------------------------------------------------------------
# Saved predictions stay in the user's file, known here by its digest; what is kept of them is what the report draws:
# metrics with intervals, counts, and curves of some hundred points.


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """What a reader must know about a metric: its words, range and direction."""

    name: str
    title: str
    unit: str
    low: float  # the smallest possible value
    high: float  # the largest
    higher_is_better: bool
    leads: bool = False  # the objective's primary metric


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Points of a line and, where known, its pointwise band.

    ``roc``: x false-positive rate, y true-positive rate. ``pr``: x recall, y precision. ``reliability``: x mean
    confidence of a bin, y share that is right, ``count`` examples in the bin.
    """

    kind: Literal["roc", "pr", "reliability"]
    of: str  # the class it is about, "" where there is but one
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    count: Floats | None = None
    note: str = ""  # what the band is


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceScore:
    """One scenario: the leading metric inside it, outside it, and whether the gap is real."""

    conditions: tuple[tuple[str, str], ...]  # (("region", "north"), ("age", "30 to 40")): column and value
    n: int
    score: Estimate | Unavailable
    rest: Estimate | Unavailable  # the same metric on all other examples
    gap: Estimate | None = None  # how much worse than the rest; positive is worse
    p_value: float | None = None
    adjusted: float | None = None  # after Holm over all slices looked at
    verdict: Literal["worse", "better", "undecided", "too few"] = "undecided"
    discovered: bool = False  # found by looking, not named by the user


@dataclass(frozen=True, slots=True, kw_only=True)
class Corrupted:
    """The leading metric under one corruption at one severity; severity 0 is the clean data."""

    name: str
    severity: int
    score: Estimate | Unavailable


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """One example shown to the reader: a mistake, or a prediction explained. Pictures are base64 PNG."""

    place: str  # row or key
    true: str
    predicted: str
    confidence: float
    picture: str = ""
    text: str = ""
    heat: str = ""  # the picture with the attribution over it
    weights: tuple[float, ...] = ()  # one for each character of `text`, or each feature
    features: tuple[str, ...] = ()  # names for `weights` where there is no text
    method: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """Quantiles of one group's values, for a box plot: least, 5 %, 25 %, 50 %, 75 %, 95 %, most."""

    quantity: str  # "loss", "confidence", "absolute error"
    group: str
    quantiles: tuple[float, ...]
    n: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """How much better a metric is on a split that the model has seen: positive is a sign of over-fitting."""

    metric: str
    seen: str  # the split it was trained on
    unseen: str
    on_seen: Estimate | Unavailable
    on_unseen: Estimate | Unavailable
    gap: Estimate | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A decision threshold chosen for a target on one set of examples and judged on another."""

    value: float
    target: str  # "recall >= 0.95", "costs fp=1 fn=10", "default"
    chosen_on: str  # the file or split
    n: int
    reached: Estimate | Unavailable | None = None  # the target's metric on the examples that chose it


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """A temperature fitted on one set of examples; scores are those of the examples judged."""

    value: float
    fitted_on: str
    n: int
    before: tuple[Estimate | Unavailable, ...]  # ece, brier, log_loss as they came
    after: tuple[Estimate | Unavailable, ...]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Evaluated:
    """All that was found about one model on one set of examples."""

    name: str
    source: str
    digest: str  # SHA-256 of the file, or the fingerprint of the model
    n: int
    split: str = ""  # where the examples come from a subject
    scores: tuple[Estimate | Unavailable, ...] = ()  # the leading metric first
    per_class: tuple[tuple[str, tuple[Estimate | Unavailable, ...]], ...] = ()  # (class, precision, recall, f1 ...)
    confusion: NDArray[np.int64] | None = None  # (true, predicted)
    curves: tuple[Curve, ...] = ()
    boxes: tuple[Box, ...] = ()
    slices: tuple[SliceScore, ...] = ()
    corrupted: tuple[Corrupted, ...] = ()
    mistakes: tuple[Shown, ...] = ()
    explained: tuple[Shown, ...] = ()
    gaps: tuple[Gap, ...] = ()
    threshold: Threshold | None = None
    temperature: Temperature | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """A metric of the second model against the first on the same examples; a positive drop is worse."""

    metric: str
    first: str  # name of the model compared with
    second: str
    drop: Estimate | Unavailable
    conditions: tuple[tuple[str, str], ...] = ()  # the slice; empty for all examples
    n: int = 0
    p_value: float | None = None  # of "no difference", two-sided, read off the interval
    adjusted: float | None = None  # after Holm over the metrics that are judged and the slices
    outcome: Literal["better", "worse", "equivalent", "undecided", "undefined"] = "undecided"
    tests: tuple[tuple[str, float], ...] = ()  # further p-values: McNemar exact and mid-p
    advice: str = ""  # "needs about 1,000 examples to resolve this gap"


@dataclass(frozen=True, slots=True, kw_only=True)
class Objective:
    """Which metric leads, and why."""

    name: str
    leads: str
    why: str
    others: tuple[str, ...] = ()  # metrics shown beside it


@dataclass(frozen=True, slots=True, kw_only=True)
class Gate:
    """A limit that fails the command when it is not kept (exit status 1)."""

    text: str
    model: str
    estimate: Estimate | Unavailable
    outcome: Literal["met", "broken", "undecided", "undefined"]
    passed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """The record of `steelyard evaluate`."""

    command: tuple[str, ...]  # the words that repeat it
    task: Task
    classes: tuple[str, ...]  # positive last where there are two
    metrics: tuple[MetricInfo, ...]
    models: tuple[Evaluated, ...]
    objective: Objective
    level: float = 0.95
    positive: str = ""  # the positive class of a binary task
    differences: tuple[Difference, ...] = ()
    gates: tuple[Gate, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    examples: str = ""  # fingerprint of the labels that were judged on
    test_uses: int = 0  # how often they were judged on in this folder, this time included
    warnings: tuple[str, ...] = ()
    environment: Environment | None = None
    time: str = ""  # ISO 8601, UTC
    version: str = ""


# --- what a gate said, and a suite read -----------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SavedBaseline:
    """What a gate must know of a model later: readings, one block a process, and predictions; small enough for a repository."""

    name: str
    source: str  # the user's words for the model
    plan: Plan
    measured: Measurement
    labels: tuple[str, ...] = ()
    time: str = ""  # ISO 8601, UTC
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class GateSide:
    """One of the two that a gate compares."""

    name: str  # the path that the user gave
    kind: Literal["run", "deployed", "file"]
    plan: Plan
    subject: str  # fingerprint of the weights or file
    environment: Environment | None = None  # of its stored readings


@dataclass(frozen=True, slots=True, kw_only=True)
class GateStage:
    """One measurement of both sides, and the verdicts that it alone supports."""

    before: Measurement
    after: Measurement
    verdicts: tuple[Verdict, ...]
    comparison: Comparison | None = None  # arms: baseline, control, candidate; None: readings that never ran together
    control: Estimate | None = None  # ratio of the A/A control
    control_alarm: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """The record of `steelyard gate`. A time or another noisy cost is broken only where a second stage says so too."""

    baseline: GateSide
    candidate: GateSide
    how: Literal["turns", "stored"]  # measured afresh taking turns | readings that never ran together
    stages: tuple[GateStage, ...]
    verdicts: tuple[Verdict, ...]  # one a requirement, over all stages
    undecided: Literal["pass", "fail"] = "pass"
    noise_floor: float = 0.0  # in log-ratio: no limit on a ratio of times is set closer to 1 than this
    unlike: str = ""  # how the two machines differ, where the user allowed that
    notes: tuple[str, ...] = ()
    command: tuple[str, ...] = ()  # the words that repeat it
    environment: Environment | None = None
    wall_s: float = 0.0
    time: str = ""  # ISO 8601, UTC
    version: str = ""

    def passes(self, verdict: Verdict) -> bool:
        """Whether the gate lets this outcome through; what could not be judged never is."""
        return verdict.outcome == "met" or (verdict.outcome == "undecided" and self.undecided == "pass")

    @property
    def passed(self) -> bool:
        """Whether every requirement was let through."""
        return all(map(self.passes, self.verdicts))


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """The first record of a suite's folder: what was asked, and of which machine."""

    name: str
    cells: tuple[str, ...]  # keys of all cells, in order
    definition: str  # JSON of the suite as it was read
    environment: Environment
    time: str = ""  # ISO 8601, UTC
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteCell:
    """One model on one data set by one engine at one batch size: read, or refused with its reason."""

    key: str  # "model/data/engine/batch-1"
    model: str
    data: str  # "" for cost alone
    engine: str
    batch: int
    folder: str  # run folder, relative to the suite's
    measured: Measurement | None = None  # `latency_s` at this batch has one block a process; predictions on "test"
    labels: tuple[str, ...] = ()
    refusal: Refusal | None = None
    flags: tuple[str, ...] = ()  # rounds flagged for steal, throttling or the like; nothing is removed
    wall_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CellChange:
    """One quantity of one cell: the second reading against the first, or why it cannot be compared."""

    key: str
    quantity: Literal["latency", "accuracy"]
    found: Estimate | Unavailable
    outcome: Literal["faster", "slower", "better", "worse", "equivalent", "undecided"] | None = None
    p_value: float | None = None
    adjusted: float | None = None  # after Holm over all cells and quantities of the comparison


@dataclass(frozen=True, slots=True, kw_only=True)
class SuiteChange:
    """The second suite against the first."""

    first: str
    second: str
    changes: tuple[CellChange, ...]
    mean: Estimate | None  # geometric mean of the latency ratios
    unlike: str = ""  # how the machines differ, where the user allowed that
    notes: tuple[str, ...] = ()


# --- what a comparison found -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The record of `steelyard compare`: its words first, each round as a `Comparison` of one, and this again at the end.

    `steelyard.store.read_compared` puts the rounds into ``comparison``, whose arms are ``first``, ``second`` and
    ``control``; the first is the baseline, and a ratio under 1 means that the second is faster.
    """

    kind: Literal["models", "callables", "commands"]
    names: tuple[str, str]  # short, for people
    sources: tuple[str, str]  # as the user gave them
    digests: tuple[str, str]  # of the files behind them, so that a resumed run measures the same things
    command: tuple[str, ...]  # the words that repeat it
    band: float  # 0.02: ratios within 1 / 1.02 to 1.02 are equivalent
    level: float  # of the whole answer
    time_level: float  # of the time's interval: Holm over the time and the metrics, known before the first round
    batch: int
    slots: int  # turns of each arm in a round
    slot_s: float
    warm_s: float
    environment: Environment
    round_s: float  # what a round takes, by a rehearsal that is not recorded
    detectable: float | None = None  # the least difference the budget would find nine times in ten; None: none at all
    detectable_from: str = ""  # what that was told from
    data: str | None = None
    examples: int = 0
    options: Mapping[str, Scalar] = field(default_factory=dict)
    qualities: tuple[tuple[Estimate | Unavailable, Estimate | Unavailable], ...] = ()  # of both, one pair a metric
    differences: tuple[Difference, ...] = ()  # the same metrics, paired
    comparison: Comparison | None = None
    outcome: Literal["faster", "slower", "equivalent", "undecided"] = "undecided"
    ratio: Estimate | None = None  # second over first: the confidence sequence at its last look, widened if need be
    control: Estimate | None = None  # first over itself
    control_alarm: bool = False
    noise_floor: float | None = None  # what this machine "finds" between a model and itself
    advice: str = ""  # what would decide it
    warnings: tuple[str, ...] = ()
    wall_s: float = 0.0  # of the measuring, over all sittings
    time: str = ""  # ISO 8601, UTC
    version: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ControlReading:
    """What one A/A control found on a machine: kept beside the runs, for the machine's noise floor."""

    machine: str
    kind: str
    log_ratio: float
    spread: float  # standard deviation of the second's rounds, in logs
    rounds: int
    slots: int
    time: str


# --- JSON ------------------------------------------------------------------------------------------

_TYPES: dict[str, type] = {
    cls.__name__: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and dataclasses.is_dataclass(cls) and cls.__module__ == __name__
}


def encode(record: object) -> str:
    """One line of JSON for a record, with the schema's version.

    >>> encode(Step(name="bf16"))
    '{"schema":2,"record":{"type":"Step","name":"bf16","options":[]}}'
    """
    return json.dumps({"schema": SCHEMA, "record": _plain(record)}, separators=(",", ":"), allow_nan=True)


def decode(line: str) -> Any:
    """The record in one line of JSON.

    Raises `SchemaTooNew` for a newer schema and `InvalidInput` for anything that is not a record.

    >>> decode(encode(Step(name="bf16")))
    Step(name='bf16', options=())
    """
    try:
        document = json.loads(line)
        schema, body = document["schema"], document["record"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidInput(f"not a Steelyard record: {line[:60]!r} ({error})") from None
    if not isinstance(schema, int) or schema > SCHEMA:
        raise SchemaTooNew(
            f"records have schema {schema}, this Steelyard reads up to {SCHEMA}: upgrade it (pip install -U steelyard)"
        )
    try:
        return _live(body, Any)
    except (KeyError, TypeError, ValueError, zlib.error, RecursionError) as error:
        raise InvalidInput(f"damaged record: {error}") from None


def _plain(value: object) -> object:
    if isinstance(value, np.ndarray):
        packed = base64.b64encode(zlib.compress(np.ascontiguousarray(value).tobytes(), 6)).decode()
        return {"type": "array", "dtype": value.dtype.str, "shape": list(value.shape), "zlib": packed}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"type": type(value).__name__, **fields}
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, str | bool | int | float) or value is None:
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Iterable):
        return [_plain(v) for v in value]
    raise TypeError(f"cannot record a {type(value).__name__}")


def _live(value: Any, hint: Any) -> Any:
    if isinstance(value, list):
        return tuple(_live(v, _item_hint(hint)) for v in value)
    if not isinstance(value, dict):
        return value
    kind = value.get("type")
    if kind == "array" and "zlib" in value:
        dtype = np.dtype(value["dtype"])
        if dtype.hasobject:
            raise ValueError("object arrays are not allowed")
        array = np.frombuffer(zlib.decompress(base64.b64decode(value["zlib"])), dtype=dtype)
        return array.reshape(value["shape"]).copy()
    if kind is None or not _expects_record(hint):
        return {k: _live(v, Any) for k, v in value.items()}
    cls = _TYPES.get(kind)
    if cls is None:
        raise ValueError(f"unknown record type {kind!r}")
    hints = _hints(cls)
    unknown = value.keys() - hints.keys() - {"type"}
    if unknown:
        raise ValueError(f"{kind} has unknown fields {sorted(unknown)}")
    return cls(**{k: _live(v, hints[k]) for k, v in value.items() if k != "type"})


def _hints(cls: type) -> dict[str, Any]:
    cached = _HINTS.get(cls)
    if cached is None:
        cached = _HINTS[cls] = get_type_hints(cls)
    return cached


_HINTS: dict[type, dict[str, Any]] = {}


def _expects_record(hint: Any) -> bool:
    """A mapping field may hold a key called "type"; only where a record is expected is it a tag."""
    return get_origin(hint) is not Mapping


def _item_hint(hint: Any) -> Any:
    if get_origin(hint) in (Union, types.UnionType):
        hint = next((a for a in get_args(hint) if get_origin(a) is tuple), Any)
    arguments = get_args(hint)
    return arguments[0] if get_origin(hint) is tuple and arguments else Any
