"""The loop: batches in a seeded order, a forward and a backward pass, a step, a score an epoch. Accelerate places and casts.

What it promises: a mean counts every example once, whatever batch it came in; the same seed gives the same order; a
time limit holds between steps and draws the schedule together; a loss that is not finite stops it with the weights of
the last good epoch; the caller's random state stays as it was; from a checkpoint it goes on bit for bit.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.optim.swa_utils import AveragedModel

from steelyard.errors import InvalidInput, MissingExtra, SteelyardError
from steelyard.trainer.averages import equal_average, moving_average, renormalise
from steelyard.trainer.chance import deterministic, put_states, seeded, states
from steelyard.trainer.checkpoint import Checkpoints, check_same
from steelyard.trainer.examples import Batch, Examples, Unreadable, first_unreadable, shuffled
from steelyard.trainer.faults import NotFinite, first_not_finite, where
from steelyard.trainer.finetune import dropout_set, hold_body, rate_groups
from steelyard.trainer.history import Ended, History
from steelyard.trainer.microbatch import MicroBatch, is_out_of_memory, peak_bytes
from steelyard.trainer.objectives import Objective, cross_entropy, supervised
from steelyard.trainer.optimisers import AdamThenSGD, add_l1, make_optimiser, set_rates
from steelyard.trainer.parallel import Ranks, Spread, check_spread, holding, idle, prepared, shared
from steelyard.trainer.recipe import Recipe
from steelyard.trainer.recompute import checkpointed
from steelyard.trainer.schedules import Schedule, rate
from steelyard.trainer.scoring import Judge, Score, right, score_of
from steelyard.trainer.watch import Unwatched, Watch
from steelyard.trainer.worth import Worth

__all__ = ["Augment", "Score", "fit", "right", "score_of"]

Augment = Callable[[Batch], Batch]
Tell = Callable[[int, float], None]  # steps done, share of the training done
Until = Callable[[float], bool]  # a step's loss; True ends the training

_PACED = 5  # steps, after which the pace is known well enough to plan by
_LONE = "Expected more than 1 value per channel"


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
    watch: Watch | None = None,
    checkpoints: Checkpoints | None = None,
    skip_bad: bool = False,
    schedule: Schedule = rate,
    until: Until | None = None,
    spread: Spread = "data",
) -> History:
    """Train `model` in place and leave it in evaluation mode on the processor's memory.

    Without an `objective` the loss is the cross-entropy of the contract's outputs, with the recipe's label smoothing.
    `validation` is scored at the end of each epoch. Where `checkpoints` holds one of this training, it goes on from there.
    Examples that cannot be read are left out with `skip_bad`. Raises `InvalidInput` for a recipe that this machine cannot
    follow, an example that cannot be read, and a checkpoint of another training; a loss that is not finite raises nothing:
    ``history.ended`` is ``"diverged"`` and its note names step, batch and layer. Ranks that `steelyard.trainer.parallel.join` made
    train together, the model whole on each or its weights ``"sharded"``, and each has the same history.
    """
    if not len(data):
        raise InvalidInput("the training split has no examples")
    loss = cross_entropy(data.contract.outputs) if objective is None else None
    objective = objective or supervised(cross_entropy(data.contract.outputs, recipe.label_smoothing))
    learned = isinstance(objective, nn.Module) and next(objective.parameters(), None) is not None
    check_spread(recipe, spread, skip_bad=skip_bad, checkpoints=checkpoints is not None, learned_objective=learned)
    with ExitStack() as stack:
        stack.enter_context(seeded(recipe.seed + Ranks.here().rank))
        stack.enter_context(deterministic(recipe.deterministic))
        net = stack.enter_context(shared(model, spread))
        said = [*stack.enter_context(_adapted(net, recipe))]
        training = _Training(net, data, recipe, objective, clock, Unwatched() if watch is None else watch)
        stack.callback(training.release)
        training.said += said
        training.augment, training.skip_bad, training.schedule, training.until = augment, skip_bad, schedule, until
        if checkpoints is not None:
            training.resume(checkpoints)
        return training.run(Judge(validation, score, loss), tell or (lambda _steps, _share: None))


@contextmanager
def _adapted(model: nn.Module, recipe: Recipe) -> Iterator[tuple[str, ...]]:
    """The net as the recipe wants it for the length of the training; what that changed, in words."""
    with dropout_set(model, recipe.dropout) as dropped, checkpointed(model, recipe.checkpointing) as blocks:
        if recipe.compile:
            model.compile()
        said = f"activations of {len(blocks)} block(s) are made again: {', '.join(b or 'the net' for b in blocks[:6])}"
        try:
            yield tuple(words for words in (dropped, said if blocks else "") if words)
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor")):
                raise
            reason = " ".join(str(error).split())[:160]
            raise InvalidInput(f"the net cannot be compiled here ({reason}): leave compile out") from None
        finally:
            model.__dict__.pop("_compiled_call_impl", None)


class _Training:
    """A training under way; what `fit` was given beside a recipe is set before it runs."""

    def __init__(
        self,
        model: nn.Module,
        data: Examples,
        recipe: Recipe,
        objective: Objective,
        clock: Callable[[], float],
        watch: Watch,
    ) -> None:
        self._model, self._data, self._recipe, self._objective = model, data, recipe, objective
        self._clock, self._watch, self._ranks = clock, watch, Ranks.here()
        self._accelerator = _accelerator(recipe)
        learned = [*model.parameters(), *(objective.parameters() if isinstance(objective, nn.Module) else ())]
        self._learned = [p for p in learned if p.requires_grad]
        if not self._learned:
            raise InvalidInput("the model has no parameters that require gradients: nothing can be trained")
        if recipe.channels_last:
            model.to(memory_format=torch.channels_last)
        optimiser = make_optimiser(recipe, rate_groups(model, self._learned, recipe.lr, recipe.layer_decay))
        self._prepared: nn.Module
        self._prepared, self._traffic = prepared(model, self._accelerator)
        self._optimiser = self._accelerator.prepare_optimizer(optimiser)
        self._average = _average(model, recipe)
        self._micro = MicroBatch(recipe, peak_bytes)
        self._checkpoints: Checkpoints | None = None
        self._per_epoch = math.ceil(len(shuffled(len(data), recipe.batch, 0, 0)) / recipe.accumulation)
        self._epoch, self._at = 0, 0  # the epoch, and the next batch of it
        self._started = clock()
        self._rows: list[tuple[float, float, float, float, int]] = []  # loss, rate, seconds, waited, examples
        self._worth = Worth(recipe.least_gain)
        self._epochs: list[list[float]] = []  # seconds by its end, score, loss
        self._kept: tuple[int, dict[str, Any]] | None = None  # epoch and weights
        self._good: dict[str, Any] = _copied(model)
        self._unread: dict[int, str] = {}
        self._switched = False
        self.said: list[str] = []
        self.augment: Augment | None = None
        self.skip_bad = False
        self.schedule: Schedule = rate
        self.until: Until | None = None

    def run(self, judge: Judge, tell: Tell) -> History:
        """Epochs until something ends them."""
        self._watch.begin(self._model, self._optimiser.optimizer)
        ended: Ended | None = None
        while ended is None:
            try:
                self._mode()
                ended = self._pass(tell)
            except NotFinite as found:
                note = where(found, len(self._rows), self._epoch, self._culprit(found.batch))
                self._model.load_state_dict(self._good)
                return self._history("diverged", note)
            self._note(judge)
            if ended is None and self._stale():
                ended = "patience"
            if ended is None and self._epochs and len(self._epochs[-1]) > 1 and self._worth.over(self._epochs[-1][1]):
                ended = "gain"
            self._epoch, self._at = self._epoch + 1, 0
        return self._history(ended, "")

    def release(self) -> None:
        """Take off what Accelerate put around the model, and bring it back to where it came from."""
        self._watch.end()
        self._accelerator.unwrap_model(self._prepared, keep_fp32_wrapper=False)
        self._model.__dict__.pop("forward", None)
        self._model.__dict__.pop("_is_accelerate_prepared", None)
        for parameter in self._learned:
            parameter.grad = None
            parameter.requires_grad_(True)
        if self._recipe.channels_last:
            self._model.to(memory_format=torch.contiguous_format)
        self._model.to("cpu").eval()

    # --- steps -----------------------------------------------------------------------------------

    def _pass(self, tell: Tell) -> Literal["done", "time"] | None:
        """One pass over the data, or what is left of it; why the training ends with it, if it does."""
        order = shuffled(len(self._data), self._recipe.batch, self._recipe.seed, self._epoch)
        while self._at < len(order):
            ended = self._over()
            if ended is not None:
                return ended
            self._step(order[self._at : self._at + self._recipe.accumulation])
            self._at += self._recipe.accumulation
            if self._checkpoints is not None and self._ranks.first(self._checkpoints.due(len(self._rows))):
                self._save(self._checkpoints)
            tell(len(self._rows), self._share())
            if self.until is not None and self.until(self._rows[-1][0]):
                return "done"
        return self._over()

    def _step(self, group: Sequence[NDArray[np.int64]]) -> None:
        """One step of the optimiser on the mean over all examples of its batches."""
        began = self._clock()
        total = self._total()
        self._switch(total)
        lr = set_rates(self._optimiser, self.schedule(self._recipe, len(self._rows), total, self._per_epoch))
        loss, waited, examples = self._gradients(group)
        with self._watch.phase("optimiser"):
            self._descend()
        if self._traffic is not None:
            self._traffic.step()
        self._rows.append((loss, lr, self._clock() - began, waited, examples))
        self._watch.step(examples=examples, loss=loss, lr=lr)

    def _gradients(self, group: Sequence[NDArray[np.int64]]) -> tuple[float, float, int]:
        """The gradient of a step; begun again as it was where memory ended or an example could not be read."""
        again = self._micro.adapts or self.skip_bad
        while True:
            before = self._here() if again else None
            try:
                self._micro.begin()
                found = self._accumulate(group)
                self._micro.check()
            except Unreadable as error:
                if not self.skip_bad:
                    raise
                self._unread[error.example] = error.reason
            except Exception as error:
                if not (self._micro.adapts and is_out_of_memory(error)):
                    raise
                self.said.append(f"step {len(self._rows) + 1}: {self._micro.halve(error)}")
            else:
                return found
            self._back(before)

    def _accumulate(self, group: Sequence[NDArray[np.int64]]) -> tuple[float, float, int]:
        """Loss, seconds waited for examples, and their number.

        Accelerate's own accumulation takes the mean of the batches' means, which is another number where they differ in
        size; so each batch is weighted here.
        """
        parts = [part for index in group for part in self._micro.parts(self._readable(index)) if len(part)]
        examples = sum(map(len, parts))
        if not examples:
            raise InvalidInput(f"none of the {sum(map(len, group))} examples of a step can be read: mend the data")
        loss, waited = 0.0, 0.0
        for part in parts:
            before = self._clock()
            with self._watch.phase("data"):
                own, count = self._ranks.work(part)
                batch = self._made(own)
            waited += self._clock() - before
            loss += self._backward(batch, count / examples, last=part is parts[-1])
        return loss, waited, examples

    def _readable(self, index: NDArray[np.int64]) -> NDArray[np.int64]:
        return index[~np.isin(index, list(self._unread))] if self._unread else index

    def _made(self, index: NDArray[np.int64]) -> Batch:
        try:
            batch = self._data.batch(index, self._epoch)
        except Exception as error:
            raise first_unreadable(self._data, index, self._epoch) or _nothing_readable(error) from None
        batch = batch.to(self._accelerator.device, channels_last=self._recipe.channels_last)
        return batch if self.augment is None else self.augment(batch)

    def _backward(self, batch: Batch, share: float, *, last: bool) -> float:
        """Add the gradient of a batch's part of the step's mean; that part."""
        try:
            with nullcontext() if last else holding(self._prepared), idle(not share):
                with self._watch.phase("forward"):
                    count = self._ranks.count  # of whose gradients the mean is taken
                    loss = self._objective(self._prepared, batch) * (share * count)
                    value = float(loss.detach()) / count
                if count > 1:
                    with self._watch.phase("communication"):
                        value = self._ranks.totals([value])[0]
                if not math.isfinite(value):
                    raise NotFinite(value, batch)
                with self._watch.phase("backward"):
                    self._accelerator.backward(loss)
        except ValueError as error:
            if _LONE not in str(error):
                raise
            raise InvalidInput(
                f"batch normalisation cannot train on batches of {len(batch)} example: give a batch of 2 or more"
            ) from None
        return value

    def _descend(self) -> None:
        scaler, inner = self._accelerator.scaler, self._optimiser.optimizer
        if self._recipe.l1:
            add_l1(self._learned, self._recipe.l1 * (1.0 if scaler is None else float(scaler.get_scale())))
        if self._recipe.clip_norm is not None:
            self._accelerator.clip_grad_norm_(self._learned, self._recipe.clip_norm)
        if scaler is None:  # not through Accelerate's optimiser, which looks for packages at every step
            inner.step()
        else:
            scaler.step(inner)
            scaler.update()
        inner.zero_grad()
        if self._average is not None and self._recipe.ema is not None:
            self._average.update_parameters(self._model)

    def _switch(self, total: int) -> None:
        """From Adam to SGD, where the recipe's share of the training is done; said once, whoever switched."""
        at, inner = self._recipe.switch, self._optimiser.optimizer
        if not isinstance(inner, AdamThenSGD) or self._switched:
            return
        if isinstance(at, int | float) and len(self._rows) >= at * total:
            inner.switch(self._recipe.switch_lr)
        self._switched = inner.switched
        if self._switched:
            lr = max(group["initial_lr"] for group in inner.param_groups)
            self.said.append(f"step {len(self._rows) + 1}: sgd goes on where adam stood, at the rate {lr:.3g}")

    # --- again, and on -----------------------------------------------------------------------------

    def _here(self) -> tuple[dict[str, Any], list[torch.Tensor]]:
        return states(), [buffer.clone() for buffer in self._model.buffers()]

    def _back(self, before: tuple[dict[str, Any], list[torch.Tensor]] | None) -> None:
        """To the beginning of the step: no gradient, and chance and running statistics as they were."""
        assert before is not None
        self._optimiser.zero_grad()
        put_states(before[0])
        with torch.no_grad():
            for buffer, kept in zip(self._model.buffers(), before[1], strict=True):
                buffer.copy_(kept)

    def resume(self, checkpoints: Checkpoints) -> None:
        """Go on from the newest checkpoint that is whole, if there is one; and write more."""
        self._checkpoints = checkpoints
        state, said = checkpoints.latest()
        if state is not None:
            check_same(state, self._identity())
            self._restore(state)
            said.append(f"went on from the checkpoint at step {len(self._rows)}")
            if state["made_by"] != _made_by():
                said.append(f"that one was made by {state['made_by']}, this is {_made_by()}: the last bits may differ")
        self.said += said

    def _identity(self) -> dict[str, Any]:
        digest = hashlib.blake2b(np.ascontiguousarray(self._data.labels).tobytes(), digest_size=8).hexdigest()
        return {
            "recipe": self._recipe.plain(),
            "model": self._model.state_dict(),
            "data": (len(self._data), digest),
            "of": "" if self._checkpoints is None else self._checkpoints.of,
            "made_by": _made_by(),
        }

    def _save(self, checkpoints: Checkpoints) -> None:
        objective, scaler = self._objective, self._accelerator.scaler
        state = self._identity() | {
            "optimiser": self._optimiser.state_dict(),
            "scaler": {} if scaler is None else scaler.state_dict(),
            "average": {} if self._average is None else self._average.state_dict(),
            "objective": objective.state_dict() if isinstance(objective, nn.Module) else {},
            "chance": self._ranks.gathered(states()),
            "place": (self._epoch, self._at, self._micro.size, self._clock() - self._started),
            "rows": torch.tensor(self._rows, dtype=torch.float64),
            "epochs": self._epochs,
            "kept": self._kept,
            "good": self._good,
            "unread": self._unread,
            "said": self.said,
        }
        words = checkpoints.save(len(self._rows), state) if self._ranks.lead else ""
        if words:
            self.said.append(words)

    def _restore(self, state: dict[str, Any]) -> None:
        self._model.load_state_dict(state["model"])
        self._optimiser.load_state_dict(state["optimiser"])
        if self._accelerator.scaler is not None:
            self._accelerator.scaler.load_state_dict(state["scaler"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])
        if isinstance(self._objective, nn.Module):
            self._objective.load_state_dict(state["objective"])
        self._epoch, self._at, self._micro.size, spent = state["place"]
        self._started = self._clock() - spent
        self._rows = [(a, b, c, d, int(n)) for a, b, c, d, n in state["rows"].tolist()]
        self._epochs, self._kept, self._good = state["epochs"], state["kept"], state["good"]
        self._unread, self.said = state["unread"], list(dict.fromkeys([*state["said"], *self.said]))
        self._switched = bool(getattr(self._optimiser.optimizer, "switched", False))
        put_states(state["chance"][min(self._ranks.rank, len(state["chance"]) - 1)])

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
            spent = self._spent()
            pace = spent / done if done else self._recipe.seconds / _PACED
            planned = min(planned, done + max(0.0, self._recipe.seconds - spent) / pace)
        return max(done + 1, int(planned))

    def _over(self) -> Literal["done", "time"] | None:
        if len(self._rows) >= self._planned():
            return "done"
        if self._recipe.seconds is not None and self._spent() >= self._recipe.seconds:
            return "time"
        return None

    def _spent(self) -> float:
        """Seconds of training, by the first rank's clock."""
        return self._ranks.first(self._clock() - self._started)

    def _share(self) -> float:
        return 1.0 if self._over() else len(self._rows) / self._total()

    # --- epochs ----------------------------------------------------------------------------------

    def _mode(self) -> None:
        """Training mode, with the body held for the recipe's first epochs."""
        self._prepared.train()
        if self._epoch <= self._recipe.freeze and self._recipe.freeze:
            hold_body(self._model, self._learned, held=self._epoch < self._recipe.freeze)

    def _note(self, judge: Judge) -> None:
        """Score an epoch and keep its weights: they are good, and perhaps the best; of equals the last, trained longest."""
        judged = self._judged()
        self._good = _copied(judged)
        found = judge(judged)
        self._epochs.append([self._clock() - self._started, *found])
        self._watch.epoch(self._epoch, dict(zip(("validation", "validation_loss"), found, strict=False)))
        if not found:
            return
        best = self._kept is None or found[0] >= self._epochs[self._kept[0]][1]
        if best or self._recipe.keep == "last":
            self._kept = (self._epoch, self._good)

    def _judged(self) -> nn.Module:
        """The net whose weights stand for the training by now: their average, where there is one."""
        if self._average is None:
            return self._model
        if self._recipe.swa is not None:
            if len(self._rows) < self._recipe.swa * self._total():
                return self._model
            self._average.update_parameters(self._model)
            renormalise(self._average, self._inputs())
        averaged: nn.Module = self._average.module
        return averaged

    def _inputs(self) -> Iterator[torch.Tensor]:
        """Of every training example that can be read, once, as they come without augmentation."""
        index = self._readable(np.arange(len(self._data)))
        for start in range(0, len(index), self._recipe.batch):
            yield self._data.batch(index[start : start + self._recipe.batch]).to(self._accelerator.device).inputs

    def _stale(self) -> bool:
        scores = [epoch[1] for epoch in self._epochs if len(epoch) > 1]
        if self._recipe.patience is None or not scores:
            return False
        return len(scores) - 1 - int(np.argmax(scores)) >= self._recipe.patience

    def _culprit(self, batch: Batch) -> str:
        return first_not_finite(self._prepared, lambda: self._objective(self._prepared, batch))

    def _history(self, ended: Ended, note: str) -> History:
        if ended != "diverged" or self._kept is not None:
            self._model.load_state_dict(self._good if self._kept is None else self._kept[1])
        loss, rates, seconds, waited, examples = np.array(self._rows, dtype=np.float64).reshape(-1, 5).T
        sent = [] if self._traffic is None else self._traffic.steps
        ends, scores, losses = (np.array([row[at] for row in self._epochs if len(row) > at]) for at in range(3))
        return History(
            loss=loss,
            learning_rate=rates,
            step_s=seconds,
            wait_s=waited,
            examples=examples.astype(np.int64),
            steps_per_epoch=self._per_epoch,
            validation=scores,
            best_epoch=None if self._kept is None else self._kept[0],
            ended=ended,
            note=note,
            validation_loss=losses,
            epoch_end_s=ends,
            unread=tuple(sorted(self._unread.items())),
            said=tuple(self.said),
            sent_bytes=np.array([sent_bytes for sent_bytes, _ in sent], dtype=np.int64),
            sending_s=np.array([seconds for _, seconds in sent]),
        )


