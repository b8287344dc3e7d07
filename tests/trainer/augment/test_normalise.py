"""Contracts by the data, against scikit-learn's scalers."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.subject.splits import Split
from steelyard.trainer.augment.normalise import How, normalised

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(("how", "scaler"), [("min-max", MinMaxScaler()), ("standardise", StandardScaler())])
@pytest.mark.parametrize("layout", ["CHW", "HWC"])
def test_each_channel_is_scaled_as_scikit_learn_scales_columns(how: How, scaler, layout: str) -> None:  # type: ignore[no-untyped-def]
    shape = (3, 4, 5) if layout == "CHW" else (4, 5, 3)
    raw = RNG.integers(10, 200, (600, *shape), dtype=np.uint8)  # more than one chunk
    contract = Contract(shape=shape, layout=layout, scale=1 / 255)
    split = Split(raw=raw, labels=np.zeros(600, dtype=np.int32))
    found = split.inputs(normalised(contract, split, how))
    axis = 1 + layout.index("C")
    columns = np.moveaxis(raw.astype(np.float64), axis, -1).reshape(-1, 3)
    assert np.allclose(np.moveaxis(found, axis, -1).reshape(-1, 3), scaler.fit_transform(columns), atol=1e-5)


def test_inputs_without_channels_have_one_scale() -> None:
    split = Split(raw=RNG.normal(5, 2, (50, 6)), labels=np.zeros(50, dtype=np.int32))
    contract = normalised(Contract(shape=(6,), layout="F"), split, "standardise")
    found = split.inputs(contract)
    assert found.mean() == pytest.approx(0, abs=1e-5)
    assert found.std() == pytest.approx(1, abs=1e-5)


def test_what_cannot_be_normalised_is_said() -> None:
    split = Split(raw=np.full((4, 1, 2, 2), 7, dtype=np.uint8), labels=np.zeros(4, dtype=np.int32))
    with pytest.raises(InvalidInput, match="channel 0 never changes"):
        normalised(Contract(shape=(1, 2, 2)), split, "standardise")
    with pytest.raises(InvalidInput, match="min-max or standardise, got 'max'"):
        normalised(Contract(shape=(1, 2, 2)), split, "max")  # type: ignore[arg-type]
