"""Rewritten texts: rates against the binomial, words against their lists, translators scripted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from steelyard.errors import InvalidInput
from steelyard.records import Contract
from steelyard.subject.corruptions.texts import NOISES
from steelyard.subject.splits import Encoded
from steelyard.trainer.augment import augmented, texts
from steelyard.trainer.augment.translate import RoundTrip
from steelyard.trainer.examples import Examples
from steelyard.trainer.recipe_file import read_recipe

ENGLISH = ("the movie was good and the actor was funny", "they know their big house is near the sea", "a boring plot")
CHINESE = ("这家店的米饭非常好吃", "学生今天参加考试", "股价上涨,公司盈利")
BOTH = ENGLISH + CHINESE
INDEX = np.arange(len(BOTH))


def lines(name: str, language: str) -> list[list[str]]:
    path = Path(texts.__file__).with_name(name)
    return [group.split() for group in json.loads(path.read_text(encoding="utf-8"))[language]]


def rewritten(words: dict[str, object], given: Sequence[str] = BOTH, epoch: int = 0, seed: int = 3) -> list[str]:
    return list(texts.build(words, seed=seed)(given, np.arange(len(given)), epoch))


def test_every_known_word_is_exchanged_at_rate_one() -> None:
    groups = [set(group) for language in ("en", "zh") for group in lines("synonyms.json", language)]
    found = rewritten({"synonym": 1.0}, ["good", "The Movie", "非常好吃", "nothing known hereabouts"])
    assert any({"good", found[0]} <= group for group in groups)
    assert found[1].split()[1][0].isupper()
    assert "非常" not in found[2]
    assert "好吃" not in found[2].replace("不好吃", "")
    assert found[3] == "nothing known hereabouts"


def test_longer_chinese_words_come_first() -> None:
    swap = texts.Exchange.of(["米饭 白饭", "饭店 餐馆", "好吃 美味", "不好吃 难吃"])
    assert swap("不好吃", 1.0, np.random.default_rng(0)) == "难吃"


def test_words_inside_words_stay() -> None:
    swap = texts.Exchange.of(["art craft"])
    assert swap("party art Art ART", 1.0, np.random.default_rng(0)) == "party craft Craft CRAFT"


def test_the_rate_is_kept_on_average() -> None:
    swap = texts.Exchange.of(["a b"])
    text, draws = "a " * 20, 400
    struck = [swap(text, 0.13, np.random.default_rng(i)).count("b") for i in range(draws)]
    assert np.mean(struck) == pytest.approx(20 * 0.13, abs=4 * 0.5 / np.sqrt(draws))
    assert set(struck) == {2, 3}  # 2.6, rounded by chance


@pytest.mark.parametrize("word", ["swap", "insert", "delete"])
def test_noise_of_characters_is_that_of_the_robustness_curves(word: str) -> None:
    long = "abcdefghij" * 10
    found = rewritten({word: 0.2}, [long])[0]
    draw = texts.generators(3, 0, np.array([0]))[0]
    draw.random(2)  # whether it is translated, and whether it is changed
    assert found == NOISES[word].spoil(long, 0.2, draw)
    assert found != long


def test_homophones_are_words_in_english_and_characters_in_chinese() -> None:
    groups = [set(group) for group in lines("homophones.json", "en")]
    found = rewritten({"homophone": 1.0}, ["their sea", "是的"])
    assert all(any({a, b} <= g for g in groups) for a, b in zip(found[0].split(), ["their", "sea"], strict=True))
    assert found[1] != "是的"
    assert len(found[1]) == 2


def test_typos_leave_digits_alone() -> None:
    found = rewritten({"typo": 1.0}, ["cat 0158", "人未"])
    assert found[0].endswith(" 0158")
    assert not set("cat") & set(found[0][:3]) or found[0][:3] != "cat"
    assert found[1][0] in "入八"


def test_a_text_does_not_depend_on_its_batch_and_differs_by_epoch() -> None:
    words = {"synonym": 0.5, "typo": 0.1, "share": 0.9}
    rewrite = texts.build(words, seed=1)
    whole = rewrite(BOTH, INDEX, 4)
    some = np.array([4, 1])
    assert rewrite([BOTH[i] for i in some], some, 4) == [whole[i] for i in some]
    assert rewrite(BOTH, INDEX, 5) != whole


def test_the_share_of_texts_that_are_changed() -> None:
    many = ["good movie"] * 2000
    changed = np.mean([text != "good movie" for text in rewritten({"synonym": 1.0, "share": 0.3}, many)])
    assert changed == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / 2000))


def test_lists_hold_no_word_twice_in_a_group_and_name_their_source() -> None:
    for name in ("synonyms.json", "homophones.json"):
        content = json.loads(Path(texts.__file__).with_name(name).read_text(encoding="utf-8"))
        assert content["source"]
    for group in lines("synonyms.json", "en") + lines("synonyms.json", "zh") + lines("homophones.json", "en"):
        assert len(set(group)) == len(group) > 1


def test_texts_are_rewritten_before_they_are_encoded() -> None:
    def encode(given: Sequence[str]) -> np.ndarray:
        return np.array([[len(text), text.count("x")] for text in given], dtype=np.int64)

    contract = Contract(shape=(2,), layout="F", dtype="int64", labels=("a", "b"))
    plain = Examples(Encoded(["abc def"] * 4, encode), np.array([0, 1, 0, 1]), contract)
    data, change = augmented({"insert": 1.0}, plain, seed=2)
    assert change is None
    assert plain.batch(np.arange(4)).inputs[:, 0].tolist() == [7] * 4
    assert data.batch(np.arange(4), 1).inputs[:, 0].tolist() == [13] * 4
    assert data.batch(np.zeros(0, dtype=np.int64)).inputs.shape == (0, 2)
    assert data.batch(np.arange(4), 1).inputs.dtype == torch.int64


# --- back-translation --------------------------------------------------------------------------------


def script(tmp_path: Path, body: str) -> str:
    path = tmp_path / "translators.py"
    path.write_text(body, encoding="utf-8")
    return str(path)


GOOD = """
calls = []
def there(texts):
    calls.append(len(texts))
    return [t[::-1] for t in texts]
