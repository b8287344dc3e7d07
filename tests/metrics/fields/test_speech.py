"""Word and character error rates with intervals: against jiwer run again on every resample, and simulation."""

import dataclasses
import sys

import jiwer
import numpy as np
import pytest
import scipy.stats

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.metrics.fields import resampling, speech
from steelyard.metrics.fields.sentences import Texts
from steelyard.metrics.fields.speech import compare, score
from steelyard.records import Unavailable

WORDS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
Z2 = 1.959963985**2


def utterances(n=40, seed=0, wrong=0.15):
    rng = np.random.default_rng(seed)
    truth = [list(rng.choice(WORDS, rng.integers(1, 15))) for _ in range(n)]
    rates = rng.beta(2 * wrong, 2 * (1 - wrong), n)
    heard = [[x for w in t for x in misheard(rng, w, rate)] for t, rate in zip(truth, rates, strict=True)]
    return Texts(hypotheses=tuple(map(" ".join, heard)), references=(tuple(map(" ".join, truth)),))


def misheard(rng, word, rate):
    if rng.random() > rate:
        return [word]
    return [[], ["noise"], [word, "noise"]][rng.integers(3)]


def taken(data, order):
    return Texts(
        hypotheses=tuple(data.hypotheses[i] for i in order), references=(tuple(data.references[0][i] for i in order),)
    )


def library(data, metric):
    rate = jiwer.wer if metric == "wer" else jiwer.cer
    return rate(list(data.references[0]), list(data.hypotheses))


@pytest.mark.parametrize("wrong", [0.02, 0.3, 0.9])
def test_points_are_jiwers(wrong):
    data = utterances(30, 1, wrong)
    for got in score(data):
        assert got.value == pytest.approx(library(data, got.quantity), abs=1e-12)
        assert 0 <= got.low < got.value < got.high
        assert got.method.startswith("Poisson score, effective exposure by bootstrap over utterances; jiwer ")


@pytest.mark.parametrize("metric", ["wer", "cer"])
def test_draws_are_jiwer_on_resampled_utterances(metric):
    data = utterances(8, 2)
    (additive,) = speech._additives(data, [metric], False)
    order = np.lexsort(additive.rows.T[::-1])
    draws = resampling.resampled(resampling.unit_sums(additive.rows), additive.values, 40, 1)[:, 0]
    weights = next(resampling.weights(8, 40, 1)).astype(int)
    expected = [library(taken(data, np.repeat(order, weight)), metric) for weight in weights]
    np.testing.assert_allclose(draws, expected, atol=1e-12)


def test_error_rates_can_pass_one_and_are_never_means_of_rates():
    data = Texts(hypotheses=("a b c d", "one two three four"), references=(("x", "one two three four"),))
    (wer,) = score(data, ["wer"])
    assert wer.value == 4 / 5  # (1 substitution + 3 insertions) / 5 words; the mean of rates would be 2
    (worse,) = score(Texts(hypotheses=("a b c d",), references=(("x",),)), ["wer"])
    assert worse.value == 4.0
    assert worse.low < 4.0 < worse.high


def test_a_perfect_transcript_borrows_its_number_of_utterances():
    data = utterances(100)
    perfect = dataclasses.replace(data, hypotheses=data.references[0])
    for got in score(perfect):
        assert (got.value, got.low, got.high) == pytest.approx((0, 0, Z2 / 100))


def test_the_score_interval_of_a_rate_solves_its_equation():
    """Both ends r satisfy ``(rate - r)^2 = z^2 r / exposure``; for large counts they near scipy's exact Poisson ends."""
    low, high = resampling.poisson_rate(0.2, 50)
    for end in (low, high):
        assert (0.2 - end) ** 2 == pytest.approx(Z2 * end / 50)
    low, high = resampling.poisson_rate(1.0, 2000)
    exact = scipy.stats.chi2.ppf(0.025, 4000) / 4000, scipy.stats.chi2.ppf(0.975, 4002) / 4000
    assert (low, high) == pytest.approx(exact, abs=1e-3)


def test_standardising_is_jiwers_and_is_said():
    data = Texts(hypotheses=("it is  FINE",), references=(("It's fine [noise]",),))
    plain, clean = score(data, ["wer"]), score(data, ["wer"], standardize=True)
    assert plain[0].value == 1.0
    assert clean[0].value == jiwer.wer(
        data.references[0][0], data.hypotheses[0], jiwer.wer_standardize, jiwer.wer_standardize
    )
    assert clean[0].value == 0.0
    assert clean[0].method.endswith(", standardised")
    silent = Texts(hypotheses=("",), references=(("[noise]",),))
    assert isinstance(score(silent, ["wer"], standardize=True)[0], Unavailable)
    mixed = Texts(hypotheses=("", "a cat"), references=(("[noise]", "a cat"),))
    assert score(mixed, ["wer"], standardize=True)[0].value == 0.0


