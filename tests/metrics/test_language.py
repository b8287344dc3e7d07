"""Perplexity and bits per byte by hand, and answers against the published definitions written out."""

import math
import re
import string
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.metrics import language as q
from steelyard.stats.sums import interval, spread, sums


def test_perplexity_of_a_uniform_model_is_its_vocabulary():
    assert q.perplexity(sums(q.token_terms(np.full(9, -math.log(50_257))))) == pytest.approx(50_257)


def test_perplexity_and_bits_per_byte_written_out():
    p, sizes = np.array([0.5, 0.1, 0.9]), [3, 1, 4]
    assert q.perplexity(sums(q.token_terms(np.log(p)))) == pytest.approx(np.prod(1 / p) ** (1 / 3))
    assert q.bits_per_byte(sums(q.byte_terms(np.log(p), sizes))) == pytest.approx(-np.log2(p).sum() / 8)


def test_bits_per_byte_do_not_depend_on_the_tokens():
    p = np.log([0.5, 0.1, 0.9, 0.3])
    whole = q.byte_terms([p.sum()], [10])
    assert q.bits_per_byte(sums(q.byte_terms(p, [1, 2, 3, 4]))) == pytest.approx(q.bits_per_byte(sums(whole)))


def test_no_bytes_is_undefined_and_a_huge_loss_infinite():
    none = sums(q.byte_terms([-1.0], [0]))
    assert np.isnan(q.bits_per_byte(none))
    assert q.bytes_undefined(none) == "undefined: the tokens stand for no bytes"
    assert q.bytes_undefined(sums(q.byte_terms([-1.0], [2]))) is None
    assert q.perplexity(sums(q.token_terms([-1e4]))) == math.inf


def test_perplexity_interval_is_that_of_the_mean_loss_and_covers_with_documents_as_clusters():
    rng = np.random.default_rng(0)
    held = alone = 0
    for _ in range(400):
        documents = np.repeat(np.arange(40), 25)
        loss = 3 + 0.5 * rng.standard_normal(40)[documents] + np.abs(rng.standard_normal(1000))
        terms = q.token_terms(-loss)
        truth = math.exp(3 + math.sqrt(2 / math.pi))
        low, high = interval(spread(terms, q.perplexity, clusters=documents), low=1, high=math.inf)
        held += low <= truth <= high
        low, high = interval(spread(terms, q.perplexity), low=1, high=math.inf)
        alone += low <= truth <= high
    assert 0.92 <= held / 400 <= 0.975
    assert alone / 400 < 0.8  # tokens of one text are not independent


# --- answers: the rules of the SQuAD paper, written out another way ------------------------------------


def plain(text):
    kept = [c for c in text.lower() if c not in set(string.punctuation)]
    return [word for word in re.split(r"\s+", "".join(kept)) if word and word not in {"a", "an", "the"}]


WORDS = st.lists(
    st.sampled_from(["the", "a", "An", "cat", "Cat's", "U.S.", "red-hot", "42", "!", "theory"]), max_size=6
)


@given(WORDS, WORDS)
def test_english_answers_match_the_definition(guess, right):
    one, other = plain(" ".join(guess)), plain(" ".join(right))
    common = sum((Counter(one) & Counter(other)).values())
    f1 = 0.0
    if common:
        precision, recall = common / len(one), common / len(other)
        f1 = 2 * precision * recall / (precision + recall)
    elif not one and not other:
        f1 = 1.0
    assert q.token_f1s([" ".join(guess)], [" ".join(right)])[0] == pytest.approx(f1)
    assert q.exact_matches([" ".join(guess)], [" ".join(right)])[0] == float(one == other)


def test_the_best_reference_counts():
    assert q.token_f1s(["red cat"], [["dog", "a cat", "blue cat sat"]]) == pytest.approx([2 / 3])
    assert q.exact_matches(["42"], [["41", "42."]]).tolist() == [1.0]


def test_without_normalisation_every_letter_counts():
    assert q.exact_matches(["Cat", "cat"], ["cat", "cat"], normalise=False).tolist() == [0.0, 1.0]


def test_chinese_is_compared_by_character():
    # 4 characters in common of 5 and 4: 2 * 4 / 9
    assert q.token_f1s(["中国北京市"], ["中国北京。"], language="zh") == pytest.approx([8 / 9])
    assert q.exact_matches(["「ＡＩ」，很好！"], ["ai很好"], language="zh").tolist() == [1.0]
    assert q.answer_tokens("GPT模型 v2", "zh") == ["gpt", "模", "型", "v2"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: q.token_terms([0.1]), "log-probability 0.1 of token 0"),
        (lambda: q.token_terms([-1.0, np.nan]), "token 1"),
        (lambda: q.token_terms([-np.inf]), "clip"),
        (lambda: q.token_terms([]), "non-empty"),
        (lambda: q.byte_terms([-1.0], [1, 2]), "one per token"),
        (lambda: q.byte_terms([-1.0], [1.5]), "byte count 1.5"),
        (lambda: q.exact_matches([], []), "0 answers"),
        (lambda: q.exact_matches(["a"], ["a", "b"]), "1 answers for 2"),
        (lambda: q.exact_matches(["a"], [[]]), "question 0"),
        (lambda: q.token_f1s([None], ["a"]), "question 0"),
    ],
)
def test_bad_input_is_refused(call, says):
    with pytest.raises(InvalidInput, match=says):
        call()
