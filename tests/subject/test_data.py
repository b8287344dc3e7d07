"""Readers of data: what they give, that splits that came are kept, and what they say of files that are damaged."""

import gzip
import struct
import sys

import numpy as np
import pytest
from PIL import Image

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.records import Contract
from steelyard.subject.data import dataset, digits, read_data
from steelyard.subject.splits import Split, Splits, overlaps
from steelyard.subject.subject import Subject

VECTOR = Contract(shape=(2,), layout="F")
GREY = Contract(shape=(1, 4, 4))


def refused(*words, **more):
    with pytest.raises(InvalidInput) as error:
        read_data(*map(str, words[:1]), *words[1:], **more)
    assert "\n" not in str(error.value)
    return str(error.value)


def sizes(splits):
    return [len(s) for _, s in splits.items()]


def rows(split):
    return np.concatenate(list(split.chunks()))


# --- digits ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def ten():
    pytest.importorskip("sklearn")
    return digits(seed=0)


def test_digits_are_1797_in_six_two_two(ten):
    assert sizes(ten) == [1077, 360, 360]
    assert ten.labels == tuple("0123456789")
    for split in dict(ten.items()).values():
        assert split.raw.shape[1:] == (1, 8, 8)
        assert split.raw.dtype == np.uint8
        assert split.raw.max() == 255


def test_digits_keep_the_shares_of_their_classes(ten):
    from sklearn.datasets import load_digits

    shares = np.bincount(load_digits().target) / 1797
    for split in dict(ten.items()).values():
        assert np.abs(np.bincount(split.labels) - shares * len(split)).max() < 2


def test_digits_are_the_same_for_the_same_seed(ten):
    assert np.array_equal(digits(seed=0).test.raw, ten.test.raw)
    assert not np.array_equal(digits(seed=1).test.raw, ten.test.raw)


def test_digits_hold_every_example_once(ten):
    from sklearn.datasets import load_digits

    together = np.concatenate([s.raw for _, s in ten.items()]).reshape(-1, 64)
    expected = np.round(load_digits().data * (255 / 16)).astype(np.uint8)
    assert np.array_equal(np.sort(together.view("V64").ravel()), np.sort(expected.view("V64").ravel()))
    assert overlaps(ten) == ()


# --- words -----------------------------------------------------------------------------------------


def test_data_that_is_not_there():
    assert refused("nowhere", VECTOR) == (
        "no such data: nowhere (give 'digits', a folder, or an .npz, .csv or .parquet file)"
    )


def test_a_file_of_another_kind(tmp_path):
    path = tmp_path / "data.xls"
    path.touch()
    assert refused(path, VECTOR) == f"cannot read data from {path}: give a folder, or an .npz, .csv or .parquet file"


def test_a_subject_without_data():
    with pytest.raises(InvalidInput, match=r"^this subject has no data: give --data, or data=\.\.\. in the subject$"):
        Subject(model=None, contract=VECTOR).splits()


# --- idx -------------------------------------------------------------------------------------------


def write_idx(path, array):
    content = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


