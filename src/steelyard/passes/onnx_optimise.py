"""How ONNX Runtime treats a graph: how far it optimises it, when, with how many threads, and where it runs."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes.bench import Bench, Built
from steelyard.passes.options import check_words
from steelyard.probe.engines import PROVIDERS, provider
from steelyard.records import Scalar, Unavailable
from steelyard.subject.artifact import Artifact, model_files
from steelyard.subject.engines import load_runner

__all__ = ["OnnxOptimise", "copy_model"]


@dataclass(frozen=True, slots=True)
class OnnxOptimise:
    """Graph optimisations up to a ``level``: ``basic`` folds, ``extended`` fuses, ``all`` changes the layout too.

    ONNX Runtime does ``all`` unasked, when it loads; on small nets the reordering can cost more than it gives. ``offline``
    optimises now and stores the result, which loads faster and belongs to processors like this one. ``threads`` are those
    of one operator (0: one a core); ``provider`` is where the graph runs.
    """

    takes: ClassVar[frozenset[str]] = frozenset({"onnxruntime"})
    gives: ClassVar[str] = ""
    kind: ClassVar[str] = "compile"
    choices: ClassVar[Mapping[str, tuple[Scalar, ...]]] = {"level": ("extended", "basic")}
    level: Literal["extended", "basic", "all", "none"] = "extended"
    offline: bool = False
    threads: int = 0
    provider: str = "cpu"

    def __post_init__(self) -> None:
        check_words("onnx_optimise", self)
        if self.threads < 0:
            raise InvalidInput(f"onnx_optimise: threads must be 0 (one a core) or more, got {self.threads}")
        if self.provider != "cpu" and self.provider not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise InvalidInput(f"onnx_optimise: provider must be cpu or one of {known}, got {self.provider!r}")

    def apply(self, source: Artifact, bench: Bench) -> Built:
        """Write ``model.onnx``, optimised if `offline`. Raises `CannotApply` where the provider is not there."""
        from steelyard.subject.engines.onnxruntime import open_session

        options = {**source.options, **self._options()}
        artifact = copy_model(source, bench, options)
        if self.offline:
            optimised = bench.folder / "optimised.onnx"
            open_session(artifact.path, options=options, write_to=optimised)
            optimised.replace(artifact.path)
            artifact = dataclasses.replace(artifact, options={**options, "level": "none"})
        return Built(artifact=artifact, outputs=load_runner(source)(bench.examples), tolerance=1e-3)

    def _options(self) -> dict[str, Scalar]:
        options: dict[str, Scalar] = {"level": self.level}
        if self.threads:
            options["threads"] = self.threads
        if self.provider != "cpu":
            found = provider(self.provider)
            if isinstance(found, Unavailable):
                raise CannotApply(found.reason)
            options["provider"] = found
        return options


def copy_model(source: Artifact, bench: Bench, options: Mapping[str, Scalar]) -> Artifact:
    """The same model with other options, its files under the names by which they refer to one another."""
    for path in model_files(source.folder):
        shutil.copyfile(path, bench.folder / path.name)
    return dataclasses.replace(source, folder=bench.folder, options=options, spec=None)
