"""Are probabilities to be believed? Calibration error, reliability diagrams, Brier score and temperature scaling.

Everything binned starts from a :class:`Reliability`: counts, right answers and summed confidence per bin. A bin is
``(low, high]`` (Guo et al. 2017), so a confidence of exactly 1.0 lies in the last bin; 0 lies in the first. `confidence`
and `right` are the top label's probability and whether it is right (:func:`top_label`), or the positive class's
probability and whether the example is positive, or a class's column and whether it is the true class
(:func:`class_wise`).

The expected calibration error (ECE) is ``sum_b n_b / n |accuracy_b - confidence_b|``. What is estimated is the binned ECE
of the population at these bin edges, not the error of the unbinned scores, which no number of examples bounds from above
without assumptions. The plug-in value is biased upwards: a perfectly calibrated model shows an ECE too (Bröcker 2012;
Kumar, Liang and Ma 2019). :func:`calibration_error` gives the plug-in value, the value less its bias, and an interval.

Coverage of that interval at 95 % with 15 bins, simulated for uniform, mostly low and top-heavy confidences that are
calibrated, over-confident or wrong in one bin (500 draws each, ``benchmarks/results/coverage.md``): 96 to 100 % for 100
examples, where the interval is wide; 93 to 98 % for 1,000; 91 to 97 % for 10,000. The lowest are those with one bad bin among
calibrated ones; without such a bin it is 95 to 98 % from 1,000 on. :func:`calibration_supported` says whether there are enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, softmax

from steelyard.errors import InvalidInput
from steelyard.metrics.classification import LARGEST_LOSS, probabilities
from steelyard.metrics.losses import Declared, class_indices
from steelyard.stats.exact import ExactSum
from steelyard.stats.proportion import wilson
from steelyard.stats.quantiles import normal_critical
from steelyard.stats.sums import mean_terms

__all__ = [
    "BrierParts",
    "CalibrationError",
    "Reliability",
    "ReliabilityBin",
    "Temperature",
    "binary_brier_terms",
    "brier_parts",
    "brier_terms",
    "calibrated",
    "calibration_drop",
    "calibration_drops",
    "calibration_error",
    "calibration_supported",
    "class_wise",
    "class_wise_error",
    "equal_mass_edges",
    "equal_width_edges",
    "expected_calibration_error",
    "fit_temperature",
    "maximum_calibration_error",
    "reliability",
    "reliability_bins",
    "top_label",
]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

_BINS = 15
_CHUNK = 1 << 18  # examples binned at once
_PLACED = 1 << 14  # examples held against every edge at once
_FEW_EDGES = 32
_PER_BIN = 60  # examples per filled bin from which coverage was seen to come near its level
_HALVINGS = 50  # of the bracket of an end: to one part in 10^15
_HOTTEST = 20.0  # temperatures searched: 1/20 to 20


# --- bins ---------------------------------------------------------------------------------------------


def top_label(outputs: ArrayLike, labels: ArrayLike, declared: Declared) -> tuple[Floats, Flags]:
    """The probability of the likeliest class, and whether it is the true one, per example ``(n,)``."""
    shares = probabilities(outputs, declared)
    true = class_indices(labels, *shares.shape)
    return np.asarray(shares.max(axis=1)), np.asarray(shares.argmax(axis=1) == true)


def equal_width_edges(bins: int = _BINS) -> Floats:
    """``bins + 1`` edges from 0 to 1."""
    if bins < 1:
        raise InvalidInput(f"the number of bins must be at least 1; got {bins}")
    return np.linspace(0.0, 1.0, bins + 1)


def equal_mass_edges(confidence: ArrayLike, bins: int = _BINS) -> Floats:
    """Edges that put as many examples into each bin as ties allow: quantiles, with 0 and 1 at the ends."""
    inner = np.quantile(_shares(confidence), equal_width_edges(bins)[1:-1], method="inverted_cdf")
    return np.unique(np.concatenate([[0.0], inner, [1.0]]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Reliability:
    """Sums per bin ``(bins,)``, identical for any order and batching of the examples; made by :func:`reliability`."""

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    right: tuple[int, ...]
    confidence: ExactSum

    def merge(self, other: Reliability) -> Reliability:
        """The sums over the examples of both; raises `InvalidInput` for other edges."""
        if self.edges != other.edges:
            raise InvalidInput("reliability over different bin edges cannot be merged: fix the edges first")
        return Reliability(
            edges=self.edges,
            counts=tuple(a + b for a, b in zip(self.counts, other.counts, strict=True)),
            right=tuple(a + b for a, b in zip(self.right, other.right, strict=True)),
            confidence=self.confidence.merge(other.confidence),
        )


def reliability(confidence: ArrayLike, right: ArrayLike, edges: ArrayLike | None = None) -> Reliability:
    """Sums per bin from confidences in [0, 1] and 0/1 answers, both ``(n,)``; 15 bins of equal width by default.

    Raises `InvalidInput` for no examples, unequal lengths, NaN, values outside their range, or edges that do not rise
    from 0 to 1.

    >>> reliability([0.4, 1.0], [0, 1], [0.0, 0.5, 1.0]).counts
    (1, 1)
    """
    shares, answers = _shares(confidence), _answers(right)
    if len(shares) != len(answers):
        raise InvalidInput(f"{len(shares)} confidences but {len(answers)} answers: pass one of each per example")
    bounds = equal_width_edges() if edges is None else _edges(edges)
    parts = [
        _binned(shares[start : start + _CHUNK], answers[start : start + _CHUNK], bounds)
        for start in range(0, len(shares), _CHUNK)
    ]
    counts, correct, totals = (tuple(map(sum, zip(*side, strict=True))) for side in zip(*parts, strict=True))
    summed = ExactSum(rows=len(shares), totals=totals)
    return Reliability(edges=tuple(bounds.tolist()), counts=counts, right=correct, confidence=summed)


def _binned(shares: Floats, answers: Flags, bounds: Floats) -> tuple[list[int], list[int], list[int]]:
    """Examples, right answers and exact sums of confidence (in units of ``2^-1074``) of each bin."""
    place = _places(shares, bounds)
    counts = np.bincount(place, minlength=len(bounds) - 1)
    ordered = shares[np.argsort(place, kind="stable")]
    parts = np.split(ordered, np.cumsum(counts)[:-1])
    right = np.bincount(place, answers, minlength=len(counts)).astype(np.int64)
    return counts.tolist(), right.tolist(), [ExactSum.of(part).totals[0] for part in parts]


def class_wise(
    outputs: ArrayLike, labels: ArrayLike, declared: Declared, edges: ArrayLike | None = None
) -> tuple[Reliability, ...]:
    """One :class:`Reliability` per class, of its column ``(n, k)`` against whether it is the true class."""
    shares = probabilities(outputs, declared)
    true = class_indices(labels, *shares.shape)
    return tuple(reliability(shares[:, j], true == j, edges) for j in range(shares.shape[1]))


def _places(shares: Floats, edges: Floats) -> NDArray[np.integer]:
    """Bin of each share: ``(low, high]``, and 0 in the first.

    Few edges are counted one by one, in chunks that stay in the cache: a fifth of the time of a search for each share.
    """
    inner = edges[1:-1]
    if len(inner) > _FEW_EDGES:
        return np.searchsorted(inner, shares, side="left")
    found = np.zeros(len(shares), dtype=np.uint8)
    for start in range(0, len(shares), _PLACED):
        part = slice(start, start + _PLACED)
        for edge in inner:
            found[part] += (shares[part] > edge).view(np.uint8)
    return found


def _edges(edges: ArrayLike) -> Floats:
    bounds = np.asarray(edges, dtype=np.float64)
    if bounds.ndim != 1 or len(bounds) < 2 or bounds[0] != 0 or bounds[-1] != 1 or not (np.diff(bounds) > 0).all():
        raise InvalidInput(f"bin edges must rise from 0 to 1; got {bounds.ravel()[:5].tolist()}")
    return bounds


def _shares(values: ArrayLike) -> Floats:
    shares = np.asarray(values, dtype=np.float64)
    if shares.ndim != 1 or not shares.size:
        raise InvalidInput(f"probabilities must be a non-empty row, one per example; got shape {shares.shape}")
    if not (shares.min() >= 0 and shares.max() <= 1):
        wrong = np.flatnonzero(~((shares >= 0) & (shares <= 1)))
        raise InvalidInput(f"probability {shares[wrong[0]]} of example {wrong[0]} is not in [0, 1]; are these logits?")
    return shares


def _answers(values: ArrayLike) -> Flags:
    array = np.asarray(values)
    if array.ndim == 1 and array.dtype == np.bool_:
        return array
    wrong = np.flatnonzero((array != 0) & (array != 1))
    if array.ndim != 1 or len(wrong):
        shown = array.ravel()[wrong[0]] if len(wrong) else array.shape
        raise InvalidInput(f"answers must be a row of 0 (wrong, negative) and 1 (right, positive); got {shown}")
    return np.asarray(array == 1)


# --- calibration error ------------------------------------------------------------------------------------


def expected_calibration_error(of: Reliability) -> float:
    """The plug-in ECE: bins' gaps weighted by their examples, in [0, 1] (Naeini, Cooper and Hauskrecht 2015).

    >>> round(expected_calibration_error(reliability([0.9, 0.9, 0.6], [1, 0, 1])), 4)
    0.4
    """
    return math.fsum(np.abs(_filled(of)[1]))


def maximum_calibration_error(of: Reliability) -> float:
    """The largest gap between accuracy and confidence in a filled bin, in [0, 1]; small bins make it large by chance."""
    counts, gaps, _ = _filled(of)
    return float(np.max(np.abs(gaps) * counts.sum() / counts))


def class_wise_error(of: tuple[Reliability, ...]) -> float:
    """Mean over classes of the plug-in ECE (Kull et al. 2019); take :func:`calibration_error` for one class's interval."""
    return math.fsum(expected_calibration_error(one) for one in of) / len(of)


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationError:
    """The binned ECE: plug-in `value`, the value less its bias, the interval, and the ECE that noise alone would show."""

    value: float
    debiased: float
    low: float
    high: float
    noise: float
    n: int


