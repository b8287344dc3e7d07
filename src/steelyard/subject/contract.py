"""What a model takes and gives: raw examples to inputs, pictures to raw examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.records import Contract

__all__ = ["check_inputs", "picture", "prepare", "read_picture"]


def prepare(contract: Contract, raw: NDArray[Any]) -> NDArray[Any]:
    """Model inputs ``(n, *contract.shape)`` from raw examples: ``(raw * scale - mean) / std`` per channel.

    Raises `InvalidInput` where the shape is not the contract's.

    >>> c = Contract(shape=(1, 1, 2), scale=0.5, mean=(1.0,), std=(2.0,))
    >>> prepare(c, np.array([[[[2, 4]]]], dtype=np.uint8)).tolist()
    [[[[0.0, 0.5]]]]
    """
    if raw.shape[1:] != contract.shape:
        raise InvalidInput(
            f"examples have shape {raw.shape[1:]}, the model takes {contract.shape}: "
            "give data of that shape or declare the right shape in the subject's contract"
        )
    dtype = np.dtype(contract.dtype)
    if not np.issubdtype(dtype, np.floating):
        if np.issubdtype(raw.dtype, np.floating):
            raise InvalidInput(f"examples are {raw.dtype}, the model takes {dtype}: give whole numbers")
        return np.ascontiguousarray(raw, dtype=dtype)
    mean, std = (_per_channel(contract, np.asarray(v, dtype=np.float32)) for v in (contract.mean, contract.std))
    inputs = (raw.astype(np.float32) * np.float32(contract.scale) - mean) / std
    return np.ascontiguousarray(inputs, dtype=dtype)


def check_inputs(contract: Contract, inputs: NDArray[Any]) -> None:
    """Raise `InvalidInput` unless `inputs` has the contract's shape and dtype and holds no NaN."""
    if inputs.shape[1:] != contract.shape or not len(inputs):
        raise InvalidInput(
            f"inputs have shape {inputs.shape}, the model takes (n, {', '.join(map(str, contract.shape))})"
        )
    if inputs.dtype != np.dtype(contract.dtype):
        raise InvalidInput(f"inputs are {inputs.dtype}, the model takes {contract.dtype}: convert them first")
    if np.issubdtype(inputs.dtype, np.floating) and not np.isfinite(inputs).all():
        raise InvalidInput("inputs hold NaN or infinity")


def read_picture(contract: Contract, path: Path) -> NDArray[np.uint8]:
    """A picture file as one raw example in the contract's shape and layout."""
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return picture(contract, image)
    except FileNotFoundError:
        raise InvalidInput(f"no such picture: {path}") from None
    except (UnidentifiedImageError, OSError) as error:
        raise InvalidInput(f"cannot read {path} as a picture: {error}") from None


def picture(contract: Contract, image: Any) -> NDArray[np.uint8]:
    """A PIL image fitted to the contract: grey or RGB, resized and cropped, axes in the contract's order."""
    if sorted(contract.layout) != ["C", "H", "W"]:
        raise InvalidInput(f"this model takes {contract.layout!r} of shape {contract.shape}, not a picture")
    axes = dict(zip(contract.layout, contract.shape, strict=True))
    if axes["C"] not in (1, 3):
        raise InvalidInput(f"pictures have 1 or 3 channels, the model takes {axes['C']}")
    fitted = _fit(image.convert("L" if axes["C"] == 1 else "RGB"), axes["W"], axes["H"], contract.resize)
    pixels = np.asarray(fitted, dtype=np.uint8).reshape(axes["H"], axes["W"], axes["C"])
    return np.ascontiguousarray(pixels.transpose(["HWC".index(a) for a in contract.layout]))


def _fit(image: Any, width: int, height: int, how: str) -> Any:
    from PIL import Image, ImageOps

    if image.size == (width, height):
        return image
    if how == "stretch":
        return image.resize((width, height), Image.Resampling.BILINEAR)
    return ImageOps.fit(image, (width, height), Image.Resampling.BILINEAR)


def _per_channel(contract: Contract, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Shape `values` so that they broadcast along the channel axis of a batch."""
    if values.size == 1:
        return values.reshape(())
    axis = contract.layout.find("C")
    if axis < 0 or contract.shape[axis] != values.size:
        raise InvalidInput(
            f"{values.size} normalisation values for inputs of shape {contract.shape} ({contract.layout})"
        )
    return values.reshape([-1 if i == axis else 1 for i in range(len(contract.shape))])
