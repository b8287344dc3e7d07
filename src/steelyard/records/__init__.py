"""The frozen types that flow through Steelyard, and their versioned JSON form.

Raw readings are stored and statistics are derived from them, so an old run can be rendered and judged
again. Units stand in the quantity's name (``latency_s``, ``energy_j``, ``stored_bytes``). A reading that
could not be taken is an :class:`Unavailable` with its reason, never a zero.
"""

from __future__ import annotations

from steelyard.records.codec import SCHEMA, decode, encode
from steelyard.records.comparisons import Compared, ControlReading
from steelyard.records.evaluations import (
    Box,
    Corrupted,
    Curve,
    Difference,
    Evaluated,
    Evaluation,
    Gap,
    Gate,
    MetricInfo,
    Objective,
    Shown,
    SliceScore,
    Temperature,
    Threshold,
)
from steelyard.records.gates import (
    CellChange,
    GateReport,
    GateSide,
    GateStage,
    SavedBaseline,
    Suite,
    SuiteCell,
    SuiteChange,
)
from steelyard.records.ledger import Ledger, LedgerCell, LedgerEnd, LedgerRow, LedgerTurns, Technique
from steelyard.records.plans import Ceiling, Finding, Plan, Prediction, Refusal, Requirement, Step, Verdict
from steelyard.records.profiles import EnergyCalibration, GridFactor, LayerTime, Profiled
from steelyard.records.readings import Environment, Estimate, Measurement, Predictions, Sample, Unavailable
from steelyard.records.runs import Comparison, Outcome, Run, RunRecords, Trial, Verification
from steelyard.records.studied import Contract, Floats, Overlap, Scalar, SubjectSpec, Task
from steelyard.records.training import Ended, LabelCheck, RateSearch, TrainingRun, Unread, Watched

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
    "Ended",
    "EnergyCalibration",
    "Environment",
    "Estimate",
    "Evaluated",
    "Evaluation",
    "Finding",
    "Floats",
    "Gap",
    "Gate",
    "GateReport",
    "GateSide",
    "GateStage",
    "GridFactor",
    "LabelCheck",
    "LayerTime",
    "Ledger",
    "LedgerCell",
    "LedgerEnd",
    "LedgerRow",
    "LedgerTurns",
    "Measurement",
    "MetricInfo",
    "Objective",
    "Outcome",
    "Overlap",
    "Plan",
    "Prediction",
    "Predictions",
    "Profiled",
    "RateSearch",
    "Refusal",
    "Requirement",
    "Run",
    "RunRecords",
    "Sample",
    "SavedBaseline",
    "Scalar",
    "Shown",
    "SliceScore",
    "Step",
    "SubjectSpec",
    "Suite",
    "SuiteCell",
    "SuiteChange",
    "Task",
    "Technique",
    "Temperature",
    "Threshold",
    "TrainingRun",
    "Trial",
    "Unavailable",
    "Unread",
    "Verdict",
    "Verification",
    "Watched",
    "decode",
    "encode",
]
