"""Roles from accounts: their arithmetic by hand, and whole processes against a net whose memory is known."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

import wide_net
from fake_nvml import FakeNvml
from steelyard.measure.memory import (
    ROLES,
    MemoryReadings,
    Stage,
    gpu_memory,
    gpu_roles,
    roles,
    weigh_memory,
)
from steelyard.measure.process import Limits
from steelyard.probe.gpu import open_gpus
from steelyard.probe.memory import Heap, MemoryMap, heap
from steelyard.records import Measurement, Sample, Unavailable
from steelyard.report.memory import stacks

WIDTH, TIMES = 4096, 3200  # 67.3 MB of weights, 52.4 MB of intermediate for each example


def _stage(used: int, free: int, libraries: int, *, model: int = 0, untouched: int = 0, others: int = 40) -> Stage:
    """A process whose anonymous pages are its heap and `others`, but for what was never touched."""
    anonymous = used + free + others - untouched
    pages = MemoryMap(
        resident_bytes=anonymous + libraries + model,
        anonymous_bytes=anonymous,
        library_bytes=libraries,
        model_bytes=model,
        untouched_bytes=untouched,
    )
    return Stage(heap=Heap(used_bytes=used, free_bytes=free), map=pages)


def _readings(engine: str, **changes: object) -> MemoryReadings:
    found = MemoryReadings(
        engine=engine,
        batch=1,
        before=_stage(100, 0, 200),
        loaded=_stage(1100, 0, 210),
        ready=_stage(1500, 50, 220),
        peak_bytes=0,
        most_used_bytes=1500,
        most_held_bytes=1550,
        activations=300,
        input_bytes=20,
    )
    return dataclasses.replace(found, **changes)  # type: ignore[arg-type]


def test_an_engine_with_an_arena_keeps_its_workspace() -> None:
    found = roles(_readings("onnxruntime"))
    assert found == {"weights": 1000, "activations": 300, "workspace": 100, "runtime": 100 + 40 + 220, "freed": 50}
    assert sum(found.values()) == 1500 + 50 + 40 + 220  # all that is resident at the end


def test_arenas_that_were_never_written_are_not_resident() -> None:
    ready = _stage(1500, 50, 220, untouched=60)
    found = roles(_readings("onnxruntime", ready=ready))
    assert found["workspace"] == 40
    assert sum(found.values()) == ready.map.resident_bytes
    more = _stage(1500, 50, 220, untouched=130)  # more than the workspace: reserves of the runtime
    found = roles(_readings("onnxruntime", ready=more))
    assert (found["workspace"], found["runtime"]) == (0, 360 - 30)
    assert sum(found.values()) == more.map.resident_bytes


def test_openvino_makes_room_for_activations_when_it_loads_and_maps_its_weights() -> None:
    ready = _stage(1500, 50, 220, model=500)
    found = roles(_readings("openvino", ready=ready, laid_out_bytes=250))
    assert found["weights"] == 1000 - 250 + 500
    assert sum(found.values()) == ready.map.resident_bytes


def test_pytorchs_weights_are_its_tensors_and_the_rest_of_loading_is_runtime() -> None:
    found = roles(_readings("eager", tensor_bytes=900, most_used_bytes=1700, most_held_bytes=1800))
    # 1500 in use between calls: 100 before, 900 tensors, 20 inputs, and 480 that loading took beside them
    assert found["weights"] == 900
    assert found["runtime"] == 100 + 40 + 220 + 480
    assert found["activations"] == 300
    assert found["freed"] == 1800 - 1780  # the count of activations knows of a peak that no look at the heap saw
    assert found["workspace"] == 0


class FakeCuda:
    """``torch.cuda`` with two devices, as it stands after calls."""

    def device_count(self) -> int:
        return 2

    def memory_allocated(self, device: int) -> int:
        return 100 * (device + 1)

    def max_memory_allocated(self, device: int) -> int:
        return 250 * (device + 1)

    def max_memory_reserved(self, device: int) -> int:
        return 400 * (device + 1)


def test_on_a_gpu_the_allocators_and_the_drivers_counts_add_up() -> None:
    gpus = open_gpus(FakeNvml())
    found = gpu_memory(FakeCuda(), gpus)
    assert found.process_bytes == 512_000_000
    sizes = gpu_roles(found)
    assert sizes == {"weights": 300, "activations": 450, "freed": 450, "runtime": 512_000_000 - 1200}
    assert sum(sizes.values()) == found.process_bytes  # type: ignore[arg-type]


def test_a_driver_that_hides_processes_leaves_the_runtime_unavailable() -> None:
    sizes = gpu_roles(gpu_memory(FakeCuda(), open_gpus(FakeNvml(driver=False))))
    assert isinstance(sizes["runtime"], Unavailable)
    assert sizes["weights"] == 300


def test_a_model_on_a_real_gpu_shows_its_weights() -> None:
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    model = torch.nn.Linear(4096, 4096, bias=False, device="cuda")
    torch.cuda.reset_peak_memory_stats()
    model(torch.ones(1024, 4096, device="cuda"))
    sizes = gpu_roles(gpu_memory(torch.cuda, open_gpus()))
    assert sizes["weights"] >= 4 * 4096 * 4096
    assert sizes["activations"] >= 4 * 1024 * 4096


def _known(tmp_path: Path, engine: str, batches: tuple[int, ...]) -> Measurement:
    if isinstance(found := heap(), Unavailable):
        pytest.skip(found.reason)
    artifact = wide_net.artifact(tmp_path / "model", engine, width=WIDTH, times=TIMES)
    np.save(tmp_path / "inputs.npy", wide_net.inputs(4, WIDTH))
    readings = weigh_memory(artifact, tmp_path / "inputs.npy", batches, seconds=0.1, limits=Limits(seconds=200))
    return Measurement(subject="", environment=None, readings=readings)  # type: ignore[arg-type]


def _check(measured: Measurement, batches: tuple[int, ...]) -> None:
    found = {stack.batch: stack for stack in stacks(measured)}
    assert set(found) == set(batches)
    for batch, stack in found.items():
        assert tuple(stack.roles) == ROLES
        assert stack.adds_up, (stack, stack.unattributed)
        wide = 2 * wide_net.intermediate_bytes(batch, width=WIDTH, times=TIMES)
        assert stack.roles["activations"] == pytest.approx(wide, rel=0.05)


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Measurement:
    return _known(tmp_path_factory.mktemp("session"), "onnxruntime", (1, 2))


def test_a_session_shows_the_weights_and_activations_that_the_net_has(session: Measurement) -> None:
    _check(session, (1, 2))
    weights = session.get("memory_role_bytes", role="weights", batch=1)
    assert isinstance(weights, Sample)
    assert weights.value == pytest.approx(wide_net.weight_bytes(WIDTH), rel=0.05)


def test_the_series_shows_what_running_adds(session: Measurement) -> None:
    (series,) = session.all("memory_resident_bytes")
    assert series.times_s is not None
    spans = {s.conditions["phase"]: s.values for s in session.all("memory_phase_s")}
    assert list(spans) == ["load", "first call, batch 1", "batch 1", "first call, batch 2", "batch 2"]
    start, end = spans["batch 2"]
    running = series.values[(series.times_s >= start) & (series.times_s <= end)]
    wide = 2 * wide_net.intermediate_bytes(2, width=WIDTH, times=TIMES)
    assert running.max() - series.values[0] > 0.95 * (wide + wide_net.weight_bytes(WIDTH))
    loading = session.get("memory_load_peak_bytes")
    assert isinstance(loading, Unavailable) or loading.value > wide_net.weight_bytes(WIDTH)


@pytest.mark.slow
def test_eager_pytorch_shows_the_weights_and_activations_that_the_net_has(tmp_path: Path) -> None:
    measured = _known(tmp_path, "eager", (1,))
    _check(measured, (1,))
    weights = measured.get("memory_role_bytes", role="weights", batch=1)
    assert isinstance(weights, Sample)
    assert weights.value == pytest.approx(wide_net.weight_bytes(WIDTH), rel=0.05)


@pytest.mark.slow
def test_openvino_shows_packed_copies_beside_the_mapped_file(tmp_path: Path) -> None:
    measured = _known(tmp_path, "openvino", (1,))
    _check(measured, (1,))
    weights = measured.get("memory_role_bytes", role="weights", batch=1)
    assert isinstance(weights, Sample)
    assert weights.value > 0.95 * wide_net.weight_bytes(WIDTH)
