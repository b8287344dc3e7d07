"""IoU, Dice and pixel accuracy with intervals: against scikit-learn, formulas written out, and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from sklearn.metrics import accuracy_score, f1_score, jaccard_score

from steelyard.errors import InvalidInput
from steelyard.metrics.fields import FIELD_METRICS, field_metric, resampling, segmentation
from steelyard.metrics.fields.segmentation import count, score
from steelyard.records import Estimate, Unavailable
from steelyard.stats.proportion import wilson


def maps(n=20, classes=4, seed=0, right=0.7, shape=(12, 9)):
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, classes, (n, *shape))
    skill = rng.beta(4 * right, 4 * (1 - right), (n, 1, 1))
    guess = np.where(rng.random(truth.shape) < skill, truth, rng.integers(0, classes, truth.shape))
    truth[rng.random(truth.shape) < 0.05] = 255
    return truth, guess


def by_name(results):
    return {r.quantity: r for r in results}


def test_points_are_scikit_learns_on_all_pixels():
    truth, guess = maps()
    kept = truth != 255
    got = by_name(score(count(truth, guess, 4)))
    assert got["miou"].value == pytest.approx(jaccard_score(truth[kept], guess[kept], average="macro"), abs=1e-12)
    assert got["dice"].value == pytest.approx(f1_score(truth[kept], guess[kept], average="macro"), abs=1e-12)
    assert got["pixel_accuracy"].value == pytest.approx(accuracy_score(truth[kept], guess[kept]), abs=1e-12)
    for c, iou in enumerate(jaccard_score(truth[kept], guess[kept], average=None)):
        assert got[f"class_iou[{c}]"].value == pytest.approx(iou, abs=1e-12)
        assert got[f"class_dice[{c}]"].value == pytest.approx(2 * iou / (1 + iou), abs=1e-12)


def test_draws_are_scikit_learn_on_resampled_images():
    truth, guess = maps(8)
    data = segmentation._additive(count(truth, guess, 4, ignore=255))
    order = np.lexsort(data.rows.T[::-1])
    weights = next(resampling.weights(8, 20, 0))
    draws = resampling.resampled(resampling.unit_sums(data.rows), data.values, 20, 0)
    for weight, drawn in zip(weights.astype(int), draws, strict=True):
        images = np.repeat(order, weight)
        kept = truth[images] != 255
        expected = jaccard_score(truth[images][kept], guess[images][kept], average="macro")
        assert drawn[0] == pytest.approx(expected, abs=1e-12)


def test_an_absent_class_is_undefined_and_left_out_of_the_mean():
    results = by_name(score(count([[[0, 0, 1]]], [[[0, 0, 1]]], 3, labels=("road", "sky", "bus"))))
    assert results["class_iou[bus]"] == Unavailable(
        quantity="class_iou[bus]", reason="undefined: no pixels of this class in truth or predictions"
    )
    assert results["miou"].value == 1.0
    invented = by_name(score(count([[[0, 0, 1]]], [[[0, 2, 1]]], 3)))
    assert invented["class_iou[2]"].value == 0.0
    assert invented["miou"].value == pytest.approx((1 / 2 + 1 + 0) / 3)


def test_images_without_a_label_are_undefined_not_zero():
    results = score(count([[[255]]], [[[0]]], 2))
    assert all(isinstance(r, Unavailable) for r in results)


def test_a_perfect_score_borrows_its_number_of_images():
    truth, _ = maps(40)
    truth[truth == 255] = 0
    for got in score(count(truth, truth, 4)):
        assert (got.value, got.low, got.high) == pytest.approx((1.0, *wilson(40, 40)))
    rare = np.zeros((40, 2, 2), int)
    rare[0, 0, 0] = 1
    got = by_name(score(count(rare, rare, 2)))
    assert got["miou"].low == pytest.approx(wilson(4 / (1 + 1 / 40), 4 / (1 + 1 / 40))[0])
    assert got["class_iou[1]"].low == pytest.approx(wilson(1, 1)[0])


@given(st.integers(1, 6), st.integers(0, 10_000), st.sampled_from([0.05, 0.5, 0.95]))
@settings(max_examples=25, deadline=None)
def test_intervals_hold_their_value_and_order_does_not_matter(n, seed, right):
    truth, guess = maps(n, 3, seed, right, (3, 3))
    order = np.random.default_rng(seed).permutation(n)
    first = score(count(truth, guess, 3), resamples=60)
    assert repr(first) == repr(score(count(truth[order], guess[order], 3), resamples=60))
    for got in first:
        if isinstance(got, Estimate):
            assert 0 <= got.low <= got.value <= got.high <= 1
            assert got.low < got.high
            assert field_metric(got.quantity).unit == got.unit == "fraction"


def test_clusters_are_the_unit():
    truth, guess = maps(30, seed=3)
    copies = [np.repeat(a, 4, axis=0) for a in (truth, guess)]
    labels = np.repeat(np.arange(30), 4)
    single, naive = by_name(score(count(truth, guess, 4)))["miou"], by_name(score(count(*copies, 4)))["miou"]
    clustered = by_name(score(count(*copies, 4, clusters=labels)))["miou"]
    assert (clustered.low, clustered.high) == pytest.approx((single.low, single.high), abs=1e-9)
    assert naive.high - naive.low < 0.6 * (single.high - single.low)
    assert "30 clusters of images" in clustered.method
    assert clustered.n == 120


def test_comparison_is_paired_and_never_collapses():
    truth, guess = maps(60, seed=1)
    rng = np.random.default_rng(2)
    worse = np.where(rng.random(guess.shape) < 0.02, (guess + 1) % 4, guess)
    before, after = count(truth, guess, 4), count(truth, worse, 4)
    alone = by_name(score(before))["miou"]
    drop = by_name(segmentation.compare(before, after))["miou_drop"]
    assert drop.value == pytest.approx(alone.value - by_name(score(after))["miou"].value, abs=1e-12)
    assert 0 < drop.low < drop.value < drop.high
    assert drop.high - drop.low < 0.5 * (alone.high - alone.low)
    z2 = 1.959963985**2
    same = by_name(segmentation.compare(before, before))["miou_drop"]
    assert (same.value, same.high) == pytest.approx((0, z2 / (60 + z2)))
    with pytest.raises(InvalidInput, match="same images"):
        segmentation.compare(before, count(truth[:50], guess[:50], 4))


def test_few_changed_images_leave_the_unchanged_ones_open():
    truth = np.zeros((200, 4, 4), int)
    truth[:, :2] = 1
    guess = truth.copy()
    guess[0] = 1 - guess[0]
    drop = by_name(segmentation.compare(count(truth, truth, 2), count(truth, guess, 2)))["pixel_accuracy_drop"]
    assert drop.value == pytest.approx(1 / 200)
    assert drop.low < 0 < drop.value < drop.high
    assert drop.high > 0.02  # Tango's end for 1 of 200 is 0.0277


def test_coverage_of_a_known_population():
    """Images of varying difficulty: the pixel accuracy and IoU of the population lie in about 95 % of the intervals."""
    rng = np.random.default_rng(0)
    pool = count(*maps(4000, 3, 5, 0.8, (6, 6)), 3)
    rows = segmentation._additive(pool).rows
    known = segmentation._values(rows.sum(axis=0))
    held = np.zeros(3)
    rounds = 600
    for seed in range(rounds):
        units = rows[rng.integers(0, len(rows), 25)]
        draws = resampling.resampled(units, segmentation._values, 200, seed)
        for m, name in enumerate(("miou", "dice", "pixel_accuracy")):
            value = float(segmentation._values(units.sum(axis=0))[m])
            got = resampling.estimate(name, value, draws[:, m], size=25, n=25, level=0.95, method="")
            held[m] += got.low <= known[m] <= got.high
    assert (held / rounds >= 0.92).all()
    assert (held / rounds <= 0.985).all()


@pytest.mark.parametrize(
    ("truth", "guess", "message"),
    [
        ([[[0, 1]]], [[[0, 2]]], "prediction of image 0 holds 2, not a class index from 0 to 1"),
        ([[[0, -1]]], [[[0, 1]]], "truth of image 0 holds -1"),
        ([[[0, 1]]], [[[0, float("nan")]]], "prediction of image 0 holds nan"),
        ([[[0, 1]]], [[[0, 255]]], "prediction of image 0 holds 255"),
        ([[[0, 1]]], [[[0], [1]]], r"truth of shape \(1, 2\) and a prediction of shape \(2, 1\)"),
        ([[[0, 1]]], [[[0, 1]], [[0, 1]]], "different numbers of images"),
        ([], [], "no images"),
        ([[["a"]]], [[["b"]]], "not class indices"),
    ],
)
def test_bad_maps_are_one_line(truth, guess, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        count(truth, guess, 2)
    assert "\n" not in str(caught.value)


def test_files_are_read_and_damaged_ones_refused(tmp_path):
    truth, guess = (a.astype(np.uint8) for a in maps(3))
    expected = repr(score(count(truth, guess, 4)))
    for kind in ("npy", "png"):
        for name, stack in (("truth", truth), ("guess", guess)):
            folder = tmp_path / kind / name
            folder.mkdir(parents=True)
            for i, one in enumerate(stack):
                path = folder / f"{i}.{kind}"
                np.save(path, one) if kind == "npy" else Image.fromarray(one).save(path)
        assert repr(score(segmentation.read(tmp_path / kind / "truth", tmp_path / kind / "guess", 4))) == expected
    np.save(tmp_path / "t.npy", truth)
    np.save(tmp_path / "g.npy", guess)
    assert repr(score(segmentation.read(tmp_path / "t.npy", tmp_path / "g.npy", 4))) == expected
    (tmp_path / "g.npy").write_bytes((tmp_path / "g.npy").read_bytes()[:150])
    with pytest.raises(InvalidInput, match="cannot read"):
        segmentation.read(tmp_path / "t.npy", tmp_path / "g.npy", 4)
    with pytest.raises(InvalidInput, match="cannot read"):
        segmentation.read(tmp_path / "absent.npy", tmp_path / "g.npy", 4)
    (tmp_path / "png/guess/2.png").unlink()
    with pytest.raises(InvalidInput, match=r"2\.png is only in"):
        segmentation.read(tmp_path / "png/truth", tmp_path / "png/guess", 4)
    (tmp_path / "png/guess/2.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InvalidInput, match="as a picture"):
        segmentation.read(tmp_path / "png/truth", tmp_path / "png/guess", 4)


def test_every_row_says_what_its_numbers_mean():
    for name, row in FIELD_METRICS.items():
        assert row.name == name
        assert row.low < row.high
        assert row.unit == ("points" if name in ("bleu", "chrf", "ter") else "fraction")
        assert row.higher_is_better == (name not in ("ter", "wer", "cer"))
