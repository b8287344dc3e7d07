"""What holds a training back: its record in, findings out, each with its evidence, what to try and what that can give.

Two kinds. Of speed: the step's phases, its operators, its loader; gains are time now / time then, by the formulas below. Of
learning: curves, gradients, updates, channels, labels; what can be won there is said in the finding's own units and
predicted no further. Thresholds are rules of thumb, told by `benchmarks/training_faults.py` on planted faults and healthy runs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from steelyard.records import Ceiling, Finding, Floats, Overlap, Scalar, Watched
from steelyard.report import numbers
from steelyard.report.training import breakdown, epoch_loss, step_seconds, value, warm
from steelyard.stats.roofline import SMALL_CALL

__all__ = ["LoaderAdvice", "diagnose_training", "loader_advice"]

WAITING = 0.15  # of the step: above it the loader is worth a look
TALKING = 0.3  # of the step in communication
STEPPING = 0.3  # of the step in the optimiser
JUDGING = 0.5  # time between epochs, by that of their steps
FEW = 8  # examples of a step that fill nothing
LEARNT = 0.5  # of the loss that a training began with: above it little was learnt
APART = 0.2  # of the first loss: training and validation that lie further apart
RISE = 1.15  # validation loss now by its least
UP = 3.0  # a loss this many times the first one has run away
NOISY = 0.12  # of the first loss: noise from step to step
STILL = 1e-4  # change of a weight in a step by its size, below which it hardly moves
VANISHED, EXPLODED = 1e-3, 1e3  # norm of the first layers' gradient by the last layer's, at the median
HUGE = 1e3  # norm of a gradient, with a loss of common size
DEAD = 0.5  # of an activation's channels
UNEVEN = 10.0  # largest class by the smallest
UNSCALED = 10.0  # root mean square of the inputs


def diagnose_training(watched: Watched, *, overlaps: Sequence[Overlap] = ()) -> tuple[Finding, ...]:
    """All findings, those of speed first; none for a healthy training.

    `overlaps` are those of its splits (`steelyard.subject.splits.overlaps`).
    """
    if len(watched.loss) < 4:
        return ()
    found = [*(look(watched) for look in (*_SPEED, *_LEARNING)), _leak(overlaps)]
    return tuple(finding for finding in found if finding is not None)


def _finding(name: str, claim: str, evidence: dict[str, float], *tries: Ceiling) -> Finding:
    return Finding(name=name, claim=claim, evidence=evidence, ceilings=tries)


def _try(technique: str, because: str, *, share: float = 0.0, gain: float = 1.0, ceiling: float = 1.0) -> Ceiling:
    return Ceiling(technique=technique, share=share, gain=gain, ceiling=ceiling, helps=True, because=because)


def _removed(share: float, left: float = 0.0) -> float:
    """Gain where of this share of the time only `left` of it stays (Amdahl 1967)."""
    return 1 / max(1 - share * (1 - left), 1e-9)


# --- speed: the loader -------------------------------------------------------------------------------


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


def _data_bound(watched: Watched) -> Finding | None:
    advice = loader_advice(watched)
    share = _share(watched, "data")
    if advice is None or share < WAITING:
        return None
    whole_s = advice.wait_s / share
    settings = ", ".join(f"{name}={shown}" for name, shown in advice.settings().items())
    gain = whole_s / (whole_s - advice.wait_s + advice.left_s)
    words = f"a batch takes {numbers.seconds(advice.made_s)} to make"
    tries = [_try(f"DataLoader({settings})", words, share=share, gain=gain, ceiling=_removed(share))]
    if advice.cache:
        why = "these cores cannot make batches faster than they are used: keep what was decoded"
        caching = f"caching decoded examples, in memory or memory-mapped, with num_workers={advice.num_workers}"
        tries.insert(0, _try(caching, why, share=share, gain=_removed(share, 0.1), ceiling=_removed(share)))
    claim = f"{share:.0%} of the step waits for data: {numbers.seconds(advice.wait_s)} of {numbers.seconds(whole_s)}"
    evidence = {
        "wait_s": advice.wait_s,
        "step_s": whole_s,
        "made_s": advice.made_s,
        "workers_now": float(watched.loader.get("num_workers") or 0),
        "workers_advised": float(advice.num_workers),
        "wait_left_s": advice.left_s,
    }
    return _finding("data-bound", claim, evidence, *tries)


# --- speed: the step ---------------------------------------------------------------------------------


def _share(watched: Watched, phase: str) -> float:
    return next((part.share for part in breakdown(watched) if part.phase == phase), 0.0)


def _communication(watched: Watched) -> Finding | None:
    share = _share(watched, "communication")
    if share < TALKING:
        return None
    return _finding(
        "communication-bound",
        f"{share:.0%} of the step goes to exchanging gradients",
        {"communication_share": share},
        _try(
            "accumulating gradients over more batches", "half as many exchanges", share=share, gain=_removed(share, 0.5)
        ),
        _try(
            "exchanging in bf16", "half as many bytes", share=share, gain=_removed(share, 0.5), ceiling=_removed(share)
        ),
    )


def _optimiser_bound(watched: Watched) -> Finding | None:
    share = _share(watched, "optimiser")
    if share < STEPPING:
        return None
    words = "one kernel for all weights in the place of some for each"
    return _finding(
        "optimiser-bound",
        f"{share:.0%} of the step goes to the optimiser",
        {"optimiser_share": share},
        _try("a fused optimiser (fused=True)", words, share=share, gain=_removed(share, 0.4), ceiling=_removed(share)),
        _try(
            "a larger batch", "the optimiser's time is the same for any batch", share=share, gain=_removed(share, 0.5)
        ),
    )


def _dispatch_bound(watched: Watched) -> Finding | None:
    """Operators shorter than `SMALL_CALL` dispatches are mostly fixed cost; the backward pass has about two for each."""
    calls, dispatch_s = value(watched, "forward_operators"), value(watched, "dispatch_s")
    column = watched.phases.index("forward") if "forward" in watched.phases else None
    if not calls or not dispatch_s or column is None:
        return None
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
    fixed, most = "fixed costs are the same for any batch", _removed(share)
    more = _try("a larger batch", fixed, share=share, gain=_removed(share, 0.5), ceiling=most)
    fused = _try("torch.compile", "fewer, larger operators", share=share, gain=_removed(share, 0.4), ceiling=most)
    return _finding("dispatch-bound", claim, evidence, more, fused)


def _under_filled(watched: Watched) -> Finding | None:
    """What a step costs whatever its batch (reading weights, the optimiser, dispatching) against so few examples."""
    examples = float(np.median(watched.examples))
    if examples > FEW or float(watched.examples.sum()) < 50 * examples:
        return None
    fixed = _share(watched, "optimiser")
    gain = _removed(max(fixed, 0.1), 0.5)
    claim = f"a step has {examples:.0f} examples: what it costs for any batch is paid {len(watched.loss):,} times"
    return _finding(
        "under-filled-batch",
        claim,
        {"examples_per_step": examples, "optimiser_share": fixed},
        _try("a batch of 32 or more, with the rate raised in proportion", "Goyal et al. 2017", share=fixed, gain=gain),
    )


def _idle_accelerator(watched: Watched) -> Finding | None:
    busy = value(watched, "gpu_busy_fraction")
    if watched.device_s is None or busy is None or busy >= 0.5:
        return None
    claim = f"the accelerator works for {busy:.0%} of the time and waits for the rest"
    more = _try(
        "a larger batch, mixed precision, torch.compile", "it has room", share=1 - busy, ceiling=1 / max(busy, 0.01)
    )
    return _finding("idle-accelerator", claim, {"gpu_busy_fraction": busy}, more)


def _evaluation_bound(watched: Watched) -> Finding | None:
    steps_s, outside_s = float(step_seconds(watched).sum()), float(watched.outside_s.sum())
    if not len(watched.outside_s) or outside_s < JUDGING * steps_s or outside_s < 1.0:
        return None
    share = outside_s / (outside_s + steps_s)
    claim = f"{share:.0%} of the training lies between its epochs: validation, checkpoints"
    rarer = _try("judging every second epoch, or fewer examples", "half of it", share=share, gain=_removed(share, 0.5))
    return _finding("evaluation-bound", claim, {"outside_share": share}, rarer)


# --- learning: the loss ------------------------------------------------------------------------------


def _first(watched: Watched) -> float:
    """The loss before anything was learnt: the mean over the first 32 examples or more."""
    steps = int(np.searchsorted(np.cumsum(watched.examples), 32)) + 1
    return float(np.mean(watched.loss[:steps]))


def _last(watched: Watched) -> float:
    """The loss at the end: the mean over the last epoch, or the last tenth."""
    count = max(3, len(watched.loss) // 10)
    if len(watched.epoch_ends) > 1:
        count = max(1, len(watched.loss) - int(watched.epoch_ends[-2]))
    return float(np.mean(watched.loss[-count:]))


def _diverged(watched: Watched) -> Finding | None:
    first, loss = _first(watched), watched.loss
    finite = np.isfinite(loss)
    most = float(np.max(loss[finite], initial=0.0))
    ran_away = not finite.all() or watched.ended.startswith("diverged")
    if _explodes(watched) or (not ran_away and most < UP * first and _last(watched) < 1.1 * first):
        return None
    how = "was not finite" if ran_away else f"rose to {most:.3g}"
    step = int(np.argmax(loss)) if not ran_away else int(np.argmin(finite)) if not finite.all() else len(loss)
    return _finding(
        "rate-too-high",
        f"the loss began at {first:.3g} and {how} at step {step + 1}",
        {"first_loss": first, "highest_loss": most, "step": float(step + 1)},
        _try("a tenth of the rate, or --find-lr", "the range test stops where the loss runs away"),
        _try("linear warm-up, and clip_norm=1", "bounds the first steps"),
    )


def _unstable(watched: Watched) -> Finding | None:
    """Noise from step to step, of the second half; spikes that the loss comes back from."""
    late = watched.loss[len(watched.loss) // 2 :]
    if len(late) < 8 or not np.isfinite(watched.loss).all() or _diverged(watched) is not None:
        return None
    first = _first(watched)
    noise = float(np.std(np.diff(late)) / math.sqrt(2)) / first
    if noise < NOISY:
        return None
    spikes = int((late > np.median(late) + 10 * 1.4826 * np.median(np.abs(late - np.median(late))) + 0.2 * first).sum())
    examples = float(np.median(watched.examples))
    why = f", with {spikes} spikes" if spikes else ""
    return _finding(
        "unstable-loss",
        f"the loss moves by {noise:.0%} of its first value from step to step{why}",
        {"noise_share": noise, "spikes": float(spikes), "examples_per_step": examples},
        _try("a larger batch, or accumulation", "noise falls with the root of the batch"),
        _try("clip_norm=1", "one odd batch moves the weights less")
        if spikes
        else _try("averaging weights (ema)", "the mean of many steps moves less"),
    )


def _slow(watched: Watched) -> Finding | None:
    """Little was learnt: because the weights hardly move, or because the net cannot, or is not let."""
    first, last = _first(watched), _last(watched)
    if not math.isfinite(last) or last < LEARNT * first or _ill(watched):
        return None
    moved = _moved(watched)
    evidence = {"first_loss": first, "last_loss": last, **({} if moved is None else {"update_ratio": moved})}
    if moved is not None and moved < STILL:
        claim = f"a step changes weights by {moved:.1e} of their size, and the loss is still {last / first:.0%} of the first"
        why = "a healthy step changes weights by about 0.001 of their size"
        return _finding("rate-too-low", claim, evidence, _try("ten times the rate, or --find-lr", why))
    return _finding(
        "under-fitting",
        f"the loss is still {last / first:.0%} of what it began with",
        evidence,
        _try("a larger net, or less regularisation", "more can be learnt"),
        _try("more epochs", "where the loss still falls"),
    )


def _ill(watched: Watched) -> bool:
    """Whether something else explains that little was learnt."""
    others = (_diverged, _exploding, _vanishing, _kept_gradients, _unlearnt)
    return any(look(watched) is not None for look in others)


def _moved(watched: Watched) -> float | None:
    """Median change of a weight in a step by its size, of the layer that moves most."""
    if not watched.updates.size:
        return None
    found = watched.updates[:, np.isfinite(watched.updates).any(axis=0)]
    return float(np.nanmedian(found, axis=0).max()) if found.size else None


def _over_fitting(watched: Watched) -> Finding | None:
    held, learnt = watched.scores.get("validation_loss"), epoch_loss(watched)
    if held is None or len(held) < 3 or not np.isfinite(held).all() or not np.isfinite(learnt).all():
        return None
    first, best = _first(watched), int(np.argmin(held))
    gap = float(held[-1] - learnt[-1]) / first
    rose = held[-1] > RISE * held[best] and held[-1] - held[best] > 0.05 * first and learnt[-1] < learnt[best]
    if gap < APART / 2 or (not rose and gap < APART):
        return None
    words = f"; it was least after epoch {best + 1}, at {held[best]:.3g}" if rose else ""
    return _finding(
        "over-fitting",
        f"the loss is {learnt[-1]:.3g} in training and {held[-1]:.3g} in validation{words}",
        {
            "training_loss": float(learnt[-1]),
            "validation_loss": float(held[-1]),
            "least_validation_loss": float(held[best]),
        },
        _try("augmentation, or more data", f"at most the gap of {held[-1] - learnt[-1]:.3g} can be closed"),
        _try("weight decay, dropout, label smoothing", "the net is held back from learning examples by heart"),
        _try(f"early stopping (patience), which keeps epoch {best + 1}", f"a loss of {held[best]:.3g}"),
    )


# --- learning: gradients and units -------------------------------------------------------------------


def _levels(watched: Watched) -> Floats:
    """Median norm of each layer's gradient, layers that got one."""
    norms = watched.gradient_norms
    return np.nanmedian(norms[:, np.isfinite(norms).any(axis=0)], axis=0) if norms.size else np.zeros(0)


