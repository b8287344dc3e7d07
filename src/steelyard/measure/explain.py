"""Why a model says what it says (Q17): a signed weight for every pixel, feature, character or word.

Weights speak of one output of the model, that of the target class, as the model gives it (logits or probabilities). Above 0
speaks for the class, below 0 against it.

Integrated gradients (Sundararajan, Taly and Yan, "Axiomatic Attribution for Deep Networks", ICML 2017) need a PyTorch
module; their weights sum to the output's change from a baseline input, and by how much they miss it is reported. Occlusion
(Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014) needs only something to call, so it
explains ONNX and OpenVINO models too. Both run through Captum; for texts, characters or words are left out of the text itself.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.subject.splits import Encode

if TYPE_CHECKING:
    import torch
    from torch import nn

__all__ = ["Attributions", "TextAttributions", "explain", "explain_texts", "heat_png", "picture_png", "units"]

Call = Callable[[NDArray[Any]], NDArray[Any]]  # inputs (n, *shape) to outputs (n, classes)
Method = Literal["integrated_gradients", "occlusion"]

_STEPS = 64  # points of the path from baseline to input
_AT_ONCE = 64  # inputs that the model is called with
_SIDES = 8  # windows along the shorter side of a picture
_SHOWN = 112  # pixels that the shorter side of a small picture is drawn with, at least
_LETTER = (
    r"[^\W\u2e80-\uffff\U00020000-\U0003ffff]"  # of a script that parts words; Chinese, Japanese and Korean do not
)
_UNIT = re.compile(rf"{_LETTER}+(?:['’]{_LETTER}+)*|\s+|[\s\S]")
_FOR, _AGAINST = (194, 59, 52), (23, 103, 201)  # red and blue


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Attributions:
    """One signed weight for each pixel ``(n, H, W)`` or input value ``(n, ...)``.

    ``delta`` is, for integrated gradients, how far each example's weights are from summing to the output's change.
    """

    method: Method
    values: NDArray[np.float64]
    note: str
    delta: NDArray[np.float64] | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextAttributions:
    """One signed weight for each unit of each text; the units of a text, joined, are the text."""

    units: tuple[tuple[str, ...], ...]
    values: tuple[NDArray[np.float64], ...]
    note: str
    method: Method = "occlusion"


def explain(
    call: Call,
    inputs: NDArray[Any],
    targets: Sequence[int] | NDArray[np.integer],
    *,
    method: Method = "occlusion",
    module: nn.Module | None = None,
    layout: str = "CHW",
    baseline: float = 0.0,
    window: int | None = None,
) -> Attributions:
    """Weights of model-ready `inputs` ``(n, *shape)`` for the classes `targets` ``(n,)``.

    `call` is a runner of any engine; `module` is the PyTorch module that integrated gradients differentiate. `baseline` is
    the value, in the model's own scale, that stands for "nothing there": 0 is the mean where the contract normalises. `layout`
    orders the axes of a picture, whose channels are summed; `window` is the side of the square that occlusion
    covers (default: an eighth of the shorter side; 1 for data that is no picture).

    Raises `InvalidInput` for whole-number inputs, whose in-between values mean nothing, `MissingExtra` without Captum.
    """
    targets = _checked(call, inputs, targets)
    if method == "integrated_gradients":
        raw, delta, note = _integrated(module, inputs, targets, baseline)
    elif method == "occlusion":
        raw, note = _occluded(call, inputs, targets, layout, baseline, window)
        delta = None
    else:
        raise InvalidInput(f"unknown method {method!r}; known: integrated_gradients, occlusion")
    if not np.isfinite(raw).all():
        raise InvalidInput(f"{method} gave NaN or infinity: the model's outputs or gradients are not finite")
    values = raw.sum(axis=1 + layout.index("C")) if _is_picture(inputs, layout) and "C" in layout else raw
    return Attributions(method=method, values=values, note=note, delta=delta)


def _checked(call: Call, inputs: NDArray[Any], targets: Sequence[int] | NDArray[np.integer]) -> NDArray[np.int64]:
    """The targets, after a look at what the model makes of the first input."""
    if not np.issubdtype(inputs.dtype, np.floating):
        raise InvalidInput(
            f"inputs are {inputs.dtype}, and nothing lies between two codes: explain texts with explain_texts, through their encode"
        )
    if not len(inputs) or not np.isfinite(inputs).all():
        raise InvalidInput(
            "there is nothing to explain: no inputs" if not len(inputs) else "inputs hold NaN or infinity"
        )
    return _classes(targets, len(inputs), call(inputs[:1]))


def _classes(targets: Sequence[int] | NDArray[np.integer], count: int, outputs: NDArray[Any]) -> NDArray[np.int64]:
    chosen = np.asarray(targets)
    if chosen.shape != (count,) or chosen.dtype.kind not in "iu":
        raise InvalidInput(f"targets are {chosen.dtype} of shape {chosen.shape}; {count} class indices are needed")
    if outputs.ndim != 2:
        raise InvalidInput(f"the model gives outputs of shape {outputs.shape}; (n, classes) is needed")
    outside = chosen[(chosen < 0) | (chosen >= outputs.shape[1])]
    if len(outside):
        raise InvalidInput(f"target {outside[0]} is outside 0..{outputs.shape[1] - 1}, the model's classes")
    return chosen.astype(np.int64)


def _is_picture(inputs: NDArray[Any], layout: str) -> bool:
    return {"H", "W"} <= set(layout) and inputs.ndim == 1 + len(layout)


# --- integrated gradients --------------------------------------------------------------------------


def _integrated(
    module: nn.Module | None, inputs: NDArray[Any], targets: NDArray[np.int64], baseline: float
) -> tuple[NDArray[np.float64], NDArray[np.float64], str]:
    if module is None:
        raise InvalidInput("integrated gradients need a PyTorch module: give module=..., or use method='occlusion'")
    captum, torch = _captum()
    training = module.training
    module.eval()
    try:
        weights, delta = captum.attr.IntegratedGradients(module).attribute(
            torch.from_numpy(np.ascontiguousarray(inputs)),
            baselines=baseline,
            target=torch.from_numpy(targets),
            n_steps=_STEPS,
            internal_batch_size=max(_AT_ONCE, len(inputs)),
            return_convergence_delta=True,
        )
    finally:
        module.train(training)
    missed = _array(delta)
    note = (
        f"integrated gradients from the input {baseline:g} in {_STEPS} steps; "
        f"the weights miss the output's change by at most {np.abs(missed).max():.2g}"
    )
    return _array(weights), missed, note


def _array(values: torch.Tensor) -> NDArray[np.float64]:
    return np.asarray(values.detach().numpy(), dtype=np.float64)


def _captum() -> tuple[Any, Any]:
    try:
        import captum.attr
        import torch
    except ImportError:
        raise MissingExtra("explain", needed_for="explaining predictions") from None
    return captum, torch


# --- occlusion -------------------------------------------------------------------------------------


def _occluded(
    call: Call, inputs: NDArray[Any], targets: NDArray[np.int64], layout: str, baseline: float, window: int | None
) -> tuple[NDArray[np.float64], str]:
    captum, torch = _captum()
    sides, side = _window(inputs, layout, window)

    def forward(tensor: Any) -> Any:
        outputs = call(np.ascontiguousarray(tensor.numpy(), dtype=inputs.dtype))
        return torch.from_numpy(np.asarray(outputs, dtype=np.float64))

    parts = [
        captum.attr.Occlusion(forward).attribute(
            torch.from_numpy(np.ascontiguousarray(inputs[i : i + 1])),
            sliding_window_shapes=sides,
            strides=tuple(
                n if n == whole else max(1, n // 2) for n, whole in zip(sides, inputs.shape[1:], strict=True)
            ),
            baselines=baseline,
            target=int(targets[i]),
            perturbations_per_eval=_AT_ONCE,
        )
        for i in range(len(inputs))
    ]
    shares = np.concatenate([_array(part) for part in parts])
    channels = sides[layout.index("C")] if _is_picture(inputs, layout) and "C" in layout else 1
    note = f"occlusion with the value {baseline:g} in windows of {side}: the output's loss where they cover"
    return shares / channels, note  # a window covers all channels: summed, they are its loss once


def _window(inputs: NDArray[Any], layout: str, window: int | None) -> tuple[tuple[int, ...], str]:
    """The window's extent along each axis of an example, and in words."""
    shape = inputs.shape[1:]
    if not _is_picture(inputs, layout):
        side = _side(window or 1, min(shape))
        return (side,) * len(shape), f"{side} value(s)"
    shorter = min(shape[layout.index("H")], shape[layout.index("W")])
    side = _side(window or max(1, shorter // _SIDES), shorter)
    extents = tuple(n if axis == "C" else side for axis, n in zip(layout, shape, strict=True))
    return extents, f"{side}x{side} pixels"


def _side(window: int, largest: int) -> int:
    if not 1 <= window <= largest:
        raise InvalidInput(f"the window must be 1 to {largest} wide, got {window}")
    return window


# --- texts -----------------------------------------------------------------------------------------


def units(text: str) -> tuple[str, ...]:
    """What is left out of a text at a time: words of alphabets, single characters of other scripts; all of the text is kept.

    >>> units("GTA开发商, it's")
    ('GTA', '开', '发', '商', ',', ' ', "it's")
    """
    return tuple(_UNIT.findall(text))


def explain_texts(
    encode: Encode, call: Call, texts: Sequence[str], targets: Sequence[int] | NDArray[np.integer], *, dtype: str
) -> TextAttributions:
    """Weights of the words or characters of `texts`: what the output of the target class loses when one is left out.

    `encode` makes the model's inputs, of `dtype`, from texts. White space weighs nothing; of a text of one unit, the unit
    is replaced by a space.
    """
    split = tuple(units(text) for text in texts)
    if not split or not all(split):
        raise InvalidInput("there is nothing to explain: no texts, or an empty one")
    chosen = _classes(targets, len(texts), _outputs(encode, call, texts[:1], dtype))
    values = tuple(
        _losses(encode, call, parts, int(target), dtype) for parts, target in zip(split, chosen, strict=True)
    )
    return TextAttributions(units=split, values=values, note="occlusion: the output's loss when the unit is left out")


def _losses(encode: Encode, call: Call, parts: tuple[str, ...], target: int, dtype: str) -> NDArray[np.float64]:
    places = [i for i, part in enumerate(parts) if not part.isspace()]
    without = ["".join(parts[:i] + parts[i + 1 :]) or " " for i in places]
    outputs = _outputs(encode, call, ["".join(parts), *without], dtype)[:, target]
    if not np.isfinite(outputs).all():
        raise InvalidInput("the model's outputs hold NaN or infinity")
    values = np.zeros(len(parts))
    values[places] = outputs[0] - outputs[1:]
    return values


def _outputs(encode: Encode, call: Call, texts: Sequence[str], dtype: str) -> NDArray[np.float64]:
    parts = (texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE))
    rows = (np.ascontiguousarray(encode(part), dtype=dtype) for part in parts)
    return np.concatenate([np.asarray(call(row), dtype=np.float64) for row in rows])


# --- pictures for the report -----------------------------------------------------------------------


def picture_png(raw: NDArray[Any], layout: str = "CHW") -> bytes:
    """One raw picture as a small PNG. Numbers other than uint8 are stretched from least to greatest."""
    return _png(_colours(raw, layout))


def heat_png(raw: NDArray[Any], attribution: NDArray[np.floating], layout: str = "CHW") -> bytes:
    """The picture in grey under its attribution ``(H, W)``: red speaks for the class, blue against it.

    The colour is full where the weight is the largest of the picture; weights are not comparable between pictures.
    """
    colours = _colours(raw, layout)
    if attribution.shape != colours.shape[:2]:
        raise InvalidInput(f"the attribution has shape {attribution.shape}, the picture {colours.shape[:2]}")
    grey = colours.mean(axis=2, keepdims=True) * 0.5 + 96  # pale enough for colour to show on it
    largest = np.abs(attribution).max()
    strength = (np.abs(attribution) / largest if largest else np.zeros(attribution.shape))[..., None]
    ink = np.where(attribution[..., None] > 0, np.array(_FOR), np.array(_AGAINST))
    return _png(np.rint(grey * (1 - strength) + ink * strength).astype(np.uint8))


def _colours(raw: NDArray[Any], layout: str) -> NDArray[np.uint8]:
    """(H, W, 3), 0-255."""
    if sorted(layout) not in (["C", "H", "W"], ["H", "W"]) or raw.ndim != len(layout):
        raise InvalidInput(f"an example of shape {raw.shape} ({layout}) is no picture")
    upright = raw.transpose([layout.index(axis) for axis in "HWC" if axis in layout])
    upright = upright if "C" in layout else upright[..., None]
    if upright.shape[2] not in (1, 3):
        raise InvalidInput(f"the picture has {upright.shape[2]} channels; grey (1) or colour (3) is needed")
    if upright.dtype != np.uint8:
        values = upright.astype(np.float64)
        width = np.ptp(values)
        upright = np.rint(255 * (values - values.min()) / (width or 1)).astype(np.uint8)
    return np.asarray(np.broadcast_to(upright, (*upright.shape[:2], 3)), dtype=np.uint8)


def _png(pixels: NDArray[np.uint8]) -> bytes:
    """PNG, small pictures enlarged in whole steps so that their pixels stay sharp."""
    try:
        from PIL import Image
    except ImportError:
        raise MissingExtra("explain", needed_for="drawing pictures") from None
    step = -(-_SHOWN // min(pixels.shape[:2]))
    content = io.BytesIO()
    Image.fromarray(pixels.repeat(step, axis=0).repeat(step, axis=1)).save(content, format="PNG", optimize=True)
    return content.getvalue()
