"""What a net under training tells at some of its steps: memory by role, norms of gradients, channels that gave nothing.

Everything here looks and changes nothing: the same batches give the same weights with and without it, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from steelyard.records import Floats, Sample, Scalar, Unavailable

__all__ = [
    "Operators",
    "Pace",
    "Rectified",
    "SavedTensors",
    "compiled",
    "held_bytes",
    "kept_gradient",
    "norms",
    "roles",
]

Reading = Sample | Unavailable
_PART = 4096  # numbers of a weight from which the size of its update is told
_RECTIFIERS = frozenset({F.relu, F.relu6, torch.relu, torch.relu_, torch.Tensor.relu, torch.Tensor.relu_})


class Pace:
    """At which steps to look: the first few, then as often as `share` of the time allows; or every so many."""

    def __init__(self, clock: Callable[[], float], *, every: int | None = None, share: float = 0.005) -> None:
        self._clock, self._every, self._share = clock, every, share
        self._began = clock()
        self._spent_s = 0.0

    def due(self, step: int) -> bool:
        """Whether to look at this step, counted from 0."""
        if self._every is not None:
            return step % self._every == 0
        return step < 3 or self._spent_s <= self._share * (self._clock() - self._began)

    def spend(self, look: Callable[[], None]) -> None:
        """Look, and remember what it took."""
        began = self._clock()
        look()
        self._spent_s += self._clock() - began


# --- memory ------------------------------------------------------------------------------------------


def held_bytes(tensors: Iterable[torch.Tensor]) -> int:
    """Bytes of the storages behind these tensors, each storage once; those that wrap others are opened."""
    storages = {plain.untyped_storage()._cdata: plain.untyped_storage().nbytes() for plain in _plain(tensors)}
    return sum(storages.values())


def _plain(tensors: Iterable[torch.Tensor]) -> Iterator[torch.Tensor]:
    for tensor in tensors:
        if hasattr(tensor, "__tensor_flatten__"):  # an 8-bit state: codes and scales
            yield from _plain(getattr(tensor, name) for name in tensor.__tensor_flatten__()[0])
        elif tensor.layout == torch.strided:
            yield tensor
        else:
            yield from (tensor._indices(), tensor._values())


class SavedTensors(saved_tensors_hooks):
    """Counts the bytes that autograd keeps for the backward pass while this is entered, each storage once.

    Left out are `without`, the weights and buffers themselves. What autocast makes of the weights is counted, and so is the
    batch where an operator needs it. A part that activation checkpointing will compute again keeps its inputs alone.
    """

    def __init__(self, without: Iterable[torch.Tensor]) -> None:
        super().__init__(self._pack, lambda tensor: tensor)
        self._known = {plain.untyped_storage()._cdata for plain in _plain(without)}
        self._seen: dict[int, tuple[StorageWeakRef, int]] = {}

    def __enter__(self) -> SavedTensors:  # type: ignore[override]
        super().__enter__()
        return self

    def _pack(self, tensor: torch.Tensor) -> torch.Tensor:
        for plain in _plain([tensor]):
            storage = plain.untyped_storage()
            reference = StorageWeakRef(storage)  # type: ignore[no-untyped-call]
            if reference.cdata not in self._known:
                self._seen[reference.cdata] = (reference, storage.nbytes())
        return tensor.detach()  # the tensor itself would hold its own graph

    @property
    def kept_bytes(self) -> int:
        """Of what was saved, what is still alive: asked at the end of the forward pass, what backward will find."""
        alive = [size for reference, size in self._seen.values() if not reference.expired()]  # type: ignore[no-untyped-call]
        return sum(alive)


def roles(model: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, int]:
    """Bytes of weights (buffers included), of gradients as they stand, and of the optimiser's state."""
    learned = [p for group in optimiser.param_groups for p in group["params"]]
    weights = [*model.parameters(), *model.buffers(), *learned]
    state = [value for kept in optimiser.state.values() for value in kept.values() if isinstance(value, torch.Tensor)]
    return {
        "weights": held_bytes(weights),
        "gradients": held_bytes(p.grad for p in {id(p): p for p in weights}.values() if p.grad is not None),
        "optimiser": held_bytes(state),
    }


