"""Checkpoints: whole or not at all, the last two kept, and a training that goes on bit for bit from wherever it was killed."""

from __future__ import annotations

import dataclasses
import errno
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from killed_training import RECIPES
from small_training import CONTRACT, held, net, some, weights
from steelyard.errors import InvalidInput
from steelyard.trainer import checkpoint
from steelyard.trainer.checkpoint import Checkpoints, read_checkpoint, write_checkpoint
from steelyard.trainer.examples import Examples
from steelyard.trainer.loop import fit
from steelyard.trainer.recipe import Recipe

RECIPE = Recipe(optimiser="adam", lr=0.01, epochs=2, batch=64, ema=0.9)


class Stop(Exception):
    """Someone pulled the plug."""


def plug(at: int) -> Callable[[int, float], None]:
    def tell(step: int, _share: float) -> None:
        if step == at:
            raise Stop

    return tell


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_with_the_weights_of_one_left_alone(tmp_path: Path) -> None:
    program = Path(__file__).parents[1] / "killed_training.py"
    ran = subprocess.run(
        [sys.executable, str(program), str(tmp_path)], capture_output=True, text=True, check=False, timeout=200
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout)
    assert set(found) == set(RECIPES)
    for name, row in found.items():
        assert row["equal"], name
    assert sum(row["kills"] for row in found.values()) >= 5


@pytest.mark.parametrize("at", [1, 4, 5, 6, 9, 10])
def test_stopped_at_a_step_it_goes_on_as_if_nothing_had_been(at: int, tmp_path: Path) -> None:
    """Within an epoch, at its end, and in the last step of all; five steps an epoch."""
    alone, ours = net(norm=True, dropout=0.4), net(norm=True, dropout=0.4)
    expected = fit(alone, some(), RECIPE, validation=held())
    with pytest.raises(Stop):
        fit(ours, some(), RECIPE, validation=held(), checkpoints=Checkpoints(tmp_path, every_steps=1), tell=plug(at))
    again = net(norm=True, dropout=0.4)
    history = fit(again, some(), RECIPE, validation=held(), checkpoints=Checkpoints(tmp_path, every_steps=1))
    assert torch.equal(weights(again), weights(alone))
    assert history.loss.tolist() == expected.loss.tolist()
    assert history.validation.tolist() == expected.validation.tolist()
    assert history.best_epoch == expected.best_epoch
    assert f"went on from the checkpoint at step {at}" in history.said
    assert len(list(tmp_path.glob("*.ckpt"))) == 2


def test_what_an_objective_learns_is_kept_too(tmp_path: Path) -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))

        def forward(self, model: nn.Module, batch: Any) -> torch.Tensor:
            return nn.functional.cross_entropy(self.scale * model(batch.inputs), batch.labels)

    alone, ours, again = Scaled(), Scaled(), Scaled()
    fit(net(), some(), RECIPE, objective=alone)
    with pytest.raises(Stop):
        fit(net(), some(), RECIPE, objective=ours, checkpoints=Checkpoints(tmp_path, every_steps=1), tell=plug(4))
    fit(net(), some(), RECIPE, objective=again, checkpoints=Checkpoints(tmp_path, every_steps=1))
    assert torch.equal(again.scale, alone.scale)
    assert alone.scale != 1


# --- files ---------------------------------------------------------------------------------------------


