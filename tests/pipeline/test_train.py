"""`steelyard train` from words to weights: judged once, resumed, repeated, and with data that is damaged."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from steelyard import Trained
from steelyard import train as run
from steelyard.errors import InvalidInput
from steelyard.stats.proportion import wilson
from steelyard.store import read_training
from steelyard.subject.safe import read_weights

MODEL = """
from torch import nn
import steelyard
def subject():
    model = nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(72, 10))
    contract = steelyard.Contract(shape=(1, 8, 8), scale=1 / 255, mean=(0.3,), std=(0.35,), labels=tuple("0123456789"))
    return steelyard.Subject(model=model, contract=contract, data="digits")
"""
QUICK = ("optimiser=adamw", "lr=0.01", "epochs=2", "batch=64")


@pytest.fixture(autouse=True, scope="module")
def _one_core() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "digits_net.py"
    path.write_text(MODEL)
    return path


@pytest.fixture(scope="module")
def trained(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    return run(model, *QUICK, out=tmp_path_factory.mktemp("runs") / "t")


def test_it_is_recorded_and_judged_once(trained: Trained) -> None:
    kept = read_training(trained.folder)
    assert kept.recipe["lr"] == 0.01
    assert kept.recipe["schedule"] == "cosine"
    assert kept.test_uses == 1
    assert [made.split for made in kept.predictions] == ["train", "validation", "test"]
    assert len(kept.loss) == 2 * kept.steps_per_epoch == 2 * -(-kept.splits["train"] // 64)
    assert kept.validation[kept.best_epoch or 0] == kept.validation.max()
    assert kept.watched is not None
    assert not list((trained.folder / "checkpoints").glob("*"))


def test_accuracy_has_wilsons_interval_and_the_gap_is_to_the_training_examples(trained: Trained) -> None:
    made = {p.split: p for p in trained.run.predictions}
    right = int((made["test"].predicted == made["test"].labels).sum())
    accuracy = next(e for e in trained.quality["test"] if e.quantity == "accuracy")
    assert (accuracy.low, accuracy.high) == pytest.approx(wilson(right, len(made["test"].labels)))
    assert accuracy.value > 0.7
    assert trained.gap is not None
    assert trained.gap.gap is not None
    seen = (made["train"].predicted == made["train"].labels).mean()
    assert trained.gap.gap.value == pytest.approx(seen - accuracy.value)


def test_the_weights_are_those_that_were_judged_and_other_commands_take_them(
    trained: Trained, model: Path, tmp_path: Path
) -> None:
    from steelyard.subject.data import digits

    split = digits().test
    contract = trained.run.contract
    with torch.no_grad():
        outputs = trained.model()(torch.from_numpy(split.inputs(contract)))
    made = next(p for p in trained.run.predictions if p.split == "test")
    assert outputs.argmax(1).tolist() == made.predicted.tolist()
    assert set(read_weights(trained.weights)) == set(trained.model().state_dict())
    again = run(model, *QUICK, "epochs=1", "lr=1e-9", weights=trained.weights, out=tmp_path / "more")
    assert again.run.validation[0] == pytest.approx(trained.run.validation.max(), abs=0.02)


def test_the_same_words_train_the_same_and_a_finished_training_is_not_repeated(
    trained: Trained, model: Path, tmp_path: Path
) -> None:
    other = run(model, *QUICK, out=tmp_path / "t")
    assert other.run.loss.tolist() == trained.run.loss.tolist()
    stamp = trained.weights.stat().st_mtime_ns
    again = run(model, *QUICK, out=trained.folder)
    assert again.run.loss.tolist() == trained.run.loss.tolist()
    assert trained.weights.stat().st_mtime_ns == stamp
    with pytest.raises(InvalidInput, match=r"holds another training .* give another --out, or --resume never"):
        run(model, *QUICK, "lr=0.02", out=trained.folder)
    anew = run(model, *QUICK, out=tmp_path / "t", resume="never")
    assert anew.run.test_uses == 2


@pytest.mark.slow
def test_a_kill_loses_nothing(model: Path, trained: Trained, tmp_path: Path) -> None:
    """The command itself, killed when its first checkpoint is there; the same command again ends with the same weights."""
    out = tmp_path / "t"
    words = [
        sys.executable,
        "-m",
        "steelyard",
        "train",
        str(model),
        *QUICK,
        "--out",
        str(out),
        "--checkpoint",
        "3 steps",
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(words, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(out.glob("checkpoints/*.ckpt")) and time.monotonic() < until and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if (out / "model.safetensors").exists():
        pytest.skip("it was over before it could be killed")
    result = run(model, *QUICK, out=out)
    assert any("went on from the checkpoint at step" in words for words in result.run.said)
    ours, theirs = read_weights(result.weights), read_weights(trained.weights)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert result.run.loss.tolist() == trained.run.loss.tolist()


def test_a_rate_that_was_found_is_used_and_recorded(model: Path, tmp_path: Path) -> None:
    result = run(model, "optimiser=sgd", "epochs=1", "batch=64", find_lr=True, out=tmp_path / "t")
    assert result.run.search is not None
    assert result.run.recipe["lr"] == result.run.search.suggested
    assert any(
        line.startswith('{"schema":2,"record":{"type":"RateSearch"')
        for line in (tmp_path / "t/records.jsonl").read_text().splitlines()
    )


def test_a_loss_that_is_no_number_ends_with_status_1_and_leaves_the_test_split_alone(
    model: Path, tmp_path: Path, steelyard: Callable[..., Any]
) -> None:
    ran = steelyard("train", model, "optimiser=sgd", "lr=1e30", "epochs=2", "batch=64", "--out", tmp_path / "t")
    assert ran.status == 1
    assert "stopped: the loss became" in ran.out
    assert "first in layer" in ran.out
    kept = read_training(tmp_path / "t")
    assert kept.ended == "diverged"
    assert [made.split for made in kept.predictions] == ["train", "validation"]
    assert kept.test_uses == 0


def test_what_it_prints(trained: Trained, model: Path, steelyard: Callable[..., Any]) -> None:
    words = ("train", model, *QUICK, "--out", trained.folder)
    ran = steelyard(*words)
    assert ran.status == 0
    for expected in ("Training of", "validation loss", "How good it is", "judged once, at the end", "Gap of accuracy"):
        assert expected in " ".join(ran.out.split())
    document = json.loads(steelyard(*words, "--json").out)
    assert document["quality"]["test"]["accuracy"]["n"] == trained.run.splits["test"]
    assert document["recipe"]["batch"] == 64
    assert Path(document["weights"]).is_file()
    assert steelyard(*words, "--quiet").out == ""


@pytest.mark.slow
def test_the_classic_path(tmp_path: Path, steelyard: Callable[..., Any]) -> None:
    """A residual net of torchvision's, ten classes, 6:2:2, validation each epoch, one look at the test split."""
    rng = np.random.default_rng(0)
    labels = np.arange(80) % 10
    pictures = np.clip(rng.normal(25 * labels[:, None, None, None], 20, (80, 3, 32, 32)), 0, 255).astype(np.uint8)
    np.savez(tmp_path / "set.npz", x=pictures, y=labels)
    ran = steelyard(
        "train", "torchvision:resnet18", "--classes", 10, "--size", 32, "--data", tmp_path / "set.npz",
        "--recipe", "classic", "epochs=1", "batch=16", "--out", tmp_path / "t", "--json",
    )  # fmt: skip
    document = json.loads(ran.out)
    assert document["steps"] == 3
    assert set(document["quality"]) == {"train", "validation", "test"}
    assert read_training(tmp_path / "t").splits == {"train": 48, "validation": 16, "test": 16}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lrr=3",), "no such word 'lrr'; nearest: lr"),
        (("--recipe", "clasic"), "no recipe 'clasic'"),
        (("--checkpoint", "0 steps"), "checkpoint is a time such as 5m, or '100 steps'; got '0 steps'"),
        (("augment.rotate=3",), "augment has no word 'rotate'; nearest: rotation"),
        (("--backbone", "nowhere.pt"), "no such weights file: nowhere.pt"),
    ],
)
def test_bad_words_are_one_line_with_the_cure(
    words: tuple[str, ...], message: str, model: Path, tmp_path: Path, steelyard: Callable[..., Any]
) -> None:
    ran = steelyard("train", model, "--out", tmp_path / "t", "--quiet", *words)
    assert ran.status == 2
    assert message in ran.message
    assert not (tmp_path / "t/records.jsonl").exists()