def calibration_error(of: Reliability, level: float = 0.95) -> CalibrationError:
    """The binned ECE of the population with its two-sided interval, for independent examples.

    The signed gaps of the bins are taken as normal, so the plug-in ECE is a sum of folded normals with known mean and
    variance (Leone, Nelson and Nottingham 1961). The interval is the set of errors under which the observed plug-in value
    is no surprise, each with the gaps most likely at that error: shrunk or stretched by ``lambda s_b^2``. `debiased` is
    the error under which the observed value is the expected one. Where the value is below what noise alone shows, the
    upper end is that of the noise, so that luck never proves calibration (Cowan et al. 2011 bound limits likewise).
    A bin's variance is that of its share of right answers with half an answer added to either side, so a bin of right
    answers only is not taken for certain.
    """
    counts, gaps, errors = _filled(of)
    z, value = normal_critical(level), expected_calibration_error(of)
    noise = float(_folded(np.zeros(len(gaps)), errors)[0].sum())
    return CalibrationError(
        value=value,
        debiased=_error_at(gaps, errors, value, 0.0),
        low=_error_at(gaps, errors, value, z),
        high=min(1.0, max(value, _error_at(gaps, errors, max(value, noise), -z))),
        noise=noise,
        n=int(counts.sum()),
    )


