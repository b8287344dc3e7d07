"""What holds a model back, and what each plan could gain: pure numbers in, findings out.

One inference of ``latency_s`` is taken apart into

- ``ideal_s``: the roofline's least time, the larger of ``compute_s`` (FLOPs over the fp32 peak) and ``memory_s``
  (bytes over the bandwidth: as many as fit in the last-level cache at the cache's, the rest at the memory's);
- ``overhead_s``: operators dispatched, times the cost of one dispatch (in a dispatch-bound model the slack too);
- ``slack_s``: the rest of the time in counted operators (convolutions, products): kernels below the peak;
- ``other_s``: time in operators without MACs (normalisation, activations, copies).

A plan's time is the same sum with each part multiplied by the effects of its steps (`EFFECTS`), where the
ideal and the slack also follow the peaks measured for the plan's data type and the bytes it saves. Its
ceiling is the ideal alone: an engine without overhead at that data type's peak. The factors are rules of
thumb, there to order the plans and to say beforehand what cannot help; what was obtained is shown beside
them afterwards.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from steelyard.counts.macs import canonical
from steelyard.diagnose.ceilings import ceilings
from steelyard.diagnose.condition import QUANTISED, conditions
from steelyard.diagnose.surroundings import surroundings
from steelyard.records import Finding, Measurement, Plan, Prediction, Profiled, Sample, Scalar, Step, Unavailable
from steelyard.report import numbers
from steelyard.stats.roofline import SMALL_CALL, Roof, Traffic, place, raised, roof_of

__all__ = ["BUILD_MINUTES", "EFFECTS", "Effect", "diagnose"]

DataType = Literal["fp32", "bf16", "int8"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """Factors that one step puts on the parts of the time; 1 leaves a part alone."""

    overhead: float = 1.0
    slack: float = 1.0
    other: float = 1.0
    dtype: DataType = "fp32"
    bytes: float = 1.0  # of the counted operators: weights and activations in the new type
    macs: float = 1.0  # share of the work that is left
    engine: bool = False  # takes the place of PyTorch's eager execution
    words: str = ""  # what it changes that no factor says


EFFECTS: Mapping[str, Effect] = {
    "export": Effect(),
    "channels_last": Effect(slack=0.85),
    "bf16": Effect(dtype="bf16", bytes=0.5, other=0.7),
    "compile": Effect(overhead=0.4, slack=0.6, other=0.4, engine=True),
    "onnx": Effect(overhead=0.2, slack=0.4, other=0.3, engine=True),
    "openvino": Effect(overhead=0.2, slack=0.4, other=0.3, engine=True),
    "quantize_static": Effect(dtype="int8", bytes=0.25, overhead=1.3),  # quantising and back are operators too
    "quantize_dynamic": Effect(dtype="int8", bytes=0.3, overhead=1.2),  # inputs are quantised at every call
    "nncf_int8": Effect(dtype="int8", bytes=0.25, overhead=1.2),
    "mixed": Effect(dtype="int8", bytes=0.3, overhead=1.25, words="layers that do not bear INT8 stay in fp32"),
    "weight_only": Effect(
        bytes=0.5, words="weights are read in 8 or 4 bits and widened: the arithmetic stays as it is"
    ),
    "fp16": Effect(words="the size halves; only processors with fp16 arithmetic become faster"),
    "fold": Effect(other=0.8, words="a normalisation less for each layer that took one in"),
    "onnx_optimise": Effect(words="other graph optimisations than ONNX Runtime's own choice"),
    "tensorrt": Effect(overhead=0.3, slack=0.5, other=0.5),
    "tflite": Effect(overhead=0.2, slack=0.6, other=0.5, engine=True),
    "prune": Effect(macs=0.5, other=0.7),  # half of the products are 0.7 of the channels on either side
    "factorise": Effect(macs=0.6, overhead=1.3),  # two layers in the place of one
    "sparsify": Effect(),
    "distill": Effect(macs=0.3, other=0.5),  # a light net by name; for rewrites see `_distilled`
    "qat": Effect(dtype="int8", bytes=0.25, overhead=0.24, slack=0.4, other=0.3, engine=True),  # through OpenVINO
}

# Minutes to build a candidate by each step, and to weigh it once; `cost_hints` takes their place where known.
BUILD_MINUTES: Mapping[str, float] = {
    "export": 0.1,
    "channels_last": 0.1,
    "bf16": 0.1,
    "compile": 0.7,
    "onnx": 0.2,
    "openvino": 0.2,
    "quantize_static": 0.5,
    "quantize_dynamic": 0.2,
    "nncf_int8": 0.8,
    "mixed": 4.0,  # each layer is quantised alone
    "weight_only": 0.3,
    "fp16": 0.2,
    "fold": 0.2,
    "onnx_optimise": 0.1,
    "tensorrt": 2.0,
    "tflite": 1.0,
    "prune": 3.0,
    "factorise": 3.0,
    "sparsify": 3.0,
    "distill": 5.0,
    "qat": 3.0,
    "weigh": 0.3,
}

_WORTH = 0.95  # the least time must fall below this share, or the new data type brings no speed
_FAR_BELOW = 0.2  # under this share of the roofline, the side it names is not the whole story
_LITTLE = 0.05  # a share of the work that is too small to matter


def diagnose(
    baseline: Measurement,
    peaks: Sequence[Sample | Unavailable],
    plans: Sequence[Plan],
    cost_hints: Mapping[str, float] | None = None,
    *,
    profiled: Profiled | None = None,
) -> tuple[Finding, ...]:
    """Name what bounds the baseline, and predict each plan.

    Reads ``latency_s`` at batch 1 (at the profile's, where there is one), ``macs``, ``moved_bytes``, ``operator_calls`` (of
    the whole model, else the sum over operators), ``operator_macs`` and ``operator_s`` from the baseline, and the quantities
    of `steelyard.probe.peaks`.
    The first finding is ``compute-bound``, ``memory-bound``, ``dispatch-bound`` or ``under-utilised``, its evidence, and a
    prediction for each plan, those that gain most per minute first and the hopeless ones last; or ``undiagnosed``, saying
    what is missing. Findings about what surrounds the model (`surroundings`), about its weights, its answers and its data
    (`conditions`) follow, where there is reason.

    With a profile, arithmetic is held to the peak of each layer's own data type, the evidence says how the time divides
    between bounds, and the first finding says what each technique can give at most (`ceilings`).

    ``cost_hints`` are minutes by step name, and for ``weigh``; missing names have those of `BUILD_MINUTES`.
    """
    around = (*surroundings(baseline, profiled), *conditions(baseline, peaks))
    parts = _take_apart(baseline, peaks, profiled)
    if isinstance(parts, Unavailable):
        claim = f"cannot say what bounds this model: {parts.quantity} is missing ({parts.reason})"
        return (Finding(name="undiagnosed", claim=claim, evidence={}), *around)
    name, claim = _bound(parts)
    minutes = {**BUILD_MINUTES, **(cost_hints or {})}
    predictions = [_predict(parts, plan, minutes) for plan in plans]
    predictions.sort(key=lambda p: (p.hopeless, -(p.gain - 1) / p.minutes))
    found = Finding(name=name, claim=claim, evidence=_evidence(parts), predictions=tuple(predictions))
    return (found if profiled is None else _with_layers(found, baseline, peaks, profiled), *around)


def _with_layers(
    finding: Finding, baseline: Measurement, peaks: Sequence[Sample | Unavailable], profiled: Profiled
) -> Finding:
    """The finding with what the profile adds: how the time divides between bounds, and ceilings of techniques."""
    roof = _roof(peaks, profiled)
    dispatch_s = _dispatch_s(peaks) if profiled.engine in ("eager", "torch") else 0.0
    rates = [r for r in baseline.readings if r.quantity == "throughput_per_s"]
    return replace(
        finding,
        evidence={**finding.evidence, **_time_by_bound(profiled, roof, dispatch_s)},
        ceilings=ceilings(profiled, roof, dispatch_s=dispatch_s, rates=rates),
    )


def _time_by_bound(profiled: Profiled, roof: Roof, dispatch_s: float) -> dict[str, float]:
    placed = place(profiled, roof, dispatch_s)
    whole_s = max(float(placed.seconds.sum()), 1e-12)
    shares = dict.fromkeys(("compute", "memory", "dispatch"), 0.0)
    for name, seconds in zip(placed.bounds, placed.seconds, strict=True):
        if name:
            shares[name] += float(seconds) / whole_s
    return {f"{name}_bound_time_share": share for name, share in shares.items()}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """The baseline's time taken apart, in seconds, and what the machine can do."""

    latency_s: float
    compute_s: float
    memory_s: float
    overhead_s: float
    slack_s: float
    other_s: float
    flops: float
    moved_bytes: float
    calls: float
    fixed: bool  # fixed costs rule: kernels are too short for their peak to matter, so their slack is overhead too
    eager: bool  # runs in PyTorch's eager mode
    peaks: Mapping[str, float]  # FLOP/s by data type
    missing_peaks: Mapping[str, str]  # why a data type's peak is not known
    macs_share: Mapping[str, float]  # of the MACs, by canonical operator
    memory: Traffic
    time_share: Mapping[str, float]  # of the operators' time, by their names
    narrow: float = 0.0  # share of the weights that are in 8 bits already

    @property
    def ideal_s(self) -> float:
        """The roofline's least time, never more than the time there is beside the rest."""
        return self.latency_s - self.overhead_s - self.slack_s - self.other_s

    def share_of(self, operator: str) -> float:
        return self.macs_share.get(operator, 0.0)


