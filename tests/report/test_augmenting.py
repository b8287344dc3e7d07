"""The check of labels in words: shares and intervals against statsmodels, tables as they are read."""

from __future__ import annotations

import json

import pytest
from rich.console import Console
from statsmodels.stats.proportion import proportion_confint

from steelyard.records import Estimate, LabelCheck, Unavailable, decode, encode
from steelyard.report import augmenting

TYPO = LabelCheck(
    word="typo",
    value=0.1,
    examples=500,
    agreed=450,
    changed=400,
    disputed=30,
    shown=(("a good [b]", "a goof", "good", "bad"),),
)
FLIP = LabelCheck(word="flip", value=True, examples=500, agreed=450, changed=0, disputed=0)


def text(table: object) -> str:
    console = Console(width=120)
    with console.capture() as caught:
        console.print(table)
    return caught.get()


def test_the_share_is_of_changed_examples_with_wilsons_interval() -> None:
    found = augmenting.disputed(TYPO)
    assert isinstance(found, Estimate)
    assert (found.value, found.n) == (30 / 400, 400)
    assert (found.low, found.high) == pytest.approx(proportion_confint(30, 400, method="wilson"))


def test_a_word_that_changed_nothing_has_no_share() -> None:
    assert isinstance(augmenting.disputed(FLIP), Unavailable)
    assert "changed none" in text(augmenting.checks_table([TYPO, FLIP]))


def test_the_tables_say_what_was_asked_and_found() -> None:
    shown = text(augmenting.checks_table([TYPO]))
    assert "typo: 0.1" in shown
    assert "400 of 450" in shown
    assert "7.50 % (5.30-10.5" in shown
    assert "90.0 % of 500" in " ".join(shown.split())
    disputes = augmenting.disputes_table([TYPO, FLIP])
    assert "a good [b]" in text(disputes)
    assert augmenting.disputes_table([FLIP]) is None
    assert "was" in text(augmenting.rewrites_table([("it was", "it were")]))


def test_the_document_and_the_record_survive_json() -> None:
    [typo, flip] = json.loads(json.dumps(augmenting.checks_json([TYPO, FLIP])))
    assert (typo["disputed"], typo["share"]["method"], typo["shown"][0]["said"]) == (30, "Wilson", "bad")
    assert "changed none" in flip["share"]["unavailable"]
    assert decode(encode(TYPO)) == TYPO
