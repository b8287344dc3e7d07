"""From words to two things that can take turns: models, functions, or commands."""

from __future__ import annotations

import hashlib
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from steelyard.errors import InvalidInput
from steelyard.measure.arms import CALLABLE, COMMAND, Arm, load_callable
from steelyard.pipeline.job import Progress
from steelyard.pipeline.prepare import prepare_subject
from steelyard.probe.host import environment
from steelyard.records import Scalar, SubjectSpec
from steelyard.store import RECORDS
from steelyard.subject.artifact import MANIFEST, Artifact, read_artifact, read_manifest, refuse_code
from steelyard.subject.splits import write_split
from steelyard.subject.subject import Subject

__all__ = ["Kind", "Side", "callable_side", "command_side", "model_sides", "short_names"]

Kind = Literal["models", "callables", "commands"]

EXAMPLES = 64  # inputs that timing cycles through


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two: its words, a digest of the files behind them, and the arm that runs it."""

    source: str
    digest: str
    arm: Arm
    artifact: Artifact | None = None
    inputs: Path | None = None
    data: Path | None = None  # the folder of splits, where data was given
    warnings: tuple[str, ...] = field(default_factory=tuple)


def short_names(first: str, second: str) -> tuple[str, str]:
    """Names by which people tell the two apart: the last parts of the paths, as many as differ; 1 and 2 where none do.

    >>> short_names("runs/a/best", "runs/b/best"), short_names("m.onnx", "m.onnx")
    (('a/best', 'b/best'), ('m.onnx (1)', 'm.onnx (2)'))
    """
    one, other = Path(first).parts, Path(second).parts
    for length in range(1, max(len(one), len(other)) + 1):
        names = "/".join(one[-length:]), "/".join(other[-length:])
        if names[0] != names[1]:
            return names
    return f"{Path(first).name} (1)", f"{Path(second).name} (2)"


# --- functions and commands ----------------------------------------------------------------------------


def callable_side(words: str) -> Side:
    """``file.py:function``; the file is run here once, so that what cannot be found is said before anything is measured."""
    file, _, name = words.partition(":")
    if not name or not file.endswith(".py"):
        raise InvalidInput(f"cannot tell what function {words!r} is: give file.py:function")
    path = Path(file).resolve()
    load_callable(path, name)
    arm = Arm(worker=CALLABLE, load={"file": str(path), "name": name})
    return Side(source=words, digest=_digest(path), arm=arm)


def command_side(words: str, *, shell: bool) -> Side:
    """A command as one would type it. Without `shell` it is split as a shell splits it, and no shell runs."""
    try:
        parts = ["/bin/sh", "-c", words] if shell else shlex.split(words)
    except ValueError as error:
        raise InvalidInput(f"cannot read the command {words!r}: {error}") from None
    if not parts:
        raise InvalidInput("a command is empty: give what you would type, such as 'python a.py'")
    if not shell and shutil.which(parts[0]) is None:
        raise InvalidInput(f"no such program: {parts[0]} (give its path, or --shell for what only a shell knows)")
    files = [Path(part) for part in parts if Path(part).is_file()]
    return Side(source=words, digest=_digest(*files), arm=Arm(worker=COMMAND, load={"words": parts}))


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


# --- models --------------------------------------------------------------------------------------------


def model_sides(
    sources: Sequence[str], out: Path, data: str | None, options: dict[str, Scalar], progress: Progress
) -> tuple[Side, Side]:
    """Both models on disk, ready to run. Raises `InvalidInput` where they take inputs of unlike shapes."""
    first, second = (
        _model(source, out / name, data, options, progress)
        for source, name in zip(sources, ("first", "second"), strict=True)
    )
    assert first.artifact is not None
    assert second.artifact is not None
    shapes = first.artifact.contract.shape, second.artifact.contract.shape
    if sorted(shapes[0]) != sorted(shapes[1]):
        raise InvalidInput(
            f"{first.source} takes inputs of shape {shapes[0]} and {second.source} of shape {shapes[1]}: times of unlike work are not "
            "compared; export both for the same input"
        )
    return first, second


def _model(source: str, folder: Path, data: str | None, options: dict[str, Scalar], progress: Progress) -> Side:
    if Path(source).is_dir():
        return _deployed(source, folder, data, options)
    known = {name: value for name, value in options.items() if name not in ("weights", "seed")}
    weights, seed = options.get("weights"), options.get("seed")
    spec = SubjectSpec(
        source=source, data=data, weights=None if weights is None else str(weights), seed=int(seed or 0), options=known
    )
    prepared = prepare_subject(spec, folder, progress, with_data=data is not None)
    return _side(source, prepared.baseline, prepared.inputs, prepared.data, prepared.cautions)


def _deployed(source: str, folder: Path, data: str | None, options: dict[str, Scalar]) -> Side:
    """A folder that was delivered, or a run folder: then what it delivered, or else what it weighed."""
    artifact = read_artifact(_within(Path(source)))
    refuse_code(artifact)
    inputs = folder / "data" / "inputs.npy"
    inputs.parent.mkdir(parents=True, exist_ok=True)
    missing = sorted(set(read_manifest(artifact.folder).instruction_sets) - set(environment().instruction_sets))
    warnings = (f"{source} was made where {', '.join(missing)} was present, absent here",) if missing else ()
    if data is None:
        np.save(inputs, _made_up(artifact))
        return _side(source, artifact, inputs, None, (*warnings, "timed on made-up inputs: no data was given"))
    seed = int(options.get("seed") or 0)
    splits = Subject(model=artifact.path, contract=artifact.contract, data=data, seed=seed, options=options).splits()
    np.save(inputs, splits.validation.take(np.arange(min(EXAMPLES, len(splits.validation)))).inputs(artifact.contract))
    if not (inputs.parent / "ready").exists():
        write_split(splits.test, inputs.parent, "test")
        (inputs.parent / "ready").touch()
    return _side(source, artifact, inputs, inputs.parent, warnings)


def _within(folder: Path) -> Path:
    if not (folder / MANIFEST).exists() and (folder / RECORDS).exists():
        for name in ("best", "baseline"):
            if (folder / name / MANIFEST).exists():
                return folder / name
        raise InvalidInput(
            f"{folder} holds a run that has no model to time: give the model itself, or a run of optimize"
        )
    return folder


def _side(source: str, artifact: Artifact, inputs: Path, data: Path | None, warnings: tuple[str, ...]) -> Side:
    arm = Arm(load={"folder": str(artifact.folder), "inputs": str(inputs)})
    return Side(
        source=source, digest=artifact.fingerprint(), arm=arm, artifact=artifact, inputs=inputs, data=data,
        warnings=tuple(dict.fromkeys(warnings)),
    )  # fmt: skip


def _made_up(artifact: Artifact) -> np.ndarray:
    """Standard normal inputs, or zeros where the model takes whole numbers; the same for both models."""
    shape, dtype = (EXAMPLES // 4, *artifact.contract.shape), np.dtype(artifact.contract.dtype)
    if not np.issubdtype(dtype, np.floating):
        return np.zeros(shape, dtype=dtype)
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)
