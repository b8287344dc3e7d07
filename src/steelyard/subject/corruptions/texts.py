"""Texts made worse character by character, in English and Chinese: slips of the finger, of the ear and of the eye.

A severity is a share of the characters that a noise can strike (`SHARES`). Which characters are struck, and what
becomes of them, belongs to the text and the seed; a higher severity strikes the same ones and more.

Homophones are groups of common characters that are typed with the same pinyin, whatever their tone (``homophones.json``);
look-alikes are groups that the eye or a scanner takes for each other (``look_alikes.json``).
"""

from __future__ import annotations

import json
import string
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

import numpy as np

from steelyard.subject.corruptions.chance import generators

__all__ = ["NOISES", "SHARES", "TextNoise"]

SHARES = (0.02, 0.05, 0.10, 0.15, 0.25)
_ROWS = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_WIDE = 0xFEE0  # from '!' (U+0021) to the full-width '!' (U+FF01)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextNoise:
    """One way of spoiling characters: where it can strike, and what it does there.

    ``change(characters, i, u)`` alters the list at ``i``, with ``u`` uniform in [0, 1) for what is left to chance.
    """

    can: Callable[[str, int], bool]
    change: Callable[[list[str], int, float], None]
    strikes: str  # what it can strike, in words
    done: str  # what happens to it, in words
    shares: tuple[float, ...] = SHARES

    def __call__(self, texts: Sequence[str], severity: int, seed: int) -> tuple[str, ...]:
        """The texts, spoiled; one that would end empty stays as it was."""
        chances = generators((text.encode("utf-8", "surrogatepass") for text in texts), seed)
        share = self.shares[severity - 1]
        return tuple(self.spoil(text, share, chance) for text, chance in zip(texts, chances, strict=True))

    def reach(self, texts: Sequence[str]) -> float:
        """The share of `texts` in which there is something to strike."""
        return float(np.mean([any(self.can(text, i) for i in range(len(text))) for text in texts])) if texts else 0.0

    def spoil(self, text: str, share: float, chance: np.random.Generator) -> str:
        """One text, this share of what can be struck; unchanged if it would end empty."""
        eligible = np.array([i for i in range(len(text)) if self.can(text, i)], dtype=np.int64)
        count = int(share * len(eligible) + chance.random())  # rounded by chance, so that the mean share is kept
        struck = np.sort(chance.permutation(eligible)[:count])
        draws = chance.random(len(text))
        characters = list(text)
        for i in struck:
            self.change(characters, int(i), float(draws[i]))
        spoiled = "".join(characters)
        return spoiled if spoiled.strip() else text


def _delete(characters: list[str], i: int, _: float) -> None:
    characters[i] = ""


def _swap(characters: list[str], i: int, _: float) -> None:
    characters[i], characters[i + 1] = characters[i + 1], characters[i]


def _insert(characters: list[str], i: int, u: float) -> None:
    alphabet = string.ascii_lowercase if characters[i] < "\u0100" else _common()
    characters[i] += _pick(alphabet, u)


def _flip_case(characters: list[str], i: int, _: float) -> None:
    characters[i] = characters[i].swapcase()


def _switch_width(characters: list[str], i: int, _: float) -> None:
    code = ord(characters[i])
    characters[i] = chr(code - _WIDE if code >= 0xFF01 else code + _WIDE)


def _replace(table: Callable[[], Mapping[str, str]]) -> Callable[[list[str], int, float], None]:
    def change(characters: list[str], i: int, u: float) -> None:
        characters[i] = _pick(table()[characters[i]], u)

    return change


def _within(table: Callable[[], Mapping[str, str]]) -> Callable[[str, int], bool]:
    return lambda text, i: text[i] in table()


def _pick(choices: str, u: float) -> str:
    return choices[int(u * len(choices))]


def _is_letter(text: str, i: int) -> bool:
    return text[i].isalnum()


def _is_unlike_the_next(text: str, i: int) -> bool:
    return text[i].isalnum() and i + 1 < len(text) and text[i + 1].isalnum() and text[i] != text[i + 1]


def _is_cased(text: str, i: int) -> bool:
    return len(text[i].swapcase()) == 1 and text[i].swapcase() != text[i]


def _is_punctuation(text: str, i: int) -> bool:
    return unicodedata.category(text[i]).startswith("P")


def _has_two_widths(text: str, i: int) -> bool:
    return 0x21 <= ord(text[i]) <= 0x7E or 0xFF01 <= ord(text[i]) <= 0xFF5E


@cache
def _neighbours() -> Mapping[str, str]:
    """The letters that touch each letter on a QWERTY keyboard, whose rows are set off by half a key.

    >>> _neighbours()["g"], _neighbours()["Q"]
    ('fhtyvb', 'WA')
    """
    table = {}
    for row, keys in enumerate(_ROWS):
        for at, key in enumerate(keys):
            places = ((row, at - 1), (row, at + 1), (row - 1, at), (row - 1, at + 1), (row + 1, at - 1), (row + 1, at))
            near = "".join(_ROWS[r][a] for r, a in places if 0 <= r < 3 and 0 <= a < len(_ROWS[r]))
            table[key], table[key.upper()] = near, near.upper()
    return table


@cache
def _homophones() -> Mapping[str, str]:
    return _others(_groups("homophones.json"))


@cache
def _look_alikes() -> Mapping[str, str]:
    return _others(_groups("look_alikes.json"))


@cache
def _common() -> str:
    """Common Chinese characters, for insertion."""
    return "".join(_groups("homophones.json"))


def _others(groups: Iterable[str]) -> Mapping[str, str]:
    """Each character with the rest of its group.

    >>> _others(["abc"])
    {'a': 'bc', 'b': 'ac', 'c': 'ab'}
    """
    return {character: group.replace(character, "") for group in groups for character in group}


def _groups(name: str) -> tuple[str, ...]:
    text = resources.files("steelyard.subject.corruptions").joinpath(name).read_text(encoding="utf-8")
    content = json.loads(text)
    return tuple(content.values() if isinstance(content, dict) else content)


NOISES: Mapping[str, TextNoise] = {
    "delete": TextNoise(can=_is_letter, change=_delete, strikes="letters and digits", done="left out"),
    "swap": TextNoise(
        can=_is_unlike_the_next, change=_swap, strikes="letters and digits", done="exchanged with the next one"
    ),
    "insert": TextNoise(can=_is_letter, change=_insert, strikes="letters and digits", done="followed by a stray one"),
    "keyboard": TextNoise(
        can=_within(_neighbours),
        change=_replace(_neighbours),
        strikes="Latin letters",
        done="replaced by a neighbour on the keyboard",
    ),
    "homophone": TextNoise(
        can=_within(_homophones),
        change=_replace(_homophones),
        strikes="common Chinese characters",
        done="replaced by one of the same pinyin",
    ),
    "look_alike": TextNoise(
        can=_within(_look_alikes),
        change=_replace(_look_alikes),
        strikes="characters with a look-alike",
        done="replaced by it",
    ),
    "case": TextNoise(can=_is_cased, change=_flip_case, strikes="letters with case", done="switched in case"),
    "punctuation": TextNoise(
        can=_is_punctuation,
        change=_delete,
        strikes="punctuation marks",
        done="left out",
        shares=(0.2, 0.4, 0.6, 0.8, 1.0),
    ),
    "width": TextNoise(
        can=_has_two_widths,
        change=_switch_width,
        strikes="characters of two widths",
        done="switched between full and half width",
    ),
}