def _take_apart(
    baseline: Measurement, peaks: Sequence[Sample | Unavailable], profiled: Profiled | None = None
) -> _Parts | Unavailable:
    batch = 1 if profiled is None else profiled.batch
    needed = [baseline.get("latency_s", batch=batch), baseline.get("macs"), baseline.get("moved_bytes")]
    needed += [_peak(peaks, "gemm_fp32_flops"), _peak(peaks, "copy_bandwidth_bytes_per_s")]
    lacking = next((reading for reading in needed if isinstance(reading, Unavailable)), None)
    if lacking is not None:
        return lacking
    latency, macs, moved = (reading for reading in needed[:3] if isinstance(reading, Sample))
    roof = _roof(peaks, profiled)
    if not macs.value > 0:
        return Unavailable(quantity="macs", reason="no operator with multiply-accumulates was counted")
    flops = 2 * macs.value * batch
    compute_s = flops / roof.flops_per_s["fp32"] if profiled is None else _compute_s(profiled, roof, flops)
    return _split(baseline, peaks, latency.value, flops, moved.value, compute_s, roof)


def _roof(peaks: Sequence[Sample | Unavailable], profiled: Profiled | None) -> Roof:
    roof = roof_of(peaks)
    assert roof is not None  # what it needs was found in the peaks
    return roof if profiled is None else raised(roof, profiled)


