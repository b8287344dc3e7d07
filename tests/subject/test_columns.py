"""Saved tables: CSV with and without PyArrow, Parquet and NPZ give the same columns; what is damaged is said."""

import csv
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.errors import InvalidInput, MissingExtra
from steelyard.subject import columns
from steelyard.subject.columns import Words, class_order, open_table

QUICK = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r"), min_size=1, max_size=6)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)


@pytest.fixture(params=["pyarrow", "plain"])
def reader(request, monkeypatch):
    """Both ways to read CSV."""
    if request.param == "plain":
        monkeypatch.setattr(columns, "find_spec", lambda _: None)
    return request.param


def plainly(path):
    """The table as it is read where PyArrow is not installed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columns, "find_spec", lambda _: None)
        return open_table(path)


def write_csv(path, cells, **options):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, **options)
        writer.writerow(list(cells))
        writer.writerows(zip(*cells.values(), strict=True))
    return path


def spelled(words):
    return [words[i] for i in range(len(words))]


# --- the same columns whatever the file -----------------------------------------------------------------


@QUICK
@given(st.lists(st.tuples(WORDS, FLOATS, st.integers(-(2**53), 2**53)), min_size=1, max_size=20))
def test_all_formats_and_both_readers_give_the_same_columns(rows):
    words, numbers, whole = (list(column) for column in zip(*rows, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        cells = {"w": words, "x": [repr(v) for v in numbers], "i": [str(v) for v in whole]}
        text = write_csv(Path(folder) / "t.csv", cells)
        tabs = write_csv(Path(folder) / "t.tsv", cells, delimiter="\t")
        pq.write_table(pa.table({"w": words, "x": numbers, "i": whole}), Path(folder) / "t.parquet")
        tables = [open_table(text), plainly(text), open_table(tabs), plainly(tabs)]
        tables.append(open_table(Path(folder) / "t.parquet"))
        if not any(word != word.rstrip("\0") for word in words):
            np.savez(Path(folder) / "t.npz", w=np.array(words), x=np.array(numbers), i=np.array(whole))
            tables.append(open_table(Path(folder) / "t.npz"))
        for table in tables:
            table.read(numbers=["x", "i"], words=["w", "i"])
            assert spelled(table.words("w")) == words
            assert table.words("w").levels == class_order(words)
            assert table.numbers("x").tolist() == numbers
            assert table.numbers("i").tolist() == [float(v) for v in whole]
            assert spelled(table.words("i")) == [str(v) for v in whole]


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("lead", ["", "\ufeff"])
def test_line_ends_and_excels_mark(tmp_path, reader, ends, lead):
    path = tmp_path / "t.csv"
    path.write_text(
        lead + ends.join(["y,p", "a b,0.5", '"say ""x""",.25', "'c',1e-3"]) + ends, encoding="utf-8", newline=""
    )
    table = open_table(path)
    assert table.names == ("y", "p")
    assert spelled(table.words("y")) == ["a b", 'say "x"', "'c'"]
    assert table.numbers("p").tolist() == [0.5, 0.25, 0.001]


def test_quoted_newlines_across_blocks_are_cells_and_not_rows(tmp_path, reader):
    """PyArrow reads blocks of a megabyte; a cell that holds a line break may lie across two of them."""
    text = ["line\nbreak, comma" + "x" * (i % 97) for i in range(30_000)]
    path = write_csv(tmp_path / "t.csv", {"text": text, "p": [repr(i / 7) for i in range(30_000)]})
    assert path.stat().st_size > 2**20
    table = open_table(path)
    table.read(numbers=["p"], words=["text"])
    assert table.numbers("p").tolist() == [i / 7 for i in range(30_000)]
    assert table.words("text")[29_999] == text[29_999]


def test_blank_lines_are_no_rows(tmp_path, reader):
    (tmp_path / "t.csv").write_text("\ny,p\n\na,1\n\n\nb,2\n\n")
    assert open_table(tmp_path / "t.csv").numbers("p").tolist() == [1, 2]


def test_one_very_long_word_among_many_short_ones(tmp_path, reader):
    """An array as wide as the longest word would take 40 GB."""
    words = ["short"] * 100_000
    words[77] = "x" * 100_000
    table = open_table(write_csv(tmp_path / "t.csv", {"w": words}))
    assert len(table.words("w")) == 100_000
    assert table.words("w").levels[1] == words[77]


