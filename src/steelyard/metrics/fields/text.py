"""Translation (BLEU, chrF, TER through sacrebleu) and summaries (ROUGE-1, -2, -L through rouge-score).

BLEU, chrF and TER are corpus scores on their field's scale, points from 0 to 100 (TER can exceed it); the method names
sacrebleu's signature. ROUGE is the mean over summaries of the F-measure in [0, 1] (of the best reference, where there
are several). Sentences are resampled through the libraries' sentence statistics: n-gram matches and lengths for BLEU
(Papineni et al. 2002, exponential smoothing) and chrF (Popović 2015, beta 2), edits and reference lengths for TER
(Snover et al. 2006), F-measures for ROUGE (Lin 2004).

Chinese needs ``tokenizer="zh"``: BLEU, TER and ROUGE then count characters. ROUGE's own tokeniser keeps Latin letters and
digits only, so a reference without any leaves it undefined.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.metrics.fields import resampling
from steelyard.metrics.fields.resampling import Additive
from steelyard.metrics.fields.sentences import Texts, check, check_same, read_lines, read_table
from steelyard.records import Estimate, Unavailable

__all__ = ["SUMMARIES", "TOKENIZERS", "TRANSLATION", "Texts", "compare", "read_lines", "read_table", "score"]

Floats = NDArray[np.float64]

TRANSLATION = ("bleu", "chrf", "ter")
SUMMARIES = ("rouge1", "rouge2", "rougeL")
TOKENIZERS = ("13a", "intl", "zh", "char", "none")
"""sacrebleu's tokenisers for BLEU that need no download; ``13a`` is the field's default."""

_ORDERS = 4  # of BLEU's n-grams
_CHRF_BETA = 2


def score(
    texts: Texts,
    metrics: Sequence[str] = TRANSLATION,
    *,
    tokenizer: str = "13a",
    level: float = 0.95,
    resamples: int = resampling.RESAMPLES,
    seed: int = 0,
) -> tuple[Estimate | Unavailable, ...]:
    """Each of `metrics` with its interval, in their order.

    Raises `InvalidInput` for texts that do not pair up or an unknown metric or tokenizer, and `MissingExtra` where the
    library is not installed.

    >>> same = Texts(hypotheses=("the cat sat on the mat",) * 50, references=(("the cat sat on the mat",) * 50,))
    >>> [(e.quantity, round(e.value, 6), round(e.low, 1), e.high) for e in score(same, ["bleu", "rougeL"])]
    [('bleu', 100.0, 92.9, 100.0), ('rougeL', 1.0, 0.9, 1.0)]
    """
    return tuple(
        result
        for data in _additives(texts, metrics, tokenizer)
        for result in resampling.score_sums(data, level=level, resamples=resamples, seed=seed)
    )


def compare(
    before: Texts,
    after: Texts,
    metrics: Sequence[str] = TRANSLATION,
    *,
    tokenizer: str = "13a",
    level: float = 0.95,
    resamples: int = resampling.RESAMPLES,
    seed: int = 0,
) -> tuple[Estimate | Unavailable, ...]:
    """The drop of each of `metrics` from `before` to `after` on the same sentences; positive is worse.

    Quantities are named ``NAME_drop``. Raises as :func:`score`, and `InvalidInput` for other references.
    """
    check_same(before, after)
    pairs = zip(_additives(before, metrics, tokenizer), _additives(after, metrics, tokenizer), strict=True)
    return tuple(
        result
        for old, new in pairs
        for result in resampling.compare_sums(old, new, level=level, resamples=resamples, seed=seed)
    )


def _additives(texts: Texts, metrics: Sequence[str], tokenizer: str) -> list[Additive]:
    check(texts)
    if tokenizer not in TOKENIZERS:
        raise InvalidInput(f"unknown tokenizer {tokenizer!r}; known are {', '.join(TOKENIZERS)}")
    for name in metrics:
        if name not in _ADDITIVE:
            raise InvalidInput(f"unknown text metric {name!r}; known are {', '.join(_ADDITIVE)}")
    return [_ADDITIVE[name](texts, tokenizer) for name in metrics]


# --- translation -----------------------------------------------------------------------------------


def _bleu(texts: Texts, tokenizer: str) -> Additive:
    return _sacrebleu("bleu", texts, _library().BLEU(tokenize=tokenizer, force=True), _bleu_of)


def _chrf(texts: Texts, tokenizer: str) -> Additive:  # noqa: ARG001  # chrF reads characters whatever the language
    return _sacrebleu("chrf", texts, _library().CHRF(), _chrf_of)


def _ter(texts: Texts, tokenizer: str) -> Additive:
    chinese = tokenizer == "zh"
    return _sacrebleu("ter", texts, _library().TER(normalized=chinese, asian_support=chinese), _ter_of)


def _library() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError:
        raise MissingExtra("fields", needed_for="scoring translations") from None
    return metrics


def _sacrebleu(name: str, texts: Texts, metric: Any, values: resampling.SumStatistic) -> Additive:
    """Sentence statistics as sacrebleu's own significance tests take them, and its signature."""
    rows = metric._extract_corpus_statistics(texts.hypotheses, texts.references)
    return Additive(
        quantities=(name,),
        rows=np.array(rows, dtype=np.float64),
        values=values,
        sizes=lambda units: [float(len(units))],
        undefined="undefined: the references are empty after tokenisation",
        note=f"; {metric.get_signature()}",
        clusters=texts.clusters,
    )


