"""Counter traces, in the form of the kernel and of NVML, through the whole measured path; and Zeus on the same tree."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.probe.energy import (
    EnergyCounters,
    Window,
    above_idle,
    counters,
    measured_energy,
    read_counters,
    windows_for,
)
from steelyard.records import Sample, Unavailable

FIXTURES = Path(__file__).parent.parent / "fixtures" / "energy"
TRACES: dict[str, Any] = json.loads((FIXTURES / "rapl.json").read_text())
NVML: dict[str, Any] = json.loads((FIXTURES / "nvml.json").read_text())


def tree(root: Path, name: str, place: int) -> Path:
    """The zones of a trace as the kernel shows them, at one of the readings."""
    for folder, zone in TRACES[name]["zones"].items():
        path = root / folder
        path.mkdir(parents=True, exist_ok=True)
        (path / "name").write_text(f"{zone['name']}\n")
        (path / "max_energy_range_uj").write_text(f"{zone['max_energy_range_uj']}\n")
        (path / "energy_uj").write_text(f"{zone['energy_uj'][place]}\n")
    return root


def windows(root: Path, name: str, calls: int = 10) -> list[Window]:
    times = TRACES[name]["seconds"]
    read = [read_counters(tree(root, name, place)) for place in range(len(times))]
    assert all(isinstance(each, EnergyCounters) for each in read)
    return [
        Window(before=read[i], after=read[i + 1], seconds=times[i + 1] - times[i], calls=calls)
        for i in range(len(times) - 1)
    ]


@pytest.mark.parametrize("name", ["two-packages-wrap", "no-dram"])
def test_traces_give_their_joules(tmp_path: Path, name: str) -> None:
    found = measured_energy(windows(tmp_path, name), {"batch": 1})
    assert isinstance(found, Sample)
    assert found.values * 10 == pytest.approx(TRACES[name]["joules"], rel=1e-6)
    assert found.provenance == "measured"
    assert found.conditions == {"batch": 1}


def test_the_note_says_what_was_counted_and_how_finely(tmp_path: Path) -> None:
    two, one = (measured_energy(windows(tmp_path / n, n)) for n in ("two-packages-wrap", "no-dram"))
    assert "2 packages, 2 memories" in two.note
    assert "2 window(s) of 0.5 s, resolution 0.2%" in two.note
    assert "1 package," in one.note
    assert "memor" not in one.note.partition(",")[0]
    assert "without power supply and cooling" in one.note


def test_a_counter_that_did_not_move_is_no_zero(tmp_path: Path) -> None:
    found = measured_energy(windows(tmp_path, "still"))
    assert isinstance(found, Unavailable)
    assert "did not move in 0.0005 s" in found.reason
    assert "--budget" in found.reason


def test_energy_above_idle_is_a_reading_of_its_own(tmp_path: Path) -> None:
    busy = windows(tmp_path, "no-dram")
    idle = Window(before=busy[0].before, after=busy[0].after, seconds=1.0)  # 3 J in a second at rest
    found = above_idle(busy, idle)
    assert found.quantity == "energy_above_idle_j"
    assert found.values == pytest.approx([(3.0 - 3.0 * 0.2) / 10, (3.2 - 3.0 * 0.2) / 10])
    assert "above 3 W" in found.note


def test_windows_are_long_against_the_counter() -> None:
    assert windows_for(7.5, counters.RAPL_PERIOD_S) == 10
    assert windows_for(7.5, counters.GPU_PERIOD_S) == 1
    assert windows_for(0.01, counters.RAPL_PERIOD_S) == 1


def test_windows_without_calls_or_time_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput):
        measured_energy([])
    with pytest.raises(InvalidInput):
        measured_energy(windows(tmp_path, "no-dram", calls=0))


class FakeGpus:
    """What Zeus's manager answers, from the series of the trace."""

    def __init__(self, place: int, *, counts: bool = True) -> None:
        self.place, self.counts = place, counts

    def __len__(self) -> int:
        return 1

    def supports_get_total_energy_consumption(self, index: int) -> bool:
        return self.counts

    def get_name(self, index: int) -> str:
        return str(NVML["name"])

    def get_total_energy_consumption(self, index: int) -> int:
        return int(NVML["total_energy_mj"][self.place])


def gpu_reading(monkeypatch: pytest.MonkeyPatch, root: Path, place: int, **how: bool) -> Any:
    monkeypatch.setattr(counters, "_zeus", lambda getter: FakeGpus(place, **how))
    return read_counters(root, gpus=True)


