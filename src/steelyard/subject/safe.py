"""Reading files from strangers: weights without running code."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from steelyard.errors import InvalidInput, UnsafeFile

if TYPE_CHECKING:
    from torch import nn

__all__ = ["load_tensors", "load_weights", "read_weights", "save_weights"]

_SAFE_WAY = (
    "save the weights with safetensors.torch.save_file(model.state_dict(), 'model.safetensors') and give that file"
)


def read_weights(path: Path) -> dict[str, Any]:
    """A state dict from a .safetensors file, or from a PyTorch file read with ``weights_only=True``.

    Raises `UnsafeFile` for a pickle that holds more than tensors.
    """
    if not path.is_file():
        raise InvalidInput(f"no such weights file: {path}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return dict(load_file(path))
        content = load_tensors(path)
    except pickle.UnpicklingError as error:
        if "Unsupported" in str(error) or "GLOBAL" in str(error) or "weights_only" in str(error).lower():
            raise UnsafeFile(f"{path} could run code when opened, so it was not: {_SAFE_WAY}") from None
        raise InvalidInput(f"{path} is not a weights file: {_first_line(error)}") from None
    except Exception as error:
        raise InvalidInput(f"cannot read weights from {path}: {_first_line(error)}") from None
    if isinstance(content, dict) and isinstance(content.get("state_dict"), dict):
        content = content["state_dict"]
    if not isinstance(content, dict) or not all(hasattr(v, "shape") for v in content.values()):
        raise InvalidInput(f"{path} holds a {type(content).__name__}, not a state dict of tensors: {_SAFE_WAY}")
    return content


def load_tensors(source: Path | IO[bytes]) -> Any:
    """What PyTorch's restricted unpickler makes of a file. Its warnings are for authors; its errors are raised."""
    import torch

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.load(source, map_location="cpu", weights_only=True)


def load_weights(model: nn.Module, path: Path) -> None:
    """Put the weights in `path` into `model`; every name and shape must match."""
    weights = read_weights(path)
    expected = model.state_dict()
    missing, extra = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or extra:
        raise InvalidInput(
            f"{path} does not fit the model: {len(missing)} names missing {missing[:2]}, {len(extra)} unknown {extra[:2]}"
        )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise InvalidInput(
                f"{path} does not fit the model: {name} has shape {tuple(weights[name].shape)}, "
                f"the model's is {tuple(tensor.shape)}"
            )
    model.load_state_dict(weights)


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the model's state dict; `read_weights` reads it back with ``weights_only=True``."""
    import torch

    torch.save(model.state_dict(), path)


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
