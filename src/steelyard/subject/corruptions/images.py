"""Pictures made worse in ten ways at five strengths: pure functions of pictures, severity (1 to 5) and seed.

The kinds follow Hendrycks and Dietterich, "Benchmarking Neural Network Robustness to Common Corruptions and
Perturbations" (ICLR 2019). Strengths are of this module, and where a length in pixels is meant they grow with the
shorter side S, so that 28x28 and 224x224 suffer alike:

================  =================================================  ====  ====  ====  ====  ====
kind              strength                                              1     2     3     4     5
================  =================================================  ====  ====  ====  ====  ====
gaussian_noise    standard deviation, share of the range             0.04  0.08  0.12  0.18  0.26
shot_noise        photons counted where a pixel is white               60    25    12     6     3
impulse_noise     share of values set to black or white              0.02  0.05  0.09  0.16  0.25
gaussian_blur     s: standard deviation of 0.3 + s S pixels          .004  .008  .014  .022  .032
motion_blur       s: path of 1 + s S pixels                          0.06  0.09  0.13  0.18  0.25
brightness        added, share of the range                          0.08  0.16  0.24  0.32  0.40
contrast          share of the distance from the mean that is kept   0.80  0.60  0.45  0.30  0.15
jpeg              quality                                              60    40    25    15     8
rotation          degrees                                               4     8    13    19    26
pixelate          s: boxes of 1 + s S pixels                         .020  .035  .055  .085  .130
================  =================================================  ====  ====  ====  ====  ====
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from steelyard.errors import MissingExtra
from steelyard.subject.corruptions.chance import generators

__all__ = [
    "STRENGTHS",
    "brightness",
    "contrast",
    "gaussian_blur",
    "gaussian_noise",
    "impulse_noise",
    "jpeg",
    "motion_blur",
    "pixelate",
    "rotation",
    "shot_noise",
]

Pictures = NDArray[np.uint8]  # (n, H, W, C), 0-255
Floats = NDArray[np.float32]

STRENGTHS: Mapping[str, tuple[float, float, float, float, float]] = {
    "gaussian_noise": (0.04, 0.08, 0.12, 0.18, 0.26),
    "shot_noise": (60, 25, 12, 6, 3),
    "impulse_noise": (0.02, 0.05, 0.09, 0.16, 0.25),
    "gaussian_blur": (0.004, 0.008, 0.014, 0.022, 0.032),
    "motion_blur": (0.06, 0.09, 0.13, 0.18, 0.25),
    "brightness": (0.08, 0.16, 0.24, 0.32, 0.40),
    "contrast": (0.80, 0.60, 0.45, 0.30, 0.15),
    "jpeg": (60, 40, 25, 15, 8),
    "rotation": (4, 8, 13, 19, 26),
    "pixelate": (0.020, 0.035, 0.055, 0.085, 0.130),
}


def gaussian_noise(pictures: Pictures, severity: int, seed: int) -> Pictures:
    """Normal noise of one spread everywhere, as from a warm sensor."""
    spread = 255 * _strength("gaussian_noise", severity)
    noise = [chance.standard_normal(pictures.shape[1:], dtype=np.float32) for chance in _chances(pictures, seed)]
    return _pixels(pictures + np.float32(spread) * np.stack(noise))


def shot_noise(pictures: Pictures, severity: int, seed: int) -> Pictures:
    """Poisson noise: the counts of photons where light is scarce."""
    photons = _strength("shot_noise", severity)
    chances = _chances(pictures, seed)
    counts = [chance.poisson(picture * (photons / 255)) for chance, picture in zip(chances, pictures, strict=True)]
    return _pixels(np.stack(counts) * (255 / photons))


def impulse_noise(pictures: Pictures, severity: int, seed: int) -> Pictures:
    """Salt and pepper: values that are lost, to black or white with even chance."""
    share = _strength("impulse_noise", severity)
    u = np.stack([chance.random(pictures.shape[1:], dtype=np.float32) for chance in _chances(pictures, seed)])
    flipped = np.stack([chance.random(pictures.shape[1:]) < 0.5 for chance in _chances(pictures, seed + 1)])
    return np.where(u < share, np.where(flipped, np.uint8(255), np.uint8(0)), pictures)


def gaussian_blur(pictures: Pictures, severity: int, seed: int) -> Pictures:  # noqa: ARG001  nothing is left to chance
    """A lens out of focus."""
    spread = 0.3 + _strength("gaussian_blur", severity) * min(pictures.shape[1:3])
    return _pixels(ndimage.gaussian_filter(pictures.astype(np.float32), (0, spread, spread, 0), mode="nearest"))


def motion_blur(pictures: Pictures, severity: int, seed: int) -> Pictures:
    """A camera that moved, sideways or up and down as the seed has it."""
    path = _path(1 + _strength("motion_blur", severity) * min(pictures.shape[1:3]))
    values = pictures.astype(np.float32)
    upright = _coin(pictures, seed)
    for axis, chosen in ((1, upright), (2, ~upright)):
        values[chosen] = ndimage.correlate1d(values[chosen], path, axis=axis, mode="nearest")
    return _pixels(values)


def brightness(pictures: Pictures, severity: int, seed: int) -> Pictures:  # noqa: ARG001
    """Everything lighter by the same amount, up to white."""
    return _pixels(pictures + np.float32(255 * _strength("brightness", severity)))


def contrast(pictures: Pictures, severity: int, seed: int) -> Pictures:  # noqa: ARG001
    """Everything nearer to the picture's mean."""
    mean = pictures.mean(axis=(1, 2, 3), keepdims=True)
    return _pixels(mean + _strength("contrast", severity) * (pictures - mean))


