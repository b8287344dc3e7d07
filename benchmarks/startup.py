"""Start-up on a warm disk, and the size of a base install.

    python -m benchmarks.startup            # import, --help and evaluating 1,000 rows, 40 fresh processes each, taking turns
    python -m benchmarks.startup --size     # also installs the base package into a fresh environment and weighs it

Writes `results/startup.md`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from steelyard.probe.host import environment
from steelyard.stats.order import median_interval

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
RUNS = 40
ROWS = 1_000
STEELYARD = str(Path(sys.executable).with_name("steelyard"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", action="store_true")
    options = parser.parse_args()
    host = environment()
    lines = ["# Start-up and size", "", f"{host.cpu}, {host.cores} cores; {RUNS} fresh processes each, taking turns."]
    lines += [
        "Made by `python -m benchmarks.startup --size`.",
        "",
        "| command | median (95 % interval) | slowest |",
        "|---|---|---|",
    ]
    with tempfile.TemporaryDirectory() as folder:
        times = _times(_commands(Path(folder)))
    for name, seconds in times.items():
        found = median_interval(seconds)
        assert found is not None
        value, low, high = (f"{v * 1e3:.0f} ms" for v in found)
        lines.append(f"| `{name}` | {value} ({low} to {high}) | {max(seconds) * 1e3:.0f} ms |")
    if options.size:
        lines += ["", _size()]
    table = "\n".join([*lines, ""])
    print(table)
    (RESULTS / "startup.md").write_text(table)


def _commands(folder: Path) -> dict[str, list[str]]:
    """What is timed. Evaluating reads a table, judges it, and writes a report with its charts into one run folder."""
    rng = np.random.default_rng(0)
    labels = rng.random(ROWS) < 0.3
    scores = 1 / (1 + np.exp(-(rng.standard_normal(ROWS) + 1.5 * labels - 1)))
    rows = "".join(f"{label:d},{score:.6f}\n" for label, score in zip(labels, scores, strict=True))
    (folder / "preds.csv").write_text(f"label,p\n{rows}")
    evaluate = [STEELYARD, "evaluate", str(folder / "preds.csv"), "--out", str(folder / "evaluated")]
    return {
        "python -c pass": [sys.executable, "-c", "pass"],
        "python -c 'import steelyard'": [sys.executable, "-c", "import steelyard"],
        "steelyard --help": [STEELYARD, "--help"],
        "python -c 'import numpy, scipy.stats, altair'": [sys.executable, "-c", "import numpy, scipy.stats, altair"],
        f"steelyard evaluate preds.csv, {ROWS:,} rows": evaluate,
        "steelyard report of the same": [STEELYARD, "report", str(folder / "evaluated")],
    }


def _times(commands: dict[str, list[str]]) -> dict[str, list[float]]:
    rng = np.random.default_rng(0)
    names = list(commands)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for command in commands.values():  # warm the disk
        subprocess.run(command, check=True, capture_output=True)
    for _ in range(RUNS):
        for at in rng.permutation(len(names)):
            start = time.perf_counter()
            subprocess.run(commands[names[at]], check=True, capture_output=True)
            seconds[names[at]].append(time.perf_counter() - start)
    return seconds


def _size() -> str:
    """Megabytes that the base install adds to an empty environment, and whether `report` works in it."""
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "bin" / "python"
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        before = _bytes(folder)
        subprocess.run([python, "-m", "pip", "install", "-q", "-c", ROOT / "constraints.txt", ROOT], check=True)
        added = _bytes(folder) - before
        runs = sorted((ROOT / "runs").glob("*/records.jsonl"))
        works = "not tried: no run folder under runs/"
        if runs:
            done = subprocess.run([python.with_name("steelyard"), "report", runs[0].parent, "--quiet"], check=False)
            works = "works" if done.returncode == 0 else "FAILS"
    return f"A base install (no extras) adds {added / 1e6:.0f} MB to an empty environment; `steelyard report` in it: {works}."


def _bytes(folder: str) -> int:
    return sum(p.stat().st_size for p in Path(folder).rglob("*") if p.is_file() and not p.is_symlink())


if __name__ == "__main__":
    main()
