"""Splits: sizes, proportions against scikit-learn, seeds, planted duplicates, and what cannot be split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.records import Contract, Overlap
from steelyard.subject.splits import Encoded, Split, Splits, overlaps, read_split, stratified, write_split


def split(labels, raw=None):
    labels = np.asarray(labels, dtype=np.int32)
    raw = np.arange(2.0 * len(labels)).reshape(-1, 2) if raw is None else raw
    return Split(raw=raw, labels=labels)


def whole(splits):
    return np.sort(np.concatenate([s.raw[:, 0] for _, s in splits.items()]))


def refused(build):
    with pytest.raises(InvalidInput) as error:
        build()
    return str(error.value)


# --- proportions -----------------------------------------------------------------------------------


def test_one_set_is_split_six_two_two():
    splits = Splits.of(split([0, 1] * 50), labels=("a", "b"), seed=7)
    assert [len(s) for _, s in splits.items()] == [60, 20, 20]
    assert splits.method == "6:2:2 stratified with seed 7"
    assert np.array_equal(whole(splits), np.arange(0.0, 200.0, 2))


def test_shares_of_classes_are_those_of_scikit_learn():
    selection = pytest.importorskip("sklearn.model_selection")
    labels = np.repeat(np.arange(4), (500, 300, 40, 7)).astype(np.int32)
    for count in (85, 100, 211):
        ours = np.bincount(labels[stratified(labels, count, seed=0)[1]], minlength=4)
        theirs = next(selection.StratifiedShuffleSplit(1, test_size=count, random_state=0).split(labels, labels))[1]
        assert np.abs(ours - np.bincount(labels[theirs], minlength=4)).max() <= 1
        assert np.abs(ours - count * np.bincount(labels) / len(labels)).max() < 1


@settings(deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=60), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_nothing_is_lost_or_doubled(labels, share, seed):
    labels = np.array(labels, dtype=np.int32)
    count = int(share * len(labels))
    stay, drawn = stratified(labels, count, seed)
    assert len(drawn) == count
    assert np.array_equal(np.sort(np.concatenate([stay, drawn])), np.arange(len(labels)))


def test_the_seed_decides():
    labels = np.tile(np.arange(5, dtype=np.int32), 40)
    one, same, other = (stratified(labels, 50, seed)[1] for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_a_given_test_split_is_kept():
    test = split([0, 1, 1], raw=np.full((3, 2), -1.0))
    splits = Splits.of(split([0, 1] * 20), test=test, labels=("a", "b"))
    assert splits.test is test
    assert [len(s) for _, s in splits.items()] == [37, 3, 3]
    assert splits.method == "test as given, validation stratified with seed 0"


def test_a_given_validation_split_is_kept():
    given_split = split([0, 1, 1, 0])
    splits = Splits.of(split([0, 1] * 20), validation=given_split, labels=("a", "b"))
    assert splits.validation is given_split
    assert len(splits.train) + len(splits.test) == 40
    assert splits.method == "validation as given, test stratified with seed 0"


def test_three_given_splits_are_kept():
    parts = [split([0, 1] * n) for n in (3, 2, 1)]
    splits = Splits.of(parts[0], validation=parts[1], test=parts[2], labels=("a", "b"))
    assert [s for _, s in splits.items()] == parts
    assert splits.method == "validation as given, test as given"


# --- what cannot be measured on --------------------------------------------------------------------


def test_no_examples():
    assert refused(lambda: Splits.of(split([]), labels=("a", "b"))) == (
        "the data has 0 training example(s); at least 2 are needed in each split: give more data"
    )


def test_one_row():
    assert refused(lambda: Splits.of(split([0]), labels=("a", "b"))) == (
        "the data has 1 training example(s); at least 2 are needed in each split: give more data"
    )


def test_a_given_split_without_examples():
    message = refused(lambda: Splits.of(split([0, 1] * 9), test=split([]), labels=("a", "b")))
    assert message == "the validation split has 0 example(s); at least 2 are needed: give more data"


def test_a_given_split_of_one_row():
    message = refused(
        lambda: Splits.of(split([0, 1] * 9), validation=split([0, 1]), test=split([1]), labels=("a", "b"))
    )
    assert message == "the test split has 1 example(s); at least 2 are needed: give more data"


def test_all_of_one_class():
    assert refused(lambda: Splits.of(split([1] * 20), labels=("cat", "dog"))) == (
        "every label in the train split is 1 ('dog'): quality cannot be measured on one class"
    )


def test_a_label_beyond_the_classes():
    assert refused(lambda: Splits.of(split([0, 1, 2] * 9), labels=("a", "b"))) == (
        "label 2 in the train split is outside 0..1: the subject declares 2 classes"
    )


def test_a_negative_label():
    assert refused(lambda: Splits.of(split([0, -1] * 9), labels=("a", "b"))) == (
        "label -1 in the train split is outside 0..1: the subject declares 2 classes"
    )


def test_labels_that_are_too_few():
    odd = Split(raw=np.zeros((5, 2)), labels=np.array([0, 1, 0, 1], dtype=np.int32))
    parts = dict.fromkeys(("train", "validation", "test"), odd)
    assert refused(Splits(**parts, labels=("a", "b"), method="mine").check) == (
        "the train split has 5 examples and 4 labels"
    )


# --- duplicates and NaN ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.float32, np.int64])
def test_planted_duplicates_are_found(kind):
    train, validation, test = (
        np.arange(2 * n, dtype=kind).reshape(n, 2) + s for n, s in ((40, 0), (20, 500), (20, 900))
    )
    test[3], test[7], test[11], validation[2] = train[5], train[5], validation[4], train[0]
    parts = [split([0, 1] * (len(x) // 2), raw=x) for x in (train, validation, test)]
    found = overlaps(Splits.of(parts[0], validation=parts[1], test=parts[2], labels=("a", "b")))
    assert found == (
        Overlap(split="validation", other="train", count=1, examples=(2,)),
        Overlap(split="test", other="train", count=2, examples=(3, 7)),
        Overlap(split="test", other="validation", count=1, examples=(11,)),
    )


def test_only_the_first_places_are_listed():
    rows = np.zeros((30, 2))
    parts = split([0, 1] * 15, raw=rows)
    found = overlaps(Splits.of(parts, validation=parts, test=parts, labels=("a", "b")), shown=3)
    assert [(o.count, o.examples) for o in found] == [(30, (0, 1, 2))] * 3


def test_no_duplicates_no_words():
    assert overlaps(Splits.of(split([0, 1] * 20), labels=("a", "b"))) == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nan_in_the_data_is_met_before_anything_is_measured(value):
    rows = np.arange(1200.0).reshape(600, 2)
    rows[300, 1] = value
    parts = split([0, 1] * 300, raw=rows)
    splits = Splits.of(parts, validation=split([0, 1]), test=split([0, 1]), labels=("a", "b"))
    assert refused(lambda: overlaps(splits)) == (
        "example 300 of the data holds NaN or infinity: clean the data before measuring on it"
    )


# --- rows that are read when asked for -------------------------------------------------------------


class Counting:
    """Rows that remember which of them were read."""

    def __init__(self, size):
        self.size, self.read = size, []

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        self.read += np.atleast_1d(index).tolist()
        return np.stack([np.full(2, float(i)) for i in np.atleast_1d(index)])


def test_splitting_reads_no_row():
    rows = Counting(100)
    splits = Splits.of(split([0, 1] * 50, raw=rows), labels=("a", "b"))
    assert rows.read == []
    chosen = splits.test.take(np.array([3, 1]))
    assert np.asarray(chosen.raw[np.arange(2)]).tolist() == [[i, i] for i in rows.read]
    assert len(rows.read) == 2


def test_rows_are_read_some_hundreds_at_a_time():
    rows = Counting(600)
    sizes = [len(chunk) for chunk in split([0, 1] * 300, raw=rows).chunks()]
    assert sizes == [256, 256, 88]
    assert rows.read == list(range(600))


def test_inputs_are_prepared_rows():
    rows = split([0, 1, 0], raw=np.arange(6.0).reshape(3, 2))
    contract = Contract(shape=(2,), layout="F", scale=2.0, mean=(1.0,))
    assert rows.inputs(contract).tolist() == [[-1, 1], [3, 5], [7, 9]]


def test_a_split_comes_back_from_disk_unread(tmp_path):
    rows = split([0, 1] * 300)
    write_split(rows, tmp_path / "data", "test")
    found = read_split(tmp_path / "data", "test")
    assert isinstance(found.raw, np.memmap)
    assert np.array_equal(found.raw, rows.raw)
    assert np.array_equal(found.labels, rows.labels)


# --- texts -----------------------------------------------------------------------------------------

TOKENS = Contract(shape=(3,), layout="T", dtype="int64")


def codes(texts):
    """The code points of a text's first three characters."""
    return np.array([[ord(c) for c in text.ljust(3)[:3]] for text in texts])


