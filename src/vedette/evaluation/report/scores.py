"""Scores reading by reading: the figures of some nodes, and what was found by kind of anomaly."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from vedette.evaluation.plots import BINS, Look, Trace, detail_figure, ordered, trace_figure
from vedette.evaluation.report.results import REFERENCES
from vedette.evaluation.report.wording import percentage

__all__ = ["kinds_of", "reasons_of", "scores_of"]

YEAR = 365 * 86_400
MOST_NODES, MOST_PANELS, MOST_KINDS = 4, 4, 20


def scores_of(run: Mapping[str, Any], traces: Sequence[Trace], looks: Mapping[str, Look]) -> dict[str, Any] | None:
    """Draw the first nodes and say what is drawn."""
    if not traces:
        return None
    nodes = list(dict.fromkeys(trace.node for trace in traces))
    drawn = nodes[:MOST_NODES]
    fleet = (run.get("data") or {}).get("nodes") or 0
    figures = [figure for node in drawn for figure in _figures(node, [t for t in traces if t.node == node], looks)]
    return {
        "figures": [{"number": number, **figure} for number, figure in enumerate(figures)],
        "closer": any(figure["closer"] for figure in figures),
        "timed": any(trace.time is not None for trace in traces),
        "truth": any(trace.label is not None for trace in traces),
        "thinned": max(-(-len(trace.score) // BINS) for trace in traces),
        "drawn": len(drawn),
        "nodes": max(fleet, len(nodes)) if nodes != ["*"] else 1,
        "seed": (run.get("seeds") or [None])[0] if len(run.get("seeds") or []) > 1 else None,
        "protocols": len({trace.protocol for trace in traces}),
    }


def _figures(node: str, traces: Sequence[Trace], looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """Draw one node, a figure a protocol, the methods that learn first."""
    found = []
    for protocol in sorted({trace.protocol for trace in traces}):
        mine = {trace.method: trace for trace in traces if trace.protocol == protocol}
        methods = [method for method in reversed(ordered(mine)) if method not in REFERENCES] or list(mine)
        drawn = [mine[method] for method in methods[:MOST_PANELS]]
        figures = {"figure": trace_figure(drawn, looks), "closer": detail_figure(drawn, looks)}
        name = "All nodes together" if node == "*" else node
        found.append({"node": name, "protocol": protocol, **figures, "left_out": methods[MOST_PANELS:]})
    return found


def reasons_of(run: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, for each node that is drawn, its loudest alarms with the readings they come from."""
    found = []
    for entry in run.get("reasons") or []:
        alarms = [
            {
                **alarm,
                "when": _moment(alarm["time"]),
                "score": f"{alarm['score']:.3g}",
                "verdict": "right" if alarm["right"] else "false alarm",
            }
            for alarm in entry["alarms"]
        ]
        found.append({**entry, "node": "All nodes together" if entry["node"] == "*" else entry["node"], "alarms": alarms})
    return found


def _moment(seconds: float | None) -> str:
    """Say a time as a date, or as seconds where it cannot be one."""
    if seconds is None:
        return ""
    if seconds < YEAR:
        return f"{seconds:,.0f} s"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def kinds_of(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lay out, by kind of anomaly, the share of test rows each method found over all seeds; a table a protocol."""
    tables = []
    tested = [row for row in rows if row["split"] == "test"]
    for protocol in sorted({row["protocol"] for row in tested}):
        held, found = Counter[tuple[str, str]](), Counter[tuple[str, str]]()
        mine = [row for row in tested if row["protocol"] == protocol]
        for row in mine:
            held[row["kind"], row["method"]] += row["rows"]
            found[row["kind"], row["method"]] += row["found"]
        methods, seeds = ordered(row["method"] for row in mine), len({row["seed"] for row in mine})
        # Where every node is tested on the same rows, methods whose nodes differ count them once a node.
        readings = {kind: min(count for (one, _), count in held.items() if one == kind) // seeds for kind, _ in held}
        kinds = sorted(readings, key=lambda kind: (-readings[kind], kind))
        lines = [
            (kind, f"{readings[kind]:,}", [percentage(found[kind, m] / held[kind, m]) if held[kind, m] else "–" for m in methods])
            for kind in kinds[:MOST_KINDS]
        ]
        tables.append({"protocol": protocol, "methods": methods, "lines": lines, "left_out": len(kinds) - len(lines), "seeds": seeds})
    return [table for table in tables if table["lines"]]
