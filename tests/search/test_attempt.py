"""One candidate in isolation: whatever goes wrong ends that candidate alone, with its reason."""

from __future__ import annotations

import dataclasses
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

import tiny_models
from steelyard.errors import StorageFull
from steelyard.measure.process import Limits
from steelyard.measure.turns import TurnSettings
from steelyard.measure.weigh import WeighSettings
from steelyard.probe.host import environment
from steelyard.records import Comparison, Measurement, Plan, Prediction, Sample, Step, Trial
from steelyard.search import attempt as module
from steelyard.search.attempt import Rival, Workshop, attempt, build
from steelyard.search.bounds import QualityBound
from steelyard.subject.artifact import read_artifact, write_manifest

OPENVINO = Step(name="openvino")


def _does(what: str) -> Plan:
    return Plan(steps=(Step(name="wayward", options=(("does", what),)), OPENVINO))


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    root = tmp_path_factory.mktemp("shop")
    return Workshop(
        root=root,
        baseline=tiny_models.onnx_artifact(root / "baseline").folder,
        inputs=tiny_models.write_inputs(root / "inputs.npy"),
        data=tiny_models.write_data(root / "data", ("validation", "calibration")),
        host=environment(),
        weigh=WeighSettings(warm_s=0.01, latency_s=0.02, sweep=(2,), sweep_s=0.01, operator_runs=2, split="validation"),
        turns=TurnSettings(rounds=1, slots=4, slot_s=0.002, warm_s=0.01),
        limits=Limits(seconds=60),
    )


@pytest.fixture(scope="module")
def rival(shop: Workshop) -> Iterator[Rival]:
    with Rival(shop) as running:
        yield running


@pytest.fixture
def wayward(monkeypatch: pytest.MonkeyPatch) -> None:
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")])))
    monkeypatch.setattr(module, "BUILDER", "builders:Wayward")


def _weighed(trial: Trial) -> None:
    assert trial.refusal is None, trial.refusal
    assert trial.after is not None
    assert trial.comparison is not None


@pytest.mark.slow
def test_a_candidate_is_built_weighed_and_timed_against_the_baseline(shop: Workshop, rival: Rival) -> None:
    plan = Plan(steps=(OPENVINO,))
    prediction = Prediction(plan=plan, gain=2.0, ceiling=4.0, minutes=0.1, because="fewer dispatches")
    steps: list[str] = []
    trial = attempt(plan, shop, rival, prediction, steps.append)
    _weighed(trial)
    assert trial.prediction == prediction
    assert trial.wall_s > 0
    assert steps[0] == "building"
    assert steps.index("taking turns with the baseline") < steps.index("quality on validation")
    assert trial.artifact is not None
    artifact = read_artifact(shop.root / trial.artifact)
    assert artifact.plan == plan
    assert trial.after is not None
    assert trial.after.subject == artifact.fingerprint()
    made = trial.after.on("validation")
    assert made is not None
    validation = tiny_models.data().validation
    expected = tiny_models.logits(validation.inputs(tiny_models.CONTRACT)).argmax(axis=1)
    np.testing.assert_array_equal(made.predicted, expected)
    assert trial.comparison is not None
    assert trial.comparison.arms == ("baseline", str(plan))
    assert (trial.comparison.seconds > 0).all()
    assert isinstance(trial.after.get("latency_s", batch=1), Sample)
    assert rival.start_s > 0


@pytest.mark.slow
def test_a_candidate_too_slow_to_win_is_not_weighed_further(shop: Workshop, rival: Rival) -> None:
    seen: list[Comparison] = []
    steps: list[str] = []

    def contends(_after: Measurement, comparison: Comparison) -> bool:
        seen.append(comparison)
        return False

    trial = attempt(Plan(steps=(OPENVINO,)), shop, rival, None, steps.append, contends)
    _weighed(trial)
    assert seen == [trial.comparison]
    assert steps[-1] == "taking turns with the baseline"
    assert trial.after is not None
    assert trial.after.predictions == trial.after.all("throughput_per_s") == trial.after.all("macs") == ()
    for quantity in ("stored_bytes", "memory_running_bytes", "load_s"):
        assert isinstance(trial.after.get(quantity), Sample)


@pytest.mark.slow
@pytest.mark.usefixtures("wayward")
@pytest.mark.parametrize(
    ("what", "limits", "kind", "reason"),
    [
        ("raises", Limits(seconds=60), "error", "KeyError: 'layer3'"),
        ("refuses", Limits(seconds=60), "cannot-apply", "no convolutions here"),
        ("lacks", Limits(seconds=60), "missing-extra", r"steelyard\[openvino\]"),
        ("crashes", Limits(seconds=60), "crash", "SIGSEGV"),
        ("hangs", Limits(seconds=3), "timeout", "no answer within 3 s"),
        ("eats", Limits(seconds=60, memory_bytes=400_000_000), "out-of-memory", r"the limit is 0\.4 GB"),
    ],
)
def test_whatever_goes_wrong_refuses_this_candidate_alone(
    shop: Workshop, what: str, limits: Limits, kind: str, reason: str
) -> None:
    limited = dataclasses.replace(shop, limits=limits)
    with Rival(limited) as rival:
        trial = attempt(_does(what), limited, rival, None)
    assert trial.after is trial.comparison is trial.artifact is None
    assert trial.refusal is not None
    assert trial.refusal.kind == kind
    assert re.search(reason, trial.refusal.reason)
    assert "\n" not in trial.refusal.reason
    with Rival(shop) as rival:  # and the next one works
        _weighed(attempt(_does("nothing"), shop, rival, None))


