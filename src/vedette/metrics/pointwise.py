"""Point-wise metrics: every row counts by itself."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from vedette.message import Array

__all__ = ["Confusion", "rates"]


class Confusion(NamedTuple):
    """Counts of rows: found anomalies, false alarms, missed anomalies, quiet normal rows. Counts add up over nodes."""

    tp: int = 0
    fp: int = 0
    fn: int = 0
    tn: int = 0

    @classmethod
    def of(cls, label: Array, decision: Array) -> Confusion:
        """Count.

        Parameters
        ----------
        label
            [rows], 1 = anomaly.
        decision
            [rows], 1 = flagged.
        """
        truth, flagged = np.asarray(label) != 0, np.asarray(decision) != 0
        tp, positive, raised = int((truth & flagged).sum()), int(truth.sum()), int(flagged.sum())
        return cls(tp, raised - tp, positive - tp, len(truth) - positive - raised + tp)

    def plus(self, other: Confusion) -> Confusion:
        """Add the counts of other rows."""
        return Confusion(*(a + b for a, b in zip(self, other, strict=True)))


def rates(counts: Confusion) -> dict[str, float | None]:
    """Return the rates of a confusion: accuracy, precision, recall, f1, mcc, balanced_accuracy, tnr, fpr, fnr.

    None stands where a rate is undefined (no anomalies, no normal rows). Precision is 0 where nothing was flagged but something was there.
    """
    tp, fp, fn, tn = counts
    rows, anomalies, normal = tp + fp + fn + tn, tp + fn, fp + tn
    recall = tp / anomalies if anomalies else None
    tnr = tn / normal if normal else None
    spread = math.sqrt(float(tp + fp) * anomalies * normal * (tn + fn))
    return {
        "accuracy": (tp + tn) / rows if rows else None,
        "precision": tp / (tp + fp) if tp + fp else (0.0 if anomalies else None),
        "recall": recall,
        "f1": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
        "mcc": None if not anomalies or not normal else (tp * tn - fp * fn) / spread if spread else 0.0,
        "balanced_accuracy": None if recall is None or tnr is None else (recall + tnr) / 2,
        "tnr": tnr,
        "fpr": None if tnr is None else 1 - tnr,
        "fnr": None if recall is None else 1 - recall,
    }
