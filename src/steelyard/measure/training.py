"""A watch that keeps everything: phases of each step, memory by role, gradients, the machine meanwhile, energy.

Time is read at each change of phase. What costs more (norms of gradients, dead channels) is looked at as often as
0.5 % of the time allows; memory by role is counted once, at the second step.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING, Any, SupportsFloat

import numpy as np

from steelyard import __version__
from steelyard.measure.window import Window
from steelyard.probe.energy import energy
from steelyard.probe.host import environment
from steelyard.probe.memory import rss_bytes
from steelyard.probe.monitor import Monitor
from steelyard.records import Environment, Sample, Scalar, Unavailable, Watched
from steelyard.trainer.watch import PHASES, DeviceTimes, Phase, StepWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from steelyard.measure.learning import Net

__all__ = ["Recorder", "loader_settings"]

Reading = Sample | Unavailable
_RATE_HZ = 1.0
_LOADER = ("num_workers", "prefetch_factor", "pin_memory", "persistent_workers", "batch_size", "drop_last")


class Recorder:
    """A `steelyard.trainer.watch.Watch`; `watched` gives the record when it has ended.

    `every` looks at gradients at every so many steps, in place of as often as little time allows. `monitor` reads load and
    memory once a second in a thread.
    """

    def __init__(
        self,
        name: str = "training",
        *,
        every: int | None = None,
        monitor: bool = True,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.name, self.ended = name, ""
        self.label_counts: dict[int, int] = {}
        self.loader: dict[str, Scalar] = {}
        self.score_examples = 0
        self.target: float | None = None
        self.steps = StepWatch(clock=clock)
        self._every, self._clock = every, clock
        self._net: Net | None = None
        self._open = ExitStack()
        self._window = Window(name, memory=True, energy=True, gpu=True)
        self._monitor = Monitor(rate_hz=_RATE_HZ) if monitor else None
        self._ends: list[tuple[float, float]] = []  # wall and processor seconds at the end of each epoch

    # --- what a loop tells -----------------------------------------------------------------------

    def begin(self, model: Any = None, optimiser: Any = None) -> None:
        """Start the clocks; with a net and PyTorch's optimiser, what they hold and how they fare is read too."""
        if model is not None and optimiser is not None:
            from steelyard.measure.learning import Net, Pace

            self._net = Net(model, optimiser, Pace(self._clock, every=self._every))
        if model is not None and _on_cuda(model):
            self.steps = StepWatch(clock=self._clock, device=DeviceTimes.cuda())
        if self._monitor is not None:
            self._open.enter_context(self._monitor)
        self._open.enter_context(self._window)
        self._ends = [(time.perf_counter(), time.process_time())]

    def phase(self, name: Phase) -> AbstractContextManager[object]:
        """As `StepWatch.phase`; some forward passes are looked at."""
        if name == "forward" and self.look():
            return self._looked()
        return self.steps.phase(name)

    def step(self, *, examples: int, loss: SupportsFloat, lr: float) -> None:
        """As `StepWatch.step`."""
        self.steps.step(examples=examples, loss=loss, lr=lr)

    def epoch(self, index: int, scores: Mapping[str, float]) -> None:
        """As `StepWatch.epoch`."""
        self.steps.epoch(index, scores)
        self._ends.append((time.perf_counter(), time.process_time()))
        if self._net is not None:
            self._net.epoch()

    def end(self) -> None:
        """Stop the clocks and take all hooks off."""
        if self._net is not None:
            self._net.detach()
        self._open.close()

    # --- for loops that are seen through hooks ---------------------------------------------------

    def look(self) -> bool:
        """Whether the forward pass that begins is looked at; then `leave` must end it."""
        return self._net is not None and self._net.look()

    def leave(self) -> None:
        """The forward pass that was looked at is over."""
        if self._net is not None:
            self._net.leave()

    @property
    def rate(self) -> float:
        """The learning rate of the step under way, where the optimiser is known."""
        return float("nan") if self._net is None else self._net.rate

    # --- the record ------------------------------------------------------------------------------

    def watched(self) -> Watched:
        """All that was seen so far."""
        steps, net = self.steps, self._net
        where = environment()
        looked: dict[str, Any] = {}
        if net is not None and net.steps:
            looked = {
                "sampled": np.array(net.steps, dtype=np.int64),
                "layers": net.layers,
                "gradient_norms": np.array(net.gradient_norms),
                "weight_norms": np.array(net.weight_norms),
                "updates": np.array(net.updates),
                "activations": net.activations,
                "dead_share": net.dead_table(),
            }
        return Watched(
            name=self.name,
            environment=where,
            version=__version__,
            phases=PHASES,
            phases_s=steps.phases_s,
            loss=steps.loss,
            learning_rate=steps.learning_rate,
            examples=steps.examples,
            device_s=steps.device_s,
            epochs=steps.epochs,
            epoch_ends=steps.epoch_ends,
            outside_s=steps.outside_s,
            scores=steps.scores,
            score_examples=self.score_examples,
            label_counts=tuple(self.label_counts.get(i, 0) for i in range(max(self.label_counts, default=-1) + 1)),
            loader=self.loader,
            readings=tuple(self._readings(where)),
            target=self.target,
            ended=self.ended,
            **looked,
        )

    def _readings(self, where: Environment) -> Iterator[Reading]:
        yield from self._window.readings()
        yield from () if self._net is None else self._net.readings()
        yield from _dispatch() if self._net is not None else ()
        yield from () if self._monitor is None else self._monitor.series()
        yield from self._epoch_energy(where)
        yield from _cuda_peak()

    def _epoch_energy(self, where: Environment) -> Iterator[Reading]:
        """Of each epoch, validation included, by the model or the calibration alone: the median of its draws.

        Counters tell the whole (`energy_j`); epochs share it by these.
        """
        if len(self._ends) < 2:
            return
        spans = np.diff(np.array(self._ends), axis=0)
        memory = rss_bytes()
        found = [energy(wall, max(cpu, 1e-6), memory, where, draws=400) for wall, cpu in spans.tolist() if wall > 0]
        lacking = next((f for f in found if isinstance(f, Unavailable)), None)
        if lacking is not None:
            yield Unavailable(quantity="epoch_energy_j", reason=lacking.reason)
            return
        values = np.array([f.value for f in found if isinstance(f, Sample)])
        yield Sample(quantity="epoch_energy_j", unit="J", values=values, provenance="modelled")

    @contextmanager
    def _looked(self) -> Iterator[None]:
        with self.steps.phase("forward"):
            try:
                yield
            finally:
                self.leave()


def loader_settings(loader: Any) -> dict[str, Scalar]:
    """What a PyTorch `DataLoader`, or what looks like one, was told."""
    found = {name: getattr(loader, name, None) for name in _LOADER}
    return {name: value for name, value in found.items() if isinstance(value, int | float | bool)}


def _on_cuda(model: Any) -> bool:
    first = next(iter(model.parameters()), None) if hasattr(model, "parameters") else None
    return first is not None and getattr(first, "is_cuda", False)


def _dispatch() -> Iterator[Reading]:
    """What one small operator costs with its gradient recorded, the least of some readings."""
    import torch

    small = torch.ones(16, requires_grad=True)
    times = []
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(100):
            small + 1.0
        times.append((time.perf_counter() - began) / 100)
    yield Sample(quantity="dispatch_s", unit="s", values=np.array(times), note="one PyTorch operator on 16 numbers")


def _cuda_peak() -> Iterator[Reading]:
    with suppress(ImportError):
        import torch

        if torch.cuda.is_available() and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            peak = float(torch.cuda.max_memory_allocated())
            yield Sample(quantity="cuda_peak_bytes", unit="byte", values=np.array([peak]))
