"""Thousands of tables of predictions, good and damaged, judged or refused: no traceback, no warning, no wrong number.

    python -m benchmarks.fuzz --files 10000

The files are made by `tests/fuzz_tables.py`, each from its number; `--seed` says where the numbers start. The report is
rendered for every 250th file. Writes `results/fuzz.md`, and exits with 1 where a fault was found.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from fuzz_tables import Case, Trial, case, trial
from steelyard.probe.host import environment

RESULTS = Path(__file__).parent / "results"
RENDER_EVERY = 250


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    start, found = time.monotonic(), []
    for number in range(words.seed, words.seed + words.files):
        made = case(number)
        done = trial(made, render=number % RENDER_EVERY == 0)
        found.append((made, done))
        if done.outcome == "fault":
            print(
                f"file {number} ({made.kind}.{made.suffix}; {', '.join(made.damage)}; {made.words}): {done.message}",
                flush=True,
            )
    text = _table(found, words.files, words.seed, time.monotonic() - start)
    print(text)
    (RESULTS / "fuzz.md").write_text(text)
    sys.exit(any(done.outcome == "fault" for _, done in found))


def _table(found: list[tuple[Case, Trial]], files: int, seed: int, seconds: float) -> str:
    host = environment(("numpy", "scipy", "pyarrow", "scikit-learn"))
    outcomes = ("judged", "refused", "fault")
    by_format = Counter((made.suffix, done.outcome) for made, done in found)
    by_damage = Counter((name, done.outcome) for made, done in found for name in (made.damage or ("none",)))
    compared = sum(done.compared for _, done in found)
    rendered = sum(done.outcome == "judged" and made.seed % RENDER_EVERY == 0 for made, done in found)
    return "\n".join(
        [
            "# Fuzzed tables of predictions",
            "",
            f"{files:,} files from number {seed}, {seconds / 60:.1f} minutes in one process on {host.cpu}.",
            f"{', '.join(f'{k} {v}' for k, v in host.packages.items())}. Made by `python -m benchmarks.fuzz --files {files} --seed {seed}`.",
            "",
            (
                "Judged: the evaluation succeeded, and every number that could be computed from the file's cells by scikit-learn "
                f"and plain counting was the same ({compared:,} numbers compared; {rendered} reports rendered). Refused: one line "
                "says what is wrong. A fault is anything else: another exception, several lines, a warning, a wrong number, an "
                "interval without width or that lacks its value."
            ),
            "",
            "| | " + " | ".join(outcomes) + " |",
            "|---|---|---|---|",
            *_rows(by_format, outcomes, "."),
            f"| **all** | {' | '.join(f'**{sum(done.outcome == o for _, done in found):,}**' for o in outcomes)} |",
            "",
            "| damage (a file may have several) | " + " | ".join(outcomes) + " |",
            "|---|---|---|---|",
            *_rows(by_damage, outcomes, ""),
            "",
        ]
    )


def _rows(counts: Counter[tuple[str, str]], outcomes: tuple[str, ...], lead: str) -> list[str]:
    names = sorted({name for name, _ in counts})
    return [f"| {lead}{name} | {' | '.join(f'{counts[name, o]:,}' for o in outcomes)} |" for name in names]


if __name__ == "__main__":
    main()
