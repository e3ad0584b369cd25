"""Figures of rows that follow each other: borders are kept, counts add up, volumes are averaged."""

from __future__ import annotations

import numpy as np
import pytest

from vedette.data.table import Coded, Feature, Table
from vedette.evaluation.recordings import Recordings, Told, event_figures
from vedette.evaluation.scoring import Scored, metric_rows
from vedette.metrics.vus import vus


def made(codes: list[int], label: list[int], time: list[float] | None = None) -> Table:
    return Table(
        (Feature("n"),),
        np.zeros((len(codes), 1)),
        label=np.array(label, dtype=np.int8),
        group=Coded(np.array(codes, dtype=np.int32), ("a", "b", "c")),
        time=None if time is None else np.array(time),
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
