"""What a model takes and gives: raw examples to inputs, pictures to raw examples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.records import Contract

__all__ = ["check_contract", "check_inputs", "picture", "prepare", "read_picture"]

_DTYPES = ("float32", "float16", "float64", "int32", "int64", "uint8")


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


def check_contract(contract: Contract) -> None:
    """Raise `InvalidInput` for a contract that no input could follow; contracts come from users and from files."""
    if not isinstance(contract, Contract):
        raise InvalidInput(f"the contract is a {type(contract).__name__}: give steelyard.Contract(shape=..., ...)")
    if not contract.shape or any(d < 1 or int(d) != d for d in contract.shape):
        raise InvalidInput(
            f"the contract's shape {contract.shape} must hold whole numbers above 0, without the batch axis"
        )
    if contract.dtype not in _DTYPES:
        raise InvalidInput(f"the contract's dtype {contract.dtype!r} is unknown; known: {', '.join(_DTYPES)}")
    if contract.outputs not in ("logits", "probabilities"):
        raise InvalidInput(f"the contract's outputs must be 'logits' or 'probabilities', got {contract.outputs!r}")
    numbers = (contract.scale, *contract.mean, *contract.std)
    if not np.isfinite(numbers).all() or 0 in contract.std or contract.scale == 0:
        raise InvalidInput(
            f"scale {contract.scale}, mean {contract.mean} and std {contract.std} must be finite, and scale and std not 0"
        )
    for values in (contract.mean, contract.std):
        _per_channel(contract, np.asarray(values, dtype=np.float32))


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
    from PIL import Image

    if not path.is_file():
        raise InvalidInput(f"no such picture: {path}")
    try:
        with Image.open(path) as image:
            image.load()
            return picture(contract, image)
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise InvalidInput(f"cannot read {path} as a picture: {_first_line(error)}") from None


def picture(contract: Contract, image: Any) -> NDArray[np.uint8]:
    """A PIL image fitted to the contract: grey or RGB, resized and cropped, axes in the contract's order."""
    if sorted(contract.layout) != ["C", "H", "W"] or len(contract.shape) != 3:
        raise InvalidInput(f"this model takes {contract.layout!r} of shape {contract.shape}, not a picture")
    axes = dict(zip(contract.layout, contract.shape, strict=True))
    if axes["C"] not in (1, 3):
        raise InvalidInput(f"pictures have 1 or 3 channels, the model takes {axes['C']}")
    fitted = _fit(_eight_bits(image).convert("L" if axes["C"] == 1 else "RGB"), axes["W"], axes["H"], contract.resize)
    pixels = np.asarray(fitted, dtype=np.uint8).reshape(axes["H"], axes["W"], axes["C"])
    return np.ascontiguousarray(pixels.transpose(["HWC".index(a) for a in contract.layout]))


def _eight_bits(image: Any) -> Any:
    """A picture of 16 bits a pixel by its upper 8; PIL's own conversion would cut everything above 255 to white."""
    from PIL import Image

    if not image.mode.startswith("I"):
        return image
    return Image.fromarray((np.clip(np.asarray(image), 0, 65535) >> 8).astype(np.uint8))


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


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
