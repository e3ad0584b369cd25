"""Rounds of FedAvg over many small nodes: Vedette, a plain PyTorch loop and, with --peers, pfl-research and Flower's simulation.

    python benchmarks/cohort.py --peers --docs --json build/benchmarks/cohort.json

Rows of the table: A (115-32-115, 5 steps of 10 rows a node), B (41-32-16-8-8-16-32-41, 1,000 rows a node, batch 128, one epoch), C (a
round of 20 nodes that train nothing), D (A by plain SGD with 100 to 100,000 nodes whose rows are made when asked for), E (B likewise).

All start from the same weights, have the same rows, batches, optimiser and learning rate, and average weighted by rows, which here are
equally many. One process and one thread each. Vedette goes the public way, `vedette.federate` with a trainer; a round is timed from one
`on_round` to the next, so it holds all that a round takes, not training alone. Scaling is "none": the others have their rows scaled
already. The plain loop keeps one module and one optimiser, copies weights in and sums them up with `torch._foreach_*`. Vedette and the
loop take turns, so that a busy machine slows both; peers have a process of their own for each line. First rounds do not count; of the
others the fastest does, whoever ran it. After as many rounds from the same start all must come to the same loss within 1 %, and
whoever does not is reported.

Environments of the peers are made once, below build/benchmarks.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from rounds.cases import RATES, say
from rounds.contenders import PEERS, Ways, environment
from rounds.few import measured, overhead
from rounds.page import machine, tables, write_docs
from rounds.sizes import SIZES, of_size, sizes

from vedette.errors import VedetteError
from vedette.settings import assignments, build
from vedette.training.trainers import TRAINERS

ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def chosen_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peers", action="store_true", help="also measure pfl-research and Flower, in environments of their own")
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    parser.add_argument("--docs", action="store_true", help="rewrite the measured part of docs/benchmarks.md")
    parser.add_argument("--rows", default="A,B,C,D,E", help="which rows of the table (default: A,B,C,D,E)")
    parser.add_argument(
        "--nodes", type=int, default=SIZES["D"][-1], help="most nodes in any row (default: 100,000 in D and E, 1,000 in A and B)"
    )
    parser.add_argument(
        "--trainer", nargs="+", default=["cohort" if "cohort" in TRAINERS else "torch"], help="name and settings: key=value"
    )
    parser.add_argument("--repeats", type=int, default=3, help="how often Vedette and the loop take turns (default: 3)")
    parser.add_argument(
        "--limit",
        type=float,
        default=300,
        help="seconds that a line of a peer may take, and half of what a size of D or E may (default: 300)",
    )
    parser.add_argument("--one-size", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    if any(os.environ.get(name) != wanted for name, wanted in ONE_THREAD.items()):
        # Libraries read these when they are loaded.
        os.execve(sys.executable, sys.orig_argv, os.environ | ONE_THREAD)
    chosen = chosen_options()
    torch.set_num_threads(1)
    name, *settings = chosen.trainer
    trainer = build(TRAINERS, {"name": name, **dict(assignments(settings, "together=16"))}, "--trainer")
    if chosen.one_size:
        row, nodes, rounds = chosen.one_size
        sys.stdout.write(json.dumps(of_size(row, int(nodes), int(rounds), trainer)) + "\n")
        return
    about = machine()
    pythons = {peer: environment(peer) for peer in PEERS} if chosen.peers else {}
    ways = Ways(trainer, " ".join(chosen.trainer), chosen.repeats, chosen.limit, chosen.nodes, {p: at for p, at in pythons.items() if at})
    measures: dict[str, list[Callable[[], list[dict[str, Any]]]]] = {
        row: [partial(measured, row, optimiser, ways) for optimiser in RATES] for row in ("A", "B")
    }
    measures |= {"C": [partial(overhead, ways)], **{row: [partial(sizes, row, ways, chosen.trainer)] for row in SIZES}}
    wanted = chosen.rows.upper().split(",")
    if set(wanted) - set(measures):
        sys.exit(f"--rows: {', '.join(measures)}")
    lines: list[dict[str, Any]] = []
    for row in wanted:
        for measure in measures[row]:
            try:
                found = measure()
            except VedetteError as error:
                say(f"{row}: {error}")
                continue
            lines += found
            sys.stdout.write(tables(found) + "\n")
            sys.stdout.flush()
    result = {
        "schema": "vedette.benchmark/1",
        "benchmark": "cohort",
        "date": time.strftime("%Y-%m-%d"),
        "command": f"python benchmarks/cohort.py {' '.join(sys.argv[1:])}".rstrip(),
        "machine": about | {"load after": os.getloadavg()[0]},
        "versions": {"python": platform.python_version(), **{part: version(part) for part in ("vedette", "numpy", "torch")}},
        "peers": list(ways.peers),
        "rows": lines,
    }
    if chosen.json:
        chosen.json.parent.mkdir(parents=True, exist_ok=True)
        chosen.json.write_text(json.dumps(result, indent=1) + "\n")
    if chosen.docs:
        write_docs(result)


if __name__ == "__main__":
    main()
