"""Pictures against torchvision's functional transforms, picture by picture, and draws against what the words promise."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as V

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.trainer.augment import geometry, images
from steelyard.trainer.augment.chance import uniforms
from steelyard.trainer.examples import Batch, Examples

N = 24
COLOUR = Contract(shape=(3, 20, 26), scale=1 / 255, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), labels=("a", "b", "c"))
GREY = Contract(shape=(1, 8, 8), scale=1 / 255, labels=tuple("0123456789"))


def examples(contract: Contract = COLOUR, count: int = N) -> Examples:
    rng = np.random.default_rng(1)
    smooth = rng.random((count, *contract.shape)).cumsum(-1).cumsum(-2) % 255  # with edges, and not noise alone
    return Examples(smooth.astype(np.uint8), rng.integers(0, len(contract.labels), count), contract)


def changed(
    words: dict[str, Any], data: Examples, index: NDArray[np.int64] | None = None, epoch: int = 0
) -> torch.Tensor:
    where = np.arange(len(data)) if index is None else index
    return images.build(words, data, seed=5)(data.batch(where, epoch)).inputs


def drawn(data: Examples) -> dict[str, NDArray[np.float64]]:
    return dict(zip(images._DRAWN, uniforms(5, 0, np.arange(len(data)), len(images._DRAWN)).T, strict=True))


def pixels(data: Examples) -> torch.Tensor:
    return images._pixels(data.batch(np.arange(len(data))).inputs, data.contract)


# --- against torchvision -----------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["bilinear", "nearest"])
def test_geometry_is_torchvisions_affine(mode: geometry.Interpolation) -> None:
    given = pixels(examples())
    rng = np.random.default_rng(2)
    degrees, zoom, shear = rng.uniform(-40, 40, N), rng.uniform(0.7, 1.4, N), rng.uniform(-0.3, 0.3, N)
    shift = rng.uniform(-5, 5, (N, 2))
    ours = geometry.resampled(given, geometry.placed(degrees, shift, zoom, shear), "black", mode)
    theirs = torch.stack([
        V.affine(
            picture, angle=float(d), translate=[float(x), float(y)], scale=float(z),
            shear=[float(np.rad2deg(np.arctan(s))), 0.0], interpolation=InterpolationMode(mode),
        )
        for picture, d, (x, y), z, s in zip(given, degrees, shift, zoom, shear, strict=True)
    ])  # fmt: skip
    apart = (ours - theirs).abs()
    if mode == "bilinear":
        assert apart.max() < 2e-3
    else:  # a pixel on the border between two may fall to either
        assert (apart > 1e-4).float().mean() < 0.01


def test_a_whole_shift_and_a_flip_move_pixels_exactly() -> None:
    given = pixels(examples(GREY))
    moved = geometry.placed(np.zeros(N), np.tile([2.0, -1.0], (N, 1)), np.ones(N), np.zeros(N))
    ours = geometry.resampled(given, moved, "black", "bilinear")
    assert torch.allclose(ours[:, :, :-1, 2:], given[:, :, 1:, :-2], atol=1e-5)
    assert (ours[:, :, -1:].abs().max(), ours[:, :, :, :2].abs().max()) == (0, 0)
    mirrored = geometry.flipped(np.ones(N, dtype=bool), np.zeros(N, dtype=bool))
    assert torch.allclose(geometry.resampled(given, mirrored, "nearest", "bilinear"), V.hflip(given), atol=1e-5)


def test_nearest_fill_repeats_the_edge() -> None:
    given = pixels(examples(GREY))
    moved = geometry.placed(np.zeros(N), np.tile([3.0, 0.0], (N, 1)), np.ones(N), np.zeros(N))
    ours = geometry.resampled(given, moved, "nearest", "bilinear")
    assert torch.allclose(ours[:, :, :, :3], given[:, :, :, :1].expand(-1, -1, -1, 3), atol=1e-5)


def test_a_resized_crop_is_torchvisions() -> None:
    given = pixels(examples(Contract(shape=(3, 32, 32), scale=1 / 255, labels=("a", "b"))))
    half = geometry.cropped(np.full(N, 0.25), np.full(N, 0.5), np.full((N, 2), 0.5), (32, 32))
    ours = geometry.resampled(given, half, "nearest", "bilinear")
    theirs = V.resized_crop(given, 8, 8, 16, 16, [32, 32], antialias=False)
    assert (ours - theirs)[..., 2:-2, 2:-2].abs().max() < 1e-4  # at the edge ours still sees beyond the crop


def test_colours_are_torchvisions() -> None:
    data = examples()
    u, words = drawn(data), {"brightness": 0.4, "contrast": 0.3, "saturation": 0.5, "hue": 0.1}
    expected = []
    for i, given in enumerate(pixels(data)):
        lit = V.adjust_brightness(given, 1 + 0.4 * (2 * u["light"][i] - 1))
        apart = V.adjust_contrast(lit, 1 + 0.3 * (2 * u["contrast"][i] - 1))
        vivid = V.adjust_saturation(apart, 1 + 0.5 * (2 * u["saturation"][i] - 1))
        expected.append(V.adjust_hue(vivid, 0.1 * (2 * u["hue"][i] - 1)))
    ours = images._pixels(changed(words, data), COLOUR)
    assert torch.allclose(ours, torch.stack(expected), atol=1e-4)


def test_one_word_for_three_colours_and_grey_pictures_without_hue() -> None:
    three = {"brightness": 0.2, "contrast": 0.2, "saturation": 0.2}
    assert torch.equal(changed({"colour": 0.2}, examples()), changed(three, examples()))
    grey = changed({"colour": 0.2, "hue": 0.3}, examples(GREY))
    assert torch.equal(grey, changed({"brightness": 0.2, "contrast": 0.2}, examples(GREY)))


# --- what the words promise --------------------------------------------------------------------------

STRONG = {
    "rotation": 20,
    "shift": 0.2,
    "shear": 0.2,
    "zoom": 0.2,
    "flip": True,
    "fill": "nearest",
    "colour": 0.3,
    "erase": 0.5,
}


def test_a_picture_does_not_depend_on_its_batch_and_differs_by_epoch() -> None:
    data = examples()
    whole = changed(STRONG, data, epoch=3)
    some = np.array([7, 2, 11])
    assert torch.equal(changed(STRONG, data, some, epoch=3), whole[some])
    assert not torch.equal(changed(STRONG, data, some, epoch=4), whole[some])


def test_draws_fill_their_range() -> None:
    data = examples(GREY, 2000)
    u = drawn(data)
    maps = images._maps(images.Pictures(rotation=20, zoom=0.2, shift=0.25), u, (8, 8))
    turned = np.rad2deg(np.arctan2(maps[:, 0, 1], maps[:, 0, 0]))
    scale = 1 / np.sqrt(np.linalg.det(maps[:, :2, :2]))
    moved = -np.linalg.solve(maps[:, :2, :2], maps[:, :2, 2:])[:, :, 0]
    assert 19 < np.abs(turned).max() <= 20 + 1e-9
    assert 0.8 <= scale.min() < 0.81 < 1.19 < scale.max() <= 1.2
    assert 1.9 < np.abs(moved).max() <= 2 + 1e-9
    assert np.abs(turned.mean()) < 1  # either way alike


def test_a_crop_moves_by_whole_pixels_of_the_padding() -> None:
    data = examples(GREY, 500)
    for crop in (2, 0.25):  # pixels, or that share of 8
        maps = images._maps(images.Pictures(crop=crop), drawn(data), (8, 8))
        assert np.allclose(maps[:, :2, :2], np.eye(2))
        assert sorted(set(maps[:, 0, 2].tolist())) == [-2, -1, 0, 1, 2]


def test_half_the_pictures_are_flipped_the_asked_way() -> None:
    data = examples(count=400)
    given = data.batch(np.arange(400)).inputs
    for words, axes in (({"flip": True}, [-1]), ({"flip": "vertical"}, [-2])):
        found = changed(words, data)
        flipped = torch.isclose(found, given.flip(axes), atol=1e-4).flatten(1).all(1)
        kept = torch.isclose(found, given, atol=1e-4).flatten(1).all(1)
        assert (flipped | kept).all()
        assert 0.4 < flipped.float().mean() < 0.6


def test_what_is_erased_is_a_box_of_the_mean() -> None:
    data = examples(count=300)
    found, given = changed({"erase": 0.5}, data), data.batch(np.arange(300)).inputs
    gone = ((found == 0) & (given != 0)).any(1)
    struck = gone.flatten(1).any(1)
    assert 0.4 < struck.float().mean() < 0.6
    share = gone[struck].float().mean((1, 2))
    assert share.max() < 0.40  # a third, and its rounding
    box = images._box(drawn(data), (20, 26))
    assert np.array_equal(box, box.any(2)[:, :, None] & box.any(1)[:, None, :])


@pytest.mark.parametrize(("layout", "order"), [("HWC", (1, 2, 0)), ("WHC", (2, 1, 0))])
def test_other_layouts_are_the_same_pictures(layout: str, order: tuple[int, ...]) -> None:
    data = examples()
    shape = tuple(COLOUR.shape[axis] for axis in order)
    other = Contract(
        shape=shape, layout=layout, scale=COLOUR.scale, mean=COLOUR.mean, std=COLOUR.std, labels=COLOUR.labels
    )
    turned = Examples(np.asarray(data.raw[np.arange(N)]).transpose(0, *(1 + a for a in order)), data.labels, other)
    assert torch.allclose(changed(STRONG, turned), changed(STRONG, data).permute(0, *(1 + a for a in order)), atol=1e-5)


def test_pictures_without_a_channel_axis_and_channels_last_memory() -> None:
    flat = Contract(shape=(8, 8), layout="HW", scale=1 / 255, labels=tuple("0123456789"))
    data = examples(GREY)
    same = Examples(np.asarray(data.raw[np.arange(N)])[:, 0], data.labels, flat)
    assert torch.equal(changed(STRONG, same), changed(STRONG, data)[:, 0])
    batch = examples().batch(np.arange(4)).to(torch.device("cpu"), channels_last=True)
    made = images.build(STRONG, examples())(batch)
    assert made.inputs.is_contiguous(memory_format=torch.channels_last)


def test_an_empty_batch_stays_empty() -> None:
    assert changed(STRONG | {"hue": 0.1, "erase": 0}, examples(GREY), np.zeros(0, dtype=np.int64)).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"rotate": 20}, "no word 'rotate'; nearest: rotation"),
        ({"rotation": 200}, "rotation must be a number from 0 to 180, got 200"),
        ({"rotation": True}, "rotation must be a number"),
        ({"flip": "sideways"}, "flip must be one of true, false, horizontal, vertical, both, got 'sideways'"),
        ({"fill": "white"}, "fill must be one of nearest, reflect, black"),
        ({"zoom": float("nan")}, "zoom must be a number"),
    ],
)
def test_words_that_make_no_sense_are_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        images.build(words, examples())


@pytest.mark.parametrize(
    "contract",
    [
        Contract(shape=(6,), layout="F", labels=("a", "b")),
        Contract(shape=(4, 8, 8), labels=("a", "b")),
        Contract(shape=(3, 8, 8), dtype="uint8", labels=("a", "b")),
    ],
)
def test_inputs_that_are_no_pictures_are_refused(contract: Contract) -> None:
    data = Examples(np.zeros((4, *contract.shape), dtype=np.uint8), np.array([0, 1, 0, 1]), contract)
    with pytest.raises(InvalidInput, match="augment:"):
        images.build({"flip": True}, data)


def test_the_sheet_shows_pictures_and_what_became_of_them() -> None:
    data = examples()
    rows = images.sheet(data, images.build({"flip": True}, data, seed=5), count=3, epochs=2)
    assert [label for label, _ in rows] == [COLOUR.labels[data.labels[i]] for i in (0, 11, 23)]
    with Image.open(io.BytesIO(base64.b64decode(rows[0][1]))) as shown:
        pixels_shown = np.asarray(shown)
    times = 4  # 20 rows of pixels become 80
    assert pixels_shown.shape == (20 * times, 3 * 27 * times, 3)
    original = np.asarray(data.raw[np.arange(1)])[0].transpose(1, 2, 0)
    assert np.array_equal(pixels_shown[::times, ::times][:, :26], original)


def test_no_sheet_of_what_is_no_picture() -> None:
    data = Examples(np.zeros((4, 6)), np.array([0, 1, 0, 1]), Contract(shape=(6,), layout="F", labels=("a", "b")))

    def same(batch: Batch) -> Batch:
        return batch

    assert images.sheet(data, same) == ()
