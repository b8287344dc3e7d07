"""The check of labels on scripted checkers whose answers are known."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.subject.splits import Encoded
from steelyard.trainer.augment.labels import check_labels, model_checker, text_checker
from steelyard.trainer.examples import Batch, Examples

LABELS = ("bad", "good")


def encode(texts: Sequence[str]) -> NDArray[Any]:
    return np.array([[len(text)] for text in texts], dtype=np.int64)


def reviews(count: int = 100) -> Examples:
    texts = ["a good movie" if i % 2 else "a bad movie" for i in range(count)]
    contract = Contract(shape=(1,), layout="F", dtype="int64", labels=LABELS)
    return Examples(Encoded(texts, encode), np.arange(count) % 2, contract)


def knows_good(texts: list[str]) -> list[str]:
    """Says good of what has the word."""
    return ["good" if "good" in text.split() else "bad" for text in texts]


def test_disputes_are_counted_among_examples_that_were_agreed_on_and_changed() -> None:
    data = reviews()
    synonym, typo = check_labels(
        {"synonym": 1.0, "typo": 0.0001, "share": 0.1}, data, text_checker(knows_good, LABELS), count=100
    )
    assert (synonym.word, synonym.value, synonym.examples, synonym.agreed) == ("synonym", 1.0, 100, 100)
    assert synonym.changed == 100  # share is left out, so that every text is changed
    assert synonym.disputed == 50  # each good became another word, and no bad became good
    before, after, label, said = synonym.shown[0]
    assert (before, label, said) == ("a good movie", "good", "bad")
    assert "good" not in after
    assert typo.disputed <= typo.changed < 10


def test_what_the_checker_did_not_know_before_is_left_out() -> None:
    data = reviews()
    wrong = Examples(data.raw, np.ones(100, dtype=np.int64), data.contract)  # every second label is wrong
    [check] = check_labels({"synonym": 1.0}, wrong, text_checker(knows_good, LABELS), count=100)
    assert (check.agreed, check.changed, check.disputed) == (50, 50, 50)


def test_pictures_are_checked_by_a_model_and_shown() -> None:
    class Left(nn.Module):
        """Class 1 where the left half is lighter."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            left, right = x[..., :4].mean((1, 2, 3)), x[..., 4:].mean((1, 2, 3))
            return torch.stack([right, left], dim=1)

    raw = np.zeros((200, 1, 8, 8), dtype=np.uint8)
    labels = np.arange(200) % 2
    raw[labels == 1, :, :, :4] = 200
    raw[labels == 0, :, :, 4:] = 200
    data = Examples(raw, labels, Contract(shape=(1, 8, 8), scale=1 / 255, labels=("right", "left")))
    checks = check_labels(
        {"flip": True, "mixup": 0.4, "colour": 0.1, "fill": "nearest"}, data, model_checker(Left()), count=200
    )
    flip, colour = checks  # mixup says itself what it did, fill changes nothing alone
    assert flip.changed == flip.disputed  # a mirrored picture is one of the other class
    assert 70 < flip.changed < 130
    assert colour.disputed == 0
    assert colour.changed == 200
    assert {flip.shown[0][2], flip.shown[0][3]} == {"left", "right"}
    with Image.open(io.BytesIO(base64.b64decode(flip.shown[0][1]))) as picture:
        assert picture.size[1] == 64


@pytest.mark.parametrize(
    ("function", "said"),
    [(lambda texts: ["splendid"] * len(texts), "a class name or index"), (lambda texts: [1], "a class for each")],
)
def test_checkers_that_do_not_answer_are_said(function: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check_labels({"typo": 0.1}, reviews(), text_checker(function, LABELS), count=10)


def test_a_checker_of_texts_is_not_asked_about_pictures() -> None:
    checker = text_checker(knows_good, LABELS)
    with pytest.raises(InvalidInput, match="reads texts"):
        checker(Batch(torch.zeros(1, 2), torch.zeros(1), None, np.zeros(1, dtype=np.int64)), None)