def _bleu_of(sums: Floats) -> Floats:
    """BLEU of summed statistics ``(..., 10)``: lengths, then matches and totals of the four orders.

    ``100 min(1, exp(1 - r / h)) (p1 p2 p3 p4)^(1/4)``; the i-th order without a match has half the precision of a
    single match for each of the i orders without one (sacrebleu's ``exp``).
    """
    hypothesis, reference = sums[..., 0], sums[..., 1]
    matches, totals = sums[..., 2 : 2 + _ORDERS], sums[..., 2 + _ORDERS :]
    misses = np.cumsum(matches == 0, axis=-1)
    smoothed = np.where(matches > 0, matches, 0.5**misses)
    logs = np.log(smoothed / np.maximum(totals, 1)).mean(axis=-1)
    penalty = np.minimum(0.0, 1 - reference / np.maximum(hypothesis, 1))
    scored = (totals > 0).all(axis=-1) & (matches > 0).any(axis=-1)
    return np.asarray(np.where(scored, 100 * np.exp(logs + penalty), 0.0)[..., None])


def _chrf_of(sums: Floats) -> Floats:
    """chrF of summed statistics ``(..., 18)``: n-grams of hypothesis, reference and both, for each of six orders.

    F of the mean precision and mean recall over the orders that both sides have (sacrebleu's effective order).
    """
    hypothesis, reference, matches = np.moveaxis(sums.reshape(*sums.shape[:-1], -1, 3), -1, 0)
    used = (hypothesis > 0) & (reference > 0)
    orders = np.maximum(used.sum(axis=-1), 1)
    precision = np.where(used, matches / np.maximum(hypothesis, 1), 0.0).sum(axis=-1) / orders
    recall = np.where(used, matches / np.maximum(reference, 1), 0.0).sum(axis=-1) / orders
    factor = _CHRF_BETA**2
    whole = factor * precision + recall
    f = np.divide((1 + factor) * precision * recall, whole, out=np.zeros_like(whole), where=whole > 0)
    return np.asarray(100 * f[..., None])


def _ter_of(sums: Floats) -> Floats:
    """``100 edits / reference words`` of summed statistics ``(..., 2)``; a reference's length is the mean of several."""
    return 100 * _ratio(sums[..., :1], sums[..., 1:])


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


# --- summaries -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Characters:
    """Tokens for Chinese: words of Latin letters and digits, and every other letter by itself."""

    def tokenize(self, text: str) -> list[str]:
        return re.findall(r"[a-z0-9]+|[^\W_]", text.lower())


def _rouge(name: str, texts: Texts, tokenizer: str) -> Additive:
    try:
        from rouge_score import rouge_scorer, tokenizers
    except ImportError:
        raise MissingExtra("fields", needed_for="scoring summaries") from None
    characters = tokenizer in ("zh", "char")
    words = _Characters() if characters else tokenizers.DefaultTokenizer()
    scorer = rouge_scorer.RougeScorer([name], tokenizer=words)
    references = list(zip(*texts.references, strict=True))
    pairs = zip(references, texts.hypotheses, strict=True)
    f = [scorer.score_multi(targets, hypothesis)[name].fmeasure for targets, hypothesis in pairs]
    empty = next((i for i, targets in enumerate(references) if not any(map(words.tokenize, targets))), None)
    return Additive(
        quantities=(name,),
        rows=np.stack([f, np.full(len(f), 1.0 if empty is None else 0.0)], axis=1),
        values=lambda sums: _ratio(sums[..., :1], sums[..., 1:]),
        sizes=lambda units: [float(len(units))],
        undefined=_no_words(empty),
        noun="summaries",
        note=f"; rouge-score {version('rouge-score')}, tok:{'characters' if characters else 'default'}|stemmer:no",
        clusters=texts.clusters,
    )


def _no_words(empty: int | None) -> str:
    if empty is None:
        return ""
    return (
        f"undefined: reference {empty + 1} has no Latin letter or digit, which is all that ROUGE's tokeniser reads; "
        "drop that sentence, or pass tokenizer='zh' to read characters"
    )


_ADDITIVE: Mapping[str, Callable[[Texts, str], Additive]] = MappingProxyType(
    {
        "bleu": _bleu,
        "chrf": _chrf,
        "ter": _ter,
        "rouge1": lambda texts, tokenizer: _rouge("rouge1", texts, tokenizer),
        "rouge2": lambda texts, tokenizer: _rouge("rouge2", texts, tokenizer),
        "rougeL": lambda texts, tokenizer: _rouge("rougeL", texts, tokenizer),
    }
)
