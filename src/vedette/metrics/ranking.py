"""Ranking metrics: how well scores put anomalies above normal rows, whatever the threshold."""

from __future__ import annotations

import numpy as np

from vedette.errors import MissingExtra
from vedette.message import Array

__all__ = ["ranking"]


def ranking(label: Array, score: Array) -> dict[str, float | None]:
    """Return ``auc_roc`` and ``auc_pr`` (average precision); None where there is only one class.

    Parameters
    ----------
    label
        [rows], 1 = anomaly.
    score
        [rows], higher = more anomalous.

    Raises
    ------
    MissingExtra
        scikit-learn is not installed.
    """
    truth = np.asarray(label) != 0
    if truth.all() or not truth.any():
        return {"auc_roc": None, "auc_pr": None}
    try:
        from sklearn.metrics import average_precision_score, roc_auc_score
    except ImportError:
        raise MissingExtra("reports need scikit-learn: pip install 'vedette[train]'") from None
    return {"auc_roc": float(roc_auc_score(truth, score)), "auc_pr": float(average_precision_score(truth, score))}
