"""`steelyard train`: a model, data and a recipe in; trained weights, and how good they are on data nothing has seen, out."""

from __future__ import annotations

import dataclasses
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from steelyard import __version__
from steelyard.errors import InvalidInput, StorageFull
from steelyard.measure.weigh import predictions
from steelyard.pipeline.greener import CleanStart, start_words, wait_until_clean
from steelyard.pipeline.job import Progress, silent
from steelyard.pipeline.prepare import with_labels
from steelyard.pipeline.render import write_page
from steelyard.probe.host import environment
from steelyard.records import (
    Contract,
    Finding,
    Overlap,
    Plan,
    Predictions,
    RateSearch,
    SubjectSpec,
    TrainingRun,
    Unread,
    Watched,
)
from steelyard.store import RunFolder
from steelyard.subject.load import load_subject
from steelyard.subject.splits import Split, Splits, overlaps
from steelyard.subject.subject import Subject
from steelyard.trainer.recipe import Recipe

if TYPE_CHECKING:
    from torch import nn

    from steelyard.trainer.checkpoint import Checkpoints
    from steelyard.trainer.examples import Examples
    from steelyard.trainer.history import History
    from steelyard.trainer.objectives import Objective

__all__ = ["CHECKPOINTS", "WEIGHTS", "TrainingJob", "train", "write_training"]

CHECKPOINTS = "checkpoints"
WEIGHTS = "model.safetensors"
_MOST_TRAIN = 5_000  # training examples that the gap is measured on
_BATCH = 256
_CHECKED = 200  # augmented examples of each word that the net is asked about


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingJob:
    """What is trained, how, and where it goes."""

    spec: SubjectSpec
    recipe: Recipe
    out: Path
    find_rate: bool = False  # by a range test, in place of the recipe's
    resume: Literal["auto", "never"] = "auto"
    every_steps: int | None = None  # between checkpoints
    every_s: float = 300.0
    skip_bad: bool = False  # examples that cannot be read
    backbone: Path | None = None  # weights of all but the classifier
    processes: int = 1  # that train together
    spread: Literal["data", "sharded"] = "data"  # over them: each has the whole net, or a part of every weight
    scaling: bool = False  # whether to measure what they gain over one
    plan: Plan = field(default_factory=Plan)  # passes that change the net before it is trained, and keep it trainable
    clean: CleanStart | None = None  # begin when the grid is cleanest; a training under way goes on at once
    words: tuple[str, ...] = ()  # of the command that repeats it


def train(job: TrainingJob, progress: Progress = silent) -> TrainingRun:
    """The whole way: read, find the rate if asked, train (from the last checkpoint if there is one), judge, record.

    A training that this folder has finished is given back as it is recorded. Raises `InvalidInput` for words, data or
    checkpoints that do not belong together.
    """
    with RunFolder(job.out) as folder:
        earlier = folder.trainings()
        done = _finished(job, earlier)
        if done is not None:
            if not (job.out / "report.html").exists():
                write_training(job.out, done)
            return done
        subject, prepared = prepare_training(job, progress)
        checkpoints = checkpoints_of(job)
        if job.resume == "never":
            checkpoints.clear()
        waited = _wait(job, progress)
        search = _search(job, folder, earlier, subject, prepared, progress)
        run = _trained(job, subject, prepared, search, checkpoints, progress)
        run = dataclasses.replace(run, said=(*waited, *run.said))
        runs = (run, *(record for record in earlier if isinstance(record, TrainingRun)))
        run = dataclasses.replace(run, test_uses=sum(map(_judged, runs)))
        folder.append(run)
        if run.ended != "diverged":
            checkpoints.clear()
        progress("writing the report", None)
        write_training(job.out, run)
        return run


def write_training(folder: Path, run: TrainingRun) -> tuple[Finding, ...]:
    """Write ``report.html`` of a training into its folder; what the page finds."""
    from steelyard.diagnose.training import diagnose_training
    from steelyard.report.training import of_run
    from steelyard.report.training_page import Told, render_training

    watched = of_run(run)
    findings = diagnose_training(watched, overlaps=run.overlaps)
    write_page(folder / "report.html", render_training([Told(watched=watched, findings=findings, run=run)]))
    return findings


def _wait(job: TrainingJob, progress: Progress) -> tuple[str, ...]:
    """Until the grid is clean, where that is asked for; what it brought."""
    folder = job.out / CHECKPOINTS
    if job.clean is None or (job.resume == "auto" and folder.is_dir() and any(folder.iterdir())):
        return ()
    return (start_words(wait_until_clean(job.clean, progress)),)


