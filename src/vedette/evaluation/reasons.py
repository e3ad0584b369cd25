"""Reasons: which readings the loudest alarms of a run come from."""

from __future__ import annotations

from typing import Any

import numpy as np

from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.detectors.explanation import explain
from vedette.errors import DetectorMisused
from vedette.evaluation.scoring import Scored
from vedette.metrics.events import runs

__all__ = ["reasons"]

MOST, APART = 3, 100
"""Alarms explained, and rows between them at least: what flickers is one alarm."""


def reasons(detector: Detector, table: Table, scored: Scored) -> list[dict[str, Any]]:
    """Explain the highest score of each of the loudest alarms (unbroken runs of flagged rows), the loudest first.

    Parameters
    ----------
    detector
        The one that scored.
    table
        The test rows.
    scored
        What it said of them.

    Returns
    -------
    list of dict
        ``row`` (from 0), ``time`` (s, or None), ``score`` in thresholds, ``right`` (whether the row is an anomaly) and ``said``, a line
        a feature; empty where nothing was flagged or the detector cannot tell features apart.
    """
    stretches = zip(*(edge.tolist() for edge in runs(scored.score > scored.threshold)), strict=True)
    peaks = sorted((first + int(scored.score[first : last + 1].argmax()) for first, last in stretches), key=lambda row: -scored.score[row])
    apart: list[int] = []
    for row in peaks:
        if len(apart) < MOST and all(abs(row - other) > APART for other in apart):
            apart.append(row)
    chosen = np.array(apart, dtype=np.int64)
    try:
        why = explain(detector, table, chosen) if len(chosen) else None
    except DetectorMisused:
        return []
    if why is None:
        return []
    scale = scored.threshold if scored.threshold > 0 else 1.0
    return [
        {
            "row": row,
            "time": None if table.time is None else float(table.time[row]),
            "score": float(scored.score[row] / scale),
            "right": bool(scored.label[row]),
            "said": why.said(place),
        }
        for place, row in enumerate(chosen.tolist())
    ]