def _compute_s(profiled: Profiled, roof: Roof, flops: float) -> float:
    """Least time of the arithmetic, each layer at the peak of its own data type."""
    placed = place(profiled, roof)
    seen = float(placed.flops.sum())
    return flops * float(placed.compute_s.sum()) / seen if seen > 0 else flops / roof.flops_per_s["fp32"]


def _split(
    baseline: Measurement,
    peaks: Sequence[Sample | Unavailable],
    latency_s: float,
    flops: float,
    moved_bytes: float,
    compute_s: float,
    roof: Roof,
) -> _Parts:
    seconds = {str(s.conditions.get("operator", "")): s.value for s in baseline.all("operator_s")}
    eager = not seconds or any(name.startswith("aten") for name in seconds)
    calls, dispatch_s = _calls(baseline), _dispatch_s(peaks) if eager else 0.0
    memory_s = roof.traffic.seconds(moved_bytes)
    overhead_s = min(calls * dispatch_s, _WORTH * latency_s)
    fixed = _fixed_costs_rule(latency_s, max(compute_s, memory_s), calls, dispatch_s)
    kernels_s = latency_s - overhead_s
    ideal_s = min(max(compute_s, memory_s), _WORTH * kernels_s)
    counted_s = max(_counted_share(seconds) * kernels_s, ideal_s)
    slack_s = counted_s - ideal_s
    found = {kind: _peak(peaks, f"gemm_{kind}_flops") for kind in ("fp32", "bf16", "int8")}
    return _Parts(
        latency_s=latency_s,
        compute_s=compute_s,
        memory_s=memory_s,
        overhead_s=overhead_s + slack_s if fixed else overhead_s,
        slack_s=0.0 if fixed else slack_s,
        other_s=kernels_s - counted_s,
        flops=flops,
        moved_bytes=moved_bytes,
        calls=calls,
        fixed=fixed,
        eager=eager,
        peaks={kind: roof.flops_per_s[kind] for kind, peak in found.items() if isinstance(peak, Sample)},
        missing_peaks={kind: peak.reason for kind, peak in found.items() if isinstance(peak, Unavailable)},
        macs_share=_macs_share(baseline),
        time_share=_shares(seconds),
        memory=roof.traffic,
        narrow=max((s.value for s in baseline.all("narrow_weights_share")), default=0.0),
    )