def jpeg(pictures: Pictures, severity: int, seed: int) -> Pictures:  # noqa: ARG001
    """Saved as JPEG and read again."""
    quality = int(_strength("jpeg", severity))
    return np.stack([_through_jpeg(picture, quality) for picture in pictures])


def rotation(pictures: Pictures, severity: int, seed: int) -> Pictures:
    """Turned about the middle, left or right as the seed has it; the edge fills the corners."""
    degrees = _strength("rotation", severity)
    values = pictures.astype(np.float32)
    left = _coin(pictures, seed)
    for angle, chosen in ((degrees, left), (-degrees, ~left)):
        values[chosen] = ndimage.rotate(values[chosen], angle, axes=(1, 2), reshape=False, order=1, mode="nearest")
    return _pixels(values)


def pixelate(pictures: Pictures, severity: int, seed: int) -> Pictures:  # noqa: ARG001
    """Fewer and larger pixels: means over boxes, drawn at the old size."""
    box = 1 + _strength("pixelate", severity) * min(pictures.shape[1:3])
    rows, columns = (_boxes(size, max(1, round(size / box))) for size in pictures.shape[1:3])
    means = np.einsum("ih,nhwc,jw->nijc", rows, pictures.astype(np.float64), columns, optimize=True)
    return _pixels(np.round(means, 6))  # means at .5 go one way, whatever order the products were summed in


def _strength(kind: str, severity: int) -> float:
    return STRENGTHS[kind][severity - 1]


def _chances(pictures: Pictures, seed: int) -> Iterator[np.random.Generator]:
    return generators((picture.tobytes() for picture in pictures), seed)


def _coin(pictures: Pictures, seed: int) -> NDArray[np.bool_]:
    return np.array([chance.random() < 0.5 for chance in _chances(pictures, seed)], dtype=np.bool_)


def _pixels(values: NDArray[np.floating]) -> Pictures:
    return np.asarray(np.clip(np.rint(values), 0, 255), dtype=np.uint8)


def _path(length: float) -> Floats:
    """Weights of a straight path of `length` pixels, which sum to 1; its ends are parts of pixels.

    >>> _path(2.0).tolist()
    [0.25, 0.5, 0.25]
    """
    beyond = (length - 1) / 2  # on either side of the middle pixel
    steps = np.arange(-math.ceil(beyond), math.ceil(beyond) + 1)
    return np.asarray(np.clip(beyond + 1 - np.abs(steps), 0, 1) / length, dtype=np.float32)


def _boxes(size: int, kept: int) -> NDArray[np.float64]:
    """The matrix ``(size, size)`` that averages `size` pixels over `kept` boxes and draws each box at its place.

    >>> _boxes(4, 2)[0].tolist()
    [0.5, 0.5, 0.0, 0.0]
    """
    edges = np.arange(kept + 1) * (size / kept)
    at = np.arange(size)
    overlap = np.minimum(edges[1:, None], at + 1) - np.maximum(edges[:-1, None], at)
    box_of = ((at + 0.5) * kept / size).astype(np.int64)  # the box over the pixel's middle
    return np.asarray((np.clip(overlap, 0, None) * (kept / size))[box_of], dtype=np.float64)


def _through_jpeg(picture: Pictures, quality: int) -> Pictures:
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("duplicates", needed_for="JPEG compression of pictures") from None
    shown = picture[..., 0] if picture.shape[-1] == 1 else picture
    content = io.BytesIO()
    Image.fromarray(shown).save(content, format="JPEG", quality=quality)
    with Image.open(content) as decoded:
        return np.asarray(decoded, dtype=np.uint8).reshape(picture.shape)
