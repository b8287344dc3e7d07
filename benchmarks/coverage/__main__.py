"""Run the simulations and write their tables: see the package's text."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_threads] = "1"  # before NumPy loads: one thread each

from benchmarks.coverage import areas, energy, pairs, probabilities, proportions, slices, tables, times  # noqa: E402
from benchmarks.coverage.asked import Section, spoken  # noqa: E402

OUT = Path(__file__).parent.parent / "results" / "coverage.md"
SECTIONS: tuple[Section, ...] = (
    *proportions.SECTIONS,
    *areas.SECTIONS,
    *tables.SECTIONS,
    *probabilities.SECTIONS,
    *pairs.SECTIONS,
    *slices.SECTIONS,
    *times.SECTIONS,
    *energy.SECTIONS,
)
HEAD = """# Coverage of the intervals

Made by `python -m benchmarks.coverage`. Nominal level 95 %: 0.95 of the intervals should hold the truth, which is known
here. What lies in 0.94 to 0.96 is good; above it an interval is wider than it need be; below it promises too much.
"""


def main(names: list[str]) -> None:
    known = [section.name for section in SECTIONS]
    if unknown := sorted(set(names) - set(known)):
        raise SystemExit(f"there is no table {', '.join(unknown)}; known: {', '.join(known)}")
    kept = _earlier() if names else {}
    for section in SECTIONS:
        if not names or section.name in names:
            start = time.process_time()
            kept[section.title] = _table(section)
            print(kept[section.title], f"({time.process_time() - start:.1f} s)\n", flush=True)
            done = (kept[each.title] for each in SECTIONS if each.title in kept)
            OUT.write_text("\n".join([HEAD, *done]), encoding="utf-8")


def _table(section: Section) -> str:
    rows = list(section.rows())
    body = ["| " + " | ".join(map(str, row)) + " |" for row in rows]
    said = [section.text, "", *([spoken(rows), ""] if spoken(rows) else [])]
    head = ["| " + " | ".join(section.header) + " |", "|---" * len(section.header) + "|"]
    return "\n".join([f"## {section.title}", "", *said, *head, *body, ""])


def _earlier() -> dict[str, str]:
    """The tables that stand in the file, by title."""
    parts = OUT.read_text(encoding="utf-8").split("\n## ")[1:] if OUT.exists() else []
    return {part.split("\n", 1)[0]: "## " + part.rstrip("\n") + "\n" for part in parts}


if __name__ == "__main__":
    main(sys.argv[1:])
