"""Quantisation-aware training: the model learns with the rounding that INT8 will do to it."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import CannotApply
from steelyard.passes.bench import Bench, Built, check_recovery
from steelyard.passes.onnx import Onnx
from steelyard.passes.openvino import OpenVino
from steelyard.passes.options import check_words
from steelyard.passes.quantize_static import narrow_note, narrows
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

if TYPE_CHECKING:
    from torch import nn

    from steelyard.passes.fakequant import FakeQuantised

__all__ = ["Qat"]

_APART = 0.1  # root mean square, as a share of the outputs' deviation, that an engine's own rounding may add


@dataclass(frozen=True, slots=True)
class Qat:
    """INT8 weights and activations, trained under their rounding (Jacob et al. 2018) with learned steps.

    NNCF says where to round and with which steps to begin, as for ``nncf_int8``; then weights and steps learn from the
    labels and, by the share ``distil``, from the baseline's answers. ``to`` is the engine that runs the result: OpenVINO,
    or ONNX Runtime with QuantizeLinear and DequantizeLinear around each layer. Where 8-bit products would overflow, on x86
    without VNNI or AMX, weights keep to 7 bits: ``narrow`` decides, ``auto`` by this machine.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "openvino"  # in the space of plans, which leaves `to` alone
    kind: ClassVar[str] = "int8"
    trains: ClassVar[bool] = True
    to: Literal["openvino", "onnxruntime"] = "openvino"
    preset: Literal["performance", "mixed"] = "performance"
    narrow: Literal["auto", "on", "off"] = "auto"
    epochs: float = 3
    lr: float = 2e-4
    distil: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for options that cannot be followed."""
        check_recovery("qat", self.epochs, self.lr, self.distil)
        check_words("qat", self)

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the trained INT8 model."""
        import torch

        from steelyard.passes.fakequant import folded, rounded
        from steelyard.passes.modules import outputs_of
        from steelyard.passes.recover import Recovery, recover
        from steelyard.passes.trainable import trainable

        module, shape = trainable(source)
        if shape.sparse:
            raise CannotApply("rounding is learned on all weights, and this would fill the zeros that sparsify made")
        if self.epochs > 0:
            bench.training()
        folded(module, torch.from_numpy(bench.examples[:2].copy()))
        held = rounded(
            module, bench.calibration(source.contract), preset=self.preset, transformer=_attends(module),
            narrow_weights=narrows(self.narrow),
        )  # fmt: skip
        how = Recovery(epochs=self.epochs, lr=self.lr, distil=self.distil, seed=self.seed, exact=True)
        recover(held, shape, source.contract, bench, how)
        held.settle()
        artifact = _converted(held, self.to, source, bench)
        artifact = dataclasses.replace(artifact, notes=(*source.notes, narrow_note(narrows(self.narrow))))
        return _checked(artifact, outputs_of(held, bench.examples), bench)


def _attends(module: nn.Module) -> bool:
    from torch import nn

    return any(isinstance(m, nn.MultiheadAttention) or hasattr(m, "num_heads") for m in module.modules())


def _converted(held: FakeQuantised, to: str, source: Artifact, bench: Bench) -> Artifact:
    """The model for its engine, by way of a program that has the rounding in it."""
    from steelyard.passes.modules import save_module

    folder = bench.folder / "program"
    folder.mkdir()
    beside = dataclasses.replace(bench, folder=folder)
    program = save_module(held.plain(bench.examples), source, beside, tolerance=1e-3).artifact
    built = (OpenVino() if to == "openvino" else Onnx()).apply(program, bench)
    shutil.rmtree(folder)
    return built.artifact


def _checked(artifact: Artifact, trained: NDArray[Any], bench: Bench) -> Built:
    """What the engine makes of it must be what was trained, but for rounding that falls the other way."""
    outputs = load_runner(artifact)(bench.examples)
    apart = float(np.sqrt(np.square(outputs - trained).mean()) / max(float(trained.std()), 1e-12))
    if not apart <= _APART:
        raise CannotApply(
            f"{artifact.engine} rounds this model otherwise than it was trained: "
            f"outputs are {apart:.0%} of their deviation apart; another engine may not, see the option to"
        )
    return Built(artifact=artifact, outputs=outputs, tolerance=1e-3)
