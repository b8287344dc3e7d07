"""Suites in YAML: what they mean, and what is said of a mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from steelyard.errors import InvalidInput
from steelyard.pipeline.suite.definition import DEFAULT, read_definition

WHOLE = """
name: nightly
budget: 20s
batches: [1, 8, 8]
engines: [as-is, onnxruntime]
data: [digits, mine.csv]
models:
  cnn: net.py:cnn
  zoo: {source: "torchvision:resnet18", data: digits, size: 32, classes: 10, scale: 1/255, mean: 0.5}
"""


def _read(folder: Path, text: str) -> object:
    path = folder / "suite.yaml"
    path.write_text(text)
    return read_definition(path)


def test_cells_are_models_by_data_by_engines_by_batches(tmp_path: Path) -> None:
    for name in ("net.py", "mine.csv"):
        (tmp_path / name).touch()
    cells = read_definition_cells(tmp_path, WHOLE)
    assert len(cells) == (2 + 1) * 2 * 2
    assert cells[0].key == "cnn/digits/as-is/batch-1"
    assert cells[0].spec.source == f"{tmp_path / 'net.py'}:cnn"
    assert cells[0].spec.data == "digits"
    assert cells[4].spec.data == str(tmp_path / "mine.csv")
    zoo = cells[-1]
    assert zoo.key == "zoo/digits/onnxruntime/batch-8"
    assert zoo.spec.source == "torchvision:resnet18"
    assert zoo.spec.options == {"size": 32, "classes": 10, "scale": "1/255", "mean": "0.5"}
    assert len({c.key for c in cells}) == len(cells)
    assert len({c.folder for c in cells}) == 3


def read_definition_cells(folder: Path, text: str):  # type: ignore[no-untyped-def]
    return _read(folder, text).cells(folder)  # type: ignore[attr-defined]


def test_a_model_without_data_is_weighed_for_cost_alone(tmp_path: Path) -> None:
    (cell,) = read_definition_cells(tmp_path, "name: a\nmodels: {m: m.onnx}\n")
    assert (cell.key, cell.spec.data, cell.folder) == ("m/no-data/as-is/batch-1", None, "m")


def test_the_built_in_suite_stands_on_its_own() -> None:
    cells = read_definition(DEFAULT).cells(DEFAULT.parent)
    assert {c.model for c in cells} == {"digits-mlp", "digits-cnn"}
    assert all(Path(c.spec.source.partition(":")[0]).is_file() for c in cells)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: x\nmodls: {a: b.py}\n", "line 2: modls: no such word; did you mean 'models'?"),
        ("name: x\nmodels:\n  a: {sorce: b.py}\n", "line 3: models.a.sorce: no such word; did you mean 'source'?"),
        ("name: x\nmodels: {a: b.py}\nqqqq: 1\n", "line 3: qqqq: no such word; known: name, models, data"),
        ("name: x\nmodels: {a: b.py}\nengines:\n  - as-is\n  - onnx\n", "line 5: engines.1: 'onnx' is none of .* did you mean 'onnxruntime'"),
        ("name: x\nmodels: {a: b.py}\nbatches: [1,\n 0]\n", "line 4: batches.1: input should be greater than or equal to 1; got 0"),
        ("name: x\nname: y\nmodels: {a: b}\n", "line 2: 'name' stands here again, first in line 1: keep one"),
        ("name: x\nmodels:\n  a: b\n  a: c\n", "line 4: 'a' stands here again"),
        ("name: x\nmodels: {a: b}\nstress: size <= 1 MB\n", "line 3: stress: it is a limit on a latency in time, such as 'p99 <= 35 ms'"),
        ("name: x\n", "models: is missing: name at least one"),
        ("models: {a: b}\n", "name: is missing: write `name: ...`"),
        ("name: x\nmodels: {a: }\n", "line 2: models.a: write `a: digits.py`"),
        ("name: x\nmodels:\n  'a/b': c\n", "line 3: models.a/b: "),
        ("name: [\n", "line 2: no YAML: "),
        ("!!python/object/apply:os.system [ls]", "line 1: no YAML: could not determine a constructor"),
        ("- a\n", "a suite begins with `name: ...`"),
        ("", "a suite begins with `name: ...`"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_the_cure(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=rf"suite\.yaml(, |: ){message}".replace("(, |: )", "(?:, |: )")):
        _read(tmp_path, text)


def test_files_that_cannot_be_read_are_said(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read .*nix\.yaml: No such file"):
        read_definition(tmp_path / "nix.yaml")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match="it is no text"):
        read_definition(tmp_path / "b.yaml")
