"""Who hears whom: the graphs of peers, and how far a node's updates spread."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from vedette.evaluation.plots import MOST_PEERS, Graph, graph_figure, ordered
from vedette.evaluation.report.results import in_order
from vedette.evaluation.report.wording import volume

__all__ = ["topologies_of"]

MOST_DRAWN = 9

Entry = Mapping[str, Any]


def topologies_of(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Lay out who was whose neighbour, from ``topologies`` in the content of a run; what several methods share stands there once."""
    groups: dict[tuple[Any, ...], list[Entry]] = {}
    for each in run.get("topologies") or []:
        seen = each.get("seen_by") or {}
        drawn = tuple(tuple(edge) for edge in each.get("graph") or ())
        groups.setdefault((each["name"], each["nodes"], each["edges"], drawn, seen.get("mean"), seen.get("most")), []).append(each)
    if not groups:
        return None
    lines = [_line(run, entries) for _, entries in sorted(groups.items(), key=lambda group: (group[0][1], group[0][0]))]
    return {
        "lines": lines,
        "several": len({each["protocol"] for entries in groups.values() for each in entries}) > 1,
        **_drawn(groups),
    }


def _line(run: Mapping[str, Any], entries: Sequence[Entry]) -> dict[str, Any]:
    first, sent = entries[0], [each["bytes"] for each in entries if each.get("bytes") is not None]
    low, high = (volume(pick(sent)) if sent else "–" for pick in (min, max))
    seen, others = first.get("seen_by") or {}, first["nodes"] - 1
    return {
        "name": first["name"],
        "methods": ordered(each["method"] for each in entries),
        "protocols": in_order(run, (each["protocol"] for each in entries)),
        "nodes": first["nodes"],
        "edges": first["edges"],
        "near": f"{2 * first['edges'] / first['nodes']:.3g}" if first["nodes"] else "–",
        "mean": "–" if seen.get("mean") is None else f"{seen['mean']:.3g} of {others:,}",
        "most": "–" if seen.get("most") is None else f"{seen['most']:,}",
        "sent": low if low == high else f"{low} to {high}",
    }


def _drawn(groups: Mapping[tuple[Any, ...], Sequence[Entry]]) -> dict[str, Any]:
    """Draw each graph once; of too many the largest of each kind that can be drawn."""
    known = {(name, nodes, edges) for name, nodes, _, edges, _, _ in groups if edges and nodes <= MOST_PEERS}
    chosen = sorted(known, key=lambda graph: (graph[1], graph[0], graph[2]))
    if len(chosen) > MOST_DRAWN:
        largest = {name: (name, nodes, edges) for name, nodes, edges in chosen}
        chosen = [largest[name] for name in sorted(largest)][:MOST_DRAWN]
    if not chosen:
        return {"figure": None, "all_drawn": False}
    title = "{}, {} nodes" if len(chosen) > 1 else "{} topology, {} nodes"
    figure = graph_figure([Graph(title.format(name, nodes), edges) for name, nodes, edges in chosen])
    return {"figure": figure, "all_drawn": len(chosen) == len({group[:4] for group in groups})}
