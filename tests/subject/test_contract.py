"""The contract against formulas written out and torchvision, and pictures of every kind against pixels made by hand."""

import warnings

import numpy as np
import pytest
from PIL import Image

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.subject.contract import check_contract, check_inputs, picture, prepare, read_picture

IMAGENET = Contract(
    shape=(3, 4, 5), scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), labels=("a", "b")
)
GREY = Contract(shape=(1, 4, 4))
COLOUR = Contract(shape=(3, 4, 4))


def refused(build, *arguments):
    with pytest.raises(InvalidInput) as error:
        build(*arguments)
    return str(error.value)


# --- raw examples to inputs ------------------------------------------------------------------------


def test_prepare_is_the_formula_per_channel():
    raw = np.random.default_rng(0).integers(0, 256, (6, 3, 4, 5), dtype=np.uint8)
    expected = np.empty(raw.shape)
    for channel in range(3):
        expected[:, channel] = (raw[:, channel] / 255 - IMAGENET.mean[channel]) / IMAGENET.std[channel]
    found = prepare(IMAGENET, raw)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_prepare_is_what_torchvision_does():
    pytest.importorskip("torch")
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (4, 5, 3), dtype=np.uint8))
    steps = transforms.Compose([transforms.ToTensor(), transforms.Normalize(IMAGENET.mean, IMAGENET.std)])
    found = prepare(IMAGENET, picture(IMAGENET, image)[None])[0]
    np.testing.assert_allclose(found, steps(image).numpy(), rtol=1e-5, atol=1e-6)


def test_prepare_follows_the_channel_axis_of_the_layout():
    contract = Contract(shape=(1, 2, 3), layout="HWC", mean=(1.0, 2.0, 3.0), std=(1.0, 2.0, 4.0))
    raw = np.full((1, 1, 2, 3), 5.0)
    assert prepare(contract, raw).tolist() == [[[[4.0, 1.5, 0.5], [4.0, 1.5, 0.5]]]]


def test_one_mean_is_for_all():
    contract = Contract(shape=(2,), layout="F", mean=(1.0,), std=(2.0,))
    assert prepare(contract, np.array([[3, 5]])).tolist() == [[1.0, 2.0]]


def test_whole_numbers_stay_whole():
    contract = Contract(shape=(3,), layout="T", dtype="int64")
    found = prepare(contract, np.array([[1, 2, 3]], dtype=np.int32))
    assert found.dtype == np.int64
    assert found.tolist() == [[1, 2, 3]]


def test_a_wrong_shape_is_said():
    assert refused(prepare, GREY, np.zeros((2, 1, 8, 8))) == (
        "examples have shape (1, 8, 8), the model takes (1, 4, 4): "
        "give data of that shape or declare the right shape in the subject's contract"
    )


def test_fractions_for_a_model_of_whole_numbers_are_said():
    contract = Contract(shape=(3,), layout="T", dtype="int64")
    assert refused(prepare, contract, np.zeros((1, 3))) == (
        "examples are float64, the model takes int64: give whole numbers"
    )


def test_inputs_of_a_wrong_shape_dtype_or_content_are_said():
    good = np.zeros((2, 1, 4, 4), dtype=np.float32)
    check_inputs(GREY, good)
    assert refused(check_inputs, GREY, good[0]) == "inputs have shape (1, 4, 4), the model takes (n, 1, 4, 4)"
    assert refused(check_inputs, GREY, good[:0]) == "inputs have shape (0, 1, 4, 4), the model takes (n, 1, 4, 4)"
    assert refused(check_inputs, GREY, good.astype(float)) == (
        "inputs are float64, the model takes float32: convert them first"
    )
    assert refused(check_inputs, GREY, np.full_like(good, np.nan)) == "inputs hold NaN or infinity"


# --- contracts that nothing could follow -----------------------------------------------------------


@pytest.mark.parametrize(
    ("contract", "message"),
    [
        ("nothing", "the contract is a str: give steelyard.Contract(shape=..., ...)"),
        (
            Contract(shape=()),
            "the contract's shape () must hold whole numbers above 0, without the batch axis",
        ),
        (
            Contract(shape=(1, 0, 8)),
            "the contract's shape (1, 0, 8) must hold whole numbers above 0, without the batch axis",
        ),
        (
            Contract(shape=(1, 8, 8), dtype="bfloat16"),
            "the contract's dtype 'bfloat16' is unknown; known: float32, float16, float64, int32, int64, uint8",
        ),
        (
            Contract(shape=(1, 8, 8), outputs="scores"),
            "the contract's outputs must be 'logits' or 'probabilities', got 'scores'",
        ),
        (
            Contract(shape=(1, 8, 8), std=(0.0,)),
            "scale 1.0, mean (0.0,) and std (0.0,) must be finite, and scale and std not 0",
        ),
        (
            Contract(shape=(3, 8, 8), mean=(0.1, 0.2)),
            "2 normalisation values for inputs of shape (3, 8, 8) (CHW)",
        ),
        (
            Contract(shape=(6,), layout="F", std=(1.0, 2.0)),
            "2 normalisation values for inputs of shape (6,) (F)",
        ),
    ],
)
def test_contracts_are_checked(contract, message):
    assert refused(check_contract, contract) == message


# --- pictures --------------------------------------------------------------------------------------

RAMP = np.arange(16, dtype=np.uint8).reshape(4, 4) * 16


