import sys

import pytest

from steelyard.probe import engines
from steelyard.records import Unavailable


def test_installed_names_versions_and_extras_without_importing():
    before = set(sys.modules)
    found = {status.name: status for status in engines.installed()}
    assert tuple(found) == tuple(engines.ENGINES)
    assert found["openvino"].install == "pip install 'steelyard[openvino]'"
    assert not {"openvino", "nncf"} & (set(sys.modules) - before)


def test_a_missing_engine_has_no_version(monkeypatch):
    monkeypatch.setattr(engines.util, "find_spec", lambda name: None)
    assert all(status.version is None and not status.devices for status in engines.installed(detail=True))


def test_detail_lists_devices_and_survives_a_broken_engine(monkeypatch):
    pytest.importorskip("onnxruntime")

    def broken() -> tuple[str, ...]:
        raise OSError("libfoo.so not found")

    monkeypatch.setitem(engines._DEVICES, "openvino", broken)
    found = {status.name: status for status in engines.installed(detail=True)}
    assert "CPUExecutionProvider" in found["onnxruntime"].devices
    assert "libfoo.so" in found["openvino"].problem


def test_compiler_honours_cxx(monkeypatch, tmp_path):
    monkeypatch.setenv("CXX", str(tmp_path / "none"))
    assert engines.compiler() is None
    fake = tmp_path / "mycxx"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    monkeypatch.setenv("CXX", str(fake))
    assert engines.compiler() == str(fake)


# --- execution providers and devices -----------------------------------------------------------------


def with_providers(monkeypatch, *names):
    monkeypatch.setattr(engines, "_onnxruntime_devices", lambda: (*names, "CPUExecutionProvider"))
    monkeypatch.setattr(engines, "_has_nvidia", lambda: True)


@pytest.mark.parametrize("word", engines.PROVIDERS)
def test_a_provider_that_is_not_built_in_says_what_brings_it(monkeypatch, word):
    with_providers(monkeypatch)
    found = engines.provider(word)
    assert isinstance(found, Unavailable)
    known = engines.PROVIDERS[word]
    assert known.name in found.reason
    assert known.comes_with in found.reason
    assert known.runs_on in found.reason


@pytest.mark.parametrize("word", ["cuda", "tensorrt"])
def test_nvidias_providers_need_a_gpu_beside_the_package(monkeypatch, word):
    name = engines.PROVIDERS[word].name
    with_providers(monkeypatch, name)
    assert engines.provider(word) == name
    monkeypatch.setattr(engines, "_has_nvidia", lambda: False)
    missing = engines.provider(word)
    assert isinstance(missing, Unavailable)
    assert missing.reason.startswith(
        f"{name} runs on an NVIDIA GPU, and this machine has none; it comes with pip install"
    )


def test_other_providers_need_no_look_at_the_device(monkeypatch):
    with_providers(monkeypatch, "QNNExecutionProvider")
    assert engines.providers()["qnn"] == "QNNExecutionProvider"


@pytest.mark.parametrize(
    ("name", "found"),
    [("CPU", True), ("AUTO", True), ("GPU", True), ("GPU.1", True), ("NPU", False), ("GPU.2", False), ("cpu", False)],
)
def test_openvinos_devices(monkeypatch, name, found):
    monkeypatch.setattr(engines, "_openvino_devices", lambda: ("CPU", "GPU.0", "GPU.1"))
    answer = engines.openvino_device(name)
    assert (answer == name) is found
    if not found:
        assert f"no device {name} here, only CPU, GPU.0, GPU.1" in answer.reason
