"""Damage to pictures, texts and features: kept shapes, chance that belongs to the example, more with severity, known truths."""

import difflib
import io
import itertools
import json
import unicodedata
from importlib import resources

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from steelyard.errors import InvalidInput
from steelyard.records import Contract, Unavailable
from steelyard.subject.corruptions import CORRUPTIONS, corrupted, corruptions_for, feature_noise
from steelyard.subject.corruptions.images import STRENGTHS
from steelyard.subject.corruptions.texts import NOISES
from steelyard.subject.splits import Split

IMAGES = [name for name, c in CORRUPTIONS.items() if c.kind == "image"]
TEXTS = [name for name, c in CORRUPTIONS.items() if c.kind == "text"]
ENGLISH = (
    "A stirring, funny and (finally) transporting re-imagining of Beauty and the Beast; of 1930s horror films too.",
    "The plot is 'paper-thin': no movement, no yuks, not much of anything.",
)
CHINESE = (
    "东5环海棠公社230-290平2居准现房98折优惠，记者问：是真的吗？",
    "中华女子学院：本科层次仅1个专业招男生，他们的成绩已经公布。",
)


def scene(count=24, side=28, channels=1, seed=0):
    """Smooth blobs with an edge, so that blur, turning and pixels have something to spoil: (n, channels, side, side)."""
    rng = np.random.default_rng(seed)
    rough = ndimage.gaussian_filter(rng.standard_normal((count, channels, side, side)), (0, 0, side / 12, side / 12))
    rough = (rough - rough.min()) / (rough.max() - rough.min()) * 150 + 40
    for picture, edge in zip(rough, rng.integers(side // 8, side // 2, count), strict=True):
        picture[..., edge : edge + side // 4] += 50
    return rough.astype(np.uint8)


def damage(one, other):
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def refused(call):
    with pytest.raises(InvalidInput) as error:
        call()
    assert "\n" not in str(error.value)
    return str(error.value)


# --- pictures --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", IMAGES)
@pytest.mark.parametrize(("side", "channels"), [(8, 1), (28, 1), (96, 3)])
def test_more_severity_is_more_damage(name, side, channels):
    pictures = scene(side=side, channels=channels)
    kept = pictures.copy()
    made = [CORRUPTIONS[name](pictures, severity, seed=3) for severity in range(6)]
    damages = [damage(m, pictures) for m in made]
    assert all(m.shape == pictures.shape and m.dtype == np.uint8 for m in made)
    assert damages[0] == 0
    assert all(less < more or (side == 8 and less <= more) for less, more in itertools.pairwise(damages)), damages
    assert np.array_equal(pictures, kept)


@pytest.mark.parametrize("name", IMAGES)
def test_damage_is_alike_on_small_and_large_pictures(name):
    """The same scenes at 28x28 and at four times the side lose about as much: strengths grow with the side."""
    large = scene(side=112)
    small = large.reshape(24, 1, 28, 4, 28, 4).mean(axis=(3, 5)).astype(np.uint8)
    ratio = damage(CORRUPTIONS[name](large, 3), large) / damage(CORRUPTIONS[name](small, 3), small)
    assert 0.4 < ratio < 2.5, ratio


@pytest.mark.parametrize("name", IMAGES)
def test_an_example_is_damaged_alike_in_every_batch_order_and_layout(name):
    pictures = scene(channels=3)
    whole = CORRUPTIONS[name](pictures, 2, seed=5)
    assert np.array_equal(np.concatenate([CORRUPTIONS[name](p[None], 2, seed=5) for p in pictures]), whole)
    assert np.array_equal(CORRUPTIONS[name](pictures[::-1], 2, seed=5)[::-1], whole)
    last = CORRUPTIONS[name](pictures.transpose(0, 2, 3, 1), 2, seed=5, layout="HWC")
    assert np.array_equal(last.transpose(0, 3, 1, 2), whole)


@pytest.mark.parametrize("name", ["gaussian_noise", "shot_noise", "impulse_noise", "motion_blur", "rotation"])
def test_the_seed_decides(name):
    pictures = scene()
    assert not np.array_equal(CORRUPTIONS[name](pictures, 3, seed=0), CORRUPTIONS[name](pictures, 3, seed=1))


def test_large_batches_are_worked_through_in_parts(monkeypatch):
    pictures = scene()
    whole = CORRUPTIONS["shot_noise"](pictures, 4)
    monkeypatch.setattr("steelyard.subject.corruptions._VALUES_AT_ONCE", 3 * 28 * 28)
    assert np.array_equal(CORRUPTIONS["shot_noise"](pictures, 4), whole)


def test_grey_pictures_without_a_channel_axis():
    pictures = scene()
    flat = CORRUPTIONS["rotation"](pictures[:, 0], 3, layout="HW")
    assert np.array_equal(flat, CORRUPTIONS["rotation"](pictures, 3)[:, 0])


def test_noise_has_the_spread_and_the_share_that_it_says():
    grey = np.full((60, 1, 32, 32), 128, dtype=np.uint8)
    grey[:, 0, 0, 0] += np.arange(60, dtype=np.uint8)  # unlike each other, for chance belongs to the picture
    noise = CORRUPTIONS["gaussian_noise"](grey, 2).astype(float) - grey
    assert noise.std() == pytest.approx(0.08 * 255, rel=0.02)
    assert abs(noise.mean()) < 0.3
    counted = CORRUPTIONS["shot_noise"](grey, 1).astype(float)
    assert counted.mean() == pytest.approx(grey.mean(), abs=0.5)
    assert counted.std() == pytest.approx(255 * np.sqrt(128 / 255 / 60), rel=0.02)  # Poisson: variance is the mean
    lost = CORRUPTIONS["impulse_noise"](grey, 3)
    assert (lost == 0).mean() == pytest.approx(0.045, abs=0.004)
    assert (lost == 255).mean() == pytest.approx(0.045, abs=0.004)


def test_a_flat_picture_survives_blur_turning_and_pixels():
    grey = np.full((2, 1, 20, 20), 77, dtype=np.uint8)
    for name in ("gaussian_blur", "motion_blur", "rotation", "pixelate", "contrast"):
        assert (CORRUPTIONS[name](grey, 5) == 77).all(), name


def test_brightness_and_contrast_are_their_formulas():
    pictures = scene()
    light = np.clip(np.rint(pictures + 255 * 0.16), 0, 255)
    assert np.array_equal(CORRUPTIONS["brightness"](pictures, 2), light)
    mean = pictures.mean(axis=(1, 2, 3), keepdims=True)
    assert damage(CORRUPTIONS["contrast"](pictures, 4), mean + 0.3 * (pictures - mean)) < 0.3


def test_jpeg_is_pillows():
    picture = scene(count=1, channels=3)
    content = io.BytesIO()
    Image.fromarray(picture[0].transpose(1, 2, 0)).save(content, format="JPEG", quality=25)
    assert np.array_equal(CORRUPTIONS["jpeg"](picture, 3)[0].transpose(1, 2, 0), np.asarray(Image.open(content)))


def test_pixels_are_the_means_of_their_boxes():
    picture = scene(count=1, side=24)
    boxes = picture.reshape(1, 1, 6, 4, 6, 4).mean(axis=(3, 5))  # 24 / (1 + 0.13 * 24) rounds to 6
    assert damage(CORRUPTIONS["pixelate"](picture, 5), np.kron(boxes, np.ones((4, 4)))) <= 0.5


def test_motion_is_sideways_or_upright_and_keeps_light():
    point = np.zeros((60, 1, 21, 21), dtype=np.uint8)
    point[:, 0, 10, 10] = 250
    point[np.arange(60), 0, 0, 0] = np.arange(60)  # unlike each other
    spread = CORRUPTIONS["motion_blur"](point, 5)[:, 0, 5:16, 5:16] > 0
    upright, sideways = spread.any(axis=2).sum(axis=1) > 1, spread.any(axis=1).sum(axis=1) > 1
    assert (upright ^ sideways).all()
    assert 15 < upright.sum() < 45


def test_rotation_turns_by_its_angle():
    yy, xx = np.mgrid[:61, :61] - 30
    bar = np.where((np.abs(yy) < 2) & (np.abs(xx) < 25), 255, 0).astype(np.uint8)[None, None]
    turned = CORRUPTIONS["rotation"](bar, 4)[0, 0].astype(float)
    angle = 0.5 * np.arctan2(2 * (turned * xx * yy).sum(), (turned * (xx**2 - yy**2)).sum())  # axis of inertia
    assert abs(np.degrees(angle)) == pytest.approx(STRENGTHS["rotation"][3], abs=0.5)


@pytest.mark.parametrize(
    ("raw", "layout", "reason"),
    [
        (
            scene().astype(np.float32) / 255,
            "CHW",
            (
                "the pictures are float32, and damage is defined on pixels of 0-255: "
                "give uint8 pictures and let the contract's scale, mean and std make the inputs"
            ),
        ),
        (np.zeros((3, 5), np.uint8), "F", "examples of shape (5,) (F) are no pictures"),
        (np.zeros((3, 4, 8, 8), np.uint8), "CHW", "the pictures have 4 channels; grey (1) or colour (3) is needed"),
    ],
)
def test_what_is_no_picture_is_refused(raw, layout, reason):
    message = refused(lambda: CORRUPTIONS["gaussian_blur"](raw, 1, layout=layout))
    assert message == f"cannot apply gaussian_blur: {reason}"


@pytest.mark.parametrize("severity", [-1, 6, 2.5])
def test_severities_are_0_to_5(severity):
    message = refused(lambda: CORRUPTIONS["contrast"](scene(), severity))
    assert message == f"severity must be a whole number from 0 to 5, got {severity}"


def test_a_negative_seed():
    assert refused(lambda: CORRUPTIONS["contrast"](scene(), 1, -1)) == "the seed must be 0 or more, got -1"


# --- texts -----------------------------------------------------------------------------------------


def distance(one, other):
    """Share of characters that are not in a longest matching of the two texts."""
    return 1 - difflib.SequenceMatcher(None, one, other, autojunk=False).ratio()


@pytest.mark.parametrize("name", TEXTS)
def test_more_severity_spoils_more_characters(name):
    texts = [text for text in (ENGLISH + CHINESE) * 25 if NOISES[name].reach([text])]
    texts = [f"{text} {i}" for i, text in enumerate(texts)]  # unlike each other
    damages = [np.mean([*map(distance, texts, CORRUPTIONS[name](texts, s, seed=1))]) for s in range(6)]
    assert damages[0] == 0
    assert all(less < more for less, more in itertools.pairwise(damages)), damages


@pytest.mark.parametrize("name", TEXTS)
@given(texts=st.lists(st.text(max_size=30), max_size=5), severity=st.integers(0, 5), seed=st.integers(0, 9))
@settings(max_examples=30, deadline=None)
def test_any_text_can_be_spoiled_in_any_company(name, texts, severity, seed):
    spoiled = CORRUPTIONS[name](texts, severity, seed)
    assert spoiled == tuple(CORRUPTIONS[name]([text], severity, seed)[0] for text in texts)
    assert all(bool(after.strip()) == bool(before.strip()) for before, after in zip(texts, spoiled, strict=True))
    if severity == 0:
        assert spoiled == tuple(texts)


@pytest.mark.parametrize("name", ["keyboard", "homophone", "look_alike", "case", "width"])
def test_the_share_of_struck_characters_is_kept_on_average(name):
    texts = [f"{text} {i}" for i, text in enumerate((ENGLISH + CHINESE) * 200)]
    noise = NOISES[name]
    eligible = sum(noise.can(text, i) for text in texts for i in range(len(text)))
    for severity, share in enumerate(noise.shares, start=1):
        spoiled = CORRUPTIONS[name](texts, severity, seed=2)
        changed = sum(
            a != b for one, other in zip(texts, spoiled, strict=True) for a, b in zip(one, other, strict=True)
        )
        assert changed / eligible == pytest.approx(share, abs=0.01)


def test_keyboard_slips_land_on_touching_keys():
    places = {key: (x + offset, y) for y, (row, offset) in enumerate(
        (("qwertyuiop", 0.0), ("asdfghjkl", 0.5), ("zxcvbnm", 1.0))) for x, key in enumerate(row)}  # fmt: skip
    spoiled = CORRUPTIONS["keyboard"](ENGLISH, 5)
    slips = [
        (a, b) for one, other in zip(ENGLISH, spoiled, strict=True) for a, b in zip(one, other, strict=True) if a != b
    ]
    assert len(slips) > 20
    for a, b in slips:
        (ax, ay), (bx, by) = places[a.lower()], places[b.lower()]
        assert np.hypot(ax - bx, ay - by) < 1.2
        assert a.isupper() == b.isupper()


def test_each_noise_does_what_it_says():
    long = ENGLISH[0] * 4
    assert len(CORRUPTIONS["delete"]([long], 5)[0]) < len(long) < len(CORRUPTIONS["insert"]([long], 5)[0])
    assert sorted(CORRUPTIONS["swap"]([long], 5)[0]) == sorted(long)
    assert CORRUPTIONS["case"]([long], 5)[0].lower() == long.lower()
    assert unicodedata.normalize("NFKC", CORRUPTIONS["width"]([long], 5)[0]) == long
    assert CORRUPTIONS["punctuation"](CHINESE[:1], 5)[0] == "东5环海棠公社230290平2居准现房98折优惠记者问是真的吗"


def test_a_text_of_one_letter_is_not_emptied():
    assert set(CORRUPTIONS["delete"](["a"] * 3 + ["！", "是"], 5, seed=4)) == {"a", "！", "是"}
    assert CORRUPTIONS["punctuation"](["？！"], 5) == ("？！",)


@pytest.mark.parametrize("raw", ["a text", [1, 2], [b"bytes"]])
def test_what_is_no_list_of_texts_is_refused(raw):
    assert refused(lambda: CORRUPTIONS["delete"](raw, 1)) == (
        f"text noise needs a sequence of strings, got {type(raw).__name__}"
    )


def test_the_tables_are_groups_of_single_characters_without_repetition():
    room = resources.files("steelyard.subject.corruptions")
    for name, least in (("homophones.json", 600), ("look_alikes.json", 150)):
        table = json.loads(room.joinpath(name).read_text(encoding="utf-8"))
        groups = list(table.values()) if isinstance(table, dict) else table
        together = "".join(groups)
        assert len(set(together)) == len(together) >= least, [c for c in set(together) if together.count(c) > 1]
        assert min(map(len, groups)) >= 2
        if isinstance(table, dict):
            assert all("\u4e00" <= c <= "\u9fff" for c in together)
            assert all(syllable.isascii() and syllable.islower() for syllable in table)


# --- features --------------------------------------------------------------------------------------


def test_feature_noise_follows_each_columns_spread():
    rows = np.random.default_rng(0).standard_normal((4000, 3)) * (1, 50, 0) + (0, 7, 3)
    noise = feature_noise(rows)
    assert np.array_equal(noise(rows, 0), rows)
    for severity, share in enumerate(noise.strengths, start=1):
        change = noise(rows, severity, seed=1) - rows
        assert change.std(axis=0)[:2] == pytest.approx(share * rows.std(axis=0)[:2], rel=0.05)
        assert (change[:, 2] == 0).all()
    assert np.array_equal(noise(rows[5:9], 3, seed=1), noise(rows, 3, seed=1)[5:9])


def test_feature_noise_refuses_what_has_no_spread_to_measure():
    assert refused(lambda: feature_noise(np.zeros((4, 2), dtype=np.int64))).startswith(
        "cannot measure the spread of columns: the examples are int64 codes"
    )
    assert refused(lambda: feature_noise(np.zeros((0, 2)))) == (
        "cannot measure the spread of columns: the reference holds no examples"
    )
    assert refused(lambda: feature_noise(np.zeros((4, 2)))(np.zeros((4, 3)), 1)) == (
        "examples have 3 columns, the spread was measured on 2"
    )


# --- what fits a split -----------------------------------------------------------------------------


def split(raw):
    return Split(raw=raw, labels=np.arange(len(raw), dtype=np.int32) % 2)


def codes(texts):
    return np.array([[ord(c) % 500 for c in text.ljust(40)[:40]] for text in texts])


TOKENS = Contract(shape=(40,), layout="T", dtype="int64")


def names(found):
    return [c.name for c in found]


def test_pictures_get_the_ten_kinds_and_features_their_noise():
    assert names(corruptions_for(split(scene()), Contract(shape=(1, 28, 28)))) == IMAGES
    assert len(IMAGES) == 10
    rows = split(np.random.default_rng(0).standard_normal((20, 3)))
    assert names(corruptions_for(rows, Contract(shape=(3,), layout="F"), reference=rows)) == ["feature_noise"]


def test_texts_get_the_noises_of_their_language():
    english = Split.of_texts(ENGLISH, np.array([0, 1], dtype=np.int32), codes)
    chinese = Split.of_texts(CHINESE, np.array([0, 1], dtype=np.int32), codes)
    assert set(TEXTS) - set(names(corruptions_for(english, TOKENS))) == {"homophone"}
    assert set(TEXTS) - set(names(corruptions_for(chinese, TOKENS))) == {"keyboard", "case"}


@pytest.mark.parametrize(
    ("raw", "contract", "reason"),
    [
        (scene().astype(np.float32), Contract(shape=(1, 28, 28)), "the pictures are float32"),
        (np.zeros((4, 40), dtype=np.int64), TOKENS, "the examples are int64 codes"),
        (np.zeros((4, 5, 6), dtype=np.float32), Contract(shape=(5, 6), layout="TF"), "examples of shape (5, 6) are no"),
    ],
)
def test_data_that_cannot_be_damaged_says_why(raw, contract, reason):
    found = corruptions_for(split(raw), contract)
    assert isinstance(found, Unavailable)
    assert found.quantity == "robustness"
    assert found.reason.startswith(reason)


def test_texts_without_anything_to_strike():
    found = corruptions_for(Split.of_texts(["  ", " "], np.array([0, 1], dtype=np.int32), codes), TOKENS)
    assert found == Unavailable(
        quantity="robustness", reason="the texts hold no characters that the known noises can strike"
    )


def test_a_damaged_split_keeps_its_labels_and_gives_damaged_inputs():
    pictures, contract = scene(), Contract(shape=(1, 28, 28), scale=1 / 255)
    spoiled = corrupted(split(pictures), CORRUPTIONS["jpeg"], 3, contract=contract)
    assert np.array_equal(spoiled.labels, split(pictures).labels)
    expected = CORRUPTIONS["jpeg"](pictures, 3).astype(np.float32) * np.float32(1 / 255)
    assert np.array_equal(spoiled.inputs(contract), expected)
    assert np.array_equal(spoiled.take(np.array([4, 2])).inputs(contract), expected[[4, 2]])


def test_a_damaged_split_of_texts_is_encoded_anew():
    whole = Split.of_texts(ENGLISH, np.array([0, 1], dtype=np.int32), codes)
    spoiled = corrupted(whole, CORRUPTIONS["case"], 5, contract=TOKENS)
    assert spoiled.texts == CORRUPTIONS["case"](ENGLISH, 5)
    assert np.array_equal(spoiled.inputs(TOKENS), codes(spoiled.texts))
    stored = Split(raw=codes(ENGLISH), labels=whole.labels, texts=ENGLISH)
    assert refused(lambda: corrupted(stored, CORRUPTIONS["case"], 5, contract=TOKENS)).startswith(
        "these examples have no texts with an encode"
    )
