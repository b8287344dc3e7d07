"""Twenty planted situations: each is said before time is spent on it, and nothing is said of models that are well."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from steelyard.diagnose import diagnose
from steelyard.diagnose.condition import conditions, disputed
from steelyard.errors import InvalidInput
from steelyard.measure.health import answering, batch_gap, rank_share
from steelyard.pipeline import baseline as preflight
from steelyard.pipeline.foresee import forewarnings
from steelyard.pipeline.prepare import Prepared
from steelyard.records import (
    Contract,
    Environment,
    Measurement,
    Plan,
    Predictions,
    Run,
    Sample,
    Step,
    SubjectSpec,
)
from steelyard.subject.artifact import Artifact
from steelyard.subject.engines import eager
from steelyard.subject.splits import Split, Splits, overlaps, write_split
from steelyard.verify.requirements import parse_requirement

CONTRACT = Contract(shape=(6,), layout="F", labels=tuple("0123456789"))
HOST = Environment(
    machine="x", cpu="a planted processor", cores=2, memory_bytes=1 << 33, instruction_sets=("avx2", "avx512_vnni"),
    accelerators=(), platform="Linux", python="3.11", packages={}, time="2026-01-01T00:00:00+00:00",
)  # fmt: skip
PLANS = tuple(
    Plan(steps=tuple(Step(name=name) for name in names))
    for names in (
        ("onnx",),
        ("onnx", "quantize_static"),
        ("openvino",),
        ("sparsify", "openvino"),
        ("openvino", "nncf_int8"),
    )
)


def sample(quantity: str, value: float, **conditions: object) -> Sample:
    return Sample(quantity=quantity, unit="", values=np.array([float(value)]), conditions=conditions)


def peaks(int8: float = 700e9) -> tuple[Sample, ...]:
    return (
        sample("gemm_fp32_flops", 200e9), sample("gemm_bf16_flops", 100e9), sample("gemm_int8_flops", int8),
        sample("copy_bandwidth_bytes_per_s", 10e9), sample("dispatch_s", 2e-6),
    )  # fmt: skip


def model(
    latency_s: float = 0.030, macs: float = 1.8e9, moved: float = 60e6, calls: int = 90, operator: str = "convolution",
    *more: Sample, sets: tuple[str, ...] = HOST.instruction_sets, made: Predictions | None = None,
) -> Measurement:  # fmt: skip
    """A baseline, by default one of large convolutions that is well."""
    readings = (
        sample("latency_s", latency_s, batch=1), sample("macs", macs), sample("moved_bytes", moved), sample("operator_calls", calls),
        sample("operator_s", 0.9 * latency_s, operator=f"aten::{operator}"), sample("operator_macs", macs, operator=operator), *more,
    )  # fmt: skip
    host = dataclasses.replace(HOST, instruction_sets=sets)
    return Measurement(subject="x", environment=host, readings=readings, predictions=() if made is None else (made,))


def answers(seed: int = 0, *, n: int = 1500, classes: int = 10, sharp: float = 4.0, cold: float = 1.0) -> Predictions:
    """Of a model that is calibrated by construction: each label is drawn from its own probabilities.

    `cold` above 1 makes it surer than it is right; its ranking stays.
    """
    rng = np.random.default_rng(seed)
    logits = sharp * rng.standard_normal((n, classes))
    shares = np.exp(logits - logits.max(axis=1, keepdims=True))
    shares /= shares.sum(axis=1, keepdims=True)
    labels = (shares.cumsum(axis=1) > rng.random((n, 1))).argmax(axis=1)
    told = shares**cold / (shares**cold).sum(axis=1, keepdims=True)
    return said(labels, told)


def said(labels: np.ndarray, shares: np.ndarray) -> Predictions:
    return Predictions(
        split="validation", labels=labels.astype(np.int32), predicted=shares.argmax(axis=1).astype(np.int32),
        p_true=shares[np.arange(len(labels)), labels].astype(np.float32), classes=shares.shape[1], scores=shares.astype(np.float32),
    )  # fmt: skip


def mislabelled(share: float = 0.12) -> Predictions:
    made = answers(sharp=16.0)
    rng = np.random.default_rng(1)
    labels = made.labels.copy()
    wrong = rng.random(len(labels)) < share
    labels[wrong] = (labels[wrong] + rng.integers(1, 10, wrong.sum())) % 10
    assert made.scores is not None
    return said(labels, made.scores)


def rare() -> Predictions:
    labels = (np.arange(1000) < 25).astype(np.int32)
    p = np.where(labels == 1, 0.7, 0.02)
    return said(labels, np.stack([1 - p, p], axis=1))


def run(*requirements: str, budget_s: float = 600.0) -> Run:
    return Run(
        command="optimize", spec=SubjectSpec(source="m.py"), contract=CONTRACT, budget_s=budget_s, environment=HOST,
        requirements=tuple(parse_requirement(text) for text in requirements),
    )  # fmt: skip


# --- what is said ----------------------------------------------------------------------------------------------


def findings(baseline: Measurement, int8: float = 700e9) -> list[str]:
    return [f"{f.name}: {f.claim}" for f in diagnose(baseline, peaks(int8), PLANS)]


def reasons(baseline: Measurement, int8: float = 700e9) -> list[str]:
    """Why plans are skipped."""
    return [p.because for p in diagnose(baseline, peaks(int8), PLANS)[0].predictions if p.hopeless]


def refusal(call: Callable[[], object]) -> list[str]:
    with pytest.raises(InvalidInput) as caught:
        call()
    return [str(caught.value)]


def foreseen(asked: Run) -> list[str]:
    baseline = model()
    predictions = diagnose(baseline, peaks(), PLANS)[0].predictions
    return [f"{f.name}: {f.claim}" for f in forewarnings(baseline, asked, predictions)]


class TrainingNorm:
    """Batch normalisation that goes on taking its statistics from the batch."""

    fixed_batch = None

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return (inputs - inputs.mean(axis=0)) / (inputs.std(axis=0) + 1e-5)


def overlapping() -> list[str]:
    raw = np.arange(60, dtype=np.float32).reshape(20, 3)
    labels = (np.arange(20) % 2).astype(np.int32)
    part = Split(raw=raw, labels=labels)
    other = Split(raw=np.concatenate([raw[:4], raw[4:10] + 100]), labels=labels[:10])
    splits = Splits.of(part, validation=other, test=Split(raw=raw + 1000, labels=labels), labels=("a", "b"))
    artifact = Artifact(folder=Path(), engine="onnxruntime", file="m.onnx", contract=CONTRACT)
    prepared = Prepared(
        baseline=artifact, inputs=Path(), data=None, sizes={}, method="", overlaps=overlaps(splits), warnings=()
    )
    return list(prepared.cautions)


def chance() -> list[str]:
    made = answers()
    assert made.scores is not None
    guessing = model(made=said(made.labels, np.roll(made.scores, 3, axis=1)))
    return refusal(lambda: preflight._check_sane(guessing, run()))


def in_training_mode() -> list[str]:
    inputs = np.random.default_rng(0).standard_normal((16, 6))
    gap = sample("batch_gap", batch_gap(TrainingNorm(), inputs))
    return refusal(lambda: preflight._check_sane(model(0.03, 1.8e9, 60e6, 90, "convolution", gap), run()))


def random_outputs() -> list[str]:
    other = sample("repeatable", 0.0)
    return refusal(lambda: preflight._check_sane(model(0.03, 1.8e9, 60e6, 90, "convolution", other), run()))


def two_inputs() -> list[str]:
    module = SimpleNamespace(forward=lambda ids, mask, types=None: (ids, mask, types))
    return refusal(lambda: eager._check_inputs(module))


def plain(*more: Sample) -> Measurement:
    return model(0.030, 1.8e9, 60e6, 90, "convolution", *more)


def of_data(calibration: Split, validation: Split) -> list[str]:
    """What is said of splits as a run folder keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        write_split(calibration, Path(folder), "calibration")
        write_split(validation, Path(folder), "validation")
        return findings(plain(*preflight._data_readings(Path(folder), CONTRACT)))


