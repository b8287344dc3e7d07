"""Language models and question answering: perplexity, bits per byte, exact match and token F1.

Perplexity and bits per byte are functions of sums over tokens. Tokens of one text depend on each other, so the text is
the unit: give its ids as clusters to `stats.sums.spread`. Exact match and token F1 have one value per question, whose
terms are `stats.sums.mean_terms`.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput
from steelyard.stats.sums import mean, mean_terms

__all__ = [
    "answer_tokens",
    "bits_per_byte",
    "byte_terms",
    "bytes_undefined",
    "exact_matches",
    "normalised_answer",
    "perplexity",
    "token_f1s",
    "token_terms",
]

Floats = NDArray[np.float64]
Language = Literal["en", "zh"]
References = Sequence[str | Sequence[str]]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_ASCII_PUNCTUATION = str.maketrans("", "", string.punctuation)
_HAN = re.compile("([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f])")
_LN2 = float(np.log(2.0))


def token_terms(log_probabilities: ArrayLike) -> Floats:
    """``(-log p, 1)`` per token ``(n,)``, in nats; natural logarithms at most 0.

    Raises `InvalidInput` for none, NaN, a positive value, or minus infinity (a probability of 0 makes perplexity
    infinite: clip it, and say so).
    """
    return mean_terms(_surprisals(log_probabilities))


def perplexity(sums: Floats) -> Floats:
    """``exp(mean of -log p)`` per token of ``(..., 2)`` sums; in [1, inf), NaN without tokens.

    Its interval is that of the mean loss, put through exp: the scale ``log``.

    >>> float(perplexity(token_terms(np.log([0.5, 0.5, 0.25, 0.25])).sum(0)).round(4))
    2.8284
    """
    with np.errstate(over="ignore"):
        return np.exp(mean(sums))


def byte_terms(log_probabilities: ArrayLike, byte_counts: ArrayLike) -> Floats:
    """``(-log2 p, bytes)`` per token, from natural logarithms and the UTF-8 bytes that each token stands for.

    The same holds for texts instead of tokens: summed log-probabilities and the bytes of each text.
    """
    surprisals, counts = _surprisals(log_probabilities), np.asarray(byte_counts)
    if counts.shape != surprisals.shape:
        raise InvalidInput(f"byte counts must be one per token; got {counts.shape} for {surprisals.shape}")
    wrong = np.flatnonzero(~((counts >= 0) & (counts == np.floor(counts)) & np.isfinite(counts)))
    if len(wrong):
        raise InvalidInput(f"byte count {counts[wrong[0]]} of token {wrong[0]} is not a whole number from 0 on")
    return np.column_stack([surprisals / _LN2, counts.astype(np.float64)])


def bits_per_byte(sums: Floats) -> Floats:
    """Bits per byte of text from ``(..., 2)`` sums; in [0, inf), comparable between tokenisers, NaN without bytes.

    >>> float(bits_per_byte(byte_terms(np.log([0.5, 0.25]), [1, 5]).sum(0)))
    0.5
    """
    return mean(sums)


def bytes_undefined(sums: Floats) -> str | None:
    """Why bits per byte of these sums ``(2,)`` are undefined, or None.

    >>> bytes_undefined(byte_terms([-1.0], [0]).sum(0))
    'undefined: the tokens stand for no bytes'
    """
    return None if sums[1] > 0 else "undefined: the tokens stand for no bytes"


def _surprisals(log_probabilities: ArrayLike) -> Floats:
    values = np.asarray(log_probabilities, dtype=np.float64)
    if values.ndim != 1 or values.size == 0:
        raise InvalidInput(f"log-probabilities must be a non-empty row, one per token; got shape {values.shape}")
    wrong = np.flatnonzero(~(np.isfinite(values) & (values <= 0)))
    if len(wrong):
        bad = values[wrong[0]]
        cure = "pass natural logarithms of probabilities" if bad > 0 else "clip probabilities of 0 and leave out NaN"
        raise InvalidInput(f"log-probability {bad} of token {wrong[0]} is not finite and at most 0: {cure}")
    return -values + 0.0


# --- answers ------------------------------------------------------------------------------------------


def normalised_answer(text: str, language: Language = "en") -> str:
    """An answer as SQuAD compares it: lower case, no punctuation, no articles, single spaces.

    Rajpurkar et al. (2016), section 6.1: articles are ``a``, ``an`` and ``the``, punctuation is ASCII's. For Chinese
    (``zh``) there are no articles, all of Unicode's punctuation goes, and full-width forms become half-width (NFKC).

    >>> normalised_answer("The  Eiffel-Tower!")
    'eiffeltower'
    >>> normalised_answer("《红楼梦》，曹雪芹。", "zh")
    '红楼梦曹雪芹'
    """
    if language == "en":
        return " ".join(_ARTICLES.sub(" ", text.lower().translate(_ASCII_PUNCTUATION)).split())
    plain = unicodedata.normalize("NFKC", text).lower()
    kept = (" " if c.isspace() else c for c in plain if not unicodedata.category(c).startswith("P"))
    return " ".join("".join(kept).split())


def answer_tokens(text: str, language: Language = "en") -> list[str]:
    """The tokens of a normalised answer: words; for Chinese each character, with words and numbers in Latin script whole.

    >>> answer_tokens("约 3.5 万人 in Beijing", "zh")
    ['约', '35', '万', '人', 'in', 'beijing']
    """
    plain = normalised_answer(text, language)
    return (_HAN.sub(r" \1 ", plain) if language == "zh" else plain).split()


def exact_matches(
    predicted: Sequence[str], references: References, *, normalise: bool = True, language: Language = "en"
) -> Floats:
    """1 where an answer equals one of its references, else 0; per question ``(n,)``.

    Without `normalise` the texts must be equal to the letter. Raises `InvalidInput` for unequal numbers, no questions, a
    question without reference, or answers that are not text.

    >>> exact_matches(["The cat.", "dog"], ["cat", ["a dog!", "hound"]])
    array([1., 1.])
    """
    pairs = _pairs(predicted, references)
    form = (lambda text: normalised_answer(text, language)) if normalise else str
    return np.array([float(form(guess) in {form(r) for r in right}) for guess, right in pairs])


def token_f1s(predicted: Sequence[str], references: References, *, language: Language = "en") -> Floats:
    """The best F1 of an answer's tokens against those of its references, per question ``(n,)``, in [0, 1].

    ``2 P R / (P + R)`` with the tokens in common counted as often as both have them (Rajpurkar et al. 2016). Where either
    has no tokens, 1 if both have none and else 0 (Rajpurkar, Jia and Liang 2018: questions without an answer). Raises
    `InvalidInput` as :func:`exact_matches` does.

    >>> token_f1s(["the big black cat"], ["a black cat"]).round(4)
    array([0.8])
    """
    pairs = _pairs(predicted, references)
    return np.array(
        [max(_f1(answer_tokens(guess, language), answer_tokens(r, language)) for r in right) for guess, right in pairs]
    )


def _f1(guess: list[str], right: list[str]) -> float:
    if not guess or not right:
        return float(guess == right)
    common = sum((Counter(guess) & Counter(right)).values())
    return 2 * common / (len(guess) + len(right))


def _pairs(predicted: Sequence[str], references: References) -> list[tuple[str, list[str]]]:
    if len(predicted) != len(references) or not len(predicted):
        raise InvalidInput(f"{len(predicted)} answers for {len(references)} questions: pass one answer per question")
    pairs = [(g, [r] if isinstance(r, str) else list(r)) for g, r in zip(predicted, references, strict=True)]
    for row, (guess, right) in enumerate(pairs):
        if not right or not all(isinstance(text, str) for text in (guess, *right)):
            raise InvalidInput(f"question {row} needs a text as its answer and at least one text as reference")
    return pairs
