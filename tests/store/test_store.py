"""Run folders under the accidents that happen to them: two writers, a full disk, a kill, a damaged file."""

import errno
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from steelyard import records as r
from steelyard.errors import InvalidInput, RunFolderBusy, SchemaTooNew, StorageFull
from steelyard.records import encode
from steelyard.store import RunFolder, read_records

RUN = r.Run(
    command="optimize",
    spec=r.SubjectSpec(source="m.py"),
    contract=r.Contract(shape=(1,), layout="F"),
    requirements=(),
    budget_s=1.0,
    environment=r.Environment(
        machine="f00", cpu="c", cores=1, memory_bytes=1, instruction_sets=(), accelerators=(), platform="p",
        python="3", packages={}, time="t",
    ),
)  # fmt: skip


def trial(name="bf16"):
    return r.Trial(plan=r.Plan(steps=(r.Step(name=name),)), refusal=r.Refusal(kind="error", reason="because"))


def names(folder):
    return [str(t.plan) for t in read_records(folder).trials]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "run"
    with RunFolder(path) as run:
        run.append(RUN)
        run.append(trial("first"))
    return path


def test_records_are_grouped(folder):
    finding = (r.Finding(name="f", claim="c", evidence={}),)
    done = r.Outcome(status="met", chosen=r.Plan(), reason="why", wall_s=1.0)
    with RunFolder(folder) as run:
        run.append(finding)
        run.append(trial("second"))
        run.append(done)
        found = run.records()
    assert found == r.RunRecords(run=RUN, findings=finding, trials=(trial("first"), trial("second")), outcome=done)


def test_a_fresh_folder_holds_nothing(tmp_path):
    with RunFolder(tmp_path / "a" / "b") as run:
        assert run.records() is None


def test_a_record_is_on_disk_before_append_returns(folder):
    with RunFolder(folder) as run:
        run.append(trial("second"))
        assert names(folder) == ["first", "second"]


# --- two writers -----------------------------------------------------------------------------------


def test_a_second_writer_is_told(folder):
    with RunFolder(folder), pytest.raises(RunFolderBusy) as busy:
        RunFolder(folder)
    assert str(busy.value) == f"another run is writing to {folder}: wait for it, or give another --out"


def test_a_second_process_is_told(folder):
    code = "import sys, pathlib; from steelyard.store import RunFolder; RunFolder(pathlib.Path(sys.argv[1]))"
    with RunFolder(folder):
        other = subprocess.run([sys.executable, "-c", code, folder], capture_output=True, text=True, check=False)
    assert "RunFolderBusy" in other.stderr


def test_the_folder_is_free_again_after_the_writer(folder):
    with RunFolder(folder) as run:
        run.append(trial("second"))
    assert names(folder) == ["first", "second"]


def test_reading_is_free_while_another_writes(folder):
    with RunFolder(folder):
        assert names(folder) == ["first"]


# --- a full disk -----------------------------------------------------------------------------------