def test_a_gpu_counts_beside_the_packages(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    before = gpu_reading(monkeypatch, tree(tmp_path, "no-dram", 0), 0)
    after = gpu_reading(monkeypatch, tree(tmp_path, "no-dram", 1), 20)
    parts = after.parts_since(before)
    assert parts == pytest.approx({"package-0 (intel-rapl:0)": 3.0, "gpu-0 NVIDIA H100 80GB HBM3": 350.0})
    found = measured_energy([Window(before=before, after=after, seconds=1.0)])
    assert isinstance(found, Sample)
    assert found.value == pytest.approx(353.0)
    assert "resolution 10.0%" in found.note
    assert "only a quarter of the time" in found.note
    assert "too short for the counter" in found.note


def test_a_gpu_window_inside_one_step_of_its_counter_is_not_zero(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before, after = (gpu_reading(monkeypatch, tmp_path, place) for place in (2, 3))  # 50 ms apart
    found = measured_energy([Window(before=before, after=after, seconds=0.05)])
    assert isinstance(found, Unavailable)
    assert "moves every 0.1 s" in found.reason


def test_the_longer_the_gpu_windows_the_closer_to_the_truth(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    reads = [gpu_reading(monkeypatch, tmp_path, place) for place in range(len(NVML["seconds"]))]
    errors = {
        steps: max(
            abs(reads[i + steps].since(reads[i]) / (350 * 0.05 * steps) - 1)
            for i in range(20 - steps)
            if i + steps <= 20
        )
        for steps in (3, 9, 19)
    }
    assert errors[3] > errors[9] > errors[19]
    assert errors[19] <= 1 / 19 + 1e-9  # within one step at either end


def test_an_old_gpu_or_one_without_zeus_says_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = gpu_reading(monkeypatch, tmp_path, 0, counts=False)
    assert "older than NVIDIA's Volta" in old.reason
    monkeypatch.setattr(counters, "_zeus", lambda getter: Unavailable(quantity="energy_j", reason="no NVML"))
    assert read_counters(tmp_path, gpus=True).reason == "no NVML"


def denied(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Path.read_text

    def refuse(self: Path, *args: Any, **words: Any) -> str:
        if self.name == "energy_uj":
            raise PermissionError(13, "Permission denied", str(self))
        return read(self, *args, **words)

    monkeypatch.setattr(Path, "read_text", refuse)


def test_a_denied_counter_names_the_file_and_the_cure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tree(tmp_path, "no-dram", 0)
    denied(monkeypatch)
    monkeypatch.delenv("ZEUSD_SOCK_PATH", raising=False)
    monkeypatch.delenv("ZEUSD_HOST_PORT", raising=False)
    found = read_counters(tmp_path)
    assert isinstance(found, Unavailable)
    assert "intel-rapl:0/energy_uj" in found.reason
    assert "Zeus daemon" in found.reason


def test_where_reading_is_denied_the_daemon_is_asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Cpus:
        def __len__(self) -> int:
            return 1

        def get_total_energy_consumption(self, index: int) -> SimpleNamespace:
            return SimpleNamespace(cpu_mj=5000.0, dram_mj=None)

    tree(tmp_path, "no-dram", 0)
    denied(monkeypatch)
    monkeypatch.setenv("ZEUSD_SOCK_PATH", "/run/zeusd.sock")
    monkeypatch.setattr(counters, "_zeus", lambda getter: Cpus())
    found = read_counters(tmp_path)
    assert isinstance(found, EnergyCounters)
    assert found.energy_uj == {"package-0 (zeusd)": 5_000_000}


def test_zeus_counts_the_same_on_the_same_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Package and memory of a socket by Zeus's own reader, without its polling process; ours must agree."""
    rapl = pytest.importorskip("zeus.device.cpu.rapl")
    monkeypatch.setattr(rapl, "RaplWraparoundTracker", lambda *_: SimpleNamespace(get_num_wraparounds=lambda: 0))
    found = []
    for place in (0, 1):
        zones = tree(tmp_path, "no-dram", place)
        dram = zones / "intel-rapl:0" / "intel-rapl:0:1"  # Zeus looks below the package, sysfs shows both places
        dram.mkdir(exist_ok=True)
        for name, text in (
            ("name", "dram"),
            ("energy_uj", str(7 + 900_000 * place)),
            ("max_energy_range_uj", "65712999613"),
        ):
            (dram / name).write_text(text)
        if not (zones / "intel-rapl:0:1").exists():
            (zones / "intel-rapl:0:1").symlink_to(dram)
        theirs = rapl.RAPLCPU(0, str(zones)).get_total_energy_consumption()
        found.append((theirs, read_counters(zones)))
    (first, ours), (last, later) = found
    joules = (last.cpu_mj - first.cpu_mj + last.dram_mj - first.dram_mj) / 1000
    assert later.since(ours) == pytest.approx(joules)
    assert math.isclose(joules, 3.9)


def test_real_counters_of_this_host_move_forward() -> None:
    first = read_counters()
    if isinstance(first, Unavailable):
        pytest.skip(f"no energy counter here: {first.reason}")
    np.linalg.svd(np.random.default_rng(0).standard_normal((400, 400)))
    later = read_counters()
    assert isinstance(later, EnergyCounters)
    assert later.since(first) > 0
