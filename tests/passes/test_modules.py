"""What passes on PyTorch modules say of models that they cannot take."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch import nn

from steelyard.errors import CannotApply, InvalidInput
from steelyard.passes import modules
from steelyard.passes.bench import Bench
from steelyard.records import Contract
from steelyard.subject.artifact import Artifact

FLAT = Contract(shape=(4,), layout="F", labels=("a", "b", "c", "d"))


class Bessel(nn.Module):
    """An operator that exchange formats do not have."""

    def forward(self, inputs: Any) -> Any:
        return torch.special.bessel_j0(inputs)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem, self.odd = nn.Linear(4, 4), Bessel()

    def forward(self, inputs: Any) -> Any:
        return self.odd(self.stem(inputs))


def bench(folder: Path) -> Bench:
    return Bench(folder=folder, examples=np.ones((4, 4), dtype=np.float32))


def test_an_operator_that_an_error_names_is_found_with_its_layer() -> None:
    program = modules.export_program(Net().eval(), np.ones((2, 4), dtype=np.float32))
    expected = ": aten.special_bessel_j0 in odd"
    assert modules.where_used(program, "no function for aten.special_bessel_j0.default").endswith(expected)
    assert modules.where_used(program, "op aten::special_bessel_j0 is unknown").endswith(expected)
    assert modules.where_used(program, "no function for prims.bessel_j0").endswith(expected)
    assert modules.where_used(program, "aten.special_bessel_j01 is unknown") == ""
    assert modules.where_used(program, "something else broke") == ""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_a_converter_that_lacks_an_operator_names_it_and_its_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    from steelyard.passes import to_pass
    from steelyard.records import Step

    monkeypatch.setattr(modules, "module_of", lambda _: Net().eval())
    source = Artifact(folder=tmp_path, engine="eager", file="weights.pt", contract=FLAT)
    with pytest.raises(
        CannotApply, match=r"\w+bessel_j0 in odd" if name == "openvino" else r"prims\.bessel_j0.*bessel_j0 in odd"
    ):
        to_pass(Step(name=name)).apply(source, bench(tmp_path))


def test_several_outputs_are_refused_before_anything_is_exported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from steelyard.passes.bf16 import Bf16

    class Pair(nn.Module):
        def forward(self, inputs: Any) -> Any:
            return {"logits": inputs, "hidden": inputs}

    monkeypatch.setattr(modules, "module_of", lambda _: Pair())
    monkeypatch.setattr(modules, "Cast", lambda module, _: module)
    source = Artifact(folder=tmp_path, engine="eager", file="weights.pt", contract=FLAT)
    with pytest.raises(InvalidInput, match="gives outputs logits, hidden; one tensor"):
        Bf16().apply(source, bench(tmp_path))
    assert not list(tmp_path.iterdir())