def test_a_full_disk_leaves_earlier_records_whole(folder, monkeypatch):
    before = (folder / "records.jsonl").read_bytes()
    write = os.write
    calls = []

    def half(descriptor, content):
        if calls:
            raise OSError(errno.ENOSPC, "No space left on device")
        calls.append(content)
        return write(descriptor, content[: len(content) // 2])

    with RunFolder(folder) as run:
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(StorageFull) as full:
            run.append(trial("second"))
        monkeypatch.undo()
        assert calls
        assert (folder / "records.jsonl").read_bytes() == before
        run.append(trial("third"))
    assert names(folder) == ["first", "third"]
    assert str(full.value) == (
        f"no space left to write {folder / 'records.jsonl'}; what was recorded before is safe: "
        "free some space and run the same command again to go on"
    )


def test_a_disk_that_fills_while_syncing_loses_that_record_only(folder, monkeypatch):
    def fail(_):
        raise OSError(errno.EDQUOT, "Disk quota exceeded")

    with RunFolder(folder) as run:
        monkeypatch.setattr(os, "fsync", fail)
        with pytest.raises(StorageFull):
            run.append(trial("second"))
        monkeypatch.undo()
        run.append(trial("third"))
    assert names(folder) == ["first", "third"]


def test_a_real_limit_on_file_size(folder):
    """The kernel cuts the write short (RLIMIT_FSIZE), as a full disk does."""
    limit = (folder / "records.jsonl").stat().st_size + 100
    code = textwrap.dedent(
        f"""
        import pathlib, resource, signal
        from steelyard import records as r
        from steelyard.errors import StorageFull
        from steelyard.store import RunFolder
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with RunFolder(pathlib.Path({str(folder)!r})) as run:
            resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
            try:
                run.append(r.Trial(plan=r.Plan(), refusal=r.Refusal(kind="error", reason="x" * 4000)))
            except StorageFull:
                print("full")
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            run.append(r.Trial(plan=r.Plan(), refusal=r.Refusal(kind="error", reason="again")))
        """
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "full\n"
    assert names(folder) == ["first", "baseline"]


# --- folders that cannot be written ----------------------------------------------------------------


@pytest.fixture
def as_nobody():
    """Permissions do not bind root, so the test becomes somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def open_tmp(tmp_path):
    """A folder that others can reach."""
    for path in (tmp_path, *tmp_path.parents):
        if path == Path("/tmp") or path.stat().st_uid != os.geteuid():
            break
        path.chmod(path.stat().st_mode | 0o055)
    return tmp_path


def test_a_read_only_folder_is_said(open_tmp, request):
    locked = open_tmp / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    request.getfixturevalue("as_nobody")
    with pytest.raises(InvalidInput) as refused:
        RunFolder(locked / "run")
    assert str(refused.value) == f"cannot write to {locked / 'run'}: Permission denied"


def test_records_that_cannot_be_read_are_said(folder, open_tmp, request):
    (folder / "records.jsonl").chmod(0o000)
    request.getfixturevalue("as_nobody")
    with pytest.raises(InvalidInput) as refused:
        read_records(folder)
    assert str(refused.value) == f"cannot read {folder / 'records.jsonl'}: Permission denied"


def test_a_file_in_the_way_is_said(tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(InvalidInput) as refused:
        RunFolder(tmp_path / "run")
    assert str(refused.value) == f"cannot write to {tmp_path / 'run'}: File exists"


# --- kills and damage ------------------------------------------------------------------------------


def _add(folder, text):
    with (folder / "records.jsonl").open("a") as file:
        file.write(text)


def test_a_torn_last_line_is_ignored_when_read_and_cut_when_opened(folder):
    whole = (folder / "records.jsonl").read_bytes()
    _add(folder, encode(trial("torn"))[:50])
    assert names(folder) == ["first"]
    with RunFolder(folder) as run:
        assert (folder / "records.jsonl").read_bytes() == whole
        run.append(trial("second"))
    assert names(folder) == ["first", "second"]


def test_a_last_line_without_its_end_counts_as_torn(folder):
    _add(folder, encode(trial("torn")))
    assert names(folder) == ["first"]


def test_a_run_killed_in_its_first_record_begins_again(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "records.jsonl").write_text(encode(RUN)[:80])
    with RunFolder(folder) as run:
        assert run.records() is None
        run.append(RUN)
    assert read_records(folder).run == RUN


def test_a_damaged_line_names_file_and_line(folder):
    _add(folder, "spam\n")
    _add(folder, encode(trial()) + "\n")
    with pytest.raises(InvalidInput) as refused:
        read_records(folder)
    assert str(refused.value) == (
        f"{folder / 'records.jsonl'}, line 3: not a Steelyard record: 'spam\\n' (Expecting value: line 1 column 1 (char 0))"
    )


def test_bytes_that_are_no_text_are_a_damaged_line(folder):
    with (folder / "records.jsonl").open("ab") as file:
        file.write(b"\xff\xfe\x00\n")
    with pytest.raises(InvalidInput, match=r"records\.jsonl, line 3: not a Steelyard record"):
        read_records(folder)


def test_a_newer_schema_names_file_and_line(folder):
    _add(folder, '{"schema":9,"record":{"type":"Prophecy"}}\n')
    with pytest.raises(SchemaTooNew) as refused:
        read_records(folder)
    assert str(refused.value) == (
        f"{folder / 'records.jsonl'}, line 3: records have schema 9, this Steelyard reads up to 2: "
        "upgrade it (pip install -U steelyard)"
    )


def test_a_folder_without_a_run_is_said(tmp_path):
    with pytest.raises(InvalidInput) as refused:
        read_records(tmp_path)
    assert str(refused.value) == f"{tmp_path} holds no run (no records.jsonl): give the folder that --out named"


def test_a_file_that_does_not_begin_with_a_run_is_said(tmp_path):
    (tmp_path / "records.jsonl").write_text(encode(trial()) + "\n")
    with pytest.raises(InvalidInput) as refused:
        read_records(tmp_path)
    assert str(refused.value) == (
        f"{tmp_path / 'records.jsonl'} does not begin with a run: it is not a Steelyard run folder"
    )
