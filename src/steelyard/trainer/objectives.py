"""What a training step makes small: the loss on labels, what a teacher knows, or both.

An objective is called with the model and a batch and gives the mean over the batch's examples. One that learns
something of its own (a projection, say) is a module, whose parameters are trained with the model's.

Sources: Hinton, Vinyals and Dean 2015 (soft targets), Romero et al. 2015 (FitNets' hints), Zagoruyko and Komodakis 2017
(attention transfer).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import nn

from steelyard.errors import CannotApply, InvalidInput
from steelyard.trainer.examples import Batch

__all__ = [
    "FeatureDistillation",
    "Loss",
    "Objective",
    "attention_map",
    "attention_transfer",
    "cross_entropy",
    "distilled",
    "hint",
    "soft_targets",
    "supervised",
]

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]  # (outputs, labels) to the mean over the examples


class Objective(Protocol):
    """What is minimised."""

    def __call__(self, model: nn.Module, batch: Batch, /) -> torch.Tensor:
        """The mean over the batch's examples, a scalar."""
        ...


def cross_entropy(outputs: Literal["logits", "probabilities"] = "logits", label_smoothing: float = 0.0) -> Loss:
    """Mean cross-entropy against class indices, of logits or of probabilities."""

    def loss(given: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(to_logits(given, outputs), labels, label_smoothing=label_smoothing)

    return loss


def to_logits(outputs: torch.Tensor, kind: Literal["logits", "probabilities"]) -> torch.Tensor:
    """Outputs whose softmax is the model's answer: log-probabilities are logits too."""
    return outputs if kind == "logits" else outputs.clamp_min(1e-12).log()


def supervised(loss: Loss) -> Objective:
    """The loss on the labels alone."""

    def objective(model: nn.Module, batch: Batch) -> torch.Tensor:
        return _checked(loss(model(batch.inputs), batch.labels))

    return objective


def soft_targets(student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """T^2 KL(softmax(teacher / T) || softmax(student / T)), the mean over examples (Hinton et al. 2015, section 2).

    Gradients shrink as 1 / T^2, so the factor keeps them beside those of the labels whatever the temperature.
    """
    student_log = F.log_softmax(student / temperature, dim=-1)
    teacher_log = F.log_softmax(teacher / temperature, dim=-1)
    return temperature**2 * F.kl_div(student_log, teacher_log, reduction="batchmean", log_target=True)


def distilled(
    loss: Loss, *, weight: float, temperature: float, outputs: Literal["logits", "probabilities"] = "logits"
) -> Objective:
    """(1 - weight) times the loss on the labels and weight times `soft_targets` of the batch's teacher outputs."""
    if not 0 <= weight <= 1 or not temperature > 0:
        raise InvalidInput(f"weight must be 0 to 1 and temperature above 0, got {weight} and {temperature}")

    def objective(model: nn.Module, batch: Batch) -> torch.Tensor:
        if batch.teacher is None:
            raise InvalidInput("distillation needs the teacher's outputs beside the examples")
        given = model(batch.inputs)
        soft = soft_targets(to_logits(given, outputs), to_logits(batch.teacher, outputs), temperature)
        return (1 - weight) * _checked(loss(given, batch.labels)) + weight * soft

    return objective


def hint(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Half the squared distance of features ``(n, ...)``, the mean over examples and elements (FitNets, equation 3)."""
    return 0.5 * F.mse_loss(student, teacher)


def attention_map(features: torch.Tensor, power: float = 2.0) -> torch.Tensor:
    """Where a layer looks: sum over channels of ``|features|**power``, of Euclidean norm 1, ``(n, positions)``.

    Channels are axis 1 of feature maps ``(n, C, H, W)`` and the last axis of tokens ``(n, T, C)``.
    """
    axis = 1 if features.ndim == 4 else -1
    return F.normalize(features.abs().pow(power).sum(axis).flatten(1), dim=1)


def attention_transfer(student: torch.Tensor, teacher: torch.Tensor, power: float = 2.0) -> torch.Tensor:
    """Euclidean distance of the two attention maps, the mean over examples (Zagoruyko and Komodakis 2017, equation 2)."""
    if student.ndim == 4 and student.shape[2:] != teacher.shape[2:]:
        teacher = _pooled(teacher, student)
    apart = attention_map(student, power) - attention_map(teacher, power)
    distance: torch.Tensor = torch.linalg.vector_norm(apart, dim=1)
    return distance.mean()


class FeatureDistillation(nn.Module):
    """An objective, and the distance of inner layers from the teacher's beside it.

    ``pairs`` names a layer of the student and one of the teacher each. With ``kind="hint"`` the student's features pass
    a linear projection to the teacher's width, learned beside the student; ``kind="attention"`` needs none. The teacher
    is run on the batch's inputs and not trained.
    """

    def __init__(
        self,
        objective: Objective,
        teacher: nn.Module,
        pairs: Mapping[str, str],
        *,
        weight: float,
        kind: Literal["hint", "attention"],
    ) -> None:
        super().__init__()
        self._objective, self._pairs, self._weight, self._kind = objective, dict(pairs), weight, kind
        self._teacher = (teacher.eval(),)  # in a tuple: its parameters are not this module's, so they are not trained
        self.projections = nn.ModuleDict()

    def prepare(self, model: nn.Module, inputs: torch.Tensor) -> FeatureDistillation:
        """Make the projections that these models need, from what the layers give for `inputs`. Call it before `fit`."""
        if self._kind == "attention":
            return self
        ours, theirs = self._features(model, inputs)
        for own, other in self._pairs.items():
            self.projections[_key(own)] = _projection(own, ours[own], theirs[other])
        return self.to(inputs.device)

    def forward(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """The objective and `weight` times the mean distance over the pairs."""
        with _watched(model, self._pairs) as ours:
            base = self._objective(model, batch)
        theirs = self._teacher_features(batch.inputs)
        far = [self._distance(own, ours[own], theirs[other]) for own, other in self._pairs.items()]
        return base + self._weight * torch.stack(far).mean()

    def _distance(self, name: str, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        if self._kind == "attention":
            return attention_transfer(student, teacher)
        projected = self.projections[_key(name)](student)
        if projected.ndim == 4 and projected.shape[2:] != teacher.shape[2:]:
            teacher = _pooled(teacher, projected)
        return hint(projected, teacher)

    def _features(
        self, model: nn.Module, inputs: torch.Tensor
    ) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        training = model.training
        with torch.no_grad(), _watched(model.eval(), self._pairs) as ours:
            model(inputs)
        model.train(training)
        return ours, self._teacher_features(inputs)

    def _teacher_features(self, inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        (teacher,) = self._teacher
        with torch.no_grad(), _watched(teacher, self._pairs.values()) as theirs:
            teacher.to(inputs.device)(inputs)
        return theirs


def _pooled(features: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Feature maps brought to the height and width of others."""
    return F.adaptive_avg_pool2d(features, (like.shape[2], like.shape[3]))


def _key(name: str) -> str:
    return name.replace(".", "/")  # ModuleDict's keys must not hold dots


def _projection(name: str, student: torch.Tensor, teacher: torch.Tensor) -> nn.Module:
    """A 1x1 convolution for feature maps, a linear layer for anything else."""
    if student.ndim != teacher.ndim:
        raise CannotApply(
            f"{name} gives {student.ndim} axes and the teacher's layer {teacher.ndim}: pair like with like"
        )
    if student.ndim == 4:
        return nn.Conv2d(student.shape[1], teacher.shape[1], 1, bias=False)
    return nn.Linear(student.shape[-1], teacher.shape[-1], bias=False)


@contextmanager
def _watched(model: nn.Module, names: Any) -> Iterator[dict[str, torch.Tensor]]:
    """What the named layers give, by name, filled in as the model runs."""
    seen: dict[str, torch.Tensor] = {}
    known = dict(model.named_modules())
    missing = [name for name in names if name not in known]
    if missing:
        raise InvalidInput(f"no layer {missing[0]!r}; it has {', '.join(n for n in list(known)[1:8])} ...")

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            seen[name] = output[0] if isinstance(output, tuple) else output

        return hook

    hooks = [known[name].register_forward_hook(watch(name)) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _checked(value: Any) -> torch.Tensor:
    """What a loss gave; it may be the user's own."""
    if not isinstance(value, torch.Tensor) or value.ndim != 0:
        shown = tuple(value.shape) if isinstance(value, torch.Tensor) else type(value).__name__
        raise InvalidInput(f"the loss gave {shown}: one number, the mean over the batch's examples, is needed")
    return value
