"""Steelyard puts a deep-learning model on the scale, makes it better, and proves the result.

>>> import steelyard
>>> result = steelyard.optimize("model.py", data="DIR", require=["accuracy drop <= 0.5%"])  # doctest: +SKIP
>>> model = steelyard.load(result.best)  # doctest: +SKIP

Names are loaded when first used, so that importing Steelyard costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steelyard.api import (
        Compared,
        Evaluated,
        Ledgered,
        Result,
        Trained,
        augment,
        benchmark,
        callbacks,
        carbon,
        compare,
        compare_suites,
        evaluate,
        gate,
        ledger,
        load,
        optimize,
        predict,
        profile,
        render_report,
        run_suite,
        save_baseline,
        side_by_side,
        torch,
        train,
        verify_folder,
    )
    from steelyard.measure.window import window
    from steelyard.pipeline.watching import training
    from steelyard.records import Contract
    from steelyard.subject.deployed import Model
    from steelyard.subject.splits import Split, Splits
    from steelyard.subject.subject import Subject

__version__ = "0.1.0"

__all__ = [
    "Compared",
    "Contract",
    "Evaluated",
    "Ledgered",
    "Model",
    "Result",
    "Split",
    "Splits",
    "Subject",
    "Trained",
    "__version__",
    "augment",
    "benchmark",
    "callbacks",
    "carbon",
    "compare",
    "compare_suites",
    "evaluate",
    "gate",
    "ledger",
    "load",
    "optimize",
    "predict",
    "profile",
    "render_report",
    "run_suite",
    "save_baseline",
    "side_by_side",
    "torch",
    "train",
    "training",
    "verify_folder",
    "window",
]

_HOMES = {
    "Compared": "api",
    "Contract": "records",
    "Evaluated": "api",
    "Ledgered": "api",
    "Model": "subject.deployed",
    "Result": "api",
    "Split": "subject.splits",
    "Splits": "subject.splits",
    "Subject": "subject.subject",
    "Trained": "api",
    "augment": "api",
    "benchmark": "api",
    "carbon": "api",
    "compare": "api",
    "evaluate": "api",
    "gate": "api",
    "ledger": "api",
    "load": "api",
    "optimize": "api",
    "predict": "api",
    "profile": "api",
    "run_suite": "api",
    "compare_suites": "api",
    "render_report": "api",
    "save_baseline": "api",
    "side_by_side": "api",
    "train": "api",
    "training": "pipeline.watching",
    "verify_folder": "api",
    "window": "measure.window",
}
_MODULES = {"callbacks": "api.callbacks", "torch": "api.torch"}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"steelyard.{_MODULES[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module 'steelyard' has no attribute {name!r}")
    return getattr(import_module(f"steelyard.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