@pytest.fixture
def idx_folder(tmp_path):
    rng = np.random.default_rng(0)
    for stem, count in (("train", 40), ("t10k", 10)):
        write_idx(tmp_path / f"{stem}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 4, 4)))
        write_idx(tmp_path / f"{stem}-labels-idx1-ubyte", np.arange(count) % 2)
    return tmp_path


def test_idx_keeps_its_test_split(idx_folder):
    splits = read_data(str(idx_folder), GREY)
    assert sizes(splits) == [30, 10, 10]
    assert splits.labels == ("0", "1")
    assert splits.test.raw.shape == (10, 1, 4, 4)
    assert splits.test.labels.tolist() == [0, 1] * 5
    assert splits.method == "test as given, validation stratified with seed 0"


def test_one_pair_of_idx_files_is_split(idx_folder):
    for path in idx_folder.glob("train-*"):
        path.unlink()
    assert sizes(read_data(str(idx_folder), GREY)) == [6, 2, 2]


def test_idx_images_without_labels(idx_folder):
    for path in idx_folder.glob("*-labels-*"):
        path.unlink()
    assert refused(idx_folder, GREY) == (
        f"no complete pair of idx files in {idx_folder}: images and labels must stand together"
    )


def test_idx_files_of_unequal_length(idx_folder):
    write_idx(idx_folder / "train-labels-idx1-ubyte", np.zeros(39))
    assert refused(idx_folder, GREY) == f"{idx_folder}: 40 train images but 39 labels"


@pytest.mark.parametrize("kept", [0, 3, 15, 100])
def test_a_truncated_idx_archive(idx_folder, kept):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(idx_folder, GREY).startswith(f"cannot read {path} as an idx file: ")


def test_a_corrupt_idx_archive(idx_folder):
    path = idx_folder / "train-images-idx3-ubyte.gz"
    content = bytearray(path.read_bytes())
    content[20:30] = b"\xff" * 10
    path.write_bytes(content)
    assert refused(idx_folder, GREY).startswith(f"cannot read {path} as an idx file: ")


def test_an_idx_file_that_is_too_short(idx_folder):
    path = idx_folder / "train-labels-idx1-ubyte"
    path.write_bytes(path.read_bytes()[:-5])
    assert refused(idx_folder, GREY).startswith(f"cannot read {path} as an idx file: cannot reshape")


def test_a_file_that_is_not_idx(idx_folder):
    path = idx_folder / "train-labels-idx1-ubyte"
    path.write_bytes(b"\0\0\x0d\1" + bytes(100))
    assert refused(idx_folder, GREY) == (
        f"cannot read {path} as an idx file: it does not begin as one of bytes in 1 dimension(s)"
    )


def test_an_idx_set_without_examples(idx_folder):
    for stem in ("train", "t10k"):
        write_idx(idx_folder / f"{stem}-images-idx3-ubyte.gz", np.zeros((0, 4, 4)))
        write_idx(idx_folder / f"{stem}-labels-idx1-ubyte", np.zeros(0))
    assert refused(idx_folder, GREY) == (
        "the data has 0 training example(s); at least 2 are needed in each split: give more data"
    )


def test_more_classes_than_the_subject_declares(idx_folder):
    write_idx(idx_folder / "t10k-labels-idx1-ubyte", np.arange(10))
    assert refused(idx_folder, Contract(shape=(1, 4, 4), labels=("a", "b"))) == (
        "label 9 in the test split is outside 0..1: the subject declares 2 classes"
    )


# --- folders of pictures ---------------------------------------------------------------------------


def pictures(folder, **classes):
    for place, (name, count) in enumerate(classes.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new("L", (4, 4), 100 * place + i).save(folder / name / f"{i:02}.png")


def test_a_folder_a_class(tmp_path):
    pictures(tmp_path, cats=10, dogs=15)
    splits = read_data(str(tmp_path), GREY)
    assert sizes(splits) == [15, 5, 5]
    assert splits.labels == ("cats", "dogs")
    for split in dict(splits.items()).values():
        assert np.array_equal(rows(split)[:, 0, 0, 0] >= 100, split.labels)


def test_the_order_of_the_models_outputs_wins(tmp_path):
    pictures(tmp_path, cats=10, dogs=15)
    splits = read_data(str(tmp_path), Contract(shape=(1, 4, 4), labels=("dogs", "cats")))
    assert splits.labels == ("dogs", "cats")
    assert np.array_equal(rows(splits.train)[:, 0, 0, 0] < 100, splits.train.labels)


def test_one_held_out_folder_judges(tmp_path):
    pictures(tmp_path / "train", cats=12, dogs=12)
    pictures(tmp_path / "val", cats=4, dogs=5)
    splits = read_data(str(tmp_path), GREY)
    assert sizes(splits) == [18, 6, 9]
    assert splits.method == "test as given, validation stratified with seed 0"


def test_two_held_out_folders_are_kept(tmp_path):
    for name, count in (("train", 6), ("val", 4), ("test", 3)):
        pictures(tmp_path / name, cats=count, dogs=count)
    splits = read_data(str(tmp_path), GREY)
    assert sizes(splits) == [12, 8, 6]
    assert splits.method == "validation as given, test as given"


def test_no_picture_is_opened_before_it_is_asked_for(tmp_path):
    pictures(tmp_path, cats=10, dogs=10)
    for path in tmp_path.rglob("*.png"):
        path.write_text("broken")
    splits = read_data(str(tmp_path), GREY)
    assert sizes(splits) == [12, 4, 4]
    with pytest.raises(InvalidInput, match=r"^cannot read .*\.png as a picture: cannot identify image file"):
        next(splits.test.chunks())


def test_one_class_folder(tmp_path):
    pictures(tmp_path, cats=3)
    assert refused(tmp_path, GREY) == (
        f"{tmp_path} holds 1 class folder(s); at least 2 are needed, one folder of pictures per class"
    )


def test_an_empty_folder(tmp_path):
    assert refused(tmp_path, GREY) == (
        f"{tmp_path} holds 0 class folder(s); at least 2 are needed, one folder of pictures per class"
    )


def test_a_class_folder_without_pictures(tmp_path):
    pictures(tmp_path, cats=20, dogs=0)
    assert refused(tmp_path, GREY) == (
        "every label in the train split is 0 ('cats'): quality cannot be measured on one class"
    )


def test_more_folders_than_classes(tmp_path):
    pictures(tmp_path, cats=2, dogs=2, owls=2)
    assert refused(tmp_path, Contract(shape=(1, 4, 4), labels=("a", "b"))) == (
        f"{tmp_path} holds 3 class folders, the subject declares 2 classes"
    )


# --- NPZ -------------------------------------------------------------------------------------------

X, Y = np.arange(80.0).reshape(40, 2), np.arange(40) % 2


def saved(tmp_path, **arrays):
    path = tmp_path / "data.npz"
    np.savez(path, **arrays)
    return path


def test_npz_is_split(tmp_path):
    splits = read_data(str(saved(tmp_path, x=X, y=Y)), VECTOR)
    assert sizes(splits) == [24, 8, 8]
    assert splits.labels == ("0", "1")
    assert np.array_equal(splits.test.raw[:, 0] // 2 % 2, splits.test.labels)


def test_npz_keeps_the_splits_that_came(tmp_path):
    path = saved(tmp_path, x_train=X, y_train=Y, x_val=X[:6], y_val=Y[:6], x_test=X[:4], y_test=Y[:4])
    splits = read_data(str(path), VECTOR)
    assert sizes(splits) == [40, 6, 4]
    assert [(o.split, o.other, o.count) for o in overlaps(splits)] == [
        ("validation", "train", 6),
        ("test", "train", 4),
        ("test", "validation", 4),
    ]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"a": X}, "holds ['a']: expected x and y, or x_train, y_train, x_test, y_test"),
        ({"x": X}, "holds ['x'] but not y: every x needs its y"),
        (
            {"x_train": X, "y_train": Y, "x_test": X},
            "holds ['x_test', 'x_train', 'y_train'] but not y_test: every x needs its y",
        ),
    ],
)
def test_npz_without_what_is_needed(tmp_path, arrays, message):
    path = saved(tmp_path, **arrays)
    assert refused(path, VECTOR) == f"{path} {message}"


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (X, Y[:5], "40 examples but 5 labels"),
        (X, Y.astype(float), "labels are float64 of shape (40,); class indices (whole numbers) are needed"),
        (X, np.eye(40, 2, dtype=int), "labels are int64 of shape (40, 2); class indices (whole numbers) are needed"),
        (X[:, 0], Y, "examples are float64 of shape (40,); numbers of shape (n, ...) are needed"),
        (X.astype(str), Y, "examples are <U32 of shape (40, 2); numbers of shape (n, ...) are needed"),
        (np.float64(3), Y, "examples are float64 of shape (); numbers of shape (n, ...) are needed"),
        (X, Y - 1, "label -1 is no class index: number the classes from 0"),
        (X, Y + 2**32, "label 4294967296 is no class index: number the classes from 0"),
    ],
)
def test_npz_of_the_wrong_kind(tmp_path, x, y, message):
    path = saved(tmp_path, x=x, y=y)
    assert refused(path, VECTOR) == f"{path}: {message}"


