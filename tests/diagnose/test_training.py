"""The diagnosis on scripted records, and a small form of `benchmarks/training_faults.py`."""

import dataclasses

import numpy as np
import pytest
import torch
from benchmarks.training_faults import CASES, named, right
from hypothesis import given
from hypothesis import strategies as st

from steelyard.diagnose.training import diagnose_training, loader_advice
from steelyard.records import Overlap
from watched_training import ENVIRONMENT, watched, with_phases, with_reading


def names(found, **words):
    return {finding.name for finding in diagnose_training(found, **words)}


def replaced(**changes):
    return dataclasses.replace(watched(), **changes)


def late(values, at):
    """The loss of a healthy training with these values put in."""
    loss = watched().loss.copy()
    loss[at] = values
    return replaced(loss=loss)


def worse(*, start=60, rise=0.03):
    """Validation losses that rise from the middle on."""
    held = watched().scores["validation_loss"].copy()
    held[len(held) // 2 :] += rise * start * np.arange(1, len(held) - len(held) // 2 + 1) / 10
    return {**watched().scores, "validation_loss": held}


def steep(ratio):
    norms = np.ones((12, 4))
    norms[:, 0] = ratio
    return norms


def dead(share):
    table = np.zeros((10, 2))
    table[:, 1] = share
    return table


def without(column):
    norms = np.ones((12, 4))
    norms[:, column] = np.nan
    return norms


flat = np.full(120, 2.0) * np.random.default_rng(0).lognormal(0, 0.01, 120)
noisy = np.abs(watched().loss + np.random.default_rng(0).normal(0, 0.5, 120))

PLANTED = {
    "data-bound": with_phases(watched(), data=0.02),
    "communication-bound": with_phases(watched(), communication=0.01),
    "optimiser-bound": with_phases(watched(), optimiser=0.01),
    "dispatch-bound": with_reading(watched(), "forward_operators", 400.0),
    "under-filled-batch": replaced(examples=np.full(120, 2)),
    "evaluation-bound": replaced(outside_s=np.full(10, 0.5)),
    "rate-too-high": late([np.nan], [50]),
    "unstable-loss": replaced(loss=noisy),
    "rate-too-low": replaced(loss=flat, updates=np.full((12, 4), 1e-6)),
    "under-fitting": replaced(loss=flat),
    "over-fitting": replaced(scores=worse()),
    "exploding-gradients": replaced(gradient_norms=steep(1e6)),
    "vanishing-gradients": replaced(gradient_norms=steep(1e-6)),
    "dead-units": replaced(dead_share=dead(0.9)),
    "gradients-kept": with_reading(watched(), "kept_gradients_share", 1.0),
    "layers-without-gradient": replaced(gradient_norms=without(1)),
    "evaluation-mode": with_reading(watched(), "evaluation_mode", 1.0),
    "imbalance": replaced(label_counts=(1000, 10)),
    "unshuffled": with_reading(watched(), "batch_classes", 1.0),
    "unscaled-inputs": with_reading(watched(), "input_rms", 140.0),
}


def test_a_healthy_training_has_no_finding():
    assert names(watched()) == set()


@pytest.mark.parametrize("fault", PLANTED)
def test_a_planted_fault_is_the_only_finding(fault):
    assert names(PLANTED[fault]) == {fault}


def test_overlaps_with_training_are_a_leak_and_others_are_not():
    overlap = Overlap(split="validation", other="train", count=3)
    assert names(watched(), overlaps=[overlap]) == {"leak"}
    assert names(watched(), overlaps=[Overlap(split="test", other="validation", count=3)]) == set()


def test_a_training_that_has_hardly_begun_is_not_judged():
    assert diagnose_training(watched(steps=3, per_epoch=1)) == ()


def test_a_run_that_diverged_is_named_though_its_last_loss_was_never_told():
    assert names(replaced(ended="diverged: the loss became nan")) == {"rate-too-high"}


@pytest.mark.parametrize("fault", PLANTED)
def test_every_finding_has_evidence_and_something_to_try(fault):
    (finding,) = diagnose_training(PLANTED[fault])
    assert finding.claim
    assert all(np.isfinite(value) for value in finding.evidence.values())
    assert all(tried.technique and tried.because and tried.gain >= 1 for tried in finding.ceilings)
    assert finding.ceilings


def simulated(made_s, rest_s, workers, steps=400):
    """Wait of a step where `workers` make batches, each in `made_s`, as a queue in order: the k-th batch is made by
    worker k mod workers, and begun when two batches a worker or fewer are waiting."""
    free, done, asked = [0.0] * workers, [], []
    now = 0.0
    waits = []
    for step in range(steps):
        for ahead in range(len(done), step + 2 * workers):
            worker = ahead % workers
            begin = max(free[worker], now)
            free[worker] = begin + made_s
            done.append(free[worker])
        asked.append(now)
        ready = max(now, done[step])
        waits.append(ready - now)
        now = ready + rest_s
    return float(np.mean(waits[steps // 4 :]))


@given(st.floats(0.5, 20), st.floats(1, 20))
def test_the_advised_workers_take_the_wait_out_of_a_simulated_loader(made_ms, rest_ms):
    """Examples that are waited for need no cores, so as many workers as the formula asks for do it."""
    found = with_phases(watched(), data=1e-3 * made_ms, forward=1e-3 * rest_ms, backward=0, optimiser=0, other=0)
    advice = loader_advice(with_reading(found, "loader_busy_share", 0.0))
    assert not advice.cache
    assert advice.left_s == 0
    assert simulated(1e-3 * made_ms, 1e-3 * rest_ms, advice.num_workers) < 0.2e-3 * made_ms


def test_what_the_processor_makes_is_bounded_by_its_cores_and_left_to_a_cache():
    found = with_phases(watched(), data=0.1, forward=0.005)
    advice = loader_advice(with_reading(found, "loader_busy_share", 1.0))
    assert advice.num_workers == ENVIRONMENT.cores - 1
    assert advice.cache
    assert advice.left_s == pytest.approx(simulated(0.1, advice_rest(found), 3), rel=0.02)


def advice_rest(found):
    return float(found.phases_s.sum(axis=1)[20:].mean() - 0.1)


def test_workers_that_are_waited_for_tell_what_a_batch_takes():
    """With two workers and a step of 20 ms that mostly waits, a batch takes 40 ms to make."""
    found = with_phases(watched(), data=0.015, forward=0.005, backward=0, optimiser=0, other=0)
    advice = loader_advice(dataclasses.replace(found, loader={"num_workers": 2}))
    assert advice.made_s == pytest.approx(0.04)


def test_gains_are_by_amdahl():
    (finding,) = diagnose_training(PLANTED["optimiser-bound"])
    share = finding.evidence["optimiser_share"]
    assert finding.ceilings[0].gain == pytest.approx(1 / (1 - 0.6 * share))
    assert finding.ceilings[0].ceiling == pytest.approx(1 / (1 - share))


QUICK = {
    "eight sigmoids", "biases far under zero", "a rate of 20", "a rate of 0.000001", "one class in fifty", "examples in order",
    "gradients never cleared", "validation seen in training", "a wide layer, SGD",
}  # fmt: skip


@pytest.mark.parametrize("case", [c for c in CASES if c.name in QUICK], ids=lambda case: case.name)
def test_real_trainings_with_planted_faults_and_healthy_ones(case):
    """Those whose findings do not depend on how fast the machine is."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found, _ = named(case)
    finally:
        torch.set_num_threads(threads)
    speed = {"data-bound", "optimiser-bound", "dispatch-bound", "under-filled-batch", "evaluation-bound"}
    assert right(case, [name for name in found if name not in speed])
