"""mAP and its kin with intervals: against COCOeval itself, alone and run again on every resample, and by hand."""

import contextlib
import copy
import dataclasses
import io
import json
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.metrics.fields import FIELD_METRICS, detection, resampling
from steelyard.records import Estimate, Unavailable
from steelyard.stats.proportion import wilson

NAMES = ["map", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar100"]


def scene(images=30, categories=3, seed=0, found=0.8, objects=4):
    """Random objects of all sizes, some crowds, and detections: shifted objects and false alarms."""
    rng = np.random.default_rng(seed)
    truth, results = [], []
    for image in range(images):
        for _ in range(rng.integers(0, objects + 1)):
            size = np.exp(rng.uniform(np.log(10), np.log(200), 2))
            box = [*rng.uniform(0, 400, 2), *size]
            kind = int(rng.integers(categories))
            crowd = int(rng.random() < 0.05)
            truth.append(
                entry(image, kind, box, id=len(truth), area=float(size.prod() * rng.uniform(0.6, 1)), iscrowd=crowd)
            )
            if rng.random() < found:
                shifted = np.array(box) + rng.normal(0, 0.08, 4) * [*size, *size]
                results.append(entry(image, kind, np.maximum(shifted, 1), score=rng.uniform(0.3, 1)))
        for _ in range(rng.integers(0, 4)):
            box = [*rng.uniform(0, 400, 2), *rng.uniform(8, 150, 2)]
            results.append(entry(image, int(rng.integers(categories)), box, score=rng.uniform(0, 0.8)))
    return annotations(images, categories, truth), results


def entry(image, kind, box, **more):
    return {"image_id": image + 1, "category_id": kind + 5, "bbox": [float(v) for v in box], **more}


def annotations(images, categories, truth):
    return {
        "images": [{"id": i + 1, "video": f"v{i // 3}"} for i in range(images)],
        "categories": [{"id": c + 5, "name": f"c{c}"} for c in range(categories)],
        "annotations": truth,
    }


def coco(truth, results):
    """pycocotools as its own documentation uses it: the seven of its twelve numbers."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = copy.deepcopy(truth)
    for i, annotation in enumerate(truth["annotations"]):
        annotation["id"] = i + 1
    with contextlib.redirect_stdout(io.StringIO()):
        index = COCO()
        index.dataset = truth
        index.createIndex()
        evaluation = COCOeval(index, index.loadRes(copy.deepcopy(results)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats[[0, 1, 2, 3, 4, 5, 8]]


def resampled_scene(truth, results, weight):
    """The scene with every image as often as its weight says, each copy under an id of its own."""
    images, objects, found = [], [], []
    for image in truth["images"]:
        for copy_number in range(int(weight[image["id"] - 1])):
            new = image["id"] * 1000 + copy_number
            images.append({"id": new})
            objects += [{**a, "image_id": new} for a in truth["annotations"] if a["image_id"] == image["id"]]
            found += [{**r, "image_id": new} for r in results if r["image_id"] == image["id"]]
    return {**truth, "images": images, "annotations": objects}, found


@pytest.fixture(scope="module")
def small():
    return scene(12, 2)


def by_name(results):
    return {r.quantity: r for r in results}


@pytest.mark.parametrize("seed", range(4))
def test_points_and_weights_of_one_are_cocoeval(seed):
    truth, results = scene(40, 4, seed)
    data = detection.boxes(truth, results)
    expected = coco(truth, results)
    assert [r.quantity for r in detection.score(data, resamples=10)] == NAMES
    np.testing.assert_allclose([r.value for r in detection.score(data, resamples=10)], expected, atol=1e-12)
    matched = detection._matched(data)
    ones = detection.weighted_values(matched.curves, np.ones((1, 40)))[0]
    np.testing.assert_allclose(ones, expected, atol=1e-9)


def test_weights_are_cocoeval_on_repeated_images(small):
    truth, results = small
    curves = detection._matched(detection.boxes(truth, results)).curves
    weights = next(resampling.weights(12, 25, seed=3))
    got = detection.weighted_values(curves, weights)
    for weight, values in zip(weights, got, strict=True):
        expected = coco(*resampled_scene(truth, results, weight))
        np.testing.assert_allclose(np.nan_to_num(values, nan=-1), expected, atol=1e-9)


def test_the_variance_behind_the_interval_is_that_of_the_draws(small):
    data = detection.boxes(*small)
    got = by_name(detection.score(data, resamples=200, seed=5))["map"]
    curves = detection._matched(data).curves
    draws = detection.weighted_values(curves, np.concatenate(list(resampling.weights(12, 200, 5))))[:, 0]
    size = detection._matched(data).sizes[0]
    expected = resampling.estimate("map", got.value, draws, size=size, n=12, level=0.95, method=got.method)
    assert (got.low, got.high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert "bootstrap over images; COCOeval bbox, pycocotools" in got.method


def test_the_files_order_does_not_matter_not_even_under_ties(small):
    truth, results = copy.deepcopy(small)
    for result in results:
        result["score"] = round(result["score"], 1)
    rng = np.random.default_rng(0)
    shuffled = {key: [value[i] for i in rng.permutation(len(value))] for key, value in truth.items()}
    other = [results[i] for i in rng.permutation(len(results))]
    first, second = detection.boxes(truth, results), detection.boxes(shuffled, other)
    assert repr(detection.score(first, resamples=50)) == repr(detection.score(second, resamples=50))


def test_hand_counted_average_precision():
    """Two objects; a hit, a false alarm, a hit: precision 1 up to recall 0.5, 2/3 after: (51 + 50 * 2/3) / 101."""
    truth = annotations(1, 1, [entry(0, 0, [0, 0, 50, 50]), entry(0, 0, [100, 0, 50, 50])])
    results = [
        entry(0, 0, [0, 0, 50, 50], score=0.9),
        entry(0, 0, [300, 300, 50, 50], score=0.8),
        entry(0, 0, [100, 0, 50, 50], score=0.7),
    ]
    got = by_name(detection.score(detection.boxes(truth, results)))
    assert got["ap50"].value == pytest.approx((51 + 50 * 2 / 3) / 101, abs=1e-12)
    assert got["ar100"].value == 1.0
    assert got["ap50"].low < got["ap50"].value < got["ap50"].high


def test_an_annotation_of_id_zero_is_matched():
    truth = annotations(1, 1, [entry(0, 0, [0, 0, 50, 50], id=0)])
    got = by_name(detection.score(detection.boxes(truth, [entry(0, 0, [0, 0, 50, 50], score=0.5)])))
    assert got["map"].value == 1.0


def test_sizes_without_objects_are_undefined_not_minus_one():
    truth = annotations(2, 1, [entry(0, 0, [0, 0, 10, 10])])
    got = by_name(detection.score(detection.boxes(truth, []), resamples=20))
    assert got["ap_large"] == Unavailable(quantity="ap_large", reason="undefined: no ground truth of this size")
    assert got["map"].value == got["ap_small"].value == 0.0
    empty = detection.score(detection.boxes(annotations(2, 1, []), []), resamples=20)
    assert all(isinstance(r, Unavailable) for r in empty)
    assert empty[0].reason == "undefined: no ground truth"


def test_a_perfect_score_leaves_what_its_images_leave_open():
    images = 50
    truth = annotations(images, 1, [entry(i, 0, [0, 0, 50, 50]) for i in range(images)])
    results = [entry(i, 0, [0, 0, 50, 50], score=0.9) for i in range(images)]
    got = by_name(detection.score(detection.boxes(truth, results)))["map"]
    assert (got.value, got.low, got.high) == (1.0, *wilson(50, 50))
    few = {**truth, "annotations": truth["annotations"][:5]}
    rare = by_name(detection.score(detection.boxes(few, results[:5])))["map"]
    assert rare.low == pytest.approx(wilson(5, 5)[0])  # 45 images without an object say nothing


@pytest.mark.parametrize("images", [1, 2, 30])
def test_intervals_hold_their_value_and_stay_in_range(images):
    for got in detection.score(detection.boxes(*scene(images, 3, 1)), resamples=100):
        if isinstance(got, Estimate):
            assert 0 <= got.low <= got.value <= got.high <= 1
            assert got.low < got.high
            assert FIELD_METRICS[got.quantity].unit == got.unit


def test_clusters_of_copies_give_the_interval_of_one_of_each():
    truth, results = scene(10, 2, 4)
    single = by_name(detection.score(detection.boxes(truth, results), resamples=2000))["ap50"]
    three = np.full(10, 3)
    big_truth, big_results = resampled_scene(truth, results, three)
    for image in big_truth["images"]:
        image["video"] = image["id"] // 1000
    data = detection.boxes(big_truth, big_results, cluster="video")
    clustered = by_name(detection.score(data, resamples=2000))["ap50"]
    assert "10 clusters of images" in clustered.method
    assert clustered.n == 30
    assert clustered.value == pytest.approx(single.value, abs=1e-9)
    assert clustered.low == pytest.approx(single.low, abs=0.02)
    assert clustered.high == pytest.approx(single.high, abs=0.02)


def test_comparison_is_paired(small):
    truth, results = small
    rng = np.random.default_rng(1)
    worse = [r for r in results if rng.random() > 0.1]
    before, after = detection.boxes(truth, results), detection.boxes(truth, worse)
    drops = by_name(detection.compare(before, after, resamples=300))
    alone = by_name(detection.score(before, resamples=300)), by_name(detection.score(after, resamples=300))
    drop = drops["map_drop"]
    assert drop.value == pytest.approx(alone[0]["map"].value - alone[1]["map"].value, abs=1e-12)
    assert drop.low <= drop.value <= drop.high
    assert drop.high - drop.low < (alone[0]["map"].high - alone[0]["map"].low) * 1.2
    same = by_name(detection.compare(before, before, resamples=50))["map_drop"]
    assert same.value == 0
    assert same.high > 0.1  # no image differs among 12, which leaves z^2 / (12 + z^2) open


def test_comparison_refuses_other_annotations(small):
    truth, results = small
    other = {**truth, "annotations": truth["annotations"][1:]}
    with pytest.raises(InvalidInput, match="same annotations"):
        detection.compare(detection.boxes(truth, results), detection.boxes(other, results))


def broken(where, **change):
    truth, results = scene(3, 2, 1)
    target = {"annotation": truth["annotations"], "detection": results, "image": truth["images"]}[where][0]
    for key, value in change.items():
        if value is None:
            del target[key]
        else:
            target[key] = value
    return truth, results


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (broken("detection", score=float("nan")), "detection 0 has score nan, not a finite number"),
        (broken("detection", score=None), "detection 0 has no 'score'; it has image_id, category_id, bbox"),
        (broken("detection", score="high"), "not a finite number"),
        (broken("detection", bbox=[1, 2, -3, 4]), "detection 0 has width -3 and height 4"),
        (broken("detection", bbox=[1, 2, 3]), "not the four numbers"),
        (broken("detection", bbox=[1, 2, 1e80, 1e80]), "detection 0 has width"),
        (broken("detection", category_id=99), "category_id 99, which the annotations do not list"),
        (broken("detection", image_id=77), "image_id 77, which the annotations do not list"),
        (broken("detection", image_id=[1]), r"image_id \[1\], not a whole number or a text"),
        (broken("annotation", bbox=[0, 0, float("inf"), 1]), "annotation 0 has bbox"),
        (broken("annotation", area=-1), "annotation 0 has area -1"),
        (broken("annotation", image_id=None), "annotation 0 has no 'image_id'"),
        (broken("image", id=2), "image id 2 stands twice"),
        (broken("image", id=None), "image 0 has no 'id'"),
        (({"images": [], "categories": [], "annotations": []}, []), "name no images"),
        (({"images": [{"id": 1}], "annotations": []}, []), "no list of categories"),
        (([], []), "not an object with images"),
        (({"images": [3], "categories": [], "annotations": []}, []), "entry 0 of images is 3"),
        (({"images": [{"id": 1}], "categories": [], "annotations": []}, {"a": 1}), "no list of detections"),
    ],
)
def test_bad_input_is_one_line(files, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        detection.boxes(*files)
    assert "\n" not in str(caught.value)


ODD = (
    st.none()
    | st.booleans()
    | st.integers(-3, 2**70)
    | st.floats()
    | st.text(max_size=3)
    | st.just([1, 2, 3, 4])
    | st.just({})
)


@given(
    st.sampled_from(["annotation", "detection", "image"]),
    st.sampled_from(["id", "bbox", "score", "area", "image_id"]),
    ODD,
)
@settings(max_examples=150, deadline=None)
def test_any_value_is_scored_in_range_or_refused(where, key, value):
    truth, results = broken(where)
    {"annotation": truth["annotations"], "detection": results, "image": truth["images"]}[where][0][key] = value
    with contextlib.suppress(InvalidInput):
        for got in detection.score(detection.boxes(truth, results), resamples=5):
            assert isinstance(got, Unavailable) or 0 <= got.low <= got.value <= got.high <= 1


def test_a_missing_library_names_its_extra(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools.cocoeval", None)
    with pytest.raises(MissingExtra, match="scoring detections needs the 'fields' extra"):
        detection.score(detection.boxes(*small))


def test_files_are_read_and_damaged_ones_refused(tmp_path):
    truth, results = scene(5, 2, 3)
    first, second = tmp_path / "truth.json", tmp_path / "found.json"
    first.write_text(json.dumps(truth))
    second.write_text(json.dumps(results))
    data = detection.read(first, second, cluster="video")
    assert data.clusters == ("v0", "v0", "v0", "v1", "v1")
    assert repr(detection.score(data, resamples=20)) == repr(
        detection.score(detection.boxes(truth, results, cluster="video"), resamples=20)
    )
    with pytest.raises(InvalidInput, match="image 1 has no 'patient' to cluster by"):
        detection.read(first, second, cluster="patient")
    second.write_text(json.dumps(results)[:-20])
    with pytest.raises(InvalidInput, match="not whole JSON"):
        detection.read(first, second)
    second.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="not whole JSON"):
        detection.read(first, second)
    with pytest.raises(InvalidInput, match="cannot read"):
        detection.read(first, tmp_path / "absent.json")


def test_arrays_with_nan_scores_are_refused(small):
    data = detection.boxes(*small)
    bad = dataclasses.replace(data, score=np.where(np.arange(len(data.score)) == 3, np.nan, data.score))
    with pytest.raises(InvalidInput, match="finite"):
        detection.score(bad)


@pytest.mark.slow
def test_coverage_of_a_known_population():
    """Draw 50 images of 400 again and again: the population's own AP50 lies within about 95 % of the intervals."""
    data = detection.boxes(*scene(400, 2, 11, objects=3))
    (curves, *_) = detection._matched(data).curves

    def ap50(weights):
        return detection._mean_curves(curves, np.ascontiguousarray(weights.T))[0][0]

    known = ap50(np.ones((1, 400)))[0]
    rng = np.random.default_rng(0)
    held, rounds = 0, 120
    for _ in range(rounds):
        sample = rng.integers(0, 400, 50)
        draws = np.array([np.bincount(rng.choice(sample, 50), minlength=400) for _ in range(100)], dtype=float)
        value = ap50(np.bincount(sample, minlength=400)[None].astype(float))[0]
        got = resampling.estimate("ap50", value, ap50(draws), size=50, n=50, level=0.95, method="")
        held += got.low <= known <= got.high
    assert 0.90 <= held / rounds <= 0.99


@pytest.mark.slow
def test_resampling_a_thousand_images_takes_less_than_matching_them():
    data = detection.boxes(*scene(1000, 10, 2, objects=6))
    began = time.process_time()
    matched = detection._matched(data)
    matching = time.process_time() - began
    began = time.process_time()
    assert detection._drawn([matched], data, 1000, 0).shape == (1000, 7)
    assert time.process_time() - began < max(10, 2 * matching)
