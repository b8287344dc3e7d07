"""A delivered folder on the machine where it will live: whole or changed, at home or far from it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import steelyard
import tiny_models
from steelyard.errors import InvalidInput, SchemaTooNew
from steelyard.passes.build import Builder
from steelyard.records import Plan, Step
from steelyard.subject.artifact import model_files, read_artifact, write_manifest
from steelyard.verify.checkup import Checkup, check_folder

EVIDENCE = {"latency_s": 0.001, "cpu": "the machine of delivery"}


@pytest.fixture(scope="module", params=["onnx", "openvino"])
def delivered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as `steelyard.pipeline.deliver` writes it."""
    root = tmp_path_factory.mktemp("delivered")
    source = tiny_models.onnx_artifact(root / "source")
    inputs = tiny_models.write_inputs(root / "inputs.npy")
    steps = (Step(name="openvino"),)
    if request.param == "openvino":
        folder = Path(Builder().build(str(source.folder), str(root), Plan(steps=steps), str(inputs), None))
    else:
        folder = source.folder
        np.savez(
            folder / "parity.npz",
            inputs=tiny_models.examples(),
            outputs=tiny_models.logits(tiny_models.examples()),
            tolerance=1e-3,
        )
    _deliver(folder, evidence=EVIDENCE)
    return folder


@pytest.fixture
def copied(delivered: Path, tmp_path: Path) -> Path:
    """The folder somewhere else, free to be spoiled."""
    return Path(shutil.copytree(delivered, tmp_path / "elsewhere" / "best"))


def _deliver(folder: Path, **extra: Any) -> None:
    digests = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in model_files(folder)}
    write_manifest(read_artifact(folder), {"files": digests, **extra})


def _rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _outcomes(checkup: Checkup) -> dict[str, str]:
    return {check.name: check.outcome for check in checkup.checks}


def test_a_folder_copied_elsewhere_verifies_loads_and_predicts(copied: Path) -> None:
    steps: list[str] = []
    checkup = check_folder(copied, seconds=0.1, on_step=steps.append)
    assert checkup.passed
    assert _outcomes(checkup) == {
        "files": "passed",
        "instruction sets": "passed",
        "same outputs": "passed",
        "latency": "noted",
    }
    assert steps[0] == "loading"
    assert checkup.measured is not None
    assert checkup.measured.subject == read_artifact(copied).fingerprint()
    latency = next(c.detail for c in checkup.checks if c.name == "latency")
    assert "1 ms when delivered (the machine of delivery)" in latency
    model = steelyard.load(copied)
    examples = tiny_models.examples(5)
    np.testing.assert_allclose(model(examples), tiny_models.logits(examples), atol=1e-4)
    raw = np.asarray(tiny_models.data().validation.raw[0])
    answer = model.predict(raw)
    assert answer.label == str(tiny_models.logits(examples)[0].argmax())
    assert sum(answer.probabilities.values()) == pytest.approx(1)


def test_verifying_writes_nothing_into_the_folder(copied: Path) -> None:
    before = {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in copied.iterdir()}
    age = copied.stat().st_mtime_ns
    check_folder(copied, seconds=0.05)
    assert {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in copied.iterdir()} == before
    assert copied.stat().st_mtime_ns == age


def test_a_read_only_folder_verifies(copied: Path) -> None:
    copied.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        assert check_folder(copied, seconds=0.05).passed
    finally:
        copied.chmod(stat.S_IRWXU)


