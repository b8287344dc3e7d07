"""From words to what every child process can use: a baseline artifact, example inputs and splits on disk."""

from __future__ import annotations

import dataclasses
import hashlib
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.pipeline.job import Progress
from steelyard.records import Contract, Overlap, SubjectSpec
from steelyard.subject.artifact import Artifact, read_artifact, write_manifest
from steelyard.subject.contract import prepare
from steelyard.subject.encoder import carry
from steelyard.subject.load import load_subject
from steelyard.subject.safe import save_weights
from steelyard.subject.splits import Split, Splits, overlaps, stratified, write_split
from steelyard.subject.subject import Subject

__all__ = ["Prepared", "prepare_subject", "with_labels"]

CALIBRATION = 300  # training examples that quantisers may look at
EXAMPLES = 64  # inputs that timing cycles through
ROOM = 0.5  # of the free disk, which the training split may take
_ENGINES = {".onnx": "onnxruntime", ".xml": "openvino", ".pt2": "torch"}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Prepared:
    """A subject on disk. ``data`` is None where cost alone is asked for."""

    baseline: Artifact
    inputs: Path
    data: Path | None
    sizes: dict[str, int]
    method: str
    overlaps: tuple[Overlap, ...]
    warnings: tuple[str, ...]
    splits: Splits | None = None

    @property
    def cautions(self) -> tuple[str, ...]:
        """The warnings, and the overlaps in words, for those who do not list them otherwise."""
        said = (
            f"{o.count} {o.split} example(s) also stand in {o.other}: the {o.split} quality is flattered"
            for o in self.overlaps
        )
        return (*said, *self.warnings)


def prepare_subject(
    spec: SubjectSpec, out: Path, progress: Progress, *, with_data: bool = True, to_train: bool = False
) -> Prepared:
    """Load the subject, read and check its data, fit it if it asks to be, and write all of it under `out`.

    The training split is written `to_train` alone, and only of a model that can be trained.
    """
    progress("reading the subject", None)
    subject = load_subject(spec)
    contract = subject.contract
    splits = None
    if with_data:
        progress("reading the data", None)
        splits = subject.splits()
        contract = with_labels(contract, splits)
    baseline = _baseline(spec, subject, contract, splits, out / "baseline", progress)
    carry(subject, out)
    inputs = out / "data" / "inputs.npy"
    inputs.parent.mkdir(parents=True, exist_ok=True)
    if splits is None:
        np.save(inputs, _made_up(contract))
        return Prepared(
            baseline=baseline, inputs=inputs, data=None, sizes={}, method="", overlaps=(),
            warnings=("timed on made-up inputs: no data was given",),
        )  # fmt: skip
    progress("looking for examples that stand in two splits", None)
    found = overlaps(splits)
    _write_data(splits, contract, inputs)
    untrained: tuple[str, ...] = ()
    if to_train and not isinstance(subject.model, Path):
        progress("writing the training split", None)
        untrained = _write_training(splits.train, inputs.parent)
    return Prepared(
        baseline=baseline,
        inputs=inputs,
        data=inputs.parent,
        sizes={name: len(split) for name, split in splits.items()},
        method=splits.method,
        overlaps=found,
        warnings=untrained,
        splits=splits,
    )


def with_labels(contract: Contract, splits: Splits) -> Contract:
    """The model's own class names win; positions alone (0, 1, 2 ...) give way to the data's names."""
    nameless = contract.labels == tuple(str(i) for i in range(len(contract.labels)))
    if (nameless and len(splits.labels) in (0, len(contract.labels))) or not contract.labels:
        return dataclasses.replace(contract, labels=splits.labels or contract.labels)
    if len(splits.labels) > len(contract.labels):
        raise InvalidInput(
            f"the data has {len(splits.labels)} classes, the model gives {len(contract.labels)} outputs: they do not belong together"
        )
    return contract


