"""Pictures changed by recipe: what is drawn belongs to an example and its epoch, so a resumed training sees the same.

Neither batch size nor the number of processes plays a part. Pictures come as the model takes
them, on whatever device; they are brought back to the range of their pixels for what is done there.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.records import Contract
from steelyard.trainer.augment import geometry
from steelyard.trainer.augment.chance import uniforms
from steelyard.trainer.augment.mix import mixing
from steelyard.trainer.augment.words import among, number, only
from steelyard.trainer.examples import Batch, Examples

__all__ = ["WORDS", "Pictures", "build", "picture_png", "sheet"]

Floats = NDArray[np.float64]

_LIMITS = {
    "crop": (0, 256),
    "resized_crop": (0.01, 1),
    "rotation": (0, 180),
    "shift": (0, 1),
    "shear": (0, 2),
    "zoom": (0, 0.9),
    "colour": (0, 1),
    "brightness": (0, 1),
    "contrast": (0, 1),
    "saturation": (0, 1),
    "hue": (0, 0.5),
    "erase": (0, 1),
    "mixup": (0, 100),
    "cutmix": (0, 100),
}
_CHOICES: dict[str, tuple[Any, ...]] = {
    "flip": (True, False, "horizontal", "vertical", "both"),
    "fill": get_args(geometry.Fill),
    "interpolation": get_args(geometry.Interpolation),
}
WORDS = (*_LIMITS, *_CHOICES)

_DRAWN = (
    "right", "down", "crop_right", "crop_down", "across", "upside", "turn", "zoom", "shear", "area", "aspect", "place",
    "place_down", "light", "contrast", "saturation", "hue", "erased", "erased_area", "erased_shape", "erased_right", "erased_down",
)  # fmt: skip
_ERASED = (0.02, 1 / 3)  # share of the area; these and the shape are Zhong et al.'s (2020) and torchvision's
_ERASED_SHAPE = 0.3
_SHOWN_SIDE = 64  # pixels of a picture on a sheet, at least


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """How far pictures are changed. Draws are uniform, and 0 (or False) leaves a change out.

    Geometry is done first, in one resampling: a resized crop, flips, shear, zoom, rotation, shift. Then brightness, contrast,
    saturation and hue, as torchvision adjusts them. What is erased gets the contract's mean.
    """

    crop: float = 0  # padding in pixels, or a share of the side, before the picture is cut back to its size anywhere
    resized_crop: float = 0  # smallest share of the area that is cut out and filled the picture with
    flip: bool | str = False  # with even chance: True or "horizontal", "vertical", "both"
    rotation: float = 0  # degrees either way
    shift: float = 0  # share of the side, either way and on both axes
    shear: float = 0  # share of the height that the top is moved against the bottom, either way
    zoom: float = 0  # factors from 1 - zoom to 1 + zoom
    fill: geometry.Fill = "black"
    interpolation: geometry.Interpolation = "bilinear"
    brightness: float = 0  # factors from 1 - x to 1 + x
    contrast: float = 0
    saturation: float = 0
    hue: float = 0  # turns of the colour circle either way
    erase: float = 0  # chance that a box is erased

    @property
    def geometric(self) -> bool:
        """Whether pixels move."""
        return any((self.crop, self.resized_crop, self.flip, self.rotation, self.shift, self.shear, self.zoom))

    @property
    def coloured(self) -> bool:
        """Whether pixels change where they are."""
        return any((self.brightness, self.contrast, self.saturation, self.hue))


def build(mapping: Mapping[str, Any], examples: Examples, *, seed: int = 0) -> Callable[[Batch], Batch]:
    """What changes batches of `examples` by a recipe's words, such as ``{"rotation": 20, "flip": True, "mixup": 0.2}``.

    ``colour: x`` stands for brightness, contrast and saturation. Raises `InvalidInput` for unknown words, values out of range, and
    inputs that are no pictures; mixup alone takes any real-valued inputs.
    """
    only(mapping, WORDS)
    words: dict[str, Any] = {
        word: number(word, value, *_LIMITS[word]) if word in _LIMITS else among(word, value, _CHOICES[word])
        for word, value in mapping.items()
    }
    mixup, cutmix, colour = (words.pop(word, 0.0) for word in ("mixup", "cutmix", "colour"))
    if colour:
        words = {"brightness": colour, "contrast": colour, "saturation": colour, **words}
    pictures = Pictures(**words)
    changes = pictures.geometric or pictures.coloured or pictures.erase
    change = _Changed(pictures, examples.contract, seed) if changes else _unchanged
    if not mixup and not cutmix:
        return change
    mix = mixing(mixup, cutmix, examples, change, seed=seed)
    return lambda batch: mix(change(batch))


def _unchanged(batch: Batch) -> Batch:
    return batch


class _Changed:
    """Pictures of one contract, changed."""

    def __init__(self, words: Pictures, contract: Contract, seed: int) -> None:
        _check(contract)
        self._words, self._contract, self._seed = words, contract, seed

    def __call__(self, batch: Batch) -> Batch:
        u = dict(zip(_DRAWN, uniforms(self._seed, batch.epoch, batch.index, len(_DRAWN)).T, strict=True))
        pictures = _pixels(batch.inputs, self._contract)
        if self._words.geometric and len(batch):
            maps = _maps(self._words, u, (pictures.shape[2], pictures.shape[3]))
            pictures = geometry.resampled(pictures, maps, self._words.fill, self._words.interpolation)
        if self._words.coloured:
            pictures = _coloured(self._words, u, pictures)
        made = torch.empty_like(batch.inputs)  # laid out in memory as what came
        upright = _upright(made, self._contract.layout)
        _normalise(pictures, self._contract, upright)
        if self._words.erase:
            box = _box(u, (pictures.shape[2], pictures.shape[3])) & (u["erased"] < self._words.erase)[:, None, None]
            upright.masked_fill_(torch.from_numpy(box[:, None]).to(made.device), 0.0)
        return replace(batch, inputs=made)


def _maps(words: Pictures, u: Mapping[str, Floats], size: tuple[int, int]) -> Floats:
    """From each pixel of the changed picture to the old one, ``(n, 3, 3)``."""
    sides = np.array([size[1], size[0]])
    shift = words.shift * sides * _either(np.stack([u["right"], u["down"]], axis=1))
    if words.crop:
        padding = np.round(words.crop * (sides if words.crop < 1 else 1))
        shift = shift + np.rint((padding + 0.5) * _either(np.stack([u["crop_right"], u["crop_down"]], axis=1)))
    maps = geometry.flipped(
        (u["across"] < 0.5) & (words.flip in (True, "horizontal", "both")),
        (u["upside"] < 0.5) & (words.flip in ("vertical", "both")),
    ) @ geometry.placed(
        words.rotation * _either(u["turn"]),
        shift,
        1 + words.zoom * _either(u["zoom"]),
        words.shear * _either(u["shear"]),
    )
    if not words.resized_crop:
        return maps
    area = words.resized_crop + (1 - words.resized_crop) * u["area"]
    return geometry.cropped(area, u["aspect"], np.stack([u["place"], u["place_down"]], axis=1), size) @ maps


def _coloured(words: Pictures, u: Mapping[str, Floats], pictures: torch.Tensor) -> torch.Tensor:
    """Brightness, contrast, saturation and hue by torchvision's formulas, a factor for each picture."""
    light, contrast, saturation = (
        torch.from_numpy(1 + amount * _either(u[name])).to(pictures)[:, None, None, None]
        for name, amount in (
            ("light", words.brightness),
            ("contrast", words.contrast),
            ("saturation", words.saturation),
        )
    )
    pictures = (pictures * light).clamp_(0, 1)
    pictures = _blended(pictures, _grey(pictures).mean(dim=(1, 2, 3), keepdim=True), contrast)
    if pictures.shape[1] == 1:
        return pictures
    pictures = _blended(pictures, _grey(pictures), saturation)
    return _hued(pictures, words.hue * _either(u["hue"])) if words.hue else pictures