def back(texts):
    return [t[::-1] + "!" for t in texts]
def short(texts):
    return texts[:-1]
def broken(texts):
    raise RuntimeError("no connection")
"""


def words(path: str, tmp_path: Path, **more: object) -> dict[str, object]:
    return {
        "back_translation": 1.0, "there": f"{path}:there", "back": f"{path}:back", "cache": str(tmp_path / "kept"), **more,
    }  # fmt: skip


def test_texts_come_back_and_are_kept_on_disk(tmp_path: Path) -> None:
    path = script(tmp_path, GOOD)
    assert rewritten(words(path, tmp_path)) == [text + "!" for text in BOTH]
    [kept] = (tmp_path / "kept").iterdir()
    assert len(kept.read_text(encoding="utf-8").splitlines()) == len(BOTH)
    broken = script(tmp_path, GOOD.replace("return [t[::-1] for", "raise AssertionError; return [t for"))
    assert rewritten(words(broken, tmp_path), epoch=1) == [text + "!" for text in BOTH]


def test_texts_go_in_batches_and_once(tmp_path: Path) -> None:
    sizes: list[int] = []

    def there(given: list[str]) -> list[str]:
        sizes.append(len(given))
        return given

    trip = RoundTrip(there, lambda given: given, tmp_path / "t.jsonl", batch=4)
    trip([*"abcdefghij", "a", "b"])
    trip([*"cdx"])
    assert sizes == [4, 4, 2, 1]


def test_a_line_cut_short_is_translated_anew(tmp_path: Path) -> None:
    (tmp_path / "t.jsonl").write_text('["a","kept"]\n["b","hal', encoding="utf-8")
    assert RoundTrip(list, list, tmp_path / "t.jsonl")(["a", "b"]) == ["kept", "b"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"back": None}, "needs two translators"),
        ({"there": "translators"}, "names no function"),
        ({"there": "no.such.module:f"}, "cannot import no.such.module"),
        ({"there": "{path}:nowhere"}, "has no function 'nowhere'"),
        ({"there": "{path}:short"}, "gave 5 answers for 6 texts"),
        ({"there": "{path}:broken"}, "translator there failed: RuntimeError: no connection"),
    ],
)
def test_translators_that_do_not_work_are_said(tmp_path: Path, change: dict[str, object], said: str) -> None:
    path = script(tmp_path, GOOD)
    told = {name: value.format(path=path) if isinstance(value, str) else value for name, value in change.items()}
    with pytest.raises(InvalidInput, match=said):
        rewritten(words(path, tmp_path, **told))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"synonims": 0.1}, "nearest: synonyms, synonym"),
        ({"typo": 2}, "typo must be a number from 0 to 1"),
        ({"synonym": 0.1, "synonyms": "no/such.json"}, "cannot read the synonyms"),
    ],
)
def test_words_that_make_no_sense_are_refused(given: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        texts.build(given)


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('["movie flick"]', encoding="utf-8")
    assert rewritten({"synonym": 1.0, "synonyms": str(own)}, ["good movie"]) == ["good flick"]
    own.write_text('["alone"]', encoding="utf-8")
    with pytest.raises(InvalidInput, match="groups of two or more words"):
        texts.build({"synonym": 1.0, "synonyms": str(own)})


def test_words_for_texts_are_refused_for_pictures() -> None:
    contract = Contract(shape=(1, 8, 8), labels=("a", "b"))
    data = Examples(np.zeros((4, 1, 8, 8), dtype=np.uint8), np.array([0, 1, 0, 1]), contract)
    with pytest.raises(InvalidInput, match="'typo' changes texts"):
        augmented({"typo": 0.1}, data)
    assert augmented({}, data) == (data, None)


def test_the_example_recipe_can_be_followed() -> None:
    recipe = read_recipe(Path(__file__).parents[3] / "examples" / "reviews.yaml")
    found = [texts.build(recipe.augment, seed=0)(BOTH, INDEX, epoch) for epoch in range(8)]
    assert any(list(made) != list(BOTH) for made in found)
