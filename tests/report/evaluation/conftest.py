"""The example evaluations and their pages, made once."""

from __future__ import annotations

import pytest

from report import example_evaluation as example
from steelyard.records import Evaluation
from steelyard.report.evaluation.page import render_evaluation


@pytest.fixture(scope="session")
def evaluations() -> dict[str, Evaluation]:
    return {name: make() for name, make in example.EXAMPLES.items()}


@pytest.fixture(scope="session")
def pages(evaluations: dict[str, Evaluation]) -> dict[str, str]:
    return {name: render_evaluation(evaluation) for name, evaluation in evaluations.items()}