def part(seed: int, *, classes: int = 10, scale: float = 1.0) -> Split:
    """300 examples of six features."""
    rng = np.random.default_rng(seed)
    raw = (scale * (rng.standard_normal((300, 6)) + 1)).astype(np.float32)
    return Split(raw=raw, labels=(np.arange(300) % classes).astype(np.int32))


def low_rank() -> Sample:
    rng = np.random.default_rng(0)
    matrix = rng.standard_normal((128, 20)) @ rng.standard_normal((20, 256))
    return sample("weight_rank_share", rank_share(matrix), layer="fc", weights=matrix.size)


def dead() -> Sample:
    outputs = np.maximum(np.random.default_rng(0).standard_normal((32, 8, 5, 5)), 0)
    outputs[:, :3] = 0
    return sample("dead_units_share", 1 - answering(outputs).mean(), layer="relu1")


SITUATIONS: dict[str, tuple[Callable[[], list[str]], str]] = {
    "memory-bound": (lambda: findings(model(0.012, 25e6, 100e6, 5, "addmm")), "memory-bound: "),
    "already quantised": (lambda: findings(plain(sample("narrow_weights_share", 0.97))), "already-quantised: 97% of the weights are in 8 bits"),
    "tiny net": (
        lambda: findings(
            model(
                60e-6, 3e5, 2e5, 12, "addmm", sample("parameters", 4200), sample("throughput_per_s", 16e3, batch=1),
                sample("throughput_per_s", 240e3, batch=32),
            )
        ),
        "serves 15 times as many",
    ),
    "dispatch-bound": (lambda: findings(model(200e-6, 3e5, 2e5, 60, "addmm")), "dispatch-bound: 60 operators share"),
    "over-parameterised": (lambda: findings(plain(low_rank())), "over-parameterised: 16% of the weights' rank"),
    "no INT8 instructions": (
        lambda: findings(model(sets=("avx2",)), int8=205e9) + reasons(model(sets=("avx2",)), int8=205e9),
        "has no instructions for 8-bit products",
    ),
    "noisy labels": (lambda: findings(model(made=mislabelled())), "noisy-labels: of the quarter of the validation examples"),
    "calibration set of one class": (
        lambda: of_data(part(0, classes=1), part(1)),
        "calibration-classes: the calibration set holds 1 of 10 classes",
    ),
    "validation overlapping training": (overlapping, "4 validation example(s) also stand in train"),
    "baseline at chance": (chance, "always answering the commonest class"),
    "class imbalance": (lambda: findings(model(made=rare())), "imbalance: classes are uneven: class 0 has 97.5%"),
    "miscalibrated": (lambda: findings(model(made=answers(sharp=2.5, cold=3.0))), "miscalibrated: the model is surer of itself"),
    "dead units": (lambda: findings(plain(dead())), "dead-units: channels that give nothing for any example: relu1 (38%)"),
    "BatchNorm in training mode": (in_training_mode, "batch normalisation in training mode does that"),
    "non-deterministic outputs": (random_outputs, "turn off what is random in it"),
    "calibration with another preprocessing": (
        lambda: of_data(part(0, scale=1 / 255), part(1)),
        "other-preprocessing: calibration examples are prepared otherwise",
    ),
    "several inputs": (two_inputs, "the model takes the inputs ids, mask; exactly one is supported"),
    "budget too short": (lambda: foreseen(run("latency <= 0.5x", budget_s=2)), "short budget: building and weighing one candidate takes"),
    "contradicting requirements": (lambda: foreseen(run("latency <= 0.0001x")), "out of reach: latency <= 0.0001x asks for"),
    "sparse weights": (
        lambda: findings(plain(sample("zero_weights_share", 0.8, layer="fc", weights=1000))),
        "sparse-weights: 80% of the weights are zero, which brings no speed",
    ),
}  # fmt: skip


