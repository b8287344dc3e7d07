"""How far rounds of the same work lie apart, by the length of a turn.

    python -m benchmarks.turns

Two copies of the self-test's work take turns in slots of several lengths, the settings themselves in random order over
the rounds, so that all meet the same machine. Between settings the time spent in timed calls is about the same. Prints and writes
`results/turns.{md,json}`.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np

from steelyard.measure.process import Limits
from steelyard.measure.turns import TurnSettings, rounds
from steelyard.pipeline.selftest import arms
from steelyard.probe.host import environment

RESULTS = Path(__file__).parent / "results"
SETTINGS = {0.001: 60, 0.002: 50, 0.005: 30, 0.010: 16, 0.030: 6}  # seconds a slot: slots a round
ROUNDS = 15


def main() -> None:
    pair = {name: arm for name, arm in arms().items() if name in ("base", "again")}
    going = {
        slot_s: rounds(
            pair, TurnSettings(slots=slots, slot_s=slot_s, warm_s=0.05, rest_s=0.001), limits=Limits(seconds=60)
        )
        for slot_s, slots in SETTINGS.items()
    }
    rng = np.random.default_rng(0)
    logs: dict[float, list[np.ndarray]] = {slot_s: [] for slot_s in SETTINGS}
    walls: dict[float, list[float]] = {slot_s: [] for slot_s in SETTINGS}
    for done in range(ROUNDS):
        for slot_s in rng.permutation(list(SETTINGS)):
            began = time.perf_counter()
            seconds = next(going[slot_s]).seconds[-1]
            walls[slot_s].append(time.perf_counter() - began)
            logs[slot_s].append(np.log(seconds[:, 1] / seconds[:, 0]))
        print(f"round {done + 1} of {ROUNDS}", flush=True)
    host = environment()
    table = "\n".join(
        [
            "# Rounds of the same work, by the length of a turn",
            "",
            f"{host.cpu}, {host.cores} cores; {ROUNDS} rounds of each, in random order. Made by `python -m benchmarks.turns`.",
            "Spread: standard deviation of log(again / base), in percent.",
            "",
            "| slot | slots a round | seconds a round | spread of slots | spread of rounds |",
            "|---|---|---|---|---|",
            *(_row(slot_s, np.array(logs[slot_s]), walls[slot_s]) for slot_s in SETTINGS),
            "",
        ]
    )
    print(table)
    (RESULTS / "turns.md").write_text(table)
    raw = {"cpu": host.cpu, "logs": {str(s): np.array(v).round(5).tolist() for s, v in logs.items()}}
    (RESULTS / "turns.json").write_text(json.dumps(raw))


def _row(slot_s: float, logs: np.ndarray, walls: list[float]) -> str:
    readings = np.median(logs, axis=1)
    slots = 100 * (logs - readings[:, None]).std()
    return (
        f"| {1e3 * slot_s:.0f} ms | {logs.shape[1]} | {np.median(walls):.2f} | {slots:.1f} | "
        f"{100 * readings.std(ddof=1):.2f} |"
    )


if __name__ == "__main__":
    main()
