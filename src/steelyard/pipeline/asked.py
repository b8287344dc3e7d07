"""What a benchmark is asked to read, checked before anything is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from steelyard.errors import InvalidInput
from steelyard.measure.load import MOST_CALLERS
from steelyard.measure.loadgen import SCENARIOS, Name, check_loadgen
from steelyard.records import Requirement
from steelyard.verify.requirements import COSTS, parse_requirement

__all__ = ["Asked", "ask", "latency_limit", "quantile"]

BATCHES, CONCURRENCY, PERCENTILES = (1, 2, 4, 8, 16, 32), (1,), (50.0, 90.0, 99.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The grid of the sweep, the percentiles to show, MLPerf's scenarios, and the latency that is to be kept."""

    batches: tuple[int, ...] = BATCHES
    concurrency: tuple[int, ...] = CONCURRENCY
    percentiles: tuple[float, ...] = PERCENTILES
    scenarios: tuple[Name, ...] = ()
    target: Requirement | None = None
    stress: bool = False

    @property
    def requirements(self) -> tuple[Requirement, ...]:
        """The target as a run records it."""
        return () if self.target is None else (self.target,)

    @property
    def words(self) -> tuple[str, ...]:
        """The words of the command that differ from its defaults."""
        lists = (
            ("--batch", self.batches, BATCHES),
            ("--concurrency", self.concurrency, CONCURRENCY),
            ("--percentiles", self.percentiles, PERCENTILES),
            ("--scenario", self.scenarios, ()),
        )
        said = [w for flag, given, usual in lists if given != usual for w in (flag, ",".join(map(_short, given)))]
        said += [] if self.target is None else ["--target", self.target.text]
        return (*said, *(["--stress"] if self.stress else []))


def ask(
    batches: Sequence[int],
    concurrency: Sequence[int],
    percentiles: Sequence[float],
    scenarios: Sequence[str],
    target: str | None,
    *,
    stress: bool,
) -> Asked:
    """Raises `InvalidInput` for what no benchmark can read, `MissingExtra` for scenarios without LoadGen."""
    if not batches or min(batches) < 1:
        raise InvalidInput(f"batch sizes must be 1 or more, got {list(batches)}")
    if not concurrency or min(concurrency) < 1 or max(concurrency) > MOST_CALLERS:
        raise InvalidInput(f"numbers of callers must lie between 1 and {MOST_CALLERS}, got {list(concurrency)}")
    wrong = next((p for p in percentiles if not 0 < p < 100), None)
    if not percentiles or wrong is not None:
        raise InvalidInput(f"percentiles must lie between 0 and 100, such as 50,95,99.9; got {list(percentiles)}")
    if scenarios:
        check_loadgen()
    aim = None if target is None else latency_limit(target, "--target")
    shown = {float(p) for p in percentiles} | (set() if aim is None else {round(100 * quantile(aim), 6)})
    return Asked(
        batches=tuple(sorted(set(batches))),
        concurrency=tuple(sorted(set(concurrency))),
        percentiles=tuple(sorted(shown)),
        scenarios=tuple(dict.fromkeys(_scenario(name) for name in scenarios)),
        target=aim,
        stress=stress,
    )


def quantile(target: Requirement) -> float:
    """Of a requirement on a latency, 0 to 1; ``latency`` is the median.

    >>> quantile(parse_requirement("p99.9 <= 80 ms"))
    0.999
    """
    return round(float(target.quantity[1:]) / 100, 9) if target.quantity.startswith("p") else 0.5


def latency_limit(text: str, word: str) -> Requirement:
    """The latency that `text` says is to be kept. Raises `InvalidInput`, with the `word` it was given by, for anything else."""
    found = parse_requirement(text)
    if found.kind != "max" or COSTS.get(found.quantity) != "s":
        raise InvalidInput(f"{word} is a limit on a latency in time, such as 'p99 <= 35 ms'; got {text!r}")
    return found


def _scenario(name: str) -> Name:
    if name not in SCENARIOS:
        raise InvalidInput(f"there is no scenario {name!r}; MLPerf has {', '.join(SCENARIOS)}")
    return cast("Name", name)


def _short(value: object) -> str:
    """A number as it is typed.

    >>> _short(50.0), _short(99.9), _short("server")
    ('50', '99.9', 'server')
    """
    return f"{value:g}" if isinstance(value, int | float) else str(value)
