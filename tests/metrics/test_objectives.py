"""Objective profiles: data whose every metric exists for every task that it names."""

import pytest

from steelyard.errors import InvalidInput
from steelyard.metrics.objectives import choose, profiles, target_of
from steelyard.metrics.rows import STATIC
from steelyard.metrics.table import find
from steelyard.metrics.threshold import parse_target

PAIRS = [(name, task) for name, profile in profiles().items() for task in profile["tasks"]]


@pytest.mark.parametrize(("name", "task"), PAIRS)
def test_what_leads_and_what_stands_beside_it_are_metrics_of_the_task(name, task):
    found = choose(name, task)
    assert find(found.leads, task)
    assert len({find(other, task).name for other in (found.leads, *found.others)}) == 1 + len(found.others)
    assert len(found.why) > 40


@pytest.mark.parametrize("task", STATIC)
def test_every_task_has_a_usual_profile(task):
    assert task in profiles()[choose(None, task).name]["tasks"]


def test_the_profiles_of_the_issue_are_there():
    asked = {"medical-screening", "retrieval", "spam-filter", "imbalanced", "balanced", "ranking", "regression"}
    assert asked <= set(profiles())


@pytest.mark.parametrize("name", profiles())
def test_targets_can_be_read(name):
    target = target_of(choose(name, profiles()[name]["tasks"][0]))
    assert target is None or parse_target(target).least is not None


def test_an_unknown_profile_names_the_nearest():
    with pytest.raises(InvalidInput, match="nearest: medical-screening"):
        choose("medical-screning", "binary")


def test_a_profile_of_another_task_names_those_that_fit():
    with pytest.raises(InvalidInput, match=r"choose among .*regression"):
        choose("spam-filter", "regression")
