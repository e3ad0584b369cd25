"""What nodes have in common: who learned from whom, as strategies that match peers found it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from vedette.evaluation.plots import MOST_PEERS, peer_figure

__all__ = ["peers_of"]

MOST_GIVERS = 5


def peers_of(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return a part for each method that matched peers: a figure where nodes are few, and whose weights were wanted most."""
    return [_part(found) for found in run.get("peers") or []]


def _part(found: Mapping[str, Any]) -> dict[str, Any]:
    nodes, rounds = found["nodes"], found["rounds"]
    received = np.zeros((len(nodes), len(nodes)))
    for each in rounds:
        for taker, (givers, shares) in enumerate(zip(each["received"], each["shares"], strict=True)):
            for giver, share in zip(givers, shares, strict=True):
                received[taker, giver] += (share > 0) / len(rounds)
    last = rounds[-1]
    wanted = received.sum(axis=0)
    order = np.argsort(-wanted, kind="stable")[:MOST_GIVERS].tolist()
    constant = float((received == 1).any(axis=1).mean())
    distances = last.get("distances")
    drawn = distances is not None and len(nodes) <= MOST_PEERS
    matrix = np.array([[np.nan if value is None else value for value in row] for row in distances]) if drawn else None
    return {
        "method": found["method"],
        "protocol": found["protocol"],
        "seed": found["seed"],
        "fold": found["fold"],
        "nodes": len(nodes),
        "rounds": len(rounds),
        "constant": f"{constant:.0%}",
        "givers": [(nodes[place], f"{wanted[place]:.1f}") for place in order if wanted[place] > 0],
        "alone": sum(not any(share > 0 for share in shares) for shares in last["shares"]),
        "figure": None if matrix is None else peer_figure(nodes, matrix, received),
    }