def saved(tmp_path, image, name="picture.png"):
    path = tmp_path / name
    image.save(path)
    return path


def test_grey_for_a_grey_model(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP))
    assert np.array_equal(read_picture(GREY, path), RAMP[None])


def test_grey_for_a_colour_model_is_repeated(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP))
    assert np.array_equal(read_picture(COLOUR, path), np.stack([RAMP] * 3))


def test_colour_keeps_its_channels_in_order(tmp_path):
    pixels = np.stack([RAMP, RAMP // 2, RAMP // 4], axis=2)
    path = saved(tmp_path, Image.fromarray(pixels))
    assert np.array_equal(read_picture(COLOUR, path), pixels.transpose(2, 0, 1))


def test_colour_in_the_layout_of_the_model(tmp_path):
    pixels = np.stack([RAMP, RAMP // 2, RAMP // 4], axis=2)
    path = saved(tmp_path, Image.fromarray(pixels))
    assert np.array_equal(read_picture(Contract(shape=(4, 4, 3), layout="HWC"), path), pixels)


def test_colour_for_a_grey_model_is_its_luma(tmp_path):
    """ITU-R 601-2: L = 0.299 R + 0.587 G + 0.114 B."""
    pixels = np.random.default_rng(0).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    found = read_picture(GREY, saved(tmp_path, Image.fromarray(pixels)))[0].astype(float)
    assert np.abs(found - pixels @ np.array([0.299, 0.587, 0.114])).max() <= 1


def test_transparency_is_dropped_as_torchvision_drops_it(tmp_path):
    pixels = np.stack([RAMP, RAMP // 2, RAMP // 4, np.full_like(RAMP, 128)], axis=2)
    path = saved(tmp_path, Image.fromarray(pixels))
    assert np.array_equal(read_picture(COLOUR, path), pixels[..., :3].transpose(2, 0, 1))


def test_a_palette_is_looked_up(tmp_path):
    image = Image.fromarray(RAMP // 16, mode=None).convert("P")
    image.putpalette([c for i in range(256) for c in (i, 255 - i, 7)])
    found = read_picture(COLOUR, saved(tmp_path, image))
    assert np.array_equal(found[0], RAMP // 16)
    assert np.array_equal(found[1], 255 - RAMP // 16)
    assert (found[2] == 7).all()


def test_sixteen_bits_keep_their_upper_eight(tmp_path):
    deep = RAMP.astype(np.uint16) * 256 + 77
    path = saved(tmp_path, Image.fromarray(deep))
    assert np.array_equal(read_picture(GREY, path), RAMP[None])


def test_black_and_white(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP > 100))
    assert np.array_equal(read_picture(GREY, path)[0], np.where(RAMP > 100, 255, 0))


@pytest.mark.parametrize("size", [(8, 8), (9, 5), (2, 2), (300, 200)])
@pytest.mark.parametrize("how", ["crop", "stretch"])
def test_other_sizes_are_fitted(tmp_path, size, how):
    path = saved(tmp_path, Image.new("RGB", size, (10, 20, 30)))
    found = read_picture(Contract(shape=(3, 4, 4), resize=how), path)
    assert found.shape == (3, 4, 4)
    assert found.dtype == np.uint8
    assert found.reshape(3, -1).T.tolist() == [[10, 20, 30]] * 16


def test_cropping_keeps_the_middle_and_stretching_keeps_all(tmp_path):
    wide = np.zeros((4, 12), dtype=np.uint8)
    wide[:, :4] = 255
    path = saved(tmp_path, Image.fromarray(wide))
    assert read_picture(GREY, path).max() == 0
    assert read_picture(Contract(shape=(1, 4, 4), resize="stretch"), path).max() > 200


def test_a_missing_picture_is_said(tmp_path):
    path = tmp_path / "gone.png"
    assert refused(read_picture, GREY, path) == f"no such picture: {path}"
    assert refused(read_picture, GREY, tmp_path) == f"no such picture: {tmp_path}"


def test_a_file_that_is_no_picture_is_said(tmp_path):
    path = tmp_path / "text.png"
    path.write_text("not a picture")
    assert refused(read_picture, GREY, path) == (
        f"cannot read {path} as a picture: cannot identify image file {str(path)!r}"
    )


@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.bmp", "p.gif", "p.webp", "p.tiff"])
@pytest.mark.parametrize("share", [0.05, 0.5, 0.9])
def test_a_broken_picture_is_one_line(tmp_path, name, share):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = saved(tmp_path, Image.fromarray(noise), name)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PIL's own words on a broken file
        message = refused(read_picture, COLOUR, path)
    assert message.startswith(f"cannot read {path} as a picture: ")
    assert "\n" not in message


def test_a_model_of_vectors_takes_no_picture(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP))
    assert refused(read_picture, Contract(shape=(6,), layout="F"), path) == (
        "this model takes 'F' of shape (6,), not a picture"
    )
    assert refused(read_picture, Contract(shape=(6,)), path) == "this model takes 'CHW' of shape (6,), not a picture"


def test_a_model_of_other_channels_takes_no_picture(tmp_path):
    path = saved(tmp_path, Image.fromarray(RAMP))
    assert refused(read_picture, Contract(shape=(4, 8, 8)), path) == (
        "pictures have 1 or 3 channels, the model takes 4"
    )
