"""A CSV of 1 GB and its Parquet twin: read by PyArrow and Polars, and read and evaluated by `steelyard evaluate`.

    python -m benchmarks.big_table --rounds 3

34 million rows of label, score and region, made in a temporary folder and removed. PyArrow, and Polars where it is
installed, read the two columns that the evaluation needs, in a process of their own; `steelyard evaluate` also hashes the
file, judges four metrics with their intervals, draws its curves and writes the report. Arms take turns in random order.
Wall seconds, processor seconds (user and system, all threads) and peak memory are those of the whole process. Writes
`results/big-table.{md,json}`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from steelyard.probe.host import environment

RESULTS = Path(__file__).parent / "results"
ROWS, AT_ONCE = 34_000_000, 1_000_000
METRICS = ("accuracy", "roc_auc", "f1", "brier")
CSV, PARQUET = "predictions.csv", "predictions.parquet"
OURS = "Steelyard reads and evaluates the "
NEEDED = ["label", "score"]
READ = {
    f"PyArrow reads the {CSV}": "from pyarrow import csv; "
    f"csv.read_csv({CSV!r}, convert_options=csv.ConvertOptions(include_columns={NEEDED}))",
    f"PyArrow reads the {PARQUET}": f"from pyarrow import parquet; parquet.read_table({PARQUET!r}, columns={NEEDED})",
}
POLARS = {
    f"Polars reads the {CSV}": f"import polars; polars.read_csv({CSV!r}, columns={NEEDED})",
    f"Polars reads the {PARQUET}": f"import polars; polars.read_parquet({PARQUET!r}, columns={NEEDED})",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=ROWS, help="fewer for a trial")
    options = parser.parse_args()
    rounds = options.rounds
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder), options.rows)
        sizes = {name: (Path(folder) / name).stat().st_size for name in (CSV, PARQUET)}
        arms = _arms()
        taken: dict[str, list[tuple[float, float, int]]] = {name: [] for name in arms}
        rng = np.random.default_rng(0)
        for _ in range(rounds):
            for which in rng.permutation(len(arms)):
                name = list(arms)[which]
                taken[name].append(_run(arms[name], folder))
    _write(taken, sizes, options.rows)


def make(folder: Path, total: int = ROWS) -> None:
    """Both files, a million rows at a time: 10 % positives, calibrated scores, five regions."""
    import pyarrow as pa
    from pyarrow import csv, parquet

    rng, regions = np.random.default_rng(7), np.array(["north", "south", "east", "west", "centre"])
    schema = pa.schema([("label", pa.int64()), ("score", pa.float64()), ("region", pa.string())])
    with (
        csv.CSVWriter(folder / CSV, schema) as text,
        parquet.ParquetWriter(folder / PARQUET, schema) as columns,
    ):
        for _ in range(total // AT_ONCE):
            labels = rng.random(AT_ONCE) < 0.1
            scores = 1 / (1 + np.exp(-(rng.normal(size=AT_ONCE) + 1.5 * labels - 1.5)))
            region = pa.array(regions[rng.integers(0, 5, AT_ONCE)])
            rows = pa.table([labels.astype(np.int64), scores, region], schema=schema)
            text.write_table(rows)
            columns.write_table(rows)


def _arms() -> dict[str, list[str]]:
    asked = [word for name in METRICS for word in ("--metric", name)]
    evaluate = [sys.executable, "-m", "steelyard", "evaluate"]
    ours = {OURS + name: [*evaluate, name, *asked, "--quiet", "--out", f"{name}-out"] for name in (CSV, PARQUET)}
    read = READ | (POLARS if find_spec("polars") else {})
    return {name: [sys.executable, "-c", code] for name, code in read.items()} | ours


def _run(command: list[str], folder: str) -> tuple[float, float, int]:
    """Wall seconds, processor seconds and peak resident bytes of a process."""
    start = time.perf_counter()
    process = subprocess.Popen(command, cwd=folder)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed")
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _write(taken: dict[str, list[tuple[float, float, int]]], sizes: dict[str, int], total: int) -> None:
    host = environment(("numpy", "pyarrow", "polars"))
    median = {name: np.median(np.array(runs), axis=0) for name, runs in taken.items()}
    rows = []
    for name, runs in taken.items():
        wall, processor, peak = median[name]
        times = median[name] / median[f"PyArrow reads the {name.split()[-1]}"]
        rows.append(
            f"| {name} | {wall:.1f} | {min(r[0] for r in runs):.1f} to {max(r[0] for r in runs):.1f} | {times[0]:.1f} "
            f"| {processor:.1f} | {times[1]:.1f} | {peak / 2**30:.1f} | {len(runs)} |"
        )
    stored = ", ".join(f"{name} {size / 1e9:.2f} GB" for name, size in sizes.items())
    table = "\n".join(
        [
            f"# {total:,} saved predictions read and evaluated",
            "",
            f"{host.cpu}, {host.cores} cores (load {os.getloadavg()[0]:.0f} at the end); {stored}.",
            f"{', '.join(f'{k} {v}' for k, v in host.packages.items())}. Made by `python -m benchmarks.big_table`.",
            "",
            "| | median wall s | range | times PyArrow | processor s | times PyArrow | peak GiB | runs |",
            "|---|---|---|---|---|---|---|---|",
            *rows,
            "",
        ]
    )
    print(table)
    (RESULTS / "big-table.md").write_text(table)
    raw = {"cpu": host.cpu, "cores": host.cores, "packages": dict(host.packages), "wall_processor_peak": taken}
    (RESULTS / "big-table.json").write_text(json.dumps(raw, indent=1))


if __name__ == "__main__":
    main()
