"""Event-wise metrics: arithmetic done by hand, and each definition followed in plain loops."""

from __future__ import annotations

import math
from itertools import groupby
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.metrics.events import (
    EventCounts,
    FalseAlarms,
    delays,
    event_rates,
    point_adjusted,
    point_adjusted_f1,
    precision_at_recall,
    recall_at_precision,
    runs,
    typical_delay,
)

# Label, decision, seconds until the next row; runs are common.
rows = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1), st.integers(0, 5)), max_size=40)
scored = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=40).filter(lambda t: len({y for y, _ in t}) == 2)

#                 0  1  2  3  4  5  6  7  8  9 10 11
LABEL = np.array([0, 1, 1, 1, 0, 0, 1, 1, 0, 0, 1, 1])
FLAGS = np.array([1, 0, 0, 1, 1, 0, 0, 0, 1, 0, 1, 0])


def runs_by_loop(flags: list[int]) -> list[list[int]]:
    """Return the rows of each run."""
    return [[i for i, _ in group] for flag, group in groupby(enumerate(flags), key=lambda pair: pair[1]) if flag]


def columns(table: list[tuple[int, int, int]]) -> tuple[list[int], list[int], list[int]]:
    return [y for y, _, _ in table], [d for _, d, _ in table], [s for _, _, s in table]


def test_counts_worked_out_by_hand() -> None:
    # Events 1-3 (found at its last row), 6-7 (missed), 10-11 (found at once).
    # Alarms 0 (false: it ends beside the event), 3-4, 8 (false), 10.
    counts = EventCounts.of(LABEL, FLAGS)
    assert counts == (3, 2, 4, 2)
    assert event_rates(counts) == {
        "precision": pytest.approx(2 / 4),
        "recall": pytest.approx(2 / 3),
        "f_beta": pytest.approx(2 * (1 / 2) * (2 / 3) / (1 / 2 + 2 / 3)),
    }
    assert event_rates(counts, beta=2)["f_beta"] == pytest.approx(5 * (1 / 2) * (2 / 3) / (4 * (1 / 2) + 2 / 3))


@given(rows)
def test_counts_are_what_they_are_defined_to_be(table: list[tuple[int, int, int]]) -> None:
    label, decision, _ = columns(table)
    events, alarms = runs_by_loop(label), runs_by_loop(decision)
    found = sum(any(decision[i] for i in event) for event in events)
    false_alarms = sum(not any(label[i] for i in alarm) for alarm in alarms)
    assert EventCounts.of(np.array(label), np.array(decision)) == (len(events), found, len(alarms), false_alarms)


@given(rows, st.sampled_from([0.5, 1.0, 2.0]))
def test_rates_are_what_they_are_defined_to_be(table: list[tuple[int, int, int]], beta: float) -> None:
    label, decision, _ = columns(table)
    counts = EventCounts.of(np.array(label), np.array(decision))
    found = event_rates(counts, beta)
    assert found["recall"] == (counts.found / counts.events if counts.events else None)
    if counts.alarms:
        assert found["precision"] == pytest.approx(1 - counts.false_alarms / counts.alarms)
    else:
        assert found["precision"] == (0.0 if counts.events else None)
    precision, recall, both = found["precision"], found["recall"], found["f_beta"]
    if precision is None:
        assert both is None
    elif precision and recall:
        assert both == pytest.approx((1 + beta**2) / (1 / precision + beta**2 / recall))  # the weighted harmonic mean
    else:
        assert both == 0


def test_counts_of_series_add_up() -> None:
    counts = EventCounts.of(LABEL, FLAGS).plus(EventCounts.of(FLAGS, LABEL))
    assert counts == (3 + 4, 2 + 2, 4 + 3, 2 + 1)
    assert all(type(count) is int for count in counts)  # goes into JSON


def test_one_alarm_over_all_rows_finds_every_event() -> None:
    assert EventCounts.of(LABEL, np.ones(12)) == (3, 3, 1, 0)
    assert event_rates(EventCounts.of(LABEL, np.ones(12))) == {"precision": 1.0, "recall": 1.0, "f_beta": 1.0}


