"""Functions and commands as arms, in this process and in real ones."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.measure.arms import CALLABLE, COMMAND, Arm, CallableWorker, CommandWorker, load_callable, where
from steelyard.measure.process import Limits
from steelyard.measure.turns import ArmFailed, TurnSettings, log_ratios, rehearse, rounds
from steelyard.records import Sample

USER = """
import os, sys, time
import numpy as np
calls = []
def tiny(): calls.append(1)
def slow(): time.sleep(0.002)
def array(): return np.zeros((2, 3))
def nan(): return float("nan")
def takes(a, b=1): return a
def crashes():
    sys.stderr.write("about to go\\n"); sys.stderr.flush()
    os._exit(7)
def prints(): print("noise on stdout")
def hangs(): time.sleep(60)
def forks():
    if os.fork() == 0:
        time.sleep(60)
def raises(): raise ValueError("not today")
def leaks():
    global held
    held = bytearray(400_000_000)
    for at in range(0, len(held), 4096): held[at] = 1
    time.sleep(60)
class Kept:
    @staticmethod
    def method(): return 1
"""


@pytest.fixture
def user(tmp_path: Path) -> Path:
    file = tmp_path / "user.py"
    file.write_text(USER)
    return file


def test_a_function_is_found_by_file_and_qualified_name(user: Path) -> None:
    assert load_callable(user, "Kept.method")() == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("gone", "user.py has no function 'gone'; it has tiny, slow, array"),
        ("takes", "user.py:takes needs a: compare functions of no arguments"),
        ("Kept.gone", "has no function 'Kept.gone'"),
    ],
)
def test_what_cannot_be_called_is_refused(user: Path, name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_callable(user, name)


def test_a_file_that_cannot_be_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("import no_such_module_at_all")
    with pytest.raises(InvalidInput, match=r"bad.py cannot be run: ModuleNotFoundError"):
        load_callable(tmp_path / "bad.py", "f")
    with pytest.raises(InvalidInput, match="no such file"):
        load_callable(tmp_path / "gone.py", "f")


def test_functions_know_where_they_are() -> None:
    assert where(test_functions_know_where_they_are) == (Path(__file__).resolve(), "test_functions_know_where_they_are")


def test_what_no_process_could_find_again_is_refused_with_the_cure() -> None:
    def inner() -> None:
        return None

    for function in (lambda: None, inner, len):
        with pytest.raises(InvalidInput, match=r"cannot compare .*: .*top level of a .py file"):
            where(function)


def test_a_reading_of_a_tiny_function_is_many_calls(user: Path) -> None:
    worker = CallableWorker()
    worker.load(str(user), "tiny")
    worker.warm(seconds=0.01, batch=1)
    assert worker._number > 100
    times = worker.slot(seconds=0.01, batch=1)
    assert len(times) >= 3
    assert np.median(times) < 1e-5  # of one call, not of all that make a reading


def test_a_reading_of_a_long_function_is_one_call(user: Path) -> None:
    worker = CallableWorker()
    worker.load(str(user), "slow")
    worker.warm(seconds=0.0, batch=1)
    assert worker._number == 1
    assert worker.slot(seconds=0.0, batch=1).min() >= 0.002


@pytest.mark.parametrize(
    ("name", "given", "finite"),
    [("array", "ndarray of shape (2, 3)", True), ("nan", "a number", False), ("tiny", "NoneType", True)],
)
def test_what_the_first_call_gives_is_told(user: Path, name: str, given: str, finite: bool) -> None:
    worker = CallableWorker()
    worker.load(str(user), name)
    told = worker.first()
    assert (told["given"], told["finite"]) == (given, finite)


# --- commands ------------------------------------------------------------------------------------------


def command(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


def test_a_run_of_a_command_is_timed_from_start_to_exit() -> None:
    worker = CommandWorker()
    worker.load(command("import time; time.sleep(0.2); print('chatter' * 1000)"))
    worker.first()
    (seconds,) = worker.slot()
    assert seconds >= 0.2
    (cpu_s,) = worker.cpu()
    assert 0 < cpu_s < seconds + 0.2
    assert worker.peak() > 1e6


@pytest.mark.parametrize(
    ("code", "message"),
    [
        (
            "import sys; sys.stderr.write('first\\nthe reason\\n\\n'); sys.exit(3)",
            "exit status 3; its last words: the reason",
        ),
        ("import os; os.kill(os.getpid(), 11)", "signal SIGSEGV"),
        ("raise SystemExit(1)", "it ended with exit status 1"),
    ],
)
def test_a_command_that_fails_leaves_its_last_words(code: str, message: str) -> None:
    worker = CommandWorker()
    worker.load(command(code))
    with pytest.raises(WorkerFailed, match=message):
        worker.first()


def test_a_command_that_does_not_exist() -> None:
    worker = CommandWorker()
    worker.load(["/no/such/program"])
    with pytest.raises(InvalidInput, match="cannot run /no/such/program: No such file or directory"):
        worker.first()


# --- taking turns --------------------------------------------------------------------------------------

QUICK = TurnSettings(slots=2, slot_s=0.001, warm_s=0.005, rest_s=0.0)


def function(user: Path, name: str) -> Arm:
    return Arm(worker=CALLABLE, load={"file": str(user), "name": name})


def test_functions_take_turns_and_what_they_print_is_no_answer(user: Path) -> None:
    further = rounds(
        {"first": function(user, "slow"), "second": function(user, "prints")}, QUICK, done=4, spent_s=100.0
    )
    found = next(further)
    assert found.seconds.shape == (1, 2, 2)
    assert log_ratios(found, "second")[0] < 0  # printing is quicker than sleeping for 2 ms
    assert found.ended_s is not None
    assert found.ended_s[0] > 100.0
    memory = found.readings[0][0]
    assert isinstance(memory, Sample)
    assert memory.value > 1e6
    assert all(flag.startswith("round 5: ") for flag in found.flags)


def test_commands_take_turns_with_their_processor_time() -> None:
    arm = Arm(worker=COMMAND, load={"words": command("pass")})
    found = next(rounds({"first": arm, "second": arm}, QUICK))
    cpu_s = found.readings[1][1]
    assert isinstance(cpu_s, Sample)
    assert cpu_s.quantity == "cpu_s"
    assert len(cpu_s.values) == 2  # two slots, without the run that counts for nothing


@pytest.mark.parametrize(
    ("name", "kind", "message"),
    [
        ("crashes", "crash", "exit status 7; its last words: about to go"),
        ("hangs", "timeout", "no answer within 2 s, so it was stopped"),
        ("raises", "error", "ValueError: not today"),
        ("leaks", "out-of-memory", "the limit is 0.3 GB, so it was stopped"),
    ],
)
def test_whoever_fails_is_named(user: Path, tmp_path: Path, name: str, kind: str, message: str) -> None:
    arms = [function(user, "tiny"), function(user, name)]
    with pytest.raises(ArmFailed, match=message) as failed:
        rehearse(arms, QUICK, limits=Limits(seconds=2.0, memory_bytes=300_000_000), log=tmp_path / "workers.log")
    assert failed.value.arm == 1
    assert failed.value.kind == kind


def test_what_a_function_forks_ends_with_its_round(user: Path) -> None:
    import psutil

    next(rounds({"first": function(user, "tiny"), "second": function(user, "forks")}, QUICK))
    left = [p for p in psutil.process_iter(["cmdline"]) if shlex.join(p.info["cmdline"] or []).endswith(CALLABLE)]
    mine = [p for p in left if p.ppid() == psutil.Process().pid]
    assert mine == []


def test_a_rehearsal_tells_where_the_warm_up_ends(user: Path) -> None:
    found = rehearse([function(user, "slow")] * 2, TurnSettings(slots=2, slot_s=0.001, warm_s=0.1, rest_s=0.0))
    assert found.start_s > 0.2
    assert 0 < found.turn_s < found.start_s
    warm_s, unsteady = found.warm_s(0.01, 2.0)
    assert 0.01 <= warm_s <= 2.0
    assert set(unsteady) <= {0, 1}