def test_npz_with_pickled_objects_is_not_unpickled(tmp_path):
    flag = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return (open, (str(flag), "w"))

    path = saved(tmp_path, x=np.array([Evil(), 2], dtype=object), y=np.array([0, 1]))
    message = refused(path, VECTOR)
    assert message == f"cannot read {path} as NPZ: Object arrays cannot be loaded when allow_pickle=False"
    assert not flag.exists()


@pytest.mark.parametrize("kept", [0, 10, 300, 700])
def test_a_truncated_npz(tmp_path, kept):
    path = saved(tmp_path, x=X, y=Y)
    path.write_bytes(path.read_bytes()[:kept])
    assert refused(path, VECTOR).startswith(f"cannot read {path} as NPZ: ")


def test_a_corrupt_npz(tmp_path):
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    content[60:90] = b"\xff" * 30
    path.write_bytes(content)
    assert refused(path, VECTOR).startswith(f"cannot read {path} as NPZ: ")


def test_an_npy_called_npz(tmp_path):
    path = tmp_path / "data.npz"
    with path.open("wb") as file:
        np.save(file, X)
    assert refused(path, VECTOR) == f"cannot read {path} as NPZ: File is not a zip file"


def test_an_npz_that_is_a_pickle_is_not_unpickled(tmp_path):
    path = tmp_path / "data.npz"
    path.write_bytes(b"\x80\x04N.")
    assert refused(path, VECTOR) == f"cannot read {path} as NPZ: File is not a zip file"


