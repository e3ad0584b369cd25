"""Splits checked row by row: who stands where, and that no test label moves anything."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from vedette.data.dataset import Dataset
from vedette.data.table import Coded, Feature, Table
from vedette.errors import DataUnusable
from vedette.evaluation.protocol import Parts, Protocol

PARTS = ("train", "calibration", "validation", "test")


def numbered(rows: int, groups: int = 1, anomalous: float = 0.0) -> Table:
    """Rows that can be told apart: the time is the row's number."""
    label = (np.arange(rows) % 100 < 100 * anomalous).astype(np.int8)
    group = Coded.of(f"g{i * groups // max(rows, 1)}" for i in range(rows))
    return replace(
        Table.from_array(np.random.default_rng(rows).normal(size=(rows, 2)), label), group=group, time=np.arange(rows, dtype=np.float64)
    )


def whole(table: Table) -> Dataset:
    return Dataset("made up", {"all": table})


def ids(table: Table) -> list[int]:
    assert table.time is not None
    return table.time.astype(int).tolist()


def places(parts: Parts) -> dict[str, list[int]]:
    return {name: ids(getattr(parts, name)) for name in PARTS}


def contents(table: Table) -> list[tuple[Hashable, ...]]:
    """What each row holds, as text for categories and with all missing numbers alike."""
    columns = [["missing" if np.isnan(value) else float(value) for value in column] for column in table.numbers.T]
    return list(zip(*columns, *(column.texts() for column in table.categories), strict=True))


@pytest.mark.parametrize("split", ["rows", "time"])
def test_parts_have_the_shares_asked_for(split: str) -> None:
    protocol = Protocol.model_validate({"split": split, "test": 0.3, "validation": 0.2, "calibration": 0.25})
    found = places(protocol.parts(whole(numbered(1000)), 0))
    # 1000 · 0.3 = 300 for the test; 700 · 0.2 = 140 for validation; 560 · 0.25 = 140 for calibration; 420 remain.
    assert {name: len(rows) for name, rows in found.items()} == {"train": 420, "calibration": 140, "validation": 140, "test": 300}


def test_whole_sets_of_equal_rows_have_about_the_share_asked_for() -> None:
    parts = Protocol(split="distinct", test=0.3).parts(whole(numbered(4000)), 0)
    assert len(parts.test) == pytest.approx(1200, abs=5 * np.sqrt(4000 * 0.3 * 0.7))


def grouped(sizes: dict[str, int]) -> Table:
    """Rows of named groups, so many each."""
    table = numbered(sum(sizes.values()))
    return replace(table, group=Coded.of(name for name, rows in sizes.items() for _ in range(rows)))


def test_whole_groups_are_held_out_of_each_kind() -> None:
    table = grouped({**{f"valve1/{i}": 10 + i for i in range(10)}, "valve2/0": 30, "valve2/1": 30, "alone": 5})
    for seed in range(5):
        parts = Protocol(split="groups", test=0.3).parts(whole(table), seed)
        out, kept = (set(part.column("group").texts()) for part in (parts.test, parts.train))
        assert not out & kept
        assert out | kept == set(table.column("group").levels)
        assert sorted(name.split("/")[0] for name in out) == ["valve1"] * 3 + ["valve2"]
    assert Protocol(split="groups").in_order(replace(whole(table), ordered=True))
    with pytest.raises(DataUnusable, match="no whole ones"):
        Protocol(split="groups").parts(whole(replace(table, group=None)), 0)


@pytest.mark.parametrize("split", ["rows", "distinct", "time"])
@pytest.mark.parametrize("calibration", [0.0, 0.3])
def test_every_row_stands_in_one_part_in_its_old_order(split: str, calibration: float) -> None:
    protocol = Protocol.model_validate({"split": split, "validation": 0.2, "calibration": calibration})
    parts = protocol.parts(whole(numbered(200, groups=3)), 5)
    found = places(parts)
    assert all(rows == sorted(rows) for rows in found.values())
    if not calibration:
        assert parts.calibration is parts.train
        del found["calibration"]
    assert sorted(row for rows in found.values() for row in rows) == list(range(200))


@pytest.mark.parametrize("seed", range(20))
def test_equal_rows_stand_on_one_side(seed: int) -> None:
    rng = np.random.default_rng(seed)
    few = rng.choice([0.0, 1.5, -2.0, float("nan")], (150, 2))
    numbers = np.concatenate([few, rng.normal(size=(40, 2))]).astype(np.float32)  # few and many distinct rows
    features = (Feature("a"), Feature("b"), Feature("c", "category"))
    table = Table(features, numbers, (Coded.of(rng.choice(list("xyz"), 190)),), label=np.zeros(190, dtype=np.int8))
    parts = Protocol(split="distinct", test=0.3, validation=0.2, calibration=0.2).parts(whole(table), seed)
    tables = [parts.train, parts.calibration, parts.validation, parts.test]
    assert sum(map(len, tables)) == 190
    sides = [set(contents(part)) for part in tables]
    assert sum(map(len, sides)) == len(set().union(*sides)) == len(set(contents(table)))


