"""The live thing under study."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.errors import InvalidInput, SteelyardError
from steelyard.records import Contract, Scalar
from steelyard.subject.data import dataset, read_data
from steelyard.subject.splits import Encode, Splits

if TYPE_CHECKING:
    from torch import nn

__all__ = ["Subject"]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Subject:
    """A model with what it takes to judge it; never stored.

    ``model`` is a PyTorch module, or a path to an .onnx, .xml (OpenVINO IR) or .pt2 file. ``data`` is the words for
    a data set (see `steelyard.subject.data.read_data`) or a function returning a PyTorch Dataset, a tuple of two or
    three of them, or `Splits`; being a function, it costs nothing in processes that only run the model. ``fit``, where
    given, trains ``model`` in place; it is called once, and the weights are kept in the run folder. ``loss``, of outputs
    and labels to their mean, takes the place of cross-entropy where a pass trains; ``recover`` takes the place of that whole
    training: it gets the changed model and splits whose test part is the validation part, for the real one is not to be
    looked at. ``students`` are lighter nets by name, each made by a function, for ``distill`` to train. ``encode``, for
    models of texts, makes raw examples ``(n, *contract.shape)`` from n strings: tokens' numbers, cut and padded, say. It must
    give the same for the same text in every process. ``encode_files`` travel with a deployed folder: the Python file that
    holds ``encode``, then what it reads beside itself; without them a deployed model takes numbers, not texts.
    """

    model: nn.Module | Path
    contract: Contract
    data: str | Callable[[], Any] | None = None
    fit: Callable[[Any, Splits], None] | None = None
    encode: Encode | None = None
    encode_files: Sequence[str | Path] = ()
    loss: Callable[[Any, Any], Any] | None = None
    recover: Callable[[Any, Splits], None] | None = None
    students: Mapping[str, Callable[[], nn.Module]] = field(default_factory=dict)
    seed: int = 0
    options: Mapping[str, Scalar] = field(default_factory=dict)

    def splits(self) -> Splits:
        """Read the data and split it. Raises `InvalidInput` where the subject has none."""
        if self.data is None:
            raise InvalidInput("this subject has no data: give --data, or data=... in the subject")
        if isinstance(self.data, str):
            return read_data(self.data, self.contract, seed=self.seed, options=self.options, encode=self.encode)
        try:
            source = self.data()
        except SteelyardError:
            raise
        except Exception as error:
            raise InvalidInput(
                f"the data function failed: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
            ) from error
        return dataset(source, labels=self.contract.labels, seed=self.seed, encode=self.encode)
