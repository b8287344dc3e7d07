"""OpenVINO: Intel's engine, with its own graph compiler."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.passes.options import check_words
from steelyard.probe.engines import openvino_device
from steelyard.records import Scalar, Unavailable
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["OpenVino"]


@dataclass(frozen=True, slots=True)
class OpenVino:
    """Convert to OpenVINO IR, computing in ``f32``, ``bf16`` or ``f16``; weights are stored in float32 either way.

    The rest goes to the engine wherever the model is loaded: the performance ``hint``, how many ``streams`` work beside one
    another and how many ``threads`` they share (0: as the engine thinks best), and the ``device``: CPU, GPU, NPU or AUTO.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch", "onnxruntime", "openvino"})
    gives: ClassVar[str] = "openvino"
    kind: ClassVar[str] = "engine"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"precision": ("f32", "bf16")}
    precision: Literal["f32", "bf16", "f16"] = "f32"
    hint: Literal["latency", "throughput"] = "latency"
    streams: int = 0
    threads: int = 0
    device: str = "CPU"

    def __post_init__(self) -> None:
        check_words("openvino", self)
        if self.streams < 0 or self.threads < 0:
            raise InvalidInput(
                f"openvino: streams and threads must be 0 (automatic) or more, got {self.streams} and {self.threads}"
            )

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write ``model.xml`` and ``model.bin``. Raises `CannotApply` where the device is not there."""
        try:
            import openvino
        except ImportError:
            raise MissingExtra("openvino", needed_for="converting to OpenVINO") from None
        found = openvino_device(self.device)
        if isinstance(found, Unavailable):
            raise CannotApply(found.reason)
        model = _convert(source, bench)
        openvino.save_model(model, bench.folder / "model.xml", compress_to_fp16=False)
        artifact = dataclasses.replace(
            source,
            folder=bench.folder,
            engine="openvino",
            file="model.xml",
            options=self._options(),
            spec=None,
        )
        exact = self.precision == "f32" and self.device == "CPU"
        reference = load_runner(source if exact else artifact)
        return Built(artifact=artifact, outputs=reference(bench.examples), tolerance=1e-3 if exact else 5e-2)

    def _options(self) -> dict[str, Scalar]:
        """For the engine; what is as the engine has it anyway is left out."""
        said = {"hint": self.hint, "streams": self.streams, "threads": self.threads, "device": self.device}
        usual = {"hint": "latency", "streams": 0, "threads": 0, "device": "CPU"}
        return {"precision": self.precision, **{name: v for name, v in said.items() if v != usual[name]}}


def _convert(source: Artifact, bench: Bench) -> Any:
    import openvino

    if source.engine in ("onnxruntime", "openvino"):
        return openvino.Core().read_model(source.path)
    from steelyard.passes.modules import export_program, module_of, where_used

    program = export_program(module_of(source), bench.examples)
    try:
        model = openvino.convert_model(program)
        model.reshape([-1, *source.contract.shape])  # the converter opens every axis; only the batch is open
    except (openvino.frontend.OpConversionFailure, RuntimeError) as error:
        reason = str(error).splitlines()[-1][:250] + where_used(program, str(error))
        raise CannotApply(f"OpenVINO cannot convert this model: {reason}") from error
    return model
