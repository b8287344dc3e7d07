"""INT8 with ranges fixed beforehand from training data (ONNX Runtime, QDQ form)."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from numpy.typing import NDArray

from steelyard.errors import CannotApply, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.probe.host import environment
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["QuantizeStatic"]


@dataclass(frozen=True, slots=True)
class QuantizeStatic:
    """Weights (symmetric, per channel) and activations (8 bits, min-max) quantised from calibration data.

    On processors without VNNI or AMX, 8-bit products saturate in 16 bits; weights then get 7 bits, as ONNX Runtime
    advises.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "int8"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"per_channel": (True, False)}
    per_channel: bool = True

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the quantised ``model.onnx``."""
        try:
            from onnxruntime import quantization as quant
            from onnxruntime.quantization.shape_inference import quant_pre_process
        except ImportError:
            raise MissingExtra("onnx", needed_for="ONNX Runtime quantisation") from None
        inputs = bench.calibration(source.contract)
        logging.getLogger().setLevel(logging.ERROR)
        prepared, target = bench.folder / "prepared.onnx", bench.folder / "model.onnx"
        quant_pre_process(str(source.path), str(prepared), skip_symbolic_shape=True)
        try:
            quant.quantize_static(
                str(prepared),
                str(target),
                _reader(quant.CalibrationDataReader, _input_name(source), inputs),
                quant_format=quant.QuantFormat.QDQ,
                per_channel=self.per_channel,
                reduce_range=saturates(),
                activation_type=quant.QuantType.QUInt8,
                weight_type=quant.QuantType.QInt8,
            )
        except (ValueError, NotImplementedError) as error:  # onnxruntime 1.31 trips over some biases, per channel
            raise CannotApply(f"ONNX Runtime's quantiser does not manage this graph: {error}") from error
        prepared.unlink()
        artifact = dataclasses.replace(source, folder=bench.folder, file=target.name, options={})
        return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-3)


def saturates() -> bool:
    """Whether 8-bit multiply-adds of this processor overflow 16 bits: x86 without VNNI or AMX."""
    sets = environment().instruction_sets
    return "avx2" in sets and not {"avx512_vnni", "avx_vnni", "amx_int8"} & set(sets)


def _input_name(source: Artifact) -> str:
    from steelyard.subject.engines.onnxruntime import open_session

    name: str = open_session(source.path).get_inputs()[0].name
    return name


def _reader(base: type[Any], name: str, inputs: NDArray[Any]) -> Any:
    """ONNX Runtime wants an object that gives one feed a call and None at the end. One example each: any batch axis fits."""
    feeds: Iterator[dict[str, NDArray[Any]]] = ({name: row[None]} for row in inputs)

    class Reader(base):  # type: ignore[misc]
        def get_next(self) -> dict[str, NDArray[Any]] | None:
            return next(feeds, None)

    return Reader()
