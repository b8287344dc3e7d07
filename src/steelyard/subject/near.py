"""Near duplicates between splits (Q13): a picture saved again, a sentence with a word changed.

Pictures: the 64-bit perceptual hash of a thumbnail's lowest frequencies (pHash, as the library imagehash computes it) finds
pairs that may be alike, and the correlation of the two thumbnails, which knows no brightness and no contrast, decides.
The hash alone would cry wolf: within 4 bits it calls more than a quarter of Fashion-MNIST's test pictures copies of training
pictures. In small pictures other things look alike, so the correlation asked of them is higher.

Texts: shared character n-grams, so that it works in any script. MinHash with banding (Broder 1997; the library
datasketch) finds the pairs, and their exact Jaccard similarity decides.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.records import Overlap
from steelyard.subject.splits import Split, Splits, digests

__all__ = ["near_duplicates", "normalised", "perceptual_hashes", "shingles"]

BITS = 8  # of 64 in which two hashes may differ
SMALL = 64  # pixels of the shorter side below which pictures count as small
CORRELATION, CORRELATION_SMALL = 0.97, 0.995
JACCARD = 0.8
BANDS, ROWS = 25, 5  # a pair of similarity 0.8 is found with probability 1 - (1 - 0.8^5)^25 = 0.99995
_THUMB = 32  # pixels
_FLAT = 2.0  # grey levels of standard deviation below which a thumbnail shows nothing
_BLOCK = 16  # rows of hashes compared with all others at once
_PAIRS = 4_000  # pairs of thumbnails correlated at once

Match = tuple[
    NDArray[np.int64], NDArray[np.int64]
]  # positions in the later split, and of the likest in the earlier one


def near_duplicates(
    splits: Splits, kind: Literal["image", "text", "auto"] = "auto", *, shown: int = 10
) -> tuple[Overlap, ...]:
    """Examples of later splits that nearly stand in earlier ones. Those that stand there exactly are left to `overlaps`.

    Raises `InvalidInput` for data that is neither pictures nor texts, `MissingExtra` without the libraries of the extra
    ``duplicates``.
    """
    found = _kind(splits.test) if kind == "auto" else kind
    if found == "text" and splits.test.texts is None:
        raise InvalidInput("near duplicates among texts need the texts, and these splits keep none")
    match, method = _texts(splits) if found == "text" else _pictures(splits)
    parts = dict(splits.items())
    seen = cache(lambda name: digests(parts[name]))  # reads all examples again, so only where something was found
    results: list[Overlap] = []
    for later, earlier in (("validation", "train"), ("test", "train"), ("test", "validation")):
        mine, other = match(later, earlier)
        if len(mine):
            inexact = ~np.isin(seen(later)[mine], seen(earlier))
            results += _overlap(later, earlier, mine[inexact], other[inexact], method, shown)
    return tuple(results)


def _overlap(
    later: str, earlier: str, mine: NDArray[np.int64], other: NDArray[np.int64], method: str, shown: int
) -> Iterator[Overlap]:
    if len(mine):
        examples = tuple(mine[:shown].tolist())
        yield Overlap(
            split=later,
            other=earlier,
            count=len(mine),
            examples=examples,
            kind="near",
            pairs=tuple(zip(examples, other[:shown].tolist(), strict=True)),
            method=method,
        )


def _kind(split: Split) -> Literal["image", "text"]:
    if split.texts is not None:
        return "text"
    _channels(_first(split))
    return "image"


def _first(split: Split) -> NDArray[np.generic]:
    return np.asarray(split.raw[np.arange(1)])


def _channels(rows: NDArray[np.generic]) -> int | None:
    """The axis of channels in a batch of pictures, None for grey ones without it; raises `InvalidInput` for other data."""
    shape = rows.shape[1:]
    if len(shape) == 2 and rows.dtype == np.uint8:
        return None
    axis = next((axis for axis in (0, -1) if len(shape) == 3 and shape[axis] in (1, 3)), None)
    if axis is None or min(shape[:axis] + shape[axis:][1:] if axis == 0 else shape[:2]) < 2:
        raise InvalidInput(
            f"near duplicates are told for pictures and texts; these examples are {rows.dtype} of shape {shape}"
        )
    return 1 if axis == 0 else 3


# --- pictures --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Looks:
    """What is kept of each picture."""

    hashes: NDArray[np.uint64]  # (n,)
    thumbs: NDArray[np.uint8]  # (n, 32 * 32), grey
    mean: NDArray[np.float32]  # (n,), of the thumbnail
    spread: NDArray[np.float32]  # (n,), its standard deviation
    flat: NDArray[np.bool_]  # (n,), shows nothing that could be compared


def perceptual_hashes(thumbs: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """pHash of grey thumbnails ``(n, 32, 32)``: which of the 8x8 lowest frequencies of the cosine transform exceed their median.

    The bits are those of ``imagehash.phash``, first bit highest.

    >>> ramp = np.tile(np.arange(32, dtype=np.uint8), (1, 32, 1))
    >>> bool(perceptual_hashes(ramp)[0] == perceptual_hashes(2 * ramp)[0])
    True
    """
    low = dctn(thumbs.astype(np.float64), axes=(1, 2))[:, :8, :8].reshape(len(thumbs), 64)
    bits = np.packbits(low > np.median(low, axis=1, keepdims=True), axis=1)
    return bits.view(">u8")[:, 0].astype(np.uint64)


def _pictures(splits: Splits) -> tuple[Callable[[str, str], Match], str]:
    sides = _sides(splits.test)
    small = min(sides) < SMALL
    least = CORRELATION_SMALL if small else CORRELATION
    looks = {name: _looks(split) for name, split in splits.items()}
    flat = sum(int(look.flat.sum()) for look in looks.values())
    method = (
        f"64-bit pHash within {BITS} bits, then correlation of {_THUMB}x{_THUMB} thumbnails of at least {least}"
        + (
            f" (strict, as pictures of {sides[0]}x{sides[1]} easily look alike; shifted copies are missed)"
            if small
            else ""
        )
        + (f"; {flat} flat picture(s) left out" if flat else "")
    )
    return (lambda later, earlier: _likest(looks[later], looks[earlier], least)), method


def _sides(split: Split) -> tuple[int, int]:
    """Height and width."""
    first = _first(split)
    axis = _channels(first)
    height, width = (n for i, n in enumerate(first.shape) if i not in (0, axis))
    return height, width


def _looks(split: Split) -> _Looks:
    parts = [_thumbnails(chunk) for chunk in split.chunks()]
    thumbs = np.concatenate(parts).reshape(len(split), -1)
    spread = thumbs.std(axis=1, dtype=np.float32)
    return _Looks(
        hashes=np.concatenate([perceptual_hashes(part) for part in parts]),
        thumbs=thumbs,
        mean=thumbs.mean(axis=1, dtype=np.float32),
        spread=spread,
        flat=spread < _FLAT,
    )


def _thumbnails(rows: NDArray[np.generic]) -> NDArray[np.uint8]:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("duplicates", needed_for="finding near duplicates among pictures") from None
    axis = _channels(rows)
    pixels = _eight_bits(rows) if axis is None else np.moveaxis(_eight_bits(rows), axis, -1)
    pixels = pixels[..., 0] if pixels.shape[-1] == 1 else pixels
    small = (Image.fromarray(p).convert("L").resize((_THUMB, _THUMB), Image.Resampling.LANCZOS) for p in pixels)
    return np.stack([np.asarray(picture, dtype=np.uint8) for picture in small])


def _eight_bits(rows: NDArray[np.generic]) -> NDArray[np.uint8]:
    """Pictures of other numbers, each stretched to its own range: neither hash nor correlation knows the scale."""
    if rows.dtype == np.uint8:
        return np.asarray(rows, dtype=np.uint8)
    values = np.asarray(rows, dtype=np.float64)
    inner = tuple(range(1, values.ndim))
    low, high = values.min(axis=inner, keepdims=True), values.max(axis=inner, keepdims=True)
    stretched = 255 * (values - low) / np.where(high > low, high - low, 1)
    return np.asarray(np.rint(stretched), dtype=np.uint8)


def _likest(later: _Looks, earlier: _Looks, least: float) -> Match:
    """For each later picture that has one: the earlier picture that is like it the most."""
    best, likest = np.full(len(later.hashes), least), np.full(len(later.hashes), -1)
    for mine, other in _close(later, earlier):
        likeness = _correlation(later, earlier, mine, other)
        for at in np.flatnonzero(likeness >= least):
            if likeness[at] >= best[mine[at]]:
                best[mine[at]], likest[mine[at]] = likeness[at], other[at]
    found = np.flatnonzero(likest >= 0)
    return found, likest[found]


def _close(later: _Looks, earlier: _Looks) -> Iterator[Match]:
    """Pairs whose hashes differ in few bits, all pairs compared by XOR, up to some thousands yielded at a time."""
    for start in range(0, len(later.hashes), _BLOCK):
        distance = np.bitwise_count(later.hashes[start : start + _BLOCK, None] ^ earlier.hashes)
        mine, other = np.divmod(np.flatnonzero(distance <= BITS), len(earlier.hashes))
        shows = ~later.flat[mine + start] & ~earlier.flat[other]
        mine, other = mine[shows] + start, other[shows]
        for at in range(0, len(mine), _PAIRS):
            yield mine[at : at + _PAIRS], other[at : at + _PAIRS]


def _correlation(
    later: _Looks, earlier: _Looks, mine: NDArray[np.int64], other: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Pearson's correlation of the thumbnails' pixels, pair by pair; centring one of the two is enough."""
    centred = later.thumbs[mine].astype(np.float32) - later.mean[mine, None]
    products = np.einsum("ij,ij->i", centred, earlier.thumbs[other].astype(np.float32))
    spreads = later.spread[mine] * earlier.spread[other]
    return np.asarray(products / (later.thumbs.shape[1] * spreads), dtype=np.float32)


