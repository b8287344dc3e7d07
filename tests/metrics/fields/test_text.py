"""BLEU, chrF, TER and ROUGE with intervals: against sacrebleu and rouge-score, run again on every resample."""

import dataclasses
import sys
import time

import numpy as np
import pytest
import sacrebleu
from rouge_score.rouge_scorer import RougeScorer

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.metrics.fields import resampling, text
from steelyard.metrics.fields.text import SUMMARIES, TRANSLATION, Texts, score
from steelyard.records import Unavailable
from steelyard.stats.proportion import wilson

WORDS = [*"abcdefghij", "the", "cat", "sat", "on", "mat", "quickly", "yesterday", ",", "."]
ALL = (*TRANSLATION, *SUMMARIES)
Z2 = 1.959963985**2


def texts(n=40, seed=0, right=0.8, references=1, length=9):
    rng = np.random.default_rng(seed)
    truth = [[["we", *rng.choice(WORDS, rng.integers(1, 2 * length))] for _ in range(n)] for _ in range(references)]
    skill = rng.beta(6 * right, 6 * (1 - right), n)
    heard = [[w if rng.random() < s else rng.choice(WORDS) for w in t] for t, s in zip(truth[0], skill, strict=True)]
    return Texts(hypotheses=joined(heard), references=tuple(map(joined, truth)))


def joined(lines):
    return tuple(" ".join(line) for line in lines)


def taken(data, order):
    return dataclasses.replace(
        data,
        hypotheses=tuple(data.hypotheses[i] for i in order),
        references=tuple(tuple(r[i] for i in order) for r in data.references),
        clusters=tuple(data.clusters[i] for i in order) if data.clusters else (),
    )


def library(data, metric, tokenizer="13a"):
    references = [list(r) for r in data.references]
    if metric == "bleu":
        return sacrebleu.corpus_bleu(data.hypotheses, references, tokenize=tokenizer, force=True).score
    if metric == "chrf":
        return sacrebleu.corpus_chrf(data.hypotheses, references).score
    if metric == "ter":
        chinese = tokenizer == "zh"
        return sacrebleu.corpus_ter(data.hypotheses, references, normalized=chinese, asian_support=chinese).score
    scorer = RougeScorer([metric])
    pairs = zip(data.hypotheses, *references, strict=True)
    return np.mean([max(scorer.score(target, h)[metric].fmeasure for target in targets) for h, *targets in pairs])


def by_name(results):
    return {r.quantity: r for r in results}


@pytest.mark.parametrize("references", [1, 3])
@pytest.mark.parametrize("right", [0.01, 0.5, 0.95])
def test_points_are_the_libraries(references, right):
    data = texts(25, 1, right, references)
    for got in score(data, ALL, resamples=20):
        assert got.value == pytest.approx(library(data, got.quantity), abs=1e-9)
        assert got.low < got.high
        assert 0 <= got.low <= got.value <= got.high


@pytest.mark.parametrize("metric", ALL)
@pytest.mark.parametrize("length", [2, 9])
def test_draws_are_the_library_on_resampled_sentences(metric, length):
    """Short sentences leave whole n-gram orders without a match or without any n-gram: smoothing and its edges."""
    data = texts(6, 3, 0.5, 1, length)
    (additive,) = text._additives(data, [metric], "13a")
    order = np.lexsort(additive.rows.T[::-1])
    draws = resampling.resampled(resampling.unit_sums(additive.rows), additive.values, 30, 7)[:, 0]
    weights = next(resampling.weights(6, 30, 7)).astype(int)
    expected = [library(taken(data, np.repeat(order, weight)), metric) for weight in weights]
    np.testing.assert_allclose(draws, expected, atol=1e-9)


def test_bleu_of_the_published_example():
    """Papineni et al. (2002), example 2: "the" seven times has a modified unigram precision of 2/7."""
    data = Texts(
        hypotheses=("the the the the the the the",),
        references=(("the cat is on the mat",), ("there is a cat on the mat",)),
    )
    (additive,) = text._additives(data, ["bleu"], "13a")
    assert additive.rows[0][2] / additive.rows[0][6] == pytest.approx(2 / 7)
    assert score(data, ["bleu"])[0].value == pytest.approx(
        100 * (2 / 7 * 1 / (2 * 6) * 1 / (4 * 5) * 1 / (8 * 4)) ** 0.25, abs=1e-9
    )


