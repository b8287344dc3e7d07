"""What is to be known of a baseline and its data before time is spent: each finding has its evidence and its cure.

The readings are those of `steelyard.measure.health` and of `steelyard.pipeline.baseline`, and the predictions on the
validation split. Where a reading is absent nothing is said.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from steelyard.metrics.calibration import calibration_error, fit_temperature, reliability, top_label
from steelyard.records import Finding, Measurement, Predictions, Sample, Unavailable
from steelyard.report import numbers
from steelyard.stats.proportion import wilson

__all__ = ["conditions", "disputed"]

SPLIT = "validation"
QUANTISED = 0.5  # of the weights in 8 bits: the model is a quantised one
TINY_PARAMETERS, TINY_MACS = 1e5, 1e6
SPARSE = 0.3  # of the weights being zero
SPARE = 0.5  # of the rank that holds 99 % of the weights' energy
DEAD = 0.25  # of a rectifier's channels
FASTER = 1.1  # a data type must multiply this much faster to bring speed
RARE = 0.1  # of the examples in the smallest class, against an equal share
GOOD = 0.75  # of the answers right: errors of a weaker model are everywhere too
SUREST = 4  # one example in so many, those that the model is surest of
MANY_WRONG = 0.02  # of them, at the least, for labels to be doubted
EVENLY = 0.5  # errors among them over errors among all: 1 for wrong labels, less for a model's own, which lie where it is unsure
BADLY = 0.05  # calibration error, at the least
SHIFTED, STRETCHED = 1.0, 3.0  # in standard deviations, and as a ratio of them


def conditions(baseline: Measurement, peaks: Sequence[Sample | Unavailable] = ()) -> tuple[Finding, ...]:
    """Findings about the model's weights, its answers and its data; none where there is no reason for one.

    ``already-quantised``, ``no-int8-instructions``, ``tiny-net``, ``sparse-weights``, ``over-parameterised``,
    ``dead-units``, ``calibration-classes``, ``other-preprocessing``, ``imbalance``, ``noisy-labels``, ``miscalibrated``.
    """
    made = baseline.on(SPLIT)
    found = [look(baseline) for look in _OF_THE_MODEL]
    found += [_no_int8(baseline, peaks)]
    found += [] if made is None else [look(made) for look in _OF_ANSWERS]
    return tuple(finding for finding in found if finding is not None)


# --- the model -----------------------------------------------------------------------------------------------


def _quantised(baseline: Measurement) -> Finding | None:
    share = _value(baseline, "narrow_weights_share")
    if share is None or share < QUANTISED:
        return None
    claim = f"{share:.0%} of the weights are in 8 bits already: quantising again would add error and no speed; give the fp32 model"
    return Finding(name="already-quantised", claim=claim, evidence={"narrow_weights_share": share})


def _tiny(baseline: Measurement) -> Finding | None:
    parameters, macs = _value(baseline, "parameters"), _value(baseline, "macs")
    rates = {int(r.conditions.get("batch") or 1): r.value for r in baseline.all("throughput_per_s")}
    if parameters is None or macs is None or parameters > TINY_PARAMETERS or macs > TINY_MACS:
        return None
    gain = max(rates.values()) / rates[1] if 1 in rates else None
    more = "" if gain is None else f"; batch {max(rates, key=rates.__getitem__)} serves {gain:.2g} times as many"
    claim = (
        f"{parameters:,.0f} parameters and {macs:,.0f} MACs are little: calling the model costs more than running it, so pruning and "
        f"narrower types gain little{more}"
    )
    evidence = {"parameters": parameters, "macs": macs, **({} if gain is None else {"batching_gain": gain})}
    return Finding(name="tiny-net", claim=claim, evidence=evidence)


def _sparse(baseline: Measurement) -> Finding | None:
    share = _weighted(baseline, "zero_weights_share")
    if share is None or share < SPARSE:
        return None
    claim = (
        f"{share:.0%} of the weights are zero, which brings no speed: the engines here multiply zeros like any other number; take whole "
        "channels out instead (prune), or compress the file"
    )
    return Finding(name="sparse-weights", claim=claim, evidence={"zero_weights_share": share})


def _over_parameterised(baseline: Measurement) -> Finding | None:
    share = _weighted(baseline, "weight_rank_share")
    if share is None or share > SPARE:
        return None
    claim = (
        f"{share:.0%} of the weights' rank holds 99 % of their energy: there is more model than the task took, so prune, factorise "
        "or distil before quantising"
    )
    return Finding(name="over-parameterised", claim=claim, evidence={"weight_rank_share": share})


def _dead(baseline: Measurement) -> Finding | None:
    shares = {str(s.conditions.get("layer", "")): s.value for s in baseline.all("dead_units_share")}
    worst = {name: share for name, share in sorted(shares.items(), key=lambda item: -item[1]) if share >= DEAD}
    if not worst:
        return None
    named = ", ".join(f"{name} ({share:.0%})" for name, share in list(worst.items())[:3])
    claim = (
        f"channels that give nothing for any example: {named}; pruning takes them out without loss, and a lower learning rate or "
        "another start would have kept them alive"
    )
    return Finding(
        name="dead-units",
        claim=claim,
        evidence={f"dead_share {name}": share for name, share in list(worst.items())[:5]},
    )


def _no_int8(baseline: Measurement, peaks: Sequence[Sample | Unavailable]) -> Finding | None:
    """Of x86 without VNNI or AMX, and of Arm without dot products."""
    sets = set(baseline.environment.instruction_sets)
    lacking = ("avx2" in sets and not sets & {"avx_vnni", "avx512_vnni", "amx_int8"}) or (
        "neon" in sets and "asimddp" not in sets
    )
    if not lacking:
        return None
    rates = {p.quantity: p.value for p in peaks if isinstance(p, Sample)}
    fp32, int8 = rates.get("gemm_fp32_flops"), rates.get("gemm_int8_flops")
    ratio = int8 / fp32 if fp32 and int8 else None
    speed = "" if ratio is None else f": {numbers.ratio(ratio)} the fp32 rate was measured"
    claim = (
        f"{baseline.environment.cpu} has no instructions for 8-bit products{speed}; INT8 shrinks the file"
        + (" and brings little speed" if ratio is None or ratio < FASTER else "")
        + ", and where sums of pairs overflow 16 bits it costs accuracy"
    )
    return Finding(
        name="no-int8-instructions", claim=claim, evidence={} if ratio is None else {"int8_over_fp32": ratio}
    )


# --- the data that ranges are fixed on -------------------------------------------------------------------------


def _few_classes(baseline: Measurement) -> Finding | None:
    found = next(iter(baseline.all("calibration_classes")), None)
    if found is None:
        return None
    there, classes = found.value, float(found.conditions.get("classes") or 0)
    examples = float(found.conditions.get("examples") or 0)
    if there >= classes or there > 0.5 * min(classes, examples):
        return None
    claim = (
        f"the calibration set holds {there:.0f} of {classes:.0f} classes: ranges fixed on it would clip the others; give training data "
        "that holds them all"
    )
    return Finding(name="calibration-classes", claim=claim, evidence={"calibration_classes": there, "classes": classes})


def _other_preprocessing(baseline: Measurement) -> Finding | None:
    shift, stretch = _value(baseline, "calibration_shift"), _value(baseline, "calibration_spread_ratio")
    if shift is None or stretch is None or (shift < SHIFTED and 1 / STRETCHED < stretch < STRETCHED):
        return None
    claim = (
        f"calibration examples are prepared otherwise than validation examples: their mean lies {shift:.2g} standard deviations off and "
        f"their spread is {stretch:.2g} times as large; ranges fixed on them would not fit, so scale training and validation data alike"
    )
    evidence = {"calibration_shift": shift, "calibration_spread_ratio": stretch}
    return Finding(name="other-preprocessing", claim=claim, evidence=evidence)


# --- the answers -----------------------------------------------------------------------------------------------


def _imbalance(made: Predictions) -> Finding | None:
    counts = np.bincount(made.labels, minlength=made.classes)
    shares = counts / len(made.labels)
    if shares.min() * made.classes >= RARE and shares.max() < 0.8:
        return None
    claim = (
        f"classes are uneven: class {int(shares.argmax())} has {shares.max():.1%} of the {SPLIT} examples, class {int(shares.argmin())} "
        f"{shares.min():.1%}; accuracy hardly sees the rare ones, so require balanced_accuracy or recall[CLASS] too"
    )
    evidence = {"largest_share": float(shares.max()), "smallest_share": float(shares.min())}
    return Finding(name="imbalance", claim=claim, evidence=evidence)


def _noisy(made: Predictions) -> Finding | None:
    """Errors of a model gather where it is unsure; wrong labels are everywhere, also where it is surest."""
    if made.scores is None or made.correct.mean() < GOOD:
        return None
    order = np.argsort(-made.scores.max(axis=1), kind="stable")
    surest = ~made.correct[order[: max(1, len(order) // SUREST)]]
    rate, overall = float(surest.mean()), float(1 - made.correct.mean())
    low, high = wilson(int(surest.sum()), len(surest))
    if low < MANY_WRONG or rate < EVENLY * overall:
        return None
    shown = ", ".join(str(i) for i in disputed(made)[:5])
    claim = (
        f"of the quarter of the {SPLIT} examples that the model is surest of, {rate:.1%} ({low:.1%} to {high:.1%}) are labelled otherwise, "
        f"nearly as many as of all ({overall:.1%}): labels look wrong; see examples {shown}"
    )
    return Finding(
        name="noisy-labels", claim=claim, evidence={"disputed_share": rate, "disputed_low": low, "error": overall}
    )


def disputed(made: Predictions) -> list[int]:
    """Positions of examples that get another class than their label, those that the model is surest of first."""
    assert made.scores is not None
    wrong = np.flatnonzero(~made.correct)
    return [int(i) for i in wrong[np.argsort(-made.scores[wrong].max(axis=1), kind="stable")]]


def _miscalibrated(made: Predictions) -> Finding | None:
    if made.scores is None:
        return None
    confidence, right = top_label(made.scores, made.labels, "probabilities")
    error = calibration_error(reliability(confidence, right))
    if error.low < BADLY:
        return None
    temperature = fit_temperature(made.scores, made.labels, "probabilities").value
    how = "surer of itself than it is right" if confidence.mean() > right.mean() else "right more often than it is sure"
    claim = (
        f"the model is {how}: calibration error {error.debiased:.1%} ({error.low:.1%} to {error.high:.1%}); dividing its logits by "
        f"{temperature:.2g} would mend it, and students should learn from the divided ones"
    )
    evidence = {"calibration_error": error.debiased, "temperature": temperature}
    return Finding(name="miscalibrated", claim=claim, evidence=evidence)


_OF_THE_MODEL: tuple[Callable[[Measurement], Finding | None], ...] = (
    _quantised, _tiny, _sparse, _over_parameterised, _dead, _few_classes, _other_preprocessing,
)  # fmt: skip
_OF_ANSWERS: tuple[Callable[[Predictions], Finding | None], ...] = (_imbalance, _noisy, _miscalibrated)


def _value(baseline: Measurement, quantity: str) -> float | None:
    found = baseline.get(quantity)
    return found.value if isinstance(found, Sample) else None


def _weighted(baseline: Measurement, quantity: str) -> float | None:
    """The mean over layers, each as much as it has weights."""
    found = baseline.all(quantity)
    sizes = [float(s.conditions.get("weights") or 0) for s in found]
    return float(np.average([s.value for s in found], weights=sizes)) if sum(sizes) else None
