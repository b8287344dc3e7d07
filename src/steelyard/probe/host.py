"""Where numbers are taken: the machine's description, and the pressure it is under while it measures."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TypeVar

from steelyard.records import Environment

__all__ = ["INSTRUCTION_SETS", "PACKAGES", "Pressure", "clock_ghz", "environment", "load_now"]

# The sets that decide which data types are fast, and (vaes) that tell processor generations apart.
INSTRUCTION_SETS = (
    "sse4_2", "avx", "avx2", "fma", "f16c", "vaes", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16",
    "amx_tile", "amx_int8", "amx_bf16", "amx_fp16", "neon", "asimddp", "i8mm", "bf16", "sve", "sve2",
)  # fmt: skip
# The kernel's name for what the field calls otherwise.
_FLAG_NAMES = {"asimd": "neon", "avx512vnni": "avx512_vnni"}

PACKAGES = (
    "steelyard", "numpy", "torch", "torchvision", "safetensors", "onnx", "onnxruntime", "onnxscript", "openvino",
    "nncf", "scikit-learn", "scipy",
)  # fmt: skip

_Number = TypeVar("_Number", int, float)
_UNLIMITED = 1 << 60  # cgroup v1 writes a number near 2^63 for "no limit"


def environment(packages: Iterable[str] | None = None, *, root: Path = Path("/")) -> Environment:
    """Describe this machine as this process may use it.

    ``cores`` honours the affinity mask and the cgroup's CPU quota, ``memory_bytes`` the cgroup's limit.
    ``packages`` (default `PACKAGES`) are looked up by distribution metadata, without importing them; those
    not installed are left out. ``root`` is where ``proc`` and ``sys`` are found.
    """
    cpuinfo = _read(root / "proc/cpuinfo")
    cpu = _cpu_name(cpuinfo)
    cores, memory_bytes = _cores(root), _memory_bytes(root)
    sets, accelerators = _instruction_sets(cpuinfo), _accelerators()
    return Environment(
        machine=_fingerprint(cpu, cores, round(memory_bytes / 2**30), sets, accelerators),
        cpu=cpu,
        cores=cores,
        memory_bytes=memory_bytes,
        instruction_sets=sets,
        accelerators=accelerators,
        platform=platform.platform(),
        python=platform.python_version(),
        packages=_versions(PACKAGES if packages is None else packages),
        time=datetime.now(UTC).isoformat(timespec="seconds"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Pressure:
    """What else the machine was doing. Counters run since boot, or between two moments after `since`.

    ``throttled_s`` and ``throttled_periods`` are None where the cgroup keeps no such counters.
    """

    cpu_s: float  # processor time in all states, over all cores
    steal_s: float  # of it, time taken by the hypervisor for others
    throttled_s: float | None  # time this cgroup waited for its CPU quota
    throttled_periods: int | None
    involuntary_switches: int  # times this process was made to yield a core
    load_average: float  # runnable processes over the last minute, at the later moment
    busy_s: float = 0.0  # of `cpu_s`, time in which a core worked for some process

    @property
    def steal_share(self) -> float:
        """Share of processor time that the hypervisor took away, 0 to 1."""
        return self.steal_s / self.cpu_s if self.cpu_s > 0 else 0.0

    def since(self, earlier: Pressure) -> Pressure:
        """The counters' advance from `earlier` to now."""
        return Pressure(
            cpu_s=self.cpu_s - earlier.cpu_s,
            steal_s=self.steal_s - earlier.steal_s,
            throttled_s=_advance(self.throttled_s, earlier.throttled_s),
            throttled_periods=_advance(self.throttled_periods, earlier.throttled_periods),
            involuntary_switches=self.involuntary_switches - earlier.involuntary_switches,
            load_average=self.load_average,
            busy_s=self.busy_s - earlier.busy_s,
        )

    def flags(self, *, steal_limit: float = 0.02) -> tuple[str, ...]:
        """Reasons to flag what was measured meanwhile: steal above `steal_limit` (a share), or any throttling."""
        found = []
        if self.steal_share > steal_limit:
            found.append(f"steal {self.steal_share:.1%}")
        if self.throttled_periods:
            found.append(f"throttled {self.throttled_periods} times")
        return tuple(found)


def load_now(root: Path = Path("/")) -> Pressure:
    """Read the counters of ``/proc/stat``, ``/proc/loadavg`` and the cgroup's ``cpu.stat`` (version 1 or 2)."""
    jiffies = _cpu_jiffies(root)
    hertz = os.sysconf("SC_CLK_TCK")
    throttled_s, periods = _throttling(root)
    load = _read(root / "proc/loadavg").split()
    return Pressure(
        # guest time (fields 9 and 10) already stands inside user and nice
        cpu_s=sum(jiffies[:8]) / hertz,
        steal_s=(jiffies[7] if len(jiffies) > 7 else 0) / hertz,
        throttled_s=throttled_s,
        throttled_periods=periods,
        involuntary_switches=resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw,
        load_average=float(load[0]) if load else 0.0,
        busy_s=(sum(jiffies[:3]) + sum(jiffies[5:7])) / hertz,  # without idle, waiting for disks, and stolen time
    )