# --- CSV -------------------------------------------------------------------------------------------


def written(tmp_path, text, **how):
    path = tmp_path / "data.csv"
    path.write_text(text, **how)
    return path


def table_of(count, label="ab"):
    return "".join(f"{i},{i / 2},{label[i % len(label)]}\n" for i in range(count))


def test_csv_with_a_header(tmp_path):
    splits = read_data(str(written(tmp_path, "u,v,kind\n" + table_of(40))), VECTOR)
    assert sizes(splits) == [24, 8, 8]
    assert splits.labels == ("a", "b")
    assert splits.test.raw.dtype == np.float32
    assert np.array_equal(splits.test.raw[:, 0] % 2, splits.test.labels)
    assert np.array_equal(splits.test.raw[:, 0] / 2, splits.test.raw[:, 1])


def test_csv_without_a_header_and_with_quoted_labels(tmp_path):
    path = written(tmp_path, "".join(f"0.{i},{-i},'{-1 if i % 4 else 1}'\n" for i in range(40)))
    splits = read_data(str(path), VECTOR)
    assert sum(sizes(splits)) == 40
    assert splits.labels == ("'-1'", "'1'")
    assert np.bincount(splits.train.labels).tolist() == [18, 6]


def test_csv_with_a_label_column_by_name_or_place(tmp_path):
    path = written(tmp_path, "kind,u,v\n" + "".join(f"{'ab'[i % 2]},{i},{i}\n" for i in range(20)))
    assert read_data(str(path), VECTOR, options={"label": "kind"}).train.raw.shape[1:] == (2,)
    bare = written(tmp_path, "".join(f"{'ab'[i % 2]},{i},{i}\n" for i in range(20)))
    assert read_data(str(bare), VECTOR, options={"label": "0"}).labels == ("a", "b")


def test_csv_with_a_split_column(tmp_path):
    kinds = ["train"] * 12 + ["val"] * 4 + ["test"] * 6
    text = "u,split,kind\n" + "".join(f"{i},{kind},{'ab'[i % 2]}\n" for i, kind in enumerate(kinds))
    splits = read_data(str(written(tmp_path, text)), VECTOR)
    assert sizes(splits) == [12, 4, 6]
    assert splits.test.raw.tolist() == [[float(i)] for i in range(16, 22)]
    assert splits.method == "validation as given, test as given"


def test_csv_as_spreadsheets_save_it(tmp_path):
    path = written(tmp_path, "u,v,kind\r\n" + table_of(40).replace("\n", "\r\n"), encoding="utf-8-sig", newline="")
    assert read_data(str(path), VECTOR, options={"label": "kind"}).train.raw.shape == (24, 2)


def test_labels_that_are_numbers_are_ordered_as_numbers(tmp_path):
    text = "".join(f"{i},{i % 12}\n" for i in range(120))
    assert read_data(str(written(tmp_path, text)), VECTOR).labels == tuple(map(str, range(12)))


