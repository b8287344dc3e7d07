"""A deployed model: load a folder, call it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.subject.artifact import Artifact, read_artifact, refuse_code
from steelyard.subject.contract import check_inputs, prepare, read_picture
from steelyard.subject.engines import load_runner

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
    `run_code` says that the folder is trusted.
    """

    def __init__(self, folder: Path, *, run_code: bool = False) -> None:
        self.artifact: Artifact = read_artifact(folder)
        if not run_code:
            refuse_code(self.artifact)
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
        """Prepare one raw example, a picture file or an array of the contract's shape, and say what it is."""
        raw = read_picture(self.contract, Path(example)) if isinstance(example, str | Path) else example
        outputs = np.asarray(self(prepare(self.contract, raw[None]))[0], dtype=np.float64)
        shares = _softmax(outputs) if self.contract.outputs == "logits" else outputs
        names = self.contract.labels or tuple(str(i) for i in range(len(shares)))
        if shares.ndim != 1 or len(names) != len(shares):
            raise InvalidInput(
                f"the model gives outputs of shape {shares.shape} for one example; {len(names)} classes are declared"
            )
        order = np.argsort(-shares, kind="stable")
        ranked = {names[i]: float(shares[i]) for i in order}
        return Answer(label=names[order[0]], probability=float(shares[order[0]]), probabilities=ranked)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum())
