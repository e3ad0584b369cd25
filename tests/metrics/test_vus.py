"""Volumes under the surface: TSB-AD's own values, a loop that follows the paper row by row, and what degenerate rows give."""

from __future__ import annotations

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.message import Array
from vedette.metrics.vus import Vus, vus, window_of

REFERENCE = json.loads((Path(__file__).parent / "fixtures" / "vus.json").read_text())

rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 9)), min_size=2, max_size=30).filter(lambda t: len({y for y, _ in t}) == 2)


def inputs_of(case: dict[str, Any]) -> tuple[Array, Array]:
    label = np.zeros(case["rows"], dtype=np.int64)
    for first, last in case["events"]:
        label[first : last + 1] = 1
    if case["lift"] is None:
        return label, np.zeros(case["rows"])
    score = np.random.default_rng(case["seed"]).random(case["rows"]) + case["lift"] * label
    return label, score if case["decimals"] is None else np.round(score, case["decimals"])


def volumes_by_loop(label: list[int], score: list[float], window: int) -> tuple[float, float]:
    """Follow the definition one buffer, one threshold and one row at a time."""
    n, ranks = len(label), sorted(score, reverse=True)
    events = [
        (i, next(j for j in range(i, n) if j == n - 1 or not label[j + 1])) for i in range(n) if label[i] and not (i and label[i - 1])
    ]
    roc = pr = 0.0
    for w in range(window + 1):
        soft, merged = [float(y) for y in label], [list(events[0])]
        for i in range(n):
            for first, last in events:
                distance = max(first - i, i - last)
                if 0 < distance <= w // 2:
                    soft[i] += math.sqrt(1 - distance / w)
            soft[i] = min(soft[i], 1.0)
        for first, last in events[1:]:
            if merged[-1][1] + w // 2 < first - w // 2:
                merged.append([first, last])
            else:
                merged[-1][1] = last
        curve = [(0.0, 0.0, 1.0)]
        for k in range(250):
            flagged = [s >= ranks[int(k * ((n - 1) / 249)) if k < 249 else n - 1] for s in score]
            hits = sum(y for y, f in zip(soft, flagged, strict=True) if f)
            seen = sum(y for y, f, t in zip(soft, flagged, label, strict=True) if f or t)
            positive = (sum(label) + seen) / 2
            found = sum(any(flagged[max(a - w // 2, 0) : b + w // 2 + 1]) for a, b in merged) / len(merged)
            curve.append(((sum(flagged) - hits) / (n - positive), min(hits / positive, 1.0) * found, hits / sum(flagged)))
        steps = list(pairwise(curve))
        pr += sum((b[1] - a[1]) * b[2] for a, b in steps)
        roc += sum((b[0] - a[0]) * (b[1] + a[1]) / 2 for a, b in [*steps, (curve[-1], (1.0, 1.0, 0.0))])
    return roc / (window + 1), pr / (window + 1)


@pytest.mark.parametrize("case", REFERENCE["volumes"], ids=lambda case: case["case"])
def test_volumes_are_those_of_tsb_ad(case: dict[str, Any]) -> None:
    assert vus(*inputs_of(case), case["window"]) == pytest.approx((case["roc"], case["pr"]), abs=1e-9)


@pytest.mark.parametrize("case", REFERENCE["windows"], ids=lambda case: f"period {case['period']}")
def test_windows_are_those_of_tsb_ad(case: dict[str, Any]) -> None:
    noise = case["noise"] * np.random.default_rng(case["seed"]).normal(size=case["rows"])
    assert window_of(np.sin(2 * np.pi * np.arange(case["rows"]) / case["period"]) + noise) == case["window"]


@given(rows, st.integers(0, 9))
def test_volumes_are_what_they_are_defined_to_be(table: list[tuple[int, int]], window: int) -> None:
    label, score = [y for y, _ in table], [float(s) for _, s in table]
    assert vus(np.array(label), np.array(score), window) == pytest.approx(volumes_by_loop(label, score, window), abs=1e-9)


def test_a_volume_worked_out_by_hand() -> None:
    # Window 0: no buffer, so TPR, FPR and precision of points. The anomaly is second of three rows: the highest score is a false
    # alarm, then the anomaly is found with precision 1/2. ROC: the curve runs (0, 0), (1/2, 0), (1/2, 1), (1, 1).
    assert vus(np.array([0, 1, 0]), np.array([0.9, 0.5, 0.1]), 0) == pytest.approx((1 / 2, 1 / 2))
    # A buffer of 2 rows: the rows beside the event count sqrt(1/2) each, so the first alarm is no longer quite false. With h = sqrt(1/2),
    # the thresholds give hits h, 1 + h, 1 + 2h of P = 1 + h/2, 1 + h/2, 1 + h; buffers 0 and 1 are as above.
    h = math.sqrt(1 / 2)
    tpr, fpr = [0, h / (1 + h / 2), 1, 1, 1], [0, (1 - h) / (2 - h / 2), (1 - h) / (2 - h / 2), (2 - 2 * h) / (2 - h), 1]
    precision = [h, (1 + h) / 2, (1 + 2 * h) / 3]
    roc = sum((fpr[i + 1] - fpr[i]) * (tpr[i + 1] + tpr[i]) / 2 for i in range(4))
    pr = sum((tpr[i + 1] - tpr[i]) * precision[i] for i in range(3))
    found = vus(np.array([0, 1, 0]), np.array([0.9, 0.5, 0.1]), 2)
    assert found == pytest.approx(((1 / 2 + 1 / 2 + roc) / 3, (1 / 2 + 1 / 2 + pr) / 3))


@given(rows, st.integers(0, 9))
def test_only_the_order_of_scores_counts(table: list[tuple[int, int]], window: int) -> None:
    label, score = np.array(table).T
    assert vus(label, score, window) == vus(label.astype(bool), np.array([math.exp(3 * s) - 50 for s in score]), window)


def test_an_alarm_just_before_an_event_is_worth_more_than_one_far_away() -> None:
    label = np.zeros(200)
    label[100:110] = 1
    near, far = np.zeros(200), np.zeros(200)
    near[97:100], far[20:23] = 1, 1
    for close, distant in zip(vus(label, near, 20), vus(label, far, 20), strict=True):
        assert close is not None
        assert distant is not None
        assert close > distant + 0.01


@pytest.mark.parametrize("label", [[], [0, 0, 0], [1, 1, 1]], ids=["no rows", "no anomaly", "all anomalous"])
def test_one_class_has_no_volume(label: list[int]) -> None:
    assert vus(np.array(label), np.arange(float(len(label))), 5) == Vus(None, None)


@pytest.mark.parametrize(
    ("label", "score", "window", "said"),
    [
        ([0, 1], [0.1, 0.2, 0.3], 1, "as many rows"),
        ([[0, 1]], [[0.1, 0.2]], 1, "as many rows"),
        ([0, 1, 0], [0.1, math.nan, 0.3], 1, "nan"),
        ([0, 1, 0], [0.1, 0.2, 0.3], -1, "-1"),
    ],
)
def test_unusable_input_is_refused(label: list[Any], score: list[Any], window: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        vus(np.array(label), np.array(score), window)


@pytest.mark.parametrize("series", [[], [1.0, 2.0], [0.1] * 500, list(range(500))], ids=["empty", "short", "constant", "a line"])
def test_a_series_without_a_period_gets_the_default_window(series: list[float]) -> None:
    assert window_of(np.array(series)) == 125


@pytest.mark.parametrize("series", [np.zeros((9, 2)), np.array([0.0, math.nan] * 9), np.array([math.inf] * 9)])
def test_a_window_of_unusable_values_is_refused(series: Array) -> None:
    with pytest.raises(ValueError, match="finite"):
        window_of(series)