def test_ten_thousand_columns(tmp_path, reader):
    names = [f"p_{i}" for i in range(10_000)]
    (tmp_path / "t.csv").write_text(",".join(names) + "\n" + ",".join(["0.5"] * 10_000) + "\n")
    table = open_table(tmp_path / "t.csv")
    table.read(numbers=names)
    assert table.numbers("p_9999").tolist() == [0.5]


def test_a_column_as_words_and_as_numbers(tmp_path, reader):
    table = open_table(write_csv(tmp_path / "t.csv", {"x": ["10", "9", "9.0"]}))
    table.read(numbers=["x"], words=["x"])
    assert table.numbers("x").tolist() == [10, 9, 9]
    assert table.words("x").levels == ("9", "9.0", "10")


@pytest.mark.parametrize(
    ("column", "numbers", "words"),
    [
        (pa.array([1, 0, 1], pa.int8()), [1, 0, 1], ["1", "0", "1"]),
        (pa.array([1.0, 0.0, 1.0]), [1, 0, 1], ["1", "0", "1"]),
        (pa.array([0.5, 2.5, 1.0], pa.float32()), [0.5, 2.5, 1], None),
        (pa.array([True, False, True]), [1, 0, 1], None),
        (pa.array(["1", "0", "1"]).dictionary_encode(), [1, 0, 1], ["1", "0", "1"]),
        (pa.array([1, 2**63 + 1, 3], pa.uint64()), [1, 2.0**63, 3], ["1", str(2**63 + 1), "3"]),
        (pa.array(["a", None, "b"]), None, ["a", "", "b"]),
        (pa.array(["a", "b", "a"], pa.large_string()), None, ["a", "b", "a"]),
    ],
)
def test_parquet_types(tmp_path, column, numbers, words):
    pq.write_table(pa.table({"x": column}), tmp_path / "t.parquet")
    table = open_table(tmp_path / "t.parquet")
    if numbers is not None:
        assert table.numbers("x").tolist() == numbers
    if words is not None:
        assert spelled(open_table(tmp_path / "t.parquet").words("x")) == words


@pytest.mark.parametrize("name", ["a.b", "", " ", "a/b", "类", "x" * 300, "two\nlines", "f(x)", "[0]"])
def test_columns_may_be_called_anything(tmp_path, name, reader):
    pq.write_table(
        pa.table({name: ["u", "v"], "p": [0.5, 1.0]}), tmp_path / "t.parquet"
    ) if reader == "pyarrow" else None
    for path in (write_csv(tmp_path / "t.csv", {name: ["u", "v"], "p": ["0.5", "1"]}), tmp_path / "t.parquet"):
        if path.exists():
            table = open_table(path)
            table.read(words=[name], numbers=["p"])
            assert spelled(table.words(name)) == ["u", "v"]


