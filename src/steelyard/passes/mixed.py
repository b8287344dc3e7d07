"""Mixed precision: INT8 where a layer bears it, fp32 where measurement says that it does not."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import CannotApply, InvalidInput
from steelyard.metrics.classification import probabilities
from steelyard.passes.bench import Bench, Built
from steelyard.passes.nncf_int8 import NncfInt8
from steelyard.passes.options import check_words
from steelyard.passes.quantize_static import QuantizeStatic
from steelyard.records import Sample, Unavailable
from steelyard.subject.artifact import Artifact
from steelyard.subject.contract import prepare
from steelyard.subject.engines import Runner, load_runner

__all__ = ["Judge", "Mixed", "Quantiser", "give_back", "sensitivities"]

_BATCH = 64
_QUICK = 32  # calibration examples that NNCF looks at for one layer alone
_SHARE = 0.5  # of the time there is, for the sensitivities


@dataclass(frozen=True, slots=True)
class Mixed:
    """Quantise each layer alone, see what that does, and give the worst their precision back until the accuracy holds.

    A layer's sensitivity is the total variation between the probabilities with and without it quantised, half the sum of
    their absolute differences, on each of ``sample`` validation examples. Then all layers are quantised, and those of the
    highest mean sensitivity return to fp32 one after the other, until the accuracy on the sample falls by no more than
    ``drop``, one standard error included. ONNX models go by ONNX Runtime's quantiser (``per_channel``), OpenVINO's by NNCF.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime", "openvino"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "int8"
    drop: float = 0.005
    sample: int = 512
    per_channel: bool = True
    preset: Literal["performance", "mixed"] = "performance"

    def __post_init__(self) -> None:
        check_words("mixed", self)
        if not 0 <= self.drop < 1 or self.sample < 2:
            raise InvalidInput(
                f"mixed: drop must be a share from 0 to 1 and sample 2 or more, got {self.drop} and {self.sample}"
            )

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the model with its guilty layers in fp32; the artifact's notes name them, its readings hold the table."""
        inputs, judge = bench.calibration(source.contract), Judge.of(source, bench, self.sample)
        until = None if bench.seconds is None else time.monotonic() + _SHARE * bench.seconds
        with tempfile.TemporaryDirectory(prefix="steelyard-") as scratch:
            quantiser = self._quantiser(source, inputs, Path(scratch))
            table = sensitivities(quantiser, judge, until)
            order = ranked(table)
            kept = give_back(quantiser, judge, order, self.drop)
            artifact = quantiser.without(kept, bench.folder)
        artifact = dataclasses.replace(artifact, notes=(*artifact.notes, _note(kept, table)))
        outputs = load_runner(artifact)(bench.examples)
        readings = tuple(_with_fate(row, kept) for row in table)
        return Built(artifact=artifact, outputs=outputs, tolerance=1e-3, readings=readings)

    def _quantiser(self, source: Artifact, inputs: NDArray[Any], scratch: Path) -> Quantiser:
        if source.engine == "openvino":
            return _Nncf(source, inputs, scratch, NncfInt8(preset=self.preset))
        return _Static(source, inputs, scratch, QuantizeStatic(per_channel=self.per_channel))


# --- what a layer costs ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Judge:
    """A sample of the validation split, and what the model in full precision says to it.

    ``inputs`` ``(n, ...)``, ``labels`` ``(n,)``, ``before`` ``(n, classes)`` are probabilities.
    """

    inputs: NDArray[Any]
    labels: NDArray[np.int32]
    before: NDArray[np.float64]
    outputs: Literal["logits", "probabilities"] = "logits"

    @classmethod
    def of(cls, source: Artifact, bench: Bench, sample: int) -> Judge:
        """Of the first examples of the validation split. Raises `CannotApply` where there is none."""
        split = bench.validation()
        if split is None:
            raise CannotApply("what a layer bears is measured on validation data, and the subject has none")
        contract, some = source.contract, split.take(np.arange(min(sample, len(split))))
        inputs = prepare(contract, np.asarray(some.raw[np.arange(len(some))]))
        before = probabilities(_answers(load_runner(source), inputs), contract.outputs)
        return cls(inputs=inputs, labels=some.labels, before=before, outputs=contract.outputs)

    def shift(self, runner: Runner) -> NDArray[np.float64]:
        """Total variation between the probabilities of each example and those in full precision, 0 to 1, ``(n,)``."""
        return np.asarray(0.5 * np.abs(self._after(runner) - self.before).sum(axis=1))

    def lost(self, runner: Runner) -> float:
        """Drop of the accuracy, paired, with one standard error added: ``(b - c) / n`` of McNemar's table.

        Its variance is ``(b + c - (b - c)^2 / n) / n^2`` (Fleiss, Levin and Paik 2003, section 13.1).
        """
        right, was_right = (s.argmax(axis=1) == self.labels for s in (self._after(runner), self.before))
        n, b, c = len(self.labels), int((was_right & ~right).sum()), int((right & ~was_right).sum())
        return (b - c) / n + float(np.sqrt(max(0.0, b + c - (b - c) ** 2 / n))) / n

    def _after(self, runner: Runner) -> NDArray[np.float64]:
        return probabilities(_answers(runner, self.inputs), self.outputs)


class Quantiser(Protocol):
    """A way to quantise a model in part."""

    layers: tuple[str, ...]

    def only(self, layer: str) -> Runner:
        """The model with this layer quantised and no other."""
        ...

    def without(self, layers: Sequence[str], folder: Path | None = None) -> Artifact:
        """The model with all quantised but these; in `folder`, or to be looked at only."""
        ...


