"""Order: whether a detector keeps to what it has seen, and what it is worth that rows come in their order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.evaluation.scoring import Scored, metric_rows, score_fleet
from vedette.seeds import stream

__all__ = ["lookahead", "order", "shuffled"]

MOST = 4_096
"""Rows that are looked at for what a detector knows of later ones."""

FIGURES = ("f1", "auc_roc", "auc_pr")


def order(detectors: Mapping[str, Detector], tests: Fleet | Table, scored: Sequence[Scored], seed: int) -> dict[str, Any]:
    """Tell what detectors make of rows whose order, or whose future, is another.

    Parameters
    ----------
    detectors
        By node.
    tests
        Each node's own test rows, or one table that all share.
    scored
        What the detectors said of them in their order.
    seed
        Of the run.

    Returns
    -------
    dict
        ``lookahead``: by how much scores change at most, in thresholds, when all later rows are others; ``ordered`` and ``shuffled``:
        F1 and areas of all nodes together, rows in their order and in none.
    """
    node = next(iter(detectors))
    first = tests if isinstance(tests, Table) else tests[node]
    mixed = shuffled(tests, seed) if isinstance(tests, Table) else tests.map(lambda table: shuffled(table, seed))
    found = {"ordered": scored, "shuffled": score_fleet(detectors, mixed)}
    rows = {name: metric_rows(said, {})[0] for name, said in found.items()}
    figures = {name: {key: row[key] for key in FIGURES} for name, row in rows.items()}
    return {"lookahead": lookahead(detectors[node], first), **figures}


def lookahead(detector: Detector, table: Table) -> float:
    """Return by how much, in thresholds, the scores of rows change at most when those after them come in the opposite order."""
    rows = min(len(table), MOST)
    half = rows // 2
    turned = table.take(np.concatenate([np.arange(half), np.arange(half, rows)[::-1]]))
    begun = table.take(slice(0, rows))
    # Only what is read changes: where recordings begin and break stays as it was.
    other = replace(turned, group=begun.group, time=begun.time, place=begun.place)
    gaps = np.abs(detector.decision_function(begun)[:half] - detector.decision_function(other)[:half])
    return float(gaps.max(initial=0.0) / detector.threshold_)


def shuffled(table: Table, seed: int) -> Table:
    """Return the rows of each group in random order, as if they had come so one after the other."""
    at = stream(seed, "shuffled", len(table)).permutation(len(table))
    if table.group is not None:
        at = at[np.argsort(table.group.codes[at], kind="stable")]
    return replace(table.take(at), place=None, time=None)
