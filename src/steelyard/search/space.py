"""The plans worth naming for a model in a given form."""

from __future__ import annotations

from steelyard.records import Plan, Step

__all__ = ["plans_for"]

_CHANNELS_LAST, _BF16, _COMPILE = Step(name="channels_last"), Step(name="bf16"), Step(name="compile")
_ONNX, _STATIC, _DYNAMIC = Step(name="onnx"), Step(name="quantize_static"), Step(name="quantize_dynamic")
_OPENVINO = Step(name="openvino")
_OPENVINO_BF16 = Step(name="openvino", options=(("precision", "bf16"),))
_NNCF = Step(name="nncf_int8")
_NNCF_MIXED = Step(name="nncf_int8", options=(("preset", "mixed"),))

_FROM_TORCH = (
    (_CHANNELS_LAST,),
    (_BF16,),
    (_COMPILE,),
    (_CHANNELS_LAST, _COMPILE),
    (_BF16, _COMPILE),
)
_FEWER, _FEW = (Step(name="prune", options=(("macs", share),)) for share in (0.5, 0.25))
_FACTORISE, _SPARSIFY = Step(name="factorise"), Step(name="sparsify")
_FROM_ONNX = ((_STATIC,), (_DYNAMIC,))
_STATIC_PER_TENSOR = Step(
    name="quantize_static", options=(("per_channel", False),)
)  # for graphs that per-channel refuses
_ANY = ((_OPENVINO,), (_OPENVINO_BF16,), (_OPENVINO, _NNCF), (_OPENVINO, _NNCF_MIXED))
_TRAINED = (
    *((pruned, *chain) for pruned in (_FEWER, _FEW) for chain in ((_ONNX, _STATIC), (_OPENVINO,), (_OPENVINO, _NNCF))),
    (_FACTORISE, _OPENVINO, _NNCF),
    (_SPARSIFY, _OPENVINO),
)


def plans_for(engine: str) -> tuple[Plan, ...]:
    """Every plan that can start from a baseline in this form: ``eager``, ``torch``, ``onnxruntime`` or ``openvino``.

    >>> [str(p) for p in plans_for("onnxruntime")][:3]
    ['quantize_static', 'quantize_dynamic', 'openvino']
    """
    chains: tuple[tuple[Step, ...], ...] = _ANY
    if engine == "onnxruntime":
        chains = _FROM_ONNX + _ANY + ((_STATIC_PER_TENSOR,),)
    elif engine in ("eager", "torch"):
        exported = ((_ONNX,), *((_ONNX, *chain) for chain in _FROM_ONNX))
        chains = exported + _ANY + _FROM_TORCH
    if engine == "eager":  # what trains starts from the user's own code
        chains += _TRAINED
    return tuple(Plan(steps=chain) for chain in chains)
