"""Ranking metrics against their definitions, counted pair by pair and threshold by threshold."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.errors import MissingExtra
from vedette.metrics.ranking import ranking

# Few distinct scores, so that ties are common.
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=50)


def pairs_won(label: list[int], score: list[int]) -> float:
    """ROC-AUC as Mann and Whitney define it: pairs in the right order, ties half."""
    anomalous = [s for s, y in zip(score, label, strict=True) if y]
    normal = [s for s, y in zip(score, label, strict=True) if not y]
    return sum((a > n) + 0.5 * (a == n) for a in anomalous for n in normal) / (len(anomalous) * len(normal))


def average_precision(label: list[int], score: list[int]) -> float:
    """Precision at each distinct threshold, weighted by the recall gained there."""
    total, before = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        flagged = [y for y, s in zip(label, score, strict=True) if s >= threshold]
        recall = sum(flagged) / sum(label)
        total, before = total + (recall - before) * sum(flagged) / len(flagged), recall
    return total


def test_a_ranking_worked_out_by_hand() -> None:
    # From the top: anomaly, normal, anomaly, normal. 3 of 4 pairs in order; precision 1/1 at recall 1/2, 2/3 at recall 1.
    found = ranking(np.array([0, 1, 0, 1]), np.array([0.1, 0.9, 0.5, 0.4]))
    assert found == {"auc_roc": pytest.approx(3 / 4), "auc_pr": pytest.approx((1 + 2 / 3) / 2)}


@given(rows)
def test_rankings_are_what_they_are_defined_to_be(table: list[tuple[int, int]]) -> None:
    label, score = [y for y, _ in table], [s for _, s in table]
    found = ranking(np.array(label), np.array(score, dtype=np.float64))
    if len(set(label)) == 1:
        assert found == {"auc_roc": None, "auc_pr": None}
    else:
        assert found == {"auc_roc": pytest.approx(pairs_won(label, score)), "auc_pr": pytest.approx(average_precision(label, score))}


@given(rows)
def test_only_the_order_of_scores_counts(table: list[tuple[int, int]]) -> None:
    label, score = np.array(table).T
    assert ranking(label, score.astype(float)) == ranking(label.astype(bool), np.array([math.exp(3 * s) - 50 for s in score]))


def test_equal_scores_are_worth_a_guess() -> None:
    assert ranking(np.array([0, 0, 0, 1]), np.zeros(4)) == {"auc_roc": 0.5, "auc_pr": 0.25}


def test_no_rows_have_no_ranking() -> None:
    assert ranking(np.array([]), np.array([])) == {"auc_roc": None, "auc_pr": None}


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    with pytest.raises(MissingExtra, match=r"pip install 'vedette\[train\]'"):
        ranking(np.array([0, 1]), np.array([0.0, 1.0]))
