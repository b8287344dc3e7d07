"""Callbacks that watch a training of Lightning, of Hugging Face's Trainer, or of Keras on PyTorch.

    L.Trainer(callbacks=[steelyard.callbacks.lightning(out="runs/mine")])
    transformers.Trainer(..., callbacks=[steelyard.callbacks.transformers(out="runs/mine")])
    model.fit(..., callbacks=[steelyard.callbacks.keras(out="runs/mine")])

Each gives a callback of the library's own kind; its ``run`` is a `steelyard.training` with record, findings and page. The
libraries are imported when they are asked for.
"""

# ruff: noqa: ARG002 -- the libraries say what a hook is given

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from importlib import import_module
from typing import Any

from steelyard.errors import InvalidInput
from steelyard.pipeline.watching import Training, size_of

__all__ = ["keras", "lightning", "transformers"]


def _library(*names: str) -> Any:
    for name in names:
        try:
            return import_module(name)
        except ImportError:
            continue
    raise InvalidInput(f"this callback needs {names[0].partition('.')[0]}: pip install {names[0].partition('.')[0]}")


def _scores(told: Mapping[str, Any]) -> dict[str, float]:
    """The library's names of what was told at an epoch's end, in the words that the diagnosis knows."""
    words = {
        "val_loss": "validation_loss", "eval_loss": "validation_loss",
        "val_accuracy": "validation", "val_acc": "validation", "eval_accuracy": "validation",
        "train_accuracy": "training", "train_acc": "training", "accuracy": "training", "acc": "training",
    }  # fmt: skip
    found: dict[str, float] = {}
    for name, value in told.items():
        if name == "epoch" or name.endswith(("_runtime", "_per_second")):
            continue
        if isinstance(value, int | float) or getattr(value, "ndim", 1) == 0:
            found.setdefault(words.get(name, name), float(value))
    return found


def lightning(name: str = "training", **words: Any) -> Any:
    """A `lightning.pytorch.Callback`; further words are those of `steelyard.training`.

    Lightning tells every phase; what it does between ``training_step`` and ``backward`` counts as other. With manual
    optimisation only what it tells is seen. Scores are what the module logged: ``val_loss``, ``val_acc`` and so on.
    """
    base = _library("lightning.pytorch", "pytorch_lightning").Callback
    made: Any = type("Watch", (_Lightning, base), {})
    return made(name, words)


def transformers(name: str = "training", **words: Any) -> Any:
    """A `transformers.TrainerCallback`; further words are those of `steelyard.training`.

    The Trainer tells of steps and epochs alone: forward and backward passes are told by hooks on the net, as in
    `steelyard.torch.watch`. Scores are those of ``compute_metrics``, where it judges at each epoch.
    """
    base = _library("transformers").TrainerCallback
    made: Any = type("Watch", (_Transformers, base), {})
    return made(name, words)


def keras(name: str = "training", *, batch_size: int | None = None, **words: Any) -> Any:
    """A `keras.callbacks.Callback`; further words are those of `steelyard.training`.

    Keras tells where a batch begins and ends. On its PyTorch backend ``backward()`` parts that time into forward, backward and
    optimiser; on others it all counts as other. `batch_size` is told by Keras only for arrays: give it for other data.
    """
    base = _library("keras").callbacks.Callback
    made: Any = type("Watch", (_Keras, base), {})
    return made(name, words, batch_size)


class _Lightning:
    """Its hooks, in its words."""

    run: Training

    def __init__(self, name: str, words: dict[str, Any]) -> None:
        super().__init__()
        self._name, self._words = name, words

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        optimiser: Any = next(iter(trainer.optimizers), None)
        self.run = Training(self._name, model=pl_module, optimiser=optimiser, **self._words)
        self.run.__enter__()
        self._optimiser, self._stepped = optimiser, False
        self._examples = 0
        self._loss: Any = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.run.now("data")

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._examples += size_of(batch)
        self.run.now("forward")

    def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.run.now(None)

    def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
        self.run.now("backward")

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.run.now(None)

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self._stepped = True
        self.run.now("optimiser")

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        loss = outputs["loss"] if isinstance(outputs, Mapping) else outputs
        self._loss += float("nan") if loss is None else loss  # which Lightning has divided by the batches of the step
        if self._stepped:
            rate = float(self._optimiser.param_groups[0]["lr"])
            self.run.step(self._loss, examples=self._examples, lr=rate)
            self._stepped, self._examples, self._loss = False, 0, 0.0
        self.run.now("data")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        if hasattr(self, "run"):  # Lightning first tries the validation out
            self.run.pause()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.run.epoch(**_scores(trainer.callback_metrics))

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        self.run.__exit__(None, None, None)

    def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
        if hasattr(self, "run"):
            self.run.__exit__(type(exception), exception, exception.__traceback__)


class _Transformers:
    """Its hooks, in its words."""

    run: Any

    def __init__(self, name: str, words: dict[str, Any]) -> None:
        super().__init__()
        self._name, self._words = name, words

    def on_train_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        from steelyard.api.torch import Hooked

        optimiser = parts["optimizer"]
        plain = getattr(optimiser, "optimizer", optimiser)  # Accelerate's wrapper has no hooks
        self.run = Hooked(parts["model"], plain, name=self._name, **self._words)
        self.run.__enter__()
        self._scores: dict[str, float] = {}
        self._open = False

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._flush()
        self.run.now("data")
        self._open = True

    def on_step_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self.run.now("data")

    def on_substep_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self.run.now("data")

    def on_epoch_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self.run.pause()

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **parts: Any) -> None:
        self._scores = _scores(metrics or {})

    def on_train_end(self, args: Any, state: Any, control: Any, **parts: Any) -> None:
        self._flush()
        self.run.__exit__(None, None, None)

    def _flush(self) -> None:
        """Tell of the epoch before, which was judged after its end."""
        if self._open:
            self.run.epoch(**self._scores)
            self._scores, self._open = {}, False


class _Keras:
    """Its hooks, in its words."""

    run: Training
    model: Any  # set by Keras

    def __init__(self, name: str, words: dict[str, Any], batch_size: int | None) -> None:
        super().__init__()
        self._name, self._words, self._size = name, words, batch_size or 1

    def on_train_begin(self, logs: Any = None) -> None:
        self.run = Training(self._name, **self._words)
        self.run.__enter__()
        self._hooks = ExitStack()
        self._torch = _library("keras").backend.backend() == "torch"
        if self._torch:
            from steelyard.api.torch import backward_told

            self._hooks.enter_context(
                backward_told(lambda _loss: self.run.now("backward"), lambda: self.run.now("optimiser"))
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.run.now("data")

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        self.run.now("forward" if self._torch else None)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        rate = float(self.model.optimizer.learning_rate)
        self.run.step(float((logs or {}).get("loss", "nan")), examples=self._size, lr=rate)
        self.run.now("data")

    def on_test_begin(self, logs: Any = None) -> None:
        if hasattr(self, "run"):
            self.run.pause()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.run.epoch(**_scores({k: v for k, v in (logs or {}).items() if k != "loss"}))

    def on_train_end(self, logs: Any = None) -> None:
        self._hooks.close()
        self.run.__exit__(None, None, None)
