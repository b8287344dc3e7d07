"""A child that answers, and every way in which one can fail to."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from steelyard.errors import CannotApply, InvalidInput, MissingExtra, SteelyardError, WorkerFailed
from steelyard.measure.process import Child, Limits

TARGET = "misbehaving:Misbehaving"
pytestmark = pytest.mark.usefixtures("on_path")


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "child.log"


@pytest.fixture
def child(log: Path) -> Iterator[Child]:
    with Child(TARGET, limits=Limits(seconds=30), log=log) as running:
        yield running


def _gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def _soon(happens: Callable[[], bool], seconds: float = 10) -> bool:
    deadline = time.monotonic() + seconds
    while not happens() and time.monotonic() < deadline:
        time.sleep(0.02)
    return happens()


def test_answers_call_after_call(child: Child) -> None:
    assert child.call("add", one=2, other=3) == 5
    assert child.call("add", one="a", other="b") == "ab"
    assert child.call("pid") == child.pid != os.getpid()


def test_children_work_at_the_same_time(child: Child) -> None:
    with Child(TARGET, limits=Limits(seconds=30)) as other:
        child.start("add", one=1, other=1)
        other.start("add", one=2, other=2)
        assert (child.result(), other.result()) == (2, 4)


def test_arguments_and_answers_bigger_than_a_pipe_buffer(child: Child) -> None:
    assert len(child.call("big", size=20_000_000)) == 20_000_000
    assert child.call("length", content=bytes(20_000_000)) == 20_000_000


def test_what_the_child_prints_goes_to_the_log(child: Child, log: Path) -> None:
    assert child.call("prints") == "answer"
    assert child.call("add", one=1, other=1) == 2
    text = log.read_text()
    assert all(part in text for part in ("on stdout", "on stderr", "straight to descriptor 1", "from a grandchild"))


def test_a_crash_is_named_with_its_last_words(child: Child) -> None:
    with pytest.raises(WorkerFailed, match=r"signal SIGSEGV; its last words: about to touch address 0") as caught:
        child.call("crashes")
    assert caught.value.kind == "crash"
    assert _gone(child.pid)


def test_a_crash_without_a_log_is_still_a_crash() -> None:
    with Child(TARGET, limits=Limits(seconds=30)) as child, pytest.raises(WorkerFailed) as caught:
        child.call("crashes")
    assert caught.value.kind == "crash"
    assert str(caught.value) == "the process ended with signal SIGSEGV"


def test_last_words_are_its_own(child: Child, log: Path) -> None:
    child.call("prints")
    with Child(TARGET, limits=Limits(seconds=30), log=log) as other:
        with pytest.raises(WorkerFailed) as caught:
            other.call("is_killed")
        assert "words" not in str(caught.value)
        assert not other.alive
    with Child(TARGET, limits=Limits(seconds=30), log=log) as other, pytest.raises(WorkerFailed) as caught:
        other.call("leaves_silently")
    assert str(caught.value) == "the process ended with exit status 4"
    assert child.alive


def test_a_child_that_exits_is_a_crash(child: Child) -> None:
    with pytest.raises(WorkerFailed, match="exit status 1; its last words: had enough") as caught:
        child.call("leaves")
    assert caught.value.kind == "crash"


def test_a_child_that_closes_its_pipe_and_lives_on_is_ended(child: Child) -> None:
    with pytest.raises(WorkerFailed) as caught:
        child.call("goes_silent")
    assert caught.value.kind == "crash"
    assert _gone(child.pid)


def test_a_kill_from_outside_is_taken_for_want_of_memory(child: Child) -> None:
    with pytest.raises(WorkerFailed, match="SIGKILL") as caught:
        child.call("is_killed")
    assert caught.value.kind == "out-of-memory"


def test_calls_after_the_end_say_how_it_ended(child: Child) -> None:
    with pytest.raises(WorkerFailed):
        child.call("crashes")
    with pytest.raises(WorkerFailed):
        child.call("add", one=1, other=1)


@pytest.mark.parametrize("method", ["hangs", "hangs_in_c"])
def test_a_hang_is_a_timeout(log: Path, method: str) -> None:
    with Child(TARGET, limits=Limits(seconds=30), log=log) as child:
        child.call("add", one=1, other=1)
        child._limits = child._limits._replace(seconds=0.5)
        with pytest.raises(WorkerFailed, match="no answer within") as caught:
            child.call(method)
        assert caught.value.kind == "timeout"
        assert _gone(child.pid)


def test_the_time_limit_of_less_than_a_second_is_named_as_it_is() -> None:
    with Child(TARGET, limits=Limits(seconds=0.3)) as child, pytest.raises(WorkerFailed, match=r"within 0\.3 s"):
        child.call("hangs")


def test_more_threads_than_the_limit_are_stopped(log: Path) -> None:
    with Child(TARGET, limits=Limits(seconds=60, threads=100), log=log) as child:
        with pytest.raises(WorkerFailed, match=r"it ran [\d,]+ threads, the limit is 100") as caught:
            child.call("starts_threads", count=400)
        assert caught.value.kind == "threads"
        assert _gone(child.pid)


def test_a_fork_bomb_ends_with_all_its_children(log: Path) -> None:
    with Child(TARGET, limits=Limits(seconds=60, threads=150), log=log) as child:
        with pytest.raises(WorkerFailed, match="threads") as caught:
            child.call("forks_on_and_on")
        assert caught.value.kind == "threads"
        words = b"misbehaving:Misbehaving"
        assert _soon(lambda: not [p for p in psutil.process_iter() if _runs(p, words) and p.pid != child.pid])


def _runs(process: psutil.Process, words: bytes) -> bool:
    """Whether it is one of the test's children, and alive."""
    try:
        ours = Path(f"/proc/{process.pid}/cmdline").read_bytes()
        return words in ours and process.status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.Error):
        return False


