"""Every reading of an artifact, against numbers worked out by hand, and every way an artifact is found wanting."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, log_loss

import tiny_models
from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.measure.energy import Sustained
from steelyard.measure.process import Limits
from steelyard.measure.weigh import WeighSettings, _profiled_runs, predict_split, predictions, weigh
from steelyard.records import Contract, Measurement, Sample, Unavailable
from steelyard.subject.artifact import Artifact, read_artifact


@pytest.mark.parametrize(("call_s", "runs"), [(0.01, 20), (0.5, 4), (9.0, 1)])
def test_a_slow_model_is_profiled_for_no_longer_than_it_is_timed(call_s: float, runs: int) -> None:
    run = Sustained(times=np.full(5, call_s), cpu_s=1.0, peak_bytes=1)
    assert _profiled_runs(WeighSettings(latency_s=2.0, operator_runs=20), run) == runs


QUICK = WeighSettings(warm_s=0.02, latency_s=0.05, sweep=(1, 4), sweep_s=0.01, operator_runs=3, count=True)
LIMITS = Limits(seconds=120)

UNITS = {
    "load_s": "s",
    "first_prediction_s": "s",
    "memory_before_load_bytes": "byte",
    "memory_loaded_bytes": "byte",
    "memory_running_bytes": "byte",
    "latency_s": "s",
    "warmup_calls": "count",
    "energy_j": "J",
    "operator_s": "s",
    "operator_calls": "count",
    "parameters": "count",
    "parameters_nonzero": "count",
    "macs": "MAC",
    "macs_coverage": "fraction",
    "repeatable": "fraction",
    "throughput_per_s": "1/s",
    "stored_bytes": "byte",
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_inputs(tmp_path_factory.mktemp("inputs") / "inputs.npy")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_data(tmp_path_factory.mktemp("data"), ("validation",))


@pytest.fixture(scope="module", params=["onnx", "eager"])
def artifact(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp(request.param) / "model"
    make = tiny_models.onnx_artifact if request.param == "onnx" else tiny_models.eager_artifact
    return make(folder)


@pytest.fixture(scope="module")
def measured(artifact: Artifact, inputs: Path, data: Path) -> Measurement:
    steps: list[str] = []
    settings = WeighSettings(
        warm_s=0.02, latency_s=0.05, sweep=(1, 4), sweep_s=0.01, operator_runs=3, count=True, split="validation"
    )
    found = weigh(artifact, inputs, settings, data=data, limits=LIMITS, on_step=steps.append)
    assert steps == ["loading", "timing", "counting", "throughput", "quality on validation"]
    return found


def _value(measured: Measurement, quantity: str, **conditions: float) -> float:
    reading = measured.get(quantity, **conditions)
    assert isinstance(reading, Sample), reading
    return reading.value


@pytest.mark.parametrize(("quantity", "unit"), UNITS.items())
def test_every_reading_is_there_with_its_unit(measured: Measurement, quantity: str, unit: str) -> None:
    found = [r for r in measured.readings if r.quantity == quantity]
    assert found
    for reading in found:
        if isinstance(reading, Unavailable):  # sensors that this machine lacks, said with the reason
            assert quantity in ("energy_j", "memory_running_bytes")
            assert reading.reason
            continue
        assert reading.unit == unit
        assert len(reading.values)
        assert np.isfinite(reading.values).all()
        assert (reading.values >= 0).all()


def test_memory_grows_by_loading_and_running(measured: Measurement) -> None:
    before, loaded = (_value(measured, f"memory_{name}_bytes") for name in ("before_load", "loaded"))
    assert 1e6 < before <= loaded
    assert loaded <= _value(measured, "memory_running_bytes") * 1.02  # the kernel counts pages in batches


def test_counts_are_those_made_by_hand(measured: Measurement) -> None:
    assert _value(measured, "parameters") == tiny_models.PARAMETERS
    assert _value(measured, "macs") == tiny_models.MACS
    assert 0 < _value(measured, "macs_coverage") <= 1


def test_stored_bytes_are_those_of_the_models_files(measured: Measurement, artifact: Artifact) -> None:
    assert _value(measured, "stored_bytes") == artifact.path.stat().st_size


def test_stored_bytes_leave_out_what_is_kept_beside_the_model(tmp_path: Path, inputs: Path) -> None:
    artifact = _with_parity(tmp_path / "model", lambda outputs: outputs)
    (artifact.folder / "README.md").write_text("how to call it")
    assert _value(weigh(artifact, inputs, QUICK, limits=LIMITS), "stored_bytes") == artifact.path.stat().st_size


def test_throughput_is_examples_per_second_at_every_batch(measured: Measurement) -> None:
    assert [dict(s.conditions) for s in measured.all("throughput_per_s")] == [{"batch": 1}, {"batch": 4}]
    assert all((s.values > 0).all() for s in measured.all("throughput_per_s"))


def test_latency_is_positive_and_says_what_was_cut_off(measured: Measurement) -> None:
    latency = measured.get("latency_s", batch=1)
    assert isinstance(latency, Sample)
    assert (latency.values > 0).all()
    assert len(latency.values) >= 3
    assert _value(measured, "warmup_calls") >= 0


def test_operators_are_those_of_the_net(measured: Measurement, artifact: Artifact) -> None:
    names = " ".join(str(s.conditions["operator"]).lower() for s in measured.all("operator_s"))
    assert "conv" in names
    assert "gemm" in names or "addmm" in names or "linear" in names


def test_the_net_is_repeatable_and_named_by_its_weights(measured: Measurement, artifact: Artifact) -> None:
    assert _value(measured, "repeatable") == 1
    assert measured.subject == artifact.fingerprint()


def test_quality_is_that_of_the_net_written_in_numpy(measured: Measurement) -> None:
    made = measured.on("validation")
    assert made is not None
    validation = tiny_models.data().validation
    logits = tiny_models.logits(validation.inputs(tiny_models.CONTRACT))
    assert made.classes == 10
    np.testing.assert_array_equal(made.labels, validation.labels)
    np.testing.assert_array_equal(made.predicted, logits.argmax(axis=1))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(made.p_true, shares[np.arange(len(shares)), validation.labels], rtol=1e-4, atol=1e-7)
    assert made.correct.mean() > 0.85


@pytest.mark.slow
def test_predict_split_is_the_same_from_a_fresh_process(
    measured: Measurement, artifact: Artifact, inputs: Path, data: Path
) -> None:
    again = predict_split(artifact, inputs, data, "validation", limits=LIMITS)
    made = measured.on("validation")
    assert made is not None
    np.testing.assert_array_equal(again.predicted, made.predicted)
    np.testing.assert_array_equal(again.p_true, made.p_true)


# --- what is found wanting ---------------------------------------------------------------------------


def _with_parity(folder: Path, tamper: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> Artifact:
    artifact = tiny_models.onnx_artifact(folder)
    examples = tiny_models.examples(16)
    outputs = tamper(tiny_models.logits(examples))
    np.savez(folder / "parity.npz", inputs=examples, outputs=outputs, tolerance=1e-3)
    return artifact


def test_outputs_of_the_model_it_was_saved_from_pass(tmp_path: Path, inputs: Path) -> None:
    artifact = _with_parity(tmp_path / "model", lambda outputs: outputs)
    assert weigh(artifact, inputs, QUICK, limits=LIMITS).subject == artifact.fingerprint()


def _nudged(outputs: NDArray[np.float32]) -> NDArray[np.float32]:
    outputs = outputs.copy()
    outputs[7, 3] += 0.01
    return outputs


@pytest.mark.parametrize(
    ("tamper", "words"),
    [
        (_nudged, r"outputs differ by up to 0\.01 "),
        (lambda outputs: outputs * np.nan, "outputs differ by up to nan"),
        (lambda outputs: outputs[:, :5], r"outputs have shape \(16, 10\)"),
        (lambda outputs: outputs[:, :1], r"outputs have shape \(16, 10\)"),
    ],
    ids=["nudged", "nan", "narrow", "broadcastable"],
)
def test_other_outputs_are_a_parity_failure(
    tmp_path: Path, inputs: Path, tamper: Callable[[NDArray[np.float32]], NDArray[np.float32]], words: str
) -> None:
    with pytest.raises(WorkerFailed, match=words) as caught:
        weigh(_with_parity(tmp_path / "model", tamper), inputs, QUICK, limits=LIMITS)
    assert caught.value.kind == "parity"


@pytest.mark.parametrize("content", [b"", b"no archive", None], ids=["empty", "junk", "incomplete"])
def test_a_damaged_parity_file_is_bad_input(tmp_path: Path, inputs: Path, content: bytes | None) -> None:
    artifact = tiny_models.onnx_artifact(tmp_path / "model")
    path = artifact.folder / "parity.npz"
    np.savez(path, inputs=tiny_models.examples(2)) if content is None else path.write_bytes(content)
    with pytest.raises(InvalidInput, match=r"cannot read .*parity\.npz"):
        weigh(artifact, inputs, QUICK, limits=LIMITS)


def test_outputs_that_are_nan_are_refused(tmp_path: Path, inputs: Path) -> None:
    artifact = tiny_models.onnx_artifact(tmp_path / "model", tail="Sqrt")
    with pytest.raises(InvalidInput, match="NaN or infinity"):
        weigh(artifact, inputs, QUICK, limits=LIMITS)


def test_outputs_of_another_width_are_refused(tmp_path: Path, inputs: Path) -> None:
    def narrow(arrays: tiny_models.Arrays) -> tiny_models.Arrays:
        return {**arrays, "5.weight": arrays["5.weight"][:7], "5.bias": arrays["5.bias"][:7]}

    artifact = tiny_models.onnx_artifact(tmp_path / "model", head=narrow)
    with pytest.raises(InvalidInput, match=r"shape \(1, 7\).*expected \(1, 10\)"):
        weigh(artifact, inputs, QUICK, limits=LIMITS)


def test_a_model_that_is_random_is_said_to_be(tmp_path: Path, inputs: Path) -> None:
    artifact = tiny_models.onnx_artifact(tmp_path / "model", tail="noise")
    assert _value(weigh(artifact, inputs, QUICK, limits=LIMITS), "repeatable") == 0


def test_a_model_of_fixed_batch_is_weighed_too(tmp_path: Path, inputs: Path, data: Path) -> None:
    artifact = tiny_models.onnx_artifact(tmp_path / "model", batch=1)
    settings = WeighSettings(warm_s=0.01, latency_s=0.01, sweep=(2,), sweep_s=0.01, count=True, split="validation")
    made = weigh(artifact, inputs, settings, data=data, limits=LIMITS).on("validation")
    assert made is not None
    assert made.correct.mean() > 0.85


def test_a_damaged_model_is_bad_input(tmp_path: Path, inputs: Path) -> None:
    artifact = tiny_models.onnx_artifact(tmp_path / "model")
    artifact.path.write_bytes(artifact.path.read_bytes()[:500])
    with pytest.raises(InvalidInput, match="cannot load"):
        weigh(artifact, inputs, QUICK, limits=LIMITS)


def test_weighing_changes_nothing_in_the_folder(tmp_path: Path, inputs: Path) -> None:
    artifact = _with_parity(tmp_path / "model", lambda outputs: outputs)
    copy = Path(shutil.copytree(artifact.folder, tmp_path / "copy"))
    weigh(read_artifact(copy), inputs, QUICK, limits=LIMITS)
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == {
        p.name: p.read_bytes() for p in artifact.folder.iterdir()
    }


# --- predictions from raw outputs ----------------------------------------------------------------------


@pytest.mark.parametrize("form", ["logits", "probabilities"])
def test_predictions_agree_with_scikit_learn(form: str) -> None:
    rng = np.random.default_rng(0)
    outputs = rng.normal(0, 3, (200, 4)).astype(np.float32)
    labels = rng.integers(0, 4, 200).astype(np.int32)
    powers = np.exp(outputs.astype(np.float64))
    shares = powers / powers.sum(axis=1, keepdims=True)
    contract = Contract(shape=(1,), layout="F", outputs=form, labels=tuple("abcd"))  # type: ignore[arg-type]
    made = predictions(outputs if form == "logits" else shares, labels, contract, "test")
    assert made.correct.mean() == accuracy_score(labels, shares.argmax(axis=1))
    ours = -np.log(made.p_true.astype(np.float64)).mean()
    assert ours == pytest.approx(log_loss(labels, shares, labels=range(4)), rel=1e-5)
    assert made.predicted.dtype == made.labels.dtype == np.int32
    assert (made.split, made.classes) == ("test", 4)


def test_ties_go_to_the_lower_class() -> None:
    contract = Contract(shape=(1,), layout="F", labels=("a", "b"))
    made = predictions(np.zeros((1, 2)), np.array([1], dtype=np.int32), contract, "test")
    assert made.predicted.tolist() == [0]
    assert made.p_true.tolist() == [0.5]
