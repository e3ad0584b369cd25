"""What left the nodes: points that were made up after rare readings, and whether they give those away."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import Any

from vedette.evaluation.report.wording import figure, percentage

__all__ = ["sharing_of"]

MOST_NODES = 40
CHANCE = 2.0
"""Standard deviations above 0.5 that a membership AUC strays to by chance."""

COUNTS = ("made", "close", "shared", "minority")


def sharing_of(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Lay out what nodes made up, held back and sent, from ``sharing`` in the content of a run: a part a method and protocol."""
    return [_part(each) for each in run.get("sharing") or [] if each.get("nodes")]


def _part(found: Mapping[str, Any]) -> dict[str, Any]:
    nodes: Mapping[str, Mapping[str, float | None]] = found["nodes"]
    total = {key: sum(facts.get(key) or 0 for facts in nodes.values()) for key in COUNTS}
    # Those who sent most first, where not all can be shown.
    order = sorted(nodes) if len(nodes) <= MOST_NODES else sorted(nodes, key=lambda node: (-(nodes[node].get("shared") or 0), node))
    return {
        **{key: found[key] for key in ("method", "protocol", "seed", "fold")},
        "nodes": len(nodes),
        "sent": _count(total["shared"]),
        "made": _count(total["made"]),
        "share": percentage(total["shared"] / total["made"]) if total["made"] else None,
        "close": _count(total["close"]),
        "telling": [node for node in sorted(nodes) if _tells(nodes[node])],
        "lines": [_line(node, nodes[node]) for node in order[:MOST_NODES]],
        "left_out": max(len(nodes) - MOST_NODES, 0),
    }


def _tells(facts: Mapping[str, float | None]) -> bool:
    """Say whether the membership test found more than chance, from what an AUC of two halves of so many rows varies by."""
    told, rows = facts.get("membership"), facts.get("minority")
    return told is not None and rows is not None and rows > 0 and told > 0.5 + CHANCE * sqrt((rows + 1) / (3 * rows**2))


def _line(node: str, facts: Mapping[str, float | None]) -> dict[str, str]:
    told = facts.get("membership")
    return {"node": node, **{key: _count(facts.get(key)) for key in COUNTS}, "membership": "–" if told is None else figure(told, 2)}


def _count(value: float | None) -> str:
    return "–" if value is None else f"{value:,.0f}"
