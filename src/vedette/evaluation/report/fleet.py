"""The nodes of a run: how each fares, and who holds how much."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from vedette.evaluation.plots import MOST_BARS, MOST_HOLDINGS, Holding, Look, class_figure, holding_figure, node_figure, ordered
from vedette.evaluation.report.results import REFERENCES, Row, mean_of, value_of
from vedette.evaluation.report.wording import percentage

__all__ = ["fleet_of", "holdings_of"]

MOST_COLUMNS = 10
MEASURES = {"f1": "F1", "auc_roc": "ROC-AUC"}


def fleet_of(rows: Iterable[Row], protocol: str, looks: Mapping[str, Look]) -> dict[str, Any] | None:
    """Compare the nodes under one protocol: a figure, and each method's worst, middle and best node."""
    mine = [row for row in rows if (row["protocol"], row["split"]) == (protocol, "test") and row["node"] != "*"]
    key = max(MEASURES, key=lambda key: sum(value_of(row, key) is not None for row in mine))
    nodes = {str(row["node"]) for row in mine}
    scores = _scores(mine, key)
    learned = {method: by_node for method, by_node in scores.items() if method not in REFERENCES}
    if len(nodes) < 2 or not learned:
        return None
    floor = scores.get("flag-all", {}) if key == "f1" else {}  # for ROC-AUC it is 0.5 everywhere
    focus, by_node = next(iter(learned.items()))
    shown = dict(list(learned.items())[:MOST_COLUMNS])
    return {
        "protocol": protocol,
        "name": MEASURES[key],
        "focus": focus,
        "nodes": len(nodes),
        "many": len(nodes) > MOST_BARS,
        "floor": floor,
        "undefined": len(nodes) - len(by_node),
        "extremes": {method: _extremes(values) for method, values in learned.items()},
        "left_out": list(learned)[MOST_COLUMNS:],
        "figure": node_figure(shown, floor, looks, MEASURES[key]),
    }


def _scores(rows: Iterable[Row], key: str) -> dict[str, dict[str, float]]:
    """Average a measure over seeds, by method (the federation first) and node; nodes and methods without any value are left out."""
    gathered: dict[str, dict[str, list[float | None]]] = {}
    for row in rows:
        gathered.setdefault(row["method"], {}).setdefault(str(row["node"]), []).append(value_of(row, key))
    scores = {
        method: {node: mean.value for node, values in sorted(gathered[method].items()) if (mean := mean_of(values))}
        for method in reversed(ordered(gathered))
    }
    return {method: by_node for method, by_node in scores.items() if by_node}


def _extremes(by_node: Mapping[str, float]) -> dict[str, Any]:
    worst, best = (pick(by_node, key=lambda node: by_node[node]) for pick in (min, max))
    return {"worst": worst, "low": by_node[worst], "middle": statistics.median(by_node.values()), "best": best, "high": by_node[best]}


def holdings_of(run: Mapping[str, Any], holdings: Sequence[Holding]) -> dict[str, Any] | None:
    """Draw who holds how much and say how unevenly."""
    if not holdings:
        return None
    sizes = sorted((holding.normal + holding.anomalous for holding in holdings), reverse=True)
    normal, tenth = sum(holding.normal for holding in holdings), max(len(sizes) // 10, 1)
    return {
        "figure": holding_figure(holdings),
        "classes": class_figure(holdings),
        "nodes": len(sizes),
        "many": len(sizes) > MOST_HOLDINGS,
        "even": sizes[0] - sizes[-1] <= 0.01 * sizes[0],
        "largest": tenth,
        "share": percentage(sum(sizes[:tenth]) / sum(sizes)) if sum(sizes) else None,
        "bare": sum(holding.anomalous == 0 for holding in holdings),
        # Detectors of normality leave anomalous rows out: fewer rows are trained on than are held.
        "spared": normal < sum(sizes) and (run.get("data") or {}).get("rows_train") == normal,
        "shared": (run.get("settings") or {}).get("test") == "shared",
    }
