"""A cluster of Ray: what travels, who does what, and one thing at a time on each machine."""

from __future__ import annotations

import dataclasses
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import scripted_shop as scripted
import tiny_models
from steelyard.errors import InvalidInput, MissingExtra
from steelyard.measure.process import Limits
from steelyard.measure.turns import TurnSettings
from steelyard.measure.weigh import WeighSettings
from steelyard.probe.host import environment
from steelyard.records import Plan, Step, Trial
from steelyard.search import cluster
from steelyard.search.attempt import Rival, Workshop
from steelyard.search.cluster import Cluster, machine_lock
from steelyard.search.crew import Alone, Errand

OPENVINO, NCHW = Plan(steps=(Step(name="openvino"),)), Plan(steps=(Step(name="channels_last"),))


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    root = tmp_path / "run"
    data = tiny_models.write_data(root / "data", ("validation", "calibration"))
    return Workshop(
        root=root,
        baseline=tiny_models.onnx_artifact(root / "baseline").folder,
        inputs=tiny_models.write_inputs(root / "data" / "inputs.npy"),
        data=data,
        host=environment(),
        weigh=WeighSettings(warm_s=0.01, latency_s=0.02, sweep=(2,), sweep_s=0.01, operator_runs=2, split="validation"),
        turns=TurnSettings(rounds=1, slots=4, slot_s=0.002, warm_s=0.01),
        limits=Limits(seconds=60),
    )


def _errand(plan: Plan, said: list[str] | None = None) -> Errand:
    return Errand(plan=plan, prediction=None, contends=lambda *_: True, say=(said if said is not None else []).append)


def test_on_one_machine_one_thing_happens_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(tmp_path))
    inside, most = 0, 0

    def work() -> None:
        nonlocal inside, most
        with machine_lock():
            inside += 1
            most = max(most, inside)
            time.sleep(0.01)
            inside -= 1

    crew = [threading.Thread(target=work) for _ in range(4)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    assert most == 1


def test_the_kit_brings_the_workshop_to_another_machine(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(elsewhere))
    kit = cluster._pack(shop.root, ("baseline", "data"))
    there = cluster._settled(shop, kit)
    assert there.root.parent == elsewhere
    for name in ("baseline", "inputs", "data"):
        moved, here = getattr(there, name), getattr(shop, name)
        assert moved.relative_to(there.root) == here.relative_to(shop.root)
        assert moved.exists()
    assert cluster._settled(shop, kit).root == there.root  # unpacked once


@pytest.mark.slow
@pytest.mark.parametrize("alike", [True, False])
def test_a_machine_like_this_one_weighs_and_another_builds_alone(
    shop: Workshop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, alike: bool
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(elsewhere))
    host = shop.host if alike else dataclasses.replace(shop.host, machine="another")
    kit = cluster._pack(shop.root, ("baseline", "data"))
    done = cluster._tried(_errand(OPENVINO), dataclasses.replace(shop, host=host), kit, here=False)
    assert (done.trial is not None) == alike
    assert done.made is not None
    cluster._unpack(done.made, shop.root)
    (made,) = (shop.root / "artifacts").iterdir()
    assert (made / "manifest.json").is_file()
    if alike:
        assert done.trial is not None
        assert done.trial.artifact == f"artifacts/{made.name}"


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra, match="ray"):
        cluster.load_ray()


def _ray_or_skip() -> None:
    try:
        cluster.load_ray()
    except InvalidInput as error:
        pytest.skip(str(error))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_candidates_are_tasks_of_a_real_cluster(shop: Workshop) -> None:
    _ray_or_skip()
    said: list[str] = []
    with Rival(shop) as rival, Cluster(shop, Alone(shop, rival), "local") as crew:
        assert crew.free
        crew.start(_errand(OPENVINO, said))
        assert list(crew.busy) == [OPENVINO]
        assert not crew.free
        trial = crew.finish()
        assert crew.free
        crew.start(_errand(NCHW))
        refused = crew.finish()
    assert said == ["on this machine"]
    assert trial.refusal is None, trial.refusal
    assert trial.after is not None
    assert (shop.root / str(trial.artifact) / "manifest.json").is_file()
    assert refused.refusal is not None
    assert refused.refusal.kind == "cannot-apply"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_cluster_that_does_not_answer_is_one_line(shop: Workshop) -> None:
    _ray_or_skip()
    with Rival(shop) as rival, pytest.raises(InvalidInput, match="ray start --head"):
        Cluster(shop, Alone(shop, rival), "auto")


class _Ray:
    """As much of Ray as the cluster asks for: three machines, and tasks that are done when they are waited for."""

    def __init__(self, gives: dict[str, Any]) -> None:
        self._gives = gives
        self.sent: list[tuple[str, str]] = []
        self.cancelled: list[str] = []

    exceptions = SimpleNamespace(RayError=type("RayError", (Exception,), {}))
    util = SimpleNamespace(
        scheduling_strategies=SimpleNamespace(NodeAffinitySchedulingStrategy=lambda node, soft: node)
    )

    def init(self, **_words: Any) -> None: ...

    def shutdown(self) -> None: ...

    def get_runtime_context(self) -> Any:
        return SimpleNamespace(get_node_id=lambda: "here")

    def put(self, content: bytes) -> bytes:
        return content

    def nodes(self) -> list[dict[str, Any]]:
        return [{"NodeID": n, "Alive": n != "dead"} for n in ("here", "one", "two", "dead")]

    def remote(self, _task: Any) -> Any:
        outer = self

        class Task:
            def options(self, scheduling_strategy: str, **_words: Any) -> Any:
                self.node = scheduling_strategy
                return self

            def remote(self, errand: Errand, *_arguments: Any, here: bool) -> str:
                assert here == (self.node == "here")
                outer.sent.append((self.node, str(errand.plan)))
                return str(errand.plan)

        return Task()

    def wait(self, tasks: list[str], num_returns: int) -> tuple[list[str], list[str]]:
        return tasks[:num_returns], tasks[num_returns:]

    def get(self, task: str) -> Any:
        found = self._gives[task]
        if isinstance(found, Exception):
            raise found
        return found

    def cancel(self, task: str, force: bool) -> None:
        self.cancelled.append(task)


def test_each_machine_gets_one_and_losing_one_ends_its_candidate_alone(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [Plan(steps=(Step(name=name),)) for name in ("a", "b", "c", "d")]
    trial = scripted.trial(plans[0], 2.0)
    ray = _Ray(
        {
            "a": cluster._Done(trial=trial, made=None),
            "b": _Ray.exceptions.RayError("the node died\nat length"),
            "c": cluster._Done(trial=None, made=None),
        }
    )
    monkeypatch.setattr(cluster, "load_ray", lambda: ray)
    local = Trial(plan=plans[2], wall_s=1.0)

    class Here:
        def start(self, errand: Errand) -> None:
            assert errand.plan == plans[2]

        def finish(self) -> Trial:
            return local

    with Cluster(shop, Here(), "auto") as crew:  # type: ignore[arg-type]
        for plan in plans[:3]:
            assert crew.free
            crew.start(_errand(plan))
        assert not crew.free
        assert {node for node, _ in ray.sent} == {"here", "one", "two"}
        assert ray.sent[-1][0] == "here"  # others first: this one has more to do
        ended = [crew.finish() for _ in range(3)]
        crew.start(_errand(plans[3]))
    assert ended[0] is trial
    assert ended[1].refusal is not None
    assert ended[1].refusal.reason == "its machine or its task was lost: the node died"
    assert ended[2] is local  # what an unlike machine has built is weighed here
    assert ray.cancelled == ["d"]