def _finished(job: TrainingJob, earlier: Sequence[TrainingRun | RateSearch]) -> TrainingRun | None:
    """The folder's training, if it is this one and ended well."""
    runs = [record for record in earlier if isinstance(record, TrainingRun)]
    if not runs or job.resume == "never":
        return None
    last = runs[-1]
    if (last.spec, last.words) != (job.spec, job.words):
        raise InvalidInput(
            f"{job.out} holds another training ({' '.join(last.words) or last.spec.source}): give another --out, or --resume never"
        )
    return None if last.ended == "diverged" else last


def _judged(run: TrainingRun) -> bool:
    return any(made.split == "test" for made in run.predictions)


def checkpoints_of(job: TrainingJob) -> Checkpoints:
    """Where this training keeps its checkpoints."""
    from steelyard.trainer.checkpoint import Checkpoints

    return Checkpoints(job.out / CHECKPOINTS, every_steps=job.every_steps, every_s=job.every_s, of=_identity(job))


def _identity(job: TrainingJob) -> str:
    """What a checkpoint is of, beside recipe, net and data."""
    spec = job.spec
    words = (
        spec.source,
        spec.data,
        spec.weights and f"weights {spec.weights}",
        job.backbone and f"backbone {job.backbone}",
        job.plan.steps and f"after {job.plan}",
    )
    return ", ".join(str(word) for word in words if word)


# --- what is trained -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Prepared:
    model: nn.Module
    contract: Contract
    splits: Splits
    overlaps: tuple[Overlap, ...]
    unread: tuple[Unread, ...]
    said: tuple[str, ...]


def prepare_training(job: TrainingJob, progress: Progress = silent) -> tuple[Subject, _Prepared]:
    """The subject, and the net with its data as they are before the first step."""
    from steelyard.trainer.chance import seeded

    progress("reading the subject", None)
    with seeded(job.recipe.seed):  # which the first weights are drawn by
        subject = load_subject(job.spec)
    model = subject.model
    if isinstance(model, Path):
        raise InvalidInput(f"{model} is a program, and cannot be trained: give file.py:function or torchvision:NAME")
    said: list[str] = []
    if job.backbone is not None:
        from steelyard.trainer.finetune import load_backbone

        said.append(load_backbone(model, job.backbone))
    progress("reading the data", None)
    splits = subject.splits()
    unread: tuple[Unread, ...] = ()
    if job.skip_bad:
        splits, unread = _readable(splits)
    contract = with_labels(subject.contract, splits)
    if job.plan.steps:
        progress(f"changing the net: {job.plan}", None)
        model = _changed(model, job, contract, splits)
    progress("looking for examples that stand in two splits", None)
    return subject, _Prepared(
        model=model,
        contract=contract,
        splits=splits,
        overlaps=overlaps(splits),
        unread=unread,
        said=tuple(said),
    )


def _changed(model: nn.Module, job: TrainingJob, contract: Contract, splits: Splits) -> nn.Module:
    """The net after passes that keep it trainable. They see first weights, and no data but a few inputs to trace with."""
    from steelyard.passes import to_pass
    from steelyard.passes.bench import Bench
    from steelyard.passes.trainable import trainable
    from steelyard.subject.artifact import Artifact
    from steelyard.subject.safe import save_weights as save_plain

    with tempfile.TemporaryDirectory() as root:
        save_plain(model, Path(root) / "weights.pt")
        artifact = Artifact(folder=Path(root), engine="eager", file="weights.pt", contract=contract, spec=job.spec)
        inputs = splits.train.take(np.arange(min(8, len(splits.train)))).inputs(contract)
        for number, step in enumerate(job.plan.steps):
            place = Path(root) / str(number)
            place.mkdir()
            artifact = to_pass(step).apply(artifact, Bench(folder=place, examples=inputs)).artifact
        return trainable(artifact)[0]


def _readable(splits: Splits) -> tuple[Splits, tuple[Unread, ...]]:
    """The splits without the examples that cannot be read, and those."""
    found = {name: _unread(name, split) for name, split in splits.items()}
    kept: dict[str, Any] = {
        name: split.take(np.setdiff1d(np.arange(len(split)), [u.example for u in found[name]]))
        if found[name]
        else split
        for name, split in splits.items()
    }
    left = dataclasses.replace(splits, **kept)
    left.check()
    return left, tuple(unread for rows in found.values() for unread in rows)


