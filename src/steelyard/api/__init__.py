"""The Python face: the same jobs as the commands, in a call each."""

from steelyard.api.evaluating import evaluate
from steelyard.api.gates import compare_suites, gate, run_suite, save_baseline
from steelyard.api.measuring import Kind, benchmark, carbon, compare, profile
from steelyard.api.models import load, optimize, verify_folder
from steelyard.api.pages import render_report, save_figures, side_by_side
from steelyard.api.results import Compared, Drawn, Evaluated, Result
from steelyard.api.words import parse_budget, parse_share

__all__ = [
    "Compared",
    "Drawn",
    "Evaluated",
    "Kind",
    "Result",
    "benchmark",
    "carbon",
    "compare",
    "compare_suites",
    "evaluate",
    "gate",
    "load",
    "optimize",
    "parse_budget",
    "parse_share",
    "profile",
    "render_report",
    "run_suite",
    "save_baseline",
    "save_figures",
    "side_by_side",
    "verify_folder",
]