def calibration_drop(
    first: tuple[ArrayLike, ArrayLike],
    second: tuple[ArrayLike, ArrayLike],
    edges: ArrayLike | None = None,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """``(value, low, high)`` of the first model's binned ECE less the second's, on the same examples.

    Each model is a pair ``(confidence, right)``; the value is the difference of the debiased errors. Their two intervals
    are joined by square-and-add (Zou and Donner 2008) with the correlation of the examples' effects where that is
    negative, else with none: a positive one could not be relied on in simulations. At 95 % it covers 92 to 99 % where the
    models' gaps are unlike, up to 100 % where they are alike; it does not collapse where nothing changed.
    """
    return calibration_drops(first, second, edges)(level)


def calibration_drops(
    first: tuple[ArrayLike, ArrayLike], second: tuple[ArrayLike, ArrayLike], edges: ArrayLike | None = None
) -> Callable[[float], tuple[float, float, float]]:
    """:func:`calibration_drop` as a function of the level, with the examples binned once."""
    one, other = (reliability(*model, edges) for model in (first, second))
    if sum(one.counts) != sum(other.counts):
        raise InvalidInput(f"a paired comparison needs the same examples; got {sum(one.counts)}, {sum(other.counts)}")
    alike = min(0.0, _correlation(_effects(*first, one), _effects(*second, other)))
    return partial(_drop_at, one, other, alike)


def _drop_at(one: Reliability, other: Reliability, alike: float, level: float) -> tuple[float, float, float]:
    a, b = calibration_error(one, level), calibration_error(other, level)
    value = a.debiased - b.debiased
    low = value - _joined(a.debiased - a.low, b.high - b.debiased, alike)
    return value, max(-1.0, low), min(1.0, value + _joined(a.high - a.debiased, b.debiased - b.low, alike))


def _joined(one: float, other: float, correlation: float) -> float:
    return math.sqrt(one * one + other * other - 2 * correlation * one * other)


def _effects(confidence: ArrayLike, right: ArrayLike, of: Reliability) -> Floats:
    """What each example adds to the plug-in ECE: its gap, in the direction of its bin's."""
    shares = _shares(confidence)
    directions = np.sign(np.array(of.right) - of.confidence.value())
    return np.asarray((_answers(right) - shares) * directions[_places(shares, np.array(of.edges))])


def _correlation(one: Floats, other: Floats) -> float:
    one, other = one - one.mean(), other - other.mean()
    scale = math.sqrt(float(one @ one) * float(other @ other))
    return float(one @ other) / scale if scale > 0 else 0.0


def calibration_supported(of: Reliability) -> bool:
    """Whether there are 60 examples per filled bin; with fewer the interval covers more than it says, and is wide.

    >>> calibration_supported(reliability([0.9] * 50, [1] * 50))
    False
    """
    filled = sum(count > 0 for count in of.counts)
    return sum(of.counts) >= _PER_BIN * filled


def _filled(of: Reliability) -> tuple[Ints, Floats, Floats]:
    """Counts of the filled bins, their signed gaps as a share of all examples, and the gaps' standard errors."""
    counts, right = np.array(of.counts), np.array(of.right, dtype=np.float64)
    kept = counts > 0
    n, right = counts[kept], right[kept]
    total = n.sum()
    gaps = (right - of.confidence.value()[kept]) / total
    chance = (right + 0.5) / (n + 1)
    squares = n / total * (chance * (1 - chance) + (gaps * total / n) ** 2)
    return n, gaps, np.sqrt((squares - gaps**2) / total)


def _folded(centres: Floats, errors: Floats) -> tuple[Floats, Floats]:
    """Means and variances of ``|X|`` for normal X."""
    ratios = np.abs(centres) / errors
    means = errors * math.sqrt(2 / math.pi) * np.exp(-(ratios**2) / 2) + np.abs(centres) * (1 - 2 * ndtr(-ratios))
    return means, np.maximum(centres**2 + errors**2 - means**2, 0.0)


def _error_at(gaps: Floats, errors: Floats, observed: float, z: float) -> float:
    """The ECE under which `observed` lies `z` standard deviations above what is expected; 0 where none is small enough."""

    def moved(slope: float) -> Floats:
        return np.maximum(np.abs(gaps) - slope * errors**2, 0.0)

    def excess(slope: float) -> float:
        means, variances = _folded(moved(slope), errors)
        return observed - float(means.sum()) - z * math.sqrt(float(variances.sum()))

    most = float(np.max(np.abs(gaps) / errors**2))
    if excess(most) <= 0:
        return 0.0
    least = -1 / float(errors.max())
    while excess(least) > 0:
        least *= 2
    for _ in range(_HALVINGS):
        middle = (least + most) / 2
        least, most = (least, middle) if excess(middle) > 0 else (middle, most)
    return float(moved(most).sum())


@dataclass(frozen=True, slots=True, kw_only=True)
class ReliabilityBin:
    """One filled bin of a reliability diagram, with Wilson's interval of its accuracy."""

    low: float
    high: float
    n: int
    confidence: float
    accuracy: float
    accuracy_low: float
    accuracy_high: float


def reliability_bins(of: Reliability, level: float = 0.95) -> tuple[ReliabilityBin, ...]:
    """The filled bins of a reliability diagram, from low to high confidence; empty bins have nothing to show.

    >>> [(b.n, round(b.confidence, 2), b.accuracy) for b in reliability_bins(reliability([0.9, 0.92, 0.2], [1, 0, 0]))]
    [(1, 0.2, 0.0), (2, 0.91, 0.5)]
    """
    return tuple(_bins(of, level))


def _bins(of: Reliability, level: float) -> Iterator[ReliabilityBin]:
    rows = zip(of.edges, of.edges[1:], of.counts, of.right, of.confidence.value().tolist(), strict=False)
    for low, high, n, right, confidence in rows:
        if n:
            ends = wilson(right, n, level)
            yield ReliabilityBin(
                low=low,
                high=high,
                n=n,
                confidence=confidence / n,
                accuracy=right / n,
                accuracy_low=ends[0],
                accuracy_high=ends[1],
            )


# --- Brier score --------------------------------------------------------------------------------------------


def brier_terms(outputs: ArrayLike, labels: ArrayLike, declared: Declared) -> Floats:
    """``(sum_j (p_j - y_j)^2, 1)`` per example over all classes; their mean is Brier's (1950) score, in [0, 2].

    >>> brier_terms([[0.8, 0.2]], [0], "probabilities").round(4)
    array([[0.08, 1.  ]])
    """
    shares = probabilities(outputs, declared)
    true = class_indices(labels, *shares.shape)
    own = shares[np.arange(len(shares)), true]
    return mean_terms(np.maximum(np.einsum("ij,ij->i", shares, shares) + 1 - 2 * own, 0.0))


def binary_brier_terms(scores: ArrayLike, labels: ArrayLike) -> Floats:
    """``((p - y)^2, 1)`` per example from the positive class's probability; the mean lies in [0, 1]."""
    shares, positive = _shares(scores), _answers(labels)
    if len(shares) != len(positive):
        raise InvalidInput(f"{len(shares)} scores but {len(positive)} labels: pass one score per example")
    return mean_terms((shares - positive) ** 2)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrierParts:
    """``score = reliability - resolution + uncertainty + within`` (Murphy 1973; `within` after Stephenson et al. 2008).

    `reliability` is the squared gap of the bins (0 is best), `resolution` how far their rates lie from the base rate,
    `uncertainty` the score of always saying the base rate, `within` what binning hides.
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float

    @property
    def score(self) -> float:
        """The Brier score that the parts add up to."""
        return self.reliability - self.resolution + self.uncertainty + self.within


def brier_parts(scores: ArrayLike, labels: ArrayLike, edges: ArrayLike | None = None) -> BrierParts:
    """The decomposition for the positive class's probability; 15 bins of equal width by default.

    Of several classes: the sum over their columns, each against whether it is the true class.

    >>> parts = brier_parts([0.0, 1.0, 1.0, 1.0], [0, 1, 1, 0])
    >>> round(parts.reliability, 4), round(parts.resolution, 4), parts.uncertainty, parts.within
    (0.0833, 0.0833, 0.25, 0.0)
    """
    of = reliability(scores, labels, edges)
    counts = np.maximum(np.array(of.counts, dtype=np.float64), 1.0)
    weights = np.array(of.counts) / sum(of.counts)
    rates, confidences = np.array(of.right) / counts, of.confidence.value() / counts
    base = sum(of.right) / sum(of.counts)
    return BrierParts(
        reliability=math.fsum(weights * (confidences - rates) ** 2),
        resolution=math.fsum(weights * (rates - base) ** 2),
        uncertainty=base * (1 - base),
        within=_within(_shares(scores), _answers(labels), np.array(of.edges), confidences, rates),
    )


def _within(shares: Floats, positive: Flags, edges: Floats, confidences: Floats, rates: Floats) -> float:
    """Variance of the scores within bins less twice their covariance with the answers."""
    place = _places(shares, edges)
    off = shares - confidences[place]
    return float(ExactSum.of(off * (off - 2 * (positive - rates[place]))).value()[0]) / len(shares) + 0.0


# --- temperature ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Temperature:
    """A fitted temperature: above 1 where the model was over-confident; log-losses in nats on the `n` fitting examples.

    `at_limit` says that the best temperature lies beyond 1/20 or 20, as for a model that made no error.
    """

    value: float
    nll_before: float
    nll_after: float
    n: int
    at_limit: bool = False


def fit_temperature(outputs: ArrayLike, labels: ArrayLike, declared: Declared) -> Temperature:
    """The temperature that minimises the log-loss on validation examples (Guo et al. 2017, section 4.2).

    `outputs` are ``(n, k)`` with class indices, or ``(n,)`` of the positive class with 0/1 labels. Probabilities go in
    through their logarithms, clipped at float32's epsilon. The log-loss is convex in 1/T, so its slope has one root.

    >>> logits = np.log([[0.9, 0.1]] * 4)
    >>> round(fit_temperature(logits, [0, 0, 0, 1], "logits").value, 3)
    2.0
    """
    logits = _logits(outputs, declared)
    true = class_indices(labels, *logits.shape)
    below = logits - logits.max(axis=1, keepdims=True)
    own = below[np.arange(len(below)), true]

    def slope(coldness: float) -> float:
        powers = np.exp(coldness * below)
        return float((np.einsum("ij,ij->i", powers, below) / powers.sum(axis=1) - own).mean())

    def nll(coldness: float) -> float:
        return float((np.log(np.exp(coldness * below).sum(axis=1)) - coldness * own).mean())

    best, at_limit = _root(slope, 1 / _HOTTEST, _HOTTEST)
    return Temperature(value=1 / best, nll_before=nll(1.0), nll_after=nll(best), n=len(logits), at_limit=at_limit)


def calibrated(outputs: ArrayLike, temperature: Temperature | float, declared: Declared) -> Floats:
    """Probabilities at a temperature, in the shape of `outputs`: ``softmax(logits / T)``.

    >>> calibrated([0.9], 2.0, "probabilities").round(4)
    array([0.75])
    """
    value = temperature.value if isinstance(temperature, Temperature) else temperature
    if not value > 0:
        raise InvalidInput(f"a temperature must be above 0; got {value}")
    shares = np.asarray(softmax(_logits(outputs, declared) / value, axis=1))
    return shares[:, 1] if np.ndim(outputs) == 1 else shares


def _logits(outputs: ArrayLike, declared: Declared) -> Floats:
    """Logits ``(n, k)`` up to a constant per example; a row ``(n,)`` is the positive class of two."""
    values = np.asarray(outputs, dtype=np.float64)
    if values.ndim == 1:
        zeros = np.zeros(len(values))
        values = np.column_stack([zeros, values] if declared == "logits" else [1 - values, values])
    shares = probabilities(values, declared)
    return values if declared == "logits" else np.log(np.maximum(shares, math.exp(-LARGEST_LOSS)))


def _root(slope: Callable[[float], float], low: float, high: float) -> tuple[float, bool]:
    """Where the rising `slope` is 0, and whether that had to be cut off at an end."""
    if slope(low) >= 0:
        return low, True
    if slope(high) <= 0:
        return high, True
    from scipy.optimize import brentq  # which takes long to import

    return float(brentq(slope, low, high, xtol=1e-7)), False