@pytest.mark.parametrize(("method", "words"), [("writes_beyond_the_limit", "File too large"), ("writes_to_a_full_disk", "No space")])  # fmt: skip
def test_a_full_disk_is_named_as_such(child: Child, tmp_path: Path, method: str, words: str) -> None:
    given = {"path": str(tmp_path / "big")} if "limit" in method else {}
    with pytest.raises(WorkerFailed, match=words) as caught:
        child.call(method, **given)
    assert caught.value.kind == "disk-full"
    assert child.call("add", one=1, other=1) == 2  # the process lives on


@pytest.mark.parametrize("method", ["fills", "fills_in_a_grandchild"])
def test_memory_beyond_the_limit_is_stopped(log: Path, method: str) -> None:
    with Child(TARGET, limits=Limits(seconds=60, memory_bytes=300_000_000), log=log) as child:
        with pytest.raises(WorkerFailed, match=r"the limit is 0\.3 GB") as caught:
            child.call(method, size=600_000_000)
        assert caught.value.kind == "out-of-memory"
        assert _gone(child.pid)


@pytest.mark.parametrize("method", ["cannot_allocate", "engine_cannot_allocate"])
def test_a_failed_allocation_is_out_of_memory(child: Child, method: str) -> None:
    with pytest.raises(WorkerFailed, match="memory") as caught:
        child.call(method)
    assert caught.value.kind == "out-of-memory"
    assert child.call("add", one=1, other=1) == 2  # it lives and can be asked again


def test_an_unexpected_error_comes_as_one_line(child: Child, log: Path) -> None:
    with pytest.raises(WorkerFailed) as caught:
        child.call("fails")
    assert (caught.value.kind, str(caught.value)) == ("error", "ValueError: the answer is not 42")
    assert "Traceback" in log.read_text()


def test_an_unknown_method_is_an_error(child: Child) -> None:
    with pytest.raises(WorkerFailed, match="AttributeError"):
        child.call("fly")


def test_an_answer_that_cannot_be_sent_is_a_failure(child: Child) -> None:
    with pytest.raises(WorkerFailed):
        child.call("unpicklable")


def test_a_worker_that_cannot_be_made_is_a_crash(log: Path) -> None:
    with Child("misbehaving:Nobody", limits=Limits(seconds=30), log=log) as child:
        with pytest.raises(WorkerFailed, match="no attribute 'Nobody'") as caught:
            child.call("add", one=1, other=1)
        assert caught.value.kind == "crash"


@pytest.mark.parametrize(
    ("name", "kind", "text"),
    [
        ("missing", MissingExtra, "this test needs the 'onnx' extra: pip install 'steelyard[onnx]'"),
        ("failed", WorkerFailed, "differs by 3"),
        ("cannot", CannotApply, "does not fit"),
        ("invalid", InvalidInput, "bits must be 4 or 8, got 3"),
    ],
)
def test_errors_of_ours_arrive_as_themselves(child: Child, name: str, kind: type[SteelyardError], text: str) -> None:
    with pytest.raises(kind) as caught:
        child.call("raises", kind=name)
    assert type(caught.value) is kind
    assert str(caught.value) == text
    assert getattr(caught.value, "kind", "parity") == "parity"
    assert getattr(caught.value, "extra", "onnx") == "onnx"


def test_what_the_child_started_ends_with_it(tmp_path: Path) -> None:
    with Child(TARGET, limits=Limits(seconds=30)) as child:
        assert child.call("litter", folder=str(tmp_path), count=40) == 40
        assert _soon(
            lambda: sum(bool(path.read_text()) for path in tmp_path.glob("*.pid")) == 40
        )  # each writes its own
        pids = [int(path.read_text()) for path in tmp_path.glob("*.pid")]
        assert not any(map(_gone, pids))
    assert _soon(lambda: all(map(_gone, pids)))


def test_closing_twice_is_harmless(child: Child) -> None:
    child.close()
    child.close()


PARENT = """
import sys, time
from steelyard.measure.process import Child
child = Child("misbehaving:Misbehaving")
print(child.call("pid"), flush=True)
if sys.argv[1] == "busy":
    child.start("hangs_in_c")
time.sleep(120)
"""


@pytest.mark.parametrize("child_is", ["idle", "busy"])
def test_kill_9_of_the_parent_ends_the_child(child_is: str) -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT, child_is], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        assert not _gone(pid)
        parent.send_signal(signal.SIGKILL)
    assert _soon(lambda: _gone(pid))