def test_they_are_twenty() -> None:
    assert len(SITUATIONS) == 20


@pytest.mark.parametrize("situation", SITUATIONS)
def test_what_is_planted_is_said(situation: str) -> None:
    look, words = SITUATIONS[situation]
    told = look()
    assert any(words in line for line in told), told
    assert all("\n" not in line for line in told)


# --- and nothing else -------------------------------------------------------------------------------------------

WELL = (
    sample("parameters", 11e6), sample("narrow_weights_share", 0.0), sample("batch_gap", 1e-6), sample("repeatable", 1.0),
    sample("zero_weights_share", 0.001, layer="fc", weights=1000), sample("weight_rank_share", 0.8, layer="fc", weights=1000),
    sample("dead_units_share", 0.05, layer="relu1"), sample("calibration_classes", 10, classes=10, examples=300),
    sample("calibration_shift", 0.02), sample("calibration_spread_ratio", 1.01),
)  # fmt: skip


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("sharp", [1.0, 2.5, 4.0, 8.0, 30.0])
def test_of_a_model_that_is_well_nothing_is_said(classes: int, sharp: float) -> None:
    """However good it is: from near guessing to nearly always right."""
    for seed in range(4):
        baseline = model(0.03, 1.8e9, 60e6, 90, "convolution", *WELL, made=answers(seed, classes=classes, sharp=sharp))
        assert [f.name for f in conditions(baseline, peaks())] == []
        preflight._check_sane(baseline, run())


def test_a_model_surer_than_right_is_not_taken_for_wrong_labels() -> None:
    for seed in range(4):
        for sharp in (2.5, 4.0):
            found = conditions(model(made=answers(seed, sharp=sharp, cold=3.0)))
            assert [f.name for f in found] in ([], ["miscalibrated"])


def test_the_disputed_examples_are_the_wrong_labels() -> None:
    made = mislabelled()
    clean = answers(sharp=16.0)
    planted = set(np.flatnonzero(made.labels != clean.labels).tolist())
    assert sum(i in planted for i in disputed(made)[:50]) >= 48


def test_quantised_models_are_not_quantised_again_and_sparse_ones_gain_nothing() -> None:
    assert any("8 bits already" in reason for reason in reasons(plain(sample("narrow_weights_share", 0.97))))
    assert any(reason.startswith("the engines here multiply zeros") for reason in reasons(plain()))
    assert any("int8 is no faster on this machine" in reason for reason in reasons(plain(), int8=205e9))


def test_data_that_is_well_is_not_spoken_of() -> None:
    assert len(of_data(part(0), part(1))) == 1  # what bounds the model


def test_a_processor_that_is_not_known_is_not_spoken_of() -> None:
    assert [f.name for f in conditions(model(sets=()))] == []
    assert [f.name for f in conditions(model(sets=("neon", "asimddp")))] == []
    assert [f.name for f in conditions(model(sets=("neon",)))] == ["no-int8-instructions"]