def _fixed_costs_rule(latency_s: float, least_s: float, calls: float, dispatch_s: float) -> bool:
    """Whether the work needs little of the time, and operators are so short that their fixed costs fill the rest."""
    short = calls > 0 and latency_s / calls < SMALL_CALL * dispatch_s
    return least_s < latency_s / 4 and (short or calls * dispatch_s > latency_s / 2)


def _peak(peaks: Sequence[Sample | Unavailable], quantity: str) -> Sample | Unavailable:
    return next((p for p in peaks if p.quantity == quantity), Unavailable(quantity=quantity, reason="not measured"))


def _dispatch_s(peaks: Sequence[Sample | Unavailable]) -> float:
    found = _peak(peaks, "dispatch_s")
    return found.value if isinstance(found, Sample) else 0.0


def _calls(baseline: Measurement) -> float:
    whole = baseline.get("operator_calls")
    return whole.value if isinstance(whole, Sample) else sum(s.value for s in baseline.all("operator_calls"))


def _macs_share(baseline: Measurement) -> dict[str, float]:
    """Shares of the MACs by canonical operator; by operator time where MACs were not told apart."""
    samples = baseline.all("operator_macs") or baseline.all("operator_s")
    grouped: dict[str, float] = {}
    for sample in samples:
        name = canonical(str(sample.conditions.get("operator", "")))
        if name in _COUNTED:
            grouped[name] = grouped.get(name, 0.0) + sample.value
    return _shares(grouped)


_COUNTED = ("convolution", "matmul", "attention", "recurrent")


def _counted_share(seconds: Mapping[str, float]) -> float:
    """Share of operator time in operators that have MACs; all of it where no operator was timed."""
    total = sum(seconds.values())
    return sum(s for name, s in seconds.items() if canonical(name) in _COUNTED) / total if total > 0 else 1.0


def _shares(values: Mapping[str, float]) -> dict[str, float]:
    total = sum(values.values())
    return {name: value / total for name, value in values.items()} if total > 0 else {}


# --- the bound -------------------------------------------------------------------------------------


def _bound(parts: _Parts) -> tuple[str, str]:
    """Dispatch-bound if fixed costs rule, under-utilised if kernels stay far below the roofline, else its higher side."""
    ideal_s = max(parts.compute_s, parts.memory_s)
    if parts.fixed:
        each_us = parts.latency_s / parts.calls * 1e6
        return "dispatch-bound", (
            f"{parts.calls:.0f} operators share {numbers.seconds(parts.latency_s)}, {each_us:.2g} µs each, while their"
            f" arithmetic and bytes need {numbers.seconds(ideal_s)}: fixed costs rule"
        )
    share = ideal_s / parts.latency_s
    kind, what, ceiling = (
        ("compute-bound", numbers.quantity(parts.flops, "FLOP"), numbers.quantity(parts.peaks["fp32"], "FLOP/s"))
        if parts.compute_s >= parts.memory_s
        else ("memory-bound", numbers.size(parts.moved_bytes), "the bandwidth of memory and cache")
    )
    part = f"{share:.0%} of" if share < 1 else "all of"
    claim = (
        f"{what} at {ceiling} take {numbers.seconds(ideal_s)}, {part} the {numbers.seconds(parts.latency_s)} measured"
    )
    if share < _FAR_BELOW:
        return "under-utilised", f"{claim}: most of the time goes to kernels far below their peak, or to a busy machine"
    return kind, claim


