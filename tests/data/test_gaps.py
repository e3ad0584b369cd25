"""Missing readings and irregular sampling: each rule by hand, and against a plain loop."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vedette.data.gaps import Gaps
from vedette.data.table import Coded, Feature, Table
from vedette.data.windows import segment_starts
from vedette.errors import DataUnusable, RecipeError
from vedette.settings import validated

NAN = float("nan")


def readings(values: list[float], time: list[float] | None = None, group: str = "", label: list[int] | None = None) -> Table:
    table = Table((Feature("flow"),), np.array(values, dtype=np.float64)[:, None])
    return replace(
        table,
        time=None if time is None else np.array(time, dtype=np.float64),
        group=Coded.of(group) if group else None,
        label=None if label is None else np.array(label, dtype=np.int8),
        kind=None if label is None else Coded.of("leak" if each else "normal" for each in label),
    )


def flow(table: Table) -> list[float]:
    return ["-" if np.isnan(value) else float(value) for value in table.numbers[:, 0]]  # type: ignore[misc]


def test_what_is_missing_is_as_it_was_for_a_while() -> None:
    table = readings([NAN, 1, NAN, NAN, NAN, 4, NAN])
    assert flow(Gaps(fill="forward", limit=2).closed(table)) == ["-", 1, 1, 1, "-", 4, 4]
    assert flow(Gaps().closed(table)) == flow(table)


def test_nothing_is_carried_over_to_another_group_or_over_a_clock_that_runs_backwards() -> None:
    assert flow(Gaps(fill="forward").closed(readings([1, NAN, NAN, 5], group="aabb"))) == [1, 1, "-", 5]
    assert flow(Gaps(fill="forward").closed(readings([1, NAN, NAN], time=[10, 20, 5]))) == [1, 1, "-"]


def test_resampling_takes_the_mean_of_what_is_known_and_keeps_anomalies() -> None:
    table = readings([1, 3, NAN, 7, 9], time=[0, 30, 61, 62, 200], label=[0, 1, 0, 0, 0])
    even = Gaps(resample=60).closed(table)
    assert flow(even) == [2, 7, 9]
    assert even.time is not None
    assert even.time.tolist() == [60, 120, 240]
    assert even.label is not None
    assert even.label.tolist() == [1, 0, 0]
    assert even.column("kind").texts() == ["leak", "normal", "normal"]
    # From 120 to 180 s nothing was read: no window spans it.
    assert segment_starts(even, pause=5).tolist() == [0, 0, 2]


def test_a_change_is_kept_once() -> None:
    table = replace(readings([1, 3, 5, 7], time=[0, 30, 61, 300]), change=np.array([0, 1, 0, 1], dtype=np.int8))
    even = Gaps(resample=60, fill="forward", limit=2).closed(table)
    assert even.time is not None
    assert even.change is not None
    assert even.time.tolist() == [60, 120, 180, 240, 360]
    assert even.change.tolist() == [1, 0, 0, 0, 1]
    assert even.change.dtype == np.int8


def test_missing_rows_are_filled_up_to_the_limit() -> None:
    table = readings([1, 2, 8], time=[0, 60, 360], label=[0, 0, 1])
    even = Gaps(resample=60, fill="forward", limit=2).closed(table)
    assert flow(even) == [1, 2, 2, 2, 8]
    assert even.time is not None
    assert even.time.tolist() == [60, 120, 180, 240, 420]
    assert segment_starts(even, pause=5).tolist() == [0, 0, 0, 0, 4]


def test_texts_and_groups_go_along() -> None:
    lamp = Coded.of(["red", "green", "red", "red"])
    table = Table((Feature("lamp", "category"),), np.zeros((4, 0)), (lamp,), group=Coded.of("aabb"), time=np.array([0.0, 1, 0, 70]))
    even = Gaps(resample=60).closed(table)
    assert even.categories[0].texts() == ["green", "red", "red"]
    assert even.column("group").texts() == ["a", "b", "b"]


@given(
    rows=st.lists(st.tuples(st.floats(0, 500), st.one_of(st.just(NAN), st.floats(-5, 5))), min_size=1, max_size=40),
    step=st.sampled_from([1.0, 7.5, 60.0]),
    limit=st.integers(1, 4),
)
def test_resampling_and_filling_are_those_of_a_plain_loop(rows: list[tuple[float, float]], step: float, limit: int) -> None:
    rows = sorted(rows, key=lambda row: row[0])
    even = Gaps(resample=step, fill="forward", limit=limit).closed(readings([v for _, v in rows], [t for t, _ in rows]))
    wanted: dict[int, list[float]] = {}
    for time, value in rows:
        wanted.setdefault(int(time // step), []).append(value)
    found, held, age = {}, NAN, 10**9
    for place in range(min(wanted), max(wanted) + 1):
        known = [value for value in wanted.get(place, []) if not np.isnan(value)]
        held, age = (float(np.mean(known)), 0) if known else (held, age + 1)
        empty = next((back for back in range(place, -1, -1) if back in wanted), -1)
        if place in wanted or place - empty <= limit:
            found[place] = held if age <= limit else NAN
    assert even.place is not None
    assert even.place.tolist() == list(found)
    np.testing.assert_allclose(even.numbers[:, 0], list(found.values()), atol=1e-12)


def test_impossible_rules_are_said() -> None:
    with pytest.raises(DataUnusable, match="no time"):
        Gaps(resample=1).closed(readings([1]))
    for wrong in ({"resample": 0}, {"limit": 0}, {"fill": "backward"}):
        with pytest.raises(RecipeError):
            validated(Gaps, wrong, "gaps")
    assert len(Gaps(resample=1, fill="forward").closed(readings([], []))) == 0
