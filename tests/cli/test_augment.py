"""`steelyard augment` as its user meets it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from steelyard.cli import main

DIGITS = """
import torch
import steelyard

def subject():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10))
    contract = steelyard.Contract(shape=(1, 8, 8), scale=1 / 16, labels=tuple("0123456789"))
    return steelyard.Subject(model=model, contract=contract, data="digits")
"""
REVIEWS = """
import numpy as np
import torch
import steelyard

def encode(texts):
    return np.array([[len(t), t.count("o")] for t in texts], dtype=np.float32)

def subject():
    contract = steelyard.Contract(shape=(2,), layout="F", labels=("bad", "good"))
    return steelyard.Subject(model=torch.nn.Linear(2, 2), contract=contract, data="reviews.tsv", encode=encode)

def says(texts):
    return ["good" if "good" in text else "bad" for text in texts]
"""


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as ended:
        main(["augment", *words])
    said = capsys.readouterr()
    return int(ended.value.code or 0), said.out, said.err


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    Path("digits_net.py").write_text(DIGITS, encoding="utf-8")
    Path("reviews.py").write_text(REVIEWS, encoding="utf-8")
    lines = [f"{'a good' if i % 2 else 'a bad'} movie number {i}\t{'good' if i % 2 else 'bad'}" for i in range(60)]
    Path("reviews.tsv").write_text("\n".join(lines), encoding="utf-8")


def test_pictures_are_shown_and_their_labels_checked(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(
        capsys, "digits_net.py", "--recipe", "augment-strong", "erase=0.5", "--checker", "model", "--examples", "50", "--sheet", "s.png"
    )  # fmt: skip
    assert status == 0
    assert all(
        word in out
        for word in ("rotation: 20", "erase: 0.5", "unchanged examples", "pictures  s.png", "contract  mean=(0,)")
    )
    with Image.open("s.png") as sheet:
        assert sheet.size == (7 * 9 * 8, 8 * 64)  # as it is and in six epochs, eight times as large; eight examples


def test_texts_are_shown_and_disputed(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, "reviews.py", "synonym=1", "--checker", "reviews.py:says", "--json")
    document = json.loads(out)
    assert status == 0
    assert document["sheet"] is None
    assert all(pair["before"] != pair["after"] for pair in document["rewrites"])
    [check] = document["checks"]
    assert check["agreed"] == check["changed"] == check["examples"]
    assert 0 < check["share"]["low"] < check["share"]["value"] < check["share"]["high"]
    assert "before" in run(capsys, "reviews.py", "typo=0.2")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digits_net.py",), "no augmentation to look at"),
        (("digits_net.py", "rotate=20"), "no word 'rotate'; nearest: rotation"),
        (("digits_net.py", "rotation"), "written rotation=20"),
        (("digits_net.py", "typo=0.1"), "'typo' changes texts"),
        (("reviews.py", "typo=0.1", "--checker", "reviews.py:nobody"), "has no function 'nobody'"),
    ],
)
def test_what_makes_no_sense_is_one_line(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], said: str) -> None:
    status, _, err = run(capsys, *words)
    assert status == 2
    assert said in err
    assert "Traceback" not in err