def _evidence(parts: _Parts) -> dict[str, float]:
    return {
        "latency_s": parts.latency_s,
        "compute_s": parts.compute_s,
        "memory_s": parts.memory_s,
        "overhead_s": parts.overhead_s,
        "slack_s": parts.slack_s,
        "other_s": parts.other_s,
        "operator_calls": parts.calls,
        "intensity_flop_per_byte": parts.flops / parts.moved_bytes if parts.moved_bytes else 0.0,
        "achieved_flops": parts.flops / parts.latency_s,
        **{f"{name}_macs_share": share for name, share in parts.macs_share.items()},
        **{f"{name}_time_share": share for name, share in _largest(parts.time_share)},
    }


def _largest(shares: Mapping[str, float], count: int = 5) -> list[tuple[str, float]]:
    return sorted(shares.items(), key=lambda item: -item[1])[:count]


# --- predictions -----------------------------------------------------------------------------------


def _predict(parts: _Parts, plan: Plan, minutes: Mapping[str, float]) -> Prediction:
    cost = minutes["weigh"] + sum(minutes.get(step.name, 1.0) for step in plan.steps)
    ideal_s = _ideal_s(parts, plan)
    ceiling = parts.latency_s / ideal_s
    reason = next((said for step in plan.steps if (said := _why_not(parts, step))), "")
    gain = parts.latency_s / _time_s(parts, plan, ideal_s)
    because = reason or _why(parts, plan, ideal_s)
    return Prediction(plan=plan, gain=gain, ceiling=ceiling, minutes=cost, because=because, hopeless=bool(reason))


def _time_s(parts: _Parts, plan: Plan, ideal_s: float) -> float:
    """The sum of the parts, each under the effects of the plan's steps."""
    overhead, slack, other = 1.0, 1.0, 1.0
    for step in plan.steps:
        effect = _effect(step)
        if effect.engine and not parts.eager:
            continue  # the baseline's engine has gained this already
        overhead *= effect.overhead
        slack *= effect.slack if step.name != "channels_last" else _on_convolutions(parts, effect.slack)
        other *= effect.other
    slack_s = parts.slack_s * slack * ideal_s / parts.ideal_s
    return ideal_s + slack_s + parts.other_s * other + parts.overhead_s * overhead


def _on_convolutions(parts: _Parts, factor: float) -> float:
    return 1 - parts.share_of("convolution") * (1 - factor)


def _ideal_s(parts: _Parts, plan: Plan) -> float:
    """The least time in the plan's data types: the part of the work that a step converts, and the rest as it was."""
    changed = [step for step in plan.steps if _effect(step).dtype != "fp32" or _effect(step).bytes < 1]
    left_s = parts.ideal_s * math.prod(_effect(step).macs for step in plan.steps)
    return left_s * _least(parts, changed[-1]) if changed else left_s


def _least(parts: _Parts, step: Step) -> float:
    """Factor on the roofline's least time when `step` converts its share of the work; 1 where its peak is not known."""
    effect = _effect(step)
    rate = parts.peaks.get(effect.dtype)
    if rate is None:
        return 1.0
    converted = parts.share_of("matmul") if step.name == "quantize_dynamic" else 1.0
    before = max(parts.compute_s, parts.memory_s)
    after = max(parts.compute_s * parts.peaks["fp32"] / rate, parts.memory.seconds(parts.moved_bytes * effect.bytes))
    return 1 - converted * (1 - after / before)


