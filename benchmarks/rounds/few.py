"""Rows A, B and C: some nodes, beside the loop and the peers."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch

from rounds.cases import CASES, Case, Idle, Loop, Still, Times, by_vedette, detector_of, fleet_of, made_rows, say
from rounds.contenders import Ways, kept, line, peer_lines
from vedette.strategies.fedavg import FedAvg

SAME = 0.01


def measured(row: str, optimiser: str, ways: Ways) -> list[dict[str, Any]]:
    """Measure all contenders on row A or B."""
    case, rounds = CASES[row], 2
    nodes = min(case.nodes, ways.most)
    rows = made_rows(case, nodes)
    kept(row, case, rows)
    fleet, tensors, detector = fleet_of(rows), torch.from_numpy(rows), detector_of(case, optimiser)
    loop = Loop(case, optimiser)
    loop.round(tensors[:50])
    times: dict[str, list[Times]] = {"ours": [], "loop": []}
    for _ in range(ways.repeats):
        times["ours"] += by_vedette(fleet, detector, FedAvg(rounds=1 + rounds, batch=case.batch), ways.trainer)[0]
        times["loop"] += [loop.round(tensors) for _ in range(rounds)]
    lines = [
        line(row, optimiser, f"Vedette, {ways.name}", nodes, times["ours"]),
        line(row, optimiser, "plain loop", nodes, times["loop"]),
        *peer_lines(row, optimiser, case, nodes, rounds + 1, ways),
    ]
    for each in lines:
        check(each, case, optimiser, rows, ways)
    return lines


def check(each: dict[str, Any], case: Case, optimiser: str, rows: np.ndarray, ways: Ways) -> None:
    """Compare with the plain loop after as many rounds on as many nodes (Vedette: 50), and say so if it is something else."""
    ours = each["by"].startswith("Vedette")
    if not ours and "loss" not in each:
        return
    nodes, rounds = (min(50, len(rows)), 3) if ours else (each["nodes"], 1 + len(each["rounds"]))
    tensors, loop = torch.from_numpy(rows[:nodes]), Loop(case, optimiser)
    for _ in range(rounds):
        loop.round(tensors, watch=ours)
    expected = loop.loss if ours else loop.error(tensors[:10].flatten(0, 1))
    if ours:
        strategy = FedAvg(rounds=rounds, batch=case.batch)
        each["loss"] = by_vedette(fleet_of(rows[:nodes]), detector_of(case, optimiser), strategy, ways.trainer)[1]
    each["loss of the loop"] = expected
    if abs(each["loss"] / expected - 1) > SAME:
        say(f"CAUTION: {each['by']} comes to a loss of {each['loss']:.4f}, the plain loop to {expected:.4f}: not the same work")


def overhead(ways: Ways) -> list[dict[str, Any]]:
    """Measure row C: rounds in which nothing is trained."""
    case, rounds = CASES["C"], 50
    rows = made_rows(case, case.nodes)
    kept("C", case, rows)
    fleet, detector, lines = fleet_of(rows), detector_of(case, "sgd"), []
    for by, strategy, trainer in (
        ("Vedette, a trainer that returns at once", FedAvg(rounds=1 + rounds, batch=case.batch), Idle()),
        (f"Vedette, {ways.name}, no steps", Still(rounds=1 + rounds, batch=case.batch), ways.trainer),
    ):
        seconds = itertools.chain.from_iterable(by_vedette(fleet, detector, strategy, trainer)[0] for _ in range(ways.repeats))
        lines.append(line("C", "", by, case.nodes, list(seconds)))
    return lines + [each | {"optimiser": ""} for each in peer_lines("C", "sgd", case, case.nodes, 20, ways)]