def _nothing_readable(error: Exception) -> SteelyardError:
    if isinstance(error, SteelyardError):
        return error
    reason = " ".join(str(error).split())[:200]
    return InvalidInput(f"no example of a batch can be read: {type(error).__name__}: {reason}")


def _accelerator(recipe: Recipe) -> Any:
    try:
        from accelerate import Accelerator
        from accelerate.state import AcceleratorState
    except ImportError:
        raise MissingExtra("train", needed_for="training") from None
    AcceleratorState._reset_state()  # one process may train twice, in another precision each time
    try:
        made = Accelerator(
            mixed_precision={"none": "no"}.get(recipe.amp, recipe.amp), step_scheduler_with_optimizer=False
        )
    except ValueError as error:
        raise InvalidInput(
            f"amp {recipe.amp} does not work here ({' '.join(str(error).split())[:120]}): give bf16 or none"
        ) from None
    if recipe.amp == "fp16" and made.device.type == "cpu":  # Accelerate would go on in fp32 and say nothing
        made.native_amp, made.scaler = True, torch.amp.GradScaler("cpu")
    return made


def _average(model: nn.Module, recipe: Recipe) -> AveragedModel | None:
    if recipe.ema is not None:
        return moving_average(model, recipe.ema)
    return None if recipe.swa is None else equal_average(model)


def _copied(model: nn.Module) -> dict[str, Any]:
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def _made_by() -> str:
    count = Ranks.here().count
    several = f" of each of {count} processes" if count > 1 else ""
    return f"torch {torch.__version__} on {torch.get_num_threads()} thread(s){several}"
