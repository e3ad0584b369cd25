"""Round by round: how well each method would do if training ended there."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from vedette.evaluation.plots import PANELS, Course, Look, mean_of_rows, node_rounds_figure, ordered, round_figure
from vedette.evaluation.report.results import REFERENCES, in_order

__all__ = ["courses_of", "rounds_of"]

MOST_NODES = 12
MOST_PICTURES = 24
"""Nodes drawn of all protocols together: each is a row of six panels, and a page shall stay small."""
FEWEST_NODES = 3

Entry = Mapping[str, Any]
Pick = Callable[[Entry], Sequence[Mapping[str, Any]]]


def rounds_of(run: Mapping[str, Any], looks: Mapping[str, Look]) -> list[dict[str, Any]]:
    """Lay out what was followed, from ``followed`` in the content of a run: a part a protocol, its nodes below it."""
    entries = [each for each in run.get("followed") or [] if each["rounds"] and each["nodes"] and each["method"] not in REFERENCES]
    protocols = in_order(run, (each["protocol"] for each in entries))
    most = min(MOST_NODES, MOST_PICTURES // max(len(protocols), 1))
    return [_part(protocol, [each for each in entries if each["protocol"] == protocol], looks, most) for protocol in protocols]


def courses_of(entries: Sequence[Entry]) -> list[Course]:
    """Return the mean over nodes of each method, seed by seed; where all nodes have one detector, its figures."""
    return _courses(entries, lambda entry: [values for node, values in entry["nodes"].items() if node != "*"] or [entry["nodes"]["*"]])


def _part(protocol: str, entries: Sequence[Entry], looks: Mapping[str, Look], most: int) -> dict[str, Any]:
    courses = courses_of(entries)
    nodes = sorted({node for each in entries for node in each["nodes"] if node != "*"})
    by_node = {node: _courses(entries, _of(node)) for node in nodes} if most >= FEWEST_NODES and len(nodes) > 1 else {}
    drawn = sorted(sorted(nodes, key=lambda node: _end(by_node[node]))[:most]) if by_node else []
    return {
        "protocol": protocol,
        "methods": [course.method for course in courses],
        "seeds": len({each["seed"] for each in entries}),
        "figure": round_figure(courses, looks),
        "nodes": len(nodes),
        "drawn": len(drawn),
        "of_nodes": node_rounds_figure({node: by_node[node] for node in drawn}, looks) if drawn else None,
    }


def _of(node: str) -> Pick:
    """Pick a node's figures; where all nodes had the same detector on the same rows, what stands for all."""

    def pick(entry: Entry) -> Sequence[Mapping[str, Any]]:
        lone = set(entry["nodes"]) == {"*"} and entry.get("shared")
        return [values for name, values in entry["nodes"].items() if name == node or lone]

    return pick


def _courses(entries: Sequence[Entry], pick: Pick) -> list[Course]:
    courses = []
    for method in ordered(entry["method"] for entry in entries):
        mine = [(entry, found) for entry in entries if entry["method"] == method and (found := pick(entry))]
        if mine:
            rounds = sorted({number for entry, _ in mine for number in entry["rounds"]})
            seeds = sorted({entry["seed"] for entry, _ in mine})
            values = {}
            for panel in PANELS:
                by_seed = [
                    [
                        _aligned(entry["rounds"], each.get(panel.key), rounds)
                        for entry, found in mine
                        if entry["seed"] == seed
                        for each in found
                    ]
                    for seed in seeds
                ]
                values[panel.key] = np.stack([mean_of_rows(np.array(rows)) for rows in by_seed])
            courses.append(Course(method, rounds, values))
    return courses


def _aligned(rounds: Sequence[int], values: Sequence[float | None] | None, wanted: Sequence[int]) -> list[float]:
    known = {number: value for number, value in zip(rounds, values or (), strict=False) if value is not None}
    return [float(known.get(number, np.nan)) for number in wanted]


def _end(courses: Sequence[Course]) -> float:
    """Return the mean F1 at the end, by which nodes are picked: the worst are worth a look."""
    last = [course.values["f1"][:, -1] for course in courses]
    known = [float(value) for values in last for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else np.inf
