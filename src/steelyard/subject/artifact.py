"""A model on disk: one folder with the model's files and a manifest that says how to run it.

Every pass writes such a folder, and the deployable folder is one too, with the evidence added. Manifests may come
from strangers, so they are read through pydantic.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from steelyard.errors import InvalidInput, SchemaTooNew, UnsafeFile
from steelyard.records import (
    Contract,
    Plan,
    Sample,
    Scalar,
    Step,
    SubjectSpec,
    Unavailable,
    decode,
    encode,
)
from steelyard.subject.contract import check_contract

__all__ = [
    "FALLBACK",
    "Artifact",
    "found_while_built",
    "keep_findings",
    "read_artifact",
    "refuse_code",
    "write_manifest",
]

SCHEMA = 1  # of the manifest, whose form changes apart from that of records

MANIFEST = "manifest.json"
READINGS = "readings.jsonl"
FALLBACK = "fallback"  # in a deployed folder: the same model before it was quantised
_ASIDE = {  # what a folder holds beside the model
    MANIFEST, READINGS, "README.md", "evidence.json", "parity.npz", "predict.py", "labels.txt", "requirements.txt",
    "Dockerfile", ".dockerignore",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """A model on disk and how to run it.

    ``engine`` is ``eager`` (the user's own code with saved weights; not deployable), ``torch``, ``onnxruntime``,
    ``openvino`` or ``tflite``; ``file`` is relative to ``folder``; ``options`` go to the engine. ``notes`` are sentences for
    people about how it was made: layers that kept their precision, processors on which to be careful.
    """

    folder: Path
    engine: str
    file: str
    contract: Contract
    options: Mapping[str, Scalar] = dataclasses.field(default_factory=dict)
    plan: Plan = dataclasses.field(default_factory=Plan)
    spec: SubjectSpec | None = None
    notes: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The model's main file."""
        return self.folder / self.file

    def fingerprint(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 over the model's files."""
        digest = hashlib.sha256()
        for path in model_files(self.folder):
            digest.update(path.name.encode())
            with path.open("rb") as file:
                while block := file.read(1 << 20):
                    digest.update(block)
        return digest.hexdigest()[:16]


def model_files(folder: Path) -> list[Path]:
    """The files in an artifact's folder that belong to the model itself, sorted by name."""
    return sorted(p for p in folder.iterdir() if p.is_file() and p.name not in _ASIDE)


def write_manifest(artifact: Artifact, extra: Mapping[str, Any] | None = None) -> None:
    """Write the manifest last: a folder without one is unfinished."""
    document = {
        "schema_version": SCHEMA,
        "engine": artifact.engine,
        "file": artifact.file,
        "options": dict(artifact.options),
        "contract": dataclasses.asdict(artifact.contract),
        "plan": [{"name": s.name, "options": dict(s.options)} for s in artifact.plan.steps],
        "spec": dataclasses.asdict(artifact.spec) if artifact.spec else None,
        "notes": list(artifact.notes),
        **(extra or {}),
    }
    temporary = artifact.folder / f".{MANIFEST}.part"
    temporary.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    temporary.replace(artifact.folder / MANIFEST)


def read_artifact(folder: Path) -> Artifact:
    """The artifact in `folder`. Raises `InvalidInput` with the offending field for a manifest that does not fit."""
    document = read_manifest(folder)
    artifact = Artifact(
        folder=folder,
        engine=document.engine,
        file=document.file,
        contract=Contract(**document.contract.model_dump()),
        options=document.options,
        plan=Plan(steps=tuple(Step(name=s.name, options=tuple(s.options.items())) for s in document.plan)),
        spec=SubjectSpec(**document.spec.model_dump()) if document.spec else None,
        notes=tuple(document.notes),
    )
    check_contract(artifact.contract)
    if not artifact.path.is_file():
        raise InvalidInput(f"{folder} is incomplete: its model file {artifact.file} is missing")
    return artifact


def keep_findings(folder: Path, readings: Sequence[Sample | Unavailable]) -> None:
    """Keep what was read while an artifact was made, such as the sensitivity of each layer, beside it."""
    if readings:
        (folder / READINGS).write_text("".join(f"{encode(r)}\n" for r in readings), encoding="utf-8")


def found_while_built(folder: Path) -> tuple[Sample | Unavailable, ...]:
    """What `keep_findings` kept in an artifact's folder; nothing where it kept nothing."""
    path = folder / READINGS
    if not path.exists():
        return ()
    return tuple(decode(line) for line in path.read_text(encoding="utf-8").splitlines())


def read_manifest(folder: Path) -> Manifest:
    """The checked content of a folder's manifest."""
    path = folder / MANIFEST
    if not path.is_file():
        raise InvalidInput(
            f"{folder} holds no Steelyard artifact (no {MANIFEST}): give a folder that optimize wrote, such as RUN/best"
        )
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InvalidInput(f"cannot read {path}: {error}") from None
    schema = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(schema, int) and schema > SCHEMA:
        raise SchemaTooNew(
            f"{path} has schema {schema}, this Steelyard reads up to {SCHEMA}: upgrade it (pip install -U steelyard)"
        )
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "content"
        raise InvalidInput(f"{path}: {where}: {first['msg']}") from None


def refuse_code(artifact: Artifact) -> None:
    """Raise `UnsafeFile` for an artifact that only runs with somebody's Python file."""
    if artifact.engine == "eager":
        source = artifact.spec.source if artifact.spec else "unknown code"
        raise UnsafeFile(
            f"{artifact.folder} holds weights that need the Python code of {source}, which opening it would run: "
            "if you trust that code, call steelyard.load(folder, run_code=True)"
        )


class _Strict(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Contract(_Strict):
    shape: Annotated[tuple[Annotated[int, Field(gt=0)], ...], Field(min_length=1, max_length=8)]
    layout: Annotated[str, Field(pattern=r"^[A-Z]{1,8}$")]
    dtype: Literal["float32", "float16", "float64", "int32", "int64", "uint8"]
    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize: Literal["crop", "stretch"]
    outputs: Literal["logits", "probabilities"]
    labels: tuple[str, ...]
    task: Literal["classification"]


class _Step(_Strict):
    name: str
    options: dict[str, str | float | int | bool | None] = {}


class _Spec(_Strict):
    source: str
    data: str | None = None
    weights: str | None = None
    seed: int = 0
    options: dict[str, str | float | int | bool | None] = {}


class Manifest(_Strict):
    """What a manifest may say; a file name with a folder in it is refused, so nothing outside is opened."""

    schema_version: int
    engine: Literal["eager", "torch", "onnxruntime", "openvino", "tflite"]
    file: Annotated[str, Field(pattern=r"^\w[\w.\-]*$")]
    options: dict[str, str | bool | int | float | None] = {}
    contract: _Contract
    plan: list[_Step] = []
    spec: _Spec | None = None
    notes: list[str] = []
    instruction_sets: list[str] = []
    packages: dict[str, str] = {}
    files: dict[str, str] = {}
    texts: bool = False
    encode: Annotated[str, Field(pattern=r"^\w[\w.\-]*\.py:\w+$")] | None = None
    evidence: dict[str, Any] = {}
    parity: dict[str, float] = {}