def test_a_changed_model_file_fails_and_is_named(copied: Path, steelyard: Callable[..., Any]) -> None:
    changed = model_files(copied)[0]
    content = bytearray(changed.read_bytes())
    content[len(content) // 2] ^= 1
    changed.write_bytes(content)
    checkup = check_folder(copied, seconds=0.05)
    assert not checkup.passed
    assert checkup.measured is None
    assert checkup.checks[0].detail == f"{changed.name} changed since delivery: deliver again"
    ran = steelyard("verify", copied)
    assert ran.status == 1
    assert changed.name in ran.out


def test_a_good_folder_has_exit_status_0(copied: Path, steelyard: Callable[..., Any]) -> None:
    ran = steelyard("verify", copied, "--budget", "0.1s", "--json")
    assert ran.status == 0
    assert json.loads(ran.out)["passed"] is True


def test_other_outputs_here_than_at_delivery_fail(copied: Path) -> None:
    with np.load(copied / "parity.npz") as saved:
        content = dict(saved)
    np.savez(copied / "parity.npz", **{**content, "outputs": content["outputs"] + 0.1})
    checkup = check_folder(copied, seconds=0.05)
    assert _outcomes(checkup)["same outputs"] == "failed"
    assert "outputs differ" in checkup.checks[-1].detail


def test_a_damaged_model_with_the_right_checksum_does_not_pass(copied: Path) -> None:
    artifact = read_artifact(copied)
    artifact.path.write_bytes(b"not a model")
    _deliver(copied)
    with pytest.raises(InvalidInput, match=f"(?s){artifact.file}"):
        check_folder(copied, seconds=0.05)


@pytest.mark.parametrize(
    "step",
    [
        {"name": "quantize_static", "options": {}},
        {"name": "nncf_int8", "options": {}},
        {"name": "bf16", "options": {}},
        {"name": "openvino", "options": {"precision": "bf16"}},
    ],
)
def test_a_missing_instruction_set_is_noted_for_plans_that_rest_on_it(copied: Path, step: dict[str, Any]) -> None:
    _rewrite(copied, plan=[step], instruction_sets=["avx2", "amx_of_the_future", "avx_quux_vnni"])
    checkup = check_folder(copied, seconds=0.05)
    check = checkup.checks[1]
    assert check.outcome == "noted"
    assert "amx_of_the_future, avx_quux_vnni was present, absent here" in check.detail
    assert checkup.passed  # it runs, only slower


def test_a_missing_instruction_set_does_not_matter_to_float32(copied: Path) -> None:
    _rewrite(copied, plan=[{"name": "openvino", "options": {"precision": "f32"}}], instruction_sets=["amx_int9"])
    assert _outcomes(check_folder(copied, seconds=0.05))["instruction sets"] == "passed"


def test_a_newer_schema_says_to_upgrade(copied: Path, steelyard: Callable[..., Any]) -> None:
    _rewrite(copied, schema_version=99)
    with pytest.raises(SchemaTooNew, match="schema 99"):
        check_folder(copied)
    ran = steelyard("verify", copied)
    assert ran.status == 2
    assert "pip install -U steelyard" in ran.message


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "manifest.json").unlink(), "holds no Steelyard artifact"),
        (lambda f: (f / "manifest.json").write_text("{"), "cannot read"),
        (lambda f: (f / "parity.npz").unlink(), "holds no example inputs"),
        (lambda f: (f / "parity.npz").write_bytes(b"PK junk"), "cannot read .*parity.npz"),
        (lambda f: read_artifact(f).path.unlink(), "is incomplete"),
        (lambda f: _rewrite(f, file="../../etc/passwd"), "file"),
        (lambda f: _rewrite(f, engine="tensorrt"), "engine"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_line(
    copied: Path, steelyard: Callable[..., Any], spoil: Callable[[Path], object], words: str
) -> None:
    spoil(copied)
    with pytest.raises(InvalidInput, match=words):
        check_folder(copied, seconds=0.05)
    ran = steelyard("verify", copied)
    assert ran.status == 2
    assert ran.message


def test_without_checksums_the_files_are_noted(copied: Path) -> None:
    _rewrite(copied, files={}, evidence={})
    outcomes = _outcomes(check_folder(copied, seconds=0.05))
    assert outcomes["files"] == outcomes["latency"] == "noted"


BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "torchvision", "sklearn"):
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Blocker())
"""

PREDICTS = (
    BLOCKED
    + """
import numpy as np
import steelyard
model = steelyard.load(sys.argv[1])
with np.load(sys.argv[1] + "/parity.npz") as saved:
    assert np.abs(model(saved["inputs"]) - saved["outputs"]).max() < 1e-3
print(model.predict(np.zeros(model.contract.shape, dtype=np.uint8)).label)
from steelyard.cli import main
main(["verify", sys.argv[1], "--budget", "0.1s"])
"""
)


def test_the_folder_runs_where_pytorch_is_not_installed(copied: Path, tmp_path: Path) -> None:
    """In this process and, through sitecustomize, in the measuring process that it starts."""
    (tmp_path / "sitecustomize.py").write_text(BLOCKED)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    ran = subprocess.run(
        [sys.executable, "-c", PREDICTS, str(copied)], capture_output=True, text=True, check=False, env=environment
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split("\n")[0] in tiny_models.CONTRACT.labels
    assert "same outputs" in ran.stdout
