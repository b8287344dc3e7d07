"""Texts changed by recipe before they are encoded, in English and Chinese; what is drawn belongs to an example and its epoch.

Synonyms and English homophones are words of short lists (``synonyms.json``, ``homophones.json``; a list of your own takes
the place of the first). Chinese words are found by the longest match, without a segmenter. Noise of single characters is that of
the robustness curves (`steelyard.subject.corruptions.texts`).
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.subject.corruptions.texts import NOISES
from steelyard.trainer.augment.chance import generators
from steelyard.trainer.augment.translate import round_trip
from steelyard.trainer.augment.words import number, only
from steelyard.trainer.examples import Rewrite

__all__ = ["WORDS", "build"]

Change = Callable[[str, float, np.random.Generator], str]  # a text, the share of what can be struck, chance

_LATIN = r"[A-Za-z]+(?:'[A-Za-z]+)?"
_HAN = "\u2e80"  # letters from here on are not Latin


def build(mapping: Mapping[str, Any], *, seed: int = 0) -> Rewrite:
    """What rewrites texts by a recipe's words, such as ``{"synonym": 0.1, "typo": 0.05, "share": 0.5}``.

    A word's number is the share of what it can strike in a text; ``share`` is the chance that a text is changed at all.
    ``back_translation: 0.3`` with ``there`` and ``back``, each ``module:function`` or ``file.py:function`` from texts to texts,
    puts the round trip in a text's place with that chance; ``cache`` names the folder that keeps translations. ``synonyms`` names a JSON
    file: a list of groups of words with spaces between. Raises `InvalidInput` for anything else.
    """
    only(mapping, WORDS)
    rates = {word: number(word, mapping[word], 0, 1) for word in _CHANGES if mapping.get(word)}
    share = number("share", mapping.get("share", 1), 0, 1)
    changes = {**_CHANGES, "synonym": _own(mapping.get("synonyms"))}
    chance = number("back_translation", mapping.get("back_translation", 0), 0, 1)
    translate = round_trip(mapping) if chance else None

    def rewritten(texts: Sequence[str], index: NDArray[np.int64], epoch: int) -> Sequence[str]:
        draws = generators(seed, epoch, index)
        chosen = [i for i, draw in enumerate(draws) if draw.random() < chance]
        made = list(texts)
        if translate is not None:
            for i, text in zip(chosen, translate([texts[i] for i in chosen]), strict=True):
                made[i] = text
        return [_changed(text, rates, changes, share, draw) for text, draw in zip(made, draws, strict=True)]

    return rewritten


def _changed(
    text: str, rates: Mapping[str, float], changes: Mapping[str, Change], share: float, draw: np.random.Generator
) -> str:
    if draw.random() >= share:
        return text
    for word, rate in rates.items():
        text = changes[word](text, rate, draw)
    return text


# --- words that stand for others ---------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, slots=True)
class Exchange:
    """Words that may take each other's place: ``others`` has each word's, in small letters."""

    others: Mapping[str, tuple[str, ...]]
    pattern: re.Pattern[str]

    @classmethod
    def of(cls, groups: Sequence[str]) -> Exchange:
        """From groups of words with spaces between; a word of several groups has the words of all.

        >>> Exchange.of(["good fine", "好吃 美味"]).others["美味"]
        ('好吃',)
        """
        others: dict[str, tuple[str, ...]] = {}
        for group in groups:
            words = group.lower().split()
            for word in words:
                rest = [w for w in words if w != word and w not in others.get(word, ())]
                others[word] = (*others.get(word, ()), *rest)
        han = sorted((word for word in others if word[:1] >= _HAN), key=len, reverse=True)
        return cls(others, re.compile("|".join([_LATIN, *map(re.escape, han)])))

    def __call__(self, text: str, share: float, draw: np.random.Generator) -> str:
        """The text with this share of its known words exchanged, rounded by chance."""
        found = [match for match in self.pattern.finditer(text) if match.group().lower() in self.others]
        count = int(share * len(found) + draw.random())
        struck = set(draw.permutation(len(found))[:count].tolist())
        parts, at = [], 0
        for i, match in enumerate(found):
            if i in struck:
                choices = self.others[match.group().lower()]
                parts += [text[at : match.start()], _cased(choices[int(draw.random() * len(choices))], match.group())]
                at = match.end()
        return "".join([*parts, text[at:]])


def _cased(word: str, like: str) -> str:
    """A word in the case of another.

    >>> _cased("fine", "Good"), _cased("fine", "GOOD"), _cased("fine", "good")
    ('Fine', 'FINE', 'fine')
    """
    if len(like) > 1 and like.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if like[:1].isupper() else word


@cache
def _listed(name: str) -> Exchange:
    content = json.loads(resources.files("steelyard.trainer.augment").joinpath(name).read_text(encoding="utf-8"))
    return Exchange.of([group for language in ("en", "zh") for group in content.get(language, ())])


def _own(path: Any) -> Change:
    """Synonyms of the user's file, or those that come with Steelyard."""
    if path is None:
        return _synonym
    try:
        groups = json.loads(Path(str(path)).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"augment: cannot read the synonyms in {path}: {error}") from None
    if not isinstance(groups, list) or not groups or not all(isinstance(g, str) and len(g.split()) > 1 for g in groups):
        raise InvalidInput(
            f'augment: {path} must hold a JSON list of groups of two or more words, such as ["good fine"]'
        )
    return Exchange.of(groups)


# --- the changes -------------------------------------------------------------------------------------


def _synonym(text: str, share: float, draw: np.random.Generator) -> str:
    return _listed("synonyms.json")(text, share, draw)


def _homophone(text: str, share: float, draw: np.random.Generator) -> str:
    """English words and Chinese characters that sound alike."""
    return NOISES["homophone"].spoil(_listed("homophones.json")(text, share, draw), share, draw)


def _typo(text: str, share: float, draw: np.random.Generator) -> str:
    """Latin letters by a neighbour on the keyboard, Chinese characters by one that looks alike."""
    return _LOOK_ALIKE.spoil(NOISES["keyboard"].spoil(text, share, draw), share, draw)


_LOOK_ALIKE = dataclasses.replace(
    NOISES["look_alike"], can=lambda text, i: text[i] >= _HAN and NOISES["look_alike"].can(text, i)
)

_CHANGES: Mapping[str, Change] = {  # in the order in which they are made: words are looked for while they are whole
    "synonym": _synonym,
    "homophone": _homophone,
    "swap": NOISES["swap"].spoil,
    "insert": NOISES["insert"].spoil,
    "delete": NOISES["delete"].spoil,
    "typo": _typo,
}
WORDS = (*_CHANGES, "share", "synonyms", "back_translation", "there", "back", "cache")
