"""Distillation: a lighter net learns what the baseline answers, and so what it knows beyond the labels."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes.bench import Bench, Built, check_recovery
from steelyard.passes.options import check_words
from steelyard.records import Contract, Scalar
from steelyard.subject.artifact import Artifact
from steelyard.subject.contract import prepare

if TYPE_CHECKING:
    from torch import nn

    from steelyard.passes.trainable import Shape
    from steelyard.trainer.objectives import Objective

__all__ = ["Distill"]

REWRITES = ("separable", "width", "depth")


@dataclass(frozen=True, slots=True)
class Distill:
    """Train a student on the baseline's answers (Hinton et al. 2015) and the labels.

    ``student`` is the model itself, lighter, or another net:

    - ``separable``: its convolutions in a depthwise and a pointwise part; ``separable=2`` with two kernels a channel;
    - ``width=0.5``: that share of its channels, those of the largest weights;
    - ``depth=0.5``: that share of its repeated blocks;
    - a name of torchvision (``mobilenet_v3_small``), ``timm:NAME``, ``textcnn:WIDTH``, ``transformer:LAYERSxWIDTH``, or
      one of the subject's own ``students``.

    ``temperature`` softens the answers. ``features`` brings inner layers nearer to the baseline's too, by their values
    (``hint``, Romero et al. 2015) or by where they look (``attention``, Zagoruyko and Komodakis 2017), with
    ``feature_weight``; for these the baseline must be a PyTorch module. What ``learns`` of a rewritten model is ``all``, its
    ``head`` or, with no training, its batch ``statistics``.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"eager", "torch", "onnxruntime", "openvino"})
    gives: ClassVar[str] = "torch"
    kind: ClassVar[str] = "distill"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {
        "student": ("separable", "depth=0.5", "width=0.5", "mobilenet_v3_small", "textcnn", "transformer")
    }
    trains: ClassVar[bool] = True
    student: str = "separable"
    distil: float = 0.9  # weight of the baseline's answers against the labels
    temperature: float = 4.0
    features: Literal["none", "hint", "attention"] = "none"
    feature_weight: float = 1.0
    learns: Literal["all", "head", "statistics"] = "all"
    epochs: float = 10
    lr: float = 2e-3
    seed: int = 0

    def __post_init__(self) -> None:
        """Raise `InvalidInput` for options that cannot be followed."""
        check_recovery("distill", self.epochs, self.lr, self.distil)
        if not self.temperature > 0 or not self.feature_weight >= 0:
            raise InvalidInput(
                "distill: temperature must be above 0 and feature_weight 0 or more, "
                f"got {self.temperature} and {self.feature_weight}"
            )
        check_words("distill", self)
        if self._rewrite() is None and self.learns != "all":
            raise InvalidInput(f"distill: {self.student} knows nothing yet, so that all of it must learn")

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write the student's program."""
        import torch

        from steelyard.passes.recover import Recovery, recover
        from steelyard.passes.students import check_student
        from steelyard.passes.trainable import save_trainable

        if self.epochs > 0:
            bench.training()
        if bench.teacher is None:
            raise CannotApply("distillation needs a teacher, and this bench has none")
        student, shape, note = self._made(source, bench)
        check_student(student, torch.from_numpy(bench.examples[:2].copy()), len(source.contract.labels))
        how = Recovery(
            epochs=self.epochs, lr=self.lr, distil=self.distil, temperature=self.temperature, seed=self.seed,
            learns=self.learns, asks_the_teacher=True,
        )  # fmt: skip
        recover(student, shape, source.contract, bench, how, beside=self._features(student, bench.teacher, bench))
        built = save_trainable(student, shape, source, bench)
        notes = (*source.notes, *((note,) if note else ()))
        return dataclasses.replace(built, artifact=dataclasses.replace(built.artifact, notes=notes))

    def _rewrite(self) -> tuple[str, float] | None:
        """What is done to the model itself, and how much of it; None for a net by name."""
        word, _, number = self.student.partition("=")
        if word not in REWRITES:
            if not self.student or number:
                raise InvalidInput(
                    f"distill: student {self.student!r} is none: give separable, width=0.5, depth=0.5 or a net's name"
                )
            return None
        if word == "separable" and (not number or (number.isdecimal() and int(number) > 0)):
            return word, float(number or 1)
        if word != "separable" and _is_share(number):
            return word, float(number)
        raise InvalidInput(
            f"distill: student {self.student!r}: separable takes a whole number of kernels, width and depth a share "
            "between 0 and 1, such as width=0.5"
        )

    def _made(self, source: Artifact, bench: Bench) -> tuple[nn.Module, Shape, str]:
        """The untrained student, how the next pass makes it again, and a note for people."""
        from steelyard.passes.trainable import trainable

        rewrite = self._rewrite()
        if rewrite is None:
            return self._by_name(source, bench)
        module, shape = trainable(source)
        if shape.sparse:
            raise CannotApply("a lighter model would fill the zeros that sparsify made: distil first")
        word, amount = rewrite
        if word == "width":
            return _narrow(module, shape, source, bench, amount)
        return _separate(module, shape, int(amount)) if word == "separable" else _shorten(module, shape, bench, amount)

    def _by_name(self, source: Artifact, bench: Bench) -> tuple[nn.Module, Shape, str]:
        from steelyard.passes.students import build_student
        from steelyard.passes.text_students import TEXT_STUDENTS
        from steelyard.passes.trainable import Shape, origin
        from steelyard.subject.load import load_subject

        shape = Shape(spec=origin(source).spec, student=self.student)
        subject = load_subject(dataclasses.replace(shape.spec, weights=None))
        reads_codes = self.student.partition(":")[0] in TEXT_STUDENTS and source.contract.layout == "T"
        rows = _rows(bench, source.contract) if reads_codes else 2
        student, note = build_student(self.student, subject, source.contract, rows, self.seed)
        return student, shape, note

    def _features(self, student: nn.Module, teacher: Artifact, bench: Bench) -> Callable[[Objective], Objective] | None:
        """What puts the distance of layers beside the objective."""
        if self.features == "none":
            return None
        if teacher.engine != "eager":
            raise CannotApply(f"features are a PyTorch module's; the baseline here is a file for {teacher.engine}")
        import torch

        from steelyard.passes.pairs import layer_pairs
        from steelyard.subject.engines.eager import rebuild
        from steelyard.trainer.objectives import FeatureDistillation

        net, inputs = rebuild(teacher), torch.from_numpy(bench.examples[:2].copy())
        pairs, kind, weight = layer_pairs(student, net, inputs), self.features, self.feature_weight
        return lambda objective: FeatureDistillation(objective, net, pairs, weight=weight, kind=kind).prepare(
            student, inputs
        )


