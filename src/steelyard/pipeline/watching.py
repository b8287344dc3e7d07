"""`steelyard.training`: a user's own loop, watched. Its record, its diagnosis and its page; the loop stays as it is.

with steelyard.training("my net", out="runs/mine", model=net, optimiser=adam) as run:
    for epoch in range(10):
        for inputs, labels in run.batches(loader):
            with run.forward():
                loss = criterion(net(inputs), labels)
            with run.backward():
                loss.backward()
            with run.optimiser():
                adam.step()
                adam.zero_grad()
            run.step(loss)
        run.epoch(validation=accuracy(net), validation_loss=held_out(net))
print(run)
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, SupportsFloat

import numpy as np

from steelyard.diagnose.training import diagnose_training
from steelyard.errors import InvalidInput
from steelyard.measure.training import Recorder, loader_settings
from steelyard.pipeline.render import write_page
from steelyard.records import Finding, Sample, TrainingRun, Watched
from steelyard.report.training import of_run
from steelyard.report.training_page import Told, render_training
from steelyard.store import RunFolder, kind_of, read_training, read_watched
from steelyard.trainer.watch import Phase

__all__ = ["Training", "read_told", "size_of", "training"]

_END = object()
_FIRST, _EVERY = 32, 16  # batches that are looked at: the first, then one of so many


class Training:
    """A training under way, told by whoever runs it; after the ``with`` block its record, findings and page.

    With `model` and `optimiser` (PyTorch's) memory by role, gradients and dead channels are read too. `out` names a folder for
    the record and ``report.html``; without it nothing is written. `validation_examples` is how many the validation score
    counts over, for its interval; `target` is the score whose time is asked for. An error in the block passes through, and what
    was seen until then is kept.
    """

    def __init__(
        self,
        name: str = "training",
        *,
        out: str | Path | None = None,
        model: Any = None,
        optimiser: Any = None,
        validation_examples: int = 0,
        target: float | None = None,
        every: int | None = None,
        monitor: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        if not isinstance(name, str):
            raise InvalidInput(f"a training's name is a string, got {type(name).__name__}: write training('name', ...)")
        self._out = None if out is None else Path(out)
        self._recorder = Recorder(name, every=every, monitor=monitor, clock=clock)
        self._recorder.score_examples, self._recorder.target = validation_examples, target
        self._model, self._optimiser = model, optimiser
        self._examples = 0  # of the step under way
        self._epoch, self._owed = 0, False  # an epoch whose batches are over, and that was not told of yet
        self._batches = _Batches(self._recorder)
        self._watched: Watched | None = None
        self._looking = False  # at a forward pass that `now` began

    def __enter__(self) -> Training:
        self._recorder.begin(self._model, self._optimiser)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._recorder.ended = f"{type(error).__name__}: {error}"
        self.pause()
        self._close_epoch(last=True)
        self._recorder.end()
        self._watched = self.watched
        if self._out is not None:
            self._write(self._out)

    # --- what the loop tells ---------------------------------------------------------------------

    def batches(self, loader: Iterable[Any]) -> Iterator[Any]:
        """The batches of one epoch; the time that each is waited for counts as data."""
        self._close_epoch()
        self._recorder.loader.update(loader_settings(loader))
        waiting = self._recorder.steps.phase("data")
        try:
            with waiting:
                batches = iter(loader)
            while True:
                with waiting:
                    batch = self._batches.made(batches)
                if batch is _END:
                    return
                self._batches.look(batch)
                self._examples += size_of(batch)
                yield batch
        finally:
            self.pause()
            self._owed = True

    def forward(self) -> AbstractContextManager[object]:
        """The net's outputs and the loss."""
        return self._recorder.phase("forward")

    def backward(self) -> AbstractContextManager[object]:
        """The gradients."""
        return self._recorder.phase("backward")

    def optimiser(self) -> AbstractContextManager[object]:
        """The optimiser's step."""
        return self._recorder.phase("optimiser")

    def communication(self) -> AbstractContextManager[object]:
        """Waiting for other processes."""
        return self._recorder.phase("communication")

    def now(self, name: Phase | None) -> None:
        """From now on it is this phase, or other: for callbacks, which have no stretches to enter."""
        if self._looking and name != "forward":
            self._leave()
        self._recorder.steps.now(name)
        if name == "forward" and not self._looking:
            self._looking = self._recorder.look()

    def pause(self) -> None:
        """What follows belongs to no step, until a phase begins: validation, checkpoints."""
        self._leave()
        self._recorder.steps.pause()

    def _leave(self) -> None:
        if self._looking:
            self._recorder.leave()
            self._looking = False

    def step(self, loss: SupportsFloat, *, examples: int | None = None, lr: float | None = None) -> None:
        """A step of the optimiser is over. Examples and rate are those of the batches and the optimiser where they are known."""
        count = self._examples if examples is None else examples
        rate = self._recorder.rate if lr is None else lr
        told = loss.detach() if hasattr(loss, "detach") else loss
        self._recorder.step(examples=count, loss=told, lr=rate)
        self._examples = 0

    def epoch(self, **scores: float) -> None:
        """An epoch is over and judged: ``validation`` and ``training`` (higher is better), ``validation_loss``, or others."""
        self._recorder.epoch(self._epoch, {name: float(score) for name, score in scores.items()})
        self._epoch, self._owed = self._epoch + 1, False

    def _close_epoch(self, *, last: bool = False) -> None:
        """Tell of an epoch whose scores nobody told; at the end, of steps that belong to none so far."""
        ends = self._recorder.steps.epoch_ends
        if self._owed or (last and len(self._recorder.steps) > ends.max(initial=0)):
            self.epoch()

    # --- what came out ---------------------------------------------------------------------------

    @property
    def watched(self) -> Watched:
        """The record, so far or of the whole."""
        if self._watched is not None:
            return self._watched
        seen = self._recorder.watched()
        return dataclasses.replace(seen, readings=(*seen.readings, *self._batches.readings()))

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What holds it back, and what to try."""
        return diagnose_training(self.watched)

    @property
    def report(self) -> Path | None:
        """The page, where a folder was given."""
        return None if self._out is None else self._out / "report.html"

    def __str__(self) -> str:
        from steelyard.report.training import findings_table, training_table
        from steelyard.report.windows import rendered

        found = findings_table(self.findings)
        tables = [training_table(self.watched), *(() if found is None else (found,))]
        return "\n\n".join(map(rendered, tables))

    def _write(self, out: Path) -> None:
        found = self.findings
        with RunFolder(out) as folder:
            folder.clear()
            folder.append(self.watched)
            folder.append(found)
        write_page(out / "report.html", render_training([Told(watched=self.watched, findings=found)]))


training = Training


def read_told(folders: Sequence[Path]) -> list[Told]:
    """Trainings from their folders, each with its diagnosis made anew; those of one name, or alike but for their seed, are a group."""
    records = [read_watched(path) if kind_of(path) is Watched else read_training(path) for path in folders]
    groups: dict[str, str] = {}
    return [_told(path, record, groups) for path, record in zip(folders, records, strict=True)]


def _told(folder: Path, record: Watched | TrainingRun, groups: dict[str, str]) -> Told:
    if isinstance(record, Watched):
        return Told(watched=record, findings=diagnose_training(record), name=folder.name, group=record.name)
    own = ("seed",) if record.search is None else ("seed", "lr")  # a rate that was found differs too
    words = {name: value for name, value in record.recipe.items() if name not in own}
    group = groups.setdefault(f"{record.spec}{sorted(words.items())}", folder.name)
    watched = of_run(record)
    findings = diagnose_training(watched, overlaps=record.overlaps)
    return Told(watched=watched, findings=findings, run=record, name=folder.name, group=group)


def size_of(batch: Any) -> int:
    """Examples in a batch: the length of the first array in it; 1 where it has none."""
    if isinstance(batch, Mapping):
        return size_of(list(batch.values()))
    if isinstance(batch, list | tuple):
        return size_of(batch[0]) if batch else 0
    shape = getattr(batch, "shape", None)
    return int(shape[0]) if shape is not None and len(shape) else 1


class _Batches:
    """What the batches themselves tell: their classes, the size of their inputs, whether the processor made them."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._classes: list[int] = []
        self._seen = 0
        self._wall_s = self._busy_s = 0.0
        self._rms: float | None = None

    @property
    def _due(self) -> bool:
        return self._seen < _FIRST or self._seen % _EVERY == 0

    def made(self, batches: Iterator[Any]) -> Any:
        """The next batch, or `_END`. Some are timed by the processor's clock too: waiting for a disk is not work."""
        if not self._due:
            return next(batches, _END)
        wall, busy = time.perf_counter(), _busy_s()
        batch = next(batches, _END)
        self._wall_s += time.perf_counter() - wall
        self._busy_s += _busy_s() - busy
        return batch

    def look(self, batch: Any) -> None:
        """Look at a batch, where it is time to; batches of any kind are welcome."""
        if self._due:
            with suppress(AttributeError, TypeError, ValueError, IndexError, RuntimeError):
                self._look(batch)
        self._seen += 1

    def readings(self) -> Iterator[Sample]:
        """All of it."""
        if self._classes:
            yield _reading("batch_classes", "count", self._classes)
        if self._wall_s > 0:
            yield _reading("loader_busy_share", "fraction", [self._busy_s / self._wall_s])
        if self._rms is not None:
            yield _reading("input_rms", "count", [self._rms])

    def _look(self, batch: Any) -> None:
        inputs, labels = (batch[0], batch[1]) if isinstance(batch, list | tuple) and len(batch) > 1 else (batch, None)
        if self._rms is None and "float" in str(getattr(inputs, "dtype", "")):
            self._rms = float((abs(inputs) ** 2).mean() ** 0.5)  # an array or a tensor
        if _class_labels(labels):
            found, counts = np.unique(np.asarray(labels), return_counts=True)
            self._classes.append(len(found))
            for label, count in zip(found.tolist(), counts.tolist(), strict=True):
                self._recorder.label_counts[label] = self._recorder.label_counts.get(label, 0) + count


def _busy_s() -> float:
    """Seconds that this thread worked, or would have if another had not had its core (schedstats of the Linux kernel)."""
    try:
        ran_ns, delayed_ns, _ = Path("/proc/thread-self/schedstat").read_text().split()
    except (OSError, ValueError):
        return time.thread_time()
    return (int(ran_ns) + int(delayed_ns)) / 1e9


def _reading(quantity: str, unit: str, values: Sequence[float]) -> Sample:
    return Sample(quantity=quantity, unit=unit, values=np.array(values, dtype=np.float64))


def _class_labels(labels: Any) -> bool:
    """Whole numbers along one axis, on the processor's side: reading an accelerator's would make it wait."""
    kind = str(getattr(labels, "dtype", ""))
    return "int" in kind and len(labels.shape) == 1 and not getattr(labels, "is_cuda", False)
