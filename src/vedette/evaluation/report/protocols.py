"""Protocols side by side: what is missed under each, and what becomes of methods as nodes grow in number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vedette.evaluation.plots import Growth, HeatMap, Look, heat_figure, mean_of_rows, ordered, size_figure
from vedette.evaluation.report.results import REFERENCES, Lines, Measure, about_protocols, in_order, lines_of
from vedette.evaluation.report.rounds import courses_of
from vedette.evaluation.report.wording import percentage
from vedette.message import Array

__all__ = ["growth_of", "protocols_of"]

FEWEST = 3
"""Protocols, and numbers of nodes, from which on there is something to lay side by side."""
MOST_METHODS, MOST_PROTOCOLS = 24, 16
MEASURES = (Measure("fnr", "Missed alarms, %", ""), Measure("fpr", "False alarms, %", ""))
NEAR = 0.01
"""Of the best last F1: who stays within it has settled."""


def protocols_of(run: Mapping[str, Any]) -> dict[str, Any] | None:
    """Lay out the misses of each method under each protocol, where there are three or more; None in a run of the leak meter."""
    lines = lines_of(run["rows"], MEASURES)
    tested = {(protocol, method) for (protocol, split, method) in lines if split == "test" and method not in REFERENCES}
    protocols = in_order(run, (protocol for protocol, _ in tested))
    methods = [method for method in ordered(method for _, method in tested) if sum(at[1] == method for at in tested) >= FEWEST]
    if len(protocols) < FEWEST or not methods or run.get("leak"):
        return None
    shown, rows = protocols[:MOST_PROTOCOLS], methods[:MOST_METHODS]
    maps = [HeatMap(measure.name, _table(lines, measure.key, rows, shown)) for measure in MEASURES]
    return {
        "figure": heat_figure(maps, rows, shown),
        "verdict": _verdict(maps[0].values, maps[1].values, rows, shown),
        "left_out": [*protocols[MOST_PROTOCOLS:], *methods[MOST_METHODS:]],
    }


def growth_of(run: Mapping[str, Any], looks: Mapping[str, Look]) -> dict[str, Any] | None:
    """Lay out what becomes of each method as nodes grow in number, where protocols have three or more numbers of them."""
    # Of protocols with as many nodes the first: a line goes through one point a number.
    first = {
        int(about["nodes"]): name
        for name, about in reversed([*about_protocols(run).items()])
        if isinstance(about, Mapping) and about.get("nodes")
    }
    sizes = {name: nodes for nodes, name in sorted(first.items())}
    if len(sizes) < FEWEST:
        return None
    lines = lines_of(run["rows"], (Measure("f1", "F1", ""),))
    f1: dict[str, dict[int, float]] = {}
    for (protocol, split, method), line in lines.items():
        mean = line["f1"]
        if split == "test" and method not in REFERENCES and protocol in sizes and mean is not None:
            f1.setdefault(method, {})[sizes[protocol]] = mean.value
    settled, rounds = _settled(run, sizes)
    sent, seen = _spread(run, sizes)
    methods = [method for method in ordered(f1) if sum(len(values.get(method, {})) >= FEWEST for values in (f1, settled, sent, seen)) > 1]
    if not methods:
        return None
    growths = [Growth(method, *(values.get(method, {}) for values in (f1, settled, sent, seen))) for method in methods]
    return {
        "figure": size_figure(growths, looks, rounds),
        "methods": methods,
        "near": NEAR,
        "rounds": rounds,
        "never": sum(not np.isfinite(value) for each in growths for value in each.settled.values()),
    }


def _table(lines: Lines, key: str, methods: Sequence[str], protocols: Sequence[str]) -> Array:
    found = [[lines.get((protocol, "test", method), {}).get(key) for protocol in protocols] for method in methods]
    return np.array([[np.nan if mean is None else mean.value for mean in row] for row in found], dtype=np.float64)


def _verdict(missed: Array, alarmed: Array, methods: Sequence[str], protocols: Sequence[str]) -> str | None:
    """Say who misses least where it misses most, and at which price."""
    full = [row for row in range(len(methods)) if np.isfinite(missed[row]).all() and np.isfinite(alarmed[row]).all()]
    if len(full) < 2:
        return None
    worst = {row: float(missed[row].max()) for row in full}
    least, most = min(full, key=lambda row: worst[row]), max(full, key=lambda row: worst[row])
    where = {row: f"{percentage(worst[row])} of the anomalous readings ({protocols[int(missed[row].argmax())]})" for row in (least, most)}
    price = f"its false alarms reach {percentage(float(alarmed[least].max()))} of the normal ones"
    least_said = f"At its worst {methods[least]} misses {where[least]}, the fewest of all; {price}."
    return f"{least_said} At its worst {methods[most]} misses {where[most]}."


def _settled(run: Mapping[str, Any], sizes: Mapping[str, int]) -> tuple[dict[str, dict[int, float]], int]:
    """Return by method and number of nodes the round from which on F1 stays near the best last one, and how many rounds there were."""
    found: dict[str, dict[int, float]] = {}
    last = 1
    for protocol, nodes in sizes.items():
        followed = [each for each in run.get("followed") or [] if each["protocol"] == protocol and each["rounds"] and each["nodes"]]
        means = {course.method: (course.rounds, mean_of_rows(course.values["f1"])) for course in courses_of(followed)}
        ends = [float(values[-1]) for method, (_, values) in means.items() if method not in REFERENCES and np.isfinite(values[-1])]
        for method, (rounds, values) in means.items() if ends else ():
            last = max(last, rounds[-1])
            away = np.flatnonzero(~(values >= max(ends) - NEAR - 1e-12))
            start = 0 if not len(away) else int(away[-1]) + 1
            found.setdefault(method, {})[nodes] = float(rounds[start]) if start < len(rounds) else float("inf")
    return found, last


def _spread(run: Mapping[str, Any], sizes: Mapping[str, int]) -> tuple[dict[str, dict[int, float]], dict[str, dict[int, float]]]:
    """Return by method and number of nodes the bytes a node sent, and how many others see something of its updates."""
    sent: dict[str, dict[int, float]] = {}
    seen: dict[str, dict[int, float]] = {}
    for each in run.get("topologies") or []:
        if each["protocol"] in sizes and each["nodes"]:
            if each.get("bytes"):
                sent.setdefault(each["method"], {})[sizes[each["protocol"]]] = each["bytes"] / each["nodes"]
            if (mean := (each.get("seen_by") or {}).get("mean")) is not None:
                seen.setdefault(each["method"], {})[sizes[each["protocol"]]] = float(mean)
    return sent, seen
