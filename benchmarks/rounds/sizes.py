"""Rows D and E: as many nodes as are wanted, whose rows are made when asked for."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

import vedette
from rounds.cases import CASES, ROOT, Enough, Times, detector_of, say
from rounds.contenders import Ways
from vedette.data.fleet import Fleet
from vedette.data.scaling import Scaler
from vedette.data.table import Feature, Table
from vedette.runtimes.base import Round
from vedette.strategies.fedavg import FedAvg
from vedette.training.task import Trainer

STANDS_FOR = {"D": "A", "E": "B"}
"""What is trained in rows that go by the number of nodes."""
SIZES = {"D": (100, 1_000, 10_000, 100_000), "E": (1_000, 100_000)}


def status(key: str) -> float:
    """Return a size of this process in MiB."""
    return next(int(entry.split()[1]) for entry in Path("/proc/self/status").read_text().splitlines() if entry.startswith(f"{key}:")) / 1024


def of_size(row: str, nodes: int, rounds: int, trainer: Trainer) -> dict[str, Any]:
    """Measure row D or E for one number of nodes, in this process; a node's rows are made when the fleet asks for them."""
    case, spent = CASES[STANDS_FOR[row]], np.zeros(6)
    features = tuple(Feature(f"x{i}") for i in range(case.widths[0]))

    def table_of(node: str) -> Table:
        begin = Times.now()
        table = Table(features, np.random.default_rng(int(node)).standard_normal((case.rows, case.widths[0]), dtype=np.float32))
        spent[:3] += *begin.until(Times.now()), 1
        return table

    transform = Scaler.transform

    def timed(scaler: Scaler, table: Table) -> np.ndarray:
        begin = Times.now()
        scaled = transform(scaler, table)
        spent[3:] += *begin.until(Times.now()), 1
        return scaled

    Scaler.transform = timed  # type: ignore[method-assign]
    before, marks = status("VmRSS"), [np.zeros(8)]

    def on_round(entry: Round, _: Any) -> None:
        marks.append(np.array([*Times.now(), *spent]))
        if entry.stage == "rounds" and entry.number == entry.of:
            raise Enough

    fleet = Fleet([f"{i:06d}" for i in range(nodes)], table_of)
    strategy = FedAvg(rounds=1 + rounds, batch=case.batch)
    with suppress(Enough):
        vedette.federate(fleet, detector_of(case, "sgd"), strategy, trainer=trainer, on_round=on_round)
    # The first are the preparation and the first round.
    names = "clock s", "cpu s", "making clock s", "making s", "made", "scaling clock s", "scaling s", "scaled"
    apart = [dict(zip(names, (end - begin).tolist(), strict=True)) for begin, end in itertools.pairwise(marks[2:])]
    return {
        "row": row,
        "nodes": nodes,
        "best": min(each["cpu s"] - each["making s"] - each["scaling s"] for each in apart),
        "clock": min(each["clock s"] - each["making clock s"] - each["scaling clock s"] for each in apart),
        "making": spent[1] / spent[2],
        "scaling": spent[4] / spent[5],
        "made": apart[-1]["made"] / nodes,
        "rounds": apart,
        "before MiB": before,
        "most MiB": status("VmHWM"),
    }


def sizes(row: str, ways: Ways, chosen: Sequence[str]) -> list[dict[str, Any]]:
    """Measure row D or E, each number of nodes in a process of its own."""
    lines: list[dict[str, Any]] = []
    for nodes in [size for size in SIZES[row] if size <= ways.most] or [ways.most]:
        rounds = max(2, min(50, 20_000 // nodes))
        if lines:
            # Preparation and the first round look at all rows too.
            expected = (lines[-1]["best"] / lines[-1]["nodes"] + lines[-1]["making"]) * nodes * (rounds + 2)
            if expected > 2 * ways.limit:
                say(f"{row}, {nodes:,} nodes: left out, would take some {expected:.0f} s (--limit)")
                break
        command = [sys.executable, str(ROOT / "benchmarks" / "cohort.py"), "--one-size", row, str(nodes), str(rounds), "--trainer", *chosen]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=3 * ways.limit)
        except subprocess.TimeoutExpired:
            say(f"{row}, {nodes:,} nodes: not done after {3 * ways.limit:.0f} s")
            break
        if ended.returncode:
            say(f"{row}, {nodes:,} nodes: ended with {ended.returncode}: {ended.stderr[-1500:]}")
            break
        lines.append(json.loads(ended.stdout))
    return lines