def _unread(name: str, split: Split) -> list[Unread]:
    """Looked for some hundreds at a time; one by one where those cannot be read."""
    starts = range(0, len(split), _BATCH)
    chunks = (np.arange(start, min(start + _BATCH, len(split))) for start in starts)
    singles = (np.array([i]) for chunk in chunks if _fault(split, chunk) for i in chunk)
    return [
        Unread(split=name, example=int(index[0]), reason=reason)
        for index in singles
        if (reason := _fault(split, index))
    ]


def _fault(split: Split, index: Any) -> str:
    """Why these cannot be read; empty where they can."""
    try:
        split.raw[index]
    except Exception as error:  # a user's own reader may raise anything
        return " ".join(str(error).split())[:200] or type(error).__name__
    return ""


def training_objective(subject: Subject, contract: Contract, recipe: Recipe) -> Objective | None:
    """The subject's own loss; None for the cross-entropy that the loop knows."""
    if subject.loss is None:
        return None
    if recipe.label_smoothing:
        raise InvalidInput(
            "label_smoothing belongs to the cross-entropy, and the subject has a loss of its own: leave one out"
        )
    from steelyard.passes.recover import training_loss
    from steelyard.trainer.objectives import supervised

    return supervised(training_loss(subject, contract))


# --- the training --------------------------------------------------------------------------------------


def _search(
    job: TrainingJob,
    folder: RunFolder,
    earlier: Sequence[TrainingRun | RateSearch],
    subject: Subject,
    prepared: _Prepared,
    progress: Progress,
) -> RateSearch | None:
    """The range test that was asked for; one that a stopped training has recorded is not made again."""
    if not job.find_rate:
        return None
    kept = [record for record in earlier if isinstance(record, RateSearch)]
    if kept and job.resume == "auto":
        return kept[-1]
    from steelyard.trainer.finder import find_rate

    examples, augment = training_examples(job, prepared)
    found = find_rate(
        prepared.model,
        examples,
        job.recipe,
        objective=training_objective(subject, prepared.contract, job.recipe),
        augment=augment,
        tell=lambda _steps, share: progress("finding the learning rate", share),
    )
    folder.append(found)
    return found


def training_examples(job: TrainingJob, prepared: _Prepared) -> tuple[Examples, Any]:
    from steelyard.trainer.augment import augmented
    from steelyard.trainer.examples import Examples

    examples = Examples.of(prepared.splits.train, prepared.contract)
    return augmented(job.recipe.augment, examples, seed=job.recipe.seed)


def _trained(
    job: TrainingJob,
    subject: Subject,
    prepared: _Prepared,
    search: RateSearch | None,
    checkpoints: Checkpoints,
    progress: Progress,
) -> TrainingRun:
    from steelyard.pipeline.together import fitted_together, together_readings

    recipe = _with_rate(job.recipe, search)
    told: tuple[str, ...] = ()
    if job.processes > 1:
        history, watched = fitted_together(job, recipe, prepared.model, progress)
        told = ("times, memory and energy are those of the first process; each prints to the folder ranks",)
    else:
        history, watched = fitted(job, recipe, subject, prepared, checkpoints, progress)
        save_weights(prepared.model, job.out / WEIGHTS)
    run = _record(job, prepared, recipe, history)
    return dataclasses.replace(
        run,
        search=search,
        said=(*prepared.said, *told, *history.said),
        predictions=tuple(_predictions(prepared, history, progress)),
        watched=watched,
        readings=together_readings(job, recipe, history, progress),
        **_augmented(job, prepared, progress),
    )


def fitted(
    job: TrainingJob,
    recipe: Recipe,
    subject: Subject,
    prepared: _Prepared,
    checkpoints: Checkpoints | None,
    progress: Progress,
) -> tuple[History, Watched]:
    """Train the prepared net in this process, or its part of it."""
    from steelyard.measure.training import Recorder
    from steelyard.trainer.examples import Examples
    from steelyard.trainer.loop import fit

    examples, augment = training_examples(job, prepared)
    validation = prepared.splits.validation
    recorder = Recorder(job.spec.source)
    recorder.score_examples = len(validation)
    history = fit(
        prepared.model,
        examples,
        recipe,
        objective=training_objective(subject, prepared.contract, recipe),
        validation=Examples.of(validation, prepared.contract),
        augment=augment,
        tell=_telling(progress, recipe, len(examples)),
        watch=recorder,
        checkpoints=checkpoints,
        skip_bad=job.skip_bad,
        spread=job.spread,
    )
    return history, recorder.watched()


