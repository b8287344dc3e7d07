"""What keeps a net from learning: rates, gradients, dead channels, too much or too little room; and the loop's own slips."""

from __future__ import annotations

import math

import numpy as np

from steelyard.diagnose.training.common import finding, tried
from steelyard.records import Finding, Floats, Watched
from steelyard.report.training import epoch_loss, value

__all__ = ["LEARNING"]

LEARNT = 0.5  # of the loss that a training began with: above it little was learnt
APART = 0.12  # of the first loss: training and validation that lie further apart
RISE = 1.15  # validation loss now by its least
UP = 3.0  # a loss this many times the first one has run away
NOISY = 0.08  # of the first loss: noise from step to step
STILL = 1e-4  # change of a weight in a step by its size, below which it hardly moves
VANISHED, EXPLODED = 1e-3, 1e3  # norm of the first layers' gradient by the last layer's, at the median
HUGE = 1e3  # norm of a gradient, with a loss of common size
DEAD = 0.5  # of an activation's channels


# --- the loss ------------------------------------------------------------------------------


def first_loss(watched: Watched) -> float:
    """The loss before anything was learnt: the mean over the first 32 examples or more."""
    steps = int(np.searchsorted(np.cumsum(watched.examples), 32)) + 1
    return float(np.mean(watched.loss[:steps]))