def _effect(step: Step) -> Effect:
    """The step's row of the table; OpenVINO asked for bf16 has the data type of the step ``bf16`` too."""
    effect = EFFECTS.get(step.name, Effect())
    if step.name == "openvino" and dict(step.options).get("precision") == "bf16":
        return Effect(overhead=effect.overhead, slack=effect.slack, other=0.25, dtype="bf16", bytes=0.5, engine=True)
    if step.name == "prune":
        return _pruned(dict(step.options))
    if step.name == "distill":
        return _distilled(*_student(step))
    return effect


def _pruned(options: Mapping[str, Scalar]) -> Effect:
    """Channels go on both sides of a product: what is left of them is the square root of what is left of the work."""
    ratio = options.get("ratio")
    macs = float(options.get("macs") or EFFECTS["prune"].macs) if ratio is None else (1 - float(ratio)) ** 2
    return Effect(macs=macs, other=math.sqrt(macs))


def _student(step: Step) -> tuple[str, float]:
    """What ``distill`` makes of the model, and how much of it."""
    word, _, amount = str(dict(step.options).get("student") or "separable").partition("=")
    return word, float(amount or 1)


def _distilled(word: str, amount: float) -> Effect:
    """A width acts on both sides of a product; of 3 x 3 kernels 1/9 of the work stays, and 1/channels, in two layers."""
    if word == "width":
        return Effect(macs=amount**2, other=amount)
    if word == "depth":
        return Effect(macs=amount, other=amount, overhead=amount)
    return Effect(macs=min(1.0, 0.15 * amount), overhead=1.5) if word == "separable" else EFFECTS["distill"]


def _why_not(parts: _Parts, step: Step) -> str:
    """Why a step will not help here; empty if it may."""
    convolution, matmul = parts.share_of("convolution"), parts.share_of("matmul")
    if step.name == "sparsify":
        return "the engines here multiply zeros like any other number, and files store them: neither faster nor smaller"
    if step.name == "distill" and _student(step)[0] == "separable" and convolution == 0:
        return "separable takes convolutions apart, and this model has none"
    if step.name == "channels_last" and convolution == 0:
        return "channels-last is a layout for convolutions, and this model has none"
    if step.name == "quantize_dynamic" and matmul < _LITTLE:
        return (
            f"dynamic INT8 helps matrix products only: they are {matmul:.1%} of the MACs here, and ONNX Runtime's"
            " dynamically quantised convolutions are slow"
        )
    return _type_brings_nothing(parts, step)


def _type_brings_nothing(parts: _Parts, step: Step) -> str:
    kind = _effect(step).dtype
    if kind == "int8" and parts.narrow >= QUANTISED:
        return f"{parts.narrow:.0%} of the weights are in 8 bits already: quantising again adds error and no speed"
    if kind == "fp32" or kind not in parts.peaks or _least(parts, step) < _WORTH:
        return ""
    rate, fp32 = parts.peaks[kind], parts.peaks["fp32"]
    if rate < fp32 * 1.1:
        size = "; it would still shrink the file" if kind == "int8" else ""
        return f"{kind} is no faster on this machine: {rate / 1e9:.3g} GFLOP/s measured, fp32 {fp32 / 1e9:.3g}{size}"
    return ""


def _why(parts: _Parts, plan: Plan, ideal_s: float) -> str:
    """What the plan changes, in words and numbers."""
    if not plan.steps:
        return "the baseline itself"
    said = []
    for step in plan.steps:
        effect = _effect(step)
        if effect.engine and parts.eager and parts.overhead_s > 0:
            said.append(
                f"{step.name} leaves about {effect.overhead:.0%} of {numbers.seconds(parts.overhead_s)} dispatch"
            )
        if effect.dtype != "fp32":
            said.append(_rate_words(parts, effect.dtype))
        if effect.words:
            said.append(effect.words)
    said.append(f"least time {numbers.seconds(ideal_s)} of {numbers.seconds(parts.latency_s)} now")
    return "; ".join(said)


def _rate_words(parts: _Parts, kind: DataType) -> str:
    if kind not in parts.peaks:
        return f"{kind} peak not known ({parts.missing_peaks.get(kind, 'not measured')})"
    return f"{kind} multiplies at {parts.peaks[kind] / parts.peaks['fp32']:.2g} times the fp32 rate"