def _augmented(job: TrainingJob, prepared: _Prepared, progress: Progress) -> dict[str, Any]:
    """Pictures of what the net saw, and which labels it disputes itself of examples that one word of the recipe changed."""
    if not job.recipe.augment:
        return {}
    from steelyard.trainer.augment.images import sheet
    from steelyard.trainer.augment.labels import check_labels, model_checker
    from steelyard.trainer.examples import Examples

    progress("asking the net about augmented examples", None)
    plain = Examples.of(prepared.splits.train, prepared.contract)
    _, change = training_examples(job, prepared)
    try:
        asked = model_checker(prepared.model)
        checks = check_labels(job.recipe.augment, plain, asked, count=_CHECKED, seed=job.recipe.seed)
        return {"sheet": () if change is None else sheet(plain, change), "label_checks": checks}
    except Exception as error:  # an example that cannot be read, say: no reason to lose the training
        return {"warnings": (f"augmented examples were not looked at: {' '.join(str(error).split())[:200]}",)}


def _with_rate(recipe: Recipe, search: RateSearch | None) -> Recipe:
    """At the rate that the range test suggests, where it suggests one."""
    if search is None or search.suggested is None:
        return recipe
    return dataclasses.replace(recipe, lr=search.suggested)


def _telling(progress: Progress, recipe: Recipe, examples: int) -> Callable[[int, float], None]:
    per_epoch = math.ceil(math.ceil(examples / recipe.batch) / recipe.accumulation)
    return lambda steps, share: progress(f"training, epoch {max(0, steps - 1) // per_epoch + 1}", share)


def _record(job: TrainingJob, prepared: _Prepared, recipe: Recipe, history: History) -> TrainingRun:
    splits = prepared.splits
    named: Mapping[str, Any] = {
        name: getattr(history, name)
        for name in (
            "loss", "learning_rate", "step_s", "wait_s", "examples", "steps_per_epoch", "ended", "note", "validation",
            "validation_loss", "epoch_end_s", "best_epoch",
        )
    }  # fmt: skip
    late = (Unread(split="train", example=example, reason=reason) for example, reason in history.unread)
    return TrainingRun(
        spec=job.spec,
        contract=prepared.contract,
        recipe=recipe.plain(),
        environment=environment(),
        version=__version__,
        validation_examples=len(splits.validation),
        splits={name: len(split) for name, split in splits.items()},
        split_method=splits.method,
        overlaps=prepared.overlaps,
        unread=(*prepared.unread, *late),
        weights=WEIGHTS,
        words=job.words,
        **named,
    )


def save_weights(model: nn.Module, path: Path) -> None:
    """Write the state dict as safetensors, whole or not at all; ``--weights`` of the other commands reads it."""
    from safetensors.torch import save

    part = path.with_suffix(".part")
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in model.state_dict().items()}
    try:
        part.write_bytes(save(state))
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        cure = "free some space and run the same command again: it goes on from the last checkpoint"
        raise StorageFull(f"cannot write {path} ({error.strerror or error}): {cure}") from None


# --- how good it came out ------------------------------------------------------------------------------


def _predictions(prepared: _Prepared, history: History, progress: Progress) -> Iterable[Predictions]:
    """Of the kept weights on some training examples, the validation split and the test split; the latter once, at the end."""
    splits, bad = prepared.splits, [example for example, _ in history.unread]
    readable = np.setdiff1d(np.arange(len(splits.train)), bad)
    some = readable[np.linspace(0, len(readable) - 1, min(_MOST_TRAIN, len(readable))).astype(np.int64)]
    shown = [("train", splits.train.take(some)), ("validation", splits.validation)]
    if history.ended != "diverged":
        shown.append(("test", splits.test))
    for name, split in shown:
        progress(f"judging on the {name} split", None)
        yield predictions(_outputs(prepared, split), split.labels, prepared.contract, name)


def _outputs(prepared: _Prepared, split: Split) -> Any:
    import torch

    from steelyard.trainer.examples import Examples, in_order

    prepared.model.eval()
    with torch.no_grad():
        batches = in_order(Examples.of(split, prepared.contract), _BATCH)
        return np.concatenate([prepared.model(batch.inputs).float().numpy() for batch in batches])