def written(texts, encode=codes):
    return Split.of_texts(texts, np.arange(len(texts), dtype=np.int32) % 2, encode)


def test_texts_are_encoded_when_they_are_read():
    seen = []

    def encode(texts):
        seen.extend(texts)
        return codes(texts)

    split_of_texts = written([f"{i:03}" for i in range(300)], encode)
    splits = Splits.of(split_of_texts, labels=("a", "b"))
    chosen = splits.test.take(np.array([3, 1]))
    assert seen == []
    assert chosen.texts == (splits.test.texts[3], splits.test.texts[1])
    assert isinstance(chosen.raw, Encoded)
    assert np.array_equal(chosen.inputs(TOKENS), codes(chosen.texts))
    assert seen == list(chosen.texts)
    assert np.array_equal(split_of_texts.raw[250:260], codes(split_of_texts.texts[250:260]))
    assert [len(chunk) for chunk in split_of_texts.chunks()] == [256, 44]


def test_texts_lie_beside_their_codes_on_disk(tmp_path):
    kept = written(["cat", "dög", "\ud800", "狗"])
    write_split(kept, tmp_path, "test")
    found = read_split(tmp_path, "test")
    assert isinstance(found.raw, np.memmap)
    assert np.array_equal(found.raw, codes(kept.texts))
    assert found.texts == kept.texts
    assert found.take(np.array([3, 0])).texts == ("狗", "cat")
    assert np.array_equal(found.take(np.array([3, 0])).raw, codes(["狗", "cat"]))


