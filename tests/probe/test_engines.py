import sys

import pytest

from steelyard.probe import engines


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
