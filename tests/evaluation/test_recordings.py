"""Figures of rows that follow each other: borders are kept, counts add up, volumes are averaged."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.data.table import Coded, Feature, Table
from vedette.evaluation.recordings import Recordings, Told, event_figures
from vedette.evaluation.scoring import Figures, Scored, folded, metric_rows
from vedette.metrics.changepoints import NabCounts, nab
from vedette.metrics.vus import vus


def made(codes: list[int], label: list[int], time: list[float] | None = None, change: list[int] | None = None) -> Table:
    return Table(
        (Feature("n"),),
        np.zeros((len(codes), 1)),
        label=np.array(label, dtype=np.int8),
        group=Coded(np.array(codes, dtype=np.int32), ("a", "b", "c")),
        time=None if time is None else np.array(time),
        change=None if change is None else np.array(change, dtype=np.int8),
    )


def test_events_and_alarms_end_with_their_recording() -> None:
    label, score = [0, 1, 1, 1, 0, 0, 0, 0], np.array([0, 0, 0, 9, 9, 0, 9, 9])
    table = made([0, 0, 0, 1, 1, 1, 1, 1], label, [0, 60, 120, 0, 60, 120, 180, 240])
    told = Told.of(Recordings.of(table), np.array(label), score, 1.0)
    # An event in each recording, the second found at once; an alarm over it, and a false one of two rows.
    assert told.counts == (2, 1, 2, 1)
    assert np.isnan(told.delays[0])
    assert told.delays[1] == 0
    assert told.alarms == (1, 60.0 * (1 + 4))
    figures = event_figures([told])
    assert (figures["events"], figures["event_recall"], figures["event_precision"], figures["event_f1"]) == (2, 0.5, 0.5, 0.5)
    assert figures["delay"] == 0
    assert figures["alarms_per_day"] == pytest.approx(86_400 / 300)
    parts = [vus(np.array(label)[rows], score[rows], 100) for rows in (slice(0, 3), slice(3, 8))]
    assert figures["vus_pr"] == pytest.approx(np.mean([part.pr for part in parts]))
    assert figures["vus_roc"] == pytest.approx(np.mean([part.roc for part in parts]))


def test_delays_are_seconds_and_a_clock_set_back_stands_still() -> None:
    label = np.array([0, 1, 1, 1, 1, 0])
    table = made([0] * 6, label.tolist(), [0, 10, 20, 5, 30, 40])
    told = Told.of(Recordings.of(table), label, np.array([0, 0, 0, 0, 5, 0]), 1.0)
    assert told.delays.tolist() == [20.0]
    rows = Told.of(Recordings.of(made([0] * 6, label.tolist())), label, np.array([0, 0, 0, 0, 5, 0]), 1.0)
    assert rows.delays.tolist() == [3.0]
    assert event_figures([rows])["alarms_per_day"] is None


def test_nodes_add_up_and_rows_out_of_order_have_no_such_figures() -> None:
    rng = np.random.default_rng(0)
    parts = []
    for node in ("a", "b"):
        label = (np.arange(50) % 10 > 6).astype(np.int8)
        table = made([0] * 50, label.tolist(), (60.0 * np.arange(50)).tolist())
        parts.append(Scored(node, rng.random(50) + label, 0.9, label, recordings=Recordings.of(table)))
    about = {"method": "m", "protocol": "strict", "split": "test", "seed": 0}
    whole, *nodes = metric_rows(parts, about)
    assert whole["events"] == 10 == sum(row["events"] for row in nodes)
    assert whole["vus_pr"] == pytest.approx(np.mean([row["vus_pr"] for row in nodes]))
    assert whole["alarms_per_day"] == pytest.approx(np.mean([row["alarms_per_day"] for row in nodes]))  # as long, both
    plain = metric_rows([part._replace(recordings=None) for part in parts], about)
    assert all("events" not in row for row in plain)
    one_of_them = metric_rows([parts[0], parts[1]._replace(recordings=None)], about)
    assert all("events" not in row for row in one_of_them)


def test_change_points_are_scored_by_recording_and_added_up() -> None:
    # In a window of 60 s. First recording: the change at 100 s is found at once; the flags end at 300 s, long after: false.
    # Second: flagged from its first row on, which is false, and the change at 100 s is missed.
    label, time = [0, 1, 1, 0, 0, 1, 0, 0], [0.0, 100, 200, 300] * 2
    table = made([0] * 4 + [1] * 4, label, time, [0, 1, 0, 0] * 2)
    score = np.array([0, 2, 2, 0, 2, 2, 2, 2])
    told = Told.of(Recordings.of(table), np.array(label), score, 1.0)
    assert told.nab == NabCounts(2, 1, 1.0, 2)
    assert {key: figure for key, figure in event_figures([told]).items() if key.startswith("nab")} == {
        "nab_standard": pytest.approx(100 * (1 - 2 * 0.11 - 1 + 2) / 4),
        "nab_low_fp": pytest.approx(100 * (1 - 2 * 0.22 - 1 + 2) / 4),
        "nab_low_fn": pytest.approx(100 * (1 - 2 * 0.11 - 2 + 4) / 6),
    }
    # Two nodes, a recording each, come to the same.
    about = {"method": "m", "protocol": "strict", "split": "test", "seed": 0}
    parts = []
    for name, rows in (("a", slice(0, 4)), ("b", slice(4, 8))):
        part = table.take(rows)
        assert part.label is not None
        parts.append(Scored(name, score[rows], 1.0, part.label, recordings=Recordings.of(part)))
    whole, first, second = metric_rows(parts, about)
    assert whole["nab_standard"] == event_figures([told])["nab_standard"]
    assert first["nab_standard"] == pytest.approx(100 * (1 - 0.11 + 1) / 2)
    assert second["nab_standard"] == pytest.approx(100 * (-0.11 - 1 + 1) / 2)
    assert nab(NabCounts(1, 0, 0.0, 1))["standard"] == second["nab_standard"]


def test_scores_of_change_points_are_absent_where_changes_or_times_are_not_known() -> None:
    label, change, time = [0, 1, 0], [0, 1, 0], [0.0, 1, 2]
    known, untimed, unknown = made([0] * 3, label, time, change), made([0] * 3, label, None, change), made([0] * 3, label, time)
    figures = [event_figures([Told.of(Recordings.of(table), np.array(label), np.array(label), 0.5)]) for table in (known, untimed, unknown)]
    assert [{f"nab_{profile}" for profile in ("standard", "low_fp", "low_fn")} <= set(each) for each in figures] == [True, False, False]
    assert not any(key.startswith("nab") for each in figures[1:] for key in each)
    none = event_figures([Told.of(Recordings.of(made([0] * 3, label, time, [0] * 3)), np.array(label), np.array(label), 0.5)])
    assert none["nab_standard"] is None


def test_change_points_at_the_same_moment_are_one() -> None:
    table = made([0] * 5, [0] * 5, [0, 10, 5, 10, 20], [0, 1, 1, 1, 1])  # the clock is set back: it stands still until 20
    recordings = Recordings.of(table)
    assert recordings.change is not None
    assert recordings.change.tolist() == [False, True, False, False, True]
    told = Told.of(recordings, np.zeros(5), np.zeros(5), 0.5)
    assert told.nab == NabCounts(2, 0, 0.0, 0)


def test_scores_of_folds_are_averaged() -> None:
    row = {"method": "m", "protocol": "strict", "split": "test", "seed": 0, "node": "*", "events": 2, "threshold": 1.0}
    figures = {name: Figures([{**row, "nab_standard": score}], []) for name, score in (("a", 10.0), ("b", 30.0), ("c", None))}
    whole, *folds = folded(figures).rows
    assert (whole["nab_standard"], whole["events"]) == (20.0, 6)
    assert [fold["nab_standard"] for fold in folds] == [10.0, 30.0, None]
