"""Where each pixel of a changed picture comes from: rotation, shift, shear, zoom, crops and flips as one map per picture.

One resampling blurs less than a chain of them, and a batch is one call. Matrices act on pixels counted from the
picture's middle; they are those of torchvision's ``affine``, the inverse of (shift, rotation, zoom, shear), preceded by
the crop and the flip.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

__all__ = ["Fill", "Interpolation", "cropped", "flipped", "placed", "resampled"]

Fill = Literal["nearest", "reflect", "black"]
Interpolation = Literal["bilinear", "nearest"]
Floats = NDArray[np.float64]

_PADDING = {"nearest": "border", "reflect": "reflection", "black": "zeros"}
_NARROWEST = 3 / 4  # of the sides of a resized crop, the other way round too (Szegedy et al. 2015)


def placed(degrees: Floats, shift: Floats, zoom: Floats, shear: Floats) -> Floats:
    """Maps ``(n, 3, 3)`` from the changed picture to the one that was turned clockwise by `degrees` and moved by `shift`.

    `shift` is ``(n, 2)`` in pixels right and down, `zoom` a factor, and `shear` the pixels that a row is moved left for each
    that it lies lower.
    """
    turn = np.deg2rad(degrees)
    cos, sin = np.cos(turn), np.sin(turn)
    forward = _stacked(cos, -cos * shear - sin, sin, -sin * shear + cos) * zoom[:, None, None]
    back = np.zeros((len(turn), 3, 3))
    back[:, :2, :2] = np.linalg.inv(forward)
    back[:, :2, 2] = -np.einsum("nij,nj->ni", back[:, :2, :2], shift)
    back[:, 2, 2] = 1
    return back


def cropped(area: Floats, aspect: Floats, place: Floats, size: tuple[int, int]) -> Floats:
    """Maps ``(n, 3, 3)`` that fill the picture with a part of it: a share of its area, at a place.

    `aspect` and `place` ``(n, 2)`` are draws from [0, 1): width over height between 3/4 and 4/3 on a logarithmic scale, and
    where the part lies, right and down. A part is never larger than the picture.
    """
    ratio = _NARROWEST ** (1 - 2 * aspect)
    sides = np.minimum(1, np.sqrt(np.stack([area * ratio, area / ratio], axis=1)))
    height, width = size
    middle = (place - 0.5) * (1 - sides) * np.array([width, height])
    maps = np.tile(np.eye(3), (len(area), 1, 1))
    maps[:, 0, 0], maps[:, 1, 1], maps[:, :2, 2] = sides[:, 0], sides[:, 1], middle
    return maps


def flipped(across: NDArray[np.bool_], upside: NDArray[np.bool_]) -> Floats:
    """Maps ``(n, 3, 3)`` that mirror left and right, and up and down, where asked."""
    maps = np.tile(np.eye(3), (len(across), 1, 1))
    maps[:, 0, 0], maps[:, 1, 1] = np.where(across, -1, 1), np.where(upside, -1, 1)
    return maps


def resampled(pictures: torch.Tensor, maps: Floats, fill: Fill, interpolation: Interpolation) -> torch.Tensor:
    """Pictures ``(n, C, H, W)`` whose pixel at p is the old one at ``maps @ p``."""
    height, width = pictures.shape[2:]
    half = np.array([width / 2, height / 2, 1.0])
    relative = (maps * half[None, None, :] / half[None, :, None])[:, :2]
    theta = torch.from_numpy(relative).to(pictures.device, pictures.dtype)
    grid = F.affine_grid(theta, list(pictures.shape), align_corners=False)
    return F.grid_sample(pictures, grid, mode=interpolation, padding_mode=_PADDING[fill], align_corners=False)


def _stacked(a: Floats, b: Floats, c: Floats, d: Floats) -> Floats:
    return np.stack([np.stack([a, b], axis=-1), np.stack([c, d], axis=-1)], axis=-2)
