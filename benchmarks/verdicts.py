"""How often verdicts on time are right, where the truth is known: `steelyard compare`'s protocol and its rivals.

    python -m benchmarks.verdicts --arm idle --comparisons 100
    python -m benchmarks.verdicts --arm stress --comparisons 100 --minutes 240
    python -m benchmarks.verdicts --table

One comparison times four pieces of work: fixed work, the same again, exactly 2 % more, exactly 5 % more
(`steelyard.measure.workload`). Steelyard judges them as `doctor --self-test` does, with a band of 1 %. Then each rival
times the same four, one after the other, in the seconds that Steelyard took. `--arm stress` runs `stress-ng --cpu 1` on
the last core, and everything that is measured on the others.

Every comparison is appended to `results/verdicts-ARM.jsonl` at once, so that a stopped benchmark goes on. Writes
`results/verdicts.md`.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

from steelyard.measure import workload
from steelyard.pipeline.selftest import BAND, INJECTED, found, one_comparison
from steelyard.probe.host import environment
from steelyard.records import Comparison, decode, encode
from steelyard.report.numbers import significant
from steelyard.stats.proportion import clopper_pearson

RESULTS = Path(__file__).parent / "results"
WORK = {
    "base": workload.base,
    "again": workload.base,
    "two": workload.two_percent_more,
    "five": workload.five_percent_more,
}
CALLS = 2_000  # of the work in one run of the command that hyperfine times
Verdict = tuple[str, str, float]  # arm, outcome, seconds


def main() -> None:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--arm", choices=["idle", "stress"], default="idle")
    words.add_argument("--comparisons", type=int, default=100, help="how many there should be in all")
    words.add_argument("--minutes", type=float, default=float("inf"))
    words.add_argument("--no-rivals", action="store_true")
    words.add_argument("--table", action="store_true", help="only write the table again")
    words.add_argument("--rival", choices=["torch", "plain", "command"], help=argparse.SUPPRESS)
    words.add_argument("--work", choices=list(WORK), default="base", help=argparse.SUPPRESS)
    words.add_argument("--seconds", type=float, default=4.0, help=argparse.SUPPRESS)
    asked = words.parse_args()
    if asked.rival:
        in_child(asked.rival, asked.work, asked.seconds)
        return
    if not asked.table:
        with loaded(asked.arm):
            measure(asked.arm, asked.comparisons, time.monotonic() + 60 * asked.minutes, rivals=not asked.no_rivals)
    text = "\n".join(page())
    (RESULTS / "verdicts.md").write_text(text)
    print(text)


def measure(arm: str, comparisons: int, end: float, *, rivals: bool) -> None:
    path = RESULTS / f"verdicts-{arm}.jsonl"
    done = len(read(path))
    while done < comparisons and time.monotonic() < end:
        began = time.perf_counter()
        comparison = one_comparison(done)
        seconds = time.perf_counter() - began
        line: dict[str, Any] = {
            "n": done,
            "cpu": environment().cpu,
            "cores": os.cpu_count(),
            "wall_s": seconds,
            "comparison": json.loads(encode(small(comparison))),
        }
        if rivals:
            line["torch"] = child("torch", seconds)
            line["plain"] = child("plain", seconds)
            line["hyperfine"] = hyperfine(seconds)
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        done += 1
        said = ", ".join(f"{f.arm} {f.outcome} ({f.seconds:.0f} s)" for f in found(comparison))
        print(f"{done} of {comparisons}: {said}", file=sys.stderr, flush=True)


def small(comparison: Comparison) -> Comparison:
    """Seven digits of a time are enough."""
    return dataclasses.replace(
        comparison,
        seconds=comparison.seconds.astype(np.float32),
        order=comparison.order.astype(np.int8),
        readings=(),
    )


def read(path: Path) -> list[dict[str, Any]]:
    """Whole lines; a torn last one, the mark of a kill, is cut off."""
    if not path.exists():
        return []
    text = path.read_text()
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole)
    return [json.loads(line) for line in whole.splitlines()]


@contextmanager
def loaded(arm: str) -> Iterator[None]:
    """With `stress`, one core is kept busy and left to itself; it is let go afterwards."""
    if arm == "idle":
        yield
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2 or shutil.which("stress-ng") is None:
        sys.exit("--arm stress needs two cores and stress-ng (apt-get install stress-ng)")
    load = subprocess.Popen(
        ["taskset", "-c", str(cores[-1]), "stress-ng", "--cpu", "1", "--timeout", "0", "--quiet"],
        start_new_session=True,
    )
    os.sched_setaffinity(0, cores[:-1])  # children inherit it
    try:
        time.sleep(1.0)
        yield
    finally:
        os.killpg(load.pid, 15)
        load.wait()
        os.sched_setaffinity(0, cores)


# --- rivals: what they read ------------------------------------------------------------------------------


def child(rival: str, seconds: float) -> dict[str, list[float]]:
    """All four pieces of work timed one after the other in one fresh process, as a script would; readings by arm."""
    command = [sys.executable, "-m", "benchmarks.verdicts", "--rival", rival, "--seconds", str(seconds)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    read_of: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return read_of


def in_child(rival: str, work: str, seconds: float) -> None:
    if rival == "command":
        for _ in range(CALLS):
            WORK[work]()
        return
    each_s = seconds / len(WORK)
    timed = torch_blocks if rival == "torch" else plain_calls
    print(json.dumps({arm: timed(call, each_s) for arm, call in WORK.items()}))


def torch_blocks(call: Callable[[], None], seconds: float) -> list[float]:
    """Seconds of a call in each block of `torch.utils.benchmark`'s blocked_autorange."""
    from torch.utils.benchmark import Timer

    times = Timer(stmt="call()", globals={"call": call}).blocked_autorange(min_run_time=seconds).times
    return [float(t) for t in times]