def _explodes(watched: Watched) -> bool:
    return _exploding(watched) is not None


def _exploding(watched: Watched) -> Finding | None:
    norms, levels = watched.gradient_norms, _levels(watched)
    if not norms.size or not len(levels):
        return None
    finite = norms[np.isfinite(norms)]
    most = float(finite.max(initial=0.0))
    start = float(np.nanmax(norms[0], initial=0.0))
    steep = len(levels) > 2 and levels[0] > EXPLODED * max(levels[-1], 1e-30)
    if not (start > HUGE or steep):
        return None
    return _finding(
        "exploding-gradients",
        f"gradients had a norm of {start:.3g} at the first step, and {most:.3g} at most",
        {"first_gradient_norm": start, "highest_gradient_norm": most, "first_by_last_layer": float(levels[0] / max(levels[-1], 1e-30))},
        _try("clip_norm=1", "bounds the step whatever the norm"),
        _try("normalisation layers, or an initialisation that keeps variances (He et al. 2015)", "layers no longer multiply them"),
    )  # fmt: skip


def _vanishing(watched: Watched) -> Finding | None:
    levels = _levels(watched)
    if len(levels) < 4 or not levels[-1] > 0:
        return None
    ratio = float(levels[: len(levels) // 4 or 1].max() / levels[-1])
    if ratio > VANISHED:
        return None
    return _finding(
        "vanishing-gradients",
        f"the first layers' gradient is {ratio:.1e} of the last layer's",
        {"first_by_last_layer": ratio, "layers": float(len(levels))},
        _try("ReLU in the place of sigmoid or tanh", "its slope is 1 where it passes"),
        _try("residual connections, normalisation layers", "gradients find a short way back"),
    )


def _dead(watched: Watched) -> Finding | None:
    if not watched.dead_share.size:
        return None
    looked = watched.dead_share[np.isfinite(watched.dead_share).any(axis=1)]
    if not len(looked):
        return None
    shares = np.nan_to_num(looked[-1])
    worst = int(np.argmax(shares))
    if shares[worst] < DEAD:
        return None
    return _finding(
        "dead-units",
        f"{shares[worst]:.0%} of the channels of {watched.activations[worst]} gave zero for every example looked at",
        {"dead_share": float(shares[worst]), "mean_dead_share": float(shares.mean())},
        _try("a lower rate with warm-up, biases begun at 0", "large steps push units under zero for good"),
        _try("leaky ReLU or GELU", "a unit under zero still learns"),
        _try("pruning these channels", "they cost time and give nothing"),
    )


def _kept_gradients(watched: Watched) -> Finding | None:
    share = value(watched, "kept_gradients_share")
    if share is None or share < 0.5:
        return None
    clear = _try("optimiser.zero_grad() before each backward pass", "each step then has its own gradient")
    claim = "gradients of earlier steps are still there at the next backward pass, and add up"
    return _finding("gradients-kept", claim, {"kept_share": share}, clear)


def _unlearnt(watched: Watched) -> Finding | None:
    norms = watched.gradient_norms
    if not norms.size:
        return None
    without = [name for name, column in zip(watched.layers, norms.T, strict=True) if np.isnan(column).all()]
    if not without:
        return None
    why = _try("removing detach() or no_grad() on their way, or freezing them openly", "they cannot learn as it is")
    claim = f"{len(without)} of {len(watched.layers)} weights never got a gradient: {', '.join(without[:3])}"
    return _finding("layers-without-gradient", claim, {"layers": float(len(without))}, why)


def _evaluation_mode(watched: Watched) -> Finding | None:
    if not value(watched, "evaluation_mode"):
        return None
    call = _try("model.train() after each validation", "dropout and batch statistics are off otherwise")
    return _finding("evaluation-mode", "the net learns in evaluation mode", {"evaluation_mode": 1.0}, call)


# --- learning: data ----------------------------------------------------------------------------------


def _imbalance(watched: Watched) -> Finding | None:
    counts = [count for count in watched.label_counts if count]
    if len(counts) < 2 or max(counts) < UNEVEN * min(counts):
        return None
    share = max(counts) / sum(counts)
    return _finding(
        "imbalance",
        f"the largest class has {max(counts) / min(counts):.0f} times the examples of the smallest: {share:.0%} of all",
        {"largest_by_smallest": max(counts) / min(counts), "largest_share": share},
        _try("weighting classes in the loss, or drawing them evenly", "each class then pulls alike"),
        _try("judging by balanced accuracy", f"answering the largest class alone has an accuracy of {share:.0%}"),
    )


def _unshuffled(watched: Watched) -> Finding | None:
    """Classes in a batch against the number that a random draw would hold, k (1 - (1 - 1/k)^b)."""
    mixed = value(watched, "batch_classes")
    classes, size = sum(count > 0 for count in watched.label_counts), float(np.median(watched.examples))
    if mixed is None or classes < 2 or size < 2:
        return None
    shares = np.array([count for count in watched.label_counts if count]) / sum(watched.label_counts)
    expected = float((1 - (1 - shares) ** size).sum())
    if expected - mixed < max(1.0, 0.3 * expected):
        return None
    claim = (
        f"a batch holds {mixed:.0f} classes where a random one would hold {expected:.1f}: the examples come in order"
    )
    shuffle = _try("DataLoader(shuffle=True)", "each batch then speaks for all classes")
    return _finding("unshuffled", claim, {"batch_classes": mixed, "expected_classes": expected}, shuffle)


def _unscaled(watched: Watched) -> Finding | None:
    size = value(watched, "input_rms")
    if size is None or size < UNSCALED:
        return None
    scale = _try("scaling inputs to mean 0 and deviation 1", "first layers are made for inputs of about that size")
    return _finding("unscaled-inputs", f"inputs have a root mean square of {size:.3g}", {"input_rms": size}, scale)


def _leak(overlaps: Sequence[Overlap]) -> Finding | None:
    found = [overlap for overlap in overlaps if overlap.count and "train" in (overlap.split, overlap.other)]
    if not found:
        return None
    words = "; ".join(f"{o.count} of {o.split} also stand in {o.other}" for o in found)
    apart = _try("splitting anew without duplicates (data check)", "scores on examples seen in training say nothing")
    return _finding("leak", words, {"examples": float(sum(o.count for o in found))}, apart)


_SPEED = (
    _data_bound, _communication, _optimiser_bound, _dispatch_bound, _under_filled, _idle_accelerator, _evaluation_bound,
)  # fmt: skip
_LEARNING = (
    _diverged, _exploding, _vanishing, _dead, _kept_gradients, _unlearnt, _evaluation_mode, _slow, _over_fitting, _unstable,
    _imbalance, _unshuffled, _unscaled,
)  # fmt: skip