def test_undivided_chinese_has_no_words():
    data = Texts(hypotheses=("今天天气很好",), references=(("今天天气不错",),))
    wer, cer = score(data)
    assert wer == Unavailable(
        quantity="wer",
        reason="undefined: Chinese references are not divided into words; use cer, or put spaces between words",
    )
    assert cer.value == pytest.approx(2 / 6)
    divided = Texts(hypotheses=("今天 天气 很好",), references=(("今天 天气 不错",),))
    assert score(divided)[0].value == pytest.approx(1 / 3)
    assert isinstance(compare(data, data)[0], Unavailable)


def test_order_does_not_matter():
    data, other = utterances(30, 4), utterances(30, 4, 0.3)
    other = dataclasses.replace(other, references=data.references)
    order = np.random.default_rng(0).permutation(30)
    assert repr(score(data)) == repr(score(taken(data, order)))
    assert repr(compare(data, other)) == repr(compare(taken(data, order), taken(other, order)))


def test_comparison_is_paired_and_never_collapses():
    before = utterances(150, 5)
    heard = tuple(h.replace("seven", "eleven") for h in before.hypotheses)
    drop = compare(before, dataclasses.replace(before, hypotheses=heard), ["wer"])[0]
    alone = score(before, ["wer"])[0]
    assert drop.value > 0  # a higher error rate is worse
    assert 0 < drop.low < drop.value < drop.high
    assert drop.high - drop.low < alone.high - alone.low
    same = compare(before, before, ["wer"])[0]
    assert (same.value, same.high) == pytest.approx((0, Z2 / (150 + Z2)))
    one = Texts(hypotheses=("a",), references=(("b",),))
    right = Texts(hypotheses=("b",), references=(("b",),))
    single = compare(one, right, ["wer"])[0]
    assert single.value == -1.0
    assert single.low < -1 < single.high


@pytest.mark.parametrize(("n", "wrong", "documented"), [(40, 0.1, 0.933), (150, 0.03, 0.9375), (150, 0.4, 0.9535)])
def test_coverage_of_a_known_population(n, wrong, documented):
    """Very uneven utterances, Beta(0.2, 1.8) at 0.1: the coverage that the module's text gives, from 2,000 rounds."""
    (pool,) = speech._additives(utterances(3000, 7, wrong), ["wer"], False)
    known = float(pool.values(pool.rows.sum(axis=0))[0])
    rng = np.random.default_rng(1)
    held, rounds = 0, 600
    for seed in range(rounds):
        data = dataclasses.replace(pool, rows=pool.rows[rng.integers(0, 3000, n)])
        (got,) = resampling.score_sums(data, level=0.95, resamples=200, seed=seed)
        held += got.low <= known <= got.high
    assert held / rounds == pytest.approx(documented, abs=3 * (0.95 * 0.05 / rounds) ** 0.5)


def test_coverage_of_a_paired_difference():
    (old,) = speech._additives(first := utterances(2000, 7, 0.1), ["wer"], False)
    second = dataclasses.replace(utterances(2000, 8, 0.1), references=first.references)
    heard = [h if i % 3 else s for i, (h, s) in enumerate(zip(first.hypotheses, second.hypotheses, strict=True))]
    (new,) = speech._additives(dataclasses.replace(second, hypotheses=tuple(heard)), ["wer"], False)
    known = float((new.values(new.rows.sum(axis=0)) - old.values(old.rows.sum(axis=0)))[0])
    rng = np.random.default_rng(3)
    held, rounds = 0, 600
    for seed in range(rounds):
        chosen = rng.integers(0, 2000, 80)
        a, b = (dataclasses.replace(d, rows=d.rows[chosen]) for d in (old, new))
        (got,) = resampling.compare_sums(a, b, level=0.95, resamples=200, seed=seed)
        held += got.low <= known <= got.high
    assert 0.92 <= held / rounds <= 0.99


def test_bad_input_is_one_line():
    with pytest.raises(InvalidInput, match="one reference per utterance; got 2"):
        score(Texts(hypotheses=("a",), references=(("a",), ("b",))))
    with pytest.raises(InvalidInput, match="unknown speech metric 'mer'; known are wer, cer"):
        score(utterances(2), ["mer"])
    with pytest.raises(InvalidInput, match="at least 2 resamples, better 1000; got 0"):
        score(utterances(2), resamples=0)
    with pytest.raises(InvalidInput, match="confidence level"):
        score(utterances(2), level=95)
    with pytest.raises(InvalidInput, match="reference 1 is empty"):
        score(Texts(hypotheses=("a",), references=(("",),)))


def test_a_missing_library_names_its_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "jiwer", None)
    with pytest.raises(MissingExtra, match="scoring transcripts needs the 'fields' extra"):
        score(utterances(2))
