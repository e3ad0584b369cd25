"""NAB scores of change points: SKAB's own values, arithmetic done by hand, and the definition followed alarm by alarm."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.message import Array
from vedette.metrics.changepoints import NabCounts, changes, nab

REFERENCE = json.loads((Path(__file__).parent / "fixtures" / "nab.json").read_text())

# Seconds since the row before, change point, alarm.
rows = st.lists(st.tuples(st.integers(1, 4), st.booleans(), st.booleans()), max_size=40)


def inputs_of(series: dict[str, Any]) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(series["seed"])
    time = np.cumsum(rng.integers(1, series["step"] + 1, series["rows"]))
    alarm = rng.random(series["rows"]) < series["rate"]
    return np.isin(np.arange(series["rows"]), series["changes"]), alarm, time


def counts_by_loop(moments: list[int], alarms: list[int], window: int) -> NabCounts:
    found, earliness, free, earlier = 0, 0.0, set(alarms), -math.inf
    for moment in moments:
        begin, end = max(moment, earlier), moment + window
        inside = [alarm for alarm in alarms if begin <= alarm <= end]
        if inside:
            step = min(int((inside[0] - begin) / (end - begin) * 1000), 999)
            found, earliness = found + 1, earliness + 0.5 - math.tanh(math.pi * (step / 999 - 0.5)) / math.tanh(math.pi / 2) / 2
        free, earlier = free - set(inside), end
    return NabCounts(len(moments), found, earliness, len(free))


@pytest.mark.parametrize("case", REFERENCE["scores"], ids=lambda case: case["case"])
def test_scores_are_those_of_skab(case: dict[str, Any]) -> None:
    counts = NabCounts()
    for series in case["series"]:
        counts = counts.plus(NabCounts.of(*inputs_of(series), case["window"]))
    assert nab(counts) == {profile: pytest.approx(case[profile], abs=1e-9) for profile in ("standard", "low_fp", "low_fn")}


@given(rows, st.integers(1, 20))
def test_counts_are_what_they_are_defined_to_be(table: list[tuple[int, bool, bool]], window: int) -> None:
    time = np.cumsum([step for step, _, _ in table])
    change, alarm = np.array([c for _, c, _ in table], dtype=bool), np.array([a for _, _, a in table], dtype=bool)
    counted, wanted = NabCounts.of(change, alarm, time, window), counts_by_loop(time[change].tolist(), time[alarm].tolist(), window)
    assert counted == (wanted.changes, wanted.found, pytest.approx(wanted.earliness, abs=1e-12), wanted.false_alarms)


def test_a_score_worked_out_by_hand() -> None:
    # Two windows of 10 s, from 10 and from 40. Alarms at 5 and 30 are false; at 10, at once, the first change is found, and the second
    # alarm there costs nothing; the second change is missed.
    change, alarm = np.zeros(60), np.zeros(60)
    change[[10, 40]], alarm[[5, 10, 12, 30]] = 1, 1
    counts = NabCounts.of(change, alarm, np.arange(60.0), window=10)
    assert counts == (2, 1, 1.0, 2)
    assert nab(counts) == {  # score, less what silence gets, in what a perfect detector gets more than silence
        "standard": pytest.approx(100 * (1 - 2 * 0.11 - 1 + 2) / (2 + 2)),
        "low_fp": pytest.approx(100 * (1 - 2 * 0.22 - 1 + 2) / (2 + 2)),
        "low_fn": pytest.approx(100 * (1 - 2 * 0.11 - 2 + 4) / (2 + 4)),
    }


def test_what_a_late_alarm_earns_worked_out_by_hand() -> None:
    def counted(second: int) -> NabCounts:
        alarm = np.zeros(200)
        alarm[50 + second] = 1
        return NabCounts.of(np.arange(200) == 50, alarm, np.arange(200.0), window=100)

    assert counted(0).earliness == pytest.approx(1)
    assert counted(50).earliness == pytest.approx(0.5, abs=0.002)  # step 500 of 0 to 999 lies just past the middle
    assert counted(100) == (1, 1, pytest.approx(0, abs=1e-12), 0)  # the end belongs to the window, and earns what a false alarm costs
    assert counted(101) == (1, 0, 0.0, 1)
    assert nab(counted(100))["standard"] == pytest.approx(100 * (-0.11 + 1) / 2)


def test_the_scale_runs_from_silence_to_perfection() -> None:
    change = np.isin(np.arange(500), [100, 300])
    assert nab(NabCounts.of(change, np.zeros(500), np.arange(500.0))) == {"standard": 0.0, "low_fp": 0.0, "low_fn": 0.0}
    assert nab(NabCounts.of(change, change, np.arange(500.0))) == {"standard": 100.0, "low_fp": 100.0, "low_fn": 100.0}


def test_an_overlapping_window_begins_where_the_one_before_ends() -> None:
    change = np.isin(np.arange(100), [10, 15])  # windows 10 to 20, and 20 to 25
    assert NabCounts.of(change, np.arange(100) == 16, np.arange(100.0), window=10)[:2] == (2, 1)
    assert NabCounts.of(change, np.arange(100) == 20, np.arange(100.0), window=10) == (2, 2, pytest.approx(1, abs=1e-12), 0)


def test_a_series_without_changes_has_only_false_alarms() -> None:
    counts = NabCounts.of(np.zeros(9), np.ones(9), np.arange(9.0))
    assert counts == (0, 0, 0.0, 9)
    assert nab(counts) == {"standard": None, "low_fp": None, "low_fn": None}
    assert NabCounts.of(np.array([]), np.array([]), np.array([])) == NabCounts()


def test_counts_go_into_json() -> None:
    counts = NabCounts.of(np.array([0, 1, 0]), np.array([0, 0, 1]), np.arange(3))
    assert [type(count) for count in counts] == [int, int, float, int]


def test_flags_change_where_they_begin_and_end() -> None:
    assert changes(np.array([0, 1, 1, 0, 0, 1])).tolist() == [False, True, False, True, False, True]
    assert changes(np.array([1, 1, 0])).tolist() == [True, False, True]
    assert changes(np.array([])).tolist() == []


@pytest.mark.parametrize(
    ("change", "alarm", "time", "window", "said"),
    [
        ([0, 1], [0, 1, 0], [0, 1], 60, "as many rows"),
        ([0, 1], [0, 1], [1, 0], 60, "never fall"),
        ([0, 1], [0, 1], [0, math.nan], 60, "never fall"),
        ([1, 1], [0, 1], [3, 3], 60, "between two change points"),
        ([0, 1], [0, 1], [0, 1], 0, "more than 0 seconds"),
    ],
)
def test_unusable_input_is_refused(change: list[int], alarm: list[int], time: list[float], window: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        NabCounts.of(np.array(change), np.array(alarm), np.array(time), window)
