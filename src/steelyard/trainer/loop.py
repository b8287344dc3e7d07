"""The loop: batches in a seeded order, a forward and a backward pass, a step, a score an epoch. Accelerate places and casts.

What it promises: a mean counts every example once, whatever batch it came in; the same seed gives the same order; a
time limit holds between steps and draws the schedule together; a loss that is not finite stops it with the weights of
the last good epoch; the caller's random state stays as it was.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.trainer.examples import Batch, Examples, in_order, shuffled
from steelyard.trainer.history import Ended, History
from steelyard.trainer.objectives import Objective, cross_entropy, supervised
from steelyard.trainer.recipe import Recipe, rate

__all__ = ["Augment", "Score", "fit", "right", "score_of"]

Augment = Callable[[Batch], Batch]
Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (outputs, labels) to a number an example, higher better
Tell = Callable[[int, float], None]  # steps done, share of the training done

_PACED = 5  # steps, after which the pace is known well enough to plan by
_LONE = "Expected more than 1 value per channel"


def right(outputs: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 where the largest output is the label's, else 0: its mean is the accuracy."""
    return (outputs.argmax(dim=-1) == labels).float()


def fit(
    model: nn.Module,
    data: Examples,
    recipe: Recipe,
    *,
    objective: Objective | None = None,
    validation: Examples | None = None,
    score: Score = right,
    augment: Augment | None = None,
    tell: Tell | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> History:
    """Train `model` in place and leave it in evaluation mode on the processor's memory.

    Without an `objective` the loss is the cross-entropy of the contract's outputs, with the recipe's label smoothing.
    `validation` is scored at the end of each epoch. Raises `InvalidInput` for a recipe that this machine cannot follow;
    a loss that is not finite raises nothing: ``history.ended`` is ``"diverged"`` and its note names step and batch.
    """
    if not len(data):
        raise InvalidInput("the training split has no examples")
    objective = objective or supervised(cross_entropy(data.contract.outputs, recipe.label_smoothing))
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)
        training = _Training(model, data, recipe, objective, augment, clock)
        try:
            return training.run(validation, score, tell or (lambda _steps, _share: None))
        finally:
            training.release()


def score_of(model: nn.Module, data: Examples, score: Score = right, *, size: int = 256) -> float:
    """The mean score over all examples, each counted once; the model is left in the mode it was in."""
    device = next((p.device for p in model.parameters()), torch.device("cpu"))
    training = model.training
    model.eval()
    with torch.no_grad():
        total = sum(
            float(score(model(batch.inputs), batch.labels).double().sum())
            for batch in (made.to(device) for made in in_order(data, size))
        )
    model.train(training)
    return total / len(data)


class _NotFinite(Exception):
    def __init__(self, loss: float, batch: Batch) -> None:
        self.loss, self.batch = loss, batch