def test_rows_that_differ_in_one_number_are_told_apart() -> None:
    # 2**12 rows of bits: a weak fingerprint would let many of them fall together, and a part would be far from its share.
    bits = (np.arange(4096)[:, None] >> np.arange(12)) & 1
    parts = Protocol(split="distinct", test=0.5).parts(whole(Table.from_array(bits.astype(np.float32), np.zeros(4096))), 1)
    assert len(parts.test) == pytest.approx(2048, abs=5 * 32)
    held = {tuple(row) for row in parts.test.numbers.astype(int).tolist()}
    for bit in range(12):  # nor does any single column decide
        assert sum(row[bit] for row in held) == pytest.approx(len(held) / 2, abs=5 * 23)


def test_time_holds_out_the_last_rows_of_each_group() -> None:
    table = numbered(20)
    table = replace(table, group=Coded(np.array([0, 1] * 5 + [0] * 10, dtype=np.int32), ("long", "short")))
    found = places(Protocol(split="time", test=0.4, calibration=0.5).parts(whole(table), 0))
    # long: rows 0 2 4 6 8 10 … 19, 15 of them, the last 6 (14 … 19) to test, of the other 9 the last round(4.5) = 4 to calibration.
    # short: rows 1 3 5 7 9, the last 2 to test, of the other 3 the last round(1.5) = 2 to calibration.
    assert found["test"] == [7, 9, 14, 15, 16, 17, 18, 19]
    assert found["calibration"] == [3, 5, 10, 11, 12, 13]
    assert found["train"] == [0, 1, 2, 4, 6, 8]


def test_time_without_groups_holds_out_the_last_rows() -> None:
    table = replace(numbered(10), group=None)
    assert places(Protocol(split="time", test=0.3).parts(whole(table), 0))["test"] == [7, 8, 9]


@pytest.mark.parametrize("split", ["rows", "distinct", "time"])
def test_test_rows_of_the_authors_stay_as_they_are(split: str) -> None:
    train, test = numbered(100), numbered(30)
    parts = Protocol.model_validate({"split": split, "test": 0.9, "validation": 0.1}).parts(
        Dataset("made", {"train": train, "test": test}), 0
    )
    assert parts.test is test
    assert sorted(ids(parts.train) + ids(parts.validation)) == list(range(100))


@pytest.mark.parametrize("split", ["rows", "distinct", "time"])
@pytest.mark.parametrize("published", [False, True])
def test_poisoned_test_labels_move_nothing(split: str, published: bool) -> None:
    protocol = Protocol.model_validate({"split": split, "validation": 0.2, "calibration": 0.2})
    table, other = numbered(300, groups=4, anomalous=0.1), numbered(80, anomalous=0.2)
    clean = Dataset("made", {"train": table, "test": other}) if published else whole(table)
    parts = protocol.parts(clean, 3)
    held = other if published else table
    assert held.label is not None
    poison = held.label.copy()
    poison[ids(parts.test)] = 1 - poison[ids(parts.test)]
    poisoned = Dataset("made", {**clean.tables, "test" if published else "all": replace(held, label=poison)})
    again = protocol.parts(poisoned, 3)
    assert places(again) == places(parts)
    for name in ("train", "calibration", "validation"):
        before, after = getattr(parts, name), getattr(again, name)
        assert before.label.tolist() == after.label.tolist()
        assert np.array_equal(before.numbers, after.numbers)
    assert parts.test.label is not None
    assert again.test.label is not None
    assert (parts.test.label != again.test.label).all()


@pytest.mark.parametrize("split", ["rows", "distinct"])
def test_a_seed_is_a_split(split: str) -> None:
    protocol = Protocol.model_validate({"split": split, "validation": 0.2, "calibration": 0.2})
    table = whole(numbered(300))
    assert places(protocol.parts(table, 1)) == places(protocol.parts(table, 1))
    assert len({tuple(places(protocol.parts(table, seed))["test"]) for seed in range(5)}) == 5


@pytest.mark.parametrize("split", ["rows", "distinct"])
def test_what_is_set_aside_for_calibration_does_not_move_the_test_rows(split: str) -> None:
    table = whole(numbered(300))
    tested = {tuple(places(Protocol.model_validate({"split": split, "calibration": c}).parts(table, 1))["test"]) for c in (0.0, 0.1, 0.5)}
    assert len(tested) == 1


