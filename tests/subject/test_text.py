"""Readers of texts: what they give, what they keep, and what they say of files that are damaged."""

import numpy as np
import pytest

from steelyard.errors import InvalidInput
from steelyard.pipeline.prepare import prepare_subject
from steelyard.records import Contract, SubjectSpec
from steelyard.subject.contract import prepare
from steelyard.subject.data import dataset, read_data
from steelyard.subject.splits import overlaps, read_split
from steelyard.subject.subject import Subject

TOKENS = Contract(shape=(4,), layout="T", dtype="int64")


def encode(texts):
    """The code points of a text's first four characters."""
    return np.array([[ord(c) for c in text.ljust(4)[:4]] for text in texts])


def read(path, labels=(), **options):
    return read_data(
        str(path), Contract(shape=(4,), layout="T", dtype="int64", labels=labels), options=options, encode=encode
    )


def refused(path, labels=(), **options):
    with pytest.raises(InvalidInput) as error:
        read(path, labels, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def lines(count, start=0, names="01"):
    return "".join(f"text number {start + i}\t{names[i % len(names)]}\n" for i in range(count))


def sizes(splits):
    return [len(s) for _, s in splits.items()]


# --- lines of text, tab, label ---------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path):
    for name, count, start in (("train", 20, 0), ("dev", 6, 100), ("test", 4, 200)):
        (tmp_path / f"{name}.tsv").write_text(lines(count, start))
    return tmp_path


def test_three_files_are_three_splits(folder):
    splits = read(folder)
    assert sizes(splits) == [20, 6, 4]
    assert splits.labels == ("0", "1")
    assert splits.method == "validation as given, test as given"
    assert splits.test.texts == tuple(f"text number {i}" for i in range(200, 204))
    assert splits.test.labels.tolist() == [0, 1, 0, 1]
    assert np.array_equal(splits.test.inputs(TOKENS), encode(splits.test.texts))


def test_what_is_missing_is_carved(folder):
    (folder / "test.tsv").unlink()
    assert (sizes(read(folder)), read(folder).test.texts[0]) == ([15, 5, 6], "text number 100")
    (folder / "dev.tsv").unlink()
    assert sizes(read(folder)) == [12, 4, 4]


def test_indices_get_the_names_of_class_txt(folder):
    (folder / "class.txt").write_text("bad\ngood")
    assert read(folder).labels == ("bad", "good")
    turned = read(folder, labels=("good", "bad"))
    assert turned.labels == ("good", "bad")
    assert turned.test.labels.tolist() == [1, 0, 1, 0]


def test_indices_get_the_models_names(folder):
    splits = read(folder, labels=("negative", "positive"))
    assert splits.labels == ("negative", "positive")
    assert splits.test.labels.tolist() == [0, 1, 0, 1]


def test_names_as_labels(tmp_path):
    path = tmp_path / "reviews.txt"
    path.write_text(lines(20, names=("spam", "ham")))
    splits = read(path)
    assert splits.labels == ("ham", "spam")
    assert sizes(splits) == [12, 4, 4]
    assert splits.method == "6:2:2 stratified with seed 0"


def test_texts_keep_what_they_hold(tmp_path):
    odd = ["a\ttab within", 'a "quote', "line\u2028separator", "全角，标点", "#hash, comma"]
    path = tmp_path / "data.tsv"
    path.write_bytes(
        ("\ufeffsentence\tlabel\r\n" + "".join(f"{t}\t{i % 2}\r\n" for i, t in enumerate(odd * 4))).encode()
    )
    assert {t for _, s in read(path).items() for t in s.texts} == set(odd)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"no tab here\n", "line 1 must be text, tab, label; it reads 'no tab here'"),
        (b"fine\t1\n\t0\n", "line 2 must be text, tab, label; it reads '\\t0'"),
        (b"fine\t1\nfine\t\n", "line 2 must be text, tab, label; it reads 'fine\\t'"),
        (b"sentence\tlabel\n", "holds no texts"),
        (b"", "holds no texts"),
    ],
)
def test_lines_of_another_form(tmp_path, content, message):
    path = tmp_path / "data.tsv"
    path.write_bytes(content)
    assert refused(path) in (f"{path}: {message}", f"{path} {message}")


def test_bytes_that_are_no_utf8(tmp_path):
    path = tmp_path / "data.tsv"
    path.write_bytes("中文\t1\n".encode("gbk"))
    assert refused(path) == f"cannot read {path}: byte 0 is not UTF-8: save the file as UTF-8"


def test_a_label_beyond_the_classes(folder):
    (folder / "test.tsv").write_text(lines(6, names="012"))
    assert refused(folder, labels=("bad", "good")) == (
        f"{folder / 'test.tsv'}: label '2' is not among the declared classes bad, good"
    )


def test_texts_without_an_encode(folder):
    with pytest.raises(InvalidInput) as error:
        read_data(str(folder), TOKENS)
    assert str(error.value) == (
        f"{folder / 'train.tsv'} holds texts, and the subject has no encode=... to make inputs from them"
    )


# --- tables ----------------------------------------------------------------------------------------


def written(tmp_path, content):
    path = tmp_path / "data.csv"
    path.write_text(content)
    return path


ROWS = [(i % 2, f'review, number {i}, "quoted"') for i in range(20)]