def test_silence_finds_nothing_and_no_rows_leave_everything_undefined() -> None:
    assert event_rates(EventCounts.of(LABEL, np.zeros(12))) == {"precision": 0.0, "recall": 0.0, "f_beta": 0.0}
    assert event_rates(EventCounts.of(np.zeros(3), np.ones(3))) == {"precision": 0.0, "recall": None, "f_beta": 0.0}
    assert event_rates(EventCounts.of(np.array([]), np.array([]))) == {"precision": None, "recall": None, "f_beta": None}
    assert typical_delay(delays(np.array([]), np.array([]))) == {"mean": None, "median": None, "found": 0, "missed": 0}
    assert FalseAlarms.of(np.array([]), np.array([]), 1.0).per_day() is None
    assert point_adjusted_f1(np.array([]), np.array([])) is None


def test_delays_worked_out_by_hand() -> None:
    assert delays(LABEL, FLAGS).tolist() == [2, pytest.approx(math.nan, nan_ok=True), 0]
    time = np.array([0, 10, 11, 15, 20, 30, 40, 50, 60, 70, 80, 90])
    delay = delays(LABEL, FLAGS, time)
    assert delay.tolist() == [5, pytest.approx(math.nan, nan_ok=True), 0]
    assert typical_delay(delay) == {"mean": 2.5, "median": 2.5, "found": 2, "missed": 1}
    assert typical_delay(np.append(delay, [10.0])) == {"mean": 5.0, "median": 5.0, "found": 3, "missed": 1}
    # An alarm that began before the event was there from its first row on.
    assert delays(np.array([0, 1, 1]), np.array([1, 1, 1])).tolist() == [0]


@given(rows)
def test_delays_are_what_they_are_defined_to_be(table: list[tuple[int, int, int]]) -> None:
    label, decision, seconds = columns(table)
    time = np.cumsum(seconds, dtype=np.int64)
    wanted = []
    for event in runs_by_loop(label):
        flagged = [i for i in event if decision[i]]
        wanted.append(float(time[flagged[0]] - time[event[0]]) if flagged else math.nan)
    found = delays(np.array(label), np.array(decision), time)
    assert np.array_equal(found, np.array(wanted), equal_nan=True)
    known = [delay for delay in wanted if not math.isnan(delay)]
    told = typical_delay(found)
    assert told["mean"] == (pytest.approx(sum(known) / len(known)) if known else None)
    assert (told["found"], told["missed"]) == (len(known), len(wanted) - len(known))


def test_false_alarms_per_day_worked_out_by_hand() -> None:
    # Two alarms touch no event; 5 of 12 rows are normal: half a day of 2.4 h a row, so 4 a day.
    found = FalseAlarms.of(LABEL, FLAGS, 0.1 * 86_400)
    assert found == (2, pytest.approx(43_200))
    assert found.per_day() == pytest.approx(4)
    # A second device, quiet for a day and a half: 2 alarms in two days of devices.
    both = found.plus(FalseAlarms.of(np.zeros(3), np.zeros(3), np.array([86_400.0, 43_200.0, 0.0])))
    assert both == (2, pytest.approx(172_800))
    assert both.per_day() == pytest.approx(1)
    assert FalseAlarms.of(np.ones(3), np.ones(3), 60.0).per_day() is None


@given(rows)
def test_false_alarms_are_what_they_are_defined_to_be(table: list[tuple[int, int, int]]) -> None:
    label, decision, seconds = columns(table)
    false_alarms = sum(not any(label[i] for i in alarm) for alarm in runs_by_loop(decision))
    normal = sum(s for y, s in zip(label, seconds, strict=True) if not y)
    found = FalseAlarms.of(np.array(label), np.array(decision), np.array(seconds))
    assert found == (false_alarms, normal)
    assert found.per_day() == (pytest.approx(false_alarms / (normal / 86_400)) if normal else None)


def test_point_adjustment_worked_out_by_hand() -> None:
    # Events 1-3 and 10-11 count as flagged throughout: 5 rows found, 2 missed, rows 0, 4 and 8 false.
    assert np.flatnonzero(point_adjusted(LABEL, FLAGS)).tolist() == [0, 1, 2, 3, 4, 8, 10, 11]
    assert point_adjusted_f1(LABEL, FLAGS) == pytest.approx(2 * 5 / (2 * 5 + 2 + 3))


@given(rows)
def test_point_adjustment_is_what_it_is_defined_to_be(table: list[tuple[int, int, int]]) -> None:
    label, decision, _ = columns(table)
    adjusted = list(decision)
    for event in runs_by_loop(label):
        if any(decision[i] for i in event):
            for i in event:
                adjusted[i] = 1
    tp, wrong = sum(a and y for a, y in zip(adjusted, label, strict=True)), sum(a != y for a, y in zip(adjusted, label, strict=True))
    assert point_adjusted_f1(np.array(label), np.array(decision)) == (pytest.approx(2 * tp / (2 * tp + wrong)) if tp + wrong else None)


