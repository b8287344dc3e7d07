"""INT8 with ranges fixed beforehand from training data (ONNX Runtime)."""

from __future__ import annotations

import contextlib
import dataclasses
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.passes.options import check_words, names_in
from steelyard.probe.host import environment
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["QuantizeStatic", "narrow_note", "narrows", "saturates"]

STRIDE = 16  # examples whose activations a histogram holds at a time


@dataclass(frozen=True, slots=True)
class QuantizeStatic:
    """Weights (symmetric) and activations in 8 bits, their ranges taken from calibration data.

    ``calibrator`` takes a range as the extremes seen, as the ``percentile`` of the magnitudes, or as the one that loses least
    information (entropy). ``symmetric`` puts zero in the middle of an activation's range. ``operators`` says whether all that
    can be quantised is, or convolutions and matrix products alone. On processors without VNNI or AMX, 8-bit products
    saturate in 16 bits; weights then get 7 bits, as ONNX Runtime advises: ``narrow`` decides, ``auto`` by this machine.
    ``exclude`` names layers, with commas between, that stay in fp32.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "int8"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "per_channel": (True, False),
        "calibrator": ("minmax", "percentile", "entropy"),
        "symmetric": (False, True),
        "operators": ("all", "products"),
    }
    per_channel: bool = True
    calibrator: Literal["minmax", "percentile", "entropy"] = "minmax"
    percentile: float = 99.99
    symmetric: bool = False
    activations: Literal["uint8", "int8"] = "uint8"
    operators: Literal["all", "products"] = "all"
    form: Literal["qdq", "qoperator"] = "qdq"
    narrow: Literal["auto", "on", "off"] = "auto"
    exclude: str = ""

    def __post_init__(self) -> None:
        check_words("quantize_static", self)
        if not 50 < self.percentile <= 100:
            raise InvalidInput(f"quantize_static: percentile must lie above 50 and up to 100, got {self.percentile}")

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the quantised ``model.onnx``."""
        inputs = bench.calibration(source.contract)
        graph = _prepared(source, bench.folder)
        artifact = self.write(source, graph, bench.folder, inputs)
        graph.unlink()
        return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-3)

    def write(
        self,
        source: Artifact,
        graph: Path,
        folder: Path,
        inputs: NDArray[Any],
        *,
        only: Sequence[str] = (),
        ranges: Path | None = None,
    ) -> Artifact:
        """The quantised model of a graph that `prepared` made, in `folder`.

        With `only`, these layers are quantised and no others; `ranges` is a file that keeps the ranges found, so that they
        are found once. Raises `CannotApply` where ONNX Runtime does not manage the graph.
        """
        import onnx
        from onnxruntime import quantization as quant

        from steelyard.passes.onnx_graph import PRODUCTS, layers_of, reader

        known = onnx.load(graph, load_external_data=False)
        names = [node.name for node in known.graph.node]
        target = folder / "model.onnx"
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # the calibrators tell what they do
                quant.quantize_static(
                    str(graph),
                    str(target),
                    reader(quant.CalibrationDataReader, known.graph.input[0].name, self._calibrating(inputs)),
                    quant_format=quant.QuantFormat.QDQ if self.form == "qdq" else quant.QuantFormat.QOperator,
                    op_types_to_quantize=list(PRODUCTS) if self.operators == "products" else None,
                    per_channel=self.per_channel,
                    reduce_range=narrows(self.narrow),
                    activation_type=quant.QuantType.QUInt8 if self.activations == "uint8" else quant.QuantType.QInt8,
                    weight_type=quant.QuantType.QInt8,
                    nodes_to_quantize=list(only),
                    nodes_to_exclude=list(names_in("quantize_static", self.exclude, names)),
                    calibrate_method=_methods(quant.CalibrationMethod)[self.calibrator],
                    extra_options=self._extra(),
                    calibration_cache_path=ranges,
                )
        except _UNMANAGED as error:
            reason = f"{type(error).__name__}: {error}"[:250]
            raise CannotApply(f"ONNX Runtime's quantiser does not manage this graph: {reason}") from error
        _check_quantised(target, layers_of(known))
        notes = (*source.notes, narrow_note(narrows(self.narrow)))
        return dataclasses.replace(source, folder=folder, file=target.name, notes=notes)

    def _calibrating(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Histograms are taken in strides, so that not all activations are held at once; what is over is left out."""
        if self.calibrator == "minmax" or len(inputs) < STRIDE:
            return inputs
        return inputs[: len(inputs) // STRIDE * STRIDE]

    def _extra(self) -> dict[str, Any]:
        extra: dict[str, Any] = {"ActivationSymmetric": self.symmetric, "CalibTensorRangeSymmetric": self.symmetric}
        if self.calibrator == "percentile":
            extra["CalibPercentile"] = self.percentile
        if self.calibrator != "minmax":
            extra["CalibStridedMinMax"] = STRIDE
        return extra


# onnxruntime 1.31 trips over some biases by channel, over activations that are all zero, and over shapes left open
_UNMANAGED = (ValueError, NotImplementedError, KeyError, IndexError, TypeError, AssertionError, RuntimeError)


def saturates() -> bool:
    """Whether 8-bit multiply-adds of this processor overflow 16 bits: x86 without VNNI or AMX."""
    sets = environment().instruction_sets
    return "avx2" in sets and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(sets)


def narrows(word: str) -> bool:
    """Whether weights get 7 bits of their 8: ``on``, ``off``, or ``auto`` for what this processor needs."""
    return saturates() if word == "auto" else word == "on"


def narrow_note(narrow: bool) -> str:
    """What the range of the weights means elsewhere, for people."""
    if narrow:
        return "INT8 weights hold 7 bits, so that sums do not overflow on x86 processors without VNNI or AMX"
    return "INT8 weights hold 8 bits: sums may overflow on x86 processors without VNNI or AMX; build with narrow=on for those"


def _prepared(source: Artifact, folder: Path) -> Path:
    try:
        import onnxruntime.quantization  # noqa: F401

        from steelyard.passes.onnx_graph import prepared
    except ImportError:
        raise MissingExtra("onnx", needed_for="ONNX Runtime quantisation") from None
    return prepared(source.path, folder)


def _methods(methods: Any) -> dict[str, Any]:
    return {"minmax": methods.MinMax, "percentile": methods.Percentile, "entropy": methods.Entropy}


def _check_quantised(path: Path, layers: Sequence[str]) -> None:
    """Raise `CannotApply` where the quantiser passed over everything, and say which layers it passed over."""
    import onnx

    kinds = {node.op_type for node in onnx.load(path, load_external_data=False).graph.node}
    if not any(kind.startswith(("Quantize", "QLinear")) for kind in kinds):
        named = ", ".join(layers[:5]) or "it has none that multiply"
        raise CannotApply(f"ONNX Runtime's quantiser left every layer as it was ({named})")