def test_texts_are_duplicates_as_they_read_and_not_as_they_are_encoded():
    train = written(["abcd", "abce", "xyz", "zzz"])
    validation, test = written(["qqq", "xyz"]), written(["abcf", "ABC", "zzz"])
    found = overlaps(Splits.of(train, validation=validation, test=test, labels=("a", "b")))
    assert [(o.split, o.other, o.examples) for o in found] == [("validation", "train", (1,)), ("test", "train", (2,))]


@pytest.mark.parametrize(
    ("encode", "message"),
    [
        (lambda texts: 1 / 0, "the subject's encode failed: ZeroDivisionError: division by zero"),
        (
            lambda texts: codes(texts)[:1],
            "the subject's encode gave int64 of shape (1, 3) for 2 text(s): numbers of shape (2, ...) are needed",
        ),
        (
            list,
            "the subject's encode gave <U3 of shape (2,) for 2 text(s): numbers of shape (2, ...) are needed",
        ),
    ],
)
def test_an_encode_that_gives_no_rows(encode, message):
    assert refused(lambda: written(["cat", "dog"], encode).inputs(TOKENS)) == message


def test_codes_of_another_shape_than_the_models():
    assert refused(lambda: written(["cat", "dog"]).inputs(Contract(shape=(5,), layout="T", dtype="int64"))) == (
        "examples have shape (3,), the model takes (5,): give data of that shape or declare the right shape in the subject's contract"
    )