class _Training:
    """A training under way."""

    def __init__(
        self,
        model: nn.Module,
        data: Examples,
        recipe: Recipe,
        objective: Objective,
        augment: Augment | None,
        clock: Callable[[], float],
    ) -> None:
        self._model, self._data, self._recipe, self._objective = model, data, recipe, objective
        self._augment, self._clock = augment, clock
        self._accelerator = _accelerator(recipe)
        learned = [*model.parameters(), *(objective.parameters() if isinstance(objective, nn.Module) else ())]
        self._learned = [p for p in learned if p.requires_grad]
        if not self._learned:
            raise InvalidInput("the model has no parameters that require gradients: nothing can be trained")
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        self._prepared: nn.Module
        self._prepared, self._optimiser = self._accelerator.prepare(model, _optimiser(recipe, self._learned))
        self._average = None if recipe.ema is None else _average(model, recipe.ema)
        self._per_epoch = math.ceil(len(shuffled(len(data), recipe.batch, 0, 0)) / recipe.accumulation)
        self._started = clock()
        self._rows: list[tuple[float, float, float, float, int]] = []  # loss, rate, seconds, waited, examples
        self._scores: list[float] = []
        self._kept: tuple[int, dict[str, Any]] | None = None  # epoch and weights
        self._good: dict[str, Any] = _copied(model)

    def run(self, validation: Examples | None, score: Score, tell: Tell) -> History:
        """Epochs until something ends them."""
        for epoch in itertools.count():
            try:
                self._prepared.train()
                ended: Ended | None = self._epoch(epoch, tell)
            except _NotFinite as found:
                self._model.load_state_dict(self._good)
                return self._history("diverged", _where(found, len(self._rows), epoch))
            self._note(epoch, validation, score)
            if ended is None and self._stale():
                ended = "patience"
            if ended is not None:
                return self._history(ended, "")
        raise AssertionError("count() has no end")

    def release(self) -> None:
        """Take off what Accelerate put around the model, and bring it back to where it came from."""
        self._accelerator.unwrap_model(self._prepared, keep_fp32_wrapper=False)
        self._model.__dict__.pop("forward", None)
        self._model.__dict__.pop("_is_accelerate_prepared", None)
        for parameter in self._learned:
            parameter.grad = None
        if self._recipe.channels_last:
            self._model.to(memory_format=torch.contiguous_format)
        self._model.to("cpu").eval()

    # --- steps -----------------------------------------------------------------------------------

    def _epoch(self, epoch: int, tell: Tell) -> Literal["done", "time"] | None:
        """One pass over the data, or what is left of it; why the training ends with it, if it does."""
        order = shuffled(len(self._data), self._recipe.batch, self._recipe.seed, epoch)
        for start in range(0, len(order), self._recipe.accumulation):
            ended = self._over()
            if ended is not None:
                return ended
            self._step(order[start : start + self._recipe.accumulation], epoch)
            tell(len(self._rows), self._share())
        return self._over()

    def _step(self, group: Sequence[NDArray[np.int64]], epoch: int) -> None:
        """One step of the optimiser on the mean over all examples of its batches.

        Accelerate's own accumulation takes the mean of the batches' means, which is another number where they differ in
        size; so each batch is weighted here.
        """
        began = self._clock()
        factor = rate(self._recipe, len(self._rows), self._total(), self._per_epoch)
        for settings in self._optimiser.param_groups:
            settings["lr"] = settings["initial_lr"] * factor
        examples = sum(len(index) for index in group)
        loss, waited = 0.0, 0.0
        for index in group:
            before = self._clock()
            batch = self._made(index, epoch)
            waited += self._clock() - before
            loss += self._backward(batch, len(index) / examples, last=index is group[-1])
        if self._recipe.clip_norm is not None:
            self._accelerator.clip_grad_norm_(self._learned, self._recipe.clip_norm)
        self._optimiser.step()
        self._optimiser.zero_grad()
        if self._average is not None:
            self._average.update_parameters(self._model)
        self._rows.append((loss, self._recipe.lr * factor, self._clock() - began, waited, examples))

    def _made(self, index: NDArray[np.int64], epoch: int) -> Batch:
        batch = self._data.batch(index, epoch).to(self._accelerator.device, channels_last=self._recipe.channels_last)
        return batch if self._augment is None else self._augment(batch)

    def _backward(self, batch: Batch, share: float, *, last: bool) -> float:
        """Add the gradient of a batch's part of the step's mean; that part."""
        try:
            with nullcontext() if last else self._accelerator.no_sync(self._prepared):
                loss = self._objective(self._prepared, batch) * share
                value = float(loss.detach())
                if not math.isfinite(value):
                    raise _NotFinite(value, batch)
                self._accelerator.backward(loss)
        except ValueError as error:
            if _LONE not in str(error):
                raise
            raise InvalidInput(
                f"batch normalisation cannot train on batches of {len(batch)} example: give a batch of 2 or more"
            ) from None
        return value

    # --- how far it is ---------------------------------------------------------------------------

    def _planned(self) -> float:
        """Steps that the recipe asks for, whatever the time."""
        recipe = self._recipe
        epochs = math.inf if recipe.epochs is None else math.ceil(recipe.epochs * self._per_epoch)
        return min(epochs, math.inf if recipe.steps is None else recipe.steps)

    def _total(self) -> int:
        """Steps that there will be: those planned, or as many as the time has room for at the pace so far."""
        done, planned = len(self._rows), self._planned()
        if self._recipe.seconds is not None and (done >= _PACED or math.isinf(planned)):
            spent = self._clock() - self._started
            pace = spent / done if done else self._recipe.seconds / _PACED
            planned = min(planned, done + max(0.0, self._recipe.seconds - spent) / pace)
        return max(done + 1, int(planned))

    def _over(self) -> Literal["done", "time"] | None:
        if len(self._rows) >= self._planned():
            return "done"
        if self._recipe.seconds is not None and self._clock() - self._started >= self._recipe.seconds:
            return "time"
        return None

    def _share(self) -> float:
        return 1.0 if self._over() else len(self._rows) / self._total()

    # --- epochs ----------------------------------------------------------------------------------

    def _note(self, epoch: int, validation: Examples | None, score: Score) -> None:
        """Score an epoch and keep its weights: they are good, and perhaps the best; of equals the last, trained longest."""
        judged = self._model if self._average is None else self._average.module
        self._good = _copied(judged)
        if validation is None:
            return
        self._scores.append(score_of(judged, validation, score))
        best = self._kept is None or self._scores[-1] >= self._scores[self._kept[0]]
        if best or self._recipe.keep == "last":
            self._kept = (epoch, self._good)

    def _stale(self) -> bool:
        if self._recipe.patience is None or not self._scores:
            return False
        return len(self._scores) - 1 - int(np.argmax(self._scores)) >= self._recipe.patience

    def _history(self, ended: Ended, note: str) -> History:
        if ended != "diverged" or self._kept is not None:
            self._model.load_state_dict(self._good if self._kept is None else self._kept[1])
        loss, rates, seconds, waited, examples = np.array(self._rows, dtype=np.float64).reshape(-1, 5).T
        return History(
            loss=loss,
            learning_rate=rates,
            step_s=seconds,
            wait_s=waited,
            examples=examples.astype(np.int64),
            steps_per_epoch=self._per_epoch,
            validation=np.array(self._scores, dtype=np.float64),
            best_epoch=None if self._kept is None else self._kept[0],
            ended=ended,
            note=note,
        )


