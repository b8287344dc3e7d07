"""Candidates spread over a Ray cluster, one to a machine; on each machine one thing at a time.

A machine like the one that the run was begun on builds, times and weighs its candidate, against a baseline of its own. An
unlike one builds alone: its artifact comes back and is weighed here, for numbers of unlike machines are not compared.
Whatever builds or measures holds the machine's lock, which the kernel gives back should its holder die; so no two
candidates disturb each other's times, not even those of two runs.
"""

from __future__ import annotations

import dataclasses
import fcntl
import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from steelyard.errors import InvalidInput, MissingExtra, SteelyardError
from steelyard.probe.host import environment
from steelyard.records import Plan, Refusal, Trial
from steelyard.search.attempt import Rival, Workshop, attempt, build
from steelyard.search.crew import Crew, Errand

__all__ = ["Cluster", "load_ray", "machine_lock"]

_PACKED = ("baseline", "data")


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Done:
    """A trial, or None where this machine may only build; and the artifacts that were made, unless they are here already."""

    trial: Trial | None
    made: bytes | None


class Cluster:
    """As many candidates at once as the cluster has machines.

    ``address`` is ``auto`` for the cluster that this machine belongs to, ``local`` for one of this machine alone, or where its
    head is. Raises `MissingExtra` without Ray, `InvalidInput` where no cluster answers.
    """

    def __init__(self, shop: Workshop, alone: Crew, address: str) -> None:
        self._ray = ray = load_ray()
        self._shop, self._alone = shop, alone
        _connect(ray, address)
        self._here = str(ray.get_runtime_context().get_node_id())
        self._kit = ray.put(_pack(shop.root, _PACKED))
        self._flying: dict[Any, tuple[Errand, str]] = {}  # by the task's reference: what it does, and on which machine

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._flying:
            self._ray.cancel(task, force=True)
        self._ray.shutdown()

    @property
    def busy(self) -> Collection[Plan]:
        """The plans in hand."""
        return tuple(errand.plan for errand, _ in self._flying.values())

    @property
    def free(self) -> bool:
        """Whether a machine stands idle."""
        return bool(self._idle())

    def start(self, errand: Errand) -> None:
        """Send the errand to an idle machine."""
        node = self._idle()[0]
        where = self._ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node, soft=False)
        task = self._ray.remote(_tried).options(scheduling_strategy=where, max_retries=0, num_cpus=1)
        errand.say(f"on {'this machine' if node == self._here else f'machine {node[:8]}'}")
        sent = dataclasses.replace(errand, say=_nothing)
        self._flying[task.remote(sent, self._shop, self._kit, here=node == self._here)] = (errand, node)

    def finish(self) -> Trial:
        """Wait for one; what an unlike machine has built is weighed here."""
        (ready,), _ = self._ray.wait(list(self._flying), num_returns=1)
        errand, _ = self._flying.pop(ready)
        try:
            done: _Done = self._ray.get(ready)
        except self._ray.exceptions.RayError as error:
            refusal = Refusal(
                kind="crash", reason=f"its machine or its task was lost: {str(error).splitlines()[0][:200]}"
            )
            return Trial(plan=errand.plan, refusal=refusal, prediction=errand.prediction)
        if done.made is not None:
            _unpack(done.made, self._shop.root)
        if done.trial is not None:
            return done.trial
        with machine_lock():
            self._alone.start(errand)
            return self._alone.finish()

    def _idle(self) -> list[str]:
        alive = [str(node["NodeID"]) for node in self._ray.nodes() if node["Alive"]]
        taken = {node for _, node in self._flying.values()}
        return sorted(set(alive) - taken, key=lambda node: node == self._here)  # others first: this one has more to do


def load_ray() -> Any:
    """The library; raises `MissingExtra` where it is not installed, `InvalidInput` where it breaks."""
    try:
        import ray
        import ray.util.scheduling_strategies
    except ImportError:
        raise MissingExtra("ray", needed_for="spreading candidates over a cluster") from None
    except Exception as error:  # Ray 2.60 breaks beside the package amdsmi on machines without AMD's library
        reason = f"{type(error).__name__}: {error}"
        raise InvalidInput(
            f"Ray is installed and does not start here ({reason[:150]}); where that tells of amdsmi, uninstall amdsmi, or "
            "leave out --ray"
        ) from None
    return ray


def _connect(ray: Any, address: str) -> None:
    words = {"log_to_driver": False, "logging_level": "error", "namespace": "steelyard", "include_dashboard": None}
    try:
        ray.init(**{**words, "include_dashboard": False} if address == "local" else {**words, "address": address})
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise InvalidInput(
            f"no Ray cluster answers to {address!r} ({str(error).splitlines()[0][:120]}): start one with `ray start --head`, or "
            "give --ray local"
        ) from None


@contextmanager
def machine_lock() -> Iterator[None]:
    """Held by whoever builds or measures on this machine; waits for it, and gives it back even if its holder is killed."""
    path = Path(tempfile.gettempdir()) / f"steelyard-{os.getuid()}.lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _nothing(_step: str) -> None:
    """What a task says is not heard."""


def _tried(errand: Errand, shop: Workshop, kit: bytes, *, here: bool) -> _Done:
    """The task: on the run's own machine in its own folder, elsewhere in a copy of what the run began with."""
    with machine_lock():
        if here:
            return _Done(trial=_weighed(errand, shop), made=None)
        there = _settled(shop, kit)
        trial = _weighed(errand, there) if environment().machine == shop.host.machine else None
        if trial is None:
            with suppress(SteelyardError):  # who weighs it tries again, and says why it fails
                build(errand.plan, there)
        return _Done(trial=trial, made=_pack(there.root, ("artifacts",)))


def _weighed(errand: Errand, shop: Workshop) -> Trial:
    with Rival(shop) as rival:
        return attempt(errand.plan, shop, rival, errand.prediction, errand.say, errand.contends, errand.bounds)


def _settled(shop: Workshop, kit: bytes) -> Workshop:
    """The workshop in a folder of this machine; unpacked once for all candidates of a run."""
    root = Path(tempfile.gettempdir()) / f"steelyard-{os.getuid()}-{hashlib.sha256(kit).hexdigest()[:16]}"
    if not root.exists():
        part = Path(tempfile.mkdtemp(dir=root.parent))
        _unpack(kit, part)
        part.rename(root)
    moved = {name: root / getattr(shop, name).relative_to(shop.root) for name in ("baseline", "inputs")}
    data = None if shop.data is None else root / shop.data.relative_to(shop.root)
    return dataclasses.replace(shop, root=root, data=data, shared=None, **moved)


def _pack(root: Path, names: Collection[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            if (root / name).exists():
                archive.add(root / name, arcname=name)
    return buffer.getvalue()


def _unpack(packed: bytes, root: Path) -> None:
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(root, filter="data")
