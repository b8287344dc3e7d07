"""The bundle of the pages' scripts is made once and read back only as it was written."""

import pytest

from steelyard.report.library import kept


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "steelyard"


def never():
    raise AssertionError("made anew")


def test_what_was_made_once_is_read_back_to_the_character(cache):
    made = "let a = 'é';\r\nlet b;\n"
    assert kept("x.js", lambda: made) == made
    assert kept("x.js", never) == made
    assert [path.name for path in cache.iterdir()] == ["x.js"]


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b.replace(b"right", b"wrong"), lambda b: b"", lambda b: b"\xff"]
)
def test_a_damaged_file_is_made_anew(cache, damage):
    kept("x.js", lambda: "right")
    path = cache / "x.js"
    path.write_bytes(damage(path.read_bytes()))
    assert kept("x.js", lambda: "again") == "again"
    assert kept("x.js", never) == "again"


def test_a_file_of_another_user_is_not_trusted(cache, monkeypatch):
    kept("x.js", lambda: "theirs")
    monkeypatch.setattr("os.getuid", lambda: -1)
    assert kept("x.js", lambda: "mine") == "mine"


def test_a_folder_that_cannot_be_written_costs_only_time(cache):
    cache.write_text("a file where the folder should be")
    assert kept("x.js", lambda: "made") == "made"


def test_a_relative_cache_folder_is_ignored(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    monkeypatch.setenv("HOME", str(tmp_path))
    kept("x.js", lambda: "made")
    assert (tmp_path / ".cache" / "steelyard" / "x.js").is_file()


def test_what_making_raises_is_not_hidden(cache):
    with pytest.raises(AssertionError):
        kept("x.js", never)