@pytest.mark.slow
@pytest.mark.usefixtures("wayward")
@pytest.mark.parametrize(
    ("what", "limits", "kind", "reason"),
    [
        ("forks", Limits(seconds=60, threads=200), "threads", "the limit is 200, so it was stopped"),
        ("threads", Limits(seconds=60, threads=400), "threads", "the limit is 400, so it was stopped"),
        ("fills_the_disk", Limits(seconds=60), "disk-full", "no room"),
        ("finds_it_full", Limits(seconds=60), "disk-full", "No space left on device"),
    ],
)
def test_what_takes_too_much_ends_while_it_is_built(
    shop: Workshop, rival: Rival, what: str, limits: Limits, kind: str, reason: str
) -> None:
    trial = attempt(_does(what), dataclasses.replace(shop, limits=limits), rival, None)
    assert trial.refusal is not None
    assert trial.refusal.kind == kind
    assert re.search(reason, trial.refusal.reason)
    assert not list((shop.root / "artifacts").glob("*.part"))  # what it left half made takes no room


def test_an_unknown_technique_is_refused_with_the_known_ones(shop: Workshop, rival: Rival) -> None:
    trial = attempt(Plan(steps=(Step(name="prun"),)), shop, rival, None)
    assert trial.refusal is not None
    assert trial.refusal.kind == "error"
    assert "unknown technique 'prun'" in trial.refusal.reason


def test_outputs_that_changed_on_disk_are_refused_as_parity(shop: Workshop, rival: Rival) -> None:
    plan = Plan(steps=(OPENVINO, OPENVINO))
    folder = build(plan, shop)
    with np.load(folder / "parity.npz") as saved:
        content = dict(saved)
    np.savez(folder / "parity.npz", **{**content, "outputs": content["outputs"] + 1})
    trial = attempt(plan, shop, rival, None)
    assert trial.refusal is not None
    assert trial.refusal.kind == "parity"


def test_a_damaged_candidate_on_disk_is_refused(shop: Workshop, rival: Rival) -> None:
    plan = Plan(steps=(OPENVINO, OPENVINO, OPENVINO))
    (build(plan, shop) / "model.xml").write_text("not a model")
    trial = attempt(plan, shop, rival, None)
    assert trial.refusal is not None
    assert trial.refusal.kind == "error"


@pytest.mark.slow
def test_a_rival_that_was_lost_is_started_again(shop: Workshop) -> None:
    plan = Plan(steps=(OPENVINO,))
    with Rival(shop) as rival:
        lost = rival.child().pid
        os.kill(lost, signal.SIGKILL)
        while psutil.Process(lost).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        first = attempt(plan, shop, rival, None)
        second = attempt(plan, shop, rival, None)
        assert rival.child().pid != lost
    _weighed(first)  # it is no fault of the candidate's
    _weighed(second)


def test_a_rival_that_cannot_start_leaves_no_process(shop: Workshop, tmp_path: Path) -> None:
    broken = tiny_models.onnx_artifact(tmp_path / "broken", tail="Sqrt")
    bad = dataclasses.replace(shop, baseline=broken.folder)
    before = {p.pid for p in psutil.Process().children()}
    with Rival(bad) as rival, pytest.raises(Exception, match="NaN"):
        rival.child()
    assert {p.pid for p in psutil.Process().children()} <= before


def test_a_full_disk_is_not_a_refusal(shop: Workshop, rival: Rival, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> Path:
        raise StorageFull("no space left")

    monkeypatch.setattr(module, "build", full)
    with pytest.raises(StorageFull):
        attempt(Plan(steps=(OPENVINO,)), shop, rival, None)


# --- bounds ------------------------------------------------------------------------------------------------


def _bound(most: float) -> QualityBound:
    validation = tiny_models.data().validation
    right = tiny_models.logits(validation.inputs(tiny_models.CONTRACT)).argmax(axis=1) == validation.labels
    return QualityBound(text=f"accuracy drop <= {most:g}", most=most, baseline=right)


@pytest.mark.slow
def test_a_candidate_that_a_sample_shows_to_fail_is_refused_there(shop: Workshop, tmp_path: Path) -> None:
    """The same net with the answers of its last layer shuffled, against the baseline's own answers."""

    def shuffled(arrays: tiny_models.Arrays) -> tiny_models.Arrays:
        return {**arrays, "5.weight": arrays["5.weight"][::-1].copy(), "5.bias": arrays["5.bias"][::-1].copy()}

    source = tiny_models.write_onnx(tmp_path / "baseline" / "model.onnx", head=shuffled)
    artifact = dataclasses.replace(read_artifact(shop.baseline), folder=source.parent, file=source.name)
    write_manifest(artifact)
    spoiled = dataclasses.replace(shop, root=tmp_path, baseline=source.parent)
    with Rival(spoiled) as rival:
        trial = attempt(Plan(steps=(OPENVINO,)), spoiled, rival, None, bounds=[_bound(0.01)])
    assert trial.refusal is not None
    assert trial.refusal.kind == "hopeless"
    assert trial.refusal.reason == "64 of 360 validation examples show that it misses accuracy drop <= 0.01 (p < 0.01)"
    assert trial.after is None
    assert trial.comparison is not None  # its speed is known all the same


@pytest.mark.slow
def test_a_candidate_that_is_as_good_passes_its_bounds(shop: Workshop, rival: Rival) -> None:
    _weighed(attempt(Plan(steps=(OPENVINO,)), shop, rival, None, bounds=[_bound(0.01)]))
