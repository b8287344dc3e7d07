"""The fixture in a user's own tests: run by pytest's own pytester."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from gating_bench import measurement, optimize_run, processes

pytest_plugins = "pytester"

HERE = Path(__file__).parent
TESTS = """
    import pytest
    from types import SimpleNamespace

    def test_same(steelyard_gate):
        report = steelyard_gate(baseline="a", candidate="b", require=["latency <= 1.1x"])
        assert report.passed

    def test_slower(steelyard_gate):
        steelyard_gate(baseline="a", candidate="slow", require=["latency <= 1.1x"])

    def test_close(steelyard_gate):
        steelyard_gate(baseline="a", candidate="b", require=["latency <= 1x"])

    def test_close_and_strict(steelyard_gate):
        steelyard_gate(baseline="a", candidate="b", require=["latency <= 1x"], undecided="fail")

    def test_mistake(steelyard_gate):
        steelyard_gate(baseline="a", candidate="nix", require=["latency <= 1x"])

    @pytest.mark.parametrize("outcome", ["faster", "equivalent", "undecided"])
    @pytest.mark.parametrize("call", ["faster_than", "no_slower_than"])
    def test_code(steelyard_gate, monkeypatch, call, outcome):
        class Found(SimpleNamespace):
            def __str__(self):
                return f"mine is {outcome}"

        def compare(first, second, **words):
            assert (first, second, words["band"]) == ("old", "mine", "5%")
            return Found(outcome=outcome, compared=SimpleNamespace(names=("old", "mine")))

        monkeypatch.setattr("steelyard.api.compare", compare)
        getattr(steelyard_gate, call)("mine", "old", band="5%")
"""


def test_a_users_tests_pass_and_fail_by_the_verdict(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    for name, scale in (("a", 1.0), ("b", 1.0), ("slow", 1.5)):
        medians = 1e-3 * scale * np.exp(rng.normal(0, 0.01, 10))
        optimize_run(pytester.path / name, measurement(processes(medians)))
    pytester.makepyfile(TESTS)
    ran = pytester.runpytest_subprocess("-p", "no:cacheprovider", "--junit-xml", "j.xml", "-o", "junit_family=xunit1")
    ran.assert_outcomes(passed=2 + 1 + 2, failed=3 + 2 + 1)
    ran.stdout.fnmatch_lines(
        [
            "Gate failed: 1 broken.",
            "*broken *latency <= 1.1x: measured 1.*",
            "steelyard: nix is not there*",
            "mine is not shown to be faster than old: mine is equivalent",
            "*= steelyard: undecided =*",
            "*test_close: latency <= 1x: *",
        ]
    )
    assert (
        "test_close_and_strict: latency"
        not in ran.stdout.str().partition("steelyard: undecided")[2].partition("short")[0]
    )
    cases = {case.attrib["name"]: case for case in ElementTree.parse(pytester.path / "j.xml").iter("testcase")}
    (told,) = cases["test_same"].iter("property")
    assert told.attrib["name"] == "steelyard: latency <= 1.1x"
    assert told.attrib["value"].startswith("met: ")


def test_loading_the_plug_in_costs_pytest_nothing() -> None:
    """It comes with every session where Steelyard is installed."""
    code = "import pytest, sys; before = set(sys.modules); import steelyard.pytest_plugin; print(*sorted(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) == {"steelyard", "steelyard.pytest_plugin"}
