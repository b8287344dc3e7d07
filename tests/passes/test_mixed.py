"""Which layers do not bear INT8: found by measurement, named, and given their precision back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tiny_models
from steelyard.errors import CannotApply
from steelyard.passes import mixed
from steelyard.passes.bench import Bench, Built
from steelyard.passes.build import Builder
from steelyard.passes.mixed import Judge, Mixed, give_back, ranked, sensitivities
from steelyard.records import Plan, Sample, Step, Unavailable
from steelyard.subject.artifact import Artifact, found_while_built, read_artifact
from steelyard.subject.engines import load_runner

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")


def fragile(arrays: tiny_models.Arrays) -> tiny_models.Arrays:
    """A channel that is always zero, and weights of a million behind it: the same function, until they share a scale."""
    spoiled = dict(arrays)
    for name in ("2.weight", "2.bias"):
        spoiled[name] = spoiled[name].copy()
        spoiled[name][0] = 0
    spoiled["5.weight"] = spoiled["5.weight"].copy()
    spoiled["5.weight"][:, :16] = 1e6
    return spoiled


@pytest.fixture(scope="module")
def validated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.write_data(tmp_path_factory.mktemp("data"), ("calibration", "validation"))


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return tiny_models.onnx_artifact(tmp_path_factory.mktemp("planted") / "net", head=fragile)


def applied(source: Artifact, folder: Path, data: Path, **options: Any) -> Built:
    folder.mkdir(exist_ok=True)
    return Mixed(**options).apply(source, Bench(folder=folder, examples=tiny_models.examples(), data=data))


def test_the_planted_layer_is_named_first_and_given_back(planted: Artifact, validated: Path, tmp_path: Path) -> None:
    built = applied(planted, tmp_path, validated, drop=0.02, sample=200)
    table = {row.conditions["layer"]: float(row.values.mean()) for row in built.readings if isinstance(row, Sample)}
    assert set(table) == {"Conv_0", "Conv_2", "Gemm_5"}
    assert ranked(built.readings)[0] == "Gemm_5"
    assert table["Gemm_5"] > 0.5 > 10 * max(table["Conv_0"], table["Conv_2"])
    assert built.artifact.notes[-1].startswith("1 of 3 layers stay in fp32, by their sensitivity: Gemm_5 (")
    kinds = {t.name: onnx.numpy_helper.to_array(t).dtype for t in onnx.load(built.artifact.path).graph.initializer}
    assert kinds["5.weight"] == np.float32
    assert sum(kind == np.int8 for name, kind in kinds.items() if "weight" in name and "scale" not in name) >= 2
    before = load_runner(planted)(tiny_models.examples())
    assert (built.outputs.argmax(axis=1) == before.argmax(axis=1)).mean() > 0.95


def test_all_in_int8_is_what_the_planted_layer_spoils(planted: Artifact, validated: Path, tmp_path: Path) -> None:
    from steelyard.passes.quantize_static import QuantizeStatic

    bench = Bench(folder=tmp_path, examples=tiny_models.examples(), data=validated)
    outputs = QuantizeStatic().apply(planted, bench).outputs
    assert outputs.std() < 0.01 * load_runner(planted)(tiny_models.examples()).std(), "every example gets one answer"


def test_the_table_is_kept_beside_the_artifact(planted: Artifact, validated: Path, tmp_path: Path) -> None:
    inputs = tiny_models.write_inputs(tmp_path / "inputs.npy")
    plan = Plan(steps=(Step(name="mixed", options=(("drop", 0.02), ("sample", 60))),))
    folder = Path(Builder().build(str(planted.folder), str(tmp_path), plan, str(inputs), str(validated)))
    kept = found_while_built(folder)
    assert [row.conditions["layer"] for row in kept] == ["Conv_0", "Conv_2", "Gemm_5"]
    assert all(isinstance(row, Sample) and row.values.shape == (60,) for row in kept)
    assert "Gemm_5" in read_artifact(folder).notes[-1]


def test_nothing_is_given_back_where_all_bear_it(validated: Path, tmp_path: Path) -> None:
    source = tiny_models.onnx_artifact(tmp_path / "net")
    built = applied(source, tmp_path / "new", validated, drop=0.05, sample=200)
    assert built.artifact.notes[-1] == "all 3 layers are in INT8: none had to be given its precision back"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning:openvino.*")
def test_nncf_finds_the_planted_layer_too(planted: Artifact, validated: Path, tmp_path: Path) -> None:
    from steelyard.passes.openvino import OpenVino

    (tmp_path / "ir").mkdir()
    source = OpenVino().apply(planted, Bench(folder=tmp_path / "ir", examples=tiny_models.examples())).artifact
    built = applied(source, tmp_path / "new", validated, drop=0.02, sample=200)
    assert ranked(built.readings)[0].startswith("y/")  # OpenVINO calls a layer by its output
    assert "1 of 3 layers stay in fp32, by their sensitivity: y/" in built.artifact.notes[-1]


def test_validation_data_is_needed(planted: Artifact, calibration: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotApply, match="measured on validation data, and the subject has none"):
        applied(planted, tmp_path, calibration)


# --- the search alone, on scripted models --------------------------------------------------------------


class Scripted:
    """Answers of which a given share is wrong, by the layers that are quantised."""

    def __init__(self, wrong: dict[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
        self.layers, self.wrong = tuple(wrong), wrong
        self.tried: list[tuple[str, ...]] = []
        monkeypatch.setattr(mixed, "load_runner", lambda made: made)

    def only(self, layer: str) -> Any:
        return self._runner(self.wrong[layer])

    def without(self, layers: Sequence[str], folder: Path | None = None) -> Any:
        self.tried.append(tuple(layers))
        return self._runner(sum(count for layer, count in self.wrong.items() if layer not in layers))

    def _runner(self, wrong: int) -> Any:
        def run(inputs: NDArray[Any]) -> NDArray[Any]:
            told = np.where(inputs[:, 0] < wrong, -9.0, 9.0)
            return np.stack([-told, told], axis=1)

        return run


def judged(count: int = 100) -> Judge:
    inputs = np.arange(count, dtype=np.float64)[:, None]
    right = np.tile([0.0, 1.0], (count, 1))
    return Judge(inputs=inputs, labels=np.ones(count, dtype=np.int32), before=right)


def test_the_worst_go_first_and_no_more_than_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted({"a": 1, "b": 30, "c": 0, "d": 12}, monkeypatch)
    table = sensitivities(scripted, judged())
    order = ranked(table)
    assert order[:3] == ["b", "d", "a"]
    assert give_back(scripted, judged(), order, drop=0.03) == ("b", "d")
    assert scripted.tried == [(), ("b",), ("b", "d")]


def test_where_no_layer_bears_it_that_is_said_with_the_number(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted({"a": 50, "b": 60}, monkeypatch)
    with pytest.raises(CannotApply, match=r"within a drop of 1\.00%: with a alone in INT8 it is 55\.00%"):
        give_back(scripted, judged(), ["b", "a"], drop=0.01)


def test_layers_that_time_does_not_reach_are_unavailable_and_rank_last(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted({"a": 1, "b": 2}, monkeypatch)
    table = sensitivities(scripted, judged(), until=0.0)
    assert all(isinstance(row, Unavailable) and "ended before its turn" in row.reason for row in table)
    mixed_table = [table[0], sensitivities(scripted, judged())[1]]
    assert ranked(mixed_table) == ["b", "a"]


def test_a_shift_is_the_total_variation_of_each_example(monkeypatch: pytest.MonkeyPatch) -> None:
    scripted = Scripted({"a": 25}, monkeypatch)
    shift = judged().shift(scripted.only("a"))
    assert shift.shape == (100,)
    np.testing.assert_allclose(shift, np.arange(100) < 25, atol=1e-6)


def test_the_loss_is_that_of_mcnemars_table(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against the variance of a mean of paired differences, -1, 0 and 1, written out."""
    scripted = Scripted({"a": 25}, monkeypatch)
    judge = dataclasses.replace(judged(), labels=np.r_[np.zeros(5), np.ones(95)].astype(np.int32))
    after = scripted.only("a")(judge.inputs).argmax(axis=1)
    differences = (judge.before.argmax(axis=1) == judge.labels).astype(float) - (after == judge.labels)
    expected = differences.mean() + differences.std() / 10
    assert judge.lost(scripted.only("a")) == pytest.approx(expected)