def test_declared_classes_win(tmp_path):
    contract = Contract(shape=(2,), layout="F", labels=("b", "a"))
    splits = read_data(str(written(tmp_path, table_of(40))), contract)
    assert splits.labels == ("b", "a")
    assert np.array_equal(splits.test.raw[:, 0] % 2, 1 - splits.test.labels)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{} is empty"),
        ("\n\n", "{} is empty"),
        ("u,v,kind\n", "the data has 0 training example(s); at least 2 are needed in each split: give more data"),
        ("u,v,kind\n1,2,a\n\n1,2\n", "{}: line 4 has 2 fields, the first has 3"),
        ("u,v,kind\n1,2,a\n3,4,5,b\n", "{}: line 3 has 4 fields, the first has 3"),
        ("u,v,kind\n1,2,a\n3,four,b\n", "{}: column 'v' holds 'four' in data row 2; features must be numbers"),
        ("u,v,kind\n1,2,a\n3,,b\n", "{}: column 'v' holds '' in data row 2; features must be numbers"),
        ("kind\na\nb\n", "{} has no column but the label 'kind': features are needed"),
        ("u,u,kind\n1,2,a\n", "{} has two columns called 'u': rename one"),
        ("u,split,kind\n1,train,a\n1,tset,b\n", "{}: column 'split' must hold train, validation and test, got ['train', 'tset']"),
        ("u,split,kind\n1,test,a\n1,test,b\n", "{}: column 'split' must hold train, validation and test, got ['test']"),
        (table_of(40, "a"), "every label in the train split is 0 ('a'): quality cannot be measured on one class"),
    ],
)  # fmt: skip
def test_csv_that_cannot_be_used(tmp_path, text, message):
    path = written(tmp_path, text)
    assert refused(path, VECTOR) == message.format(path)


def test_csv_without_the_label_column(tmp_path):
    path = written(tmp_path, "u,v,kind\n1,2,a\n")
    assert refused(path, VECTOR, options={"label": "class"}) == f"{path} has no column 'class'; it has u, v, kind"


def test_csv_with_an_undeclared_class(tmp_path):
    path = written(tmp_path, table_of(40, "abc"))
    assert refused(path, Contract(shape=(2,), layout="F", labels=("a", "b"))) == (
        f"{path}: label 'c' is not among the declared classes a, b"
    )


def test_csv_that_is_not_utf8(tmp_path):
    path = tmp_path / "data.csv"
    path.write_bytes("u,kind\n1,caf\xe9\n".encode("latin-1"))
    assert refused(path, VECTOR) == f"cannot read {path} as CSV: byte 12 is not UTF-8: save the file as UTF-8"


def test_csv_with_nan_is_met_before_measuring(tmp_path):
    splits = read_data(str(written(tmp_path, table_of(40).replace("\n0.5", "\nnan").replace("3,1.5", "3,nan"))), VECTOR)
    with pytest.raises(InvalidInput, match=r"^example \d+ of the data holds NaN or infinity: clean the data"):
        overlaps(splits)


def test_a_folder_called_csv(tmp_path):
    (tmp_path / "data.csv").mkdir()
    assert refused(tmp_path / "data.csv", VECTOR).endswith("one folder of pictures per class")


# --- Parquet ---------------------------------------------------------------------------------------


