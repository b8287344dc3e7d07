"""INT8 through NNCF: post-training quantisation of an OpenVINO model, with bias correction and SmoothQuant."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal

from numpy.typing import NDArray

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.passes.options import check_words, names_in
from steelyard.passes.quantize_static import narrow_note, saturates
from steelyard.privacy import decline_telemetry
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import load_runner

__all__ = ["PRODUCTS", "NncfInt8", "layers_of"]

PRODUCTS = (
    "Convolution",
    "GroupConvolution",
    "ConvolutionBackpropData",
    "MatMul",
)  # OpenVINO's operators that multiply


@dataclass(frozen=True, slots=True)
class NncfInt8:
    """Weights and activations in INT8, calibrated on training data.

    ``performance`` quantises activations symmetrically, ``mixed`` asymmetrically, which keeps more of the quality
    behind activations other than ReLU. ``bias`` corrects the shift that rounding puts on each layer's mean, quickly or by
    running the model again for each layer. ``transformer`` looks for the patterns of attention and moves outliers of
    activations into the weights (SmoothQuant, Xiao et al. 2023, with the strength ``smooth``, NNCF's own where it is None).
    ``calibrator`` is how ranges are estimated, ``subset`` how many examples are looked at (0: all). ``narrow`` gives the
    weights of the ``first`` layers, of ``all`` or of ``none`` 7 bits, for processors without VNNI or AMX. ``exclude`` names
    layers, with commas between, that stay in fp32.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"openvino"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "int8"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "preset": ("performance", "mixed"),
        "bias": ("fast", "accurate"),
        "transformer": (False, True),
        "calibrator": ("default", "minmax", "quantile"),
        "narrow": ("first", "all"),
    }
    preset: Literal["performance", "mixed"] = "performance"
    bias: Literal["fast", "accurate", "none"] = "fast"
    transformer: bool = False
    smooth: float | None = None
    calibrator: Literal["default", "minmax", "quantile", "histogram"] = "default"
    subset: int = 0
    narrow: Literal["first", "all", "none"] = "first"
    exclude: str = ""

    def __post_init__(self) -> None:
        check_words("nncf_int8", self)
        if self.subset < 0:
            raise InvalidInput(f"nncf_int8: subset must be 0 (all) or a number of examples, got {self.subset}")
        if self.smooth is not None and not (self.transformer and 0 <= self.smooth <= 1):
            raise InvalidInput(f"nncf_int8: smooth goes from 0 to 1 and needs transformer=True, got {self.smooth}")

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the quantised ``model.xml`` and ``model.bin``."""
        artifact = self.write(source, bench.folder, bench.calibration(source.contract))
        return Built(artifact=artifact, outputs=load_runner(artifact)(bench.examples), tolerance=1e-3)

    def write(
        self, source: Artifact, folder: Path, inputs: NDArray[Any], *, only: Sequence[str] | None = None
    ) -> Artifact:
        """The quantised model in `folder`; with `only`, these layers are quantised and no others.

        Raises `CannotApply` where NNCF does not manage the model.
        """
        decline_telemetry()
        try:
            import nncf
            import openvino
        except ImportError:
            raise MissingExtra("openvino", needed_for="quantising with NNCF") from None
        nncf.set_log_level(logging.ERROR)
        model = openvino.Core().read_model(source.path)
        excluded = names_in("nncf_int8", self.exclude, [op.get_friendly_name() for op in model.get_ops()])
        ignored = nncf.IgnoredScope(names=list(excluded)) if only is None else _all_but(only, model, nncf)
        try:
            quantised = nncf.quantize(
                model,
                nncf.Dataset([row[None] for row in inputs]),
                preset=nncf.QuantizationPreset(self.preset),
                subset_size=self.subset or len(inputs),
                fast_bias_correction=self.bias != "accurate",
                model_type=nncf.ModelType.TRANSFORMER if self.transformer else None,
                ignored_scope=ignored,
                advanced_parameters=self._advanced(),
            )
        except Exception as error:  # nncf raises its own kinds, and what OpenVINO raises
            raise CannotApply(f"NNCF does not manage this model: {type(error).__name__}: {error}"[:300]) from error
        openvino.save_model(quantised, folder / "model.xml", compress_to_fp16=False)
        notes = (*source.notes, self._note())
        return dataclasses.replace(source, folder=folder, file="model.xml", notes=notes)

    def _advanced(self) -> Any:
        from nncf import AdvancedQuantizationParameters, OverflowFix
        from nncf.quantization.advanced_parameters import AdvancedSmoothQuantParameters
        from nncf.quantization.range_estimator import RangeEstimatorParametersSet as Estimators

        fixes = {"first": OverflowFix.FIRST_LAYER, "all": OverflowFix.ENABLE, "none": OverflowFix.DISABLE}
        advanced = AdvancedQuantizationParameters(
            overflow_fix=fixes[self.narrow], disable_bias_correction=self.bias == "none"
        )
        estimators = {
            "minmax": Estimators.MINMAX, "quantile": Estimators.MEAN_QUANTILE, "histogram": Estimators.HISTOGRAM,
        }  # fmt: skip
        if self.calibrator != "default":
            advanced.activations_range_estimator_params = estimators[self.calibrator]
        if self.smooth is not None:
            advanced.smooth_quant_alphas = AdvancedSmoothQuantParameters(matmul=self.smooth)
        return advanced

    def _note(self) -> str:
        if self.narrow == "first" and saturates():
            return (
                "INT8 weights of the first layers alone hold 7 bits: sums of the others may overflow on this processor, which"
                " has neither VNNI nor AMX; narrow=all spares them"
            )
        return narrow_note(self.narrow == "all")


def layers_of(model: Any) -> tuple[str, ...]:
    """Names of an `openvino.Model`'s operations that multiply, in the order that they run."""
    return tuple(op.get_friendly_name() for op in model.get_ordered_ops() if op.get_type_name() in PRODUCTS)


def _all_but(only: Sequence[str], model: Any, nncf: Any) -> Any:
    """What NNCF must leave alone, for these layers to be the only ones quantised."""
    kinds = {op.get_type_name() for op in model.get_ops()} - {*PRODUCTS, "Parameter", "Constant", "Result"}
    others = [name for name in layers_of(model) if name not in only]
    return nncf.IgnoredScope(names=others, types=sorted(kinds), validate=False)