def plain_calls(call: Callable[[], None], seconds: float) -> list[float]:
    """Number, mean and variance of the calls in so many seconds."""
    times, end = [], time.perf_counter() + seconds
    while (start := time.perf_counter()) < end:
        call()
        times.append(time.perf_counter() - start)
    return [float(len(times)), float(np.mean(times)), float(np.var(times, ddof=1))]


def hyperfine(seconds: float) -> dict[str, list[float]] | None:
    """Seconds of each run of the work as a command, by hyperfine with its defaults but for the number of runs."""
    if shutil.which("hyperfine") is None:
        return None
    commands = [f"{sys.executable} -m benchmarks.verdicts --rival command --work {arm}" for arm in WORK]
    began = time.perf_counter()
    subprocess.run(commands[0].split(), check=True)
    runs = max(3, int(seconds / len(WORK) / (time.perf_counter() - began)))
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        words = ["hyperfine", "-N", "--style", "none", "--runs", str(runs), "--export-json", file.name, *commands]
        subprocess.run(words, check=True, capture_output=True)
        results = json.loads(Path(file.name).read_text())["results"]
    return {arm: result["times"] for arm, result in zip(WORK, results, strict=True)}


# --- rivals: how they decide -----------------------------------------------------------------------------


def by_iqr(base: Sequence[float], other: Sequence[float]) -> str:
    (low, high), (other_low, other_high) = (np.quantile(v, [0.25, 0.75]) for v in (base, other))
    return "slower" if other_low > high else "faster" if other_high < low else "undecided"


def by_rank(base: Sequence[float], other: Sequence[float]) -> str:
    p = stats.mannwhitneyu(base, other).pvalue
    return _by_p(p, float(np.median(other)) > float(np.median(base)))


def by_welch(base: Sequence[float], other: Sequence[float]) -> str:
    return _by_p(stats.ttest_ind(base, other, equal_var=False).pvalue, float(np.mean(other)) > float(np.mean(base)))


def by_welch_of_sums(base: Sequence[float], other: Sequence[float]) -> str:
    (n, mean, variance), (m, other_mean, other_variance) = base, other
    p = stats.ttest_ind_from_stats(mean, variance**0.5, n, other_mean, other_variance**0.5, m, equal_var=False).pvalue
    return _by_p(float(p), other_mean > mean)


def by_mean(base: Sequence[float], other: Sequence[float]) -> str:
    ratio = other[1] / base[1]
    return "slower" if ratio > 1.01 else "faster" if ratio < 1 / 1.01 else "equivalent"


def _by_p(p: float, slower: bool) -> str:
    return "undecided" if p > 0.05 else "slower" if slower else "faster"


