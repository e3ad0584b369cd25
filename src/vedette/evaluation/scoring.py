"""Scoring methods side by side: every method of a table on the same test rows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from vedette.data.fleet import Fleet
from vedette.data.table import Coded, Table
from vedette.detectors.base import Detector
from vedette.evaluation.diagnostics import Diagnosed, Diagnostic, diagnostic_figures
from vedette.evaluation.plots import Tradeoff
from vedette.evaluation.recordings import Recordings, Told, event_figures
from vedette.message import Array
from vedette.metrics.events import precision_at_recall, recall_at_precision
from vedette.metrics.pointwise import Confusion, rates
from vedette.metrics.ranking import ranking

__all__ = ["Figures", "Scored", "folded", "kind_rows", "metric_rows", "score_fleet", "score_trivial", "tradeoff_of"]

ABOUT = ("method", "protocol", "split", "seed")

TENTH = 10
"""Nodes from which on the worst tenth of them is told."""


class Scored(NamedTuple):
    """What one detector says of one set of rows.

    Attributes
    ----------
    node
        Whose detector, or whose rows; ``"*"`` for a detector that all nodes have on rows that all nodes share.
    score
        [rows] float64.
    threshold
        Rows above it are flagged.
    label
        [rows], 1 = anomaly.
    kind
        The kind of each anomaly, if known.
    recordings
        How rows follow each other, if they do.
    """

    node: str
    score: Array
    threshold: float
    label: Array
    kind: Coded | None = None
    recordings: Recordings | None = None


class Figures(NamedTuple):
    """The figures of several methods: `metric_rows` and `kind_rows`."""

    rows: list[dict[str, Any]]
    kinds: list[dict[str, Any]]


def score_fleet(detectors: Mapping[str, Detector], tests: Fleet | Table, ordered: bool = False) -> list[Scored]:
    """Score test rows with each node's detector.

    Parameters
    ----------
    detectors
        By node; one object may stand for many nodes.
    tests
        Each node's own test rows, or one table that all nodes share.
    ordered
        Whether the rows of each group stand in the order of time, none left out.
    """
    if isinstance(tests, Table):
        label, recordings = _labels(tests), _recordings(tests, ordered)
        # A detector that several nodes have scores the rows once, but counts for each of them.
        distinct = {id(detector): detector for detector in detectors.values()}
        said = {key: (detector.decision_function(tests), detector.threshold_) for key, detector in distinct.items()}
        nodes = {"*": next(iter(distinct))} if len(distinct) == 1 else {node: id(detectors[node]) for node in sorted(detectors)}
        return [Scored(node, *said[key], label, tests.kind, recordings) for node, key in nodes.items()]
    scored = []
    for node in tests:
        table = tests[node]
        if len(table):
            said_of = detectors[node].decision_function(table), detectors[node].threshold_
            scored.append(Scored(node, *said_of, _labels(table), table.kind, _recordings(table, ordered)))
    return scored


def score_trivial(tests: Fleet | Table, scores_of: Callable[[str, Table], Array], threshold: float, ordered: bool = False) -> list[Scored]:
    """Score test rows without looking at their readings: what flagging all, or at random, or by the clock is worth."""
    shared = isinstance(tests, Table)
    tables = {"*": tests} if isinstance(tests, Table) else {node: tests[node] for node in tests}
    order = sorted(tables) if not shared else ["*"]
    found = [(node, tables[node]) for node in order if len(tables[node])]
    return [
        Scored(node, scores_of(node, table), threshold, _labels(table), table.kind, _recordings(table, ordered)) for node, table in found
    ]


def metric_rows(scored: Sequence[Scored], about: Mapping[str, Any], diagnostics: Collection[Diagnostic] = ()) -> list[dict[str, Any]]:
    """Return one row of metrics a node, and one ("*") for all together.

    The pooled row adds up the counts of all nodes; of ten or more nodes it tells the mean F1 of the worst tenth too
    (``f1_worst_tenth``). Its ranking metrics rank all rows together, in units of each node's threshold,
    where nodes have their own rows; where every node scores the same rows they are the mean over the nodes. Where rows follow each other
    in time there are `EVENT_FIGURES` too, and the diagnostics asked for.

    Parameters
    ----------
    scored
        One method's scores.
    about
        ``method``, ``protocol``, ``split``, ``seed``; goes into each row.
    diagnostics
        Which of them; none unless somebody asks.
    """
    events, all_events = _in_time(scored, diagnostics)
    nodes = [(part, Confusion.of(part.label, part.score > part.threshold), _ranks(part.label, part.score)) for part in scored]
    rows = [
        _row(part.node, counts, {**ranks, **figures}, part.threshold, about)
        for (part, counts, ranks), figures in zip(nodes, events, strict=True)
    ]
    if len(scored) == 1 and scored[0].node == "*":
        return rows
    total = Confusion()
    for _, counts, _ in nodes:
        total = total.plus(counts)
    shared = len({id(part.label) for part in scored}) == 1 and len(scored) > 1
    if shared:
        together = {key: _mean([ranks[key] for _, _, ranks in nodes]) for key in nodes[0][2]}
    else:
        together = _ranks(np.concatenate([part.label for part in scored]), np.concatenate([_relative(part) for part in scored]))
    together |= all_events
    if len(rows) >= TENTH:
        known = sorted(row["f1"] for row in rows if row["f1"] is not None)
        together["f1_worst_tenth"] = _mean(known[: max(len(known) // TENTH, 1)])
    thresholds = {part.threshold for part in scored}
    return [_row("*", total, together, thresholds.pop() if len(thresholds) == 1 else None, about), *rows]


def kind_rows(scored: Sequence[Scored], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, for each kind of anomaly, how many ``rows`` of it there are over all nodes and how many were ``found``.

    Parameters
    ----------
    scored
        One method's scores.
    about
        Goes into each row, as for `metric_rows`.
    """
    held, found = Counter[str](), Counter[str]()
    for part in scored:
        if part.kind is not None:
            anomalous = np.asarray(part.label) != 0
            flagged = anomalous & (part.score > part.threshold)
            for rows, counter in ((anomalous, held), (flagged, found)):
                counts = np.bincount(part.kind.codes[rows], minlength=len(part.kind.levels)).tolist()
                counter.update({level: count for level, count in zip(part.kind.levels, counts, strict=True) if count})
    return [{**about, "kind": kind, "rows": held[kind], "found": found[kind]} for kind in sorted(held)]


