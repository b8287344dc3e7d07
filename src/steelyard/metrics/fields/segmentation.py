"""Semantic segmentation: mean IoU, Dice and pixel accuracy from the confusion table over pixels.

With hits ``h_c`` (pixels of class c given c), ``t_c`` pixels of class c and ``p_c`` pixels given c, summed over images:
``IoU_c = h / (t + p - h)``, ``Dice_c = 2 h / (t + p)``, ``pixel accuracy = sum h / sum t``. A class in neither the truth
nor the predictions is undefined and left out of the means; one predicted that is never true counts 0. Pixels whose true
class is the ignore index count nowhere. These diagonals and margins are all that the metrics need of the confusion
table, so an image costs 3 numbers a class, not a table. The unit of the intervals is the image (or a cluster of
images), never the pixel: neighbouring pixels err together.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.metrics.fields import resampling
from steelyard.records import Estimate, Unavailable

__all__ = ["IGNORE", "PixelCounts", "compare", "count", "read", "score"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

IGNORE = 255
"""The class index that data sets write for pixels without a label (Pascal VOC, Cityscapes)."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelCounts:
    """Pixels by image and class: given right, true, and predicted, each ``(n, k)``."""

    hits: Ints
    truth: Ints
    predicted: Ints
    labels: tuple[str, ...] = ()  # class names in index order; their indices where absent
    clusters: tuple[str, ...] = ()  # one per image: the video or patient it comes from

    @property
    def names(self) -> tuple[str, ...]:
        """The classes' names, or their indices."""
        return self.labels or tuple(str(c) for c in range(self.hits.shape[1]))


def count(
    truth: Iterable[ArrayLike],
    predicted: Iterable[ArrayLike],
    classes: int,
    *,
    ignore: int | None = IGNORE,
    labels: Sequence[str] = (),
    clusters: Sequence[object] = (),
) -> PixelCounts:
    """Count the pixels of pairs of label maps, each ``(h, w)`` of class indices in ``[0, classes)``, one pair at a time.

    Raises `InvalidInput` for no images, unequal numbers or shapes, or an index that is no class.

    >>> one = count([[[0, 1], [1, 255]]], [[[0, 1], [0, 0]]], 2)
    >>> one.hits.tolist(), one.truth.tolist(), one.predicted.tolist()
    ([[1, 1]], [[1, 2]], [[2, 1]])
    """
    if classes < 1 or (labels and len(labels) != classes):
        raise InvalidInput(f"{classes} classes but {len(labels)} labels: pass one label per class")
    rows = [_counted(i, t, p, classes, ignore) for i, (t, p) in enumerate(_pairs(truth, predicted))]
    if not rows:
        raise InvalidInput("there are no images to score")
    hits, true, guessed = np.moveaxis(np.array(rows), 1, 0)
    resampling.cluster_index(clusters, len(rows))
    return PixelCounts(
        hits=hits, truth=true, predicted=guessed, labels=tuple(labels), clusters=tuple(map(str, clusters))
    )


def _pairs(truth: Iterable[ArrayLike], predicted: Iterable[ArrayLike]) -> Iterator[tuple[ArrayLike, ArrayLike]]:
    try:
        yield from zip(truth, predicted, strict=True)
    except ValueError as error:
        if not str(error).startswith("zip()"):
            raise
        raise InvalidInput("truth and predictions have different numbers of images: pass one map of each") from None


def _counted(image: int, truth: ArrayLike, predicted: ArrayLike, classes: int, ignore: int | None) -> Ints:
    """Hits, true pixels and predicted pixels by class, ``(3, k)``."""
    true, guess = np.asarray(truth), np.asarray(predicted)
    if true.shape != guess.shape or true.ndim != 2:
        raise InvalidInput(
            f"image {image} has truth of shape {true.shape} and a prediction of shape {guess.shape}: both must be (h, w)"
        )
    kept = np.ones(true.shape, dtype=bool) if ignore is None else true != ignore
    true = _classes("truth", image, true[kept], classes)
    guess = _classes("prediction", image, guess[kept], classes)
    by_class = (np.bincount(values, minlength=classes) for values in (true[true == guess], true, guess))
    return np.stack(list(by_class))


def _classes(what: str, image: int, values: NDArray[np.generic], classes: int) -> Ints:
    if values.dtype.kind not in "iuf":
        raise InvalidInput(f"{what} of image {image} holds {values.dtype}, not class indices from 0 to {classes - 1}")
    with np.errstate(invalid="ignore"):
        whole = values.astype(np.int64)
    wrong = (whole != values) | (whole < 0) | (whole >= classes)
    if wrong.any():
        first = values[int(np.argmax(wrong))]
        raise InvalidInput(f"{what} of image {image} holds {first}, not a class index from 0 to {classes - 1}")
    return whole


# --- files -----------------------------------------------------------------------------------------


def read(
    truth: str | Path,
    predicted: str | Path,
    classes: int,
    *,
    ignore: int | None = IGNORE,
    labels: Sequence[str] = (),
) -> PixelCounts:
    """Count the pixels of label maps in files: two folders of ``.npy`` or ``.png`` maps with the same names, or two
    ``.npy`` stacks ``(n, h, w)``.

    A PNG's pixel value is the class (grey or palette). One pair is in memory at a time.
    Raises `InvalidInput` for a missing or damaged file, and `MissingExtra` for PNG without Pillow.
    """
    first, second = Path(truth), Path(predicted)
    if first.is_dir() and second.is_dir():
        names = _same_names(first, second)
        true, guess = (map(_map, [folder / name for name in names]) for folder in (first, second))
        return count(true, guess, classes, ignore=ignore, labels=labels)
    return count(_stack(first), _stack(second), classes, ignore=ignore, labels=labels)