def clock_ghz(root: Path = Path("/")) -> float | None:
    """The clock in GHz of the fastest core this process may use, at this moment; None where the kernel does not say.

    A core at work holds its clock for some milliseconds, so the reading belongs to the work that just ended.
    """
    policies = (f"sys/devices/system/cpu/cpu{core}/cpufreq/scaling_cur_freq" for core in os.sched_getaffinity(0))
    kilohertz = [int(text) for path in policies if (text := _read(root / path).strip()).isdigit()]
    return max(kilohertz) / 1e6 if kilohertz else None


def _advance(now: _Number | None, before: _Number | None) -> _Number | None:
    return None if now is None or before is None else now - before


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError):
        return ""


def _cpu_name(cpuinfo: str) -> str:
    fields = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    names = {key.strip(): value.strip() for key, value in fields.items()}
    return names.get("model name") or names.get("Hardware") or platform.processor() or platform.machine()


def _instruction_sets(cpuinfo: str) -> tuple[str, ...]:
    lines = (line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    flags: set[str] = set()
    for key, value in lines:
        if key.strip() in ("flags", "Features"):
            flags |= {_FLAG_NAMES.get(flag, flag) for flag in value.split()}
    return tuple(name for name in INSTRUCTION_SETS if name in flags)


def _cores(root: Path) -> int:
    try:
        allowed = len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        allowed = os.cpu_count() or 1
    quota = _cpu_quota(root)
    return allowed if quota is None else max(1, min(allowed, round(quota)))


def _cpu_quota(root: Path) -> float | None:
    """Cores' worth of CPU time the cgroup may use, or None without a limit."""
    for folder in _cgroup_folders(root, "cpu"):
        words = _read(folder / "cpu.max").split()
        if not words:
            words = [_read(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
        if len(words) == 2 and words[0].isdigit() and words[1].isdigit():
            return int(words[0]) / int(words[1])
    return None


def _memory_bytes(root: Path) -> int:
    fields = dict(line.split(":", 1) for line in _read(root / "proc/meminfo").splitlines() if ":" in line)
    total = int(fields["MemTotal"].split()[0]) * 1024 if "MemTotal" in fields else 0
    limits = (
        _read(folder / name).strip()
        for folder in _cgroup_folders(root, "memory")
        for name in ("memory.max", "memory.limit_in_bytes")
    )
    bounds = [int(limit) for limit in limits if limit.isdigit() and int(limit) < _UNLIMITED]
    return min([total, *bounds]) if total else min(bounds, default=0)


def _cgroup_folders(root: Path, controller: str) -> list[Path]:
    """Folders that hold this process's limits: its own cgroup, then its ancestors, version 2 before version 1."""
    base = root / "sys/fs/cgroup"
    found = []
    for line in _read(root / "proc/self/cgroup").splitlines():
        hierarchy, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if hierarchy == "0":
            found += _upwards(base, path)
        elif controller in controllers.split(","):
            found += _upwards(base / controllers, path) + _upwards(base / controller, path)
    return found


def _upwards(base: Path, path: str) -> list[Path]:
    parts = [part for part in path.split("/") if part]
    return [base.joinpath(*parts[:length]) for length in range(len(parts), -1, -1)]


def _cpu_jiffies(root: Path) -> list[int]:
    first = _read(root / "proc/stat").partition("\n")[0].split()
    return [int(word) for word in first[1:]]


def _throttling(root: Path) -> tuple[float | None, int | None]:
    for folder in _cgroup_folders(root, "cpu"):
        words = dict(line.split() for line in _read(folder / "cpu.stat").splitlines() if len(line.split()) == 2)
        if "throttled_usec" in words:
            return int(words["throttled_usec"]) / 1e6, int(words["nr_throttled"])
        if "throttled_time" in words:  # version 1 counts nanoseconds
            return int(words["throttled_time"]) / 1e9, int(words["nr_throttled"])
    return None, None


def _accelerators() -> tuple[str, ...]:
    """Names of NVIDIA devices, through NVML; none where its library or driver is absent."""
    try:
        import pynvml

        pynvml.nvmlInit()
        handles = [pynvml.nvmlDeviceGetHandleByIndex(i) for i in range(pynvml.nvmlDeviceGetCount())]
        names = [pynvml.nvmlDeviceGetName(handle) for handle in handles]
    except Exception:  # a broken driver raises many kinds; describing the machine must not fail for it
        return ()
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in names)


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for name in packages:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def _fingerprint(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
