"""Rows of the table worked out by hand: own rows, shared rows, all nodes together."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import pytest

from vedette.data.fleet import Fleet
from vedette.data.table import Table
from vedette.detectors.base import Detector
from vedette.evaluation.scoring import Scored, metric_rows, score_fleet, score_trivial
from vedette.message import Array

ABOUT = {"method": "m", "protocol": "strict", "split": "test", "seed": 3}


class Scales:
    """Scores a row by its first number times a factor; counts how often it is asked."""

    def __init__(self, factor: float, threshold: float) -> None:
        self.factor, self.threshold_, self.asked = factor, threshold, 0

    def decision_function(self, table: Table) -> Array:
        self.asked += 1
        return np.asarray(table.numbers[:, 0] * self.factor, dtype=np.float64)


def detectors(**made: Scales) -> dict[str, Detector]:
    return cast("dict[str, Detector]", made)


def table(numbers: list[float], label: list[int]) -> Table:
    return Table.from_array(np.array(numbers).reshape(-1, 1), np.array(label))


def by_node(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    assert len({row["node"] for row in rows}) == len(rows)
    return {row["node"]: row for row in rows}


def scored(node: str, score: list[float], threshold: float, label: list[int]) -> Scored:
    return Scored(node, np.array(score), threshold, np.array(label))


def test_each_node_is_scored_on_its_own_rows() -> None:
    tests = Fleet.of({"a": table([1, 2], [0, 1]), "b": table([3], [1]), "none": table([], [])})
    parts = score_fleet(detectors(a=Scales(10, 15), b=Scales(1, 9), none=Scales(1, 1)), tests)
    assert [(p.node, p.score.tolist(), p.threshold, p.label.tolist()) for p in parts] == [("a", [10, 20], 15, [0, 1]), ("b", [3], 9, [1])]


def test_shared_rows_are_scored_once_by_each_distinct_detector() -> None:
    same, other = Scales(1, 2), Scales(5, 2)
    parts = score_fleet(detectors(a=same, b=other, c=same), table([1, 2], [0, 1]))
    assert [(p.node, p.score.tolist()) for p in parts] == [("a", [1, 2]), ("b", [5, 10]), ("c", [1, 2])]
    assert (same.asked, other.asked) == (1, 1)


def test_a_detector_that_all_share_on_shared_rows_stands_for_all() -> None:
    same = Scales(1, 1.5)
    (part,) = score_fleet(detectors(a=same, b=same), table([1, 2], [0, 1]))
    assert part.node == "*"
    assert by_node(metric_rows([part], ABOUT))["*"]["accuracy"] == 1.0


def test_on_shared_rows_every_node_counts_even_if_some_have_the_same_detector() -> None:
    same, other = Scales(1, 1.5), Scales(1, 0.5)
    parts = score_fleet(detectors(a=same, b=same, c=other), table([1, 2], [0, 1]))
    assert [part.node for part in parts] == ["a", "b", "c"]
    # a and b flag the anomalous row alone, c flags both: one false alarm on three normal rows.
    assert by_node(metric_rows(parts, ABOUT))["*"]["fpr"] == pytest.approx(1 / 3)


def test_counts_of_all_nodes_are_added_up() -> None:
    # a: tp 1, fp 0, fn 1, tn 2.  b: tp 1, fp 1, fn 0, tn 0.  Together tp 2, fp 1, fn 1, tn 2.
    parts = [scored("a", [9, 1, 1, 1], 5, [1, 1, 0, 0]), scored("b", [9, 9], 5, [1, 0])]
    rows = by_node(metric_rows(parts, ABOUT))
    assert list(rows) == ["*", "a", "b"]
    whole = rows["*"]
    assert (whole["recall"], whole["precision"], whole["fpr"]) == (pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(1 / 3))
    assert (whole["rows"], whole["anomalies"], whole["threshold"]) == (6, 3, 5)
    assert (rows["a"]["recall"], rows["a"]["fpr"], rows["b"]["fpr"]) == (0.5, 0.0, 1.0)
    for row in rows.values():
        assert ABOUT.items() <= row.items()


def test_own_rows_are_ranked_together_in_units_of_each_nodes_threshold() -> None:
    # Raw scores would put b's normal rows (30, 40) above a's anomaly (3): 2 of 6 pairs wrong. In units of the threshold, from the
    # top: 1.5 anomaly, 0.5 normal, 0.4 normal, 0.3 normal; a's anomaly wins all of its pairs.
    parts = [scored("a", [3, 1], 2, [1, 0]), scored("b", [30, 40], 100, [0, 0])]
    rows = by_node(metric_rows(parts, ABOUT))
    assert rows["*"]["auc_roc"] == rows["*"]["auc_pr"] == 1.0
    assert rows["*"]["threshold"] is None  # they differ
    assert rows["b"]["auc_roc"] is None
    # b's anomaly at 0.9 of its threshold stands below a's normal row at 1.5: 0 of 1 pairs, precision 1/2.
    rows = by_node(metric_rows([scored("a", [3], 2, [0]), scored("b", [90], 100, [1])], ABOUT))
    assert (rows["*"]["auc_roc"], rows["*"]["auc_pr"]) == (0.0, 0.5)


def test_shared_rows_are_ranked_by_the_mean_over_nodes() -> None:
    label = np.array([1, 0, 0])
    # a: the anomaly wins both pairs (AUC 1). b: it wins one of two (AUC 1/2; precision 1/2 where it is reached).
    parts = [Scored("a", np.array([3.0, 2.0, 1.0]), 2.5, label), Scored("b", np.array([2.0, 3.0, 1.0]), 2.5, label)]
    rows = by_node(metric_rows(parts, ABOUT))
    assert (rows["*"]["auc_roc"], rows["*"]["auc_pr"]) == (0.75, 0.75)
    # a: tp 1, tn 2; b: fp 1, fn 1, tn 1.
    assert (rows["*"]["rows"], rows["*"]["anomalies"], rows["*"]["recall"], rows["*"]["fpr"]) == (6, 2, 0.5, 0.25)


def test_a_lone_node_is_also_all_nodes() -> None:
    rows = by_node(metric_rows([scored("only", [1, 9], 5, [0, 1])], ABOUT))
    assert rows["*"] == rows["only"] | {"node": "*"}


def test_a_score_must_exceed_the_threshold_to_be_flagged() -> None:
    rows = by_node(metric_rows([scored("*", [5.001, 5.0], 5.0, [1, 1])], ABOUT))
    assert rows["*"]["recall"] == 0.5


def test_rows_of_one_class_have_no_ranking_but_counts() -> None:
    rows = by_node(metric_rows([scored("a", [1, 2], 5, [0, 0]), scored("b", [1, 9], 5, [0, 0])], ABOUT))
    assert (rows["*"]["auc_roc"], rows["*"]["recall"], rows["*"]["fpr"]) == (None, None, 0.25)


def test_flagging_all_is_worth_the_share_of_anomalies() -> None:
    tests = Fleet.of({"b": table([1, 2, 3], [0, 0, 1]), "a": table([4], [1]), "none": table([], [])})
    rows = by_node(metric_rows(score_trivial(tests, lambda _, rows: np.ones(len(rows)), 0.5), ABOUT))
    # Together 2 of 4 rows are anomalous: precision 1/2, recall 1, F1 = 2 · (1/2) / (3/2).
    assert (rows["*"]["precision"], rows["*"]["recall"], rows["*"]["f1"]) == (0.5, 1.0, pytest.approx(2 / 3))
    assert set(rows) == {"*", "a", "b"}
    shared = by_node(metric_rows(score_trivial(table([1, 2, 3], [0, 0, 1]), lambda _, rows: np.ones(len(rows)), 0.5), ABOUT))
    assert (list(shared), shared["*"]["rows"]) == (["*"], 3)
