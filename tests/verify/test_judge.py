"""Verdicts on synthetic readings whose truth is known, and how often they are wrong."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from scipy.signal import lfilter
from scipy.special import ndtri

from steelyard.probe.host import environment
from steelyard.records import (
    Comparison,
    Environment,
    Measurement,
    Predictions,
    Requirement,
    Sample,
    Scalar,
    Unavailable,
    Verdict,
)
from steelyard.stats.order import percentile_interval
from steelyard.verify.judge import Case, control_ratio, judge, point
from steelyard.verify.requirements import parse_requirement

Floats = NDArray[np.float64]
HOST: Environment = environment(())


def _sample(quantity: str, values: Any, unit: str = "", blocks: Any = None, **conditions: Scalar) -> Sample:
    return Sample(
        quantity=quantity,
        unit=unit,
        values=np.atleast_1d(np.asarray(values, dtype=np.float64)),
        blocks=None if blocks is None else np.asarray(blocks, dtype=np.int32),
        conditions=conditions,
    )


def _modelled(energy_j: Any) -> Sample:
    return dataclasses.replace(_sample("energy_j", energy_j, "J", batch=1), provenance="modelled")


def _predictions(right: Sequence[bool] | NDArray[np.bool_]) -> Predictions:
    """Two classes in equal parts; each example right with probability 0.9, or wrong with 0.9."""
    correct = np.asarray(right)
    labels = (np.arange(len(correct)) % 2).astype(np.int32)
    return Predictions(
        split="test",
        labels=labels,
        predicted=np.where(correct, labels, 1 - labels).astype(np.int32),
        p_true=np.where(correct, 0.9, 0.1).astype(np.float32),
        classes=2,
    )


def _measurement(*readings: Sample | Unavailable, right: Any = None) -> Measurement:
    made = () if right is None else (_predictions(right),)
    return Measurement(subject="0" * 16, environment=HOST, readings=readings, predictions=made)


def _comparison(*log_ratios: Any) -> Comparison:
    """One slot a round; the baseline takes a millisecond."""
    logs = np.stack([np.zeros(len(log_ratios[0])), *(np.asarray(row, dtype=float) for row in log_ratios)], axis=1)
    seconds = 1e-3 * np.exp(logs)[:, None, :]
    arms = ("baseline", *(f"arm {i}" for i in range(1, seconds.shape[2])))
    return Comparison(arms=arms, batch=1, seconds=seconds, order=np.zeros(seconds.shape, dtype=np.int32))


STEADY = _comparison(np.linspace(-0.71, -0.69, 10))  # twice as fast, give or take nothing


def _case(before: Measurement, after: Measurement, comparison: Comparison = STEADY, widen: float = 0.0) -> Case:
    return Case(before=before, after=after, comparison=comparison, arm=1, widen=widen)


def _one(case: Case, words: str) -> Verdict:
    return judge([case], [parse_requirement(words)])[0][0]


def _agrees(verdict: Verdict) -> bool:
    """Whether the printed interval and the outcome say the same."""
    if verdict.estimate is None:
        return verdict.outcome == "unavailable"
    found, limit = verdict.estimate, verdict.requirement.limit
    low, high = found.low, found.high
    if verdict.requirement.kind in ("min", "min_ratio"):
        low, high, limit = -high, -low, -limit
    outcome = "met" if high <= limit else "broken" if low > limit else "undecided"
    return verdict.outcome == outcome and low <= high


# --- every kind of requirement, with known truth ---------------------------------------------------------

_RNG = np.random.default_rng(0)
_N = 4_000
_RIGHT = np.ones(_N, dtype=bool)


def _wrong(count: int) -> NDArray[np.bool_]:
    return np.arange(_N) >= count


_BLOCKS = np.repeat(np.arange(10), 400)
_TIMES = 0.010 * np.exp(
    _RNG.normal(0, 0.05, _N) + np.repeat(_RNG.normal(0, 0.01, 10), 400)
)  # median 10 ms, p99 11.2 ms
_COST_BEFORE = (
    _sample("latency_s", 2 * _TIMES, "s", _BLOCKS, batch=1),
    _sample("stored_bytes", 4e6, "byte"),
    _sample("memory_running_bytes", 200e6 * np.exp(_RNG.normal(0, 0.01, 10)), "byte"),
    _modelled(np.linspace(0.9, 1.1, 1_000)),
    _sample("throughput_per_s", 100 * np.exp(_RNG.normal(0, 0.01, 50)), "1/s", batch=1),
    _sample("throughput_per_s", 400 * np.exp(_RNG.normal(0, 0.01, 50)), "1/s", batch=8),
)
_COST_AFTER = (
    _sample("latency_s", _TIMES, "s", _BLOCKS, batch=1),
    _sample("stored_bytes", 1e6, "byte"),
    _sample("memory_running_bytes", 100e6 * np.exp(_RNG.normal(0, 0.01, 10)), "byte"),
    _modelled(0.5 * np.linspace(0.9, 1.1, 1_000)),
    _sample("throughput_per_s", 300 * np.exp(_RNG.normal(0, 0.01, 50)), "1/s", batch=1),
    _sample("throughput_per_s", 800 * np.exp(_RNG.normal(0, 0.01, 50)), "1/s", batch=8),
)
_BEFORE = _measurement(*_COST_BEFORE, right=_wrong(200))  # 95 % right
_AFTER = _measurement(*_COST_AFTER, right=_wrong(240))  # 94 % right: a drop of one point

TRUTHS = [
    ("accuracy drop <= 2%", "met"),
    ("accuracy drop <= 0.5%", "broken"),
    ("accuracy drop <= 1.1%", "undecided"),
    ("f1 drop <= 2%", "met"),
    ("f1 drop <= 0.4%", "broken"),
    ("accuracy >= 90%", "met"),
    ("accuracy >= 97%", "broken"),
    ("accuracy >= 94.2%", "undecided"),
    ("log_loss <= 1", "met"),
    ("log_loss <= 0.1", "broken"),
    ("latency <= 0.6x", "met"),
    ("latency <= 0.4x", "broken"),
    ("latency <= 12 ms", "met"),
    ("latency <= 8 ms", "broken"),
    ("latency <= 10 ms", "undecided"),
    ("p50 <= 0.6x", "met"),
    ("p99 <= 0.6x", "met"),
    ("p99 <= 0.4x", "broken"),
    ("p99 <= 14 ms", "met"),
    ("p99 <= 10.5 ms", "broken"),
    ("p99 <= 11.25 ms", "undecided"),
    ("size <= 1 MB", "met"),
    ("size <= 0.9 MB", "broken"),
    ("size <= 0.25x", "met"),
    ("size <= 0.24x", "broken"),
    ("memory <= 110 MB", "met"),
    ("memory <= 90 MB", "broken"),
    ("memory <= 0.6x", "met"),
    ("memory <= 0.4x", "broken"),
    ("energy <= 600 mJ", "met"),
    ("energy <= 400 mJ", "broken"),
    ("energy <= 500 mJ", "undecided"),
    ("throughput >= 700 /s", "met"),
    ("throughput >= 900 /s", "broken"),
    ("throughput >= 800 /s", "undecided"),
    ("throughput >= 1.8x", "met"),
    ("throughput >= 2.2x", "broken"),
    ("throughput >= 2x", "undecided"),
]


@pytest.mark.parametrize(("words", "outcome"), TRUTHS)
def test_the_verdict_is_the_truth_where_readings_suffice(words: str, outcome: str) -> None:
    verdict = _one(_case(_BEFORE, _AFTER), words)
    assert verdict.outcome == outcome, verdict.estimate
    assert _agrees(verdict)
    assert bool(verdict.advice) == (outcome == "undecided")
    assert verdict.estimate is not None
    assert verdict.estimate.low <= verdict.estimate.value <= verdict.estimate.high


def test_an_energy_ratio_uses_common_draws() -> None:
    verdict = _one(_case(_BEFORE, _AFTER), "energy <= 0.5001x")
    assert verdict.outcome == "met"  # though the energies themselves are known to 10 % only
    assert verdict.estimate is not None
    assert verdict.estimate.value == pytest.approx(0.5)


def test_a_throughput_ratio_carries_the_doubt_of_both() -> None:
    rng = np.random.default_rng(1)
    rough = _measurement(_sample("throughput_per_s", 400 * np.exp(rng.normal(0, 0.3, 20)), "1/s", batch=8))
    sharp = _measurement(_sample("throughput_per_s", np.linspace(799, 801, 20), "1/s", batch=8))
    found = _one(_case(rough, sharp), "throughput >= 2x").estimate
    assert found is not None
    assert found.high / found.low > 1.2


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ("accuracy drop <= 1%", "no labelled data"),
        ("accuracy >= 90%", "no labelled data"),
        ("latency <= 10 ms", "not measured"),
        ("p99 <= 0.5x", "latency was not read for both"),
        ("size <= 1 MB", "size was not read"),
        ("memory <= 1 GB", "peak memory was not read"),
        ("energy <= 1 J", "no counter on this host"),
        ("energy <= 0.5x", "no counter on this host"),
        ("throughput >= 1 /s", "no throughput was read"),
    ],
)
def test_what_was_not_read_is_unavailable_with_the_reason(words: str, reason: str) -> None:
    bare = _measurement(Unavailable(quantity="energy_j", reason="no counter on this host", conditions={"batch": 1}))
    verdict = _one(_case(bare, bare), words)
    assert verdict.outcome == "unavailable"
    assert verdict.estimate is None
    assert reason in verdict.advice
    assert point(_case(bare, bare), parse_requirement(words)) is None


def test_a_percentile_that_the_calls_cannot_bound_is_refused() -> None:
    few = _measurement(_sample("latency_s", _TIMES[:100], "s", batch=1))
    verdict = _one(_case(few, few), "p99 <= 1 s")
    assert verdict.outcome == "unavailable"
    assert verdict.advice == "100 calls cannot bound p99: give more time with --budget"
    assert _one(_case(few, few), "p90 <= 1 s").outcome == "met"


def _following(rng: np.random.Generator, n: int, rho: float) -> NDArray[np.float64]:
    """Times of calls that follow each other: an AR(1) of standard normal logs in units of 5 %, around 10 ms."""
    logs = lfilter([math.sqrt(1 - rho**2)], [1, -rho], rng.normal(size=n + 500))[500:]
    return 0.010 * np.exp(0.05 * logs)


def test_calls_that_follow_each_other_are_not_taken_for_independent_ones() -> None:
    """The limit is the truth, so that met and broken are wrong alike: at most 5 % may be, and independence makes it a third."""
    rng = np.random.default_rng(11)
    truth = 0.010 * math.exp(0.05 * ndtri(0.9))
    wrong = naive = 0
    for _ in range(100):
        times = _following(rng, 4_000, 0.95)
        measured = _measurement(_sample("latency_s", times, "s", batch=1))
        wrong += _one(_case(measured, measured), f"p90 <= {1e3 * truth:.9f} ms").outcome != "undecided"
        _, low, high = percentile_interval(times, 0.9) or (0.0, 0.0, 0.0)
        naive += not low <= truth <= high
    assert wrong <= 12
    assert naive >= 30


def test_calls_worth_too_few_are_refused_with_what_they_are_worth() -> None:
    slow = 0.010 + 1e-6 * np.arange(600)
    slow[-10:] += 0.010  # late ones in one bunch, which is one event and not ten
    measured = _measurement(_sample("latency_s", slow, "s", batch=1))
    assert percentile_interval(slow, 0.99) is not None
    verdict = _one(_case(measured, measured), "p99 <= 1 s")
    assert verdict.outcome == "unavailable"
    assert re.fullmatch(r"600 calls, worth \d+ that do not follow each other, cannot bound p99: .*", verdict.advice)


def test_one_round_bounds_no_ratio() -> None:
    verdict = _one(_case(_BEFORE, _AFTER, _comparison([-3.0])), "latency <= 0.9x")
    assert verdict.outcome == "undecided"
    assert verdict.estimate is not None
    assert (verdict.estimate.low, verdict.estimate.high) == (0.0, math.inf)


def test_the_ratio_is_that_of_the_cases_own_arm() -> None:
    both = _comparison(np.linspace(-0.71, -0.69, 10), np.linspace(0.68, 0.70, 10))
    fast, slow = (Case(before=_BEFORE, after=_AFTER, comparison=both, arm=arm) for arm in (1, 2))
    verdicts = judge([fast, slow], [parse_requirement("latency <= 0.8x")])
    assert [row[0].outcome for row in verdicts] == ["met", "broken"]


# --- Holm ---------------------------------------------------------------------------------------------


def test_levels_step_down_over_the_family_and_exact_quantities_stand_outside() -> None:
    words = ["accuracy drop <= 5%", "latency <= 0.9x", "accuracy >= 80%", "size <= 2 MB", "size <= 0.1x"]
    row = judge([_case(_BEFORE, _AFTER)], [parse_requirement(w) for w in words])[0]
    levels = sorted((v.estimate.level for v in row[:3] if v.estimate), reverse=True)
    assert levels == pytest.approx([1 - 0.05 / 3, 1 - 0.05 / 2, 1 - 0.05])
    assert [v.outcome for v in row] == ["met", "met", "met", "met", "broken"]
    for exact in row[3:]:
        assert exact.p_value is None
        assert exact.estimate is not None
        assert exact.estimate.method == "counted"
    assert all(v.p_value is not None and v.p_value <= 0.05 / 3 for v in row[:3])


def test_claims_after_the_first_undecided_one_are_shown_at_its_level() -> None:
    words = ["accuracy drop <= 5%", "accuracy drop <= 1%", "accuracy drop <= 1.1%"]
    row = judge([_case(_BEFORE, _AFTER)], [parse_requirement(w) for w in words])[0]
    assert [v.outcome for v in row] == ["met", "undecided", "undecided"]
    assert [v.estimate.level for v in row if v.estimate] == pytest.approx([1 - 0.05 / 3, 0.975, 0.975])


def test_the_family_reaches_over_all_finalists() -> None:
    requirement = parse_requirement("accuracy drop <= 2%")
    rows = judge([_case(_BEFORE, _AFTER)] * 4, [requirement])
    levels = sorted(row[0].estimate.level for row in rows if row[0].estimate)
    assert levels == pytest.approx([1 - 0.05 / k for k in (1, 2, 3, 4)])


def test_p_values_are_those_of_the_t_test() -> None:
    logs = np.random.default_rng(3).normal(-0.5, 0.05, 10)
    verdict = _one(_case(_BEFORE, _AFTER, _comparison(logs)), "latency <= 0.62x")
    assert verdict.p_value == pytest.approx(stats.ttest_1samp(logs, math.log(0.62)).pvalue, rel=1e-5)


def test_no_cases_and_no_requirements_give_no_verdicts() -> None:
    assert judge([], [parse_requirement("size <= 1 MB")]) == ()
    assert judge([_case(_BEFORE, _AFTER)], []) == ((),)


@settings(max_examples=60, deadline=None)
@given(
    lost=st.integers(0, 30),
    won=st.integers(0, 30),
    spread=st.floats(1e-4, 0.5),
    centre=st.floats(-1, 1),
    drop=st.floats(0.001, 0.2),
    ratio=st.floats(0.2, 3.0),
    widen=st.sampled_from([0.0, 0.1]),
    seed=st.integers(0, 1_000),
)
def test_interval_and_outcome_always_agree(
    lost: int, won: int, spread: float, centre: float, drop: float, ratio: float, widen: float, seed: int
) -> None:
    before, after = np.ones(200, dtype=bool), np.ones(200, dtype=bool)
    after[:lost] = False
    before[lost : lost + won] = False
    logs = np.random.default_rng(seed).normal(centre, spread, 10)
    case = _case(
        _measurement(*_COST_BEFORE, right=before), _measurement(*_COST_AFTER, right=after), _comparison(logs), widen
    )
    requirements = [
        Requirement(quantity="accuracy", kind="max_drop", limit=drop, text="drop"),
        Requirement(quantity="accuracy", kind="min", limit=1 - drop, text="accuracy"),
        Requirement(quantity="latency", kind="max_ratio", limit=ratio, text="latency"),
        Requirement(quantity="p99", kind="max", limit=0.01 * ratio, text="p99"),
        Requirement(quantity="size", kind="max_ratio", limit=ratio, text="size"),
        Requirement(quantity="throughput", kind="min_ratio", limit=2 * ratio, text="throughput"),
    ]
    for verdict in judge([case], requirements)[0]:
        assert _agrees(verdict), verdict


@pytest.mark.slow
def test_at_the_limit_any_claim_is_made_in_five_percent_of_runs() -> None:
    """Two finalists whose accuracy and speed both stand exactly at their limits: whatever is decided is luck."""
    rng = np.random.default_rng(4)
    runs, n = 300, 800
    requirements = [parse_requirement("accuracy drop <= 2%"), parse_requirement("latency <= 0.5x")]
    met = decided = 0
    for _ in range(runs):
        cases = []
        logs = rng.normal(math.log(0.5), 0.03, (2, 10))
        for arm in (1, 2):
            kind = rng.choice(3, n, p=[0.03, 0.01, 0.96])  # lost, won, unchanged: a drop of exactly 2 %
            before, after = _measurement(right=kind != 1), _measurement(right=kind != 0)
            cases.append(Case(before=before, after=after, comparison=_comparison(*logs), arm=arm))
        outcomes = [v.outcome for row in judge(cases, requirements) for v in row]
        met += "met" in outcomes
        decided += set(outcomes) != {"undecided"}
    most = stats.binom.ppf(0.999, runs, 0.05)
    assert met <= most
    assert decided <= most
    assert decided > 0  # and the test can fail: some are decided by luck


# --- what would decide -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("also", "needed"), [([], 765), (["latency <= 0.6x"], 765), (["accuracy drop <= 0.4%"], 1_000)]
)
def test_digits_cannot_prove_half_a_point_and_the_advice_says_what_can(also: list[str], needed: int) -> None:
    """360 unchanged predictions leave a drop of 1.1 points open; with claims that fail too, Holm asks for more."""
    same = _measurement(right=np.ones(360, dtype=bool))
    requirements = [parse_requirement(w) for w in ["accuracy drop <= 0.5%", *also]]
    verdict = judge([_case(same, same)], requirements)[0][0]
    assert verdict.outcome == "undecided"
    assert verdict.estimate is not None
    z = stats.norm.ppf((1 + verdict.estimate.level) / 2)
    assert verdict.estimate.high == pytest.approx(z**2 / (360 + z**2), rel=1e-6)
    found = re.search(r"needs about ([\d,]+) test examples to decide at this limit; there are 360", verdict.advice)
    assert found is not None
    assert int(found[1].replace(",", "")) == pytest.approx(needed, rel=0.01)


def test_as_many_examples_as_advised_do_decide() -> None:
    same = _measurement(right=np.ones(765, dtype=bool))
    assert _one(_case(same, same), "accuracy drop <= 0.5%").outcome == "met"
    short = _measurement(right=np.ones(764, dtype=bool))
    assert _one(_case(short, short), "accuracy drop <= 0.5%").outcome == "undecided"


def test_a_drop_at_the_limit_will_not_be_helped_by_data() -> None:
    verdict = _one(_case(_BEFORE, _AFTER), "accuracy drop <= 1%")
    assert verdict.outcome == "undecided"
    assert "already at the limit" in verdict.advice


def test_more_rounds_are_advised_for_a_ratio_near_its_limit() -> None:
    logs = np.random.default_rng(5).normal(-0.7, 0.1, 10)
    limit = math.exp(logs.mean() + 0.03)
    case = _case(_BEFORE, _AFTER, _comparison(logs))
    requirement = Requirement(quantity="latency", kind="max_ratio", limit=limit, text="latency")
    verdict = judge([case], [requirement])[0][0]
    more = re.fullmatch(r"about (\d+) more rounds of processes would decide: give a longer --budget", verdict.advice)
    assert more is not None
    rounds = 10 + int(more[1])
    half = stats.t.ppf(0.975, rounds - 1) * logs.std(ddof=1) / math.sqrt(rounds)
    assert half < 0.03
    assert stats.t.ppf(0.975, rounds - 2) * logs.std(ddof=1) / math.sqrt(rounds - 1) >= 0.03


# --- the control --------------------------------------------------------------------------------------


def test_the_control_alarms_when_it_finds_a_difference() -> None:
    quiet, biased = np.random.default_rng(6).normal(0, 0.01, 10), np.linspace(0.02, 0.03, 10)
    found, alarm = control_ratio(_comparison(quiet), 1)
    assert not alarm
    assert found.low <= 1 <= found.high
    found, alarm = control_ratio(_comparison(biased), 1)
    assert alarm
    _, low, high = (math.exp(v) for v in (0, *stats.t.interval(0.95, 9, biased.mean(), stats.sem(biased))))
    assert (found.low, found.high) == pytest.approx((low, high))


def test_what_the_control_found_widens_every_interval_of_a_time() -> None:
    logs = np.random.default_rng(7).normal(-0.7, 0.01, 10)
    words = ["latency <= 0.52x", "latency <= 10.5 ms", "p99 <= 12 ms", "p99 <= 0.52x", "accuracy drop <= 2%"]
    for text in words:
        plain, wide = (_one(_case(_BEFORE, _AFTER, _comparison(logs), widen), text).estimate for widen in (0.0, 0.05))
        assert plain is not None
        assert wide is not None
        factor = 1.0 if text.startswith("accuracy") else math.exp(0.05)
        assert wide.high == pytest.approx(plain.high * factor)
        assert wide.low == pytest.approx(plain.low / factor)
    assert _one(_case(_BEFORE, _AFTER, _comparison(logs)), words[0]).outcome == "met"
    downgraded = _one(_case(_BEFORE, _AFTER, _comparison(logs), 0.05), words[0])
    assert downgraded.outcome == "undecided"
    assert downgraded.estimate is not None
    assert "widened by the A/A control" in downgraded.estimate.method


def test_the_point_is_the_one_of_the_verdict() -> None:
    for words, _ in TRUTHS:
        verdict = _one(_case(_BEFORE, _AFTER), words)
        assert verdict.estimate is not None
        assert point(_case(_BEFORE, _AFTER), verdict.requirement) == pytest.approx(verdict.estimate.value)