def test_rouge_of_the_published_example():
    """Lin (2004), section 3: ROUGE-L of "police kill the gunman" is 3/4, of "the gunman kill police" 2/4."""
    data = Texts(
        hypotheses=("police kill the gunman", "the gunman kill police"), references=(("police killed the gunman",) * 2,)
    )
    assert score(data, ["rougeL"])[0].value == pytest.approx((3 / 4 + 2 / 4) / 2)


def test_method_names_the_signature():
    got = by_name(score(texts(5), ALL))
    assert got["bleu"].method.startswith(
        "Wilson, effective n by bootstrap over sentences; nrefs:1|case:mixed|eff:no|tok:13a"
    )
    assert got["ter"].method.startswith(
        "Poisson score, effective exposure by bootstrap over sentences; nrefs:1|case:lc"
    )
    assert "over summaries; rouge-score 0." in got["rougeL"].method
    assert (got["bleu"].unit, got["rougeL"].unit) == ("points", "fraction")


def test_chinese_counts_characters():
    data = Texts(hypotheses=("今天天气很好。", "我喜欢猫。"), references=(("今天天气不错。", "我喜欢狗。"),))
    got = by_name(score(data, ALL, tokenizer="zh"))
    assert got["bleu"].value == pytest.approx(library(data, "bleu", "zh"), abs=1e-9)
    assert got["ter"].value == pytest.approx(library(data, "ter", "zh"), abs=1e-9)
    assert got["ter"].value == pytest.approx(100 * 3 / 12)
    assert got["rouge1"].value == pytest.approx((4 / 6 + 3 / 4) / 2)
    assert "tok:zh" in got["bleu"].method
    words = by_name(score(data, ALL))
    assert words["rouge1"].reason.startswith("undefined: reference 1 has no Latin letter or digit")


def test_perfect_texts_borrow_their_number_of_sentences():
    data = texts(80)
    perfect = dataclasses.replace(data, hypotheses=data.references[0])
    low = wilson(80, 80)[0]
    for got in score(perfect, ["bleu", "chrf", "rouge1"]):
        span = 100 if got.unit == "points" else 1
        assert (got.value, got.low, got.high) == pytest.approx((span, span * low, span), abs=1e-9)
        assert got.high <= span
    ter = score(perfect, ["ter"])[0]
    assert (ter.value, ter.low, ter.high) == pytest.approx((0, 0, 100 * Z2 / 80))


