"""`steelyard.torch.watch`: a PyTorch loop watched from outside, without a change to it.

    with steelyard.torch.watch(model=net, optimiser=adam, loader=loader, out="runs/mine") as run:
        ...  # the loop as it always was
    print(run)

Phases are told by the loader's iterator, the net's forward hooks, `Tensor.backward` and the optimiser's hooks. The loss is what
``backward()`` is called on, summed over the batches of a step; it counts as a part of the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from steelyard.errors import InvalidInput
from steelyard.pipeline.watching import Training, size_of

if TYPE_CHECKING:
    import torch

__all__ = ["Hooked", "backward_told", "watch"]


class Hooked(Training):
    """A `Training` that tells itself of phases and steps through hooks, which come off at the end."""

    def __init__(self, model: Any, optimiser: Any, loader: Any = None, **words: Any) -> None:
        super().__init__(words.pop("name", type(model).__name__), model=model, optimiser=optimiser, **words)
        self._hooks = ExitStack()
        self._net, self._adam, self._loader = model, optimiser, loader
        self._losses: list[torch.Tensor] = []

    def __enter__(self) -> Hooked:
        super().__enter__()
        for handle in (
            self._net.register_forward_pre_hook(self._forward_begins, with_kwargs=True),
            self._adam.register_step_pre_hook(lambda *_: self.now("optimiser")),
            self._adam.register_step_post_hook(self._stepped),
        ):
            self._hooks.callback(handle.remove)
        self._hooks.enter_context(backward_told(self._backward_begins, lambda: self.now(None)))
        if self._loader is not None:
            self._hooks.enter_context(_iterated(self._loader, self.batches))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._hooks.close()
        super().__exit__(kind, error, trace)

    def _forward_begins(self, _net: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> None:
        import torch

        if not torch.is_grad_enabled():  # a validation
            return
        self.now("forward")
        if self._loader is None:
            self._examples += size_of(inputs or named)

    def _backward_begins(self, loss: torch.Tensor) -> None:
        self.now("backward")
        if loss.numel() == 1:
            self._losses.append(loss.detach())

    def _stepped(self, *_: Any) -> None:
        losses = self._losses
        self.step(sum(losses[1:], start=losses[0]) if losses else float("nan"))
        self._losses = []


def watch(
    *,
    model: Any,
    optimiser: Any,
    loader: Any = None,
    name: str | None = None,
    out: str | Path | None = None,
    validation_examples: int = 0,
    target: float | None = None,
) -> Hooked:
    """Watch a loop over `loader` that trains `model` with `optimiser`: a context manager around it.

    Without a `loader` the wait for data counts as ``other``, and there are no epochs but those told by ``run.epoch(...)``.
    Raises `InvalidInput` for things that have no hooks.
    """
    for what, thing, hook in (
        ("model", model, "register_forward_pre_hook"),
        ("optimiser", optimiser, "register_step_pre_hook"),
    ):
        if not hasattr(thing, hook):
            raise InvalidInput(f"{what} must be PyTorch's own, with {hook}; got a {type(thing).__name__}")
    words = {"name": name or type(model).__name__, "out": out, "target": target}
    return Hooked(model, optimiser, loader, validation_examples=validation_examples, **words)


@contextmanager
def backward_told(begins: Callable[[torch.Tensor], None], ends: Callable[[], None]) -> Iterator[None]:
    """Be told of every ``tensor.backward()`` in here: no hook of PyTorch's tells when a backward pass begins."""
    import torch

    plain = torch.Tensor.backward

    def backward(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> None:
        begins(tensor)
        try:
            plain(tensor, *args, **kwargs)  # type: ignore[no-untyped-call]
        finally:
            ends()

    torch.Tensor.backward = backward  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        torch.Tensor.backward = plain  # type: ignore[method-assign]


@contextmanager
def _iterated(loader: Any, batches: Callable[[Any], Iterator[Any]]) -> Iterator[None]:
    """In here the loader's iterators go through `batches`: the object is lent a class of its own that says so."""
    kind = type(loader)

    def iterate(told: Any) -> Iterator[Any]:
        return batches(_Plain(told, kind))

    try:
        loader.__class__ = type(kind.__name__, (kind,), {"__iter__": iterate})
    except TypeError:
        raise InvalidInput(
            f"a {kind.__name__} cannot be watched from outside: leave loader out, or use steelyard.training and its batches()"
        ) from None
    try:
        yield
    finally:
        loader.__class__ = kind


class _Plain:
    """The loader as it was: its own iterators, its own settings."""

    def __init__(self, loader: Any, kind: type) -> None:
        self._loader, self._kind = loader, kind

    def __iter__(self) -> Iterator[Any]:
        kind: Any = self._kind
        found: Iterator[Any] = kind.__iter__(self._loader)
        return found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)