def sensitivities(quantiser: Quantiser, judge: Judge, until: float | None = None) -> list[Sample | Unavailable]:
    """The ``sensitivity`` of each layer, a `Sample` over the examples; `Unavailable` where time or quantiser gave none.

    ``until`` is a moment of `time.monotonic`.
    """
    return [_sensitivity(quantiser, judge, layer, until) for layer in quantiser.layers]


def _sensitivity(quantiser: Quantiser, judge: Judge, layer: str, until: float | None) -> Sample | Unavailable:
    conditions = {"layer": layer}
    if until is not None and time.monotonic() > until:
        reason = "the time for building ended before its turn"
        return Unavailable(quantity="sensitivity", reason=reason, conditions=conditions)
    try:
        shift = judge.shift(quantiser.only(layer))
    except CannotApply as error:
        return Unavailable(quantity="sensitivity", reason=str(error), conditions=conditions)
    return Sample(quantity="sensitivity", unit="fraction", values=shift, conditions=conditions)


def ranked(table: Sequence[Sample | Unavailable]) -> list[str]:
    """Layers by their mean sensitivity, the highest first; what was not measured comes last."""
    means = {row.conditions["layer"]: float(row.values.mean()) for row in table if isinstance(row, Sample)}
    return sorted((str(row.conditions["layer"]) for row in table), key=lambda layer: -means.get(layer, -1.0))


def give_back(quantiser: Quantiser, judge: Judge, order: Sequence[str], drop: float) -> tuple[str, ...]:
    """The layers to leave in fp32, of `order` the fewest tried for which the accuracy falls by no more than `drop`.

    Raises `CannotApply` where it falls by more however many are given back.
    """
    lost = float("nan")
    for count in _counts(len(order)):
        lost = judge.lost(load_runner(quantiser.without(order[:count])))
        if lost <= drop:
            return tuple(order[:count])
    raise CannotApply(
        f"no layer can be quantised within a drop of {drop:.2%}: with {order[-1]} alone in INT8 it is {lost:.2%},"
        " one standard error included"
    )


def _counts(layers: int) -> Iterator[int]:
    """How many layers to give back: 0, 1, 2, 3, and then half as many more each time; one stays quantised.

    >>> list(_counts(12))
    [0, 1, 2, 3, 4, 6, 9, 11]
    """
    count = 0
    while count < layers - 1:
        yield count
        count = max(count + 1, count * 3 // 2)
    yield max(0, layers - 1)


def _note(kept: Sequence[str], table: Sequence[Sample | Unavailable]) -> str:
    if not kept:
        return f"all {len(table)} layers are in INT8: none had to be given its precision back"
    means = {row.conditions["layer"]: float(row.values.mean()) for row in table if isinstance(row, Sample)}
    named = ", ".join(f"{layer} ({means[layer]:.2g})" if layer in means else layer for layer in kept)
    return f"{len(kept)} of {len(table)} layers stay in fp32, by their sensitivity: {named}"


def _with_fate(row: Sample | Unavailable, kept: Sequence[str]) -> Sample | Unavailable:
    """The row, saying so if its layer was given its precision back."""
    if isinstance(row, Unavailable) or row.conditions["layer"] not in kept:
        return row
    return dataclasses.replace(row, note="stays in fp32")


def _answers(runner: Runner, inputs: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([runner(inputs[start : start + _BATCH]) for start in range(0, len(inputs), _BATCH)])


# --- engines -----------------------------------------------------------------------------------------


class _Static:
    """ONNX Runtime's quantiser; ranges are found once."""

    def __init__(self, source: Artifact, inputs: NDArray[Any], scratch: Path, technique: QuantizeStatic) -> None:
        import onnx

        from steelyard.passes.onnx_graph import layers_of, prepared

        self._source, self._inputs, self._scratch, self._technique = source, inputs, scratch, technique
        self._graph = prepared(source.path, scratch)
        self.layers = layers_of(onnx.load(self._graph, load_external_data=False))
        _check_layers(self.layers)

    def only(self, layer: str) -> Runner:
        return load_runner(self._write(self._technique, self._scratch, (layer,)))

    def without(self, layers: Sequence[str], folder: Path | None = None) -> Artifact:
        technique = dataclasses.replace(self._technique, exclude=",".join(layers))
        return self._write(technique, folder or self._scratch, ())

    def _write(self, technique: QuantizeStatic, folder: Path, only: Sequence[str]) -> Artifact:
        ranges = self._scratch / "ranges.json"
        return technique.write(self._source, self._graph, folder, self._inputs, only=only, ranges=ranges)


class _Nncf:
    """NNCF on OpenVINO's graph; a layer alone is calibrated on a few examples."""

    def __init__(self, source: Artifact, inputs: NDArray[Any], scratch: Path, technique: NncfInt8) -> None:
        from steelyard.passes.nncf_int8 import layers_of
        from steelyard.subject.engines.openvino import open_model

        self._source, self._inputs, self._scratch, self._technique = source, inputs, scratch, technique
        self.layers = layers_of(open_model(source.path))
        _check_layers(self.layers)

    def only(self, layer: str) -> Runner:
        return load_runner(self._technique.write(self._source, self._aside(), self._inputs[:_QUICK], only=(layer,)))

    def without(self, layers: Sequence[str], folder: Path | None = None) -> Artifact:
        technique = dataclasses.replace(self._technique, exclude=",".join(layers))
        return technique.write(self._source, folder or self._aside(), self._inputs)

    def _aside(self) -> Path:
        """A folder of its own for each model: OpenVINO maps the weights of those that are still loaded."""
        return Path(tempfile.mkdtemp(dir=self._scratch))


def _check_layers(layers: Sequence[str]) -> None:
    if not layers:
        raise CannotApply("mixed precision divides convolutions and matrix products, and this model has none")