# --- what is wrong ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"y,p\na,0.5\nb,x\n", "column 'p' holds 'x' in data row 2; numbers are needed"),
        (b"y,p\na,0.5\nb,\n", "column 'p' holds an empty cell in data row 2"),
        (b"y,p\na,0.5\nb\n", "data row 2 has 1 fields, the header has 2"),
        (b"y,p\na,0.5,7\nb,1\n", "data row 1 has 3 fields, the header has 2"),
        (b"y,p\n", "has a header and no rows"),
        (b"y,p", "has a header and no rows"),
        (b"y,y\na,b\n", "two columns called 'y'"),
        (b"0,0.5\n1,0.7\n", "has no header"),
        (b"y,p\n\xff\xfe,0.5\n", "not UTF-8"),
        (b"\xff\xfey\x00,\x00p\x00\n\x00", "not UTF-8"),
        (b"q,r\na,0.5\n", "has no column 'p'; it has q, r"),
        (b"y,prob\na,0.5\n", "has no column 'p'; nearest: prob|has no column 'p'; it has y, prob"),
    ],
)
def test_damaged_text_is_said_by_row_and_column(tmp_path, reader, content, message):
    (tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        open_table(tmp_path / "t.csv").numbers("p")


def test_bytes_that_are_no_text_deep_in_a_file(tmp_path, reader):
    (tmp_path / "t.csv").write_bytes(b"y,p\n" + b"a,0.5\n" * 9000 + b"\xe9t\xe9,0.5\n")
    with pytest.raises(InvalidInput, match="UTF-8"):
        open_table(tmp_path / "t.csv").words("y")


@pytest.mark.parametrize("suffix", ["parquet", "npz"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9, 0.99])
def test_truncated_files(tmp_path, suffix, keep):
    path = tmp_path / f"t.{suffix}"
    if suffix == "npz":
        np.savez(path, y=np.arange(500), p=np.random.default_rng(0).random(500))
    else:
        pq.write_table(pa.table({"y": np.arange(500), "p": np.random.default_rng(0).random(500)}), path)
    path.write_bytes(path.read_bytes()[: int(keep * path.stat().st_size)])
    with pytest.raises(InvalidInput, match=r"cannot read .* as") as said:
        open_table(path).numbers("p")
    assert "\n" not in str(said.value)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet", "t.npz"])
def test_files_that_are_not_there_empty_or_folders(tmp_path, name):
    with pytest.raises(InvalidInput, match="no such file"):
        open_table(tmp_path / name)
    (tmp_path / name).touch()
    with pytest.raises(InvalidInput, match="is empty"):
        open_table(tmp_path / name)
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(InvalidInput, match=r"folder|no such file"):
        open_table(tmp_path / name)


def test_another_suffix(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK")
    with pytest.raises(InvalidInput, match=r"give a \.csv, \.tsv, \.parquet or \.npz file"):
        open_table(tmp_path / "t.xlsx")


def test_parquet_without_pyarrow_names_the_extra(tmp_path):
    pq.write_table(pa.table({"y": [1]}), tmp_path / "t.parquet")
    with pytest.raises(MissingExtra, match=r"pip install 'steelyard\[tables\]'"):
        plainly(tmp_path / "t.parquet")


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([1 + 2j]), "holds complex128, numbers are needed"),
        (np.array(["2020-01-01"], dtype="M8[D]"), r"holds datetime64\[D\], numbers are needed"),
        (np.array(["x"]), "holds <U1, numbers are needed"),
        (np.array(1.0), "is a single value"),
        (np.array([]), "no rows"),
        (np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]), "numbers are needed"),
    ],
)
def test_arrays_that_are_no_numbers(tmp_path, array, message):
    np.savez(tmp_path / "t.npz", p=array)
    with pytest.raises(InvalidInput, match=message):
        open_table(tmp_path / "t.npz").numbers("p")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.array([0.0, np.nan]), "holds nan in data row 2"),
        (np.zeros((2, 2)), "one value per example is needed"),
        (np.array([1 + 2j]), "words or numbers are needed"),
    ],
)
def test_arrays_that_are_no_words(tmp_path, array, message):
    np.savez(tmp_path / "t.npz", y=array)
    with pytest.raises(InvalidInput, match=message):
        open_table(tmp_path / "t.npz").words("y")


def test_arrays_of_other_lengths_are_refused(tmp_path):
    np.savez(tmp_path / "t.npz", y=np.arange(4), p=np.zeros(3))
    with pytest.raises(InvalidInput, match=r"has 3 rows and 'y' 4|has 4 rows and 'p' 3"):
        open_table(tmp_path / "t.npz").read(numbers=["p"], words=["y"])


def test_arrays_with_code_in_them_are_not_opened(tmp_path):
    np.savez(tmp_path / "t.npz", y=np.array([{"a": 1}], dtype=object))
    with pytest.raises(InvalidInput, match="as NPZ"):
        open_table(tmp_path / "t.npz")


def test_an_array_whose_header_promises_more_than_memory_holds(tmp_path):
    header = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000000,), }".ljust(117) + b"\n"
    with zipfile.ZipFile(tmp_path / "t.npz", "w") as file:
        file.writestr("y.npy", b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header)
    with pytest.raises(InvalidInput, match="as NPZ"):
        open_table(tmp_path / "t.npz")


def test_words_are_kept_to_the_letter():
    made = Words.of(["a", "a\0", "b ", "b"])
    assert made.levels == ("a", "a\0", "b", "b ")
    assert spelled(made.take(np.array([3, 0]))) == ["b", "a"]