# --- gradients and units -----------------------------------------------------------------------------


def norms(tensors: Sequence[torch.Tensor | None]) -> Floats:
    """Euclidean norm of each; NaN for None."""
    there = [i for i, tensor in enumerate(tensors) if tensor is not None]
    found = np.full(len(tensors), np.nan)
    if there:
        values = [torch.linalg.vector_norm(_values(tensors[i])).double() for i in there]
        found[there] = torch.stack([value.to(values[0].device) for value in values]).cpu().numpy()
    return found


def _values(tensor: torch.Tensor | None) -> torch.Tensor:
    """Its numbers; of one that is shared among processes the part here, since the others may not be looking."""
    assert tensor is not None
    here: torch.Tensor = tensor.detach()
    here = here.to_local() if hasattr(here, "to_local") else here
    return here.coalesce().values() if here.is_sparse else here


def kept_gradient(weight: torch.Tensor, tell: Callable[[bool], None]) -> None:
    """Tell, at the next backward pass, whether the step before it left its gradient there to be added to."""

    def look(_gradient: torch.Tensor) -> None:
        handle.remove()
        tell(weight.grad is not None and bool(_values(weight.grad).any()))

    handle = weight.register_hook(look)  # type: ignore[no-untyped-call]


class Rectified(TorchFunctionMode):
    """Finds the channels that a rectifier gave nothing for, in the forward passes while this is entered.

    Rectifiers are told apart by the order in which they run. A channel is the second axis, or the last of three.
    """

    def __init__(self, spend: Callable[[Callable[[], None]], None] = lambda look: look()) -> None:
        super().__init__()
        self.alive: list[torch.Tensor] = []  # for each rectifier, (channels,) whether any example passed
        self._at, self._spend = 0, spend

    def __enter__(self) -> Rectified:
        self._at = 0
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func in _RECTIFIERS and out.ndim > 1 and out.requires_grad:
            self._spend(partial(self._see, out.detach()))
        return out

    def _see(self, out: torch.Tensor) -> None:
        channel = out.ndim - 1 if out.ndim == 3 else 1
        alive = out.amax(dim=[axis for axis in range(out.ndim) if axis != channel]) > 0
        if self._at == len(self.alive):
            self.alive.append(alive)
        elif alive.shape == self.alive[self._at].shape:
            self.alive[self._at] = self.alive[self._at] | alive
        self._at += 1

    def dead_shares(self) -> Floats:
        """Share of each rectifier's channels that gave nothing so far; then begin afresh."""
        shares = np.array([1 - float(alive.double().mean()) for alive in self.alive])
        self.alive = []
        return shares


