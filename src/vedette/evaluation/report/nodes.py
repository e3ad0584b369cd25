"""Every node and every method side by side, where the nodes are few enough to read."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from vedette.evaluation.plots import ordered
from vedette.evaluation.report.results import REFERENCES, Row, mean_of, value_of
from vedette.evaluation.report.wording import figure

__all__ = ["node_tables"]

MOST_NODES = 40


class Shown(NamedTuple):
    """A measure as the table shows it: key in metrics.json, name, as a percentage, digits."""

    key: str
    name: str
    percent: bool = False
    digits: int = 3


MEASURES = (Shown("auc_pr", "PR-AUC"), Shown("f1", "F1"), Shown("recall", "Found, %", True, 1), Shown("fpr", "False alarms, %", True, 2))


def node_tables(rows: Iterable[Row], protocol: str) -> list[dict[str, Any]]:
    """Lay out the test figures of each node under each method, mean over seeds; one table a measure, the mean of the nodes last.

    Parameters
    ----------
    rows
        The rows of metrics.json.
    protocol
        Whose.
    """
    mine = [row for row in rows if (row["protocol"], row["split"]) == (protocol, "test") and row["node"] != "*"]
    found: dict[tuple[str, str], list[Row]] = {}
    for row in mine:
        found.setdefault((str(row["node"]), row["method"]), []).append(row)
    nodes = sorted({node for node, _ in found})
    methods = [method for method in ordered({method for _, method in found}) if method not in REFERENCES]
    if not 2 <= len(nodes) <= MOST_NODES or not methods:
        return []
    return [table for measure in MEASURES if (table := _table(measure, nodes, methods, found))["known"]]


def _table(measure: Shown, nodes: list[str], methods: list[str], found: Mapping[tuple[str, str], list[Row]]) -> dict[str, Any]:
    means = {key: mean_of([value_of(row, measure.key) for row in group]) for key, group in found.items()}
    values = {key: mean.value for key, mean in means.items() if mean is not None}

    def line(name: str, cells: Mapping[str, float]) -> dict[str, Any]:
        return {"name": name, "cells": [figure(cells[m], measure.digits, measure.percent) if m in cells else "–" for m in methods]}

    lines = [line(node, {m: values[node, m] for m in methods if (node, m) in values}) for node in nodes]
    overall = {}
    for method in methods:
        known = [values[node, method] for node in nodes if (node, method) in values]
        if known:
            overall[method] = sum(known) / len(known)
    return {"name": measure.name, "methods": methods, "lines": lines, "mean": line("mean of the nodes", overall), "known": bool(overall)}
