"""Training a changed model back to what it knew: on the labels, and on what the baseline answers. Imports torch."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn
from torch.nn.utils import parametrize

from steelyard.errors import CannotApply, InvalidInput, SteelyardError
from steelyard.passes.bench import Bench
from steelyard.passes.partly import only_head, reestimate
from steelyard.passes.trainable import FOLDER, Shape
from steelyard.probe.host import environment
from steelyard.records import Contract
from steelyard.subject.load import load_subject
from steelyard.subject.splits import Splits
from steelyard.subject.subject import Subject
from steelyard.trainer.examples import Examples
from steelyard.trainer.history import History
from steelyard.trainer.loop import fit
from steelyard.trainer.objectives import Loss, Objective, cross_entropy, distilled, supervised
from steelyard.trainer.recipe import Amp, Recipe

__all__ = ["Recovery", "masks_held", "recover", "training_loss"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """How a pass trains what it changed. ``distil`` is the weight of the baseline's answers against the labels.

    What learns is ``all`` of it, the ``head`` alone, or no weight: only running ``statistics`` are taken anew, which
    comes before training a head too. Where a pass `asks_the_teacher`, the subject's own loop, which knows of none, is not
    used. ``exact`` arithmetic is fp32 whatever the processor is fast at.
    """

    epochs: float
    lr: float
    distil: float
    temperature: float = 2.0
    batch: int = 64
    seed: int = 0
    learns: Literal["all", "head", "statistics"] = "all"
    asks_the_teacher: bool = False
    exact: bool = False


def recover(
    module: nn.Module,
    shape: Shape,
    contract: Contract,
    bench: Bench,
    how: Recovery,
    *,
    part: int = 0,
    parts: int = 1,
    beside: Callable[[Objective], Objective] | None = None,
) -> None:
    """Train `module` in place: by the subject's own ``recover`` where it has one, else by `fit`.

    A recovery in several parts, between the steps of an iterative pruning, shares epochs and time evenly. ``beside`` puts
    more to learn around the objective. Raises `CannotApply` where there is no training data and where the training diverged.
    """
    if how.epochs == 0:
        return
    train = bench.training()
    subject = load_subject(shape.spec)
    with masks_held(module, shape.sparse):
        if how.learns != "all":
            reestimate(module, Examples.of(train, contract), how.seed)
        if how.learns == "statistics":
            return
        if subject.recover is not None and not how.asks_the_teacher:
            _by_the_subject(subject, module, contract, bench)
            return
        examples = Examples.of(train, contract, bench.teacher_outputs(contract) if how.distil > 0 else None)
        objective = _objective(subject, examples, how)
        validation = bench.validation()
        with only_head(module, len(contract.labels)) if how.learns == "head" else nullcontext():
            history = fit(
                module,
                examples,
                _recipe(how, bench.seconds, parts),
                objective=objective if beside is None else beside(objective),
                validation=None if validation is None else Examples.of(validation, contract),
            )
    _keep(history, bench, part)
    if history.ended == "diverged":
        raise CannotApply(f"recovery diverged: {history.note}")


def training_loss(subject: Subject, contract: Contract) -> Loss:
    """The subject's own loss, or the cross-entropy of its outputs."""
    own = subject.loss
    if own is None:
        return cross_entropy(contract.outputs)

    def loss(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        try:
            value: torch.Tensor = own(outputs, labels)
        except SteelyardError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise InvalidInput(f"the subject's loss failed: {type(error).__name__}: {reason}") from error
        return value

    return loss


@contextmanager
def masks_held(module: nn.Module, sparse: bool) -> Iterator[None]:
    """Keep the zeros of a sparse model zero while it is trained, by whoever trains it."""
    layers = [m for m in module.modules() if isinstance(m, nn.Linear | nn.Conv2d)] if sparse else []
    for layer in layers:
        parametrize.register_parametrization(layer, "weight", _Masked(layer.weight.detach() != 0), unsafe=True)
    try:
        yield
    finally:
        for layer in layers:
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


class _Masked(nn.Module):
    def __init__(self, mask: torch.Tensor) -> None:
        super().__init__()
        self.mask: torch.Tensor
        self.register_buffer("mask", mask)

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        """The weight where it is kept, 0 elsewhere; no gradient reaches what is not."""
        return weight * self.mask


def _objective(subject: Subject, examples: Examples, how: Recovery) -> Objective:
    loss = training_loss(subject, examples.contract)
    if examples.teacher is None:
        return supervised(loss)
    return distilled(loss, weight=how.distil, temperature=how.temperature, outputs=examples.contract.outputs)


def _recipe(how: Recovery, seconds: float | None, parts: int) -> Recipe:
    """AdamW under a cosine with a short warm-up: it recovers convolutions and attention alike without tuning."""
    if seconds is not None and seconds <= 0:
        raise CannotApply("no time is left for recovery: give a longer limit for each candidate")
    return Recipe(
        optimiser="adamw",
        lr=how.lr,
        weight_decay=1e-4,
        schedule="cosine",
        warmup=min(0.5, 0.1 * how.epochs / parts),
        epochs=how.epochs / parts,
        seconds=None if seconds is None else seconds / parts,
        batch=how.batch,
        clip_norm=5.0,
        amp="none" if how.exact else _amp(),
        seed=how.seed,
    )


def _amp() -> Amp:
    """bf16 where the processor multiplies it natively; emulated it is many times slower than fp32."""
    return "bf16" if {"avx512_bf16", "amx_bf16"} & set(environment().instruction_sets) else "none"


def _by_the_subject(subject: Subject, module: nn.Module, contract: Contract, bench: Bench) -> None:
    """The user's own loop. What it gets for a test split is the validation split: the real one is not to be seen."""
    train, validation = bench.training(), bench.validation()
    held = validation if validation is not None else train
    splits = Splits(
        train=train, validation=held, test=held, labels=contract.labels, method="as prepared; test withheld"
    )
    assert subject.recover is not None
    started = time.monotonic()
    try:
        subject.recover(module, splits)
    except SteelyardError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise InvalidInput(f"the subject's recover failed: {type(error).__name__}: {reason}") from error
    module.to("cpu").eval()
    if not all(bool(torch.isfinite(p).all()) for p in module.parameters()):
        spent = time.monotonic() - started
        raise CannotApply(f"the subject's recover left weights that are not finite, after {spent:.0f} s")


def _keep(history: History, bench: Bench, part: int) -> None:
    folder = bench.folder / FOLDER
    folder.mkdir(exist_ok=True)
    history.write(folder / f"history-{part}.json")
