"""Counts and rates of rows against scikit-learn, and against arithmetic done by hand."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as oracle

from vedette.metrics.pointwise import Confusion, rates

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
counts = st.builds(Confusion, *[st.integers(0, 10**9)] * 4)


def test_rates_worked_out_by_hand() -> None:
    # 3 anomalies of which 2 are found; 5 normal rows of which 1 raises a false alarm
    found = rates(Confusion.of(np.array([1, 1, 1, 0, 0, 0, 0, 0]), np.array([1, 1, 0, 1, 0, 0, 0, 0])))
    assert found == {
        "accuracy": pytest.approx(6 / 8),
        "precision": pytest.approx(2 / 3),
        "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3),
        "mcc": pytest.approx((2 * 4 - 1 * 1) / math.sqrt(3 * 3 * 5 * 5)),
        "balanced_accuracy": pytest.approx((2 / 3 + 4 / 5) / 2),
        "tnr": pytest.approx(4 / 5),
        "fpr": pytest.approx(1 / 5),
        "fnr": pytest.approx(1 / 3),
    }


@given(rows)
def test_counts_and_rates_are_scikit_learns(pairs: list[tuple[int, int]]) -> None:
    label, decision = np.array(pairs).T
    counted = Confusion.of(label, decision)
    tn, fp, fn, tp = oracle.confusion_matrix(label, decision, labels=[0, 1]).ravel().tolist()
    assert counted == (tp, fp, fn, tn)
    wanted = {
        "accuracy": oracle.accuracy_score(label, decision),
        "precision": oracle.precision_score(label, decision, zero_division=0.0),
        "recall": oracle.recall_score(label, decision, zero_division=0.0),
        "f1": oracle.f1_score(label, decision, zero_division=0.0),
        "mcc": oracle.matthews_corrcoef(label, decision) if len({*label, *decision}) > 1 else None,  # it warns of a lone class
        "tnr": oracle.recall_score(label, decision, pos_label=0, zero_division=0.0),
    }
    wanted |= {"fpr": 1 - wanted["tnr"], "fnr": 1 - wanted["recall"], "balanced_accuracy": (wanted["recall"] + wanted["tnr"]) / 2}
    undefined = set()
    if not tp + fn:
        undefined |= {"recall", "fnr", "mcc", "balanced_accuracy"} | (set() if fp else {"precision", "f1"})
    if not tn + fp:
        undefined |= {"tnr", "fpr", "mcc", "balanced_accuracy"}
    for key, value in rates(counted).items():
        assert value == (None if key in undefined else pytest.approx(wanted[key], abs=1e-12)), key


@given(counts)
def test_large_counts_lose_nothing(counted: Confusion) -> None:
    tp, fp, fn, tn = counted
    found = rates(counted)
    if tp + fn and tn + fp and tp + fp and tn + fn:
        square = Fraction((tp * tn - fp * fn) ** 2, (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
        sign = 1 if tp * tn >= fp * fn else -1
        assert found["mcc"] == pytest.approx(sign * math.sqrt(square), rel=1e-9)
    assert all(value is None or math.isfinite(value) for value in found.values())


@given(rows, st.integers(0, 60))
def test_counts_of_nodes_add_up_to_the_counts_of_all_rows(pairs: list[tuple[int, int]], cut: int) -> None:
    label, decision = np.array(pairs).T
    parts = Confusion.of(label[:cut], decision[:cut]).plus(Confusion.of(label[cut:], decision[cut:]))
    assert parts == Confusion.of(label, decision)


def test_any_type_of_label_counts_the_same() -> None:
    label, decision = np.array([1, 0, 1, 0], dtype=np.int8), np.array([True, True, False, False])
    assert Confusion.of(label, decision) == Confusion.of(label.astype(float), decision.astype(np.int64)) == (1, 1, 1, 1)
    assert all(type(count) is int for count in Confusion.of(label, decision))  # goes into JSON


def test_no_rows_leave_everything_undefined() -> None:
    assert set(rates(Confusion.of(np.array([]), np.array([]))).values()) == {None}


def test_flagging_all_or_nothing_is_worth_nothing_by_mcc() -> None:
    assert rates(Confusion(tp=5, fp=95))["mcc"] == 0.0
    assert rates(Confusion(fn=5, tn=95))["mcc"] == 0.0
    assert rates(Confusion(fn=5, tn=95))["precision"] == 0.0
