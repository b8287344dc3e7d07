"""Peaks: structure, units and plausibility; never absolute speeds."""

from pathlib import Path

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.probe import peaks
from steelyard.records import Sample, Unavailable


@pytest.fixture(scope="module")
def measured():
    pytest.importorskip("torch")
    return {p.quantity: p for p in peaks.measure_peaks(0.2)}


def test_every_peak_is_there_in_its_unit_with_positive_readings(measured):
    assert tuple(measured) == peaks.PEAKS
    for quantity, peak in measured.items():
        assert isinstance(peak, Sample)
        assert len(peak.values) >= 3
        assert (peak.values > 0).all()
        assert peak.unit == ("s" if quantity.endswith("_s") and "per" not in quantity else peak.unit)


def test_units(measured):
    assert measured["gemm_int8_flops"].unit == "FLOP/s"
    assert measured["copy_bandwidth_bytes_per_s"].unit == "byte/s"
    assert measured["dispatch_s"].unit == "s"
    assert measured["cache_bandwidth_bytes_per_s"].conditions["cache_bytes"] > 0


def test_peaks_restore_the_thread_count(measured):
    import torch

    before = torch.get_num_threads()
    peaks.measure_peaks(0.01, threads=1)
    assert torch.get_num_threads() == before


def test_without_torch_and_onnx_only_numpy_peaks_remain(monkeypatch):
    monkeypatch.setattr(peaks, "_torch", lambda: None)
    monkeypatch.setattr(peaks, "_onnx_int8", lambda threads: [])
    found = {p.quantity: p for p in peaks.measure_peaks(0.05)}
    assert isinstance(found["gemm_fp32_flops"], Sample)
    for quantity in ("gemm_bf16_flops", "gemm_int8_flops", "dispatch_s"):
        assert isinstance(found[quantity], Unavailable)
        assert "extra" in found[quantity].reason


def test_the_ceiling_is_the_best_reading():
    assert peaks.best(Sample(quantity="q", unit="FLOP/s", values=np.array([2.0, 5.0, 3.0]))) == 5.0


def test_cache_size_is_the_largest_level(tmp_path: Path):
    for level, size in enumerate(("32K", "1M", "36608K")):
        (tmp_path / f"index{level}").mkdir()
        (tmp_path / f"index{level}" / "size").write_text(size + "\n")
    assert peaks._last_level_cache_bytes(tmp_path) == 36608 << 10
    assert peaks._last_level_cache_bytes(tmp_path / "none") == 0


def test_the_int8_model_computes_the_integer_product():
    onnx, onnxruntime = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    # half the range: without VNNI the engine adds pairs of products in 16 bits, which the whole range overflows
    a, b = rng.integers(0, 128, (8, 8), dtype=np.uint8), rng.integers(-127, 128, (8, 8), dtype=np.int8)
    session = onnxruntime.InferenceSession(peaks._int8_model(onnx, b), providers=["CPUExecutionProvider"])
    assert (session.run(None, {"a": a})[0] == a.astype(np.int32) @ b.astype(np.int32)).all()


@pytest.mark.parametrize("seconds", [0, -1, float("nan")])
def test_a_time_that_is_not_positive_is_refused(seconds: float):
    with pytest.raises(InvalidInput):
        peaks.measure_peaks(seconds)