def test_a_program_cannot_be_trained(tmp_path: Path, steelyard: Callable[..., Any]) -> None:
    path = tmp_path / "p.py"
    path.write_text(MODEL.replace("model=model", "model=__import__('pathlib').Path('a.onnx')"))
    (tmp_path / "a.onnx").touch()
    ran = steelyard("train", path, "--out", tmp_path / "t")
    assert ran.status == 2


# --- pictures that are damaged -----------------------------------------------------------------------------


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label, shade in (("dark", 40), ("light", 200)):
        folder = tmp_path / "pictures" / label
        folder.mkdir(parents=True)
        for number in range(30):
            pixels = np.clip(rng.normal(shade, 20, (8, 8)), 0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return tmp_path / "pictures"


def test_a_corrupt_picture_is_named_and_left_out_only_where_that_is_allowed(pictures: Path, tmp_path: Path) -> None:
    bad = pictures / "dark" / "07.png"
    bad.write_bytes(bad.read_bytes()[:40])
    path = tmp_path / "two.py"
    path.write_text(
        MODEL.replace(', data="digits"', "")
        .replace('tuple("0123456789")', '("dark", "light")')
        .replace("72, 10", "72, 2")
    )
    words = ("optimiser=adamw", "lr=0.01", "epochs=2", "batch=16")
    with pytest.raises(InvalidInput, match=r"07\.png"):
        run(path, *words, data=pictures, out=tmp_path / "t")
    result = run(path, *words, data=pictures, out=tmp_path / "t", skip_bad=True)
    assert len(result.run.unread) == 1
    assert "07.png" in result.run.unread[0].reason
    assert sum(result.run.splits.values()) == 59


def test_a_backbone_of_other_classes_gets_a_new_classifier(trained: Trained, pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "two.py"
    path.write_text(
        MODEL.replace(', data="digits"', "")
        .replace('tuple("0123456789")', '("dark", "light")')
        .replace("72, 10", "72, 2")
    )
    result = run(
        path, "epochs=2", "batch=16", recipe="transfer", backbone=trained.weights, data=pictures, out=tmp_path / "t"
    )
    assert "new: 5.weight, 5.bias" in result.run.said[0]
    kept, given = read_weights(result.weights), read_weights(trained.weights)
    assert torch.equal(kept["0.weight"], given["0.weight"]), "held for three epochs, and there were two"