RULES: Mapping[str, tuple[str, Callable[[Sequence[float], Sequence[float]], str]]] = {
    "torch.utils.benchmark, interquartile ranges apart": ("torch", by_iqr),
    "torch.utils.benchmark, rank test of its blocks at 5 %": ("torch", by_rank),
    "hyperfine, Welch's t of its runs at 5 % (its own script)": ("hyperfine", by_welch),
    "before and after, means over 1 % apart": ("plain", by_mean),
    "before and after, Welch's t of the calls at 5 %": ("plain", by_welch_of_sums),
}


HEADER = (
    "tool and rule",
    "A/A: false alarm",
    "2 % called slower",
    "2 % called faster",
    "5 % called slower",
    "5 % called faster",
    "equivalence claimed wrongly",
    "median seconds to a verdict: A/A, 2 %, 5 %",
)


# --- the table -------------------------------------------------------------------------------------------


def page() -> list[str]:
    lines = [
        "# Verdicts on time where the truth is known",
        "",
        "Made by `python -m benchmarks.verdicts`, whose first lines say how. Work: one NumPy kernel 100, 100, 102 and 105 times.",
        f"Steelyard judges with a band of {100 * BAND:g} % at every round from the tenth and stops when it is clear. The rivals time",
        "the four one after the other, in the seconds that Steelyard took for all four. In brackets: exact 95 % intervals",
        "(Clopper and Pearson). Wrong: a slow-down called faster, or equivalent within 1 %; nothing injected called a difference.",
        "",
    ]
    for arm in ("idle", "stress"):
        kept = read(RESULTS / f"verdicts-{arm}.jsonl")
        if kept:
            lines += section(arm, kept)
    return lines


def section(arm: str, kept: list[dict[str, Any]]) -> list[str]:
    title = "Idle" if arm == "idle" else "With `stress-ng --cpu 1` on the other core"
    machines = sorted({f"{line['cpu']}, {line['cores']} cores" for line in kept})
    comparisons = [decode(json.dumps(line["comparison"])) for line in kept]
    flagged = [len({flag.partition(":")[0] for flag in c.flags}) for c in comparisons]
    rounds = [len(c.seconds) for c in comparisons]
    return [
        f"## {title}",
        "",
        f"{'; '.join(machines)}; {len(kept)} comparisons, {sum(rounds)} rounds of which {sum(flagged)} flagged;",
        f"a comparison of all four took {np.median([line['wall_s'] for line in kept]):.0f} s (median).",
        "",
        f"| {' | '.join(HEADER)} |",
        "|---|---|---|---|---|---|---|---|",
        row("**Steelyard**", [v for c in comparisons for v in ours(c)]),
        *(
            row(name, theirs(kept, tool, rule))
            for name, (tool, rule) in RULES.items()
            if any(line.get(tool) for line in kept)
        ),
        "",
    ]


def ours(comparison: Comparison) -> Iterator[Verdict]:
    for verdict in found(comparison):
        yield verdict.arm, verdict.outcome, verdict.seconds


def theirs(kept: list[dict[str, Any]], tool: str, rule: Callable[[Any, Any], str]) -> list[Verdict]:
    have = [line for line in kept if line.get(tool)]
    return [(arm, rule(line[tool]["base"], line[tool][arm]), line["wall_s"]) for line in have for arm in INJECTED]


def row(name: str, verdicts: Sequence[Verdict]) -> str:
    said = {arm: [outcome for a, outcome, _ in verdicts if a == arm] for arm in INJECTED}
    took = "; ".join(significant(float(np.median([s for a, _, s in verdicts if a == arm])), 2) for arm in INJECTED)
    cells = [
        share(said["again"], "slower", "faster"),
        share(said["two"], "slower"),
        share(said["two"], "faster"),
        share(said["five"], "slower"),
        share(said["five"], "faster"),
        share(said["two"] + said["five"], "equivalent"),
        took,
    ]
    return f"| {name} | {' | '.join(cells)} |"


def share(outcomes: Sequence[str], *wanted: str) -> str:
    count, n = sum(o in wanted for o in outcomes), len(outcomes)
    low, high = clopper_pearson(count, n)
    return f"{count / n:.1%} ({low:.1%}-{high:.1%})".replace("%", " %")


if __name__ == "__main__":
    main()