@pytest.mark.parametrize("head", ["label,review", "stars,review"])
def test_a_label_before_the_text(tmp_path, head):
    quoted = [(label, '"' + text.replace('"', '""') + '"') for label, text in ROWS]
    splits = read(written(tmp_path, head + "\n" + "".join(f"{a},{b}\n" for a, b in quoted)))
    assert sizes(splits) == [12, 4, 4]
    assert splits.labels == ("0", "1")
    assert {(t, int(k)) for _, s in splits.items() for t, k in zip(s.texts, s.labels, strict=True)} == {
        (text, label) for label, text in ROWS
    }


def test_a_label_after_the_text_and_numbers_beside(tmp_path):
    path = written(tmp_path, "id,text,kind\n" + "".join(f"{i},text {i},{'ab'[i % 2]}\n" for i in range(20)))
    splits = read(path)
    assert splits.labels == ("a", "b")
    assert splits.test.texts[0].startswith("text ")


def test_two_columns_of_words(tmp_path):
    path = written(tmp_path, "title,body,kind\n" + "".join(f"t{i},b{i},{'ab'[i % 2]}\n" for i in range(20)))
    assert refused(path) == (
        f"{path}: one column of texts is needed besides the label 'kind', found 2 (title, body): give text=NAME"
    )
    assert read(path, text="body").test.texts[0].startswith("b")
    assert refused(path, text="bod") == f"{path} has no column 'bod' besides the label; it has title, body"


def test_a_table_without_words(tmp_path):
    path = written(tmp_path, "u,v,kind\n" + "".join(f"{i},{i},{'ab'[i % 2]}\n" for i in range(20)))
    assert (
        refused(path) == f"{path}: one column of texts is needed besides the label 'kind', found none: give text=NAME"
    )


def test_a_split_column(tmp_path):
    parts = ["train"] * 12 + ["val"] * 4 + ["test"] * 4
    path = written(tmp_path, "text,split,label\n" + "".join(f"t{i},{p},{i % 2}\n" for i, p in enumerate(parts)))
    splits = read(path)
    assert sizes(splits) == [12, 4, 4]
    assert splits.test.texts == ("t16", "t17", "t18", "t19")


def test_parquet(tmp_path):
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.table({"label": [a for a, _ in ROWS], "review": [b for _, b in ROWS]})
    parquet.write_table(table, tmp_path / "data.parquet")
    assert {t for _, s in read(tmp_path / "data.parquet").items() for t in s.texts} == {b for _, b in ROWS}


# --- subjects --------------------------------------------------------------------------------------


def test_a_dataset_of_texts():
    items = [(f"text {i}", i % 2) for i in range(20)]
    splits = dataset((items,), encode=encode)
    assert sizes(splits) == [12, 4, 4]
    assert np.array_equal(splits.test.inputs(TOKENS), encode(splits.test.texts))
    subject = Subject(model=None, contract=TOKENS, data=lambda: (items, items[:6]), encode=encode)
    assert subject.splits().test.texts == tuple(text for text, _ in items[:6])


SOURCE = """
import numpy as np
import torch
from torch import nn
from steelyard import Contract, Subject

class Mean(nn.Module):
    def __init__(self):
        super().__init__()
        self.table, self.out = nn.Embedding(300, 8), nn.Linear(8, 2)

    def forward(self, codes):
        return self.out(self.table(codes).mean(1))

def encode(texts):
    return np.array([[ord(c) % 300 for c in text.ljust(16)[:16]] for text in texts])

def subject(data):
    torch.manual_seed(0)
    contract = Contract(shape=(16,), layout="T", dtype="int64")
    return Subject(model=Mean(), contract=contract, data=data, encode=encode)
"""


def test_other_processes_find_the_codes_on_disk_and_the_texts_beside_them(folder, tmp_path):
    source = tmp_path / "mean.py"
    source.write_text(SOURCE)
    spec = SubjectSpec(source=str(source), data=str(folder))
    prepared = prepare_subject(spec, tmp_path / "run", lambda *_: None)
    found = read_split(prepared.data, "test")
    assert found.texts == tuple(f"text number {i}" for i in range(200, 204))
    assert found.raw.shape == (4, 16)
    inputs = prepare(prepared.baseline.contract, np.asarray(found.raw))
    assert inputs.dtype == np.int64
    assert np.load(prepared.inputs).shape == (6, 16)


# --- real sets -------------------------------------------------------------------------------------


@pytest.mark.needs_data
@pytest.mark.parametrize(
    ("name", "expected", "labels"),
    [
        ("sst2", [6920, 872, 1821], ("0", "1")),
        ("waimai/waimai_10k.csv", [7191, 2398, 2398], ("0", "1")),
        (
            "thucnews",
            [45_000, 10_000, 10_000],
            (
                "finance",
                "realty",
                "stocks",
                "education",
                "science",
                "society",
                "politics",
                "sports",
                "game",
                "entertainment",
            ),
        ),
    ],
)
def test_real_sets(real_data, name, expected, labels):
    path = real_data / name
    if not path.exists():
        pytest.skip(f"{path} is not there")
    splits = read(path)
    assert (sizes(splits), splits.labels) == (expected, labels)


@pytest.mark.needs_data
def test_the_leak_of_thucnews_is_found(real_data):
    """45 test and 47 dev lines stand in train; one title of each stands there under another label too."""
    splits = read(real_data / "thucnews")
    train = {*zip(splits.train.texts, splits.train.labels.tolist(), strict=True)}
    for split, known in ((splits.test, 45), (splits.validation, 47)):
        assert sum(pair in train for pair in zip(split.texts, split.labels.tolist(), strict=True)) == known
    found = {(o.split, o.other): o.count for o in overlaps(splits)}
    assert found["test", "train"] == 46
    assert found["validation", "train"] == 48