def last_loss(watched: Watched) -> float:
    """The loss at the end: the mean over the last epoch, or the last tenth."""
    count = max(3, len(watched.loss) // 10)
    if len(watched.epoch_ends) > 1:
        count = max(1, len(watched.loss) - int(watched.epoch_ends[-2]))
    return float(np.mean(watched.loss[-count:]))


def diverged(watched: Watched) -> Finding | None:
    first, loss = first_loss(watched), watched.loss
    finite = np.isfinite(loss)
    most = float(np.max(loss[finite], initial=0.0))
    ran_away = not finite.all() or watched.ended.startswith("diverged")
    if exploding(watched) is not None or (not ran_away and most < UP * first and last_loss(watched) < 1.1 * first):
        return None
    how = "was not finite" if ran_away else f"rose to {most:.3g}"
    step = int(np.argmax(loss)) if not ran_away else int(np.argmin(finite)) if not finite.all() else len(loss)
    return finding(
        "rate-too-high",
        f"the loss began at {first:.3g} and {how} at step {step + 1}",
        {"first_loss": first, "highest_loss": most, "step": float(step + 1)},
        tried("a tenth of the rate, or --find-lr", "the range test stops where the loss runs away"),
        tried("linear warm-up, and clip_norm=1", "bounds the first steps"),
    )


def unstable(watched: Watched) -> Finding | None:
    """Noise from step to step, of the second half; spikes that the loss comes back from."""
    late = watched.loss[len(watched.loss) // 2 :]
    if len(late) < 8 or not np.isfinite(watched.loss).all() or diverged(watched) is not None:
        return None
    first = first_loss(watched)
    noise = float(np.std(np.diff(late)) / math.sqrt(2)) / first
    if noise < NOISY:
        return None
    spikes = int((late > np.median(late) + 10 * 1.4826 * np.median(np.abs(late - np.median(late))) + 0.2 * first).sum())
    examples = float(np.median(watched.examples))
    why = f", with {spikes} spikes" if spikes else ""
    return finding(
        "unstable-loss",
        f"the loss moves by {noise:.0%} of its first value from step to step{why}",
        {"noise_share": noise, "spikes": float(spikes), "examples_per_step": examples},
        tried("a larger batch, or accumulation", "noise falls with the root of the batch"),
        tried("clip_norm=1", "one odd batch moves the weights less")
        if spikes
        else tried("averaging weights (ema)", "the mean of many steps moves less"),
    )


def slow(watched: Watched) -> Finding | None:
    """Little was learnt: because the weights hardly move, or because the net cannot, or is not let."""
    first, last = first_loss(watched), last_loss(watched)
    if not math.isfinite(last) or last < LEARNT * first or _ill(watched):
        return None
    moved = _moved(watched)
    evidence = {"first_loss": first, "last_loss": last, **({} if moved is None else {"update_ratio": moved})}
    if moved is not None and moved < STILL:
        claim = f"a step changes weights by {moved:.1e} of their size, and the loss is still {last / first:.0%} of the first"
        why = "a healthy step changes weights by about 0.001 of their size"
        return finding("rate-too-low", claim, evidence, tried("ten times the rate, or --find-lr", why))
    return finding(
        "under-fitting",
        f"the loss is still {last / first:.0%} of what it began with",
        evidence,
        tried("a larger net, or less regularisation", "more can be learnt"),
        tried("more epochs", "where the loss still falls"),
    )


def _ill(watched: Watched) -> bool:
    """Whether something else explains that little was learnt."""
    others = (diverged, exploding, vanishing, kept_gradients, unlearnt)
    return any(look(watched) is not None for look in others)


def _moved(watched: Watched) -> float | None:
    """Median change of a weight in a step by its size, of the layer that moves most."""
    if not watched.updates.size:
        return None
    found = watched.updates[:, np.isfinite(watched.updates).any(axis=0)]
    return float(np.nanmedian(found, axis=0).max()) if found.size else None


def over_fitting(watched: Watched) -> Finding | None:
    held, learnt = watched.scores.get("validation_loss"), epoch_loss(watched)
    if held is None or len(held) < 3 or not np.isfinite(held).all() or not np.isfinite(learnt).all():
        return None
    first, best = first_loss(watched), int(np.argmin(held))
    gap = float(held[-1] - learnt[-1]) / first
    rose = held[-1] > RISE * held[best] and held[-1] - held[best] > 0.05 * first and learnt[-1] < learnt[best]
    if gap < APART / 2 or (not rose and gap < APART):
        return None
    words = f"; it was least after epoch {best + 1}, at {held[best]:.3g}" if rose else ""
    return finding(
        "over-fitting",
        f"the loss is {learnt[-1]:.3g} in training and {held[-1]:.3g} in validation{words}",
        {
            "training_loss": float(learnt[-1]),
            "validation_loss": float(held[-1]),
            "least_validation_loss": float(held[best]),
        },
        tried("augmentation, or more data", f"at most the gap of {held[-1] - learnt[-1]:.3g} can be closed"),
        tried("weight decay, dropout, label smoothing", "the net is held back from learning examples by heart"),
        tried(f"early stopping (patience), which keeps epoch {best + 1}", f"a loss of {held[best]:.3g}"),
    )


# --- gradients and units -------------------------------------------------------------------


def _levels(watched: Watched) -> Floats:
    """Median norm of each layer's gradient, layers that got one."""
    norms = watched.gradient_norms
    return np.nanmedian(norms[:, np.isfinite(norms).any(axis=0)], axis=0) if norms.size else np.zeros(0)


def exploding(watched: Watched) -> Finding | None:
    norms, levels = watched.gradient_norms, _levels(watched)
    if not norms.size or not len(levels):
        return None
    finite = norms[np.isfinite(norms)]
    most = float(finite.max(initial=0.0))
    start = float(np.nanmax(norms[0], initial=0.0))
    steep = len(levels) > 2 and levels[0] > EXPLODED * max(levels[-1], 1e-30)
    if not (start > HUGE or steep):
        return None
    return finding(
        "exploding-gradients",
        f"gradients had a norm of {start:.3g} at the first step, and {most:.3g} at most",
        {"first_gradient_norm": start, "highest_gradient_norm": most, "first_by_last_layer": float(levels[0] / max(levels[-1], 1e-30))},
        tried("clip_norm=1", "bounds the step whatever the norm"),
        tried("normalisation layers, or an initialisation that keeps variances (He et al. 2015)", "layers no longer multiply them"),
    )  # fmt: skip


def vanishing(watched: Watched) -> Finding | None:
    levels = _levels(watched)
    if len(levels) < 4 or not levels[-1] > 0:
        return None
    ratio = float(levels[: len(levels) // 4 or 1].max() / levels[-1])
    if ratio > VANISHED:
        return None
    return finding(
        "vanishing-gradients",
        f"the first layers' gradient is {ratio:.1e} of the last layer's",
        {"first_by_last_layer": ratio, "layers": float(len(levels))},
        tried("ReLU in the place of sigmoid or tanh", "its slope is 1 where it passes"),
        tried("residual connections, normalisation layers", "gradients find a short way back"),
    )


def dead(watched: Watched) -> Finding | None:
    if not watched.dead_share.size:
        return None
    looked = watched.dead_share[np.isfinite(watched.dead_share).any(axis=1)]
    if not len(looked):
        return None
    shares = np.nan_to_num(looked[-1])
    worst = int(np.argmax(shares))
    if shares[worst] < DEAD:
        return None
    return finding(
        "dead-units",
        f"{shares[worst]:.0%} of the channels of {watched.activations[worst]} gave zero for every example looked at",
        {"dead_share": float(shares[worst]), "mean_dead_share": float(shares.mean())},
        tried("a lower rate with warm-up, biases begun at 0", "large steps push units under zero for good"),
        tried("leaky ReLU or GELU", "a unit under zero still learns"),
        tried("pruning these channels", "they cost time and give nothing"),
    )


def kept_gradients(watched: Watched) -> Finding | None:
    share = value(watched, "kept_gradients_share")
    if share is None or share < 0.5:
        return None
    clear = tried("optimiser.zero_grad() before each backward pass", "each step then has its own gradient")
    claim = "gradients of earlier steps are still there at the next backward pass, and add up"
    return finding("gradients-kept", claim, {"kept_share": share}, clear)


def unlearnt(watched: Watched) -> Finding | None:
    norms = watched.gradient_norms
    if not norms.size:
        return None
    without = [name for name, column in zip(watched.layers, norms.T, strict=True) if np.isnan(column).all()]
    if not without:
        return None
    why = tried("removing detach() or no_grad() on their way, or freezing them openly", "they cannot learn as it is")
    claim = f"{len(without)} of {len(watched.layers)} weights never got a gradient: {', '.join(without[:3])}"
    return finding("layers-without-gradient", claim, {"layers": float(len(without))}, why)


def evaluation_mode(watched: Watched) -> Finding | None:
    if not value(watched, "evaluation_mode"):
        return None
    call = tried("model.train() after each validation", "dropout and batch statistics are off otherwise")
    return finding("evaluation-mode", "the net learns in evaluation mode", {"evaluation_mode": 1.0}, call)


LEARNING = (
    diverged, exploding, vanishing, dead, kept_gradients, unlearnt, evaluation_mode, slow, over_fitting, unstable,
)  # fmt: skip