def _accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise MissingExtra("train", needed_for="training") from None
    AcceleratorState._reset_state()  # one process may train twice, in another precision each time
    try:
        return Accelerator(
            mixed_precision={"none": "no"}.get(recipe.amp, recipe.amp), step_scheduler_with_optimizer=False
        )
    except ValueError as error:
        raise InvalidInput(
            f"amp {recipe.amp} does not work here ({' '.join(str(error).split())[:120]}): give bf16 or none"
        ) from None


def _optimiser(recipe: Recipe, parameters: Sequence[nn.Parameter]) -> torch.optim.Optimizer:
    """PyTorch's, with the rate noted that the schedule's factor acts on."""
    group = [{"params": list(parameters), "initial_lr": recipe.lr}]
    decay = recipe.weight_decay
    if recipe.optimiser == "sgd":
        return torch.optim.SGD(group, recipe.lr, recipe.momentum, weight_decay=decay, nesterov=recipe.nesterov)
    if recipe.optimiser == "rmsprop":
        return torch.optim.RMSprop(group, recipe.lr, momentum=recipe.momentum, weight_decay=decay)
    kind = torch.optim.Adam if recipe.optimiser == "adam" else torch.optim.AdamW
    return kind(group, recipe.lr, weight_decay=decay)


def _average(model: nn.Module, decay: float) -> AveragedModel:
    """Moving average of weights and running statistics; it forgets faster while it is young, (1 + n) / (10 + n) at most."""

    def mixed(average: torch.Tensor, new: torch.Tensor, count: torch.Tensor | int) -> torch.Tensor:
        if not new.is_floating_point():
            return new
        number = float(count)
        return average.lerp(new, 1 - min(decay, (1 + number) / (10 + number)))

    return AveragedModel(model, avg_fn=mixed, use_buffers=True)


def _copied(model: nn.Module) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _where(found: _NotFinite, step: int, epoch: int) -> str:
    positions = ", ".join(map(str, found.batch.index[:5]))
    inputs = found.batch.inputs
    finite = not inputs.is_floating_point() or bool(torch.isfinite(inputs).all())
    cause = "a lower rate or clip_norm may help" if finite else "its inputs are not finite either: clean the data"
    return (
        f"the loss became {found.loss:g} at step {step + 1}, in epoch {epoch + 1}, on the batch of examples {positions}"
        f"{' ...' if len(found.batch) > 5 else ''}: {cause}"
    )
