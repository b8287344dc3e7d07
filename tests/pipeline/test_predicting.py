"""Many examples at once: every form they come in, and the table that `evaluate` reads at once, against scikit-learn."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import steelyard as package
import tiny_models
from steelyard.errors import InvalidInput
from steelyard.pipeline.predicting import predict
from steelyard.records import Contract
from steelyard.subject.artifact import Artifact, write_manifest
from steelyard.subject.deployed import Model

N = 100


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    return tiny_models.onnx_artifact(tmp_path_factory.mktemp("model")).folder


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    test = tiny_models.data().test
    return np.asarray(test.raw[:N]), test.labels[:N]


@pytest.fixture(scope="module")
def expected(digits: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Probabilities by the net written in NumPy."""
    logits = tiny_models.logits(tiny_models.data().test.take(np.arange(N)).inputs(tiny_models.CONTRACT)).astype(float)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    assert len(logits) == len(digits[0])
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def shares_of(rows: list[dict[str, str]]) -> np.ndarray:
    return np.array([[float(row[f"p_{c}"]) for c in range(10)] for row in rows])


def pictures(root: Path, raw: np.ndarray, homes: list[str]) -> Path:
    for i, (pixels, home) in enumerate(zip(raw, homes, strict=True)):
        (root / home).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels[0]).save(root / home / f"{i:03d}.png")
    return root


def judged(steelyard: Callable[..., Any], table: Path, out: Path, *more: str) -> dict[str, Any]:
    ran = steelyard("evaluate", table, "--out", out, "--json", "--metric", "accuracy", "--metric", "log_loss", *more)
    assert ran.status == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)["models"][0]["metrics"]
    return found


def test_a_folder_of_pictures_by_class_is_evaluated_at_once(
    folder: Path, digits: Any, expected: np.ndarray, tmp_path: Path, steelyard: Callable[..., Any]
) -> None:
    from sklearn.metrics import accuracy_score, log_loss

    raw, labels = digits
    source = pictures(tmp_path / "pictures", raw, [str(label) for label in labels])
    ran = steelyard("predict", folder, source, "--out", tmp_path / "p.csv")
    assert (ran.status, ran.out) == (0, f"{N} answers  {tmp_path / 'p.csv'}\nsteelyard evaluate {tmp_path / 'p.csv'}\n")
    rows = rows_of(tmp_path / "p.csv")
    order = [int(Path(row["id"]).stem) for row in rows]
    np.testing.assert_allclose(shares_of(rows), expected[order], atol=1e-5)
    assert [row["label"] for row in rows] == [str(labels[i]) for i in order]
    found = judged(steelyard, tmp_path / "p.csv", tmp_path / "out")
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(labels, expected.argmax(axis=1)))
    assert found["log_loss"]["value"] == pytest.approx(log_loss(labels, expected, labels=range(10)), rel=1e-4)


def test_folders_of_other_names_say_nothing_of_labels(folder: Path, digits: Any, tmp_path: Path) -> None:
    source = pictures(tmp_path / "pictures", digits[0][:4], ["monday", "monday", "tuesday", "."])
    made = package.predict(folder, source, tmp_path / "p.csv")
    assert (made.examples, made.labelled) == (4, False)
    assert "label" not in rows_of(tmp_path / "p.csv")[0]


def test_arrays_with_class_indices(folder: Path, digits: Any, expected: np.ndarray, tmp_path: Path) -> None:
    raw, labels = digits
    np.savez(tmp_path / "d.npz", x_train=raw[:2], y_train=labels[:2], x_test=raw, y_test=labels)
    said: list[tuple[str, float | None]] = []
    made = package.predict(folder, tmp_path / "d.npz", tmp_path / "p.csv", progress=lambda *told: said.append(told))
    assert made.labelled
    rows = rows_of(tmp_path / "p.csv")
    np.testing.assert_allclose(shares_of(rows), expected, atol=1e-5)
    assert [row["label"] for row in rows] == [str(label) for label in labels]
    assert [share for _, share in said] == [0.0, 0.64]