class Operators(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts operators that are dispatched while this is entered."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def compiled(model: nn.Module) -> bool:
    """Whether a part of the net is compiled: entering a mode would make it compile again."""
    return any(type(m).__name__ == "OptimizedModule" or m._compiled_call_impl is not None for m in model.modules())


# --- all of it ---------------------------------------------------------------------------------------


@dataclass
class Net:
    """A net and its optimiser under observation, from being made until `detach` takes all hooks off."""

    model: nn.Module
    optimiser: torch.optim.Optimizer
    pace: Pace
    steps: list[int] = field(default_factory=list)
    gradient_norms: list[Floats] = field(default_factory=list)
    weight_norms: list[Floats] = field(default_factory=list)
    updates: list[Floats] = field(default_factory=list)
    dead: list[Floats] = field(default_factory=list)
    rate: float = float("nan")  # as the step under way uses it

    def __post_init__(self) -> None:
        named = {
            id(p): (name, p)
            for name, p in self.model.named_parameters(remove_duplicate=True)
            if p.requires_grad and p.ndim > 1
        }
        self._named = list(named.values())
        self._looks = ExitStack()
        self._rectified, self._operators = Rectified(self.pace.spend), Operators()
        self._saved: SavedTensors | None = None
        self._roles: dict[str, int] = {}
        self._kept: list[bool] = []
        self._parts: list[torch.Tensor] = []  # the beginning of each weight before the step under way
        self._still = False  # in evaluation mode while it learns
        self._step = 0
        self._compiled = compiled(self.model)
        self._handles = [
            self.optimiser.register_step_pre_hook(self._before),
            self.optimiser.register_step_post_hook(self._after),
        ]

    @property
    def layers(self) -> tuple[str, ...]:
        """Names of the weights that are looked at: those with two axes or more."""
        return tuple(name for name, _ in self._named)

    @property
    def activations(self) -> tuple[str, ...]:
        """Names of the rectifiers, in the order they run."""
        return tuple(f"rectifier {i + 1}" for i in range(max(map(len, self.dead), default=0)))

    def look(self) -> bool:
        """Enter what looks at a forward pass, where it is time to; `leave` ends it."""
        if self._compiled or not self.pace.due(self._step):
            return False
        self._looks.enter_context(self._rectified)
        if self._step and self._saved is None:  # the second step: by then the optimiser has its state
            self._saved = self._looks.enter_context(SavedTensors([*self.model.parameters(), *self.model.buffers()]))
            self._looks.enter_context(self._operators)
        return True

    def leave(self) -> None:
        """The forward pass is over."""
        self._looks.close()
        if self._saved is not None and "activations" not in self._roles:
            self._roles["activations"] = self._saved.kept_bytes

    def epoch(self) -> None:
        """Shares of dead channels of the epoch that is over."""
        self.dead.append(self._rectified.dead_shares())

    def detach(self) -> None:
        """Take the hooks off."""
        for handle in self._handles:
            handle.remove()

    def readings(self) -> Iterator[Reading]:
        """Memory by role, operators in a forward pass, and what is amiss with the loop itself."""
        why = "no second step was seen" if not self._compiled else "the net is compiled"
        for role in ("weights", "gradients", "optimiser", "activations"):
            where: dict[str, Scalar] = {"role": role}
            if role in self._roles:
                yield _count("training_memory_bytes", "byte", self._roles[role], where)
            else:
                yield Unavailable(quantity="training_memory_bytes", reason=why, conditions=where)
        if self._operators.calls:
            yield _count("forward_operators", "count", self._operators.calls)
        if self._kept:
            yield _count("kept_gradients_share", "fraction", float(np.mean(self._kept)))
        yield _count("evaluation_mode", "count", float(self._still))

    def dead_table(self) -> Floats:
        """``(epochs, rectifiers)``, NaN where an epoch was not looked at."""
        table = np.full((len(self.dead), len(self.activations)), np.nan)
        for row, shares in zip(table, self.dead, strict=True):
            row[: len(shares)] = shares
        return table

    def _before(self, optimiser: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        self.rate = float(optimiser.param_groups[0]["lr"])
        if self.pace.due(self._step):
            self.pace.spend(self._read)
        if self._step == 1:
            self._roles.update(roles(self.model, optimiser))

    def _read(self) -> None:
        self.steps.append(self._step)
        self.gradient_norms.append(norms([p.grad for _, p in self._named]))
        self.weight_norms.append(norms([p for _, p in self._named]))
        self._parts = [_values(p).reshape(-1)[:_PART].clone() for _, p in self._named]
        self._still = self._still or _still(self.model)

    def _compare(self) -> None:
        changed = [_values(p).reshape(-1)[:_PART] - part for (_, p), part in zip(self._named, self._parts, strict=True)]
        with np.errstate(divide="ignore", invalid="ignore"):
            self.updates.append(norms(changed) / norms(self._parts))
        self._parts = []

    def _after(self, _optimiser: torch.optim.Optimizer, _args: Any, _kwargs: Any) -> None:
        if self._parts:
            self.pace.spend(self._compare)
        if self._named and len(self._kept) < 8:
            kept_gradient(self._named[-1][1], self._kept.append)
        self._step += 1


def _still(model: nn.Module) -> bool:
    """Whether every module that behaves otherwise in training is in evaluation mode."""
    kinds = (nn.modules.dropout._DropoutNd, nn.modules.batchnorm._NormBase)
    modes = [module.training for module in model.modules() if isinstance(module, kinds)]
    return bool(modes) and not any(modes)


def _count(quantity: str, unit: str, value: float, where: dict[str, Scalar] | None = None) -> Sample:
    return Sample(
        quantity=quantity, unit=unit, values=np.array([float(value)]), conditions=where or {}, provenance="counted"
    )
