"""Readers of hypotheses and references: lines, CSV, TSV and JSON lines, whole and damaged."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from steelyard.errors import InvalidInput
from steelyard.metrics.fields.sentences import Texts, read_lines, read_table


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_lines_end_at_line_feeds_only(tmp_path):
    heard = written(tmp_path, "h.txt", "\ufeffa\u2028b\r\n\nc\x0bd")
    truth = written(tmp_path, "r.txt", "one\ntwo\nthree\n")
    other = written(tmp_path, "s.txt", "1\n2\n3\n")
    assert read_lines(heard, truth, other) == Texts(
        hypotheses=("a\u2028b", "", "c\x0bd"), references=(("one", "two", "three"), ("1", "2", "3"))
    )


def test_tables_of_all_kinds_agree(tmp_path):
    csv = 'doc,reference,hypothesis\nx,"a, b",c\ny,"d ""e""\nf",\n'
    tsv = 'doc\treference\thypothesis\nx\ta, b\tc\ny\t"d ""e""\nf"\t\n'
    jsonl = '{"doc": "x", "reference": "a, b", "hypothesis": "c"}\n\n{"doc": "y", "reference": "d \\"e\\"\\nf", "hypothesis": ""}\n'
    expected = Texts(hypotheses=("c", ""), references=(("a, b", 'd "e"\nf'),), clusters=("x", "y"))
    for name, content in (("t.csv", csv), ("t.tsv", tsv), ("t.jsonl", jsonl)):
        assert read_table(written(tmp_path, name, content), cluster="doc") == expected
    several = read_table(tmp_path / "t.csv", hypothesis="doc", references=("reference", "reference"))
    assert several.references == (expected.references[0],) * 2


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "reference,hypotesis\na,b\n", "line 1: no column 'hypothesis'; there are hypotesis"),
        ("t.csv", "", "no column 'hypothesis'; there are none"),
        ("t.csv", "reference,hypothesis\n", "no sentences"),
        ("t.csv", "reference,hypothesis\na,b,c\n", "line 2: 3 fields under 2 columns"),
        ("t.csv", "reference,hypothesis,reference\na,b,c\n", "'reference' stands twice"),
        ("t.csv", 'reference,hypothesis\n"a,b\n', "check the quotes"),
        ("t.csv", "reference,hypothesis\n,b\n", "reference 1 is empty"),
        ("t.csv", b"reference,hypothesis\n\xff\xfe,b\n", "not UTF-8"),
        ("t.jsonl", '{"reference": "a"\n', "line 1: not JSON"),
        ("t.jsonl", '{"reference": "a", "hypothesis": 3}\n', "line 1: hypothesis is 3, not text"),
        ("t.jsonl", "[1]\n", "line 1: not an object with the keys hypothesis, reference"),
        ("t.jsonl", "[" * 100_000, "line 1: not JSON"),
        ("t.xlsx", "x", r"not a \.csv, \.tsv or \.jsonl table"),
    ],
)
def test_damaged_tables_are_one_line(tmp_path, name, content, message):
    with pytest.raises(InvalidInput, match=message) as caught:
        read_table(written(tmp_path, name, content))
    assert "\n" not in str(caught.value)


def test_damaged_lines_are_one_line(tmp_path):
    heard, truth = written(tmp_path, "h.txt", "a\nb\n"), written(tmp_path, "r.txt", "a\n")
    with pytest.raises(InvalidInput, match="2 hypotheses but 1 references"):
        read_lines(heard, truth)
    with pytest.raises(InvalidInput, match="cannot read"):
        read_lines(heard, tmp_path / "absent.txt")
    with pytest.raises(InvalidInput, match="not UTF-8"):
        read_lines(heard, written(tmp_path, "bad.txt", b"\xff\n"))


@given(st.binary(max_size=200), st.sampled_from(["csv", "tsv", "jsonl"]))
def test_any_bytes_are_read_or_refused(tmp_path_factory, content, kind):
    path = tmp_path_factory.mktemp("fuzz") / f"t.{kind}"
    path.write_bytes(b"reference,hypothesis\n".replace(b",", b"\t" if kind == "tsv" else b",") + content)
    with contextlib.suppress(InvalidInput):
        texts = read_table(path)
        assert len(texts.hypotheses) == len(texts.references[0]) > 0
