"""Structured pruning: whole channels go, with everything that depends on them, so that every engine does less work."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from steelyard.errors import CannotApply, InvalidInput, MissingExtra
from steelyard.passes.bench import Bench, Built
from steelyard.passes.options import check_words
from steelyard.records import Scalar
from steelyard.subject.artifact import Artifact

if TYPE_CHECKING:
    import torch
    from torch import nn

    from steelyard.passes.trainable import Shape

__all__ = ["Prune"]

Importance = Literal["l1", "l2", "taylor", "bn-scale", "random"]
_IMPORTANCES = ("l1", "l2", "taylor", "bn-scale", "random")
_FINE = 64  # steps in which channels are taken until the MACs are few enough
_MOST = 0.95  # of a layer's channels that may go
_HEADS = ("num_heads", "num_attention_heads", "n_head", "n_heads")  # who has one of these splits its width into heads


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove channels of dependency groups (Fang et al. 2023, through torch-pruning), then train.

    ``macs`` is the share of multiply-accumulates to keep; ``ratio``, where given, the share of channels to remove
    instead. Importance of a channel, summed over its group: the norm of its weights (``l1``, ``l2``), the first-order
    change of the loss without it (``taylor``, Molchanov et al. 2019), the scale of its batch normalisation
    (``bn-scale``, Liu et al. 2017), or chance, as a control. ``local`` takes the same share of every layer, ``global``
    ranks all channels together. In several ``steps``, each is followed by its part of the recovery. What the outputs
    are made of, attention (whose heads stay whole) and layers that share weights keep their widths.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch"})
    gives: ClassVar[str] = "torch"
    kind: ClassVar[str] = "prune"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "macs": (0.5, 0.25),
        "importance": ("l2", "taylor"),
        "scope": ("local", "global"),
    }
    trains: ClassVar[bool] = True
    macs: float = 0.5
    ratio: float | None = None
    importance: Importance = "l2"
    scope: Literal["local", "global"] = "local"
    round_to: int = 8  # what is left of a layer is a multiple of this: vectors are filled
    steps: int = 1
    epochs: float = 5
    lr: float = 1e-3
    distil: float = 0.5  # weight of the baseline's answers in the recovery; 0: labels alone
    learns: Literal["all", "head", "statistics"] = "all"  # in the recovery
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for options that no pruning could follow."""
        if not 0 < self.macs < 1 or (self.ratio is not None and not 0 < self.ratio < 1):
            raise InvalidInput(f"prune: macs and ratio must be above 0 and below 1, got {self.macs} and {self.ratio}")
        if self.importance not in _IMPORTANCES or self.scope not in ("local", "global"):
            raise InvalidInput(
                f"prune: importance must be one of {', '.join(_IMPORTANCES)} and scope local or global, "
                f"got {self.importance!r} and {self.scope!r}"
            )
        if self.round_to < 1 or self.steps < 1 or self.epochs < 0 or not self.lr > 0 or not 0 <= self.distil <= 1:
            raise InvalidInput(
                "prune: round_to and steps must be 1 or more, epochs 0 or more, lr above 0 and distil 0 to 1; "
                f"got {self.round_to}, {self.steps}, {self.epochs}, {self.lr} and {self.distil}"
            )
        check_words("prune", self)

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the pruned and recovered program."""
        from steelyard.passes.recover import Recovery, recover
        from steelyard.passes.trainable import save_trainable, trainable

        module, shape = trainable(source)
        if self.epochs > 0 or self.importance == "taylor":
            bench.training()  # refused before anything is worked out
        how = Recovery(epochs=self.epochs, lr=self.lr, distil=self.distil, seed=self.seed, learns=self.learns)
        before, shape_of_outputs = _macs(module, bench), _run(module, bench)
        for step in range(1, self.steps + 1):
            self.narrow(module, shape, source, bench, wanted=before * self.macs ** (step / self.steps))
            if _run(module, bench) != shape_of_outputs:
                raise CannotApply(f"pruned, the model gives {_run(module, bench)} and not {shape_of_outputs} outputs")
            recover(module, shape, source.contract, bench, how, part=step - 1, parts=self.steps)
        return save_trainable(module, shape, source, bench)

    def narrow(self, module: nn.Module, shape: Shape, source: Artifact, bench: Bench, *, wanted: float = 0.0) -> None:
        """Take channels, a few at a time, until so few MACs are left; or the ratio's part of this step at once."""
        import torch

        if self.importance == "taylor":
            _gradients(module, shape, source, bench)
        with warnings.catch_warnings(), torch.random.fork_rng():
            warnings.simplefilter("ignore")
            torch.manual_seed(self.seed)
            if self.ratio is not None:
                left = (1 - self.ratio) ** (1 / self.steps)
                self._pruner(module, bench, ratio=1 - left, steps=1).step()
            else:
                self._down_to(module, bench, wanted)
        for parameter in module.parameters():
            parameter.grad = None

    def _down_to(self, module: nn.Module, bench: Bench, wanted: float) -> None:
        pruner = self._pruner(module, bench, ratio=_MOST, steps=_FINE)
        for _ in range(_FINE):
            if _macs(module, bench) <= wanted:
                return
            pruner.step()
        left = _macs(module, bench)
        if left > wanted:
            raise CannotApply(
                f"pruning can take this model down to {left:.3g} MACs and not to {wanted:.3g}: "
                f"give a larger share than macs={self.macs:g}, or a smaller round_to than {self.round_to}"
            )

    def _pruner(self, module: nn.Module, bench: Bench, *, ratio: float, steps: int) -> Any:
        tp = _torch_pruning()
        inputs = _inputs(bench)
        for parameter in module.parameters():
            parameter.requires_grad_(True)  # dependencies are read from the graph of gradients
        try:
            return tp.pruner.BasePruner(
                module,
                inputs,
                importance=self._importance(tp),
                global_pruning=self.scope == "global",
                pruning_ratio=ratio,
                max_pruning_ratio=_MOST,
                iterative_steps=steps,
                ignored_layers=_kept_whole(module, inputs, tp),
                round_to=self.round_to if self.round_to > 1 else None,
                in_channel_groups={},
                out_channel_groups={},
                num_heads={},
            )
        except CannotApply:
            raise
        except Exception as error:  # the tracer fails wherever it happens to stand
            raise CannotApply(f"torch-pruning cannot trace this model: {_words(error)}") from error

    def _importance(self, tp: Any) -> Any:
        made = {
            "l1": lambda: tp.importance.GroupMagnitudeImportance(p=1),
            "l2": lambda: tp.importance.GroupMagnitudeImportance(p=2),
            "taylor": tp.importance.GroupTaylorImportance,
            "bn-scale": tp.importance.BNScaleImportance,
            "random": tp.importance.RandomImportance,
        }
        return made[self.importance]()


