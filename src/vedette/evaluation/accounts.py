"""What came of learning together, besides detectors: who learned from whom, who was trusted, what left the nodes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from statistics import fmean, median
from typing import Any

import numpy as np

from vedette.evaluation.plots import MOST_PEERS
from vedette.message import Memory
from vedette.runtimes.base import Outcome
from vedette.runtimes.meetings import Attackers
from vedette.runtimes.topology import TOPOLOGIES, Topology, seen_by
from vedette.settings import describe
from vedette.strategies.p2pk_smote import SHARING

__all__ = ["groupings", "matched", "network", "sharing", "trust"]

SUSPECT = 0.5
"""A node that counted for less than this share of what the median node did is named."""


def matched(outcome: Outcome) -> dict[str, Any] | None:
    """Return who received whose weights, round by round, and how far nodes were apart, if a coordinator matched peers."""
    remembered = outcome.exchanged.get("rounds", {}).get("*", {})
    if "nodes" not in remembered:
        return None
    nodes = json.loads(str(remembered["nodes"]))
    rounds: list[dict[str, Any]] = []
    while f"received.{len(rounds)}" in remembered:
        found = {name: np.asarray(remembered[f"{name}.{len(rounds)}"]) for name in ("received", "shares", "distances")}
        entry = {"received": found["received"].tolist(), "shares": found["shares"].round(6).tolist()}
        if len(nodes) <= MOST_PEERS:
            entry["distances"] = [[round(each, 6) if np.isfinite(each) else None for each in row] for row in found["distances"].tolist()]
        rounds.append(entry)
    return {"nodes": nodes, "rounds": rounds}


def groupings(outcome: Outcome) -> dict[str, Any] | None:
    """Return which nodes learned together after each grouping, and how clear the groups were, where a strategy forms clusters."""
    remembered = outcome.exchanged.get("rounds", {}).get("*", {})
    rounds = sorted(int(name.removeprefix("groups.")) for name in remembered if name.startswith("groups."))
    silhouettes = _told(remembered, "silhouette.")
    told = [
        {"round": number, "clusters": json.loads(str(remembered[f"groups.{number}"])), "silhouette": silhouettes.get(str(number))}
        for number in rounds
    ]
    return {"groupings": told} if told else None


def trust(outcome: Outcome, attackers: Attackers) -> dict[str, Any] | None:
    """Return how much of each node's updates went into what others learned, and who was left out; None where all counted by rule.

    Whoever counted for less than half of what the median node did is suspected, and so is whoever sent what cannot be used.
    """
    counted, turns = Counter[str](), Counter[str]()
    for who, memory in outcome.exchanged.get("rounds", {}).items():
        if who not in attackers.nodes:
            counted.update(_told(memory, "counted."))
            turns.update(_told(memory, "turns."))
    refused = {node: reason for entry in outcome.history for node, reason in entry.refused.items()}
    shares = {node: counted[node] / turns[node] for node in sorted(turns) if turns[node]}
    if not shares and not refused:
        return None
    middle = median(shares.values()) if shares else 0.0
    suspected = sorted({*refused, *(node for node, share in shares.items() if share < SUSPECT * middle)})
    return {"counted": shares, "refused": refused, "suspected": suspected, "attackers": list(attackers.nodes)}


def sharing(outcome: Outcome) -> dict[str, dict[str, float]]:
    """Return by node what it made up, held back and sent of synthetic rows, where a strategy shares any."""
    told = {node: _told(memory, SHARING) for node, memory in outcome.memories.items()}
    return {node: facts for node, facts in told.items() if facts}


def network(topology: Topology, nodes: Sequence[str], rounds: int, seed: int, outcome: Outcome) -> dict[str, Any] | None:
    """Return who was whose neighbour among peers, what travelled, and how many others got something of it; None where nothing did."""
    travelled = sum(entry.sent + entry.received for entry in outcome.history)
    if topology.central or not travelled:
        return None
    first = topology.neighbours(nodes, 0, seed)
    seen = seen_by(topology, nodes, rounds, seed)
    edges = sorted({(min(one, other), max(one, other)) for one, others in first.items() for other in others})
    return {
        "name": describe(TOPOLOGIES, topology)["name"],
        "nodes": len(nodes),
        "edges": len(edges),
        "graph": [list(edge) for edge in edges] if len(nodes) <= MOST_PEERS else None,
        "seen_by": {"mean": fmean(seen.values()), "most": max(seen.values())},
        "bytes": travelled,
    }


def _told(memory: Memory, prefix: str) -> dict[str, float]:
    return {name.removeprefix(prefix): float(value) for name, value in memory.items() if name.startswith(prefix)}