def test_a_table_of_features(tmp_path: Path, digits: Any, steelyard: Callable[..., Any]) -> None:
    """Two classes: one column, of the class that evaluating takes for the positive one, whatever the outputs' order."""
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((80, 3))
    weight = np.array([[2.0, -2], [0, 0], [0, 0]], dtype=np.float32)
    node = onnx.helper.make_node("MatMul", ["x", "w"], ["y"])
    ends = [onnx.helper.make_tensor_value_info(n, 1, s) for n, s in (("x", ["n", 3]), ("y", ["n", 2]))]
    graph = onnx.helper.make_graph([node], "g", ends[:1], ends[1:], [onnx.numpy_helper.from_array(weight, "w")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "m.onnx").write_bytes(model.SerializeToString())
    contract = Contract(shape=(3,), layout="F", labels=("yes", "no"))
    write_manifest(Artifact(folder=tmp_path / "m", engine="onnxruntime", file="m.onnx", contract=contract))
    truth = np.where(x[:, 0] + 0.3 * rng.standard_normal(80) > 0, "yes", "no")
    lines = [f"c{i},{a:.6f},{b:.6f},{c:.6f},{t}" for i, ((a, b, c), t) in enumerate(zip(x, truth, strict=True))]
    (tmp_path / "t.csv").write_text("\n".join(["id,a,b,c,outcome", *lines]) + "\n")
    ran = steelyard("predict", tmp_path / "m", tmp_path / "t.csv", "--out", tmp_path / "p.csv")
    assert ran.status == 0, ran.err
    rows = rows_of(tmp_path / "p.csv")
    assert list(rows[0]) == ["id", "label", "pred", "p"]
    np.testing.assert_allclose([float(r["p"]) for r in rows], 1 / (1 + np.exp(-4 * x[:, 0])), atol=1e-5)
    from sklearn.metrics import roc_auc_score

    found = judged(steelyard, tmp_path / "p.csv", tmp_path / "out", "--metric", "roc_auc")
    assert found["roc_auc"]["value"] == pytest.approx(roc_auc_score(truth == "yes", x[:, 0]))
    assert found["accuracy"]["value"] == pytest.approx(((x[:, 0] > 0) == (truth == "yes")).mean())


def test_standard_output_takes_the_table(
    folder: Path, digits: Any, tmp_path: Path, steelyard: Callable[..., Any]
) -> None:
    np.savez(tmp_path / "x.npz", x=digits[0][:3])
    ran = steelyard("predict", folder, tmp_path / "x.npz")
    assert ran.out.splitlines()[0] == "id,pred," + ",".join(f"p_{c}" for c in range(10))
    assert len(ran.out.splitlines()) == 4
    assert ran.err == ""


def test_json_says_what_was_written(folder: Path, digits: Any, tmp_path: Path, steelyard: Callable[..., Any]) -> None:
    np.savez(tmp_path / "x.npz", x=digits[0][:3])
    out = tmp_path / "deep" / "p.csv"
    ran = steelyard("predict", folder, tmp_path / "x.npz", "--out", out, "--json")
    assert json.loads(ran.out) == {"out": str(out), "examples": 3, "labelled": False}


def test_what_fails_leaves_no_half_table(folder: Path, digits: Any, tmp_path: Path) -> None:
    raw = digits[0].astype(np.float32)
    raw[90] = np.nan
    np.savez(tmp_path / "x.npz", x=raw)
    with pytest.raises(InvalidInput, match="NaN"):
        package.predict(folder, tmp_path / "x.npz", tmp_path / "p.csv")
    assert [p.name for p in tmp_path.iterdir()] == ["x.npz"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty", None, "holds no picture"),
        ("t.csv", "a,b,label\n1,2,0\n", "has 2 columns of features (a, b), the model takes 64"),
        ("t.npz", {"z": np.zeros(2)}, "raw examples are looked for in x or x_test"),
        ("t.npz", {"x": np.zeros((2, 1, 9, 9))}, "examples have shape (1, 9, 9), the model takes (1, 8, 8)"),
        ("t.npz", {"x": np.zeros((1, 1, 8, 8)), "y": np.array([12])}, "label '12' is not among the declared classes"),
    ],
)
def test_examples_that_do_not_fit_are_one_line(
    folder: Path, tmp_path: Path, steelyard: Callable[..., Any], name: str, content: Any, words: str
) -> None:
    path = tmp_path / name
    if content is None:
        path.mkdir()
    elif isinstance(content, str):
        path.write_text(content)
    else:
        np.savez(path, **content)
    ran = steelyard("predict", folder, path, "--out", tmp_path / "p.csv")
    assert ran.status == 2
    assert words in ran.err.splitlines()[-1]


def test_words_that_do_not_belong_together(folder: Path, steelyard: Callable[..., Any], tmp_path: Path) -> None:
    assert steelyard("predict", folder).message == "give either EXAMPLES (a picture, a folder or a table) or --text"
    assert "does not take texts" in steelyard("predict", folder, "--text", "a").message
    np.savez(tmp_path / "x.npz", x=np.zeros((1, 1, 8, 8)))
    assert "give --out with --json or --quiet" in steelyard("predict", folder, tmp_path / "x.npz", "--quiet").message
    with pytest.raises(InvalidInput, match="no such file or folder"):
        predict(Model(folder), tmp_path / "gone", None)