def _torch_pruning() -> Any:
    try:
        import torch_pruning
    except ImportError:
        raise MissingExtra("train", needed_for="pruning channels") from None
    return torch_pruning


def _inputs(bench: Bench) -> torch.Tensor:
    import torch

    return torch.from_numpy(bench.examples[:2].copy())


def _macs(module: nn.Module, bench: Bench) -> int:
    """Multiply-accumulates of one example. Raises `CannotApply` for a model that no longer runs."""
    from steelyard.counts.macs import module_macs

    _run(module, bench)
    return module_macs(module, bench.examples[:1]).total


def _kept_whole(module: nn.Module, inputs: torch.Tensor, tp: Any) -> list[nn.Module]:
    """Layers that keep their width: those that make the outputs or feed shared weights, and attention."""
    from steelyard.passes.trainable import tied

    shared = {module.get_submodule(name) for name in tied(module)}
    return [*_attention(module), *_bound(module, inputs, shared, tp)]


def _attention(module: nn.Module) -> list[nn.Module]:
    """The innermost modules that know a number of heads, and all that is in them; a block around them may know it too."""
    heads = [m for m in module.modules() if any(hasattr(m, name) for name in _HEADS)]
    innermost = [m for m in heads if not any(inner in heads for inner in m.modules() if inner is not m)]
    return [layer for m in innermost for layer in m.modules()]


def _bound(module: nn.Module, inputs: torch.Tensor, shared: set[nn.Module], tp: Any) -> list[nn.Module]:
    """Layers whose channels are the outputs, or are added to them on the way, or are those of shared weights."""
    from torch import nn

    graph = tp.DependencyGraph().build_dependency(module, example_inputs=inputs)
    _refuse_writes(graph)
    last = next(iter(graph.module2node.values()))  # the trace begins at the outputs
    kept = []
    for group in graph.get_all_groups():
        widened = [item.dep.target for item in group if graph.is_out_channel_pruning_fn(item.dep.handler)]
        if last in widened or any(item.dep.target.module in shared for item in group):
            kept += [node.module for node in widened if isinstance(node.module, nn.Module)]
    return kept


def _refuse_writes(graph: Any) -> None:
    """A write into part of a tensor names channels by number, and pruning would shift them under it."""
    for node in graph.module2node.values():
        kind = node.grad_fn.name() if hasattr(node.grad_fn, "name") else ""
        if any(write in kind for write in ("CopySlices", "IndexPut", "MaskedScatter")):
            raise CannotApply(
                f"the model writes into parts of a tensor in place ({kind.rpartition(':')[2]}), which pruning would shift: "
                "write it with torch.cat or torch.where"
            )


def _gradients(module: nn.Module, shape: Shape, source: Artifact, bench: Bench) -> None:
    """Gradients of the mean loss on the calibration examples, which are training examples."""
    import torch

    from steelyard.passes.recover import training_loss
    from steelyard.subject.load import load_subject
    from steelyard.subject.splits import read_split
    from steelyard.trainer.examples import Examples, in_order

    assert bench.data is not None
    examples = Examples.of(read_split(bench.data, "calibration"), source.contract)
    loss = training_loss(load_subject(shape.spec), source.contract)
    module.eval().requires_grad_(True).zero_grad()
    with torch.enable_grad():
        for batch in in_order(examples, 64):
            (loss(module(batch.inputs), batch.labels) * (len(batch) / len(examples))).backward()  # type: ignore[no-untyped-call]


def _run(module: nn.Module, bench: Bench) -> tuple[int, ...]:
    """The outputs' shape. Code that spells a width out does not notice that it changed."""
    import torch

    try:
        with torch.no_grad():
            return tuple(module.eval()(_inputs(bench)).shape)
    except (RuntimeError, ValueError, IndexError) as error:
        raise CannotApply(
            f"the model's code does not follow its layers' widths when pruned: {_words(error)}"
        ) from error


def _words(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
