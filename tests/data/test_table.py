"""Tables: rows, columns and stacks keep every value with its row."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vedette.data.table import Coded, Feature, Table, concat
from vedette.errors import DataUnusable, UnknownName

FEATURES = (Feature("flow", unit="l/s"), Feature("state", "category"), Feature("heat"), Feature("port", "category"))


def small() -> Table:
    return Table(
        FEATURES,
        np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, np.nan]]),
        (Coded.of(["on", "off", "on", "idle"]), Coded.of(["80", "22", "80", "443"])),
        label=np.array([0, 1, 0, 1], dtype=np.int8),
        kind=Coded.of(["normal", "leak", "normal", "spike"]),
        change=np.array([0, 1, 0, 1], dtype=np.int8),
        group=Coded.of(["a", "a", "b", "b"]),
        time=np.array([0.0, 1.0, 0.0, 1.0]),
    )


def rows_of(table: Table) -> list[tuple[object, ...]]:
    """The table as plain rows; what is not known is left out."""
    columns = [table.numbers.tolist(), *(column.texts() for column in table.categories)]
    columns += [column.tolist() for column in (table.label, table.change, table.time) if column is not None]
    columns += [column.texts() for column in (table.kind, table.group) if column is not None]
    return [tuple(map(str, row)) for row in zip(*columns, strict=True)]


texts = st.lists(st.sampled_from(["", "a", "b", "ö", "a b"]) | st.text(max_size=3).filter(lambda text: "\x00" not in text), max_size=6)


@given(texts)
def test_coding_loses_no_text(column: list[str]) -> None:
    coded = Coded.of(column)
    assert coded.texts() == column
    assert list(coded.levels) == sorted(set(column))
    assert coded.codes.dtype == np.int32


@given(st.lists(texts, min_size=1, max_size=4))
def test_stacked_columns_hold_the_same_texts(columns: list[list[str]]) -> None:
    stacked = Coded.concat([Coded.of(column) for column in columns])
    assert stacked.texts() == [text for column in columns for text in column]
    assert list(stacked.levels) == sorted({text for column in columns for text in column})
    assert stacked.codes.dtype == np.int32


def test_places_among_known_texts() -> None:
    column = Coded.of(["b", "a", "x", "b"])
    assert column.places(["a", "b"]).tolist() == [1, 0, 2, 1]
    assert column.places(["b", "a"]).tolist() == [0, 1, 2, 0]
    assert column.places([]).tolist() == [0, 0, 0, 0]
    assert Coded.of([]).places(["a"]).tolist() == []


@pytest.mark.parametrize(
    ("rows", "numbers"),
    [(np.array([2, 0, 2]), [2, 0, 2]), (np.array([True, False, False, True]), [0, 3]), (slice(1, 3), [1, 2]), (slice(0, 0), [])],
)
def test_taken_rows_keep_all_their_columns(rows: np.ndarray | slice, numbers: list[int]) -> None:
    table = small()
    every = rows_of(table)
    taken = table.take(rows)
    assert rows_of(taken) == [every[number] for number in numbers]
    assert taken.features == FEATURES


def test_what_is_not_known_stays_so() -> None:
    taken = Table.from_array(np.zeros((3, 1))).take(slice(1, None))
    assert (taken.label, taken.kind, taken.change, taken.group, taken.time) == (None,) * 5


def test_selected_features_stand_in_the_order_asked_for() -> None:
    table = small().select(["port", "heat", "flow"])
    assert [feature.name for feature in table.features] == ["port", "heat", "flow"]
    np.testing.assert_array_equal(table.numbers, [[10, 1], [20, 2], [30, 3], [np.nan, 4]])
    assert [column.texts() for column in table.categories] == [["80", "22", "80", "443"]]
    assert table.column("kind").texts() == ["normal", "leak", "normal", "spike"]
    assert small().select(["state"]).numbers.shape == (4, 0)
    with pytest.raises(UnknownName, match="unknown feature 'heet'; did you mean 'heat'"):
        small().select(["flow", "heet"])


def test_columns_by_name() -> None:
    table = small()
    assert table.column("state").texts() == ["on", "off", "on", "idle"]
    assert table.column("group").texts() == ["a", "a", "b", "b"]
    with pytest.raises(UnknownName, match="no category column 'flow'"):
        table.column("flow")
    with pytest.raises(UnknownName, match="did you mean 'state'"):
        table.column("stat")
    with pytest.raises(UnknownName, match="kind"):
        Table.from_array(np.zeros((2, 1))).column("kind")


def test_normal_rows() -> None:
    assert small().normal().numbers[:, 0].tolist() == [1, 3]
    unlabelled = Table.from_array(np.zeros((2, 1)))
    assert unlabelled.normal() is unlabelled


@pytest.mark.parametrize("size", [1, 3, 4, 5])
def test_chunks_are_the_rows_in_order(size: int) -> None:
    chunks = list(small().chunks(size))
    assert [len(chunk) for chunk in chunks] == {1: [1] * 4, 3: [3, 1], 4: [4], 5: [4]}[size]
    assert [row for chunk in chunks for row in rows_of(chunk)] == rows_of(small())


def test_stacked_tables_hold_the_rows_of_all() -> None:
    table = small()
    parts = [table.take(slice(0, 1)), table.take(slice(0, 0)), table.take(slice(1, 4))]
    assert rows_of(concat(parts)) == rows_of(table)
    assert concat([table]) is table


def test_stacking_merges_levels_that_differ() -> None:
    def one(state: list[str], group: str) -> Table:
        rows = len(state)
        return Table((Feature("state", "category"),), np.zeros((rows, 0)), (Coded.of(state),), group=Coded.of([group] * rows))

    stacked = concat([one(["off", "zzz"], "b"), one(["on", "off"], "a"), one([], "none"), one(["idle"], "b")])
    assert stacked.column("state").texts() == ["off", "zzz", "on", "off", "idle"]
    assert stacked.column("state").levels == ("idle", "off", "on", "zzz")
    assert stacked.column("group").texts() == ["b", "b", "a", "a", "b"]


def test_a_column_that_one_table_lacks_is_not_known_of_the_stack() -> None:
    labelled, unlabelled = Table.from_array(np.zeros((2, 1)), np.array([0, 1])), Table.from_array(np.ones((1, 1)))
    assert concat([labelled, unlabelled]).label is None
    label = concat([labelled, labelled]).label
    assert label is not None
    assert label.tolist() == [0, 1, 0, 1]


def test_what_cannot_be_stacked() -> None:
    with pytest.raises(DataUnusable, match="no table"):
        concat([])
    with pytest.raises(DataUnusable, match="different features"):
        concat([Table.from_array(np.zeros((1, 1)), names=["a"]), Table.from_array(np.zeros((1, 1)), names=["b"])])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"numbers": np.zeros((4, 3))}, r"2 number features cannot hold an array of shape \(4, 3\)"),
        ({"numbers": np.zeros(4)}, r"shape \(4,\)"),
        ({"categories": (Coded.of("abcd"),)}, "2 category features, but 1 columns"),
        ({"categories": (Coded.of("abcd"), Coded.of("abc"))}, "'port' has 3 rows where the numbers have 4"),
        ({"label": np.zeros(5)}, "'label' has 5 rows where the numbers have 4"),
        ({"change": np.zeros(3)}, "'change' has 3 rows where the numbers have 4"),
        ({"kind": Coded.of("ab")}, "'kind' has 2 rows"),
        ({"group": Coded.of("")}, "'group' has 0 rows"),
        ({"time": np.zeros(1)}, "'time' has 1 rows"),
    ],
)
def test_columns_of_wrong_length_are_refused(wrong: dict, said: str) -> None:
    table = small()
    values = {name: getattr(table, name) for name in ("features", "numbers", "categories", "label", "kind", "change", "group", "time")}
    with pytest.raises(DataUnusable, match=said):
        Table(**(values | wrong))


@settings(max_examples=30)
@given(st.integers(0, 5), st.integers(1, 4))
def test_arrays_become_tables(rows: int, columns: int) -> None:
    x = np.arange(rows * columns, dtype=np.float32).reshape(rows, columns)
    table = Table.from_array(x, np.arange(rows) % 2 == 1)
    assert [feature.name for feature in table.features] == [f"x{i}" for i in range(columns)]
    assert table.numbers is x
    assert table.label is not None
    assert table.label.tolist() == [i % 2 for i in range(rows)]


def test_arrays_of_another_shape_are_refused() -> None:
    with pytest.raises(DataUnusable, match=r"got shape \(3,\)"):
        Table.from_array(np.zeros(3))
