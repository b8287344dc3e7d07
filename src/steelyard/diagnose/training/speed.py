"""What takes a step's time: waiting for data, talking, the optimiser, operators too short, batches too small."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from steelyard.diagnose.training.common import finding, removed, share_of, tried
from steelyard.records import Finding, Scalar, Watched
from steelyard.report import numbers
from steelyard.report.training import breakdown, reading, step_seconds, value, warm
from steelyard.stats.roofline import SMALL_CALL

__all__ = ["SPEED", "LoaderAdvice", "loader_advice"]

WAITING = 0.2  # of the step: above it the loader is worth a look
TALKING = 0.3  # of the step in communication
STEPPING = 0.3  # of the step in the optimiser
JUDGING = 0.5  # time between epochs, by that of their steps
FEW = 8  # examples of a step that fill nothing


# --- the loader -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderAdvice:
    """Settings of a PyTorch `DataLoader` that take its wait out of the step, and what is left of the wait by the formula."""

    num_workers: int
    prefetch_factor: int
    persistent_workers: bool
    pin_memory: bool
    cache: bool  # keep what was read and decoded: more workers alone would not do, there are too few cores
    made_s: float  # making one batch takes, in one process
    wait_s: float  # of a step, now
    left_s: float  # of a step, then

    def settings(self) -> dict[str, Scalar]:
        """As keyword arguments."""
        return {
            "num_workers": self.num_workers,
            "prefetch_factor": self.prefetch_factor,
            "persistent_workers": self.persistent_workers,
            "pin_memory": self.pin_memory,
        }


def loader_advice(watched: Watched) -> LoaderAdvice | None:
    """How to load, or None where no wait was seen.

    A batch takes d to make and the rest of the step takes r. One process that makes batches between steps is waited for d; k that
    make them meanwhile are waited for max(0, d / k - r). So k = d / r rounded up, and one more because batches are not all
    alike. Making batches on the processor needs cores: only k = cores - 1 are counted on for that share of d in which the
    processor worked, and what they cannot take is left to a cache.
    """
    mean = {part.phase: part.seconds for part in breakdown(watched)}
    wait_s = mean.get("data", 0.0)
    rest_s = sum(mean.values()) - wait_s
    if not wait_s > 0 or not rest_s > 0:
        return None
    now = int(watched.loader.get("num_workers") or 0)
    made_s = (wait_s + rest_s) * now if now else wait_s  # workers that are waited for never rest
    busy = value(watched, "loader_busy_share")
    busy = 1.0 if busy is None else min(1.0, busy)
    cores = max(1, watched.environment.cores - 1)
    wanted = math.ceil(made_s / rest_s) + 1
    by_cores = max(1, math.floor(cores / busy)) if busy > 0.05 else wanted
    workers = min(wanted, by_cores)
    left_s = max(0.0, made_s / workers - rest_s)
    return LoaderAdvice(
        num_workers=workers,
        prefetch_factor=4 if workers < wanted else 2,
        persistent_workers=True,
        pin_memory=bool(watched.environment.accelerators),
        cache=left_s > 0.2 * wait_s,
        made_s=made_s,
        wait_s=wait_s,
        left_s=left_s,
    )


def _usual_wait(watched: Watched) -> float:
    """The share of the step that waits for data without the few longest waits: a busy machine makes some of any phase."""
    spent, column = watched.phases_s[warm(watched)], watched.phases.index("data")
    kept = np.argsort(spent[:, column])[: -max(2, len(spent) // 50)] if len(spent) > 8 else slice(None)
    return float(spent[kept, column].sum() / spent[kept].sum())


def data_bound(watched: Watched) -> Finding | None:
    advice = loader_advice(watched)
    share = share_of(watched, "data")
    if advice is None or min(share, _usual_wait(watched)) < WAITING:
        return None
    whole_s = advice.wait_s / share
    settings = ", ".join(f"{name}={shown}" for name, shown in advice.settings().items())
    gain = whole_s / (whole_s - advice.wait_s + advice.left_s)
    words = f"a batch takes {numbers.seconds(advice.made_s)} to make"
    tries = [tried(f"DataLoader({settings})", words, share=share, gain=gain, ceiling=removed(share))]
    if advice.cache:
        why = "these cores cannot make batches faster than they are used: keep what was decoded"
        caching = f"caching decoded examples, in memory or memory-mapped, with num_workers={advice.num_workers}"
        tries.insert(0, tried(caching, why, share=share, gain=removed(share, 0.1), ceiling=removed(share)))
    claim = f"{share:.0%} of the step waits for data: {numbers.seconds(advice.wait_s)} of {numbers.seconds(whole_s)}"
    evidence = {
        "wait_s": advice.wait_s,
        "step_s": whole_s,
        "made_s": advice.made_s,
        "workers_now": float(watched.loader.get("num_workers") or 0),
        "workers_advised": float(advice.num_workers),
        "wait_left_s": advice.left_s,
    }
    return finding("data-bound", claim, evidence, *tries)


# --- the step ---------------------------------------------------------------------------------


def communication(watched: Watched) -> Finding | None:
    share = share_of(watched, "communication")
    if share < TALKING:
        return None
    return finding(
        "communication-bound",
        f"{share:.0%} of the step goes to exchanging gradients",
        {"communication_share": share},
        tried(
            "accumulating gradients over more batches", "half as many exchanges", share=share, gain=removed(share, 0.5)
        ),
        tried(
            "exchanging in bf16", "half as many bytes", share=share, gain=removed(share, 0.5), ceiling=removed(share)
        ),
    )


def optimiser_bound(watched: Watched) -> Finding | None:
    share = share_of(watched, "optimiser")
    if share < STEPPING:
        return None
    words = "one kernel for all weights in the place of some for each"
    return finding(
        "optimiser-bound",
        f"{share:.0%} of the step goes to the optimiser",
        {"optimiser_share": share},
        tried("a fused optimiser (fused=True)", words, share=share, gain=removed(share, 0.4), ceiling=removed(share)),
        tried(
            "a larger batch", "the optimiser's time is the same for any batch", share=share, gain=removed(share, 0.5)
        ),
    )


def dispatch_bound(watched: Watched) -> Finding | None:
    """Operators shorter than `SMALL_CALL` dispatches are mostly fixed cost; the backward pass has about two for each."""
    calls, costs = value(watched, "forward_operators"), reading(watched, "dispatch_s")
    column = watched.phases.index("forward") if "forward" in watched.phases else None
    if not calls or costs is None or column is None:
        return None
    dispatch_s = float(costs.values.min())  # load can only lengthen it
    forward_s = float(np.median(watched.phases_s[warm(watched), column]))
    if not 0 < forward_s < SMALL_CALL * dispatch_s * calls:
        return None
    step_s = float(np.median(step_seconds(watched)[warm(watched)]))
    share = min(0.95, 3 * calls * dispatch_s / step_s)
    each = forward_s / calls
    examples = float(np.median(watched.examples))
    evidence = {
        "forward_operators": calls,
        "operator_s": each,
        "dispatch_s": dispatch_s,
        "fixed_cost_share": share,
        "examples_per_step": examples,
    }
    claim = (
        f"{calls:.0f} operators share {numbers.seconds(forward_s)} of the forward pass, {numbers.seconds(each)} each, where"
        f" dispatching one costs {numbers.seconds(dispatch_s)}"
    )
    fixed, most = "fixed costs are the same for any batch", removed(share)
    more = tried("a larger batch", fixed, share=share, gain=removed(share, 0.5), ceiling=most)
    fused = tried("torch.compile", "fewer, larger operators", share=share, gain=removed(share, 0.4), ceiling=most)
    return finding("dispatch-bound", claim, evidence, more, fused)


def under_filled(watched: Watched) -> Finding | None:
    """What a step costs whatever its batch (reading weights, the optimiser, dispatching) against so few examples."""
    examples = float(np.median(watched.examples))
    if not 0 < examples <= FEW or float(watched.examples.sum()) < 50 * examples:
        return None
    fixed = share_of(watched, "optimiser")
    gain = removed(max(fixed, 0.1), 0.5)
    claim = f"a step has {examples:.0f} examples: what it costs for any batch is paid {len(watched.loss):,} times"
    return finding(
        "under-filled-batch",
        claim,
        {"examples_per_step": examples, "optimiser_share": fixed},
        tried("a batch of 32 or more, with the rate raised in proportion", "Goyal et al. 2017", share=fixed, gain=gain),
    )


def idle_accelerator(watched: Watched) -> Finding | None:
    busy = value(watched, "gpu_busy_fraction")
    if watched.device_s is None or busy is None or busy >= 0.5:
        return None
    claim = f"the accelerator works for {busy:.0%} of the time and waits for the rest"
    more = tried(
        "a larger batch, mixed precision, torch.compile", "it has room", share=1 - busy, ceiling=1 / max(busy, 0.01)
    )
    return finding("idle-accelerator", claim, {"gpu_busy_fraction": busy}, more)


def evaluation_bound(watched: Watched) -> Finding | None:
    steps_s, outside_s = float(step_seconds(watched).sum()), float(watched.outside_s.sum())
    if not len(watched.outside_s) or outside_s < JUDGING * steps_s or outside_s < 1.0:
        return None
    share = outside_s / (outside_s + steps_s)
    claim = f"{share:.0%} of the training lies between its epochs: validation, checkpoints"
    rarer = tried("judging every second epoch, or fewer examples", "half of it", share=share, gain=removed(share, 0.5))
    return finding("evaluation-bound", claim, {"outside_share": share}, rarer)


SPEED = (
    data_bound, communication, optimiser_bound, dispatch_bound, under_filled, idle_accelerator, evaluation_bound,
)  # fmt: skip
