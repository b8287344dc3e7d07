"""Where the time of an inference goes, and what energy costs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.records.studied import Floats

__all__ = ["EnergyCalibration", "GridFactor", "LayerTime", "Profiled"]


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