@pytest.mark.parametrize("metric", ALL)
def test_order_does_not_matter(metric):
    data = dataclasses.replace(texts(30, 4), clusters=tuple(str(i // 3) for i in range(30)))
    order = np.random.default_rng(0).permutation(30)
    assert repr(score(data, [metric])) == repr(score(taken(data, order), [metric]))
    other = dataclasses.replace(texts(30, 4, 0.5), references=data.references, clusters=data.clusters)
    assert repr(text.compare(data, other, [metric])) == repr(
        text.compare(taken(data, order), taken(other, order), [metric])
    )


@pytest.mark.parametrize("metric", ALL)
def test_comparison_is_paired_and_never_collapses(metric):
    before = texts(120, 5)
    rng = np.random.default_rng(1)
    worse = [" ".join(w if rng.random() > 0.1 else "zebra" for w in h.split()) for h in before.hypotheses]
    after = dataclasses.replace(before, hypotheses=tuple(worse))
    (drop,) = text.compare(before, after, [metric])
    (old,), (new,) = score(before, [metric]), score(after, [metric])
    span = 100 if old.unit == "points" else 1
    sign = -1 if metric == "ter" else 1
    assert drop.quantity == f"{metric}_drop"
    assert drop.value == pytest.approx(sign * (old.value - new.value), abs=1e-9)
    assert 0 < drop.low < drop.value < drop.high
    assert drop.high - drop.low < 0.9 * (old.high - old.low)
    (same,) = text.compare(before, before, [metric])
    assert (same.value, same.low, same.high) == pytest.approx((0, -span * Z2 / (120 + Z2), span * Z2 / (120 + Z2)))


def test_clusters_widen_what_copies_would_narrow():
    data = texts(30, 6)
    copies = taken(data, np.repeat(np.arange(30), 5))
    clustered = dataclasses.replace(copies, clusters=tuple(str(i) for i in np.repeat(np.arange(30), 5)))
    (single,), (naive,), (together,) = (score(d, ["bleu"]) for d in (data, copies, clustered))
    assert (together.low, together.high) == pytest.approx((single.low, single.high), abs=1e-9)
    assert naive.high - naive.low < 0.55 * (single.high - single.low)
    assert "30 clusters of sentences" in together.method


@pytest.mark.slow
@pytest.mark.parametrize("metric", ["bleu", "chrf", "ter", "rouge1"])
def test_coverage_of_a_known_population(metric):
    """Sentences drawn from 1,000: the score of all lies in about 95 % of the intervals from 40 and from 150."""
    (pool,) = text._additives(texts(1000, 8, 0.7), [metric], "13a")
    known = float(pool.values(pool.rows.sum(axis=0))[0])
    rng = np.random.default_rng(2)
    for n in (40, 150):
        held, rounds = 0, 600
        for seed in range(rounds):
            data = dataclasses.replace(pool, rows=pool.rows[rng.integers(0, 1000, n)])
            (got,) = resampling.score_sums(data, level=0.95, resamples=200, seed=seed)
            held += got.low <= known <= got.high
        assert 0.92 <= held / rounds <= 0.985


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (Texts(hypotheses=("a", "b"), references=(("a",),)), "2 hypotheses but 1 references"),
        (Texts(hypotheses=("a", "b"), references=(("a", " "),)), "reference 2 is empty"),
        (Texts(hypotheses=(), references=((),)), "no sentences"),
        (Texts(hypotheses=("a",), references=()), "no sentences"),
        (Texts(hypotheses=("a",), references=(("a",),), clusters=("x", "y")), "2 cluster labels for 1 sentences"),
        (Texts(hypotheses=(None,), references=(("a",),)), "hypothesis 1 is NoneType, not text"),
    ],
)
def test_bad_texts_are_one_line(data, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        score(data)
    assert "\n" not in str(caught.value)


def test_unknown_words_name_the_known():
    with pytest.raises(InvalidInput, match="unknown text metric 'blue'; known are bleu, chrf"):
        score(texts(3), ["blue"])
    with pytest.raises(InvalidInput, match="unknown tokenizer 'xx'; known are 13a, intl, zh"):
        score(texts(3), tokenizer="xx")
    with pytest.raises(InvalidInput, match="same references"):
        text.compare(texts(3), texts(3, 1))


def test_an_empty_hypothesis_is_scored():
    data = Texts(hypotheses=("", "a cat sat on the mat"), references=(("a dog", "a cat sat on the mat"),))
    got = by_name(score(data, ALL))
    assert got["ter"].value == pytest.approx(100 * 2 / 8)
    assert got["rouge1"].value == 0.5
    nothing = by_name(score(dataclasses.replace(data, hypotheses=("", "")), ALL))
    assert (nothing["bleu"].value, nothing["bleu"].low) == (0, 0)
    assert 0 < nothing["bleu"].high < 100
    assert not any(isinstance(r, Unavailable) for r in nothing.values())


@pytest.mark.slow
def test_a_hundred_thousand_sentences_take_seconds():
    (data,) = text._additives(texts(500, 1), ["bleu"], "13a")
    many = dataclasses.replace(data, rows=np.repeat(data.rows, 200, axis=0))
    began = time.process_time()
    (got,) = resampling.score_sums(many, level=0.95, resamples=1000, seed=0)
    assert time.process_time() - began < 30
    assert got.n == 100_000


@pytest.mark.parametrize(("library", "metric"), [("sacrebleu", "bleu"), ("rouge_score", "rouge1")])
def test_a_missing_library_names_its_extra(library, metric, monkeypatch):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match="needs the 'fields' extra"):
        score(texts(3), [metric])