def test_parquet_is_as_csv(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    pq.write_table(
        pa.table({"u": range(40), "v": [i / 2 for i in range(40)], "kind": ["ab"[i % 2] for i in range(40)]}), path
    )
    ours = read_data(str(path), VECTOR)
    theirs = read_data(str(written(tmp_path, "u,v,kind\n" + table_of(40))), VECTOR)
    for (_, a), (_, b) in zip(ours.items(), theirs.items(), strict=True):
        assert np.array_equal(a.raw, b.raw)
        assert np.array_equal(a.labels, b.labels)


def test_a_damaged_parquet_file(tmp_path):
    pytest.importorskip("pyarrow")
    path = tmp_path / "data.parquet"
    path.write_bytes(b"PAR1 and nothing more")
    assert refused(path, VECTOR).startswith(f"cannot read {path} as Parquet: ")


def test_a_gap_in_parquet_is_no_number(tmp_path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "data.parquet"
    pq.write_table(pa.table({"u": [1.0, None], "kind": ["a", "b"]}), path)
    assert refused(path, VECTOR) == f"{path}: column 'u' holds 'None' in data row 2; features must be numbers"


def test_parquet_without_its_extra(tmp_path, monkeypatch):
    path = tmp_path / "data.parquet"
    path.touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra) as missing:
        read_data(str(path), VECTOR)
    assert str(missing.value) == "reading data.parquet needs the 'tables' extra: pip install 'steelyard[tables]'"


# --- Datasets --------------------------------------------------------------------------------------


class Pairs:
    """A map-style Dataset as users write it."""

    def __init__(self, count, offset=0.0):
        self.count, self.offset, self.asked = count, offset, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if index >= self.count:
            raise IndexError(index)
        self.asked.append(index)
        return np.full(2, index + self.offset, dtype=np.float32), index % 2


class Known(Pairs):
    """One that knows its labels, as torchvision's do."""

    @property
    def targets(self):
        return [i % 2 for i in range(self.count)]


def said(source):
    with pytest.raises(InvalidInput) as error:
        dataset(source)
    return str(error.value)


def test_one_dataset_is_split():
    splits = dataset(Pairs(40))
    assert sizes(splits) == [24, 8, 8]
    assert np.array_equal(rows(splits.test)[:, 0] % 2, splits.test.labels)


def test_two_datasets_are_train_and_test():
    splits = dataset((Pairs(40), Pairs(10, 0.5)))
    assert sizes(splits) == [30, 10, 10]
    assert rows(splits.test)[:3, 0].tolist() == [0.5, 1.5, 2.5]


def test_three_datasets_are_kept():
    assert sizes(dataset([Pairs(40), Pairs(6, 0.1), Pairs(10, 0.5)])) == [40, 6, 10]


def test_splits_pass_through_but_are_checked():
    part = Split(raw=np.zeros((4, 2)), labels=np.array([0, 1, 0, 1], dtype=np.int32))
    good = Splits(train=part, validation=part, test=part, labels=("a", "b"), method="mine")
    assert dataset(good) is good
    assert said(Splits(train=part, validation=part, test=part, labels=("a",), method="mine")) == (
        "label 1 in the train split is outside 0..0: the subject declares 1 classes"
    )


def test_a_dataset_that_knows_its_labels_is_not_read():
    source = Known(40)
    splits = dataset(source)
    assert source.asked == []
    splits.test.raw[np.array([1, 2])]
    assert len(source.asked) == 2


def test_a_plain_list_of_pairs_is_a_dataset():
    assert sizes(dataset([[(np.zeros(2), i % 2) for i in range(40)]])) == [24, 8, 8]


def test_torchvisions_fake_data():
    pytest.importorskip("torch")
    tv = pytest.importorskip("torchvision")
    source = tv.datasets.FakeData(30, (3, 4, 4), num_classes=3, transform=tv.transforms.ToTensor())
    splits = dataset(source)
    assert sum(sizes(splits)) == 30
    assert splits.labels == ("0", "1", "2")
    picture = rows(splits.test)[0]
    assert picture.shape == (3, 4, 4)
    assert picture.dtype == np.float32


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (3, "the data function returned int: return a Dataset with a length, or (train, [validation,] test)"),
        (iter([]), "the data function returned list_iterator: return a Dataset with a length, or (train, [validation,] test)"),
        ((Pairs(4),) * 4, "the data function returned tuple: return a Dataset with a length, or (train, [validation,] test)"),
        (
            [[1, 2, 3]],
            "the Dataset's items must be (input, class index) pairs: 'int' object is not subscriptable",
        ),
        (
            [[(np.zeros(2), "cat"), (np.zeros(2), "dog")]],
            "the Dataset has 2 items and 2 labels of type <U3: one class index each is needed",
        ),
        (
            [[(np.zeros(2), 0.5), (np.zeros(2), 1.5)]],
            "the Dataset has 2 items and 2 labels of type float64: one class index each is needed",
        ),
        ([[(np.zeros(2), -1), (np.zeros(2), 1)]], "the Dataset: label -1 is no class index: number the classes from 0"),
    ],
)  # fmt: skip
def test_datasets_that_cannot_be_used(source, message):
    assert said(source) == message


def test_a_data_function_that_fails_is_one_line():
    def broken():
        raise FileNotFoundError("no such\nfolder")

    with pytest.raises(InvalidInput) as error:
        Subject(model=None, contract=VECTOR, data=broken).splits()
    assert str(error.value) == "the data function failed: FileNotFoundError: no such folder"