def _same_names(truth: Path, predicted: Path) -> list[str]:
    names, others = (
        {p.name for p in folder.iterdir() if p.suffix in (".npy", ".png")} for folder in (truth, predicted)
    )
    if odd := sorted(names ^ others):
        where = truth if odd[0] in names else predicted
        raise InvalidInput(f"{odd[0]} is only in {where}: both folders need the same file names")
    if not names:
        raise InvalidInput(f"{truth} holds no .npy or .png label maps")
    return sorted(names)


def _stack(path: Path) -> NDArray[np.generic]:
    maps = _array(path)
    if maps.ndim != 3:
        raise InvalidInput(f"{path} has shape {maps.shape}; a stack of label maps is (images, height, width)")
    return maps


def _map(path: Path) -> NDArray[np.generic]:
    return _picture(path) if path.suffix == ".png" else _array(path)


def _array(path: Path) -> NDArray[np.generic]:
    try:
        array = np.load(path, allow_pickle=False, mmap_mode="r")
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"cannot read {path} as a .npy array: {str(error).splitlines()[0]}") from None
    if not isinstance(array, np.ndarray):
        raise InvalidInput(f"{path} is an archive; save each array as .npy with numpy.save")
    return array


def _picture(path: Path) -> NDArray[np.generic]:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("fields", needed_for="reading label maps from PNG") from None
    try:
        with Image.open(path) as picture:
            array = np.array(picture)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"cannot read {path} as a picture: {error}") from None
    if array.ndim != 2:
        raise InvalidInput(f"{path} has {array.shape[-1]} channels; a label map has one (grey or palette)")
    return array.astype(np.uint8) if array.dtype == bool else array


# --- scores ----------------------------------------------------------------------------------------


def score(
    counts: PixelCounts, *, level: float = 0.95, resamples: int = resampling.RESAMPLES, seed: int = 0
) -> tuple[Estimate | Unavailable, ...]:
    """``miou``, ``dice`` and ``pixel_accuracy``, then ``class_iou[NAME]`` and ``class_dice[NAME]`` of every class.

    What no pixel defines is `Unavailable`.

    >>> perfect = count([[[0, 1]]] * 100, [[[0, 1]]] * 100, 2)
    >>> [(e.quantity, e.value, round(e.low, 3)) for e in score(perfect)][:2]
    [('miou', 1.0, 0.963), ('dice', 1.0, 0.963)]
    """
    return resampling.score_sums(_additive(counts), level=level, resamples=resamples, seed=seed)


def compare(
    before: PixelCounts,
    after: PixelCounts,
    *,
    level: float = 0.95,
    resamples: int = resampling.RESAMPLES,
    seed: int = 0,
) -> tuple[Estimate | Unavailable, ...]:
    """The drop of every metric from `before` to `after` on the same images, in :func:`score`'s order.

    Quantities are named ``NAME_drop``; positive is worse. Raises `InvalidInput` unless both have the same true pixels in
    the same order.
    """
    _check_same(before, after)
    return resampling.compare_sums(_additive(before), _additive(after), level=level, resamples=resamples, seed=seed)


def _additive(counts: PixelCounts) -> resampling.Additive:
    per_class = [f"{metric}[{name}]" for metric in ("class_iou", "class_dice") for name in counts.names]
    return resampling.Additive(
        quantities=("miou", "dice", "pixel_accuracy", *per_class),
        rows=np.hstack([counts.hits, counts.truth, counts.predicted]).astype(np.float64),
        values=_values,
        sizes=_sizes,
        undefined="undefined: no pixels of this class in truth or predictions",
        noun="images",
        clusters=counts.clusters,
    )


def _values(sums: Floats) -> Floats:
    """All metrics of sums ``(..., 3k)`` in the order of :func:`_additive`, NaN where undefined."""
    hits, truth, predicted = np.split(sums, 3, axis=-1)
    iou = _ratio(hits, truth + predicted - hits)
    dice = _ratio(2 * hits, truth + predicted)
    accuracy = _ratio(hits.sum(axis=-1), truth.sum(axis=-1))
    return np.concatenate([np.stack([_mean(iou), _mean(dice), accuracy], axis=-1), iou, dice], axis=-1)


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(whole), np.nan), where=whole > 0))


def _mean(values: Floats) -> Floats:
    """Mean over the last axis of what is defined."""
    defined = ~np.isnan(values)
    return _ratio(np.where(defined, values, 0.0).sum(axis=-1), defined.sum(axis=-1))


def _sizes(units: Floats) -> list[float]:
    """Units that each metric is worth: those in which its classes appear."""
    _, truth, predicted = np.split(units, 3, axis=1)
    per_class = [float(n) for n in ((truth + predicted) > 0).sum(axis=0)]
    macro = resampling.macro_size(per_class, len(units))
    return [macro, macro, float((truth.sum(axis=1) > 0).sum()), *per_class, *per_class]


def _check_same(before: PixelCounts, after: PixelCounts) -> None:
    if not np.array_equal(before.truth, after.truth) or before.clusters != after.clusters:
        raise InvalidInput(
            f"a paired comparison needs the same images in the same order; got {len(before.hits)} and {len(after.hits)} "
            "with other true pixels"
        )
