"""One small run from words to folder, made once and shared; others start from copies of it."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import tiny_models
from steelyard import api
from steelyard.api import Result
from steelyard.measure.turns import TurnSettings
from steelyard.measure.weigh import WeighSettings
from steelyard.pipeline import begin, explore, optimize, prove
from steelyard.records import Plan, Step

PLANS = (Plan(steps=(Step(name="openvino"),)), Plan(steps=(Step(name="quantize_static"),)))
REQUIRE = ("accuracy drop <= 6%", "latency <= 20x")  # what noise cannot break
SHORT: tuple[tuple[Any, str, Any], ...] = (
    (optimize, "plans_for", lambda _space: PLANS),
    (explore, "plans_for", lambda _space: PLANS),
    (explore, "proposer_for", lambda _space: None),
    (optimize, "shared_folder", lambda: None),
    (explore, "proof_s", lambda _start_s: 0.5),
    (optimize, "_stands", lambda *_: False),  # in three rounds a candidate may seem slower, and is chosen all the same
    (prove, "ROUNDS", 3),
    (prove, "_turn_settings", lambda _arms, _left_s: TurnSettings(rounds=3, slots=4, warm_s=0.05)),
    (
        optimize,
        "WeighSettings",
        functools.partial(WeighSettings, warm_s=0.05, latency_s=0.1, sweep=(1, 4), sweep_s=0.05),
    ),
)
DECLARED = {"scale": "1/255", "mean": "0.3", "std": "0.35"}


class Run(NamedTuple):
    """A finished run and the words that made it."""

    source: Path
    result: Result
    told: list[tuple[str, float | None]]


@pytest.fixture(scope="session")
def _short() -> Iterator[None]:
    """Two plans, three rounds and short readings, which is enough to see every step."""
    with pytest.MonkeyPatch.context() as patch:
        for module, name, value in SHORT:
            patch.setattr(module, name, value)
        yield


@pytest.fixture(scope="session")
def finished(_short: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    root = tmp_path_factory.mktemp("run")
    source = tiny_models.write_onnx(root / "tiny.onnx")
    told: list[tuple[str, float | None]] = []
    result = api.optimize(
        source,
        data="digits",
        require=REQUIRE,
        budget="2s",  # enough for one of the two plans
        out=root / "out",
        progress=lambda what, share: told.append((what, share)),
        **DECLARED,
    )
    return Run(source, result, told)


@pytest.fixture
def known_peaks(finished: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this machine's ceilings from the finished run; measuring them takes seconds."""
    monkeypatch.setattr(begin, "measure_peaks", lambda: finished.result.records.run.peaks)


@pytest.fixture
def again(finished: Run, tmp_path: Path) -> Callable[..., Result]:
    """The same words on a copy of the finished run's folder, with what a test changes."""

    def run(**changed: Any) -> Result:
        out = tmp_path / "again"
        if not out.exists():
            shutil.copytree(finished.result.folder, out)
        words = {"data": "digits", "require": REQUIRE, "budget": "2s", "out": out, **DECLARED, **changed}
        return api.optimize(finished.source, **words)

    return run
