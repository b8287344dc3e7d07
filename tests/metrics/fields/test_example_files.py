"""The example files that the documentation scores are read whole and score as they should."""

from pathlib import Path

import pytest

from steelyard.metrics.fields import detection, speech, text
from steelyard.records import Unavailable

FOLDER = Path(__file__).parents[3] / "examples" / "predictions"


def named(results):
    return {r.quantity: r for r in results if not isinstance(r, Unavailable)}


def test_detection():
    before, after = (detection.read(FOLDER / "detection_truth.json", FOLDER / f"detection_{m}.json") for m in "ab")
    drop = named(detection.compare(before, after))["map_drop"]
    scores = [named(detection.score(data))["map"].value for data in (before, after)]
    assert drop.value == pytest.approx(scores[0] - scores[1])
    assert 0.3 < scores[1] < scores[0] < 1


def test_texts():
    data = text.read_table(FOLDER / "translation.csv", cluster="document")
    assert 30 < named(text.score(data))["bleu"].value < 90
    chinese = text.read_table(FOLDER / "translation_zh.csv")
    assert named(text.score(chinese, tokenizer="zh"))["bleu"].value > named(text.score(chinese))["bleu"].value
    assert len(named(text.score(text.read_table(FOLDER / "summaries.csv"), text.SUMMARIES))) == 3


def test_transcripts():
    data = speech.read_table(FOLDER / "transcripts.csv", cluster="speaker")
    assert named(speech.score(data))["wer"].value == pytest.approx(3 / 28)