def _baseline(
    spec: SubjectSpec, subject: Subject, contract: Contract, splits: Splits | None, folder: Path, progress: Progress
) -> Artifact:
    """The model as it came, as an artifact. A fitted model is kept, so that a resumed run does not train again."""
    if (folder / "manifest.json").exists():
        kept = read_artifact(folder)
        if kept.spec == spec and (not isinstance(subject.model, Path) or _same_file(subject.model, kept.path)):
            return kept
        raise InvalidInput(
            f"{folder.parent} holds another model ({kept.spec and kept.spec.source}): give another --out, or remove the folder"
        )
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(subject.model, Path):
        engine, file = _ENGINES[subject.model.suffix], _copy_model(subject.model, folder)
    else:
        if subject.fit is not None and splits is not None:
            progress("training the baseline", None)
            subject.fit(subject.model, splits)
        engine, file = "eager", "weights.pt"
        save_weights(subject.model.eval(), folder / file)
    artifact = Artifact(folder=folder, engine=engine, file=file, contract=contract, spec=spec)
    write_manifest(artifact)
    return artifact


def _copy_model(path: Path, folder: Path) -> str:
    """Copy a model file and what belongs to it: IR's .bin, ONNX's external data."""
    shutil.copyfile(path, folder / path.name)
    companions = [path.with_suffix(".bin")] if path.suffix == ".xml" else []
    if path.suffix == ".onnx":
        companions = [path.with_name(name) for name in _external_data(path)]
    for companion in companions:
        if not companion.is_file():
            raise InvalidInput(f"{path} needs {companion.name} beside it, and it is not there")
        shutil.copyfile(companion, folder / companion.name)
    return path.name


def _external_data(path: Path) -> list[str]:
    """Names of an ONNX file's external data; a name that leaves the folder is refused."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    names = {e.value for t in model.graph.initializer for e in t.external_data if e.key == "location"}
    for name in names:
        if Path(name).name != name:
            raise InvalidInput(
                f"{path} refers to weights outside its folder ({name}): export it again with its data beside it"
            )
    return sorted(names)


def _same_file(one: Path, other: Path) -> bool:
    return hashlib.sha256(one.read_bytes()).digest() == hashlib.sha256(other.read_bytes()).digest()


def _made_up(contract: Contract) -> NDArray[Any]:
    """Standard normal inputs, or zeros where the model takes whole numbers."""
    shape = (EXAMPLES // 4, *contract.shape)
    dtype = np.dtype(contract.dtype)
    if not np.issubdtype(dtype, np.floating):
        return np.zeros(shape, dtype=dtype)
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


def _write_data(splits: Splits, contract: Contract, inputs: Path) -> None:
    """Validation, test and calibration examples for the children; written once a run folder."""
    examples = splits.validation.take(np.arange(min(EXAMPLES, len(splits.validation))))
    np.save(inputs, examples.inputs(contract))
    if (inputs.parent / "ready").exists():
        return
    write_split(splits.validation, inputs.parent, "validation")
    write_split(splits.test, inputs.parent, "test")
    _, drawn = stratified(splits.train.labels, min(CALIBRATION, len(splits.train)), seed=0)
    calibration = splits.train.take(drawn)
    prepare(contract, next(calibration.chunks())[:1])  # a wrong shape is met here, not in a child
    write_split(calibration, inputs.parent, "calibration")
    (inputs.parent / "ready").touch()


def _write_training(train: Split, folder: Path) -> tuple[str, ...]:
    """The training split for the passes that train; written once a run folder, its labels last. A warning if it does not fit.

    A file that is mapped into memory ends the process where the disk is full, so there must be room beforehand.
    """
    if (folder / "train.labels.npy").exists():
        return ()
    needed = len(train) * np.asarray(train.raw[np.arange(1)]).nbytes
    free = shutil.disk_usage(folder).free
    if needed > ROOM * free:
        warning = (
            f"no room to train: the training split takes {needed / 1e9:.3g} GB of the {free / 1e9:.3g} GB free, "
            "so techniques that train are refused; give --out on a larger disk"
        )
        return (warning,)
    write_split(train, folder, "train")
    return ()