def tradeoff_of(method: str, scored: Sequence[Scored]) -> Tradeoff | None:
    """Return what a method finds at which price over all nodes' rows, scores in units of each node's threshold; None for one class."""
    label, score = (np.concatenate(parts) for parts in ([part.label for part in scored], [_relative(part) for part in scored]))
    return Tradeoff.of(method, label, score, np.concatenate([part.score > part.threshold for part in scored]))


def folded(folds: Mapping[str, Figures]) -> Figures:
    """Join the figures of folds: each fold's pooled row takes the fold's name as node; ``"*"`` is the mean over the folds.

    Counts of rows, of anomalies and by kind add up.

    Parameters
    ----------
    folds
        By name, of the same methods and splits.
    """
    of: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for name, figures in folds.items():
        for row in figures.rows:
            if row["node"] == "*":
                of.setdefault(tuple(row[key] for key in ABOUT), []).append({**row, "node": name})
    rows = []
    for found in of.values():
        whole: dict[str, Any] = {key: found[0][key] for key in ABOUT} | {"node": "*"}
        for key in found[0]:
            values = [row[key] for row in found]
            if key in ("rows", "anomalies", "events"):
                whole[key] = sum(values)
            elif key not in whole:
                whole[key] = None if key == "threshold" else _mean(values)
        rows += [whole, *found]
    kinds: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in (row for figures in folds.values() for row in figures.kinds):
        total = kinds.setdefault((*(row[key] for key in ABOUT), row["kind"]), {**row, "rows": 0, "found": 0})
        total["rows"], total["found"] = total["rows"] + row["rows"], total["found"] + row["found"]
    return Figures(rows, list(kinds.values()))


def _row(
    node: str, counts: Confusion, ranks: Mapping[str, float | None], threshold: float | None, about: Mapping[str, Any]
) -> dict[str, Any]:
    sizes = {"rows": sum(counts), "anomalies": counts.tp + counts.fn}
    return {**about, "node": node, **rates(counts), **ranks, **sizes, "threshold": threshold}


def _ranks(label: Array, score: Array) -> dict[str, float | None]:
    """Return what does not depend on the threshold: areas, precision at a recall of 75 % and recall at a precision of 75 %."""
    at = {"precision_at_recall_75": precision_at_recall(label, score), "recall_at_precision_75": recall_at_precision(label, score)}
    return {**ranking(label, score), **at}


def _in_time(
    scored: Sequence[Scored], diagnostics: Collection[Diagnostic]
) -> tuple[list[dict[str, float | None]], dict[str, float | None]]:
    """Return the figures of rows that follow each other, of each part and of all together; none unless all parts have such rows."""
    ordered = [(part, part.recordings) for part in scored if part.recordings is not None]
    if not ordered or len(ordered) < len(scored):
        return [{} for _ in scored], {}
    told = [Told.of(recordings, part.label, part.score, part.threshold) for part, recordings in ordered]
    looked = [Diagnosed.of(recordings, part.label, part.score > part.threshold, diagnostics) for part, recordings in ordered]
    each = [event_figures([one]) | diagnostic_figures([other]) for one, other in zip(told, looked, strict=True)]
    return each, event_figures(told) | diagnostic_figures(looked)


def _relative(part: Scored) -> Array:
    return part.score / part.threshold if part.threshold > 0 else part.score


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _recordings(table: Table, ordered: bool) -> Recordings | None:
    return Recordings.of(table) if ordered else None


def _labels(table: Table) -> Array:
    assert table.label is not None
    return table.label