# --- texts -----------------------------------------------------------------------------------------


def normalised(text: str) -> str:
    """A text without what typing leaves open: width, case, punctuation and spaces.

    >>> normalised("Ｈｅｌｌｏ,  World！"), normalised("你好，世界。")
    ('helloworld', '你好世界')
    """
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(c for c in plain if c.isalnum())


def shingles(text: str, size: int) -> frozenset[str]:
    """All runs of `size` characters of a normalised text; a shorter text is its own only run.

    >>> sorted(shingles("hallo", 3))
    ['all', 'hal', 'llo']
    """
    return frozenset(text[i : i + size] for i in range(max(1, len(text) - size + 1))) if text else frozenset()


def _texts(splits: Splits) -> tuple[Callable[[str, str], Match], str]:
    plain = {name: [normalised(text) for text in split.texts or ()] for name, split in splits.items()}
    size = _run_length(plain["test"])
    sets = {name: [shingles(text, size) for text in texts] for name, texts in plain.items()}
    sketches = {name: _sketches(content) for name, content in sets.items()}
    indices = {name: _index(sketches[name]) for name in ("train", "validation")}

    def match(later: str, earlier: str) -> Match:
        found = []
        for mine, sketch in enumerate(sketches[later]):
            others = [] if sketch is None else indices[earlier].query(sketch)
            likeness = {other: _jaccard(sets[later][mine], sets[earlier][other]) for other in sorted(others)}
            best = max(likeness, key=likeness.__getitem__, default=None)
            if best is not None and likeness[best] >= JACCARD:
                found.append((mine, best))
        both = np.array(found, dtype=np.int64).reshape(-1, 2)
        return both[:, 0], both[:, 1]

    return match, f"MinHash of runs of {size} characters, then Jaccard similarity of at least {JACCARD}"


def _run_length(texts: Sequence[str]) -> int:
    """Two characters where most are no alphabet's (a Chinese word has about two), else four."""
    together = "".join(texts)
    wide = sum(c >= "\u2e80" for c in together)
    return 2 if 2 * wide > len(together) else 4


def _sketches(content: Sequence[frozenset[str]]) -> list[object]:
    """MinHash of each set; None for an empty one, which is like nothing."""
    try:
        from datasketch import MinHash
    except ImportError:
        raise MissingExtra("duplicates", needed_for="finding near duplicates among texts") from None
    runs = ([run.encode("utf-8", "surrogatepass") for run in sorted(one)] for one in content)
    made = MinHash.generator(runs, num_perm=BANDS * ROWS, seed=1)
    return [sketch if one else None for one, sketch in zip(content, made, strict=True)]


def _index(sketches: Sequence[object]) -> Any:
    from datasketch import MinHashLSH

    index = MinHashLSH(num_perm=BANDS * ROWS, params=(BANDS, ROWS))
    for position, sketch in enumerate(sketches):
        if sketch is not None:
            index.insert(position, sketch, check_duplication=False)
    return index


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)