def _stopped(folder: Path, at: int = 4, **changes: Any) -> None:
    with pytest.raises(Stop):
        fit(
            net(),
            some(),
            dataclasses.replace(RECIPE, **changes),
            checkpoints=Checkpoints(folder, every_steps=1),
            tell=plug(at),
        )


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(damage: str, tmp_path: Path) -> None:
    alone = net()
    fit(alone, some(), RECIPE)
    _stopped(tmp_path)
    last = sorted(tmp_path.glob("*.ckpt"))[-1]
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes({"cut": bytes(content[: len(content) // 2]), "flipped": bytes(content), "empty": b""}[damage])
    again = net()
    history = fit(again, some(), RECIPE, checkpoints=Checkpoints(tmp_path, every_steps=100))
    assert history.said == (
        "checkpoint step-000000004.ckpt is damaged or cut off: going on from the one before",
        "went on from the checkpoint at step 3",
    )
    assert torch.equal(weights(again), weights(alone))


def test_a_full_disk_keeps_the_last_good_one_and_the_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full from the third checkpoint on, in the middle of its bytes."""
    real, written = checkpoint._Digested.write, 0

    def write(self: Any, content: bytes) -> int:
        nonlocal written
        if len(list(tmp_path.glob("*.ckpt"))) == 2:
            written += len(content)
            if written > 1000:
                self._error = self._error or OSError(errno.ENOSPC, "No space left on device")
        return int(real(self, content))

    monkeypatch.setattr(checkpoint._Digested, "write", write)
    model = net()
    history = fit(model, some(), RECIPE, checkpoints=Checkpoints(tmp_path, every_steps=1))
    assert len(history) == 10
    assert (
        history.said[0]
        == "the checkpoint at step 3 could not be written (No space left on device): the one before stays"
    )
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["step-000000001.ckpt", "step-000000002.ckpt"]
    assert read_checkpoint(tmp_path / "step-000000002.ckpt")["place"][1] == 2


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_met_as_a_full_disk_is(tmp_path: Path) -> None:
    """The kernel's own refusal, in a child: RLIMIT_FSIZE."""
    program = """
import resource, signal, sys
from pathlib import Path
import torch
from steelyard.trainer.checkpoint import write_checkpoint
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
path = Path(sys.argv[1])
write_checkpoint(path, {"a": torch.zeros(10)})
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    write_checkpoint(path, {"a": torch.zeros(100_000)})
except OSError as error:
    print(error.strerror)
"""
    path = tmp_path / "a.ckpt"
    ran = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert ran.stdout == "File too large\n"
    assert read_checkpoint(path)["a"].tolist() == [0.0] * 10
    assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]


def test_it_is_written_every_so_many_steps_or_seconds(tmp_path: Path) -> None:
    now = 0.0
    by_time = Checkpoints(tmp_path, every_s=10, clock=lambda: now)
    by_steps = Checkpoints(tmp_path, every_steps=3, clock=lambda: now)
    assert [step for step in range(1, 10) if by_steps.due(step)] == [3, 6, 9]
    now = 9.0
    assert not by_time.due(1)
    now = 10.0
    assert by_time.due(1)
    by_time.save(1, {"a": 1})
    assert not by_time.due(2)
    for step in (2, 3):
        by_time.save(step, {"a": step})
    (tmp_path / "step-000000009.part").touch()
    assert by_time.latest() == ({"a": 3}, [])
    by_time.clear()
    assert not list(tmp_path.iterdir())
    assert by_time.latest() == (None, [])


def test_a_file_that_holds_code_is_not_opened(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "a.ckpt", {"a": print})
    with pytest.raises(Exception, match="Weights only load failed"):
        read_checkpoint(tmp_path / "a.ckpt")


# --- another training's --------------------------------------------------------------------------------


def test_another_recipe_is_named(tmp_path: Path) -> None:
    _stopped(tmp_path)
    with pytest.raises(
        InvalidInput, match=r"the checkpoint's recipe has lr 0\.01, this one 0\.02: give the same again"
    ):
        fit(net(), some(), dataclasses.replace(RECIPE, lr=0.02), checkpoints=Checkpoints(tmp_path))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: net(norm=True), r"another net: 1\.weight is \(8,\) here, none there"),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 4, 3)),
            r"another net: 0\.weight is \(4, 1, 3, 3\) here, \(8, 1, 3, 3\) there",
        ),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 8, 3, stride=2), nn.Flatten()),
            r"another net: it has 4\.weight, this one has not",
        ),
    ],
)
def test_another_net_is_named_by_its_first_tensor_that_differs(make: Any, words: str, tmp_path: Path) -> None:
    _stopped(tmp_path)
    with pytest.raises(InvalidInput, match=words):
        fit(make(), some(), RECIPE, checkpoints=Checkpoints(tmp_path))


def test_other_data_and_another_subject_are_named(tmp_path: Path) -> None:
    _stopped(tmp_path)
    fewer = Examples(some().raw, some().labels[:200], CONTRACT)
    with pytest.raises(InvalidInput, match="of 300 other training examples, here are 200"):
        fit(net(), fewer, RECIPE, checkpoints=Checkpoints(tmp_path))
    with pytest.raises(InvalidInput, match=r"the checkpoint is of nothing named, this is other\.py"):
        fit(net(), some(), RECIPE, checkpoints=Checkpoints(tmp_path, of="other.py"))


def test_another_torch_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _stopped(tmp_path)
    monkeypatch.setattr("steelyard.trainer.loop._made_by", lambda: "torch 9 on 1 thread(s)")
    history = fit(net(), some(), RECIPE, checkpoints=Checkpoints(tmp_path))
    assert "this is torch 9 on 1 thread(s): the last bits may differ" in history.said[1]


def test_the_callers_random_states_are_left_as_they_were(tmp_path: Path) -> None:
    import random

    torch.manual_seed(3)
    np.random.seed(4)  # noqa: NPY002
    random.seed(5)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]  # noqa: NPY002
    _stopped(tmp_path)
    fit(net(), some(), RECIPE, checkpoints=Checkpoints(tmp_path))
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]  # noqa: NPY002
    assert random.getstate() == before[2]
