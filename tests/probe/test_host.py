"""Host description and pressure, read from fixture trees with known content."""

import os
import sys
from pathlib import Path

import pytest

from steelyard.probe import host

CPUINFO = """\
processor\t: 0
model name\t: Intel(R) Xeon(R) Processor @ 2.50GHz
flags\t\t: fpu sse4_2 avx avx2 fma f16c avx512f avx512_vnni hypervisor
"""


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


@pytest.fixture
def version_2(tmp_path: Path) -> Path:
    return write(
        tmp_path,
        {
            "proc/cpuinfo": CPUINFO,
            "proc/meminfo": "MemTotal:       8000000 kB\nMemFree: 1 kB\n",
            "proc/self/cgroup": "0::/box/inner\n",
            "proc/loadavg": "0.25 0.5 0.75 1/80 99\n",
            "proc/stat": "cpu  100 10 20 800 5 0 5 60 40 0\ncpu0 1 2 3\n",
            "sys/fs/cgroup/box/cpu.max": "100000 100000\n",
            "sys/fs/cgroup/box/memory.max": "1000000000\n",
            "sys/fs/cgroup/box/inner/memory.max": "max\n",
            "sys/fs/cgroup/box/inner/cpu.stat": "usage_usec 5\nnr_periods 9\nnr_throttled 3\nthrottled_usec 2500000\n",
        },
    )


def test_environment_honours_quota_and_limits_of_ancestors(version_2: Path):
    found = host.environment((), root=version_2)
    assert found.cores == 1
    assert found.memory_bytes == 1_000_000_000
    assert found.cpu == "Intel(R) Xeon(R) Processor @ 2.50GHz"
    assert found.instruction_sets == ("sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni")


def test_environment_reads_version_1_limits(tmp_path: Path):
    root = write(
        tmp_path,
        {
            "proc/cpuinfo": "Features\t: fp asimd sve i8mm bf16\n",
            "proc/meminfo": "MemTotal: 4000 kB\n",
            "proc/self/cgroup": "4:memory:/job\n1:cpu,cpuacct:/job\n",
            "sys/fs/cgroup/memory/job/memory.limit_in_bytes": "9223372036854771712\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_quota_us": "-1\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/cpu,cpuacct/job/cpu.stat": "nr_throttled 2\nthrottled_time 1500000000\n",
            "proc/stat": "cpu 1 0 0 9 0 0 0 0\n",
        },
    )
    found = host.environment((), root=root)
    assert found.memory_bytes == 4000 * 1024
    assert found.cores == len(os.sched_getaffinity(0))
    assert found.instruction_sets == ("neon", "i8mm", "bf16", "sve")
    assert host.load_now(root).throttled_s == 1.5


def test_a_machine_has_one_fingerprint_and_another_machine_another(version_2: Path):
    first, second = (host.environment((), root=version_2) for _ in range(2))
    assert first.machine == second.machine
    write(version_2, {"proc/cpuinfo": CPUINFO.replace("avx512_vnni", "amx_int8")})
    assert host.environment((), root=version_2).machine != first.machine


def test_packages_are_found_without_importing_them_and_missing_ones_left_out():
    before = set(sys.modules)
    found = host.environment(["numpy", "no-such-package"])
    assert set(found.packages) == {"numpy"}
    assert "torch" not in set(sys.modules) - before


def test_pressure_counts_steal_without_counting_guest_time_twice(version_2: Path):
    pressure = host.load_now(version_2)
    assert pressure.steal_share == pytest.approx(60 / 1000)
    assert pressure.throttled_s == 2.5
    assert pressure.throttled_periods == 3
    assert pressure.load_average == 0.25


def test_pressure_since_flags_steal_and_throttling(version_2: Path):
    earlier = host.load_now(version_2)
    write(
        version_2,
        {
            "proc/stat": "cpu  200 10 20 1600 5 0 5 160 40 0\n",
            "sys/fs/cgroup/box/inner/cpu.stat": "nr_throttled 5\nthrottled_usec 3000000\n",
        },
    )
    during = host.load_now(version_2).since(earlier)
    assert during.steal_share == pytest.approx(100 / 1000)
    assert during.throttled_s == pytest.approx(0.5)
    assert during.flags() == ("steal 10.0%", "throttled 2 times")
    assert earlier.since(earlier).flags() == ()


def test_pressure_survives_a_machine_that_tells_nothing(tmp_path: Path):
    pressure = host.load_now(tmp_path)
    assert pressure.throttled_s is None
    assert pressure.since(pressure).throttled_periods is None
    assert pressure.steal_share == 0