def _is_share(number: str) -> bool:
    try:
        return 0 < float(number) < 1
    except ValueError:
        return False


def _separate(module: nn.Module, shape: Shape, filters: int) -> tuple[nn.Module, Shape, str]:
    from steelyard.passes.separable import separable_layers, separate
    from steelyard.passes.trainable import tied

    thin = {name for name, _ in module.named_modules() if _within(name, shape.apart)}
    names = separable_layers(module, filters, but=frozenset(thin | set(tied(module))))
    if not names:
        raise CannotApply("no convolution multiplies less in a depthwise and a pointwise part")
    for name in names:
        separate(module, name, filters)
    shape = dataclasses.replace(shape, separable={**shape.separable, **dict.fromkeys(names, filters)})
    return module, shape, f"{len(names)} convolutions became a depthwise and a pointwise one each"


def _shorten(module: nn.Module, shape: Shape, bench: Bench, share: float) -> tuple[nn.Module, Shape, str]:
    import torch

    from steelyard.passes.shallow import skip, skippable

    names = skippable(module, torch.from_numpy(bench.examples[:2].copy()), share)
    if not names:
        raise CannotApply("no blocks of one kind follow each other and keep their input's shape: none can be left out")
    for name in names:
        skip(module, name)
    shape = dataclasses.replace(
        shape,
        skipped=(*shape.skipped, *names),
        separable={name: filters for name, filters in shape.separable.items() if not _within(name, names)},
        apart={name: rank for name, rank in shape.apart.items() if not _within(name, names)},
    )
    return module, shape, f"without the blocks {', '.join(names)}"


def _narrow(
    module: nn.Module, shape: Shape, source: Artifact, bench: Bench, share: float
) -> tuple[nn.Module, Shape, str]:
    from steelyard.passes.prune import Prune

    before = sum(p.numel() for p in module.parameters())
    Prune(ratio=1 - share).narrow(module, shape, source, bench)
    if sum(p.numel() for p in module.parameters()) == before:
        raise CannotApply("no layer of this model is wide enough, or free, to be made narrower")
    return module, shape, ""


def _within(name: str, blocks: Iterable[str]) -> bool:
    return any(name.startswith(f"{block}.") for block in blocks)


def _rows(bench: Bench, contract: Contract) -> int:
    """Codes that a student of texts must know: those below the largest of the training examples, and that one."""
    return 1 + max(int(prepare(contract, chunk).max()) for chunk in bench.training().chunks())