def _hued(pictures: torch.Tensor, turns: Floats) -> torch.Tensor:
    try:
        from torchvision.transforms.v2.functional import adjust_hue
    except ImportError:
        raise MissingExtra("torch", needed_for="changing the hue of pictures") from None
    return torch.stack([adjust_hue(picture, float(turn)) for picture, turn in zip(pictures, turns, strict=True)])


def _blended(pictures: torch.Tensor, other: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return torch.lerp(other, pictures, share).clamp_(0, 1)


def _grey(pictures: torch.Tensor) -> torch.Tensor:
    """Luminance ``(n, 1, H, W)``, by ITU-R BT.601's weights as torchvision rounds them."""
    if pictures.shape[1] == 1:
        return pictures
    red, green, blue = pictures.unbind(1)
    return (0.2989 * red).add_(green, alpha=0.587).add_(blue, alpha=0.114).unsqueeze(1)


def _box(u: Mapping[str, Floats], size: tuple[int, int]) -> NDArray[np.bool_]:
    """A box in each picture, ``(n, H, W)``: its share of the area and its shape by chance, never larger than the picture."""
    (low, high), (height, width) = _ERASED, size
    area = (low + (high - low) * u["erased_area"]) * height * width
    ratio = _ERASED_SHAPE ** (1 - 2 * u["erased_shape"])
    sides = ((np.sqrt(area * ratio), u["erased_down"], height), (np.sqrt(area / ratio), u["erased_right"], width))
    inside = []
    for side, place, length in sides:
        long = np.clip(np.round(side), 1, length)
        start = np.floor(place * (length - long + 1))[:, None]
        inside.append((np.arange(length) >= start) & (np.arange(length) < start + long[:, None]))
    return np.asarray(inside[0][:, :, None] & inside[1][:, None, :])


def _either(u: Floats) -> Floats:
    """From [0, 1) to either side of 0."""
    return 2 * u - 1


def _check(contract: Contract) -> None:
    channels = dict(zip(contract.layout, contract.shape, strict=False)).get("C", 1)
    if sorted(contract.layout) not in (["C", "H", "W"], ["H", "W"]) or channels not in (1, 3):
        raise InvalidInput(
            f"augment: inputs of shape {contract.shape} ({contract.layout}) are no pictures of 1 or 3 channels: "
            "leave out all words but mixup"
        )
    if not contract.dtype.startswith("float"):
        raise InvalidInput(f"augment: the model takes {contract.dtype}, and pictures are changed as real numbers")


def _upright(inputs: torch.Tensor, layout: str) -> torch.Tensor:
    """A view ``(n, C, H, W)``."""
    if "C" not in layout:
        inputs, layout = inputs.unsqueeze(-1), f"{layout}C"
    return inputs.permute(0, *(1 + layout.index(axis) for axis in "CHW"))


def _pixels(inputs: torch.Tensor, contract: Contract) -> torch.Tensor:
    """Inputs as pixels ``(n, C, H, W)`` from 0 to 1: pictures of 8 bits, before the contract's scale, mean and std."""
    mean, std = _channels(contract, inputs.device)
    white = 255 * contract.scale
    return torch.addcmul(mean / white, _upright(inputs, contract.layout).float(), std / white)


def _normalise(pictures: torch.Tensor, contract: Contract, out: torch.Tensor) -> None:
    """Write pixels as inputs."""
    mean, std = _channels(contract, pictures.device)
    torch.addcmul(-mean / std, pictures, 255 * contract.scale / std, out=out)


def _channels(contract: Contract, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    mean, std = (
        torch.tensor(v, dtype=torch.float32, device=device)[:, None, None] for v in (contract.mean, contract.std)
    )
    return mean, std


def sheet(
    examples: Examples, augment: Callable[[Batch], Batch], *, count: int = 8, epochs: int = 6
) -> tuple[tuple[str, str], ...]:
    """What the net sees: for `count` examples from all over the set the class and a PNG in base64.

    Each PNG is a row: the picture as it is, then as it comes in each of the first epochs. Empty where inputs are no pictures.
    """
    try:
        _check(examples.contract)
    except InvalidInput:
        return ()
    index = np.unique(np.linspace(0, len(examples) - 1, count).astype(np.int64))
    seen = [examples.batch(index), *(augment(examples.batch(index, epoch)) for epoch in range(epochs))]
    columns = torch.stack([_pixels(batch.inputs, examples.contract) for batch in seen], dim=1)
    if columns.max() < 0.02:  # of 0 to 1 rather than 0 to 255
        columns = columns * 255
    return tuple(
        (_class(examples, int(label)), _png(row)) for label, row in zip(examples.labels[index], columns, strict=True)
    )


def picture_png(batch: Batch, contract: Contract) -> str:
    """A batch of pictures in a row, as a PNG in base64."""
    return _png(_pixels(batch.inputs, contract))


def _class(examples: Examples, label: int) -> str:
    names = examples.contract.labels
    return names[label] if label < len(names) else str(label)


def _png(row: torch.Tensor) -> str:
    """Pictures ``(k, C, H, W)`` of values 0 to 1 side by side, a pixel apart, small ones enlarged."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("torch", needed_for="pictures of what the net sees") from None
    times = max(1, -(-_SHOWN_SIDE // row.shape[2]))
    apart = torch.nn.functional.pad(row, (0, 1), value=1.0)
    pixels = (apart.clamp(0, 1) * 255).round().to(torch.uint8).permute(2, 0, 3, 1).flatten(1, 2)
    pixels = pixels.repeat_interleave(times, 0).repeat_interleave(times, 1)
    shown = Image.fromarray(pixels.squeeze(-1).numpy(force=True))
    content = io.BytesIO()
    shown.save(content, format="PNG", optimize=True)
    return base64.b64encode(content.getvalue()).decode("ascii")