def test_test_rows_without_labels_and_training_rows_without_normal_ones_are_refused() -> None:
    with pytest.raises(DataUnusable, match="the test rows of 'made up' have no labels"):
        Protocol().parts(whole(replace(numbered(10), label=None)), 0)
    with pytest.raises(DataUnusable, match="no normal training rows left"):
        Protocol().parts(whole(replace(numbered(10), label=np.ones(10, dtype=np.int8))), 0)


@pytest.mark.parametrize("given", [{"test": 0}, {"test": 1}, {"validation": -0.1}, {"calibration": 0.9}, {"split": "stratified"}])
def test_impossible_shares_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Protocol.model_validate(given)


def test_each_group_is_left_out_in_turn() -> None:
    folds = Protocol(leave_out="group", calibration=0.2).folds(whole(numbered(90, groups=3)), 4)
    assert list(folds) == ["g0", "g1", "g2"]
    tested = []
    for name, parts_of in folds.items():
        parts = parts_of()
        assert set(parts.test.column("group").texts()) == {name}
        assert name not in {*parts.train.column("group").texts(), *parts.calibration.column("group").texts()}
        assert len(parts.train) + len(parts.calibration) + len(parts.test) == 90
        tested += ids(parts.test)
    assert sorted(tested) == list(range(90))


def test_a_group_is_left_out_of_the_authors_training_rows_too() -> None:
    train, test = numbered(60, groups=3), numbered(30, groups=3)
    parts = Protocol(leave_out="group").folds(Dataset("made", {"train": train, "test": test}), 0)["g1"]()
    assert set(parts.train.column("group").texts()) == {"g0", "g2"}
    assert set(parts.test.column("group").texts()) == {"g1"}
    assert (len(parts.train), len(parts.test)) == (40, 10)


def test_stretches_of_time_cut_no_anomaly_in_two() -> None:
    table = numbered(100, groups=2)
    label = np.zeros(100, dtype=np.int8)
    label[[23, 24, 25, 26, 27]] = 1  # in the first group's 50 rows the second border of four would be row 25
    table = replace(table, label=label)
    folds = Protocol(leave_out="time", blocks=4).folds(whole(table), 0)
    tested = [ids(parts_of().test) for parts_of in folds.values()]
    assert sorted(row for rows in tested for row in rows) == list(range(100))
    assert [row for row in tested[1] if row < 50] == list(range(12, 28))
    assert [row for row in tested[2] if row < 50] == list(range(28, 38))
    assert [row for row in tested[1] if row >= 50] == list(range(62, 75))
    for rows, parts_of in zip(tested, folds.values(), strict=True):
        parts = parts_of()
        assert not set(rows) & set(ids(parts.train))
        assert parts.train.place is not None  # windows must not span the stretch left out


def test_what_cannot_be_left_out_is_said() -> None:
    with pytest.raises(DataUnusable, match="know no devices or groups"):
        Protocol(leave_out="group").folds(whole(replace(numbered(10), group=None)), 0)
    with pytest.raises(DataUnusable, match="one group alone"):
        Protocol(leave_out="group").folds(whole(numbered(10)), 0)
    with pytest.raises(DataUnusable, match="too few rows, or too long an anomaly"):
        Protocol(leave_out="time", blocks=5).folds(whole(numbered(4)), 0)
    with pytest.raises(DataUnusable, match="too long an anomaly"):
        Protocol(leave_out="time", blocks=3).folds(whole(replace(numbered(30), label=np.ones(30, dtype=np.int8))), 0)


def test_the_first_rows_of_each_group_are_trained_on_as_normal_ones() -> None:
    codes = np.array([0] * 30 + [1] * 10 + [0] * 5 + [2] * 20, dtype=np.int32)
    label = (np.arange(65) % 4 == 0).astype(np.int8)
    table = Table((Feature("n"),), np.arange(65.0)[:, None], label=label, kind=Coded.of(["x"] * 65), group=Coded(codes, ("a", "b", "c")))
    table = replace(table, change=label)
    parts = Protocol(first=12, calibration=0.25, split="time").parts(Dataset("it", {"all": table}, ordered=True), seed=0)
    numbers = {name: getattr(parts, name).numbers[:, 0].tolist() for name in ("train", "calibration", "test")}
    assert numbers["train"] == [*range(9), *range(30, 38), *range(45, 54)]
    assert numbers["calibration"] == [9, 10, 11, 38, 39, 54, 55, 56]
    assert numbers["test"] == [*range(12, 30), *range(40, 45), *range(57, 65)]
    assert parts.train.label is not None
    assert not parts.train.label.any()
    assert parts.train.change is parts.train.kind is None
    np.testing.assert_array_equal(parts.test.change, parts.test.label)
    np.testing.assert_array_equal(parts.test.label, label[np.array(numbers["test"], dtype=int)])
    with pytest.raises(DataUnusable, match="nothing to test on"):
        Protocol(first=40).parts(Dataset("it", {"all": table}, ordered=True), seed=0)
