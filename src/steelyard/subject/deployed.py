"""A deployed model: load a folder, call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput, UnsafeFile
from steelyard.records import Contract
from steelyard.subject.artifact import Artifact, read_artifact, read_manifest, refuse_code
from steelyard.subject.contract import check_inputs, prepare, read_picture
from steelyard.subject.encoder import read_encode
from steelyard.subject.engines import load_runner
from steelyard.subject.splits import Encoded

__all__ = ["Answer", "Model"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The predicted class and the probability of each, largest first."""

    label: str
    probability: float
    probabilities: Mapping[str, float]


class Model:
    """An artifact, ready to predict. ONNX and OpenVINO folders need no PyTorch.

    A folder that holds only weights for the user's own code is run by that code: it is refused with `UnsafeFile` unless
    `run_code` says that the folder is trusted. So is the code that a folder may carry to encode texts, when a text comes.
    """

    def __init__(self, folder: Path, *, run_code: bool = False) -> None:
        self.artifact: Artifact = read_artifact(folder)
        if not run_code:
            refuse_code(self.artifact)
        manifest = read_manifest(folder)
        self.takes_texts: bool = manifest.texts
        self._code = manifest.encode
        self._encode = read_encode(folder, manifest.encode) if manifest.encode is not None and run_code else None
        self._runner = load_runner(self.artifact)

    @property
    def contract(self) -> Contract:
        """What the model takes and gives."""
        return self.artifact.contract

    def __call__(self, inputs: NDArray[Any]) -> NDArray[Any]:
        """Raw outputs ``(n, classes)`` for model-ready inputs ``(n, *contract.shape)``; raises `InvalidInput` otherwise."""
        check_inputs(self.contract, inputs)
        outputs = self._runner(np.ascontiguousarray(inputs))
        if not np.isfinite(outputs).all():
            raise InvalidInput("the model's outputs hold NaN or infinity")
        return outputs

    def predict(self, example: str | Path | NDArray[Any]) -> Answer:
        """Prepare one raw example and say what it is: a picture file, a text, or an array of the contract's shape."""
        shares = self.probabilities(self._raw(example))[0]
        names = self.names(len(shares))
        order = np.argsort(-shares, kind="stable")
        ranked = {names[i]: float(shares[i]) for i in order}
        return Answer(label=names[order[0]], probability=float(shares[order[0]]), probabilities=ranked)

    def probabilities(self, raw: NDArray[Any]) -> NDArray[np.float64]:
        """Of each class ``(n, classes)``, for raw examples ``(n, *contract.shape)``."""
        outputs = np.asarray(self(prepare(self.contract, raw)), dtype=np.float64)
        names = self.contract.labels
        if outputs.ndim != 2 or (names and len(names) != outputs.shape[1]):
            raise InvalidInput(
                f"the model gives outputs of shape {outputs.shape[1:]} for one example; {len(names)} classes are declared"
            )
        return _softmax(outputs) if self.contract.outputs == "logits" else outputs

    def names(self, classes: int) -> tuple[str, ...]:
        """The classes in the order of the outputs: their names, or 0, 1, 2 ..."""
        return self.contract.labels or tuple(map(str, range(classes)))

    def encode(self, texts: Sequence[str]) -> NDArray[Any]:
        """Raw examples from texts, by the code that travelled with the folder.

        Raises `InvalidInput` where none did, `UnsafeFile` where it may not be run.
        """
        if self._encode is not None:
            return Encoded(texts, self._encode)[:]
        folder = self.artifact.folder
        if self._code is not None:
            raise UnsafeFile(
                f"{folder} carries {self._code.partition(':')[0]}, code that makes inputs of texts: read it, and if you trust it, call "
                "steelyard.load(folder, run_code=True), or give --run-code"
            )
        raise InvalidInput(
            f"{folder} cannot take texts, for what encodes them did not travel with it: name it in the subject "
            "(encode_files=[...]) and deliver again, or encode as in training and call model(inputs)"
        )

    def _raw(self, example: str | Path | NDArray[Any]) -> NDArray[Any]:
        if isinstance(example, str) and self.takes_texts:
            return self.encode([example])
        return (read_picture(self.contract, Path(example)) if isinstance(example, str | Path) else example)[None]


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of each row."""
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))
