"""Two processes against one: the same weights, losses and scores; and what is said when one of them fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import parallel_work
from steelyard.errors import InvalidInput, WorkerFailed
from steelyard.pipeline import parallel
from steelyard.pipeline.parallel import launch

TESTS = Path(__file__).parents[1]


SAID: list[tuple[str, float | None]] = []


@pytest.fixture(scope="module")
def two() -> Any:
    """What two ranks made of everything."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS))
        return launch(
            "parallel_work:everything", 2, {}, threads=1, progress=lambda what, share: SAID.append((what, share))
        )


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("PYTHONPATH", str(TESTS))
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("name", list(parallel_work.CASES))
def test_two_processes_make_what_one_makes(two: Any, name: str) -> None:
    case = {key: value for key, value in parallel_work.CASES[name].items() if key != "spread"}
    one, both = parallel_work.trained(**case), two[name]
    assert both["weights"].keys() == one["weights"].keys()
    for key, value in one["weights"].items():
        np.testing.assert_allclose(both["weights"][key], value, rtol=0, atol=1e-6, err_msg=key)
    np.testing.assert_allclose(both["loss"], one["loss"], rtol=1e-5)
    assert both["examples"].tolist() == one["examples"].tolist()
    assert both["validation"].tolist() == one["validation"].tolist()  # 41 examples on two ranks: each counts once


def test_stages_make_what_one_process_makes(two: Any) -> None:
    one, both = parallel_work.trained(50), two["staged"]
    for key, value in one["weights"].items():
        np.testing.assert_allclose(both["weights"][key], value, rtol=0, atol=1e-6, err_msg=key)
    np.testing.assert_allclose(both["loss"], one["loss"], rtol=1e-5)


@pytest.mark.parametrize("name", ["uneven", "idle"])
def test_batch_normalisation_is_pytorchs_over_all_examples(two: Any, name: str) -> None:
    norm, inputs, weight = parallel_work.norm_case()
    given = inputs.clone().requires_grad_()
    (norm(given) * weight).sum().backward()
    found = two["norms"][name]
    np.testing.assert_allclose(found["inputs"], given.grad.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found["weights"][0], norm.weight.grad.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["weights"][1], norm.bias.grad.numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found["mean"], norm.running_mean.numpy(), rtol=1e-6)
    np.testing.assert_allclose(found["var"], norm.running_var.numpy(), rtol=1e-5)
    assert found["batches"] == 1


def test_gradients_are_counted_to_the_byte(two: Any) -> None:
    weights = sum(p.numel() for p in parallel_work.net().parameters())
    sent = two["plain"]["sent_bytes"]
    assert sent.tolist() == [4 * weights] * 6  # fp32, once a step
    assert (two["plain"]["sending_s"] > 0).all()
    assert two["accumulated"]["sent_bytes"].tolist() == [4 * weights] * 6  # however many batches a step has


def test_a_stopped_training_goes_on_bit_for_bit(two: Any) -> None:
    found = two["resumed"]
    assert found["equal"]
    assert "went on from the checkpoint at step 2" in found["said"]
    assert found["files"] == [2, 2]  # the first rank's alone, the last two


def test_ranks_agree_on_numbers(two: Any) -> None:
    found = two["agreed"]
    assert found["totals"] == [3.0, 30.0]
    assert np.isnan(found["nan"][0])
    assert found["first"] == 1.0


def test_what_rank_0_says_is_passed_on(two: Any) -> None:
    assert {what for what, _ in SAID} & set(parallel_work.CASES)
    assert all(0 <= (share or 0) < 1 for _, share in SAID)


def test_a_rank_that_dies_ends_the_others_and_is_named() -> None:
    with pytest.raises(WorkerFailed, match=r"rank 1 of 2 failed: .*SIGKILL.*; the other was stopped"):
        launch("parallel_death:killed", 2, {}, threads=1)


class Scripted:
    """A child that answers after some looks; an error is raised, and None never comes."""

    def __init__(self, answer: object, looks: int = 0) -> None:
        self._answer, self._looks = answer, looks

    @property
    def settled(self) -> bool:
        self._looks -= 1
        return self._looks < 0 and self._answer is not None

    def result(self) -> object:
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer


LOST = WorkerFailed("error", "RuntimeError: connection closed by peer")


@pytest.mark.parametrize(
    ("children", "error", "said"),
    [
        ([LOST, WorkerFailed("crash", "it ended")], WorkerFailed, "rank 1 of 2 failed: it ended; the other was"),
        ([LOST, LOST, InvalidInput("example 7")], InvalidInput, "example 7"),
        ([None, InvalidInput("example 7")], InvalidInput, "example 7"),
        ([InvalidInput("bad"), InvalidInput("bad")], InvalidInput, "bad"),
        ([WorkerFailed("out-of-memory", "full"), LOST, LOST], WorkerFailed, "rank 0 of 3 .*; the other 2 were"),
    ],
)
def test_the_first_cause_is_named(
    children: list[Any], error: type[Exception], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parallel, "_GRACE_S", 0.2)  # for ranks that wait for ever
    with pytest.raises(error, match=said):
        parallel._answers([Scripted(answer, i) for i, answer in enumerate(children)], lambda: None)  # type: ignore[misc]


def test_answers_come_in_the_order_of_ranks() -> None:
    looks: list[int] = []
    assert parallel._answers([Scripted("a", 3), Scripted("b")], lambda: looks.append(1)) == ["a", "b"]  # type: ignore[list-item]
    assert len(looks) > 2


@pytest.mark.parametrize(
    ("words", "said"), [({"processes": 0}, "must be 1 or more"), ({"processes": 2, "device": "tpu"}, "on cpu or cuda")]
)
def test_words_that_make_no_sense_are_refused(words: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        launch("parallel_death:killed", arguments={}, **words)
