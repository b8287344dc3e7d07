"""A folder that was made for other instructions or packages: what is said, what is measured, what takes its place."""

from __future__ import annotations

import json
import platform
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steelyard as package
import tiny_models
from steelyard.probe.host import environment
from steelyard.subject.artifact import read_manifest
from steelyard.verify import checkup, target
from steelyard.verify.checkup import Checkup, check_folder

MADE = ["avx2", "avx512f", "avx512_vnni", "amx_int8"]
WITHOUT = ("avx2", "avx512f")
INT8 = [{"name": "onnx", "options": {}}, {"name": "quantize_static", "options": {}}]


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def expect(folder: Path, offset: float = 0.0, shuffled: bool = False) -> None:
    """Write the outputs that the folder's model gave where it was made: its own, or others."""
    inputs = tiny_models.examples()
    outputs = tiny_models.logits(inputs) + offset
    np.savez(
        folder / "parity.npz",
        inputs=inputs,
        outputs=np.roll(outputs, 1, axis=1) if shuffled else outputs,
        tolerance=1e-3,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that says it was quantised where VNNI was, with the whole model beside it."""
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    folder = tmp_path_factory.mktemp("made") / "best"
    for home in (folder, folder / "fallback"):
        tiny_models.onnx_artifact(home)
        expect(home)
    rewrite(folder, plan=INT8, instruction_sets=MADE)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "best"))


def outcomes(found: Checkup) -> dict[str, str]:
    return {check.name: check.outcome for check in found.checks}


def detail(found: Checkup, name: str) -> str:
    return next(check.detail for check in found.checks if check.name == name)


# --- instruction sets ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plan", "made_with", "here", "saturates"),
    [
        (INT8, MADE, WITHOUT, True),
        (INT8, MADE, (*WITHOUT, "avx_vnni"), False),  # other instructions that add up in 32 bits
        (INT8, ["avx2"], ("avx2",), False),  # it was made, and proved, without them
        ([{"name": "openvino", "options": {"precision": "bf16"}}], MADE, WITHOUT, False),
        ([{"name": "nncf_int8", "options": {"preset": "mixed"}}], MADE, WITHOUT, True),
    ],
)
def test_only_8_bits_made_for_vnni_may_saturate(
    folder: Path, plan: list[Any], made_with: list[str], here: tuple[str, ...], saturates: bool
) -> None:
    rewrite(folder, plan=plan, instruction_sets=made_with)
    assert target.saturates(read_manifest(folder), here) is saturates


def test_where_the_outputs_are_the_same_it_is_only_noted(folder: Path) -> None:
    found = check_folder(folder, seconds=0.05, sets=WITHOUT)
    assert found.passed
    assert outcomes(found)["instruction sets"] == "noted"
    assert "amx_int8, avx512_vnni was present, absent here: sums of 8-bit products may overflow 16 bits" in detail(
        found, "instruction sets"
    )


def test_other_outputs_fail_are_measured_and_the_fallback_is_named(folder: Path) -> None:
    expect(folder, shuffled=True)
    said: list[str] = []
    found = check_folder(folder, seconds=0.05, sets=WITHOUT, on_step=said.append)
    assert not found.passed
    assert (outcomes(found)["same outputs"], outcomes(found)["fallback"]) == ("failed", "noted")
    outputs = tiny_models.logits(tiny_models.examples())
    largest = np.abs(np.roll(outputs, 1, axis=1) - outputs).max()
    changed = int((np.roll(outputs, 1, axis=1).argmax(axis=1) != outputs.argmax(axis=1)).sum())
    assert f"differ by up to {largest:.2g} " in detail(found, "same outputs")
    assert f"{changed} of 64 examples get another class" in detail(found, "same outputs")
    assert str(folder / "fallback") in detail(found, "fallback")
    assert said[-1] == "trying the fallback"


def test_a_fallback_that_differs_too_is_no_way_out(folder: Path) -> None:
    expect(folder, offset=1.0)
    expect(folder / "fallback", offset=1.0)
    checks = checkup._parity(folder, None, None)
    assert [(check.name, check.outcome) for check in checks] == [("same outputs", "failed"), ("fallback", "failed")]
    shutil.rmtree(folder / "fallback")
    assert [check.name for check in checkup._parity(folder, None, None)] == ["same outputs"]


# --- loading -------------------------------------------------------------------------------------------------


@pytest.fixture
def without_vnni(monkeypatch: pytest.MonkeyPatch) -> None:
    from steelyard.probe import host

    real = host._instruction_sets
    monkeypatch.setattr(host, "_instruction_sets", lambda text: tuple(s for s in real(text) if s in WITHOUT))


@pytest.mark.usefixtures("without_vnni")
def test_loading_takes_the_fallback_where_the_outputs_differ(folder: Path) -> None:
    expect(folder, offset=1.0)
    with pytest.warns(UserWarning, match="fallback/, the model before it was quantised, is used instead"):
        model = package.load(folder)
    assert model.artifact.folder == folder / "fallback"


@pytest.mark.usefixtures("without_vnni")
def test_loading_stays_with_the_model_where_they_do_not(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert package.load(folder).artifact.folder == folder


@pytest.mark.usefixtures("without_vnni")
def test_loading_without_a_fallback_warns(folder: Path, steelyard: Callable[..., Any], tmp_path: Path) -> None:
    expect(folder, offset=1.0)
    shutil.rmtree(folder / "fallback")
    with pytest.warns(UserWarning, match="do not rely on its answers on this machine"):
        assert package.load(folder).artifact.folder == folder
    np.savez(tmp_path / "x.npz", x=np.asarray(tiny_models.data().test.raw[:3]))
    ran = steelyard("predict", folder, tmp_path / "x.npz", "--out", tmp_path / "p.csv")
    assert ran.status == 0
    assert "do not rely on its answers" in ran.err


def test_loading_where_the_instructions_are_looks_no_further(folder: Path) -> None:
    expect(folder, offset=1.0)
    model, said = target.for_this_machine(folder, MADE)
    assert (model.artifact.folder, said) == (folder, "")


# --- packages ------------------------------------------------------------------------------------------------


def test_missing_packages_come_with_the_line_that_brings_them(folder: Path, steelyard: Callable[..., Any]) -> None:
    rewrite(folder, packages={"numpy": np.__version__, "an_engine_of_the_future": "3.1.4+cpu"})
    found = check_folder(folder, seconds=0.05)
    assert found.measured is None
    assert detail(found, "packages") == (
        "an_engine_of_the_future not installed here: pip install an_engine_of_the_future==3.1.4"
    )
    ran = steelyard("verify", folder, "--budget", "0.05s")
    assert ran.status == 1
    assert "✗ packages: an_engine_of_the_future not installed here" in ran.out


@pytest.mark.parametrize(
    ("then", "outcome", "words"),
    [
        ("1.0", "noted", f"numpy {np.__version__} here, 1.0 when delivered"),
        (np.__version__, "passed", f"numpy {np.__version__}, as when delivered"),
    ],
)
def test_versions_are_compared(folder: Path, then: str, outcome: str, words: str) -> None:
    rewrite(folder, packages={"numpy": then})
    (check,) = checkup._packages(read_manifest(folder))
    assert (check.outcome, check.detail) == (outcome, words)


# --- the difference --------------------------------------------------------------------------------------------


def test_the_difference_is_counted_in_classes_and_in_outputs() -> None:
    expected = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
    found = target.compare(expected + np.array([[0, 0], [1.5, 0], [0, 0]]), expected, 0.01)
    assert (found.changed, found.examples, found.largest) == (1, 3, 1.5)
    assert found.allowed == pytest.approx(0.01 * expected.std())
    assert not found.alike
    assert target.compare(expected, expected, 0.01).alike
    assert not target.compare(expected * np.nan, expected, 0.01).alike
    assert not target.compare(expected[:, :1], expected, 0.01).alike


# --- on a real processor -----------------------------------------------------------------------------------------


def quantise_fully(folder: Path) -> None:
    """The tiny net in 8 bits without a bit to spare, and its outputs by exact arithmetic, which is what VNNI gives.

    Without optimisation ONNX Runtime runs the quantised graph as it is written, in float32.
    """
    import onnxruntime
    from onnxruntime import quantization as quant

    class Examples(quant.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = iter(tiny_models.examples())

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"x": row[None]} for row in self.left), None)

    model, whole = folder / "model.onnx", folder / "fallback" / "model.onnx"
    quant.quantize_static(
        str(whole), str(model), Examples(), quant_format=quant.QuantFormat.QDQ, per_channel=True, reduce_range=False,
        activation_type=quant.QuantType.QUInt8, weight_type=quant.QuantType.QInt8,
    )  # fmt: skip
    exact = onnxruntime.SessionOptions()
    exact.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    inputs = tiny_models.examples()
    outputs = onnxruntime.InferenceSession(str(model), exact).run(None, {"x": inputs})[0]
    np.savez(folder / "parity.npz", inputs=inputs, outputs=outputs, tolerance=0.02)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="sums of pairs are cut on x86 alone")
def test_sums_of_8_bit_products_are_cut_here_unless_there_are_instructions_for_them(
    folder: Path,
) -> None:
    quantise_fully(folder)
    here = bool(target.PRODUCTS & set(environment().instruction_sets))
    found = target.difference(folder)
    assert found.alike is here, str(found)
    model, said = target.for_this_machine(folder, WITHOUT)
    assert (model.artifact.folder.name, said == "") == (("best", True) if here else ("fallback", False))