def test_point_adjustment_rewards_chance() -> None:
    rng = np.random.default_rng(0)
    label = np.repeat([0, 1] * 5, [1000, 200] * 5)
    lucky = point_adjusted_f1(label, rng.random(len(label)) < 0.02)
    assert lucky is not None
    assert lucky > 0.8  # every event of 200 rows is hit by one in fifty rows drawn at random


def test_one_rate_at_another_worked_out_by_hand() -> None:
    # From the top: anomaly, normal, anomaly, anomaly, normal, anomaly. Precision 1, 1/2, 2/3, 3/4, 3/5, 4/6 at recall 1/4, 1/4, 2/4,
    # 3/4, 3/4, 1.
    label, score = np.array([1, 0, 1, 1, 0, 1]), np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert precision_at_recall(label, score) == pytest.approx(3 / 4)
    assert precision_at_recall(label, score, recall=0.76) == pytest.approx(4 / 6)
    assert recall_at_precision(label, score) == pytest.approx(3 / 4)
    assert recall_at_precision(label, score, precision=0.76) == pytest.approx(1 / 4)
    assert recall_at_precision(label, -score, precision=0.9) == pytest.approx(1 / 4)
    assert recall_at_precision(np.array([0, 1]), np.array([0.9, 0.1]), precision=0.6) == 0


@given(scored, st.sampled_from([0.1, 0.25, 0.5, 0.75, 1.0]))
def test_one_rate_at_another_is_what_it_is_defined_to_be(table: list[tuple[int, int]], share: float) -> None:
    label, score = [y for y, _ in table], [s for _, s in table]
    precise, complete = [], [0.0]
    for threshold in set(score):
        flagged = [y for y, s in table if s >= threshold]
        precision, recall = sum(flagged) / len(flagged), sum(flagged) / sum(label)
        if recall >= share:
            precise.append(precision)
        if precision >= share:
            complete.append(recall)
    assert precision_at_recall(np.array(label), np.array(score), share) == max(precise)
    assert recall_at_precision(np.array(label), np.array(score), share) == max(complete)


@pytest.mark.parametrize("label", [[], [0, 0], [1, 1]], ids=["no rows", "no anomaly", "all anomalous"])
def test_one_class_has_no_curve(label: list[int]) -> None:
    score = np.arange(float(len(label)))
    assert precision_at_recall(np.array(label), score) is recall_at_precision(np.array(label), score) is None


@given(st.lists(st.integers(0, 1), max_size=40))
def test_runs_are_what_they_are_defined_to_be(flags: list[int]) -> None:
    first, last = runs(np.array(flags))
    assert list(zip(first.tolist(), last.tolist(), strict=True)) == [(run[0], run[-1]) for run in runs_by_loop(flags)]


@given(rows)
def test_any_type_of_label_counts_the_same(table: list[tuple[int, int, int]]) -> None:
    label, decision = np.array([y for y, _, _ in table], dtype=np.int8), np.array([d for _, d, _ in table], dtype=bool)
    assert EventCounts.of(label, decision) == EventCounts.of(label.astype(float), decision.astype(np.uint8))


@pytest.mark.parametrize("function", [EventCounts.of, delays, point_adjusted_f1, precision_at_recall, recall_at_precision])
def test_rows_that_do_not_match_are_refused(function: Any) -> None:
    with pytest.raises(ValueError, match="as many rows"):
        function(np.array([0, 1, 0]), np.array([1]))


def test_other_unusable_input_is_refused() -> None:
    with pytest.raises(ValueError, match="beta"):
        event_rates(EventCounts(1, 1, 1, 0), beta=0)
    with pytest.raises(ValueError, match="seconds"):
        FalseAlarms.of(LABEL, FLAGS, np.ones(3))
    with pytest.raises(ValueError, match="seconds"):
        FalseAlarms.of(LABEL, FLAGS, -1.0)
    with pytest.raises(ValueError, match="never fall"):
        delays(LABEL, FLAGS, np.arange(12)[::-1])
    with pytest.raises(ValueError, match="nan"):
        precision_at_recall(np.array([0, 1]), np.array([0.1, math.nan]))
    for share in (0.0, 1.1, math.nan):
        with pytest.raises(ValueError, match="at most 1"):
            recall_at_precision(np.array([0, 1]), np.array([0.1, 0.2]), share)
