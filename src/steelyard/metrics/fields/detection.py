"""Object detection in the COCO way: mAP and its kin through pycocotools, intervals by resampling images.

COCOeval matches boxes image by image; which detections match does not depend on other images. A resample therefore
gives every image a weight and accumulates again: with detections by falling score, ``w`` the weight of a detection's
image and ``g`` the weighted number of objects, ``recall = sum(w TP) / g`` and ``precision = sum(w TP) / sum(w)`` at every
detection, and AP is the mean over the recalls 0, 0.01, ..., 1 of the largest precision at that recall or a higher one
(Lin et al. 2014). An image drawn twice counts as two equal images would. Weights of one give COCOeval's own values.

Scores tied within one image count in a canonical order (by box), across images by image id: the order of a file does not
matter. The value -1 that COCOeval gives where there is no object of a size is `Unavailable` here. Objects are numbered
anew, since COCOeval takes an annotation of id 0 for "no match".
"""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.metrics.fields import resampling
from steelyard.records import Estimate, Unavailable

__all__ = ["Boxes", "Curve", "boxes", "compare", "read", "score", "weighted_values"]

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Key = int | str

_NAMES = ("map", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100")
_COCO_STATS = (0, 1, 2, 3, 4, 5, 8)  # where COCOeval.stats holds them
_AREA_OF = (0, 0, 0, 1, 2, 3, 0)  # the area range of each: all, small, medium, large
_AT_50, _AT_75 = 0, 5  # places among the IoU thresholds .50, .55, ..., .95
_RECALLS = np.linspace(0.0, 1.0, 101)
_LARGEST_AREA = 1e10  # square pixels; COCOeval leaves out larger objects without a word
_WEIGHTS_AT_ONCE = 64  # columns that keep a category's curve in the cache


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Boxes:
    """Objects and detections of one set of images, in arrays.

    Boxes are ``(x, y, width, height)`` in pixels. Images and categories are positions in `images` and `categories`.
    """

    images: tuple[Key, ...]  # sorted
    categories: tuple[Key, ...]  # sorted
    truth_image: Ints  # (g,)
    truth_category: Ints  # (g,)
    truth_box: Floats  # (g, 4)
    truth_area: Floats  # (g,) square pixels; decides small, medium, large
    truth_crowd: NDArray[np.bool_]  # (g,) a group: matched without penalty, never missed
    image: Ints  # (d,)
    category: Ints  # (d,)
    box: Floats  # (d, 4)
    score: Floats  # (d,)
    clusters: tuple[str, ...] = ()  # one per image, such as its video


# --- files -----------------------------------------------------------------------------------------


def read(truth: str | Path, detections: str | Path, *, cluster: str | None = None) -> Boxes:
    """Boxes from COCO's two files: annotations (``images``, ``annotations``, ``categories``) and a list of results.

    `cluster` names a key of the images, such as ``video_id``. Raises `InvalidInput`, naming the entry, for what is not
    JSON, missing keys, unknown or repeated ids, boxes that are none and scores that are not finite.
    """
    return boxes(_json(Path(truth)), _json(Path(detections)), cluster=cluster)


def boxes(truth: object, detections: object, *, cluster: str | None = None) -> Boxes:
    """Boxes from the decoded JSON of COCO's two files; see :func:`read`."""
    if not isinstance(truth, dict):
        raise InvalidInput("the annotations are not an object with images, annotations and categories")
    pictures = _entries("images", truth.get("images"))
    images = _ids("image", pictures)
    categories = _ids("category", _entries("categories", truth.get("categories")))
    if not images:
        raise InvalidInput("the annotations name no images")
    objects = [_object(i, entry) for i, entry in enumerate(_entries("annotations", truth.get("annotations")))]
    found = [_detection(i, entry) for i, entry in enumerate(_entries("detections", detections))]
    place, kind = _places(images), _places(categories)
    truth_box = _box_array("annotation", [o["bbox"] for o in objects])
    box = _box_array("detection", [d["bbox"] for d in found])
    by_id = {entry["id"]: entry for entry in pictures}
    return Boxes(
        images=images,
        categories=categories,
        truth_image=_looked_up("annotation", "image_id", objects, place),
        truth_category=_looked_up("annotation", "category_id", objects, kind),
        truth_box=truth_box,
        truth_area=_areas(objects, truth_box),
        truth_crowd=np.array([bool(o.get("iscrowd", 0)) for o in objects], dtype=bool),
        image=_looked_up("detection", "image_id", found, place),
        category=_looked_up("detection", "category_id", found, kind),
        box=box,
        score=_scores(found),
        clusters=tuple(_cluster(by_id[i], cluster) for i in images) if cluster else (),
    )


def _json(path: Path) -> object:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InvalidInput(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{path} is not whole JSON: {error}") from None


def _entries(what: str, value: object) -> list[Mapping[str, Any]]:
    if not isinstance(value, list):
        raise InvalidInput(
            f"there is no list of {what}; COCO's files hold images, annotations and categories, and results"
        )
    for i, entry in enumerate(value):
        if not isinstance(entry, dict):
            raise InvalidInput(f"entry {i} of {what} is {entry!r:.40}, not an object")
    return value


def _ids(what: str, entries: Sequence[Mapping[str, Any]]) -> tuple[Key, ...]:
    """The entries' ids, sorted: numbers, then texts."""
    ids = [_key(what, i, entry, "id") for i, entry in enumerate(entries)]
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise InvalidInput(f"{what} id {twice!r} stands twice: ids must be unique")
    return tuple(sorted(ids, key=lambda key: (isinstance(key, str), key)))


def _key(what: str, place: int, entry: Mapping[str, Any], name: str) -> Key:
    value = _needed(what, place, entry, name)
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise InvalidInput(f"{what} {place} has {name} {value!r:.40}, not a whole number or a text")
    return value


def _needed(what: str, place: int, entry: Mapping[str, Any], name: str) -> Any:
    if name not in entry:
        raise InvalidInput(f"{what} {place} has no {name!r}; it has {', '.join(map(str, entry)) or 'nothing'}")
    return entry[name]


def _object(place: int, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("image_id", "category_id", "bbox"):
        _needed("annotation", place, entry, name)
    return entry


def _detection(place: int, entry: Mapping[str, Any]) -> Mapping[str, Any]:
    for name in ("image_id", "category_id", "bbox", "score"):
        _needed("detection", place, entry, name)
    return entry


def _places(keys: Iterable[Key]) -> dict[Key, int]:
    return {key: i for i, key in enumerate(keys)}


def _looked_up(what: str, name: str, entries: Sequence[Mapping[str, Any]], places: Mapping[Key, int]) -> Ints:
    keys = [_key(what, i, entry, name) for i, entry in enumerate(entries)]
    for i, key in enumerate(keys):
        if key not in places:
            raise InvalidInput(f"{what} {i} has {name} {key!r}, which the annotations do not list")
    return np.array([places[key] for key in keys], dtype=np.int64)


def _box_array(what: str, values: Sequence[object]) -> Floats:
    for i, value in enumerate(values):
        if not (isinstance(value, list) and len(value) == 4 and all(_is_number(v) for v in value)):
            raise InvalidInput(f"{what} {i} has bbox {value!r:.60}, not the four numbers [x, y, width, height]")
        if not 0 <= value[2] * value[3] <= _LARGEST_AREA or min(value[2:]) < 0:
            raise InvalidInput(f"{what} {i} has width {value[2]} and height {value[3]}: bbox is [x, y, width, height]")
    return np.array(values, dtype=np.float64).reshape(-1, 4)


def _is_number(value: object) -> bool:
    """A finite number that floating point holds."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e100


def _areas(objects: Sequence[Mapping[str, Any]], box: Floats) -> Floats:
    """The objects' own areas (of their outlines), the boxes' where none is given."""
    areas = [o.get("area", w * h) for o, (w, h) in zip(objects, box[:, 2:].tolist(), strict=True)]
    for i, area in enumerate(areas):
        if not _is_number(area) or not 0 <= area <= _LARGEST_AREA:
            raise InvalidInput(f"annotation {i} has area {area!r:.40}, not a number from 0 to {_LARGEST_AREA:.0e}")
    return np.array(areas, dtype=np.float64)


def _scores(found: Sequence[Mapping[str, Any]]) -> Floats:
    for i, entry in enumerate(found):
        if not _is_number(entry["score"]):
            raise InvalidInput(f"detection {i} has score {entry['score']!r:.40}, not a finite number")
    return np.array([entry["score"] for entry in found], dtype=np.float64)


def _cluster(picture: Mapping[str, Any], name: str) -> str:
    if name not in picture:
        raise InvalidInput(f"image {picture['id']!r} has no {name!r} to cluster by")
    return str(picture[name])


# --- scores ----------------------------------------------------------------------------------------


def score(
    data: Boxes, *, level: float = 0.95, resamples: int = resampling.RESAMPLES, seed: int = 0
) -> tuple[Estimate | Unavailable, ...]:
    """``map``, ``ap50``, ``ap75``, ``ap_small``, ``ap_medium``, ``ap_large`` and ``ar100`` with their intervals.

    Raises `InvalidInput` for scores or boxes that are not finite and `MissingExtra` without pycocotools.
    """
    matched = _matched(data)
    return resampling.estimates(
        _NAMES,
        matched.values,
        _drawn([matched], data, resamples, seed),
        sizes=matched.sizes,
        undefined=_undefined(),
        n=len(data.images),
        level=level,
        over=_over(data),
    )


def compare(
    before: Boxes, after: Boxes, *, level: float = 0.95, resamples: int = resampling.RESAMPLES, seed: int = 0
) -> tuple[Estimate | Unavailable, ...]:
    """The drop of every metric from `before` to `after` on the same images, in :func:`score`'s order.

    Quantities are named ``NAME_drop``; positive is worse. Raises as :func:`score`, and `InvalidInput` unless both have
    the same annotations.
    """
    _check_same(before, after)
    models = [_matched(before), _matched(after)]
    return resampling.differences(
        _NAMES,
        np.concatenate([model.values for model in models]),
        _drawn(models, before, resamples, seed),
        changed=_changed(before, after),
        sizes=models[0].sizes,
        undefined=_undefined(),
        n=len(before.images),
        level=level,
        over=_over(before),
    )


def _undefined() -> list[str]:
    sized = ("ap_small", "ap_medium", "ap_large")
    return [f"undefined: no ground truth{' of this size' if name in sized else ''}" for name in _NAMES]


def _over(data: Boxes) -> str:
    from importlib.metadata import version

    return f"{resampling.units_named('images', data.clusters)}; COCOeval bbox, pycocotools {version('pycocotools')}"


def _drawn(models: Sequence[_Matched], data: Boxes, resamples: int, seed: int) -> Floats:
    """Values of all models side by side ``(resamples, 7 * models)`` under the same weights of images."""
    units = resampling.cluster_index(data.clusters, len(data.images))
    count = int(units.max()) + 1
    blocks = resampling.weights(count, resamples, seed, at_once=_WEIGHTS_AT_ONCE * count)
    return np.concatenate([np.hstack([weighted_values(m.curves, block[:, units]) for m in models]) for block in blocks])


def _changed(before: Boxes, after: Boxes) -> float:
    """The share of units whose detections differ."""
    units = resampling.cluster_index(before.clusters, len(before.images))
    old, new = (_canonical(model) for model in (before, after))
    odd = {units[row[0]] for row in _tally(old) ^ _tally(new)}
    return len(odd) / (int(units.max()) + 1)


def _tally(rows: Floats) -> set[tuple[int, ...]]:
    """Rows as a set in which repeated ones stay apart; the image comes first."""
    distinct, counts = np.unique(rows, axis=0, return_counts=True)
    return {(int(row[0]), *row[1:], n) for row, n in zip(distinct.tolist(), counts.tolist(), strict=True)}


def _canonical(data: Boxes) -> Floats:
    """Detections ``(d, 7)`` as image, category, -score and box, sorted."""
    rows = np.column_stack([data.image, data.category, -data.score, data.box])
    return rows[np.lexsort(rows.T[::-1])]


def _check(data: Boxes) -> None:
    if not np.isfinite(data.score).all() or not np.isfinite(data.box).all() or not np.isfinite(data.truth_box).all():
        raise InvalidInput("scores and boxes must be finite numbers; NaN or infinity came from the model or its reader")
    if (data.box[:, 2:] < 0).any() or (data.truth_box[:, 2:] < 0).any():
        raise InvalidInput("a box has a negative width or height: boxes are (x, y, width, height)")


def _check_same(before: Boxes, after: Boxes) -> None:
    same = before.images == after.images and before.categories == after.categories
    if not same or before.clusters != after.clusters or not np.array_equal(_objects(before), _objects(after)):
        raise InvalidInput(
            f"a paired comparison needs the same annotations; got {len(before.truth_image)} objects on "
            f"{len(before.images)} images and {len(after.truth_image)} other ones on {len(after.images)}"
        )


def _objects(data: Boxes) -> Floats:
    """Objects ``(g, 8)`` as image, category, box, area and crowd, sorted."""
    rows = np.column_stack(
        [data.truth_image, data.truth_category, data.truth_box, data.truth_area, data.truth_crowd.astype(np.float64)]
    )
    return rows[np.lexsort(rows.T[::-1])]


# --- matching, by COCOeval -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Curve:
    """Matches of one category and area range, detections by falling score; the IoU thresholds are the first axis."""

    image: Ints  # (d,)
    hit: NDArray[np.bool_]  # (10, d) matched to an object that counts
    counted: NDArray[np.bool_]  # (10, d) a hit or a false alarm, not ignored
    objects: Ints  # (images,) objects that count


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Matched:
    values: Floats  # (7,) COCOeval's own, NaN where undefined
    curves: tuple[tuple[Curve, ...], ...]  # by area range (all, small, medium, large), categories with objects
    sizes: tuple[float, ...]  # (7,) images (or clusters) that each metric is worth


def _matched(data: Boxes) -> _Matched:
    _check(data)
    evaluation = _evaluated(data)
    stats = np.asarray(evaluation.stats, dtype=np.float64)[list(_COCO_STATS)]
    curves = _curves(evaluation, len(data.images), len(data.categories))
    units = resampling.cluster_index(data.clusters, len(data.images))
    sizes = [_size(of_area, units) for of_area in curves]
    return _Matched(values=np.where(stats < 0, np.nan, stats), curves=curves, sizes=tuple(sizes[a] for a in _AREA_OF))


def _size(curves: Sequence[Curve], units: NDArray[np.intp]) -> float:
    """Images (or clusters) that a mean over these categories is worth."""
    holding = [set(units[curve.objects > 0].tolist()) for curve in curves]
    return resampling.macro_size([len(h) for h in holding], len(set().union(*holding)))


def _evaluated(data: Boxes) -> Any:
    try:
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise MissingExtra("fields", needed_for="scoring detections") from None
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools reports its progress by print
        evaluation = COCOeval(_coco(data, _objects(data), None), _coco(data, *_split(_canonical(data))), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation


def _split(rows: Floats) -> tuple[Floats, Floats]:
    """Canonical detections as objects' rows (no crowds, areas of the boxes) and their scores."""
    area = rows[:, 5] * rows[:, 6]
    return np.column_stack([rows[:, :2], rows[:, 3:], area, np.zeros(len(rows))]), -rows[:, 2]


def _coco(data: Boxes, rows: Floats, scores: Floats | None) -> Any:
    """pycocotools' index of rows ``(n, 8)``: image, category, box, area, crowd; ids from 1."""
    from pycocotools.coco import COCO

    annotations = [
        {
            "id": i + 1,
            "image_id": int(row[0]),
            "category_id": int(row[1]),
            "bbox": row[2:6],
            "area": row[6],
            "iscrowd": int(row[7]),
        }
        for i, row in enumerate(rows.tolist())
    ]
    for annotation, value in zip(annotations, () if scores is None else scores.tolist(), strict=scores is not None):
        annotation["score"] = value
    index = COCO()
    index.dataset = {
        "images": [{"id": i} for i in range(len(data.images))],
        "categories": [{"id": c} for c in range(len(data.categories))],
        "annotations": annotations,
    }
    index.createIndex()
    return index


def _curves(evaluation: Any, images: int, categories: int) -> tuple[tuple[Curve, ...], ...]:
    """All curves from ``evalImgs``, whose entries run over categories, then area ranges, then images."""
    by_area: tuple[list[Curve], ...] = ([], [], [], [])
    for category in range(categories):
        for area, curves in enumerate(by_area):
            start = (category * len(by_area) + area) * images
            entries = [entry for entry in evaluation.evalImgs[start : start + images] if entry is not None]
            curve = _curve(entries, images)
            if curve is not None:
                curves.append(curve)
    return tuple(map(tuple, by_area))


def _curve(entries: Sequence[Mapping[str, Any]], images: int) -> Curve | None:
    """One curve of the images that have objects or detections of the category; None without objects."""
    objects = np.zeros(images, dtype=np.int64)
    for entry in entries:
        objects[entry["image_id"]] = np.count_nonzero(np.asarray(entry["gtIgnore"]) == 0)
    if not objects.any():
        return None
    order = np.argsort(-np.concatenate([entry["dtScores"] for entry in entries]), kind="stable")
    image = np.repeat([entry["image_id"] for entry in entries], [len(entry["dtScores"]) for entry in entries])[order]
    counted = ~np.concatenate([entry["dtIgnore"] for entry in entries], axis=1).astype(bool)[:, order]
    matched = np.concatenate([entry["dtMatches"] for entry in entries], axis=1)[:, order] > 0
    return Curve(image=image.astype(np.int64), hit=matched & counted, counted=counted, objects=objects)


# --- accumulation under weights --------------------------------------------------------------------


def weighted_values(curves: Sequence[Sequence[Curve]], weights: Floats) -> Floats:
    """The seven metrics ``(b, 7)`` under weights of images ``(b, images)``, NaN where no object has weight.

    `curves` are by area range. AP and AR are means over categories whose objects have weight, as COCOeval's are over
    categories that have objects.
    """
    columns = np.ascontiguousarray(weights.T)
    everything, *by_size = [_mean_curves(of_area, columns) for of_area in curves]
    precision, recall = everything
    sized = [p.mean(axis=0) for p, _ in by_size]
    rows = [precision.mean(axis=0), precision[_AT_50], precision[_AT_75], *sized, recall.mean(axis=0)]
    return np.stack(rows, axis=1)


def _mean_curves(curves: Sequence[Curve], weights: Floats) -> tuple[Floats, Floats]:
    """Mean AP and final recall over categories, each ``(10, b)``, under weights ``(images, b)``."""
    total = np.zeros((2, 10, weights.shape[1]))
    defined = np.zeros(weights.shape[1])
    for curve in curves:
        objects = curve.objects @ weights
        total += np.where(objects > 0, _accumulated(curve, weights, np.maximum(objects, 1)), 0.0)
        defined += objects > 0
    mean = np.divide(total, defined, out=np.full(total.shape, np.nan), where=defined > 0)
    return mean[0], mean[1]


def _accumulated(curve: Curve, weights: Floats, objects: Floats) -> Floats:
    """AP and final recall by IoU threshold ``(2, 10, b)`` of one category with `objects` ``(b,)`` to find.

    Only hits raise recall and only at hits can precision peak, so curves are evaluated at hits. How much weight stands
    above a hit is the running sum of what counts at most thresholds, once for all thresholds, plus what differs at this
    one: a sparse product each, since a threshold changes few detections.
    """
    hits_anywhere = np.flatnonzero(curve.hit.any(axis=0))
    usual = curve.counted.mean(axis=0) > 0.5
    above = _running(np.flatnonzero(usual), hits_anywhere, curve.image, weights)
    result = np.zeros((2, len(curve.hit), weights.shape[1]))
    for t, (hit, counted) in enumerate(zip(curve.hit, curve.counted, strict=True)):
        places = np.flatnonzero(hit)
        if not len(places):
            continue
        weight = above[np.searchsorted(hits_anywhere, places)]
        odd = np.flatnonzero(counted != usual)
        if len(odd):
            weight = weight + _running(odd, places, curve.image, weights, np.where(counted[odd], 1.0, -1.0))
        found = np.cumsum(weights[curve.image[places]], axis=0)
        result[0, t] = _average_precision(found, weight, objects)
        result[1, t] = found[-1] / objects
    return result


def _running(
    detections: NDArray[np.intp], places: NDArray[np.intp], image: Ints, weights: Floats, signs: Floats | None = None
) -> Floats:
    """The weight of `detections` at or above each of `places`: ``(places, b)``; all are ranks by falling score."""
    segment = np.searchsorted(places, detections)
    kept = segment < len(places)
    values = np.ones(int(kept.sum())) if signs is None else signs[kept]
    shape = (len(places), len(weights))
    between = csr_array((values, (segment[kept], image[detections[kept]])), shape=shape)
    return np.cumsum(np.asarray(between @ weights), axis=0)


def _average_precision(found: Floats, above: Floats, objects: Floats) -> Floats:
    """AP ``(b,)`` from the weight of hits and of all detections down to each hit, both ``(hits, b)``."""
    precision = found / (above + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1], axis=0)[::-1]
    reached = _recalls_reached(found / objects)
    reached[1:] -= reached[:-1].copy()
    return np.asarray(np.einsum("hb,hb->b", best, reached) / len(_RECALLS))


def _recalls_reached(recall: Floats) -> Floats:
    """How many of COCO's 101 recall thresholds are at or under each recall, compared as COCOeval does."""
    nearest = (recall * 100 + 0.5).astype(np.intp)  # all thresholds before the nearest are reached
    return np.asarray(nearest + (_RECALLS[nearest] <= recall), dtype=np.float64)
