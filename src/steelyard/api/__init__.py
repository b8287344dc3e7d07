"""The Python face: the same jobs as the commands, in a call each."""

from steelyard.api.augmenting import augment
from steelyard.api.evaluating import evaluate
from steelyard.api.gates import compare_suites, gate, run_suite, save_baseline
from steelyard.api.ledgers import Ledgered, ledger
from steelyard.api.measuring import Kind, benchmark, carbon, compare, profile
from steelyard.api.models import explain_plan, load, optimize, predict, verify_folder
from steelyard.api.pages import render_report, save_figures, side_by_side
from steelyard.api.results import Compared, Drawn, Evaluated, Result
from steelyard.api.training import Trained, train
from steelyard.api.words import parse_budget, parse_share

__all__ = [
    "Compared",
    "Drawn",
    "Evaluated",
    "Kind",
    "Ledgered",
    "Result",
    "Trained",
    "augment",
    "benchmark",
    "carbon",
    "compare",
    "compare_suites",
    "evaluate",
    "explain_plan",
    "gate",
    "ledger",
    "load",
    "optimize",
    "parse_budget",
    "parse_share",
    "predict",
    "profile",
    "render_report",
    "run_suite",
    "save_baseline",
    "save_figures",
    "side_by_side",
    "train",
    "verify_folder",
]
